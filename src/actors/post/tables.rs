//! What a post looks like on disk: tables, keys, row records.
//!
//! Every value starts with kind and schema version (`store::codec`). Keys are big-endian, so that
//! their order is the order of what they name.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::actors::escape;
use crate::actors::post::message::{Body, Comment, ImportKey, Summary, Visibility};
use crate::actors::state_machine::{Count, ReadTables, Table};
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::{self, CodecError, Record};
use crate::store::error::StoreError;

/// Names of the tables; a [`Table`] below is an index into this list, which only ever grows.
pub(super) const NAMES: &[&str] = &[
    "summaries",
    "bodies",
    "favorites",
    "favorite_counts",
    "comments",
    "comment_numbers",
    "lists",
    "counts",
    "tags",
    "tags_by_use",
    "schedule",
    "imports",
    "tombstones",
    "tags_version",
    "counts_by_owner",
];

/// Post → [`SummaryRow`].
pub(super) const SUMMARIES: Table = Table(0);
/// Post → body, see [`encode_body`]. Apart from the summary: lists read no bodies.
pub(super) const BODIES: Table = Table(1);
/// Post, user → [`FavoriteRow`].
pub(super) const FAVORITES: Table = Table(2);
/// Post → [`Count`]; absent is none. Apart from the summary: a favorite does not rewrite it.
pub(super) const FAVORITE_COUNTS: Table = Table(3);
/// Post, number → [`CommentRow`].
pub(super) const COMMENTS: Table = Table(4);
/// Post → [`CommentNumberRow`].
pub(super) const COMMENT_NUMBERS: Table = Table(5);
/// List, place in it → [`ListRow`]; see `lists.rs`.
pub(super) const LISTS: Table = Table(6);
/// What [`COUNTS`] was in earlier programs, see `upgrade.rs`; empty.
pub(super) const OLD_COUNTS: Table = Table(7);
/// Lower-case tag → [`TagRow`], for tags with public posts.
pub(super) const TAGS: Table = Table(8);
/// Order of magnitude (descending), lower-case tag → [`TagRow`].
pub(super) const TAGS_BY_USE: Table = Table(9);
/// Time, post → [`ScheduleRow`].
pub(super) const SCHEDULE: Table = Table(10);
/// Import key → [`ImportRow`].
pub(super) const IMPORTS: Table = Table(11);
/// Post → [`TombstoneRow`].
pub(super) const TOMBSTONES: Table = Table(12);
/// One row with an empty key: [`TagsVersionRow`].
pub(super) const TAGS_VERSION: Table = Table(13);
/// List → [`Count`], a table of counts; see [`ListId::count_key`]. Totals of public tags are in [`TAGS`] instead.
///
/// [`ListId::count_key`]: super::lists::ListId::count_key
pub(super) const COUNTS: Table = Table(14);

/// A post without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SummaryRow {
    pub(super) author: UserId,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) tags: Vec<String>,
    pub(super) visibility: Visibility,
    pub(super) created_at: Stamp,
    pub(super) updated_at: Stamp,
    pub(super) published_at: Option<Stamp>,
    pub(super) publish_at: Option<Stamp>,
    pub(super) link_token: [u8; 16],
    pub(super) version: u64,
    /// Identity of an imported post.
    pub(super) import: Option<ImportKey>,
}

impl Record for SummaryRow {
    const KIND: u8 = 36;
}

impl SummaryRow {
    /// The row as queries answer it.
    pub(super) fn into_summary(self, id: PostId) -> Summary {
        Summary {
            id,
            author: self.author,
            title: self.title,
            description: self.description,
            tags: self.tags,
            visibility: self.visibility,
            created_at: self.created_at,
            updated_at: self.updated_at,
            published_at: self.published_at,
            publish_at: self.publish_at,
            link_token: self.link_token,
            version: self.version,
            rendered: Default::default(),
        }
    }
}

/// Kind of a body row, whose payload is the JSON string that readers are sent, so that it is read
/// without a copy.
const BODY_KIND: u8 = 37;
const BODY_VERSION: u8 = 2;
/// The payload of rows that earlier programs wrote is the text.
const BODY_TEXT_VERSION: u8 = 1;
const BODY_HEADER: [u8; 2] = [BODY_KIND, BODY_VERSION];

