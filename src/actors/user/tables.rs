//! Rows of the user service. Private: another service sees only messages and events.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::actors::state_machine::Table;
use crate::actors::user::message::{Account, Attempt, ClaimKind, Depth, Feedback};
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::Record;

/// Names of the tables in the file, in the order of the constants below. Only appended to.
pub(super) const TABLES: &[&str] = &[
    "users",
    "claims",
    "void_claims",
    "follows",
    "mutes",
    "blocks",
    "blocked_by",
    "history",
    "history_sizes",
    "tag_follows",
    "tag_mutes",
    "feedback",
    "edge_counts",
];

/// User → [`UserRow`].
pub(super) const USERS: Table = Table(0);
/// Kind and normal form → [`ClaimRow`].
pub(super) const CLAIMS: Table = Table(1);
/// Attempt → stamp: attempts that lost their claim before they created anything.
pub(super) const VOID_CLAIMS: Table = Table(2);
/// (user, target) → empty.
pub(super) const FOLLOWS: Table = Table(3);
/// (user, target) → empty.
pub(super) const MUTES: Table = Table(4);
/// (user, target) → empty.
pub(super) const BLOCKS: Table = Table(5);
/// (user, blocker) → empty.
pub(super) const BLOCKED_BY: Table = Table(6);
/// (user, time, post) → [`ReadRow`], or empty from a program that knew no depth.
pub(super) const HISTORY: Table = Table(7);
/// User → [`HistorySizeRow`]; absent: the history was not counted yet.
pub(super) const HISTORY_SIZES: Table = Table(8);
/// (user, lower-case tag) → [`TagRow`].
pub(super) const TAG_FOLLOWS: Table = Table(9);
/// (user, lower-case tag) → [`TagRow`].
pub(super) const TAG_MUTES: Table = Table(10);
/// (user, post) → [`FeedbackRow`].
pub(super) const FEEDBACK: Table = Table(11);
/// (user, table of edges) → [`EdgeCountRow`]; absent: the edges were not counted yet.
pub(super) const EDGE_COUNTS: Table = Table(12);

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UserRow {
    pub(super) username: String,
    pub(super) name_normal: String,
    pub(super) name_attempt: Attempt,
    pub(super) email: String,
    pub(super) email_normal: String,
    pub(super) email_attempt: Attempt,
    pub(super) password_hash: Option<String>,
    pub(super) bio: Option<String>,
    pub(super) image: Option<String>,
    pub(super) token_generation: u32,
    pub(super) created_at: Stamp,
}

impl Record for UserRow {
    const KIND: u8 = 20;
}

impl UserRow {
    pub(super) fn account(&self, id: UserId) -> Account {
        Account {
            id,
            username: self.username.clone(),
            email: self.email.clone(),
            bio: self.bio.clone(),
            image: self.image.clone(),
            token_generation: self.token_generation,
            created_at: self.created_at,
        }
    }

    /// Whether the user bears this name or address, won by this attempt or another.
    pub(super) fn bears(&self, kind: ClaimKind, normal: &str) -> bool {
        match kind {
            ClaimKind::Name => self.name_normal == normal,
            ClaimKind::Email => self.email_normal == normal,
        }
    }
}

/// Who claims a name or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimRow {
    pub(super) owner: UserId,
    pub(super) attempt: Attempt,
    pub(super) at: Stamp,
}

impl Record for ClaimRow {
    const KIND: u8 = 21;
}

/// A read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReadRow {
    pub(super) depth: Option<Depth>,
}

impl Record for ReadRow {
    const KIND: u8 = 22;
}

/// How long a reader's history is, and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HistorySizeRow {
    /// Number of reads.
    pub(super) reads: u32,
    /// The oldest read, [`NOWHERE`] for none: what was trimmed before it is not walked over again.
    pub(super) oldest: (Stamp, PostId),
}

/// Behind every read.
pub(super) const NOWHERE: (Stamp, PostId) = (Stamp(u64::MAX), PostId(u64::MAX));

impl Record for HistorySizeRow {
    const KIND: u8 = 23;
}

/// A followed or muted tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagRow {
    pub(super) shown: String,
}

impl Record for TagRow {
    const KIND: u8 = 24;
}

/// What a reader said about a post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FeedbackRow {
    pub(super) what: Feedback,
    pub(super) at: Stamp,
}

impl Record for FeedbackRow {
    const KIND: u8 = 25;
}

/// How many edges of one kind a user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EdgeCountRow {
    pub(super) edges: u32,
}

impl Record for EdgeCountRow {
    const KIND: u8 = 26;
}

pub(super) fn user_key(user: UserId) -> [u8; 8] {
    user.0.to_be_bytes()
}

pub(super) fn claim_key(kind: ClaimKind, normal: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + normal.len());
    key.push(match kind {
        ClaimKind::Name => b'n',
        ClaimKind::Email => b'e',
    });
    key.extend_from_slice(normal.as_bytes());
    key
}

pub(super) fn edge_key(user: UserId, other: UserId) -> [u8; 16] {
    pair_key(user, other.0)
}

fn pair_key(user: UserId, end: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&user.0.to_be_bytes());
    key[8..].copy_from_slice(&end.to_be_bytes());
    key
}

pub(super) fn edge_count_key(user: UserId, Table(edges): Table) -> [u8; 9] {
    let mut key = [0; 9];
    key[..8].copy_from_slice(&user.0.to_be_bytes());
    key[8] = edges;
    key
}

/// The far end of an edge; `None` for a key that is none.
pub(super) fn edge_end(key: &[u8]) -> Option<UserId> {
    Some(UserId(u64::from_be_bytes(key.get(8..16)?.try_into().ok()?)))
}

pub(super) fn history_key(user: UserId, at: Stamp, post: PostId) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&user.0.to_be_bytes());
    key[8..16].copy_from_slice(&at.0.to_be_bytes());
    key[16..].copy_from_slice(&post.0.to_be_bytes());
    key
}

/// Time and post of a history key; `None` for a key that is none.
pub(super) fn history_entry(key: &[u8]) -> Option<(Stamp, PostId)> {
    let at = u64::from_be_bytes(key.get(8..16)?.try_into().ok()?);
    let post = u64::from_be_bytes(key.get(16..24)?.try_into().ok()?);
    Some((Stamp(at), PostId(post)))
}

pub(super) fn tag_key(user: UserId, normal: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + normal.len());
    key.extend_from_slice(&user.0.to_be_bytes());
    key.extend_from_slice(normal.as_bytes());
    key
}

/// The lower-case tag of a tag key; `None` for a key that is none.
pub(super) fn tag_of_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(8..)?).ok()
}

pub(super) fn feedback_key(user: UserId, post: PostId) -> [u8; 16] {
    pair_key(user, post.0)
}

/// The post of a feedback key; `None` for a key that is none.
pub(super) fn feedback_post(key: &[u8]) -> Option<PostId> {
    edge_end(key).map(|end| PostId(end.0))
}

/// The value of a row whose key says everything.
pub(super) fn empty() -> Bytes {
    Bytes::new()
}
