//! How a call to a shard ends when it does not end with an answer.

use crate::actors::state_machine::Refusal;
use crate::error::ErrorCode;

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
    /// A fault of ours, kept as a dead letter.
    #[error("an internal fault")]
    Internal,
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
            Self::Internal => ErrorCode::Internal,
        }
    }
}
