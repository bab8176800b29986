//! The part of the shard actor that applies committed entries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use ractor::ActorProcessingErr;

use crate::actors::batch::{
    Batch, BatchedCommand, Verdict, answer, chain, decode_verdict, encode_verdict,
};
use crate::actors::relay::message::{Ingest, Keyed, OutboxCommand};
use crate::actors::replica::port::{CommittedEntry, Replica};
use crate::actors::shard::kept::{Halt, Place};
use crate::actors::shard::{APPLY_ATTEMPTS, CATCH_UP_BYTES, InFlight, State};
use crate::actors::state_machine::{Kept, StateMachine, Stop, Tables};
use crate::ids::{LogIndex, Stamp};
use crate::seams::time;
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;
use crate::store::shard_state::ShardState;

impl<S: StateMachine> State<S> {
    /// Applies all that is known to be committed, if there is a replica that knows. From then on this
    /// actor speaks for the shard, as far as it knows (S7).
    pub(super) fn recover(&mut self) -> Result<bool, ActorProcessingErr> {
        let Some(replica) = self.replica.clone() else { return Ok(false) };
        if !self.catch_up(LogIndex(u64::MAX))? {
            return Ok(false);
        }
        // If it has ended meanwhile, that was another log, which may know less; its successor is told
        // of.
        let is_current = |current: Arc<dyn Replica>| Arc::ptr_eq(&current, &replica);
        if !self.cell.current_replica().is_some_and(is_current) {
            return Ok(false);
        }
        self.has_caught_up = true;
        self.cell.set_recovered();
        self.service.lead();
        Ok(true)
    }

    /// Pulls committed entries before `next` that this actor lacks (its predecessor may have died
    /// between commit and apply, or a service has lost its memory). Whether it could: a log that was
    /// closed, or fails, has a successor soon, and is no fault of this actor.
    pub(super) fn catch_up(&mut self, next: LogIndex) -> Result<bool, ActorProcessingErr> {
        loop {
            let applied = self.cell.store.applied().index;
            if applied.next() >= next {
                return Ok(true);
            }
            let Some(log) = self.cell.current_log() else { return Ok(false) };
            let entries = match log.committed_after(applied, CATCH_UP_BYTES) {
                Ok(entries) => entries,
                Err(error) if error.is_lasting() => return Err(self.cell.named(error).into()),
                Err(error) => {
                    tracing::warn!(shard = %self.cell.id, %error, "the log cannot be read now");
                    return Ok(false);
                }
            };
            if entries.is_empty() {
                return Ok(true);
            }
            for entry in &entries {
                self.heartbeat.goes_on();
                if !self.apply_entry(entry)? {
                    break;
                }
            }
        }
    }

    /// Applies one entry: all its commands, in order, then the replies (S1, S2). Whether it did: if
    /// not, the state is an older one now, and what is missing must be applied first.
    pub(super) fn apply_entry(
        &mut self,
        entry: &CommittedEntry,
    ) -> Result<bool, ActorProcessingErr> {
        let started = time::mark();
        let cell = self.cell.clone();
        let mut guard = cell.store.owned(self.generation)?;
        let applied = guard.progress.applied.index;
        if entry.index <= applied {
            return Ok(true);
        }
        if entry.index != applied.next() {
            return Err(format!("entry {} does not follow {}", entry.index.0, applied.0).into());
        }
        let verdicts = match self.apply_batch(&mut guard, entry) {
            Ok(verdicts) => verdicts,
            Err(Halt::Store(error)) => return Err(cell.named(error).into()),
            Err(Halt::Unwound) => {
                drop(guard);
                self.load_afresh()?;
                return Ok(false);
            }
        };
        guard.progress.applied.index = entry.index;
        guard.progress.applied.position = entry.position.clone();
        let (stamp, unwritten) = (guard.progress.last_stamp, guard.unwritten_bytes());
        // Under the lock, as a checkpoint tells what it leaves: what is told last is true.
        cell.applied_to(entry.index, stamp, unwritten);
        drop(guard);
        self.shorten_replays();
        self.outgoing.tell(&cell.outbox, &cell.outgoing);
        if let Some(batch) = entry.batch.as_ref().and_then(|bytes| self.recognise(bytes)) {
            cell.metrics.committed(batch.proposed);
            for (envelope, verdict) in batch.commands.into_iter().zip(verdicts) {
                let _span = envelope.span.enter();
                tracing::debug!(shard = %cell.id, log_index = entry.index.0, "committed");
                self.note_tick(envelope.id, &verdict);
                answer::<S>(envelope.reply, Ok(verdict));
            }
        }
        cell.metrics.handled("apply", started);
        Ok(true)
    }

    fn apply_batch(
        &mut self,
        shard: &mut ShardState,
        entry: &CommittedEntry,
    ) -> Result<Vec<Verdict<S>>, Halt> {
        let Some(bytes) = &entry.batch else { return Ok(Vec::new()) };
        let batch = Batch::of_entry(bytes)?;
        let mut verdicts = Vec::with_capacity(batch.commands.len());
        for (number, command) in batch.commands.into_iter().enumerate() {
            let place = Place { index: entry.index, number: number as u32, part: None };
            verdicts.push(self.apply_command(shard, place, command)?);
        }
        Ok(verdicts)
    }

    /// The batch of this actor that the entry holds, if it is that.
    fn recognise(&mut self, bytes: &Bytes) -> Option<InFlight<S>> {
        self.in_flight.take_if(|batch| bytes.starts_with(&batch.tag))
    }

