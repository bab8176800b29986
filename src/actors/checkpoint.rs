//! The actor that has checkpoints written.
//!
//! **Owns** nothing but the turn: one checkpoint at a time on the node. **Receives** that something
//! is due. **Sends** nothing; the shards' observers tell the replicas what may be purged.
//! **Started by** the store's supervisor. **When it fails**, as it does over a file that
//! no further attempt makes writable, memory and log hold everything; whoever sees its error decides
//! whether the node goes on. At a clean stop it writes every shard, so that the next start replays
//! nothing.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::seams::tasks::{self, Tasks};
use crate::store::checkpointer::Checkpoints;

/// What the actor receives.
pub(crate) enum CheckpointMessage {
    /// Some shard may be due.
    Due,
}

/// The actor.
pub(crate) struct CheckpointActor;

pub(crate) struct State {
    checkpoints: Arc<Checkpoints>,
    /// What waits for the next one.
    tasks: Tasks,
}

impl Actor for CheckpointActor {
    type Msg = CheckpointMessage;
    type State = State;
    type Arguments = Arc<Checkpoints>;

    async fn pre_start(
        &self,
        myself: ActorRef<CheckpointMessage>,
        checkpoints: Arc<Checkpoints>,
    ) -> Result<State, ActorProcessingErr> {
        let mut state = State { checkpoints, tasks: Tasks::default() };
        state.wait(myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<CheckpointMessage>,
        message: CheckpointMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CheckpointMessage::Due => {
                let checkpoints = state.checkpoints.clone();
                tasks::blocking(move || checkpoints.write_due()).await??;
            }
        }
        state.wait(myself);
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<CheckpointMessage>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let checkpoints = state.checkpoints.clone();
        let written = tasks::blocking(move || checkpoints.write_all()).await?;
        if let Err(error) = written {
            tracing::error!(%error, "the last checkpoint failed; the log still has everything");
        }
        Ok(())
    }
}

impl State {
    fn wait(&mut self, myself: ActorRef<CheckpointMessage>) {
        let checkpoints = self.checkpoints.clone();
        let waiter = tasks::spawn(async move {
            checkpoints.wait_due().await;
            let _ = myself.cast(CheckpointMessage::Due);
        });
        self.tasks.keep(waiter.abort_handle());
    }
}
