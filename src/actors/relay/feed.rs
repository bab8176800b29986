//! What a subscriber may know of its feeds, and do about them.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::actors::relay::message::{OutboxCommand, RuntimeReply};
use crate::actors::relay::subscription::{ask_outbox, hand_over};
use crate::actors::shard_cell::ShardCell;
use crate::actors::state_machine::StateMachine;
use crate::ids::{EventPosition, ShardId, ShardName};
use crate::store::codec;

/// How the delivery from one shard to another is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeedStatus {
    /// What it is doing.
    pub state: FeedState,
    /// Of everything up to here the subscriber has what concerns it, as far as the relay knows.
    pub position: EventPosition,
    /// Events that the subscriber does not have yet.
    pub lag: u64,
    /// Rebuilds so far.
    pub epoch: u32,
}

/// What a feed is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FeedState {
    /// One side or the relay has just started, or does not answer.
    #[default]
    Connecting,
    /// Events arrive.
    Following,
    /// Events are missing and will not come: copy the source's state, then follow from there on
    /// ([`Feed::resume`]).
    MustRebuild,
}

/// Why a feed cannot be resumed now. Trying again is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The source does not answer.
    #[error("the source of the events does not answer")]
    Unavailable,
    /// The source knows no such subscriber.
    #[error("the source of the events knows no such subscriber")]
    Unknown,
}

/// The delivery from one shard to another, to look at and to resume. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    source: ShardId,
    subscriber: ShardId,
    status: watch::Receiver<FeedStatus>,
    control: Arc<dyn Control>,
}

impl Feed {
    /// Where the events come from.
    pub fn source(&self) -> ShardId {
        self.source
    }

    /// Where they go.
    pub fn subscriber(&self) -> ShardId {
        self.subscriber
    }

    /// How it is doing.
    pub fn status(&self) -> FeedStatus {
        *self.status.borrow()
    }

    /// Waits until the status is one like this, and returns it; `None` when the node has ended.
    pub async fn wait_for(&self, is: impl FnMut(&FeedStatus) -> bool) -> Option<FeedStatus> {
        self.status.clone().wait_for(is).await.ok().map(|status| *status)
    }

    /// Begins a rebuild: from now on events are kept for the subscriber again, and those after the
    /// returned position are delivered to it. A copy of the source's state that is read after this
    /// returned holds everything up to that position; it may hold some of what follows too, which
    /// the subscriber must recognise by what it holds (a version, a flag that is set already). A
    /// feed that is not lost goes on as it does, and its own position is returned.
    ///
    /// # Errors
    /// When it did not happen, or nobody knows. Trying again is safe.
    pub async fn resume(&self) -> Result<EventPosition, FeedError> {
        self.control.resume(self.subscriber.into()).await
    }

    /// The position of the last event so far: whoever asks the source for its state after this
    /// returned finds everything up to there in it.
    ///
    /// # Errors
    /// When the source does not answer. Trying again is safe.
    pub async fn head(&self) -> Result<EventPosition, FeedError> {
        self.control.head(self.subscriber.into()).await
    }
}

/// The source's side of a feed, whatever its service.
trait Control: Send + Sync {
    fn resume(&self, subscriber: ShardName) -> BoxFuture<'_, Result<EventPosition, FeedError>>;
    fn head(&self, subscriber: ShardName) -> BoxFuture<'_, Result<EventPosition, FeedError>>;
}

impl<P: StateMachine> Control for ShardCell<P> {
    fn resume(&self, subscriber: ShardName) -> BoxFuture<'_, Result<EventPosition, FeedError>> {
        let command = codec::encode(&OutboxCommand::Resume { subscriber });
        Box::pin(async move {
            match hand_over(self, command.into()).await {
                Some(RuntimeReply::Resumed(Some(row))) => Ok(row.acknowledged.position),
                Some(RuntimeReply::Resumed(None)) => Err(FeedError::Unknown),
                _ => Err(FeedError::Unavailable),
            }
        })
    }

    fn head(&self, subscriber: ShardName) -> BoxFuture<'_, Result<EventPosition, FeedError>> {
        Box::pin(async move {
            let page = ask_outbox(self, subscriber, None).await.ok_or(FeedError::Unavailable)?;
            Ok(page.head.last.position)
        })
    }
}

/// Where a relay tells the status of a feed; outlives the relay.
pub(crate) type FeedTeller = watch::Sender<FeedStatus>;

impl Feed {
    /// The feed from the shard of `cell` to another, and where its status is told.
    pub(crate) fn new<P: StateMachine>(
        cell: &Arc<ShardCell<P>>,
        subscriber: ShardId,
    ) -> (Self, FeedTeller) {
        let (teller, status) = watch::channel(FeedStatus::default());
        (Self { source: cell.id, subscriber, status, control: cell.clone() }, teller)
    }
}
