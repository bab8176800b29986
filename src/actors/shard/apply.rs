//! The part of the shard actor that applies committed entries.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use ractor::ActorProcessingErr;

use crate::actors::batch::{
    Batch, BatchedCommand, Verdict, answer, chain, decode_verdict, encode_verdict,
};
use crate::actors::relay::message::{Ingest, Keyed, OutboxCommand};
use crate::actors::replica::port::CommittedEntry;
use crate::actors::shard::{APPLY_ATTEMPTS, CATCH_UP_BYTES, InFlight, State};
use crate::actors::state_machine::{StateMachine, Stop, Tables};
use crate::ids::{LogIndex, Stamp};
use crate::seams::time;
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;
use crate::store::shard_file::ShardState;

impl<S: StateMachine> State<S> {
    /// Pulls committed entries before `next` that this actor lacks (its predecessor may have died
    /// between commit and apply).
    pub(super) fn catch_up(&mut self, next: LogIndex) -> Result<(), ActorProcessingErr> {
        loop {
            let applied = self.cell.store.applied().index;
            if applied.next() >= next {
                return Ok(());
            }
            let Some(replica) = self.replica.clone().or_else(|| self.cell.current_replica()) else {
                return Ok(());
            };
            let entries = replica.committed_after(applied, CATCH_UP_BYTES);
            let entries = entries.map_err(|error| self.cell.named(error))?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                self.apply_entry(entry)?;
            }
        }
    }

    /// Applies one entry: all its commands, in order, then the replies (S1, S2).
    pub(super) fn apply_entry(&mut self, entry: &CommittedEntry) -> Result<(), ActorProcessingErr> {
        let started = time::mark();
        let cell = self.cell.clone();
        let mut guard = cell.store.owned(self.generation)?;
        let applied = guard.progress.applied.index;
        if entry.index <= applied {
            return Ok(());
        }
        if entry.index != applied.next() {
            return Err(format!("entry {} does not follow {}", entry.index.0, applied.0).into());
        }
        let mut verdicts = Vec::new();
        let mut own = None;
        if let Some(bytes) = &entry.batch {
            own = self.recognise(bytes);
            let batch = Batch::of_entry(bytes)?;
            verdicts.reserve(batch.commands.len());
            for (number, command) in batch.commands.into_iter().enumerate() {
                verdicts.push(self.apply_command(&mut guard, entry.index, number, command)?);
            }
        }
        guard.progress.applied.index = entry.index;
        guard.progress.applied.position = entry.position.clone();
        let (stamp, unwritten) = (guard.progress.last_stamp, guard.unwritten_bytes());
        drop(guard);
        cell.applied_to(entry.index, stamp, unwritten);
        self.outgoing.tell(&cell.outbox, &cell.outgoing);
        if let Some(batch) = own {
            cell.metrics.committed(batch.proposed);
            for (envelope, verdict) in batch.commands.into_iter().zip(verdicts) {
                let _span = envelope.span.enter();
                tracing::debug!(shard = %cell.id, log_index = entry.index.0, "committed");
                answer::<S>(envelope.reply, Ok(verdict));
            }
        }
        cell.metrics.handled("apply", started);
        Ok(())
    }

    /// The batch of this actor that the entry holds, if it is that.
    fn recognise(&mut self, bytes: &Bytes) -> Option<InFlight<S>> {
        self.in_flight.take_if(|batch| bytes.starts_with(&batch.tag))
    }

    fn apply_command(
        &mut self,
        shard: &mut ShardState,
        index: LogIndex,
        number: usize,
        command: BatchedCommand,
    ) -> Result<Verdict<S>, ActorProcessingErr> {
        match command.payload.first() {
            Some(&Ingest::KIND) => return self.apply_ingest(shard, index, number, command),
            Some(&OutboxCommand::KIND) => return self.apply_outbox(shard, &command.payload),
            Some(&Keyed::KIND) => return self.apply_keyed(shard, index, number, command),
            Some(_) | None => {}
        }
        let stamp = command.stamp.max(Stamp(shard.progress.last_stamp.0 + 1));
        if let Some(outcome) = shard.remembered.get(&command.id) {
            return Ok(decode_verdict::<S>(outcome)?);
        }
        shard.progress.last_stamp = stamp;
        let verdict = if stamp > command.deadline {
            self.cell.metrics.expired();
            Verdict::Expired
        } else {
            self.attempt(shard, index, stamp, &command.payload, |_, _| Ok(()))?
        };
        if matches!(verdict, Verdict::Poison) {
            self.bury(shard, index, &[number as u32], command.payload);
        }
        let outcome = encode_verdict::<S>(&verdict);
        shard.progress.digest = chain(shard.progress.digest, &outcome);
        shard.remembered.insert(stamp, command.id, command.deadline, outcome);
        if matches!(verdict, Verdict::Replied(_)) {
            // Last, for it is the service's code: should it panic, the command is remembered.
            self.service.committed();
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
        index: LogIndex,
        stamp: Stamp,
        payload: &Bytes,
        mark: impl FnOnce(&mut Tables<'_>, &S::Reply) -> Result<(), StoreError>,
    ) -> Result<Verdict<S>, ActorProcessingErr> {
        for _ in 0..APPLY_ATTEMPTS {
            let Ok(command) = codec::decode::<S::Command>(payload) else {
                // Only a damaged or foreign log holds this; every replica sees the same.
                break;
            };
            let mut staged = shard.take_staged();
            let service = &mut self.service;
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                service.apply(&mut shard.tables(&mut staged), stamp, command)
            }));
            match outcome {
                Ok(Ok(outcome)) => {
                    let mut tables = shard.tables(&mut staged);
                    mark(&mut tables, &outcome.reply)?;
                    let outbox = &mut self.outgoing.outbox;
                    let head = (!outcome.events.is_empty() && outbox.is_kept())
                        .then(|| outbox.append(&mut tables, index, stamp, &outcome.events));
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
                    self.service = self.load(shard)?;
                }
            }
        }
        Ok(Verdict::Poison)
    }

    /// Keeps what cannot be applied as a dead letter.
    pub(super) fn bury(
        &self,
        shard: &mut ShardState,
        index: LogIndex,
        place: &[u32],
        letter: Bytes,
    ) {
        tracing::error!(
            shard = %self.cell.id, log_index = index.0, ?place,
            "a command cannot be applied; it is kept as a dead letter"
        );
        self.cell.metrics.poisoned();
        shard.bury(index, place, letter);
    }
}
