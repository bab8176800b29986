//! The part of the shard actor that is before it serves: the service is read.
//!
//! A table-kept service has little to read, and serves when its actor has started. What a memory-kept one
//! keeps may take seconds: it is read beside the actor, on a thread that gives way, so that whoever starts
//! next, and the services that are there already, need not wait. Callers wait for it as for any actor that
//! restarts: until it is published.

use std::collections::VecDeque;
use std::sync::Arc;

use ractor::{ActorProcessingErr, ActorRef};

use crate::actors::shard::kept::{self, Memory};
use crate::actors::shard::outbox::Outgoing;
use crate::actors::shard::{ShardMessage, State, wake};
use crate::actors::shard_cell::ShardCell;
use crate::actors::state_machine::{Kept, ReadTables, StateMachine};
use crate::actors::supervisor::Heartbeat;
use crate::seams::tasks::{self, FreedApart, Tasks};
use crate::seams::time;
use crate::store::error::StoreError;
use crate::store::file::unreadable;

/// Steps of priority that reading gives up: that leaves it a tenth of a core that others want.
const PATIENCE: i32 = 10;

/// What a shard actor is at.
pub(crate) enum Phase<S: StateMachine> {
    /// Its service is read; nobody has heard of it yet.
    Loading(Loading<S>),
    /// It is the one that callers find.
    Serving(Box<State<S>>),
}

/// An actor whose service is read.
pub(crate) struct Loading<S: StateMachine> {
    beginning: Beginning<S>,
    /// Who waits for that; ends with the actor.
    _waits: Tasks,
}

/// What was read.
pub(crate) struct Loaded<S: StateMachine> {
    service: FreedApart<S>,
    outgoing: Outgoing,
}

/// An actor that has claimed its shard.
pub(super) struct Beginning<S: StateMachine> {
    pub(super) cell: Arc<ShardCell<S>>,
    pub(super) heartbeat: Heartbeat,
    pub(super) generation: u64,
}

impl<S: StateMachine> Beginning<S> {
    /// Reads the service here and now.
    ///
    /// # Errors
    /// When the rows cannot be read, or another actor has claimed the shard.
    pub(super) fn load(&self) -> Result<Loaded<S>, StoreError> {
        let guard = self.cell.store.owned(self.generation)?;
        read(&self.cell, self.generation, &guard.read())
    }

    /// Reads the service beside the actor, which is told when it is there.
    ///
    /// # Errors
    /// When another actor has claimed the shard.
    pub(super) fn load_beside(
        self,
        myself: ActorRef<ShardMessage<S>>,
    ) -> Result<Phase<S>, StoreError> {
        // The lock is let go of: who reads gives way, so others would wait long for it.
        let snapshot = self.cell.store.owned(self.generation)?.snapshot();
        let (cell, generation) = (self.cell.clone(), self.generation);
        let work = move || {
            let work = || {
                tasks::give_way(PATIENCE);
                read(&cell, generation, &snapshot.read())
            };
            // redb panics over some kinds of damage.
            let loaded = tasks::apart(std::iter::once(work)).remove(0);
            loaded.unwrap_or_else(|_panic| Err(unreadable(cell.store.path())))
        };
        let mut waits = Tasks::default();
        waits.keep(
            tasks::spawn(async move {
                // None if the runtime ends.
                if let Ok(loaded) = tasks::blocking(work).await {
                    let _ = myself.cast(ShardMessage::Loaded(loaded.map(Box::new)));
                }
            })
            .abort_handle(),
        );
        Ok(Phase::Loading(Loading { beginning: self, _waits: waits }))
    }

    /// Serves with what was read, and is published.
    ///
    /// # Errors
    /// When what was committed since cannot be applied.
    pub(super) fn serve(
        &self,
        myself: &ActorRef<ShardMessage<S>>,
        loaded: Loaded<S>,
    ) -> Result<State<S>, ActorProcessingErr> {
        let (cell, generation) = (self.cell.clone(), self.generation);
        let Loaded { service, outgoing } = loaded;
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
            heartbeat: self.heartbeat.clone(),
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
            state.declare_subscribers(myself);
        }
        state.cell.publish(generation, myself.clone());
        state.schedule_wake(myself);
        Ok(state)
    }
}

impl<S: StateMachine> Phase<S> {
    /// Takes in what was read. Nothing else comes before the actor is published.
    pub(super) fn loaded(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        message: ShardMessage<S>,
    ) -> Result<(), ActorProcessingErr> {
        if let (Self::Loading(loading), ShardMessage::Loaded(loaded)) = (&*self, message) {
            let _busy = loading.beginning.heartbeat.busy();
            *self = Self::Serving(Box::new(loading.beginning.serve(myself, *loaded?)?));
        }
        Ok(())
    }
}

fn read<S: StateMachine>(
    cell: &ShardCell<S>,
    generation: u64,
    tables: &ReadTables<'_>,
) -> Result<Loaded<S>, StoreError> {
    let service = S::load(tables).map_err(|error| cell.named(error))?;
    let outgoing = Outgoing::load(tables, generation).map_err(|error| cell.named(error))?;
    Ok(Loaded { service: kept::freed_apart(service), outgoing })
}
