//! What a reader has read: recorded, bounded, forgotten.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::actors::state_machine::{Outcome, ReadTables, RowKey, Tables, refuse};
use crate::actors::user::apply::{Applied, row};
use crate::actors::user::event::Event;
use crate::actors::user::message::{Depth, Error, Place, READS_MAX, Read, Reply};
use crate::actors::user::query::rows_beyond;
use crate::actors::user::tables::{
    HISTORY, HISTORY_SIZES, HistorySizeRow, NOWHERE, ReadRow, empty, history_entry, history_key,
    user_key,
};
use crate::config::STAMP_AHEAD_MAX;
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::{decode, encode};
use crate::store::error::StoreError;

/// Most reads in a reader's history; the oldest are forgotten first. Years of a diligent reader.
pub const HISTORY_MAX: u32 = 10_000;

/// Time and post of a read: what tells it apart, and its place in the history.
type Moment = (Stamp, PostId);

/// Reads that one command forgets at most: more than one can add, so that a history that is too
/// long becomes shorter.
const FORGOTTEN_AT_ONCE: u32 = 2 * READS_MAX as u32;

/// Adds one read and bounds nothing, as older programs did.
pub(super) fn record_read(
    tables: &mut Tables<'_>,
    stamp: Stamp,
    user: UserId,
    post: PostId,
    at: Stamp,
) -> Applied {
    if at > latest(stamp) {
        return refuse(Error::InTheFuture);
    }
    if row(&tables.view(), user)?.is_none() {
        return refuse(Error::NotFound);
    }
    let key = history_key(user, at, post);
    if tables.get(HISTORY, &key)?.is_some() {
        return Ok(Outcome::reply(Reply::Done));
    }
    tables.put(HISTORY, key, empty());
    if tables.get(HISTORY_SIZES, &user_key(user))?.is_some() {
        // Not kept by this command: counted again when it is needed.
        tables.delete(HISTORY_SIZES, user_key(user));
    }
    Ok(Outcome { reply: Reply::Done, events: vec![Event::PostRead { user, post, at }] })
}

pub(super) fn record_reads(
    tables: &mut Tables<'_>,
    stamp: Stamp,
    user: UserId,
    reads: &[Option<Read>],
) -> Applied {
    if reads.len() > READS_MAX {
        return refuse(Error::TooManyReads(READS_MAX as u32));
    }
    if row(&tables.view(), user)?.is_none() {
        return refuse(Error::NotFound);
    }
    let mut size = Size::load(&tables.view(), user)?;
    let (mut added, mut unseen, mut ahead) = (Vec::new(), Vec::new(), Vec::new());
    for (place, read) in (0..).zip(reads) {
        match read {
            None => unseen.push(place),
            Some(read) if read.at > latest(stamp) => ahead.push(place),
            Some(read) => {
                if add(tables, user, read, &mut size)? {
                    added.push(*read);
                }
            }
        }
    }
    trim(tables, user, &mut size)?;
    size.save(tables, user);
    // What was older than all the others is forgotten already.
    added.retain(|read| (read.at, read.post) >= size.row.oldest);
    let new = added.len() as u32;
    let event = |read: Read| Event::PostRead { user, post: read.post, at: read.at };
    let events = added.into_iter().map(event).collect();
    Ok(Outcome { reply: Reply::Recorded { new, unseen, ahead }, events })
}

/// The latest time that a read may have: clocks differ.
fn latest(stamp: Stamp) -> Stamp {
    stamp.plus_ms(STAMP_AHEAD_MAX.as_millis() as u64)
}

/// Adds a read; false when it changes nothing.
fn add(
    tables: &mut Tables<'_>,
    user: UserId,
    read: &Read,
    size: &mut Size,
) -> Result<bool, StoreError> {
    let place = (read.at, read.post);
    // Walked over, its row would be forgotten at once.
    let is_too_old = size.row.reads >= HISTORY_MAX && place < size.row.oldest;
    let key = history_key(user, read.at, read.post);
    if is_too_old || tables.get(HISTORY, &key)?.is_some() {
        return Ok(false);
    }
    tables.put(HISTORY, key, encode(&ReadRow { depth: read.depth }));
    size.row.reads += 1;
    size.row.oldest = size.row.oldest.min(place);
    Ok(true)
}

/// Forgets the oldest reads of a history that is too long. Nobody is told: a copy has bounds of
/// its own.
fn trim(tables: &mut Tables<'_>, user: UserId, size: &mut Size) -> Result<(), StoreError> {
    let excess = size.row.reads.saturating_sub(HISTORY_MAX).min(FORGOTTEN_AT_ONCE);
    if excess > 0 {
        forget_oldest(tables, user, size, excess)?;
    }
    Ok(())
}

