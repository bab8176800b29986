//! Rows of the user service. Private: another service sees only messages and events.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::actors::state_machine::Table;
use crate::actors::user::message::{Account, Attempt, ClaimKind};
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::Record;

/// Names of the tables in the file, in the order of the constants below. Only appended to.
pub(super) const TABLES: &[&str] =
    &["users", "claims", "void_claims", "follows", "mutes", "blocks", "blocked_by", "history"];

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
/// (user, time, post) → empty.
pub(super) const HISTORY: Table = Table(7);

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
    let mut key = [0; 16];
    key[..8].copy_from_slice(&user.0.to_be_bytes());
    key[8..].copy_from_slice(&other.0.to_be_bytes());
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

/// The value of a row whose key says everything.
pub(super) fn empty() -> Bytes {
    Bytes::new()
}
