//! Events that wait for subscribers, and who these are: the source's side of event delivery.
//!
//! An event is a row of its own, keyed by its position, so that it is read in order from any
//! position on. Counts and sizes are running sums carried by the rows: what waits, and how far
//! behind a subscriber is, is a difference, and nothing is ever counted.
//!
//! **Invariants**: O1 an event enters in the merge of the command that caused it; O2 positions and
//! counts only grow; O3 an event is gone only when every subscriber that follows has acknowledged
//! it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{EventPosition, LogIndex, ShardName, Stamp};
use crate::store::codec::{self, CodecError, Record};
use crate::store::error::StoreError;
use crate::store::feed::row_key;
use crate::store::memtable::{FEEDS, OUTBOX};
use crate::store::row_key::RowKey;
use crate::store::shard_state::ShardState;
use crate::store::tables::{ReadTables, Tables};

/// Key of the head among the rows about feeds.
const HEAD_KEY: &[u8] = &[0];
/// First byte of the keys of subscribers.
const SUBSCRIBER_PREFIX: u8 = 1;
/// Rows that are deleted at a time, so that the readers of the shard hardly notice.
const TRIM_ROWS_MAX: usize = 4096;

/// A place in the stream of events and the sums up to it, the event at this place included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) position: EventPosition,
    /// Events so far.
    pub(crate) count: u64,
    /// Their keys and values, in bytes.
    pub(crate) bytes: u64,
}

/// Both ends of the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The newest event.
    pub(crate) last: Mark,
    /// The last event that is gone.
    pub(crate) trimmed: Mark,
}

impl Record for Head {
    const KIND: u8 = 5;
}

/// What the source knows of one subscribing shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscriber {
    /// The subscriber has everything up to here, at least.
    pub(crate) acknowledged: Mark,
    /// Rebuilds so far: the subscriber's own position counts only within one.
    pub(crate) epoch: u32,
    /// Where it began to follow in this epoch: what it must have copied.
    pub(crate) since: EventPosition,
    /// It lacks events that are gone, and must be rebuilt.
    pub(crate) is_lost: bool,
}

impl Record for Subscriber {
    const KIND: u8 = 6;
}

/// An acknowledgement: everything up to `mark`, of this epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acknowledged {
    pub(crate) subscriber: ShardName,
    pub(crate) epoch: u32,
    pub(crate) mark: Mark,
}

/// An event in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutboxEvent {
    pub(crate) mark: Mark,
    /// Of the command that caused it.
    pub(crate) stamp: Stamp,
    /// The encoded event.
    pub(crate) event: Bytes,
}

/// Rows of events start with kind and version, then stamp and sums; what follows is the event as its
/// own record. Not a codec record, so that an event is encoded once and read without a copy.
const ROW_KIND: u8 = 4;
const ROW_VERSION: u8 = 1;
const ROW_HEADER_BYTES: usize = 26;
const KEY_BYTES: usize = 12;

/// The outbox of a shard as the shard keeps it at hand; everything is in the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outbox {
    head: Head,
    subscribers: BTreeMap<ShardName, Subscriber>,
}