/// Forgets the oldest `number` reads, and answers their posts.
fn forget_oldest(
    tables: &mut Tables<'_>,
    user: UserId,
    size: &mut Size,
    number: u32,
) -> Result<BTreeSet<PostId>, StoreError> {
    // One more tells where the rest begins.
    let oldest = rows(&tables.view(), user, size.row.oldest)?.take(number as usize + 1);
    let oldest = oldest.collect::<Result<Vec<_>, _>>()?;
    let (gone, rest) = oldest.split_at(oldest.len().min(number as usize));
    let mut posts = BTreeSet::new();
    for (key, (_, post)) in gone {
        tables.delete(HISTORY, key);
        posts.insert(*post);
    }
    size.row.reads = size.row.reads.saturating_sub(gone.len() as u32);
    size.row.oldest = rest.first().map_or(NOWHERE, |(_, place)| *place);
    Ok(posts)
}

/// The walk is bounded by the history.
pub(super) fn forget_read(tables: &mut Tables<'_>, user: UserId, post: PostId) -> Applied {
    let mut size = Size::load(&tables.view(), user)?;
    let (mut kept, mut gone) = (NOWHERE, Vec::new());
    for entry in rows(&tables.view(), user, size.row.oldest)? {
        let (key, place) = entry?;
        if place.1 == post {
            gone.push(key);
        } else {
            kept = kept.min(place);
        }
    }
    if gone.is_empty() {
        return Ok(Outcome::reply(Reply::Done));
    }
    size.row.reads = size.row.reads.saturating_sub(gone.len() as u32);
    size.row.oldest = kept;
    for key in gone {
        tables.delete(HISTORY, key);
    }
    size.save(tables, user);
    Ok(Outcome { reply: Reply::Done, events: vec![Event::ReadForgotten { user, post }] })
}

pub(super) fn forget_history(tables: &mut Tables<'_>, user: UserId) -> Applied {
    let mut size = Size::load(&tables.view(), user)?;
    let posts = forget_oldest(tables, user, &mut size, FORGOTTEN_AT_ONCE)?;
    if !posts.is_empty() {
        size.save(tables, user);
    }
    let events = posts.into_iter().map(|post| Event::ReadForgotten { user, post }).collect();
    Ok(Outcome { reply: Reply::Forgotten { more: size.row.oldest != NOWHERE }, events })
}

/// How long a history is while a command changes it.
struct Size {
    row: HistorySizeRow,
    /// False while a history from before the bound was not counted to its end.
    is_exact: bool,
}

impl Size {
    fn load(tables: &ReadTables<'_>, user: UserId) -> Result<Self, StoreError> {
        if let Some(bytes) = tables.get(HISTORY_SIZES, &user_key(user))? {
            return Ok(Self { row: decode(&bytes)?, is_exact: true });
        }
        let most = HISTORY_MAX + FORGOTTEN_AT_ONCE;
        let mut row = HistorySizeRow { reads: 0, oldest: NOWHERE };
        for entry in rows(tables, user, (Stamp(0), PostId(0)))?.take(most as usize) {
            let (_, place) = entry?;
            row.reads += 1;
            row.oldest = row.oldest.min(place);
        }
        Ok(Self { row, is_exact: row.reads < most })
    }

    fn save(&self, tables: &mut Tables<'_>, user: UserId) {
        if self.is_exact {
            tables.put(HISTORY_SIZES, user_key(user), encode(&self.row));
        }
    }
}

/// The rows of a history from a place on, oldest first, with their keys.
fn rows<'a>(
    tables: &ReadTables<'a>,
    user: UserId,
    from: Moment,
) -> Result<impl Iterator<Item = Result<(RowKey, Moment), StoreError>> + use<'a>, StoreError> {
    let start = history_key(user, from.0, from.1);
    let rows = tables.prefix(HISTORY, &user_key(user), &start)?;
    Ok(rows.filter_map(|row| match row {
        Ok((key, _)) => history_entry(&key).map(|place| Ok((key, place))),
        Err(error) => Some(Err(error)),
    }))
}

/// At most `limit` reads beyond a place.
pub(super) fn page(
    tables: &ReadTables<'_>,
    user: UserId,
    place: Option<Place<Moment>>,
    limit: usize,
) -> Result<Vec<Read>, StoreError> {
    let key = |(at, post)| history_key(user, at, post);
    let rows = rows_beyond(tables, HISTORY, user, place.map(|place| place.map(key)))?;
    rows.take(limit).filter_map(read).collect()
}

/// A whole history, oldest first.
pub(super) fn all(tables: &ReadTables<'_>, user: UserId) -> Result<Vec<Read>, StoreError> {
    let rows = tables.prefix(HISTORY, &user_key(user), &user_key(user))?;
    rows.filter_map(read).collect()
}

fn read(row: Result<(RowKey, Bytes), StoreError>) -> Option<Result<Read, StoreError>> {
    let (key, value) = match row {
        Ok(row) => row,
        Err(error) => return Some(Err(error)),
    };
    let (at, post) = history_entry(&key)?;
    Some(depth(&value).map(|depth| Read { post, at, depth }))
}

fn depth(value: &[u8]) -> Result<Option<Depth>, StoreError> {
    if value.is_empty() {
        return Ok(None);
    }
    Ok(decode::<ReadRow>(value)?.depth)
}
