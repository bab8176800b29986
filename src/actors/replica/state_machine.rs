//! openraft's state machine: hands what is committed to the shard, and waits.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt};
use openraft::storage::{
    ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta,
};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::watch;

use crate::actors::replica::port::{AppliedState, Applier, CommittedEntry};
use crate::actors::replica::types::{
    RaftEntry, RaftLogId, RaftMembership, TypeConfig, decode_position, encode_position, log_index,
    to_io_error,
};
use crate::ids::LogIndex;
use crate::store::error::StoreError;

/// Handed over at once; the shard applies that much without looking at its mailbox.
const HAND_OVER_BYTES_MAX: usize = 1024 * 1024;
const HAND_OVER_ENTRIES_MAX: usize = 256;

/// How far the replica has come with handing over; read by the handle beside openraft.
pub(super) struct Progress {
    /// The last entry that is known here to be committed.
    handed_over: AtomicU64,
    /// The members, as of that entry or later. Positions that are made from it may name members
    /// newer than their entry, which openraft allows: it reads the newer ones from the log.
    membership: Mutex<RaftMembership>,
}

/// The adapter. Owns nothing: the state is the shard's.
pub(super) struct StateMachine {
    pub applier: Arc<dyn Applier>,
    pub incarnation: u64,
    pub progress: Arc<Progress>,
    /// Turns true when the replica stops: openraft's worker does not end on its own while the
    /// shard keeps it waiting.
    pub stop: watch::Receiver<bool>,
}

/// Where a snapshot is read from. Empty while there are no peers: the position says it all, and
/// the transfer will stream the shard's checkpoint from here.
#[derive(Debug, Clone, Default)]
pub(super) struct SnapshotCursor {}

/// Builds the snapshot at the checkpoint. Never at the applied position: what is not durable
/// must not let the log be purged.
pub(super) struct CheckpointSnapshot(Arc<dyn Applier>);

impl Progress {
    pub fn new(applied: &AppliedState) -> Result<Self, StoreError> {
        let (_, membership) = decode_position(&applied.position)?;
        Ok(Self {
            handed_over: AtomicU64::new(applied.index.0),
            membership: Mutex::new(membership),
        })
    }

    /// The last entry that is known here to be committed.
    pub fn handed_over(&self) -> LogIndex {
        LogIndex(self.handed_over.load(Ordering::Acquire))
    }

    /// Turns a committed entry into what the shard gets.
    pub fn committed_entry(&self, entry: RaftEntry) -> CommittedEntry {
        let mut membership = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(batch) => Some(batch.0),
            EntryPayload::Membership(members) => {
                if membership.log_id().is_none_or(|known| known < entry.log_id) {
                    *membership = RaftMembership::new(Some(entry.log_id), members);
                }
                None
            }
        };
        let position = encode_position(&entry.log_id, &membership);
        CommittedEntry { index: log_index(entry.log_id.index), position, batch }
    }
}

impl StateMachine {
    /// Hands entries to the shard and answers openraft when they are applied.
    async fn hand_over(
        &mut self,
        entries: Vec<CommittedEntry>,
        responders: Vec<ApplyResponder<TypeConfig>>,
    ) -> Result<(), io::Error> {
        let Some(last) = entries.last() else { return Ok(()) };
        self.progress.handed_over.fetch_max(last.index.0, Ordering::AcqRel);
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => return Err(to_io_error(StoreError::Stopped)),
            () = self.applier.apply(self.incarnation, entries) => {}
        }
        responders.into_iter().for_each(|responder| responder.send(()));
        Ok(())
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender is gone only when the actor is.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotCursor;
    type SnapshotBuilder = CheckpointSnapshot;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, RaftMembership), io::Error> {
        decode_position(&self.applier.applied().position).map_err(to_io_error)
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let (mut batch, mut responders, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let entry = self.progress.committed_entry(entry);
            bytes += entry.batch.as_ref().map_or(0, bytes::Bytes::len);
            batch.push(entry);
            responders.extend(responder);
            if bytes >= HAND_OVER_BYTES_MAX || batch.len() >= HAND_OVER_ENTRIES_MAX {
                let responders = std::mem::take(&mut responders);
                self.hand_over(std::mem::take(&mut batch), responders).await?;
                bytes = 0;
            }
        }
        self.hand_over(batch, responders).await
    }

    async fn get_snapshot_builder(&mut self) -> CheckpointSnapshot {
        CheckpointSnapshot(self.applier.clone())
    }

    /// Only a peer sends snapshots, and the network reaches none.
    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<TypeConfig>,
        _snapshot: SnapshotCursor,
    ) -> Result<(), io::Error> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a lone replica installs no snapshot"))
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotCursor>>, io::Error> {
        let snapshot = checkpoint(&*self.applier)?;
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for CheckpointSnapshot {
    type SnapshotData = SnapshotCursor;

    async fn build_snapshot(
        &mut self,
    ) -> Result<SnapshotOf<TypeConfig, SnapshotCursor>, io::Error> {
        checkpoint(&*self.0)
    }
}

fn checkpoint(applier: &dyn Applier) -> Result<SnapshotOf<TypeConfig, SnapshotCursor>, io::Error> {
    let durable = applier.durable();
    let (last_log_id, last_membership) = decode_position(&durable.position).map_err(to_io_error)?;
    Ok(Snapshot {
        meta: SnapshotMeta { last_log_id, last_membership },
        snapshot: SnapshotCursor::default(),
    })
}
