//! The line between a shard actor, which owns the state, and its replica, which owns the order.
//!
//! The shard actor proposes batches through [`Replica`]; the replica hands what is committed to
//! the shard through [`Applier`] and waits. Neither holds the other: each side can crash and be
//! replaced alone.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::ids::LogIndex;
use crate::store::error::StoreError;
pub use crate::store::shard_file::AppliedState;

/// An entry that will never be taken back.
#[derive(Debug, Clone)]
pub struct CommittedEntry {
    /// Its position.
    pub index: LogIndex,
    /// What the replica needs to find again after a restart (log id, membership), opaque to the
    /// shard, which stores it together with the applied position.
    pub position: Bytes,
    /// The batch that the shard proposed; `None` for entries of the replica's own (blank,
    /// membership).
    pub batch: Option<Bytes>,
}

/// Why a proposal did not become an entry, or is not known to have become one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or nobody does at the moment. Certainly not in the log.
    #[error("this replica does not lead")]
    NotLeader,
    /// The replica stopped; the batch may or may not be committed later.
    #[error("the replica stopped")]
    Stopped,
}

/// What a shard actor needs of its replica.
pub trait Replica: Send + Sync + 'static {
    /// Queues a batch and returns at once. Order of calls is order of entries. `failed` is called
    /// when the batch cannot be proposed; when it is committed, the entry arrives at the
    /// [`Applier`] instead.
    fn propose(&self, batch: Bytes, failed: Box<dyn FnOnce(ProposeError) + Send>);

    /// Tells the replica that everything up to `index` is durable in the shard file, so that the
    /// log before it may be purged.
    fn checkpointed(&self, applied: AppliedState);
}

/// What a replica knows to be committed, to be read again.
pub trait CommittedLog: Send + Sync + 'static {
    /// Committed entries after `after`, in order, at most `bytes_max` of them (at least one when
    /// there is any). What a restarted shard actor pulls before it is fed.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn committed_after(
        &self,
        after: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<CommittedEntry>, StoreError>;
}

/// What a replica needs of its shard. Implemented by the shard's cell, which survives the actor.
pub trait Applier: Send + Sync + 'static {
    /// A replica begins: this is its log, open before the first entry is handed over, long before the
    /// replica leads. Ignored if a newer one has begun.
    fn opened(&self, incarnation: u64, log: Arc<dyn CommittedLog>);

    /// The replica has ended, and its log with it.
    fn closed(&self, incarnation: u64);

    /// Hands entries over and returns when the shard has applied all of them. Waits across
    /// restarts of the shard actor; entries that were already applied are skipped. `incarnation`
    /// is the replica's own: entries of an older one than the newest seen are ignored (and the
    /// future never resolves, because the old replica must not go on).
    fn apply(&self, incarnation: u64, entries: Vec<CommittedEntry>) -> BoxFuture<'_, ()>;

    /// How far the state has come, in memory. It goes back when a memory-kept service loses its
    /// memory; the shard then catches up from the log by itself.
    fn applied(&self) -> AppliedState;

    /// How far the state is durable: the snapshot position.
    fn durable(&self) -> AppliedState;

    /// The file in which it is durable, to be named in errors.
    fn file(&self) -> &Path;
}
