//! Files of earlier programs, in which counts lay list by list, and every post for feeds had a row of its own.

use crate::actors::post::lists::{ListId, Scope, Shelf};
use crate::actors::post::tables::{self, COUNTS, LISTS, OLD_COUNTS};
use crate::actors::state_machine::{Count, OldFile};
use crate::ids::UserId;
use crate::store::codec;
use crate::store::error::StoreError;

/// Rows that are held in memory at once.
const CHUNK_ROWS: usize = 10_000;
/// What the keys of rows of [`Shelf::ForFollowers`] begin with, once of all posts for feeds.
const FEED: u8 = 4;
/// What those of [`Shelf::Author`] begin with.
const AUTHOR: u8 = 2;

/// Brings a file up to date.
pub(super) fn upgrade(file: &OldFile<'_>) -> Result<(), StoreError> {
    upgrade_in_chunks(file, CHUNK_ROWS)
}

/// The same, with so many rows in memory at once.
pub(super) fn upgrade_in_chunks(file: &OldFile<'_>, rows: usize) -> Result<(), StoreError> {
    if !file.lacked(COUNTS) {
        return Ok(());
    }
    drop_public_posts_of_feeds(file, rows)?;
    move_counts(file, rows)
}

/// Public posts are in feeds by their row in the list of their author.
fn drop_public_posts_of_feeds(file: &OldFile<'_>, rows_max: usize) -> Result<(), StoreError> {
    let mut start = vec![FEED];
    loop {
        let rows = file.rows(LISTS, &start, rows_max)?;
        let mut doubled = Vec::new();
        for (key, _) in rows.iter().filter(|(key, _)| key[0] == FEED) {
            if file.get(LISTS, &public_part(key))?.is_some() {
                doubled.push((key.clone(), None));
            }
        }
        file.write(LISTS, doubled)?;
        match rows.into_iter().nth(rows_max - 1) {
            Some((last, _)) if last[0] == FEED => start = [&last[..], &[0]].concat(),
            _ => return Ok(()),
        }
    }
}

fn move_counts(file: &OldFile<'_>, rows_max: usize) -> Result<(), StoreError> {
    let mut start = Vec::new();
    loop {
        let rows = file.rows(OLD_COUNTS, &start, rows_max)?;
        let mut moved = Vec::with_capacity(rows.len());
        for (key, value) in &rows {
            let list = list_of(key).ok_or_else(tables::malformed_key)?;
            let Count(mut count) = codec::decode(value)?;
            if key[0] == FEED
                && let Some(public) = file.get(OLD_COUNTS, &public_part(key))?
            {
                let left = count.checked_sub(codec::decode::<Count>(&public)?.0);
                count = left.ok_or_else(|| tables::damaged("a feed is shorter than its part"))?;
            }
            if count > 0 {
                moved.push((list.count_key(), Some(codec::encode(&Count(count)))));
            }
        }
        file.write(COUNTS, moved)?;
        match rows.into_iter().nth(rows_max - 1) {
            Some((last, _)) => start = [&last[..], &[0]].concat(),
            None => return file.clear(OLD_COUNTS),
        }
    }
}

/// The key of what a feed's row or count has in common with the author's public list.
fn public_part(of_feed: &[u8]) -> Vec<u8> {
    [&[AUTHOR], &of_feed[1..]].concat()
}

/// The list of a key of [`OLD_COUNTS`].
fn list_of(key: &[u8]) -> Option<ListId> {
    let (kind, mut rest) = key.split_first()?;
    let shelf = match kind {
        0 => Shelf::All,
        1 => {
            let length = u32::from_be_bytes(rest.split_off(..4)?.try_into().ok()?);
            let tag = rest.split_off(..usize::try_from(length).ok()?)?;
            Shelf::Tag(std::str::from_utf8(tag).ok()?.into())
        }
        &AUTHOR => Shelf::Author(user(&mut rest)?),
        3 => Shelf::FavoritedBy(user(&mut rest)?),
        &FEED => Shelf::ForFollowers(user(&mut rest)?),
        _ => return None,
    };
    let scope = match rest.split_off_first()? {
        0 => Scope::Public,
        1 => Scope::Own(user(&mut rest)?),
        2 => Scope::PublicOf(user(&mut rest)?),
        _ => return None,
    };
    rest.is_empty().then_some(ListId { shelf, scope })
}

/// The user that a key goes on with.
fn user(rest: &mut &[u8]) -> Option<UserId> {
    let bytes = rest.split_off(..8)?;
    Some(UserId(u64::from_be_bytes(bytes.try_into().ok()?)))
}