impl Outbox {
    /// What the rows say.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        let head = tables.get(FEEDS, HEAD_KEY)?;
        let head = head.map(|row| codec::decode(&row)).transpose()?.unwrap_or_default();
        let mut subscribers = BTreeMap::new();
        for row in tables.prefix(FEEDS, &[SUBSCRIBER_PREFIX], &[SUBSCRIBER_PREFIX])? {
            let (key, row) = row?;
            subscribers.insert(subscriber_of(&key)?, codec::decode(&row)?);
        }
        Ok(Self { head, subscribers })
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// Whether anybody subscribes, or has left something behind.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.subscribers.is_empty() || self.head.trimmed != self.head.last
    }

    /// Those that the log knows.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ShardName> {
        self.subscribers.keys()
    }

    pub(crate) fn subscriber(&self, name: &ShardName) -> Option<&Subscriber> {
        self.subscribers.get(name)
    }

    /// Those that follow.
    pub(crate) fn followers(&self) -> impl Iterator<Item = (&ShardName, &Subscriber)> {
        self.subscribers.iter().filter(|(_, subscriber)| !subscriber.is_lost)
    }

    /// Whether events are kept at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.followers().next().is_some()
    }

    /// Stages events of the entry `index` and returns the head that holds once they are merged; give
    /// it to [`Self::appended`] then.
    pub(crate) fn append<E: Record>(
        &self,
        tables: &mut Tables<'_>,
        index: LogIndex,
        stamp: Stamp,
        events: &[E],
    ) -> Head {
        let mut head = self.head;
        for event in events {
            let last = head.last.position;
            let number = if last.index == index { last.number + 1 } else { 0 };
            let position = EventPosition { index, number };
            debug_assert!(position > last, "O2");
            let mut row = Vec::with_capacity(ROW_HEADER_BYTES + 64);
            row.resize(ROW_HEADER_BYTES, 0);
            codec::encode_into(event, &mut row);
            let bytes = head.last.bytes + (KEY_BYTES + row.len()) as u64;
            head.last = Mark { position, count: head.last.count + 1, bytes };
            write_header(&mut row, stamp, &head.last);
            tables.put(OUTBOX, event_key(position), row);
        }
        write_head(tables, &head);
        head
    }

    /// What [`Self::append`] staged was merged.
    pub(crate) fn appended(&mut self, head: Head) {
        self.head = head;
    }

    /// Events after `after`, in order: at most `events_max` and about `bytes_max`, at least one if
    /// there is any.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub(crate) fn page(
        &self,
        tables: &ReadTables<'_>,
        after: EventPosition,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<OutboxEvent>, StoreError> {
        if after >= self.head.last.position {
            return Ok(Vec::new());
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        for row in tables.range(OUTBOX, &first_key_after(after), None)? {
            let event = decode_row(row?)?;
            bytes += event.event.len();
            events.push(event);
            if events.len() >= events_max || bytes >= bytes_max {
                break;
            }
        }
        Ok(events)
    }

    /// Makes these the subscribers. One that is new to a shard that has done something already has
    /// missed events, and must be rebuilt.
    pub(crate) fn declare(&mut self, shard: &mut ShardState, declared: &[ShardName]) {
        let is_fresh = shard.progress.last_stamp == Stamp(0);
        let known = std::mem::take(&mut self.subscribers);
        let last = self.head.last;
        for name in declared {
            let since = last.position;
            let new = Subscriber { acknowledged: last, epoch: 0, since, is_lost: !is_fresh };
            let subscriber = known.get(name).copied().unwrap_or(new);
            self.subscribers.insert(name.clone(), subscriber);
        }
        shard.change(|tables| {
            for name in known.keys().filter(|name| !self.subscribers.contains_key(name)) {
                tables.delete(FEEDS, row_key(SUBSCRIBER_PREFIX, name));
            }
            for (name, subscriber) in &self.subscribers {
                write_subscriber(tables, name, subscriber);
            }
        });
    }

    /// Takes acknowledgements, gives up subscribers (by name and epoch), and deletes a bounded part
    /// of what nobody needs any more (O3). Saying the same twice changes nothing.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub(crate) fn settle(
        &mut self,
        shard: &mut ShardState,
        acknowledged: &[Acknowledged],
        given_up: &[(ShardName, u32)],
    ) -> Result<(), StoreError> {
        for Acknowledged { subscriber: name, epoch, mark } in acknowledged {
            let Some(known) = self.subscribers.get_mut(name) else { continue };
            if known.epoch == *epoch && !known.is_lost {
                known.acknowledged = known.acknowledged.max(*mark).min(self.head.last);
            }
        }
        for (name, epoch) in given_up {
            let Some(known) = self.subscribers.get_mut(name) else { continue };
            if known.epoch <= *epoch {
                (known.is_lost, known.epoch) = (true, *epoch);
            }
        }
        let named = acknowledged.iter().map(|known| &known.subscriber);
        let changed: Vec<&ShardName> = named.chain(given_up.iter().map(|(name, _)| name)).collect();
        shard.change(|tables| {
            for name in changed {
                if let Some(subscriber) = self.subscribers.get(name) {
                    write_subscriber(tables, name, subscriber);
                }
            }
        });
        self.trim(shard)
    }

    /// Lets a lost subscriber follow again, from the end of the outbox on, in a new epoch. One that
    /// follows goes on as it does. Returns its row.
    pub(crate) fn resume(
        &mut self,
        shard: &mut ShardState,
        name: &ShardName,
    ) -> Option<Subscriber> {
        let last = self.head.last;
        let subscriber = self.subscribers.get_mut(name)?;
        if subscriber.is_lost {
            let epoch = subscriber.epoch + 1;
            let since = last.position;
            *subscriber = Subscriber { acknowledged: last, epoch, since, is_lost: false };
            shard.change(|tables| write_subscriber(tables, name, subscriber));
        }
        Some(*subscriber)
    }

    /// Up to where no subscriber that follows needs anything.
    fn needless(&self) -> Mark {
        let acknowledged = self.followers().map(|(_, subscriber)| subscriber.acknowledged);
        acknowledged.min().unwrap_or(self.head.last)
    }

    /// Events that nobody needs and that are still there.
    pub(crate) fn trimmable(&self) -> u64 {
        self.needless().count.saturating_sub(self.head.trimmed.count)
    }

    fn trim(&mut self, shard: &mut ShardState) -> Result<(), StoreError> {
        let (from, to) = (self.head.trimmed.position, self.needless().position);
        if to <= from {
            return Ok(());
        }
        let (start, end) = (first_key_after(from), first_key_after(to));
        let rows = shard.read().range(OUTBOX, &start, Some(&end))?.take(TRIM_ROWS_MAX);
        let rows = rows.map(|row| decode_row(row?)).collect::<Result<Vec<_>, StoreError>>()?;
        for row in &rows {
            let position = row.mark.position;
            shard.erase(OUTBOX, &event_key(position), position.index);
            self.head.trimmed = row.mark;
        }
        let head = self.head;
        shard.change(|tables| write_head(tables, &head));
        Ok(())
    }
}

