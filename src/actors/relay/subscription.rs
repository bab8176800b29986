//! Subscribing, which is a declaration: which service takes in whose events, and what they become.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::actors::relay::message::{
    Content, FeedRequest, Ingest, OutboxPage, OutboxRequest, Part, RuntimeReply,
};
use crate::actors::router::Router;
use crate::actors::shard::{CommandEnvelope, ReplyTo, ShardMessage};
use crate::actors::shard_cell::ShardCell;
use crate::actors::state_machine::StateMachine;
use crate::config::BATCH_BYTES_MAX;
use crate::ids::{EventPosition, ShardId, ShardName, Stamp};
use crate::store::codec::{self, Record};
use crate::store::feed::Feed;
use crate::store::outbox::OutboxEvent;

/// A service that takes in events of another. All that it names of that one is its `event.rs`, and
/// what this needs of its `message.rs`.
///
/// The commands go through the subscriber's own log, so its `apply` knows nothing of events; each is
/// applied exactly once, whoever crashes. A refusal is an answer like any other; a command that
/// panics becomes a dead letter, and the stream goes on.
pub trait Subscribes<E>: StateMachine {
    /// Appends the commands that an event becomes, none if it does not concern this service. The
    /// bucket of each says which shard gets it. Events of one source shard arrive in order; those
    /// of two have none.
    ///
    /// It runs before the log, so unlike `apply` it may change from release to release, but it must
    /// depend on nothing but its arguments: an event that is delivered again may be mapped again.
    fn ingest(event: Delivered<E>, commands: &mut Vec<Self::Command>);
}

/// An event on its way to a subscriber.
#[derive(Debug, Clone, Copy)]
pub struct Delivered<E> {
    /// The shard that it comes from.
    pub source: ShardId,
    /// Its place among the events of that shard.
    pub position: EventPosition,
    /// Of the command that caused it; what the event becomes is stamped later.
    pub stamp: Stamp,
    /// Shards of the subscriber, for what all of them must know.
    pub shards: u16,
    /// The event.
    pub event: E,
}

/// Most bytes of commands that one event becomes for one shard: an entry must hold them. Beyond, the
/// event cannot be mapped.
const EVENT_COMMANDS_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// A shard that takes in events of `P`.
pub(crate) type Port<P> = Arc<dyn SubscriberPort<<P as StateMachine>::Event>>;

/// A subscription to the events of the service `P`, to be given to whatever hosts that.
pub struct Subscription<P: StateMachine> {
    shards: Vec<Port<P>>,
}

impl<P: StateMachine> Subscription<P> {
    /// The service behind `router` subscribes.
    pub fn of<R: Subscribes<P::Event>>(router: &Router<R>) -> Self {
        let shards = router.shards();
        let port = |cell: &Arc<ShardCell<R>>| {
            Arc::new(LocalSubscriber { cell: cell.clone(), shards }) as Port<P>
        };
        Self { shards: router.cells().iter().map(port).collect() }
    }

    /// Every shard that gets events.
    pub(crate) fn ports(&self) -> impl Iterator<Item = Port<P>> {
        self.shards.iter().cloned()
    }

    /// The same through ports that fail on purpose.
    #[cfg(test)]
    pub(crate) fn through(self, wrap: impl Fn(Port<P>) -> Port<P>) -> Self {
        Self { shards: self.shards.into_iter().map(wrap).collect() }
    }
}

/// A subscribing shard as a relay sees it, whatever its service.
pub(crate) trait SubscriberPort<E>: Send + Sync + 'static {
    /// Which shard.
    fn id(&self) -> ShardId;

    /// Appends what an event is to this shard. Never fails: what cannot be read or mapped is a
    /// broken part.
    fn map(&self, source: ShardId, event: &OutboxEvent, parts: &mut Vec<Part>);

    /// What the shard has seen of a source; `None` when it cannot say now.
    fn feed(&self, source: ShardName) -> BoxFuture<'_, Option<Feed>>;

    /// Hands over a delivery and waits until it was applied; `None` when nobody knows whether it
    /// was. Waits as long as the shard does: what was handed over is not handed over again before
    /// it is gone, so that a shard which is stuck gathers nothing (D4).
    fn ingest(&self, ingest: &Ingest) -> BoxFuture<'_, Option<RuntimeReply>>;
}

