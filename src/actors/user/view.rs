//! Users, what belongs to them and what they wish, as messages carry it.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::actors::rendered::{Rendered, escaped_bytes};
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::seams::Random;

/// What a claim is about. Claims live in the shard of the hash of what they claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClaimKind {
    /// A user name, normalised (NFKC, case folded).
    Name,
    /// An e-mail address, normalised.
    Email,
}

/// One attempt to own a name or address. Whoever takes over an expired claim first makes the
/// attempt void in the claimant's own shard, so that a late creation is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attempt(pub u64);

impl Attempt {
    /// A number of its own, ordered by time.
    pub fn new(now: Stamp, random: &Random) -> Self {
        Self(UserId::new(now, Bucket::new(random.any())).0)
    }
}

/// A name or address as it is shown and as it is compared.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// As the user wrote it.
    pub shown: String,
    /// Normalised by the edge, so that the rule is not part of the replayed command.
    pub normal: String,
    /// The attempt that claimed it.
    pub attempt: Attempt,
}

impl std::fmt::Debug for Claimed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claimed").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// A user's own view of the account. Never logged: it holds an address.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Whose.
    pub id: UserId,
    /// Shown name.
    pub username: String,
    /// Address.
    pub email: String,
    /// About the user.
    pub bio: Option<String>,
    /// Address of a picture.
    pub image: Option<String>,
    /// A token is valid only while it carries this number.
    pub token_generation: u32,
    /// When the account was made.
    pub created_at: Stamp,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a post query and a page need to know of a signed-in reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// Who reads.
    pub id: UserId,
    /// Tokens with another number are not valid.
    pub token_generation: u32,
    /// Followed users, ascending by id.
    pub follows: Vec<UserId>,
    /// Muted users, ascending by id.
    pub mutes: Vec<UserId>,
    /// Who blocks this reader, ascending by id.
    pub blocked_by: Vec<UserId>,
}

impl Viewer {
    /// Whether the reader follows this user.
    pub fn follows(&self, user: UserId) -> bool {
        self.follows.binary_search(&user).is_ok()
    }

    /// Whether this user blocks the reader.
    pub fn is_blocked_by(&self, user: UserId) -> bool {
        self.blocked_by.binary_search(&user).is_ok()
    }

    /// What it takes in memory, its place in a cache included.
    pub(crate) fn bytes(&self) -> usize {
        let edges = [&self.follows, &self.mutes, &self.blocked_by];
        200 + edges.iter().map(|edges| edges.capacity() * size_of::<UserId>()).sum::<usize>()
    }
}

/// What a reader wants in no list that recommends, beside the posts of muted authors, which
/// [`Viewer`] names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Blocked users, ascending by id.
    pub blocks: Vec<UserId>,
    /// Muted tags in lower case, ascending.
    pub tags: Vec<String>,
    /// Posts that are to be shown never again, ascending by id.
    pub posts: Vec<PostId>,
}

impl Hidden {
    /// Whether the reader blocks this user.
    pub fn blocks(&self, user: UserId) -> bool {
        self.blocks.binary_search(&user).is_ok()
    }

    /// Whether the reader mutes this tag, in any case.
    pub fn mutes_tag(&self, tag: &str) -> bool {
        // Most readers mute none: then no tag is brought to lower case.
        !self.tags.is_empty() && self.tags.binary_search(&tag.to_lowercase()).is_ok()
    }

    /// Whether the reader hid this post.
    pub fn hides(&self, post: PostId) -> bool {
        self.posts.binary_search(&post).is_ok()
    }

    /// What it takes in memory, its place in a cache included.
    pub(crate) fn bytes(&self) -> usize {
        let Self { blocks, tags, posts } = self;
        let texts: usize = tags.iter().map(String::capacity).sum();
        200 + size_of_val(&blocks[..]) + size_of_val(&tags[..]) + size_of_val(&posts[..]) + texts
    }
}

/// The public face of a user.
#[derive(Debug, Default)]
pub struct Card {
    /// Shown name.
    pub username: String,
    /// About the user.
    pub bio: Option<String>,
    /// Address of a picture.
    pub image: Option<String>,
    /// The card as the edge renders it: what the user tells of himself; his face.
    pub rendered: OnceLock<Rendered<2>>,
}

