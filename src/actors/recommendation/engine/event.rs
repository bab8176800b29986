//! What the engine learns from: facts of other services, in the order of its own log.

use serde::{Deserialize, Serialize};

use crate::actors::signature::Signature;
use crate::ids::{PostId, Stamp, UserId};

/// A fact. All times come with it: the engine has no clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A post exists in a new version: published, edited, hidden or shown again.
    PostChanged {
        /// Which.
        post: PostId,
        /// Whose; `None` where nobody knows any more.
        author: Option<UserId>,
        /// Grows with every change: an older or equal one is ignored.
        version: u64,
        /// Whether everybody may see it now.
        is_listed: bool,
        /// First publication.
        published_at: Stamp,
        /// Its tags; the first five count.
        tags: Vec<String>,
        /// What its text is about.
        signature: Signature,
    },
    /// A post is gone for ever. Nothing brings it back, whatever its version.
    PostDeleted {
        /// Which.
        post: PostId,
    },
    /// A reader read a post, or did something that shows it.
    Interacted {
        /// Who.
        reader: UserId,
        /// With which post; it need not be known yet.
        post: PostId,
        /// What was done.
        how: Interaction,
        /// When. Not in the future: the caller clamps it to the stamp of its log entry.
        at: Stamp,
    },
    /// A reader deleted a read from the history.
    ReadForgotten {
        /// Who.
        reader: UserId,
        /// Which post.
        post: PostId,
    },
    /// An account is gone: nothing of the reader is kept.
    ReaderErased {
        /// Who.
        reader: UserId,
    },
    /// A follow of an author began or ended.
    AuthorFollowed {
        /// Who.
        reader: UserId,
        /// Whom.
        author: UserId,
        /// Began or ended.
        is_on: bool,
    },
    /// A reader wants to see nothing of an author; or again.
    AuthorMuted {
        /// Who.
        reader: UserId,
        /// Whom.
        author: UserId,
        /// Began or ended.
        is_on: bool,
    },
    /// A follow of a tag began or ended.
    TagFollowed {
        /// Who.
        reader: UserId,
        /// Which tag.
        tag: String,
        /// Began or ended.
        is_on: bool,
    },
    /// A reader wants to see nothing with a tag; or again.
    TagMuted {
        /// Who.
        reader: UserId,
        /// Which tag.
        tag: String,
        /// Began or ended.
        is_on: bool,
    },
    /// A reader's word on a recommendation.
    Feedback {
        /// Who.
        reader: UserId,
        /// On which post.
        post: PostId,
        /// What.
        what: Feedback,
    },
    /// Posts were shown to a reader as recommendations. It says nothing new if they were before.
    Shown {
        /// To whom.
        reader: UserId,
        /// Which.
        posts: Vec<PostId>,
    },
    /// Somebody blocked another, or not any more: neither sees posts of the other. It says nothing
    /// about either to anybody else.
    Blocked {
        /// Who blocks.
        user: UserId,
        /// Who is blocked.
        target: UserId,
        /// Began or ended.
        is_on: bool,
    },
    /// The owner of a post says that not everybody may see it, though this version of it was taken
    /// for listed. Without effect on any other version.
    Denied {
        /// Which post.
        post: PostId,
        /// The version that was taken for listed.
        version: u64,
    },
    /// A reader took back what was said about a post: it may be shown again.
    FeedbackWithdrawn {
        /// Who.
        reader: UserId,
        /// About which post.
        post: PostId,
    },
}

/// What a reader did with a post. All count as one read: only the first of a reader and post does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interaction {
    /// Read it.
    Read,
    /// Favored it.
    Favorite,
    /// Commented on it.
    Comment,
}

/// A reader's word on a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Feedback {
    /// Never show me this post.
    Hide,
    /// Not this post, and less with its tags and by its author.
    Less,
}
