//! The router: a typed call to the owner of a key.
//!
//! It finds the shard, takes a permit, sends, and waits. A shard actor that dies on the way costs
//! time only: the same command id is sent to its successor until the deadline, and the effect
//! happens once. It holds no product state, so it is a handle and not an actor.

use std::sync::Arc;

use bytes::Bytes;
use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::actors::answers::{Slot, Version};
use crate::actors::call::{CallError, IdempotencyKey, Outcome};
use crate::actors::relay::Feed;
use crate::actors::relay::message::Keyed;
use crate::actors::shard::{CommandEnvelope, QueryEnvelope, ReplyTo, ShardMessage};
use crate::actors::shard_cell::ShardCell;
use crate::actors::state_machine::StateMachine;
use crate::config::COMMAND_DEADLINE;
use crate::ids::{Bucket, CommandId};
use crate::seams::time::{self, Instant};
use crate::store::codec;

/// Calls to one service. Cheap to clone.
pub struct Router<S: StateMachine> {
    shards: Arc<[Arc<ShardCell<S>>]>,
    feeds: Arc<[Feed]>,
}

impl<S: StateMachine> Clone for Router<S> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone(), feeds: self.feeds.clone() }
    }
}

/// What a call carries besides its message.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    deadline: Instant,
    command: Option<CommandId>,
}

impl Call {
    /// A call that may take as long as the runtime allows ([`COMMAND_DEADLINE`]).
    pub fn new() -> Self {
        Self { deadline: time::now() + COMMAND_DEADLINE, command: None }
    }

    /// The same with an earlier end.
    #[must_use]
    pub fn within(mut self, time: std::time::Duration) -> Self {
        self.deadline = self.deadline.min(time::now() + time);
        self
    }

    /// The same with a command id derived from the caller's own key: however often it is sent until
    /// its first deadline, its effect happens once. For one command only.
    #[must_use]
    pub fn identified(mut self, command: CommandId) -> Self {
        self.command = Some(command);
        self
    }
}

impl Default for Call {
    fn default() -> Self {
        Self::new()
    }
}

type CommandResult<S> = Result<<S as StateMachine>::Reply, CallError<<S as StateMachine>::Refusal>>;
type CommandOutcome<S> = Outcome<<S as StateMachine>::Reply, <S as StateMachine>::Refusal>;
type QueryResult<S> = Result<<S as StateMachine>::Answer, CallError<<S as StateMachine>::Refusal>>;

impl<S: StateMachine> Router<S> {
    pub(crate) fn new(shards: Vec<Arc<ShardCell<S>>>) -> Self {
        Self { shards: shards.into(), feeds: Arc::default() }
    }

    /// The same for a service that others subscribe to.
    pub(crate) fn with_feeds(self, feeds: Vec<Feed>) -> Self {
        Self { feeds: feeds.into(), ..self }
    }

    /// The shards, in order.
    pub(crate) fn cells(&self) -> &[Arc<ShardCell<S>>] {
        &self.shards
    }

    /// The deliveries of this service's events to others.
    pub fn feeds(&self) -> &[Feed] {
        &self.feeds
    }

    /// Number of shards of this service.
    pub fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    /// Which shard owns a bucket.
    pub fn shard_of(&self, bucket: Bucket) -> u16 {
        bucket.shard(self.shards())
    }

    /// Sends a command to the shard that it names and waits until it is durable and applied.
    ///
    /// # Errors
    /// A refusal of the service, or why there is no answer.
    pub async fn command(&self, call: Call, command: S::Command) -> CommandResult<S> {
        let cell = self.cell_of(&command);
        let id = call.command.unwrap_or_else(|| CommandId(cell.random.any()));
        let payload: Bytes = codec::encode(&command).into();
        drop(command);
        send(cell, call, id, payload).await.result
    }

    /// The same under a key of the caller's own: for a day, another sending of the same request is
    /// answered what this one is, without another effect.
    pub async fn command_once(
        &self,
        call: Call,
        key: IdempotencyKey,
        command: S::Command,
    ) -> CommandOutcome<S> {
        let cell = self.cell_of(&command);
        let IdempotencyKey { owner, command: id, fingerprint, sending } = key;
        let payload: Bytes = codec::encode(&command).into();
        drop(command);
        let keyed = Keyed { owner, fingerprint, sending, payload };
        send(cell, call, id, codec::encode(&keyed).into()).await
    }

    fn cell_of(&self, command: &S::Command) -> &Arc<ShardCell<S>> {
        &self.shards[usize::from(self.shard_of(S::bucket(command)))]
    }

    /// Asks the shard that owns `bucket`.
    ///
    /// # Errors
    /// A refusal of the service, or why there is no answer.
    pub async fn query(&self, call: Call, bucket: Bucket, query: S::Query) -> QueryResult<S> {
        self.query_shard(call, self.shard_of(bucket), query).await
    }

