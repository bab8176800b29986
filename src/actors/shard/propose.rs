//! The part of the shard actor that proposes batches.

use std::time::Duration;

use ractor::{ActorProcessingErr, ActorRef};

use crate::actors::batch::{Batch, BatchedCommand, TAG_BYTES, Verdict, answer, decode_verdict};
use crate::actors::replica::port::ProposeError;
use crate::actors::shard::{CommandEnvelope, InFlight, ShardMessage, State};
use crate::actors::state_machine::StateMachine;
use crate::config::BATCH_COMMANDS_MAX;
use crate::ids::Stamp;
use crate::seams::time::Instant;
use crate::seams::{tasks, time};
use crate::store::shard_state::ShardState;

/// Pause before a batch is proposed that could not be: the replica did not take it, or too much is
/// unwritten.
const PROPOSE_PAUSE: Duration = Duration::from_millis(10);
/// While writes are rare among reads, a batch is proposed at the earliest so long after the one
/// before. A batch costs as much as a dozen commands; without the pause nearly every write among
/// many reads is a batch of its own, and half of the processor's time goes into batches. Writers
/// whom few readers accompany do not wait so, alone or with many others (ADR 0016).
pub(crate) const RARE_WRITES_PAUSE: Duration = Duration::from_millis(20);
/// Writes are rare while at least so many queries come with each.
pub(crate) const RARE_WRITES_QUERIES: usize = 8;
/// So many commands are worth a batch at once.
pub(crate) const FULL_ENOUGH_COMMANDS: usize = 64;
/// After so long no further turn begins in which a batch waits for commands that come, on a processor that others
/// want. Where creates fill a core while checkpoints are written, batches then hold all that 64 writers send instead of
/// most of it (with 20 ms no more than with ten; measured when turns that bring nothing had no bound).
pub(crate) const GATHER_MAX: Duration = Duration::from_millis(10);
/// A turn that takes longer was for others who want the processor, so commands may be among what they do next. On an
/// idle processor it takes no longer than to look for what is ready; 15 microseconds made no difference.
pub(crate) const BUSY_TURN: Duration = Duration::from_micros(30);
/// So many such turns in a row may bring nothing. Who has just been answered needs a few until his next command is
/// here (the answer is sent, he asks, his request is read, its shard is told); after more nobody is coming, or every
/// turn takes so long here, on a slow machine or where many shards wait like this at once.
pub(crate) const EMPTY_TURNS_MAX: u32 = 8;

/// A batch that is about to be proposed, while everybody else has a turn.
pub(crate) struct Gathering {
    /// When the first turn began.
    since: Instant,
    /// When this one began.
    turn: Instant,
    /// Commands that waited then.
    seen: usize,
    /// Turns in a row before it that brought none.
    empty: u32,
    /// How many of these may be.
    empty_max: u32,
}

impl<S: StateMachine> State<S> {
    /// Proposing is put behind what already waits, in the mailbox and for the processor, so that a batch takes
    /// all that has arrived (S4) instead of the first command alone. Rare ones wait a moment for others.
    pub(super) fn queue_flush(&mut self, myself: &ActorRef<ShardMessage<S>>) {
        if self.in_flight.is_some() || self.flush_queued || self.pending.is_empty() {
            return;
        }
        let waiting = self.pending.len();
        let read = self.queries + (self.cell.metrics.times_spared() - self.spared);
        let are_rare = waiting < FULL_ENOUGH_COMMANDS && read >= RARE_WRITES_QUERIES * waiting;
        let pause = if are_rare { RARE_WRITES_PAUSE } else { Duration::ZERO };
        let pause = pause.saturating_sub(self.last_proposed.elapsed());
        if !pause.is_zero() {
            if self.flush_timer.is_none() {
                self.flush_after(myself, pause);
            }
        } else if self.is_full_enough() {
            self.flush_queued = myself.cast(ShardMessage::Flush(None)).is_ok();
        } else {
            // Rare ones that come when the pause is over anyhow: only what comes makes them wait.
            let empty_max = if are_rare { 0 } else { EMPTY_TURNS_MAX };
            let (since, seen) = (time::now(), waiting);
            let first = Gathering { since, turn: since, seen, empty: 0, empty_max };
            self.flush_soon(myself, first);
        }
    }

    /// Whether what waits is worth a batch at once, or all that fits into one.
    fn is_full_enough(&self) -> bool {
        let bytes = || self.pending.iter().map(|envelope| envelope.payload.len()).sum::<usize>();
        self.pending.len() >= FULL_ENOUGH_COMMANDS || bytes() >= S::BATCH_BYTES_MAX
    }

    /// When everybody else had a turn who is ready to run.
    fn flush_soon(&mut self, myself: &ActorRef<ShardMessage<S>>, gathering: Gathering) {
        self.stop_flush_timer();
        self.flush_queued = true;
        let actor = myself.clone();
        let round = tasks::spawn(async move {
            tokio::task::yield_now().await;
            let _ = actor.cast(ShardMessage::Flush(Some(gathering)));
        });
        self.tasks.keep(round.abort_handle());
    }

