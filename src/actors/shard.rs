//! The shard actor: the one owner of a shard's state.
//!
//! **Owns** the service value, the right to write the shard's memtable, the callers that wait.
//! **Receives** commands and queries from the router, committed entries from the replica.
//! **Sends** batches to the replica, replies to callers.
//! **Started by** the shard's supervisor, before the replica.
//! **When it fails** callers' reply ports are gone and the router asks the successor; the state
//! stays with the store at the last applied entry, that of a memory-kept service at the last
//! checkpoint; what was committed since is pulled from the replica's log. Nothing acknowledged is
//! lost, nothing has its effect twice.
//!
//! **Invariants**: S1 entries are applied in order, each once: only `applied + 1` is accepted;
//! S2 a reply leaves only after its entry was merged; S3 one batch in flight; S4 order of proposals
//! is order of arrival; S5 stamps that are applied grow strictly; S6 a panic in `apply` leaves no
//! trace of its command and does not touch its neighbours; S7 no query is answered before the log
//! of an earlier process, or of a memory-kept service that was lost, was replayed: a reader sees
//! every acknowledged write.

mod apply;
mod ingest;
mod kept;
mod keyed;
mod message;
mod outbox;
mod propose;
mod wake;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;

use crate::actors::batch::TAG_BYTES;
use crate::actors::call::CallError;
use crate::actors::replica::port::{CommittedEntry, Replica};
use crate::actors::shard::kept::Memory;
pub(crate) use crate::actors::shard::message::{
    CommandEnvelope, QueryEnvelope, ReplyTo, ShardMessage,
};
use crate::actors::shard::outbox::Outgoing;
#[cfg(test)]
pub(crate) use crate::actors::shard::propose::{
    BUSY_TURN, EMPTY_TURNS_MAX, FULL_ENOUGH_COMMANDS, GATHER_MAX, RARE_WRITES_PAUSE,
    RARE_WRITES_QUERIES,
};
use crate::actors::shard_cell::ShardCell;
use crate::actors::state_machine::{Kept, StateMachine, Step, Stop};
use crate::actors::supervisor::Heartbeat;
use crate::seams::tasks::{FreedApart, Tasks};
use crate::seams::time::{self, Instant};
use crate::store::error::StoreError;
use crate::store::shard_state::ShardState;

/// Bytes of committed entries that a restarted actor pulls at a time.
const CATCH_UP_BYTES: usize = 8 * 1024 * 1024;
/// A panicking command is tried this often before it is poison: once could be a fault of what the
/// service held in memory, which is loaded afresh in between.
const APPLY_ATTEMPTS: u32 = 2;

/// All that a restart needs.
pub(crate) struct Arguments<S: StateMachine> {
    /// The shard's cell, which survives the actor.
    pub(crate) cell: Arc<ShardCell<S>>,
    /// Marked while a handler runs.
    pub(crate) heartbeat: Heartbeat,
}

/// The actor; its state is in [`State`].
pub(crate) struct ShardActor<S>(std::marker::PhantomData<fn() -> S>);

impl<S> Default for ShardActor<S> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

pub(crate) struct State<S: StateMachine> {
    cell: Arc<ShardCell<S>>,
    heartbeat: Heartbeat,
    generation: u64,
    service: FreedApart<S>,
    replica: Option<Arc<dyn Replica>>,
    pending: VecDeque<CommandEnvelope<S>>,
    /// Everything is applied that is known to be committed; until then the state may be older than what
    /// was acknowledged (S7).
    has_caught_up: bool,
    memory: Memory,
    /// Queries that came before that; bounded by the permits.
    early: Vec<QueryEnvelope<S>>,
    /// A flush is in the mailbox or on its way there, or none may come before a pause is over.
    flush_queued: bool,
    /// Sends a flush when a pause is over, unless there is one before.
    flush_timer: Option<AbortHandle>,
    /// When the last batch was proposed; at first, when the actor began.
    last_proposed: Instant,
    /// Queries that were answered since then.
    queries: usize,
    /// How many queries the shard had been spared by then: their readers count as well.
    spared: usize,
    in_flight: Option<InFlight<S>>,
    batches: u64,
    wake: wake::Wake,
    outgoing: Outgoing,
    /// Ends with the actor, so that no task outlives it.
    tasks: Tasks,
}

