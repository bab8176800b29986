//! The part of the shard actor that is for memory-kept services: their state is written for
//! checkpoints, and found again at the last one when it is lost.
//!
//! A panic leaves such a service in a state that nobody knows, in the midst of an entry. Everything
//! goes back to the last checkpoint then, and the log from there on is applied again: first with one
//! more try for the command that panicked, then, should it panic again, without it.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ractor::{ActorProcessingErr, ActorRef};

use crate::actors::shard::{ShardMessage, State};
use crate::actors::shard_cell::ShardCell;
use crate::actors::state_machine::{Kept, StateMachine, Step};
use crate::ids::LogIndex;
use crate::seams::tasks::{self, FreedApart};
use crate::seams::time;
use crate::store::codec::CodecError;
use crate::store::error::StoreError;
use crate::store::shard_state::{GENERATION_FIRST, ShardState};

/// Rows that are staged at a time, so that queries hardly wait; about a millisecond.
const CHECKPOINT_ROWS: usize = 1024;
/// After so many times it is twice as many, so that it ends whatever is changed meanwhile.
const CHECKPOINT_PATIENCE: u32 = 16;
/// Steps of priority that the first load of a process gives up: of a core that others want all the time it gets a
/// quarter.
const LOAD_PATIENCE: i32 = 5;

/// Where a command stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The entry.
    pub(super) index: LogIndex,
    /// In the entry.
    pub(super) number: u32,
    /// In a delivery.
    pub(super) part: Option<u32>,
}

/// Why an entry was not applied to its end.
pub(super) enum Halt {
    /// A panic has left a memory-kept service in a state that nobody knows.
    Unwound,
    /// The tables could not be read.
    Store(StoreError),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CodecError> for Halt {
    fn from(error: CodecError) -> Self {
        Self::Store(error.into())
    }
}

/// What the actor knows of a service that keeps its state in memory.
#[derive(Default)]
pub(super) struct Memory {
    /// Its state is being staged for a checkpoint.
    is_saving: bool,
    /// A checkpoint is wanted, so that the next time there is less to apply again.
    has_gone_back: bool,
    /// The command that panicked last.
    suspect: Option<Place>,
    /// Commands that have panicked in two states, the second one fresh. Known for as long as they may
    /// be replayed, or each of them would cost two more replays.
    poison: BTreeSet<Place>,
}

impl Memory {
    pub(super) fn is_poison(&self, place: Place) -> bool {
        self.poison.contains(&place)
    }

    /// The command has panicked.
    pub(super) fn suspect(&mut self, place: Place) -> Halt {
        if self.suspect.replace(place) == Some(place) {
            self.poison.insert(place);
        }
        Halt::Unwound
    }
}

/// Reads the service of an actor that starts. A memory-kept one may take a second for each million of its
/// rows, so it is read on a thread of its own, which ends when nobody waits for it any more. When a node starts,
/// that thread gives way: others are about to serve already, and wait for nothing that it reads. After a crash
/// they may have kept the processors busy for long, and would go on.
pub(super) async fn load<S: StateMachine>(
    cell: &Arc<ShardCell<S>>,
    generation: u64,
) -> Result<FreedApart<S>, ActorProcessingErr> {
    let service = match S::KEPT {
        Kept::Tables => {
            let state = cell.store.owned(generation)?;
            S::load(&state.read()).map_err(|error| cell.named(error))?
        }
        Kept::Memory => {
            let abandoned = Abandoned::default();
            let (cell, flag) = (cell.clone(), abandoned.0.clone());
            let work = move || {
                if generation == GENERATION_FIRST {
                    tasks::give_way(LOAD_PATIENCE);
                }
                cell.store.load(generation, &flag, S::load).map_err(|error| cell.named(error))
            };
            // Apart, for its priority must not outlast it.
            let read = tasks::blocking(|| tasks::apart(std::iter::once(work)).remove(0)).await?;
            read.unwrap_or_else(|panic| resume_unwind(panic))?
        }
    };
    Ok(freed_apart(service))
}

/// Set when it is dropped.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a memory-kept service holds may be too much to have twice.
pub(super) fn freed_apart<S: StateMachine>(service: S) -> FreedApart<S> {
    FreedApart::new(service, S::KEPT == Kept::Tables)
}

impl<S: StateMachine> State<S> {
    /// The service has panicked: it is loaded afresh. A memory-kept one goes back to the last
    /// checkpoint; what is missing then is applied again from the log, before anything else.
    pub(super) fn load_afresh(&mut self) -> Result<(), ActorProcessingErr> {
        let cell = self.cell.clone();
        let mut guard = cell.store.owned(self.generation)?;
        match S::KEPT {
            Kept::Tables => self.service = self.load(&guard)?,
            Kept::Memory => {
                let from = guard.progress.applied.index;
                guard.roll_back();
                let to = guard.progress.applied.index;
                tracing::warn!(
                    shard = %cell.id, from = from.0, to = to.0,
                    "a service has lost its memory: it is applied again from the last checkpoint"
                );
                self.service = cell.store.loading(|| self.load(&guard))?;
                let reloaded = self.outgoing.reload(&guard.read());
                reloaded.map_err(|error| self.cell.named(error))?;
                self.has_caught_up = false;
                self.memory.is_saving = false;
                self.memory.has_gone_back = true;
            }
        }
        Ok(())
    }

    /// An entry was applied: there is something to write again.
    pub(super) fn shorten_replays(&mut self) {
        if std::mem::take(&mut self.memory.has_gone_back) {
            self.cell.want_checkpoint();
        }
    }

    /// Stages a part of the service's state, and when that was the last one, seals it. `step` counts
    /// the parts; whoever wants a checkpoint begins at 0.
    pub(super) fn checkpoint(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        step: u32,
    ) -> Result<(), ActorProcessingErr> {
        let is_next = (step > 0) == self.memory.is_saving;
        if !is_next {
            return Ok(());
        }
        let started = time::mark();
        let cell = self.cell.clone();
        let mut guard = cell.store.owned(self.generation)?;
        if !guard.lacks_state() {
            self.memory.is_saving = false;
            return Ok(());
        }
        let rows = CHECKPOINT_ROWS << (step / CHECKPOINT_PATIENCE).min(20);
        self.memory.is_saving = !self.stage_state(&mut guard, rows)?;
        if self.memory.is_saving {
            let _ = myself.cast(ShardMessage::Checkpoint { step: step + 1 });
        } else {
            guard.seal();
            let base = guard.base();
            self.memory.poison.retain(|place| place.index > base);
            cell.want_checkpoint();
        }
        drop(guard);
        cell.metrics.handled("checkpoint", started);
        Ok(())
    }

    /// The whole state, at once: for the end of a node, so that the next start replays nothing.
    pub(super) fn checkpoint_at_stop(&mut self) -> Result<(), StoreError> {
        if S::KEPT == Kept::Tables {
            return Ok(());
        }
        let cell = self.cell.clone();
        let mut guard = cell.store.owned(self.generation)?;
        while !self.stage_state(&mut guard, usize::MAX)? {}
        // While another one is being written, the checkpointer seals this one after it.
        guard.seal();
        Ok(())
    }

    /// Whether that was all.
    fn stage_state(&mut self, shard: &mut ShardState, rows: usize) -> Result<bool, StoreError> {
        match shard.change(|tables| self.service.checkpoint(tables, rows))? {
            Step::Done(()) => {
                shard.saved();
                Ok(true)
            }
            Step::Again => Ok(false),
        }
    }
}
