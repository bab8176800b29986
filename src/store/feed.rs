//! What a shard has seen of the events of another: one row per source, written together with what
//! each event did.
//!
//! **Invariants**: E1 the row moves in the same merge as the effects of what it counts; E2 within an
//! epoch it never goes back.

use serde::{Deserialize, Serialize};

use crate::ids::{EventPosition, ShardName};
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;
use crate::store::memtable::FEEDS;
use crate::store::tables::{ReadTables, Tables};

/// First byte of the keys of these rows.
const PREFIX: u8 = 2;

/// All parts of an event.
const ALL: u32 = u32::MAX;

/// How far a shard has come with the events of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Feed {
    /// Counts the rebuilds: what was sent before the last one does not count any more.
    pub(crate) epoch: u32,
    /// The last event of which something was seen.
    pub(crate) position: EventPosition,
    /// How many parts of it were; [`u32::MAX`] for all, as after every complete delivery.
    parts: u32,
}

impl Record for Feed {
    const KIND: u8 = 7;
}

impl Feed {
    /// Everything up to `position`, of this epoch.
    pub(crate) fn up_to(epoch: u32, position: EventPosition) -> Self {
        Self { epoch, position, parts: ALL }
    }

    /// The row of `source`; of one that is not known, nothing was seen.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub(crate) fn read(tables: &ReadTables<'_>, source: &ShardName) -> Result<Self, StoreError> {
        match tables.get(FEEDS, &key(source))? {
            Some(row) => Ok(codec::decode(&row)?),
            None => Ok(Self::up_to(0, EventPosition::default())),
        }
    }

    /// Stages the row.
    pub(crate) fn write(&self, tables: &mut Tables<'_>, source: &ShardName) {
        tables.put(FEEDS, key(source), codec::encode(self));
    }

    /// Whether part `part` of the event at `position` was seen.
    pub(crate) fn has_seen(&self, position: EventPosition, part: u32) -> bool {
        position < self.position || (position == self.position && part < self.parts)
    }

    /// The same after part `part` of the event at `position`.
    pub(crate) fn after(&self, position: EventPosition, part: u32) -> Self {
        debug_assert!(!self.has_seen(position, part), "E2");
        Self { position, parts: part + 1, ..*self }
    }
}

fn key(source: &ShardName) -> Vec<u8> {
    row_key(PREFIX, source)
}

/// Key of a row about a shard; rows of one kind have one first byte.
pub(super) fn row_key(prefix: u8, shard: &ShardName) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(&shard.shard.to_be_bytes());
    key.extend_from_slice(shard.service.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LogIndex;

    #[test]
    fn a_part_is_seen_once() {
        let at = |index, number| EventPosition { index: LogIndex(index), number };
        let feed = Feed::up_to(0, EventPosition::default());
        assert!(!feed.has_seen(at(1, 0), 0));
        let feed = feed.after(at(1, 0), 0);
        assert!(feed.has_seen(at(1, 0), 0) && !feed.has_seen(at(1, 0), 1));
        let feed = feed.after(at(1, 0), 1);
        assert!(feed.has_seen(at(1, 0), 1) && !feed.has_seen(at(1, 1), 0));
        assert!(Feed::up_to(0, at(1, 0)).has_seen(at(1, 0), 7));
    }
}
