//! The contract of the post service: what it is told and asked, and what it answers.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::actors::post::progress::Progress;
pub use crate::actors::post::view::{
    Body, Comment, CopiedPost, ExportedPost, Origin, Personal, PostView, Summary,
};
pub use crate::actors::post::visibility::{Reader, is_listed, lists_as_stranger, sees_as_stranger};
use crate::actors::state_machine::Refusal;
use crate::actors::user::message::Viewer;
use crate::error::ErrorCode;
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::store::codec::Record;

/// Who may see a post; decided in `visibility.rs` and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Visibility {
    /// Everybody, in every list.
    Public,
    /// Followers of the author, in their feed and by its address.
    Followers,
    /// Everybody who has the link with its token; in no list.
    Unlisted,
    /// The author, until its time comes.
    Scheduled,
    /// The author.
    Draft,
}

/// Identity of an imported record: a hash of its key, or of file digest and line. The same record
/// imported twice has an effect once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImportKey(pub [u8; 16]);

/// Commands of the post service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates a post. Replies [`Reply::Post`].
    CreatePost {
        /// Names the shard; part of the id. Random, or `Bucket::of_key` of an import key.
        bucket: Bucket,
        /// Who writes.
        author: UserId,
        /// 1–300 characters.
        title: String,
        /// At most 1,000 characters.
        description: String,
        /// 1 B–256 KiB.
        body: String,
        /// As sent; compared by their lower-case form.
        tags: Vec<String>,
        /// Who may see it.
        visibility: Visibility,
        /// Time of publication of a scheduled post.
        publish_at: Option<Stamp>,
        /// Secret part of the link of an unlisted post.
        link_token: [u8; 16],
        /// Time of an imported post; none: now. Decides its place in lists.
        created_at: Option<Stamp>,
        /// Identity of an imported post: a second one replies the first one's id.
        import: Option<ImportKey>,
    },
    /// Changes a post; `None` keeps, and anything else counts as a change, be it the same again.
    /// Only its author may. Replies [`Reply::Post`].
    EditPost {
        /// Which.
        post: PostId,
        /// Who asks.
        editor: Reader,
        /// New title.
        title: Option<String>,
        /// New description.
        description: Option<String>,
        /// New body.
        body: Option<String>,
        /// New tags.
        tags: Option<Vec<String>>,
        /// Only if the post still has this version.
        if_version: Option<u64>,
    },
    /// Publishes a post with a visibility, or schedules it. Replies [`Reply::Post`].
    PublishPost {
        /// Which.
        post: PostId,
        /// Who asks.
        editor: Reader,
        /// Public, Followers, Unlisted, or Scheduled together with `at`.
        visibility: Visibility,
        /// When, for Scheduled.
        at: Option<Stamp>,
        /// Secret part of the link of an unlisted post.
        link_token: [u8; 16],
    },
    /// Makes a post a draft again. Replies [`Reply::Post`].
    UnpublishPost {
        /// Which.
        post: PostId,
        /// Who asks.
        editor: Reader,
    },
    /// Deletes a post for ever; its id never comes back. Replies [`Reply::Done`].
    DeletePost {
        /// Which.
        post: PostId,
        /// Who asks.
        editor: Reader,
        /// Only if the post still has this version.
        if_version: Option<u64>,
    },
    /// The same as [`Self::Favor`], sent by older programs only. Replies [`Reply::Done`].
    SetFavorite {
        /// Which.
        post: PostId,
        /// Who.
        reader: Reader,
        /// Set or clear.
        on: bool,
    },
    /// Comments on a post that the commenter can see; for an imported comment that is not asked.
    /// Replies [`Reply::Comment`].
    AddComment {
        /// Which post.
        post: PostId,
        /// Who.
        reader: Reader,
        /// 1 B–16 KiB.
        body: String,
        /// Time of an imported comment; none: now.
        created_at: Option<Stamp>,
        /// Identity of an imported comment.
        import: Option<ImportKey>,
    },
    /// Deletes a comment; only its author may. Replies [`Reply::Done`].
    DeleteComment {
        /// Which post.
        post: PostId,
        /// Which comment of it.
        number: u32,
        /// Who asks.
        reader: Reader,
    },
    /// Publishes the scheduled posts whose time has come, a bounded number at a time. Proposed by
    /// the leader's clock. Replies [`Reply::Done`].
    PublishDue {
        /// Any bucket of the shard.
        bucket: Bucket,
    },
    /// Sets a favorite that an operator imports. Whether the user may see the post is not asked:
    /// it was so once. A repetition changes nothing. Replies [`Reply::Done`].
    ImportFavorite {
        /// Which.
        post: PostId,
        /// Who.
        user: UserId,
    },
    /// Sets or clears a favorite; a repetition changes nothing. Nobody favors what he cannot see.
    /// Replies [`Reply::Favorites`].
    Favor {
        /// Which.
        post: PostId,
        /// Who.
        reader: Reader,
        /// Set or clear.
        on: bool,
    },
}