/// The row of a body, and the body, which shares its memory.
pub(super) fn encode_body(text: &str) -> (Bytes, Body) {
    let row = escape::string_after(&BODY_HEADER, text);
    let body = Body::of_json(row.slice(BODY_HEADER.len()..)).expect("a string was written");
    (row, body)
}

/// The body in a row.
pub(super) fn decode_body(row: &Bytes) -> Result<Body, CodecError> {
    let malformed = |what: &dyn std::fmt::Display| CodecError::Malformed(what.to_string());
    let text = |bytes| std::str::from_utf8(bytes).map_err(|error| malformed(&error));
    match &row[..] {
        [BODY_KIND, BODY_VERSION, json @ ..] => {
            text(json)?;
            let body = Body::of_json(row.slice(BODY_HEADER.len()..));
            body.ok_or_else(|| malformed(&"a body that is no string"))
        }
        [BODY_KIND, BODY_TEXT_VERSION, bytes @ ..] => Ok(Body::of_text(text(bytes)?)),
        [BODY_KIND, found, ..] => Err(CodecError::Version { kind: BODY_KIND, found: *found }),
        _ => Err(CodecError::Kind { expected: BODY_KIND }),
    }
}

/// The text of a body.
pub(super) fn text_of(body: &Body) -> Result<String, StoreError> {
    body.text().ok_or_else(|| damaged("a body is no text"))
}

/// Somebody favors a post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FavoriteRow {
    /// Since when.
    pub(super) at: Stamp,
}

impl Record for FavoriteRow {
    const KIND: u8 = 38;
}

/// A post's place in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListRow {
    /// So that the posts of those who block the reader are passed over without reading them.
    pub(super) author: UserId,
}

impl Record for ListRow {
    const KIND: u8 = 40;
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommentRow {
    pub(super) author: UserId,
    pub(super) body: String,
    pub(super) created_at: Stamp,
    pub(super) updated_at: Stamp,
}

impl Record for CommentRow {
    const KIND: u8 = 41;
}

impl CommentRow {
    /// The row as queries answer it.
    pub(super) fn into_comment(self, number: u32) -> Comment {
        Comment {
            number,
            author: self.author,
            body: self.body,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// What a post has of comments.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommentNumberRow {
    /// The highest number that a comment of it ever had.
    pub(super) last: u32,
    /// Bytes of the comments it has now.
    pub(super) bytes: u64,
}

impl Record for CommentNumberRow {
    const KIND: u8 = 42;
}

/// A tag with public posts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagRow {
    /// As its first public post wrote it.
    pub(super) shown: String,
    /// How many public posts bear it; never 0.
    pub(super) posts: u64,
}

impl Record for TagRow {
    const KIND: u8 = 43;
}

/// What an imported record became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ImportRow {
    Post(PostId),
    Comment { number: u32, created_at: Stamp },
}

impl Record for ImportRow {
    const KIND: u8 = 44;
}

/// A post waits for its time; the key says all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ScheduleRow;

impl Record for ScheduleRow {
    const KIND: u8 = 45;
}

/// A post was deleted; its id is dead for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TombstoneRow {
    /// Higher than that of any change.
    pub(super) version: u64,
    pub(super) deleted_at: Stamp,
}

impl Record for TombstoneRow {
    const KIND: u8 = 46;
}

/// Stamp of the last command that changed a count of [`TAGS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagsVersionRow {
    pub(super) version: Stamp,
}

impl Record for TagsVersionRow {
    const KIND: u8 = 47;
}

/// Reads and decodes a row.
pub(super) fn read<R: Record>(
    tables: &ReadTables<'_>,
    table: Table,
    key: &[u8],
) -> Result<Option<R>, StoreError> {
    let Some(value) = tables.get(table, key)? else { return Ok(None) };
    Ok(Some(codec::decode(&value)?))
}

/// Reads a count, which is 0 where there is no row.
pub(super) fn read_count(
    tables: &ReadTables<'_>,
    table: Table,
    key: &[u8],
) -> Result<u64, StoreError> {
    Ok(read::<Count>(tables, table, key)?.map_or(0, |row| row.0))
}