struct InFlight<S: StateMachine> {
    number: u64,
    /// First bytes of the entry: how it is recognised when it comes back.
    tag: [u8; TAG_BYTES],
    commands: Vec<CommandEnvelope<S>>,
    proposed: std::time::Instant,
}

impl<S: StateMachine> Actor for ShardActor<S> {
    type Msg = ShardMessage<S>;
    type State = State<S>;
    type Arguments = Arguments<S>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        Arguments { cell, heartbeat }: Arguments<S>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let generation = cell.store.claim()?;
        let service = kept::load(&cell, generation).await?;
        let outgoing = {
            let guard = cell.store.owned(generation)?;
            Outgoing::load(&guard.read(), generation).map_err(|error| cell.named(error))?
        };
        let mut tasks = Tasks::default();
        tasks.keep(cell.watch_replica(myself.clone()));
        let has_caught_up = match S::KEPT {
            Kept::Tables => cell.has_recovered(),
            Kept::Memory => {
                tasks.keep(cell.watch_checkpoints(myself.clone()));
                false
            }
        };
        let replica = cell.current_replica();
        let spared = cell.metrics.times_spared();
        let mut state = State {
            cell,
            heartbeat,
            generation,
            service,
            replica,
            pending: VecDeque::new(),
            has_caught_up,
            memory: Memory::default(),
            early: Vec::new(),
            flush_queued: false,
            flush_timer: None,
            last_proposed: time::now(),
            queries: 0,
            spared,
            in_flight: None,
            batches: 0,
            wake: wake::Wake::default(),
            outgoing,
            tasks,
        };
        if state.recover()? {
            state.declare_subscribers(&myself);
        }
        state.cell.publish(generation, myself.clone());
        state.schedule_wake(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let _busy = state.heartbeat.busy();
        match message {
            ShardMessage::Command(envelope) => state.command(&myself, envelope),
            ShardMessage::Query(envelope) => state.query(&myself, envelope)?,
            ShardMessage::Flush(gathering) => state.flush(&myself, gathering)?,
            ShardMessage::Committed(entries) => state.committed(&myself, &entries)?,
            ShardMessage::ProposeFailed(number, error) => {
                state.propose_failed(&myself, number, &error)
            }
            ShardMessage::ReplicaChanged => state.replica_changed(&myself)?,
            ShardMessage::Wake => state.wake(&myself)?,
            ShardMessage::Outbox(request) => state.read_outbox(request)?,
            ShardMessage::Acknowledged(acknowledged) => state.acknowledged(&myself, acknowledged),
            ShardMessage::Feed(request) => state.read_feed(request)?,
            ShardMessage::Checkpoint { step } => state.checkpoint(&myself, step)?,
            #[cfg(test)]
            ShardMessage::Crash => panic!("a crash of the actor, on purpose"),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.cell.retract(state.generation);
        if let Err(error) = state.checkpoint_at_stop() {
            tracing::warn!(shard = %state.cell.id, %error, "the next start applies more of the log");
        }
        Ok(())
    }
}

impl<S: StateMachine> State<S> {
    fn command(&mut self, myself: &ActorRef<ShardMessage<S>>, envelope: CommandEnvelope<S>) {
        self.cell.metrics.received(envelope.sent, time::mark());
        // While nothing can be proposed, callers give up; they have waited longest in front.
        while self.pending.front().is_some_and(CommandEnvelope::is_abandoned) {
            self.pending.pop_front();
        }
        self.pending.push_back(envelope);
        self.queue_flush(myself);
    }