    /// Asks a shard by its number.
    ///
    /// # Errors
    /// A refusal of the service, or why there is no answer.
    pub async fn query_shard(&self, call: Call, shard: u16, query: S::Query) -> QueryResult<S> {
        let cell = &self.shards[usize::from(shard)];
        while let Some(actor) = serving(cell, call.deadline).await {
            let permit = permit(cell, &cell.query_permits)?;
            let (answer, answered) = oneshot::channel();
            let query = query.clone();
            let (sent, waiting) = (time::mark(), cell.metrics.waiting());
            let envelope =
                QueryEnvelope { query, sent, _permit: permit, _waiting: waiting, answer };
            if actor.cast(ShardMessage::Query(envelope)).is_ok() {
                match time::timeout_at(call.deadline, answered).await {
                    Ok(Ok(answer)) => return answer,
                    Ok(Err(_dead)) => {}
                    Err(_elapsed) => return Err(CallError::DeadlineExceeded),
                }
            }
            cell.metrics.resent();
            if !gone(cell, &actor, call.deadline).await {
                break;
            }
        }
        Err(CallError::Unavailable)
    }

    /// The version of a shard's slot now.
    pub fn version(&self, shard: u16, slot: Slot) -> Version {
        self.shards[usize::from(shard)].versions.of(slot)
    }

    /// That of each of these slots in every shard.
    pub fn version_everywhere(&self, slots: &[Slot]) -> Version {
        self.shards.iter().flat_map(|cell| slots.iter().map(|slot| cell.versions.of(*slot))).sum()
    }

    /// Counts a query that this shard was spared, as its answer was kept.
    pub fn spared(&self, shard: u16) {
        self.shards[usize::from(shard)].metrics.spared();
    }

    /// The same of every shard.
    pub fn spared_everywhere(&self) {
        self.shards.iter().for_each(|cell| cell.metrics.spared());
    }

    /// What callers find the shard by.
    #[cfg(test)]
    pub(crate) fn cell(&self, shard: u16) -> &ShardCell<S> {
        &self.shards[usize::from(shard)]
    }

    /// Makes the shard's actor panic.
    #[cfg(test)]
    pub(crate) fn crash(&self, shard: u16) {
        if let Some(actor) = self.shards[usize::from(shard)].current_actor() {
            let _ = actor.cast(ShardMessage::Crash);
        }
    }
}

/// Sends a command until there is an answer or its time is over, always under the same id.
async fn send<S: StateMachine>(
    cell: &ShardCell<S>,
    call: Call,
    id: CommandId,
    payload: Bytes,
) -> CommandOutcome<S> {
    let ended = |error| Outcome { result: Err(error), replayed: false };
    if cell.disk.is_full() {
        return ended(CallError::DiskFull);
    }
    let permit = match permit(cell, &cell.command_permits) {
        Ok(permit) => Arc::new(permit),
        Err(error) => return ended(error),
    };
    let left = call.deadline.saturating_duration_since(time::now());
    let deadline = cell.now().plus_ms(left.as_millis() as u64);
    let mut sent_once = false;
    while let Some(actor) = serving(cell, call.deadline).await {
        let (reply, answer) = oneshot::channel();
        let message = ShardMessage::Command(CommandEnvelope {
            id,
            deadline,
            payload: payload.clone(),
            sent: time::mark(),
            _permit: Some(permit.clone()),
            _waiting: cell.metrics.waiting(),
            reply: Some(ReplyTo::Caller(reply)),
            span: tracing::Span::current(),
        });
        if actor.cast(message).is_ok() {
            match time::timeout_at(call.deadline, answer).await {
                // The first sending may have been in time.
                Ok(Ok(Outcome { result: Err(CallError::DeadlineExceeded), .. })) if sent_once => {
                    break;
                }
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_dead)) => sent_once = true,
                Err(_elapsed) => return ended(CallError::UnknownOutcome),
            }
        }
        cell.metrics.resent();
        if !gone(cell, &actor, call.deadline).await {
            break;
        }
    }
    ended(if sent_once { CallError::UnknownOutcome } else { CallError::Unavailable })
}

fn permit<S: StateMachine>(
    cell: &ShardCell<S>,
    permits: &Arc<Semaphore>,
) -> Result<OwnedSemaphorePermit, CallError<S::Refusal>> {
    Semaphore::try_acquire_owned(permits.clone()).map_err(|error| match error {
        TryAcquireError::NoPermits => {
            cell.metrics.overloaded();
            CallError::Overloaded
        }
        TryAcquireError::Closed => CallError::Unavailable,
    })
}

/// The serving actor, waited for until the deadline.
async fn serving<S: StateMachine>(
    cell: &ShardCell<S>,
    deadline: Instant,
) -> Option<ActorRef<ShardMessage<S>>> {
    if let Some(actor) = cell.current_actor() {
        return Some(actor);
    }
    let mut published = cell.actor();
    let found = published.wait_for(Option::is_some);
    let found = time::timeout_at(deadline, found).await.ok()?.ok()?;
    found.as_ref().map(|published| published.actor.clone())
}

/// Waits until a dead actor is not the published one any more; false at the deadline.
async fn gone<S: StateMachine>(
    cell: &ShardCell<S>,
    dead: &ActorRef<ShardMessage<S>>,
    deadline: Instant,
) -> bool {
    let mut published = cell.actor();
    let other = published
        .wait_for(|now| now.as_ref().is_none_or(|now| now.actor.get_id() != dead.get_id()));
    time::timeout_at(deadline, other).await.is_ok()
}