/// Key of what there is one of per post.
pub(super) fn post_key(post: PostId) -> [u8; 8] {
    post.0.to_be_bytes()
}

/// The post of a key that starts with one.
pub(super) fn post_of_key(key: &[u8]) -> Result<PostId, StoreError> {
    Ok(PostId(leading_u64(key)?))
}

/// Key of a favorite.
pub(super) fn favorite_key(post: PostId, user: UserId) -> [u8; 16] {
    two(post.0, user.0)
}

/// The user of a [`favorite_key`].
pub(super) fn user_of_favorite_key(key: &[u8]) -> Result<UserId, StoreError> {
    Ok(UserId(leading_u64(key.get(8..).unwrap_or_default())?))
}

/// Key of a comment.
pub(super) fn comment_key(post: PostId, number: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&post_key(post));
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The number of a [`comment_key`].
pub(super) fn number_of_comment_key(key: &[u8]) -> Result<u32, StoreError> {
    let number = key.get(8..).and_then(|tail| tail.try_into().ok()).ok_or_else(malformed_key)?;
    Ok(u32::from_be_bytes(number))
}

/// Key of a scheduled post.
pub(super) fn schedule_key(at: Stamp, post: PostId) -> [u8; 16] {
    two(at.0, post.0)
}

/// Time and post of a [`schedule_key`].
pub(super) fn due_of_key(key: &[u8]) -> Result<(Stamp, PostId), StoreError> {
    Ok((Stamp(leading_u64(key)?), post_of_key(key.get(8..).unwrap_or_default())?))
}

/// Key of an imported post, or with `post` of an imported comment on it.
pub(super) fn import_key(post: Option<PostId>, import: &[u8; 16]) -> Vec<u8> {
    let mut key = comment_imports_prefix(post);
    key.extend_from_slice(import);
    key
}

/// What the keys of all imported comments on a post start with.
pub(super) fn comment_imports_prefix(post: Option<PostId>) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.push(u8::from(post.is_some()));
    if let Some(post) = post {
        key.extend_from_slice(&post_key(post));
    }
    key
}

/// Key in [`TAGS_BY_USE`].
///
/// The order is by magnitude, not by the exact count: a popular tag then moves rarely, and leaves
/// few deletions in the memtable for a page to step over.
pub(super) fn use_key(posts: u64, lower: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + lower.len());
    key.extend_from_slice(&(!magnitude(posts)).to_be_bytes());
    key.extend_from_slice(lower.as_bytes());
    key
}

/// Magnitude and lower-case tag of a [`use_key`].
pub(super) fn tag_of_use_key(key: &[u8]) -> Result<(u16, &str), StoreError> {
    let (magnitude, lower) = key.split_first_chunk::<2>().ok_or_else(malformed_key)?;
    let lower = std::str::from_utf8(lower).map_err(|_| malformed_key())?;
    Ok((!u16::from_be_bytes(*magnitude), lower))
}

/// A count below this is its own magnitude; above, a doubling has 16 steps.
pub(super) const MAGNITUDE_EXACT: u16 = 32;

fn magnitude(count: u64) -> u16 {
    if count < u64::from(MAGNITUDE_EXACT) {
        return count as u16;
    }
    let log = count.ilog2();
    ((log as u16 - 3) << 4) | ((count >> (log - 4)) & 15) as u16
}

fn two(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

fn leading_u64(key: &[u8]) -> Result<u64, StoreError> {
    key.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(malformed_key)
}

/// A key that this program did not write.
pub(super) fn malformed_key() -> StoreError {
    damaged("a key is malformed")
}

/// Rows that contradict one another.
pub(super) fn damaged(detail: &str) -> StoreError {
    StoreError::Damaged { path: Default::default(), detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_rise_with_counts_and_small_ones_are_exact() {
        for count in 0..u64::from(MAGNITUDE_EXACT) {
            assert_eq!(u64::from(magnitude(count)), count);
        }
        let counts = (0..100_000).chain((17..64).map(|bits| 1 << bits)).chain([u64::MAX]);
        assert!(counts.map(magnitude).is_sorted());
        assert!(magnitude(u64::MAX) < u16::MAX);
    }
}
