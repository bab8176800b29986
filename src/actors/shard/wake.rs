//! The part of the shard actor that wakes a service at the time it asked for.

use std::time::Duration;

use ractor::{ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;

use crate::actors::batch::Verdict;
use crate::actors::shard::{CommandEnvelope, ShardMessage, State};
use crate::actors::state_machine::StateMachine;
use crate::ids::{CommandId, Stamp};
use crate::store::codec;

/// After a tick that changed nothing the next one waits so long: the service wants the same again.
const FRUITLESS_MS: u64 = 1_000;

/// When the service is woken.
#[derive(Debug, Default)]
pub(super) struct Wake {
    at: Option<Stamp>,
    timer: Option<AbortHandle>,
    /// The last tick that was proposed, or is to be.
    tick: Option<CommandId>,
    not_before: Stamp,
}

impl<S: StateMachine> State<S> {
    pub(super) fn schedule_wake(&mut self, myself: &ActorRef<ShardMessage<S>>) {
        let next = self.service.next_wake().map(|at| at.max(self.wake.not_before));
        if next == self.wake.at {
            return;
        }
        self.wake.at = next;
        let timer = next.map(|at| {
            let micros = at.0.saturating_sub(self.cell.now().0);
            let timer = myself.send_after(Duration::from_micros(micros), || ShardMessage::Wake);
            self.tasks.keep(timer.abort_handle());
            timer.abort_handle()
        });
        // Or every change of the time would leave one behind.
        if let Some(earlier) = std::mem::replace(&mut self.wake.timer, timer) {
            earlier.abort();
        }
    }

    pub(super) fn wake(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
    ) -> Result<(), ActorProcessingErr> {
        self.wake.at = None;
        let now = self.cell.now();
        let due = self.service.next_wake().is_some_and(|at| at <= now);
        if due && self.is_ticking() {
            // What becomes of that one decides about the next.
            return Ok(());
        }
        if let Some(command) = due.then(|| self.service.tick()).flatten() {
            let payload = codec::encode(&command).into();
            let envelope = CommandEnvelope::of_service(&self.cell, payload);
            self.wake.tick = Some(envelope.id);
            self.pending.push_back(envelope);
            self.queue_flush(myself);
            return Ok(());
        }
        if due {
            self.tick_later();
        }
        self.schedule_wake(myself);
        Ok(())
    }

    /// Notes what became of a command, in case it is the tick: one that is poison, or refused, would
    /// come again at once, for ever.
    pub(super) fn note_tick(&mut self, command: CommandId, verdict: &Verdict<S>) {
        if self.wake.tick == Some(command) && !matches!(verdict, Verdict::Replied(_)) {
            self.tick_later();
        }
    }

    fn tick_later(&mut self) {
        self.wake.not_before = self.cell.now().plus_ms(FRUITLESS_MS);
    }

    /// Whether a tick is on its way.
    fn is_ticking(&self) -> bool {
        let in_flight = self.in_flight.iter().flat_map(|batch| &batch.commands);
        self.wake
            .tick
            .is_some_and(|tick| self.pending.iter().chain(in_flight).any(|one| one.id == tick))
    }
}