    fn query(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        mut envelope: QueryEnvelope<S>,
    ) -> Result<(), ActorProcessingErr> {
        let started = time::mark();
        self.cell.metrics.received(envelope.sent, started);
        if envelope.answer.is_closed() {
            return Ok(());
        }
        if !self.has_caught_up {
            self.early.retain(|early| !early.answer.is_closed());
            self.early.push(envelope);
            return Ok(());
        }
        let cell = self.cell.clone();
        let outcome = {
            let guard = cell.store.owned(self.generation)?;
            let (service, query) = (&mut self.service, &mut envelope.query);
            catch_unwind(AssertUnwindSafe(|| service.query(&guard.read(), query)))
        };
        let answer = match outcome {
            Ok(Ok(Step::Done(answer))) => Ok(answer),
            Ok(Ok(Step::Again)) => {
                cell.metrics.handled("query", started);
                envelope.sent = time::mark();
                let _ = myself.cast(ShardMessage::Query(envelope));
                return Ok(());
            }
            Ok(Err(Stop::Refused(refusal))) => Err(CallError::Refused(refusal)),
            // One row, or what the service made of it, must not end a node for whoever asks for it.
            Ok(Err(Stop::Store(error @ StoreError::Damaged { .. }))) => {
                self.query_failed(myself, &cell.named(error).to_string())?;
                Err(CallError::Internal)
            }
            Ok(Err(Stop::Store(error))) => return Err(cell.named(error).into()),
            Err(_) => {
                self.query_failed(myself, "it panicked")?;
                Err(CallError::Internal)
            }
        };
        self.queries += 1;
        cell.metrics.handled("query", started);
        let _ = envelope.answer.send(answer);
        Ok(())
    }

    /// Repeated, a query that fails would crash the shard as often.
    fn query_failed(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        why: &str,
    ) -> Result<(), ActorProcessingErr> {
        tracing::error!(shard = %self.cell.id, why, "a query failed; its service is loaded afresh");
        self.cell.metrics.poisoned();
        self.load_afresh()?;
        self.recover()?;
        // Recovery may have applied the batch that was under way, and with it all that was announced.
        self.after_apply(myself);
        Ok(())
    }

    fn load(&self, shard: &ShardState) -> Result<FreedApart<S>, StoreError> {
        let service = S::load(&shard.read()).map_err(|error| self.cell.named(error))?;
        Ok(kept::freed_apart(service))
    }

    fn committed(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        entries: &[CommittedEntry],
    ) -> Result<(), ActorProcessingErr> {
        let had_caught_up = self.has_caught_up;
        for entry in entries {
            // More than once if a memory-kept service panics over it.
            while self.cell.store.applied().index < entry.index {
                self.catch_up(entry.index)?;
                if self.cell.store.applied().index.next() < entry.index {
                    // The replica that handed it over has ended; what comes from its successor
                    // follows the state.
                    return Ok(());
                }
                self.apply_entry(entry)?;
            }
        }
        self.has_caught_up = had_caught_up;
        self.after_apply(myself);
        Ok(())
    }

    fn after_apply(&mut self, myself: &ActorRef<ShardMessage<S>>) {
        if self.leads() {
            // Again, for it may have been loaded afresh.
            self.service.lead();
        }
        self.keep_outbox_bounded();
        self.queue_flush(myself);
        self.schedule_wake(myself);
    }

    fn replica_changed(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
    ) -> Result<(), ActorProcessingErr> {
        let current = self.cell.current_replica();
        let same = match (&self.replica, &current) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new) && self.has_caught_up,
            _ => false,
        };
        if same {
            return Ok(());
        }
        self.replica = current;
        if self.recover()? {
            if let Some(batch) = self.in_flight.take() {
                // Proposed to the predecessor; whether it was committed will be seen by its ids.
                self.put_back(batch);
            }
            self.declare_subscribers(myself);
            self.queue_flush(myself);
            self.schedule_wake(myself);
            for envelope in std::mem::take(&mut self.early) {
                let _ = myself.cast(ShardMessage::Query(envelope));
            }
        }
        Ok(())
    }
}