fn write_head(tables: &mut Tables<'_>, head: &Head) {
    tables.put(FEEDS, HEAD_KEY, codec::encode(head));
}

fn write_subscriber(tables: &mut Tables<'_>, name: &ShardName, subscriber: &Subscriber) {
    tables.put(FEEDS, row_key(SUBSCRIBER_PREFIX, name), codec::encode(subscriber));
}

fn subscriber_of(key: &[u8]) -> Result<ShardName, StoreError> {
    let malformed = || CodecError::Malformed("key of a subscriber".into());
    let [SUBSCRIBER_PREFIX, high, low, service @ ..] = key else { return Err(malformed().into()) };
    let service = std::str::from_utf8(service).map_err(|_| malformed())?.to_owned();
    Ok(ShardName { service, shard: u16::from_be_bytes([*high, *low]) })
}

fn event_key(position: EventPosition) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&position.index.0.to_be_bytes());
    key[8..].copy_from_slice(&position.number.to_be_bytes());
    key
}

/// Keys have one length, so the next one is above this and no other is between.
fn first_key_after(position: EventPosition) -> [u8; KEY_BYTES + 1] {
    let mut key = [0; KEY_BYTES + 1];
    key[..KEY_BYTES].copy_from_slice(&event_key(position));
    key
}

fn write_header(row: &mut [u8], stamp: Stamp, mark: &Mark) {
    row[..2].copy_from_slice(&[ROW_KIND, ROW_VERSION]);
    row[2..10].copy_from_slice(&stamp.0.to_be_bytes());
    row[10..18].copy_from_slice(&mark.count.to_be_bytes());
    row[18..26].copy_from_slice(&mark.bytes.to_be_bytes());
}

fn decode_row((key, row): (RowKey, Bytes)) -> Result<OutboxEvent, StoreError> {
    match row.get(..ROW_HEADER_BYTES) {
        Some([ROW_KIND, ROW_VERSION, ..]) => {}
        Some([ROW_KIND, found, ..]) => {
            return Err(CodecError::Version { kind: ROW_KIND, found: *found }.into());
        }
        _ => return Err(CodecError::Kind { expected: ROW_KIND }.into()),
    }
    let malformed = || CodecError::Malformed("key of an event".into());
    let (index, number) = key.split_first_chunk().ok_or_else(malformed)?;
    let index = LogIndex(u64::from_be_bytes(*index));
    let number = u32::from_be_bytes(number.try_into().map_err(|_| malformed())?);
    let word = |at: usize| {
        u64::from_be_bytes(row[at..at + 8].try_into().expect("the header has three words"))
    };
    let position = EventPosition { index, number };
    let mark = Mark { position, count: word(10), bytes: word(18) };
    Ok(OutboxEvent { mark, stamp: Stamp(word(2)), event: row.slice(ROW_HEADER_BYTES..) })
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