impl Card {
    /// What it takes in memory once it is rendered, its place in a cache included.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [Some(&self.username), self.bio.as_ref(), self.image.as_ref()];
        let kept = |text: &String| text.len() + escaped_bytes(text.as_bytes());
        300 + texts.into_iter().flatten().map(kept).sum::<usize>()
    }
}

/// One user with what belongs to it, for export. What was not asked for is empty.
#[derive(Debug)]
pub struct ExportedUser {
    /// The account.
    pub account: Account,
    /// PHC string; shown only when asked for.
    pub password_hash: Option<String>,
    /// Followed users.
    pub follows: Vec<UserId>,
    /// Muted users.
    pub mutes: Vec<UserId>,
    /// Blocked users.
    pub blocks: Vec<UserId>,
    /// Followed tags.
    pub tag_follows: Vec<Tag>,
    /// Muted tags.
    pub tag_mutes: Vec<Tag>,
    /// History, oldest first.
    pub reads: Vec<Read>,
    /// Feedback, oldest first.
    pub feedback: Vec<Said>,
}

/// What an export wants of users beside their accounts: each pass only what it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportPart {
    /// Nothing.
    Accounts,
    /// Whom they follow.
    Follows,
    /// Their history.
    Reads,
    /// The tags that they follow and mute.
    Tags,
    /// What they said about posts.
    Feedback,
    /// Whom they mute and block.
    Hidden,
}

/// One read of a post by somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// What was read.
    pub post: PostId,
    /// When.
    pub at: Stamp,
    /// How far down; `None` when it was not told.
    pub depth: Option<Depth>,
}

/// How much of a post was read, in per cent: 0–100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Depth(u8);

impl Depth {
    /// Per cent, if that is not more than the whole.
    pub fn new(percent: u8) -> Option<Self> {
        (percent <= 100).then_some(Self(percent))
    }

    /// Per cent.
    pub fn percent(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Depth {
    type Error = &'static str;

    fn try_from(percent: u8) -> Result<Self, Self::Error> {
        Self::new(percent).ok_or("more than 100 per cent")
    }
}

impl From<Depth> for u8 {
    fn from(depth: Depth) -> Self {
        depth.0
    }
}

/// A tag as it is shown and as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// As the reader wrote it.
    pub shown: String,
    /// In lower case, made so by the edge: the rule is not part of the replayed command.
    pub normal: String,
}

/// What a reader wishes about a post in recommendations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Feedback {
    /// Fewer posts like this one.
    Less,
    /// Never this post again.
    Hide,
}

/// What a reader said about a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// About which post.
    pub post: PostId,
    /// What the reader wishes.
    pub what: Feedback,
    /// When it was said.
    pub at: Stamp,
}

/// What a reader chose to read of, and not to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interests {
    /// Followed tags, by their lower-case form.
    pub tag_follows: Vec<Tag>,
    /// Muted tags, by their lower-case form.
    pub tag_mutes: Vec<Tag>,
    /// Followed users, ascending by id.
    pub follows: Vec<UserId>,
    /// Muted users, ascending by id.
    pub mutes: Vec<UserId>,
}

/// A kind of edge between users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edges {
    /// To followed users.
    Follows,
    /// To muted users.
    Mutes,
    /// To blocked users.
    Blocks,
}

/// A place in a list in descending order. What it names need not exist (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<K> {
    /// What is below this, the highest of it first.
    After(K),
    /// What is above this, the lowest of it first.
    Before(K),
}

impl<K> Place<K> {
    /// The same place by another key.
    pub fn map<T>(self, key: impl FnOnce(K) -> T) -> Place<T> {
        match self {
            Self::After(place) => Place::After(key(place)),
            Self::Before(place) => Place::Before(key(place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_viewers_and_cards_weigh_more() {
        let many = vec![UserId(1); 10_000];
        let viewer = Viewer {
            id: UserId(1),
            token_generation: 0,
            follows: many.clone(),
            mutes: many.clone(),
            blocked_by: many,
        };
        assert!(viewer.bytes() > 240_000);
        let tags = vec!["x".repeat(160); 500];
        let hidden = Hidden { blocks: viewer.follows, tags, posts: vec![PostId(1); 1_000] };
        assert!(hidden.bytes() > 80_000 + 80_000 + 8_000);
        let card = |bio: &str| Card { bio: Some(bio.repeat(2_000)), ..Card::default() };
        assert!(card("\u{1}").bytes() >= 7 * 2_000);
        assert!(card("x").bytes() >= 2 * 2_000);
    }
}
