//! The outcomes that a caller can tell apart. Services, calls and storage map to these; only
//! `http/` maps these to HTTP.

/// A closed set: a variant exists because some caller acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request can never succeed as it is.
    Invalid,
    /// Nobody is signed in, or the token is not valid.
    Unauthenticated,
    /// The caller may see the thing but not do this to it.
    Forbidden,
    /// There is no such thing, or the caller may not see it.
    NotFound,
    /// It contradicts what is there (a name that is taken).
    Conflict,
    /// Larger than allowed.
    TooLarge,
    /// The caller does this too often.
    RateLimited,
    /// No capacity at the moment; certainly no effect.
    Overloaded,
    /// The owner of the data cannot be reached at the moment; certainly no effect.
    Unavailable,
    /// Not finished before the deadline; certainly no effect.
    DeadlineExceeded,
    /// It may or may not have happened; repeating it with the same key is safe.
    UnknownOutcome,
    /// A fault of ours.
    Internal,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::RateLimited,
        Self::Overloaded,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::UnknownOutcome,
        Self::Internal,
    ];

    /// The name used in logs, metrics and bodies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Internal => "internal",
        }
    }
}