impl Record for Command {
    const KIND: u8 = 32;
}

impl Command {
    /// The bucket whose shard applies this command.
    pub fn bucket(&self) -> Bucket {
        match self {
            Self::CreatePost { bucket, .. } | Self::PublishDue { bucket } => *bucket,
            Self::EditPost { post, .. }
            | Self::PublishPost { post, .. }
            | Self::UnpublishPost { post, .. }
            | Self::DeletePost { post, .. }
            | Self::SetFavorite { post, .. }
            | Self::AddComment { post, .. }
            | Self::DeleteComment { post, .. }
            | Self::ImportFavorite { post, .. }
            | Self::Favor { post, .. } => post.bucket(),
        }
    }
}

/// Answers to commands. Small, for they are remembered with the command id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is so now.
    Done,
    /// The post that was made or changed.
    Post {
        /// Which.
        id: PostId,
        /// Its version now.
        version: u64,
    },
    /// The comment that was made.
    Comment {
        /// Its number within the post, from 1.
        number: u32,
        /// When.
        created_at: Stamp,
    },
    /// How many users favor the post now.
    Favorites(u64),
}

impl Record for Reply {
    const KIND: u8 = 33;
}

/// What a list is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Every post.
    All,
    /// Posts with this tag (any case).
    Tag(String),
    /// Posts of this author.
    Author(UserId),
    /// Posts that this user favors.
    FavoritedBy(UserId),
}

/// Position of a post in every list: newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SortKey {
    /// Publication time (creation time for what was never published).
    pub at: Stamp,
    /// Breaks ties: two posts of one moment.
    pub post: PostId,
}

/// A place between the posts of a list. The post of the key need not exist (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// What is older than this, newest first.
    After(SortKey),
    /// What is newer than this, the oldest of it first.
    Before(SortKey),
}

/// Questions to the post service. `viewer: None` is an anonymous reader; `progress` starts as its
/// default.
#[derive(Debug, Clone)]
pub enum Query {
    /// One post with body. [`Answer::Post`]; refuses `NotFound` for what the viewer may not see.
    GetPost {
        /// Which.
        post: PostId,
        /// For whom.
        viewer: Option<Arc<Viewer>>,
        /// Secret part of the link, if the address carried one.
        link_token: Option<[u8; 16]>,
        /// The version whose body the caller has: it is not answered again.
        known: Option<u64>,
        /// Whether to say if the viewer favors it; else it says no.
        favorited: bool,
    },
    /// The keys at a window of a list, newest first, and the true total, of this shard. Where several
    /// shards hold the list, which keys lie before the window is known only together: the edge asks for
    /// them too, merges, and fetches the winners with [`Self::GetPosts`]. [`Answer::Keys`].
    ListKeys {
        /// All filters that must hold; empty is every post.
        filters: Vec<Filter>,
        /// For whom.
        viewer: Option<Arc<Viewer>>,
        /// Which: ends at most [`crate::config::PAGE_MAX`] after [`crate::config::OFFSET_MAX`].
        window: Range<usize>,
        /// How far the answer has come.
        progress: Progress,
    },
    /// At most `limit` keys beyond a place of a list, of this shard, however deep it lies.
    /// [`Answer::KeysFrom`].
    ListKeysFrom {
        /// All filters that must hold; empty is every post.
        filters: Vec<Filter>,
        /// For whom.
        viewer: Option<Arc<Viewer>>,
        /// Where to begin; none is the newest post.
        place: Option<Place>,
        /// How many; at most one more than [`crate::config::PAGE_MAX`].
        limit: usize,
        /// How far the answer has come.
        progress: Progress,
    },
    /// The same of the feed: the posts of followed authors, without muted ones. [`Answer::Keys`].
    FeedKeys {
        /// For whom.
        viewer: Arc<Viewer>,
        /// As in [`Self::ListKeys`].
        window: Range<usize>,
        /// How far the answer has come.
        progress: Progress,
    },
    /// What in this shard is one reader's own. [`Answer::Personal`].
    GetPersonal {
        /// Who.
        user: UserId,
        /// How far the answer has come.
        progress: Progress,
    },
    /// Posts without body, in the order asked; what the viewer may not see by its address (any
    /// more) is left out. [`Answer::Posts`].
    GetPosts {
        /// Which; all of this shard.
        posts: Vec<PostId>,
        /// For whom.
        viewer: Option<Arc<Viewer>>,
        /// Whether to say which of them the viewer favors; else of none.
        favorited: bool,
    },
    /// All comments of a post, by number. [`Answer::Comments`]; refuses `NotFound`.
    ListComments {
        /// Which post.
        post: PostId,
        /// For whom.
        viewer: Option<Arc<Viewer>>,
        /// Secret part of the link, if the address carried one.
        link_token: Option<[u8; 16]>,
        /// How far the answer has come.
        progress: Progress,
    },
    /// Tags of public posts with the number of those posts, most used first, at most `limit`.
    /// [`Answer::Tags`].
    ListTags {
        /// At most so many.
        limit: usize,
    },
    /// A page of posts of this shard in order of their ids, for export, with everything on them.
    /// A page may be shorter than asked; an empty one is the end. [`Answer::Exported`].
    Export {
        /// Only ids above this one.
        after: PostId,
        /// At most so many.
        limit: usize,
    },
    /// A page of posts of this shard in order of their ids, for services that keep a copy. A page may
    /// be shorter than asked; an empty one is the end. [`Answer::Copied`].
    Copy {
        /// Only ids above this one.
        after: PostId,
        /// At most so many.
        limit: usize,
    },
    /// The post that was imported under a key, deleted or not; asked of the bucket that it was
    /// created in. [`Answer::Imported`].
    FindImported {
        /// Its identity.
        key: ImportKey,
    },
    /// Where posts came from, in the order asked. [`Answer::Origins`].
    GetOrigins {
        /// Which; all of this shard.
        posts: Vec<PostId>,
    },
}

