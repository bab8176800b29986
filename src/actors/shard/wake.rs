//! The part of the shard actor that wakes a service at the time it asked for.

use std::time::Duration;

use ractor::{ActorProcessingErr, ActorRef};

use crate::actors::shard::{CommandEnvelope, ShardMessage, State};
use crate::actors::state_machine::StateMachine;
use crate::store::codec;

impl<S: StateMachine> State<S> {
    pub(super) fn schedule_wake(&mut self, myself: &ActorRef<ShardMessage<S>>) {
        let next = self.service.next_wake();
        if next == self.wake_at {
            return;
        }
        self.wake_at = next;
        let timer = next.map(|at| {
            let micros = at.0.saturating_sub(self.cell.clock.now().0);
            let timer = myself.send_after(Duration::from_micros(micros), || ShardMessage::Wake);
            self.tasks.keep(timer.abort_handle());
            timer.abort_handle()
        });
        // Or every change of the time would leave one behind.
        if let Some(earlier) = std::mem::replace(&mut self.wake_timer, timer) {
            earlier.abort();
        }
    }

    pub(super) fn wake(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
    ) -> Result<(), ActorProcessingErr> {
        self.wake_at = None;
        let now = self.cell.now();
        let due = self.service.next_wake().is_some_and(|at| at <= now);
        if due && self.is_ticking() {
            // What becomes of that one decides about the next.
            return Ok(());
        }
        let command = due.then(|| self.service.tick()).flatten();
        if let Some(command) = command {
            let payload = codec::encode(&command).into();
            let envelope = CommandEnvelope::of_service(&self.cell, payload);
            self.tick = Some(envelope.id);
            self.pending.push_back(envelope);
            self.queue_flush(myself);
        } else {
            self.schedule_wake(myself);
        }
        Ok(())
    }

    /// Whether a tick is on its way.
    fn is_ticking(&self) -> bool {
        let in_flight = self.in_flight.iter().flat_map(|batch| &batch.commands);
        self.tick.is_some_and(|tick| self.pending.iter().chain(in_flight).any(|one| one.id == tick))
    }
}
