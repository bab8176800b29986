//! What other services may learn of users.

use serde::{Deserialize, Serialize};

use crate::actors::user::message::Feedback;
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
    /// A reader began or ceased to follow a tag.
    TagFollowChanged {
        /// The reader.
        user: UserId,
        /// The tag, in lower case.
        tag: String,
        /// Began or ceased.
        on: bool,
    },
    /// A reader began or ceased to mute a tag.
    TagMuteChanged {
        /// The reader.
        user: UserId,
        /// The tag, in lower case.
        tag: String,
        /// Began or ceased.
        on: bool,
    },
    /// A reader said what to do about a post; replaces what the reader said before.
    FeedbackGiven {
        /// The reader.
        user: UserId,
        /// About which post.
        post: PostId,
        /// What the reader wishes.
        what: Feedback,
    },
    /// Every read of a post left the reader's history, because the reader wished so.
    ReadForgotten {
        /// The reader.
        user: UserId,
        /// Which post.
        post: PostId,
    },
    /// What a reader said about a post is no longer so.
    FeedbackWithdrawn {
        /// The reader.
        user: UserId,
        /// About which post.
        post: PostId,
    },
}

impl Record for Event {
    const KIND: u8 = 19;
}
