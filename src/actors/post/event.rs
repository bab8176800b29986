//! What other services may learn of posts.

use serde::{Deserialize, Serialize};

use crate::actors::post::message::Visibility;
use crate::actors::signature::Signature;
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::Record;

/// Facts, already durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A post exists in a new version: made, edited, published or unpublished.
    PostChanged {
        /// Which.
        post: PostId,
        /// Whose.
        author: UserId,
        /// Grows with every change: a lower one is older news.
        version: u64,
        /// Who may see it now.
        visibility: Visibility,
        /// First publication, if any.
        published_at: Option<Stamp>,
        /// Its tags.
        tags: Vec<String>,
        /// What its text is about, as long as others may read it; the default otherwise.
        signature: Signature,
    },
    /// A post is gone for ever.
    PostDeleted {
        /// Which.
        post: PostId,
        /// Whose.
        author: UserId,
        /// Higher than that of any change.
        version: u64,
    },
    /// A favorite was set or cleared.
    FavoriteChanged {
        /// Which post.
        post: PostId,
        /// Who.
        user: UserId,
        /// Set or cleared.
        on: bool,
    },
    /// Somebody commented.
    CommentAdded {
        /// Which post.
        post: PostId,
        /// Who.
        user: UserId,
        /// Which comment.
        number: u32,
    },
}

impl Record for Event {
    const KIND: u8 = 35;
}
