//! What a shard actor receives.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::actors::call::{CallError, Outcome};
use crate::actors::relay::message::{FeedRequest, OutboxRequest, RuntimeReply};
use crate::actors::replica::port::{CommittedEntry, ProposeError};
use crate::actors::shard::propose::Gathering;
use crate::actors::shard_cell::ShardCell;
use crate::actors::shard_metrics::Waiting;
use crate::actors::state_machine::StateMachine;
use crate::config::COMMAND_DEADLINE;
use crate::ids::{CommandId, Stamp};
use crate::seams::time;
use crate::store::outbox::Acknowledged;

/// Where the answer to a command goes.
pub(crate) type ReplyPort<S> =
    oneshot::Sender<Outcome<<S as StateMachine>::Reply, <S as StateMachine>::Refusal>>;
/// Where the answer to a query goes.
pub(crate) type AnswerPort<S> =
    oneshot::Sender<Result<<S as StateMachine>::Answer, CallError<<S as StateMachine>::Refusal>>>;

/// Who waits for what becomes of a command.
pub(crate) enum ReplyTo<S: StateMachine> {
    /// A caller of the service.
    Caller(ReplyPort<S>),
    /// A part of the runtime.
    Runtime(oneshot::Sender<RuntimeReply>),
}

/// What a shard actor receives.
pub(crate) enum ShardMessage<S: StateMachine> {
    /// A wish to change state.
    Command(CommandEnvelope<S>),
    /// A question.
    Query(QueryEnvelope<S>),
    /// To itself, behind what already waits: propose what has gathered; if it comes after a turn of everybody
    /// else, unless another one may bring more.
    Flush(Option<Gathering>),
    /// The replica has committed these. An incarnation older than the newest never gets here.
    Committed(Arc<[CommittedEntry]>),
    /// The batch with this number was not proposed, or nobody knows.
    ProposeFailed(u64, ProposeError),
    /// A replica has come or gone.
    ReplicaChanged,
    /// The time that the service asked for has come.
    Wake,
    /// A relay asks what there is for a subscriber.
    Outbox(OutboxRequest),
    /// A subscriber has everything up to here.
    Acknowledged(Acknowledged),
    /// A relay asks what of its source was seen.
    Feed(FeedRequest),
    /// A checkpoint needs the state of a memory-kept service: stage a part of it.
    Checkpoint {
        /// Parts so far; 0 begins.
        step: u32,
    },
    /// Panic where no catch is: what a fault of ours would do.
    #[cfg(test)]
    Crash,
}

/// A command on its way.
pub(crate) struct CommandEnvelope<S: StateMachine> {
    pub(crate) id: CommandId,
    /// `apply` refuses the command when its stamp is later.
    pub(crate) deadline: Stamp,
    /// The encoded command.
    pub(crate) payload: Bytes,
    pub(crate) sent: Instant,
    /// Bounds the mailbox; `None` for the shard's own.
    pub(crate) _permit: Option<Arc<OwnedSemaphorePermit>>,
    pub(crate) _waiting: Waiting,
    pub(crate) reply: Option<ReplyTo<S>>,
    pub(crate) span: tracing::Span,
}

impl<S: StateMachine> CommandEnvelope<S> {
    /// Whether nobody waits for it any more. It was not proposed, so it can be forgotten.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.reply {
            Some(ReplyTo::Caller(port)) => port.is_closed(),
            Some(ReplyTo::Runtime(port)) => port.is_closed(),
            None => false,
        }
    }

    /// A command of the service that no caller sent.
    pub(crate) fn of_service(cell: &ShardCell<S>, payload: Bytes) -> Self {
        let deadline = cell.now().plus_ms(COMMAND_DEADLINE.as_millis() as u64);
        Self { deadline, ..Self::of_runtime(cell, payload, None) }
    }

    /// A command of the runtime: it may be applied twice, so it is not remembered, and has all time.
    pub(crate) fn of_runtime(
        cell: &ShardCell<S>,
        payload: Bytes,
        reply: Option<ReplyTo<S>>,
    ) -> Self {
        Self {
            id: CommandId(cell.random.any()),
            deadline: Stamp(u64::MAX),
            payload,
            sent: time::mark(),
            _permit: None,
            _waiting: cell.metrics.waiting(),
            reply,
            span: tracing::Span::none(),
        }
    }
}

/// A query on its way.
pub(crate) struct QueryEnvelope<S: StateMachine> {
    pub(crate) query: S::Query,
    pub(crate) sent: Instant,
    pub(crate) _permit: OwnedSemaphorePermit,
    pub(crate) _waiting: Waiting,
    pub(crate) answer: AnswerPort<S>,
}