/// Answers to queries. What is shared comes as `Arc` straight from the shard's cache.
#[derive(Debug)]
pub enum Answer {
    /// See [`Query::GetPost`]. No body: it is that of the known version.
    Post(PostView, Option<Body>),
    /// See [`Query::ListKeys`] and [`Query::FeedKeys`].
    Keys {
        /// The keys, newest first.
        keys: Vec<SortKey>,
        /// All that match, in this shard.
        total: u64,
    },
    /// See [`Query::ListKeysFrom`]: in the order of reading, away from the place.
    KeysFrom(Vec<SortKey>),
    /// See [`Query::GetPersonal`].
    Personal(Personal),
    /// See [`Query::GetPosts`].
    Posts(Vec<PostView>),
    /// See [`Query::ListComments`].
    Comments(Vec<Comment>),
    /// Tag as its first public post wrote it, and its number of public posts.
    Tags {
        /// The tags, most used first, then by their lower-case name.
        tags: Arc<Vec<(String, u64)>>,
        /// Grows with every change, across restarts too: an answer of the same version (and limit)
        /// is the same answer.
        version: u64,
    },
    /// See [`Query::Export`].
    Exported(Vec<ExportedPost>),
    /// See [`Query::Copy`].
    Copied(Vec<CopiedPost>),
    /// See [`Query::FindImported`].
    Imported(Option<PostId>),
    /// See [`Query::GetOrigins`].
    Origins(Vec<Origin>),
}

/// Why the post service says no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// No such post, or not for this viewer.
    #[error("there is no such post")]
    NotFound,
    /// No such comment.
    #[error("there is no such comment")]
    CommentNotFound,
    /// The post can be seen, but is somebody else's.
    #[error("the post belongs to somebody else")]
    Forbidden,
    /// The comment can be seen, but is somebody else's.
    #[error("the comment belongs to somebody else")]
    CommentForbidden,
    /// The post has moved on: fetch it again.
    #[error("the post has version {current} now")]
    VersionMismatch {
        /// Its version.
        current: u64,
    },
    /// The numbers of a post's comments are used up.
    #[error("not more than {0} comments on a post")]
    TooManyComments(u32),
    /// A time of publication that is missing or lies behind us.
    #[error("a scheduled post needs a time in the future")]
    ScheduleInvalid,
    /// The comments of a post take as many bytes as they may; one that is deleted makes room.
    #[error("the post has as many comments as it can hold")]
    CommentsFull,
}

impl Record for Error {
    const KIND: u8 = 34;
}

impl Refusal for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound | Self::CommentNotFound => ErrorCode::NotFound,
            Self::Forbidden | Self::CommentForbidden => ErrorCode::Forbidden,
            Self::VersionMismatch { .. } => ErrorCode::Conflict,
            Self::TooManyComments(_) | Self::ScheduleInvalid | Self::CommentsFull => {
                ErrorCode::Invalid
            }
        }
    }
}
