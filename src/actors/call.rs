//! How a call to a shard ends when it does not end with an answer.

use crate::actors::state_machine::Refusal;
use crate::error::ErrorCode;
use crate::ids::CommandId;

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError<R> {
    /// The service says no: final, without effect.
    #[error(transparent)]
    Refused(R),
    /// No capacity at the moment; certainly no effect.
    #[error("no capacity at the moment")]
    Overloaded,
    /// The disk is full: the node only reads until there is room; certainly no effect.
    #[error("the disk is full: the node only reads until there is room")]
    DiskFull,
    /// The shard did not come back before the deadline; certainly no effect.
    #[error("the shard cannot be reached at the moment")]
    Unavailable,
    /// Too late; certainly no effect.
    #[error("not finished before the deadline")]
    DeadlineExceeded,
    /// Sent, but not answered before the deadline: it may or may not have happened.
    #[error("it may or may not have happened")]
    UnknownOutcome,
    /// The idempotency key was used with another request; certainly no effect of this one.
    #[error("the idempotency key was used with another request")]
    KeyReused,
    /// A fault of ours, kept as a dead letter.
    #[error("an internal fault")]
    Internal,
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome<T, R> {
    /// The reply, or why there is none.
    pub result: Result<T, CallError<R>>,
    /// It is what became of an earlier sending under the same idempotency key.
    pub replayed: bool,
}

/// A key that a client gave a command, so that it can send it again for a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose key it is; each owner has so many and no more.
    pub owner: u64,
    /// Derived from owner, route and key.
    pub command: CommandId,
    /// Hash of the request: another one under the same key is refused.
    pub fingerprint: [u8; 16],
    /// Random: which sending of the request this is.
    pub sending: u64,
}

impl<R: Refusal> CallError<R> {
    /// The outcome that the edge knows how to show.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Overloaded => ErrorCode::Overloaded,
            Self::Unavailable | Self::DiskFull => ErrorCode::Unavailable,
            Self::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            Self::UnknownOutcome => ErrorCode::UnknownOutcome,
            Self::KeyReused => ErrorCode::Invalid,
            Self::Internal => ErrorCode::Internal,
        }
    }
}
