//! What other services may learn of users.

use serde::{Deserialize, Serialize};

use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::Record;

/// Facts, already durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A user exists now.
    UserCreated {
        /// Who.
        user: UserId,
    },
    /// A follow began or ended.
    FollowChanged {
        /// The follower.
        user: UserId,
        /// The followed.
        target: UserId,
        /// Began or ended.
        on: bool,
    },
    /// A mute began or ended.
    MuteChanged {
        /// Who mutes.
        user: UserId,
        /// Who is muted.
        target: UserId,
        /// Began or ended.
        on: bool,
    },
    /// A block began or ended.
    BlockChanged {
        /// Who blocks.
        user: UserId,
        /// Who is blocked.
        target: UserId,
        /// Began or ended.
        on: bool,
    },
    /// A post was read.
    PostRead {
        /// The reader.
        user: UserId,
        /// What.
        post: PostId,
        /// When.
        at: Stamp,
    },
}

impl Record for Event {
    const KIND: u8 = 19;
}