/// A subscriber of this process.
struct LocalSubscriber<R: StateMachine> {
    cell: Arc<ShardCell<R>>,
    shards: u16,
}

impl<E: Record + Send + 'static, R: Subscribes<E>> SubscriberPort<E> for LocalSubscriber<R> {
    fn id(&self) -> ShardId {
        self.cell.id
    }

    fn map(&self, source: ShardId, event: &OutboxEvent, parts: &mut Vec<Part>) {
        let (position, stamp) = (event.mark.position, event.stamp);
        let mut commands = Vec::new();
        // The subscriber's code, run for the source: should it panic, the relay would meet the same
        // event again and again (ADR 0011).
        let before = parts.len();
        let mapped = codec::decode::<E>(&event.event).ok().and_then(|decoded| {
            let delivered =
                Delivered { source, position, stamp, shards: self.shards, event: decoded };
            catch_unwind(AssertUnwindSafe(|| R::ingest(delivered, &mut commands))).ok()
        });
        let commands = if mapped.is_some() { commands } else { Vec::new() };
        for command in commands {
            if R::bucket(&command).shard(self.shards) == self.cell.id.index {
                let content = Content::Command(codec::encode(&command).into());
                parts.push(Part { position, stamp, content });
            }
        }
        let bytes = parts[before..].iter().map(Part::bytes).sum::<usize>();
        // All shards would bury what cannot be mapped; one is enough.
        let is_broken = mapped.is_none() && self.cell.id.index == 0;
        if is_broken || bytes > EVENT_COMMANDS_BYTES_MAX {
            parts.truncate(before);
            let letter = event.event.slice(..event.event.len().min(EVENT_COMMANDS_BYTES_MAX));
            parts.push(Part { position, stamp, content: Content::Broken(letter) });
        }
    }

    fn feed(&self, source: ShardName) -> BoxFuture<'_, Option<Feed>> {
        Box::pin(async move {
            let actor = self.cell.serving().await?;
            let (answer, answered) = oneshot::channel();
            actor.cast(ShardMessage::Feed(FeedRequest { source, answer })).ok()?;
            answered.await.ok()
        })
    }

    fn ingest(&self, ingest: &Ingest) -> BoxFuture<'_, Option<RuntimeReply>> {
        let payload: Bytes = codec::encode(ingest).into();
        Box::pin(async move { hand_over(&self.cell, payload).await })
    }
}

/// Sends a command of the runtime to a shard and waits for what becomes of it; `None` when the shard
/// died before that was known.
pub(super) async fn hand_over<S: StateMachine>(
    cell: &ShardCell<S>,
    payload: Bytes,
) -> Option<RuntimeReply> {
    let actor = cell.serving().await?;
    let (reply, replied) = oneshot::channel();
    let envelope = CommandEnvelope::of_runtime(cell, payload, Some(ReplyTo::Runtime(reply)));
    actor.cast(ShardMessage::Command(envelope)).ok()?;
    replied.await.ok()
}

/// Asks a source what is there for a subscriber; `None` when it does not answer.
pub(super) async fn ask_outbox<S: StateMachine>(
    cell: &ShardCell<S>,
    subscriber: ShardName,
    after: Option<EventPosition>,
) -> Option<OutboxPage> {
    let actor = cell.serving().await?;
    let (answer, answered) = oneshot::channel();
    let request = OutboxRequest { subscriber, after, answer };
    actor.cast(ShardMessage::Outbox(request)).ok()?;
    answered.await.ok()
}