    fn apply_command(
        &mut self,
        shard: &mut ShardState,
        place: Place,
        command: BatchedCommand,
    ) -> Result<Verdict<S>, Halt> {
        match command.payload.first() {
            Some(&Ingest::KIND) => return self.apply_ingest(shard, place, command),
            Some(&OutboxCommand::KIND) => return self.apply_outbox(shard, &command.payload),
            Some(&Keyed::KIND) => return self.apply_keyed(shard, place, command),
            Some(_) | None => {}
        }
        if let Some(outcome) = shard.remembered.get(&command.id) {
            return Ok(decode_verdict::<S>(outcome)?);
        }
        let stamp = next_stamp(shard, command.stamp);
        let verdict = if stamp > command.deadline {
            self.cell.metrics.expired();
            Verdict::Expired
        } else {
            self.attempt(shard, place, stamp, &command.payload, |_, _| Ok(()))?
        };
        let outcome = self.conclude(shard, place, &verdict, || command.payload);
        shard.remembered.insert(stamp, command.id, command.deadline, &outcome);
        if matches!(verdict, Verdict::Replied(_)) {
            // Last, for it is the service's code: should it panic, the command is remembered.
            self.tell_committed(place)?;
        }
        Ok(verdict)
    }

    /// Runs `apply`, containing a panic (S6). This is the one place that catches panics of a
    /// service: the alternative, letting the actor die, would take the batch's neighbours along
    /// and need a second record of who was being applied (ADR 0003). `mark` stages what else is
    /// merged with the command, if it is.
    pub(super) fn attempt(
        &mut self,
        shard: &mut ShardState,
        place: Place,
        stamp: Stamp,
        payload: &Bytes,
        mark: impl FnOnce(&mut Tables<'_>, &S::Reply) -> Result<(), StoreError>,
    ) -> Result<Verdict<S>, Halt> {
        shard.count_replay(payload.len());
        if self.memory.is_poison(place) {
            return Ok(Verdict::Poison);
        }
        for _ in 0..APPLY_ATTEMPTS {
            let Ok(command) = codec::decode::<S::Command>(payload) else {
                // Only a damaged or foreign log holds this; every replica sees the same.
                break;
            };
            let mut staged = shard.take_staged();
            let service = &mut self.service;
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let outcome = service.apply(&mut shard.tables(&mut staged), stamp, command)?;
                Ok((outcome, service.changed()))
            }));
            match outcome {
                Ok(Ok((outcome, changed))) => {
                    self.cell.versions.moved(&changed); // A1 of answers
                    debug_assert!(S::KEPT == Kept::Tables || staged.bytes() == 0, "never a mix");
                    let mut tables = shard.tables(&mut staged);
                    mark(&mut tables, &outcome.reply)?;
                    let outbox = &mut self.outgoing.outbox;
                    let head = (!outcome.events.is_empty() && outbox.is_kept())
                        .then(|| outbox.append(&mut tables, place.index, stamp, &outcome.events));
                    shard.put_staged(staged, true);
                    head.into_iter().for_each(|head| outbox.appended(head));
                    return Ok(Verdict::Replied(outcome.reply));
                }
                Ok(Err(Stop::Refused(refusal))) => {
                    shard.put_staged(staged, false);
                    return Ok(Verdict::Refused(refusal));
                }
                Ok(Err(Stop::Store(error))) => return Err(self.cell.named(error).into()),
                Err(_) => {
                    shard.put_staged(staged, false);
                    match S::KEPT {
                        Kept::Tables => self.service = self.load(shard)?,
                        Kept::Memory => return Err(self.memory.suspect(place)),
                    }
                }
            }
        }
        Ok(Verdict::Poison)
    }

    /// What every verdict is: a link of the chain that replicas compare, and perhaps a dead letter.
    /// Returns it encoded.
    pub(super) fn conclude(
        &self,
        shard: &mut ShardState,
        place: Place,
        verdict: &Verdict<S>,
        letter: impl FnOnce() -> Bytes,
    ) -> Bytes {
        if matches!(verdict, Verdict::Poison) {
            self.bury(shard, place, letter());
        }
        let outcome = encode_verdict::<S>(verdict);
        shard.progress.digest = chain(shard.progress.digest, &outcome);
        outcome
    }

    /// Tells the service that its rows are merged. A panic over that crashes the actor, and its
    /// successor finds them; what a memory-kept service has in memory is in doubt then as after one in
    /// `apply`, and would crash every successor that applies the command again.
    pub(super) fn tell_committed(&mut self, place: Place) -> Result<(), Halt> {
        match S::KEPT {
            Kept::Tables => self.service.committed(),
            Kept::Memory => {
                let told = catch_unwind(AssertUnwindSafe(|| self.service.committed()));
                told.map_err(|_panic| self.memory.suspect(place))?;
            }
        }
        Ok(())
    }

    /// Keeps what cannot be applied as a dead letter.
    pub(super) fn bury(&self, shard: &mut ShardState, place: Place, letter: Bytes) {
        let Place { index, number, part } = place;
        tracing::error!(
            shard = %self.cell.id, log_index = index.0, number, part,
            "a command cannot be applied; it is kept as a dead letter"
        );
        self.cell.metrics.poisoned();
        let places = [Some(number), part];
        shard.bury(index, places.into_iter().flatten(), &letter);
    }
}

/// The stamp of the next command: the one that it was given, unless time would stand still (S5).
pub(super) fn next_stamp(shard: &mut ShardState, given: Stamp) -> Stamp {
    let stamp = given.max(Stamp(shard.progress.last_stamp.0 + 1));
    shard.progress.last_stamp = stamp;
    stamp
}