    /// The turn after that one, if that one has brought commands, or others wanted it, so that another one may bring
    /// some: not on a processor that has nothing else to do.
    fn next_turn(&self, last: &Gathering) -> Option<Gathering> {
        let (seen, turn) = (self.pending.len(), time::now());
        let empty = match seen > last.seen {
            true => 0,
            false if turn.duration_since(last.turn) > BUSY_TURN => last.empty + 1,
            false => return None,
        };
        let may_wait = empty <= last.empty_max && turn.duration_since(last.since) < GATHER_MAX;
        let next = Gathering { turn, seen, empty, ..*last };
        (may_wait && !self.is_full_enough()).then_some(next)
    }

    fn stop_flush_timer(&mut self) {
        if let Some(timer) = self.flush_timer.take() {
            timer.abort();
        }
    }

    fn flush_after(&mut self, myself: &ActorRef<ShardMessage<S>>, pause: Duration) {
        self.stop_flush_timer();
        let timer = myself.send_after(pause, || ShardMessage::Flush(None)).abort_handle();
        self.tasks.keep(timer.clone());
        self.flush_timer = Some(timer);
    }

    pub(super) fn flush(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        gathering: Option<Gathering>,
    ) -> Result<(), ActorProcessingErr> {
        self.flush_queued = false;
        self.stop_flush_timer();
        if self.in_flight.is_some() || self.pending.is_empty() {
            return Ok(());
        }
        let Some(replica) = self.replica.clone().filter(|_| self.has_caught_up) else {
            return Ok(());
        };
        if self.last_proposed.elapsed() < self.cell.pause() {
            // Checkpoints have fallen behind, or fail: memory must have a bound. Writers wait, and
            // are refused when more wait than may.
            self.flush_later(myself);
            return Ok(());
        }
        if let Some(gathering) = gathering.and_then(|last| self.next_turn(&last)) {
            self.flush_soon(myself, gathering);
            return Ok(());
        }
        let (commands, batch) = {
            let cell = self.cell.clone();
            let guard = cell.store.owned(self.generation)?;
            self.gather(&guard)
        };
        if commands.is_empty() {
            // A tick that came too late is none.
            self.schedule_wake(myself);
            return Ok(());
        }
        self.batches += 1;
        let number = self.batches;
        let tag: [u8; TAG_BYTES] = self.cell.random.any();
        let bytes = batch.to_entry(tag);
        self.cell.metrics.batch(commands.len(), bytes.len());
        self.in_flight = Some(InFlight { number, tag, commands, proposed: time::mark() });
        self.last_proposed = time::now();
        self.queries = 0;
        self.spared = self.cell.metrics.times_spared();
        let myself = myself.clone();
        replica.propose(
            bytes,
            Box::new(move |error| {
                let _ = myself.cast(ShardMessage::ProposeFailed(number, error));
            }),
        );
        Ok(())
    }

    /// Takes the next batch from what waits: answers at once what is known or too late, stamps the
    /// rest (S5).
    fn gather(&mut self, shard: &ShardState) -> (Vec<CommandEnvelope<S>>, Batch) {
        let now = self.cell.now();
        let mut stamp = now.max(Stamp(shard.progress.last_stamp.0 + 1));
        let mut envelopes = Vec::new();
        let mut batch = Batch { commands: Vec::new() };
        let mut bytes = 0;
        while let Some(next) = self.pending.front() {
            let full = batch.commands.len() >= BATCH_COMMANDS_MAX
                || (bytes > 0 && bytes + next.payload.len() > S::BATCH_BYTES_MAX);
            if full {
                break;
            }
            let mut envelope = self.pending.pop_front().expect("there is a front");
            if let Some(outcome) = shard.remembered.get(&envelope.id) {
                let verdict = decode_verdict::<S>(outcome);
                answer::<S>(envelope.reply.take(), verdict);
                continue;
            }
            if now > envelope.deadline {
                self.cell.metrics.expired();
                answer::<S>(envelope.reply.take(), Ok(Verdict::Expired));
                continue;
            }
            bytes += envelope.payload.len();
            batch.commands.push(BatchedCommand {
                id: envelope.id,
                stamp,
                deadline: envelope.deadline,
                payload: envelope.payload.clone(),
            });
            stamp = Stamp(stamp.0 + 1);
            envelopes.push(envelope);
        }
        (envelopes, batch)
    }

    /// Puts the batch back: it is proposed again under the same command ids, so even if it was
    /// committed after all, its effects happen once.
    pub(super) fn propose_failed(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        number: u64,
        error: &ProposeError,
    ) {
        let Some(batch) = self.in_flight.take_if(|batch| batch.number == number) else { return };
        tracing::debug!(shard = %self.cell.id, %error, "a batch waits for the replica");
        self.put_back(batch);
        // A replica that stopped says so later; one that only refused is asked again.
        self.flush_later(myself);
    }

    pub(super) fn put_back(&mut self, batch: InFlight<S>) {
        for envelope in batch.commands.into_iter().rev() {
            self.pending.push_front(envelope);
        }
    }

    fn flush_later(&mut self, myself: &ActorRef<ShardMessage<S>>) {
        self.flush_queued = true;
        self.flush_after(myself, PROPOSE_PAUSE);
    }
}
