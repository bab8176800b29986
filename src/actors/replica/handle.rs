//! What a shard actor holds of its replica.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use openraft::Raft;
use ractor::ActorRef;

use crate::actors::replica::actor::ReplicaMessage;
use crate::actors::replica::log_storage::LogStore;
use crate::actors::replica::port::{
    AppliedState, CommittedEntry, CommittedLog, ProposeError, Replica,
};
use crate::actors::replica::state_machine::{Progress, StateMachine};
use crate::actors::replica::types::{Batch, ProposalResponder, TypeConfig, log_index};
use crate::ids::LogIndex;
use crate::store::error::StoreError;

/// The [`Replica`] over openraft. Useless, but harmless, once its actor has stopped.
pub(super) struct RaftReplica {
    pub raft: Raft<TypeConfig, StateMachine>,
    pub log: LogStore,
    pub actor: ActorRef<ReplicaMessage>,
}

impl Replica for RaftReplica {
    fn propose(&self, batch: Bytes, failed: Box<dyn FnOnce(ProposeError) + Send>) {
        let responder = ProposalResponder::new(failed);
        // Only queues. It would have to wait when the queue is full, which the shard's one batch
        // in flight forbids, or when Raft has stopped: dropping the future drops the responder,
        // which then says so. Without `unconstrained`, a busy task could be told to wait, too.
        let queued = self.raft.client_write_ff(Batch(batch), Some(responder));
        let _ = tokio::task::unconstrained(queued).now_or_never();
    }

    fn checkpointed(&self, applied: AppliedState) {
        // An actor that has gone has nothing to purge; its successor starts from the checkpoint.
        let _ = self.actor.cast(ReplicaMessage::Checkpointed(applied.index));
    }
}

/// The log of a replica, as far as it is known to be committed.
pub(super) struct ReplicaLog {
    pub log: LogStore,
    pub progress: Arc<Progress>,
}

impl CommittedLog for ReplicaLog {
    fn committed_after(
        &self,
        after: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<CommittedEntry>, StoreError> {
        let end = self.progress.handed_over().next();
        let entries = self.log.entries(after.next()..end, bytes_max)?;
        let purged = self.log.0.state().purged;
        if after < purged
            && entries.first().is_none_or(|e| log_index(e.log_id.index) != after.next())
        {
            return Err(behind_purged_log(after, purged));
        }
        Ok(entries.into_iter().map(|entry| self.progress.committed_entry(entry)).collect())
    }
}

/// The log no longer holds what the state lacks (R4).
pub(super) fn behind_purged_log(applied: LogIndex, purged: LogIndex) -> StoreError {
    let (applied, purged) = (applied.0, purged.0);
    StoreError::Damaged {
        path: PathBuf::new(),
        detail: format!("the state ends at entry {applied}, the log begins after {purged}"),
    }
}
