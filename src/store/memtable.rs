//! What was applied since the last checkpoint, in memory, ordered as the file orders it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;

use crate::store::row_key::RowKey;

/// Index into the table list that a shard was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table(pub u8);

/// Tables that the runtime keeps in every shard, beside those of the service: their numbers count
/// from the top, so that they are the same whatever the service has.
pub(crate) const RUNTIME_TABLES: [&str; 3] = ["_keys", "_outbox", "_feeds"];
/// Outcomes under the keys of clients; see [`crate::store::keys`].
pub(crate) const KEYS: Table = Table(u8::MAX - 2);
/// Events that wait for subscribers; see [`crate::store::outbox`].
pub(crate) const OUTBOX: Table = Table(u8::MAX - 1);
/// Who subscribes, and what was seen of others; see [`crate::store::outbox`], [`crate::store::feed`].
pub(crate) const FEEDS: Table = Table(u8::MAX);

impl Table {
    /// Where the table is among `tables`, those of the runtime being the last.
    pub(crate) fn slot(self, tables: usize) -> usize {
        let number = usize::from(self.0);
        let from_top = usize::from(u8::MAX) + 1 - number;
        if from_top <= RUNTIME_TABLES.len() { tables - from_top } else { number }
    }
}

/// Rough cost of one row beside its key and value: tree node, two handles, allocator slack. A short key has no memory
/// but its handle, so what is counted for it is somewhat too much.
const ROW_OVERHEAD_BYTES: usize = 112;

/// The rows of one table; `None` is a deletion that hides what the file still holds.
pub(crate) type Rows = BTreeMap<RowKey, Option<Bytes>>;

/// What was added to the counts of one table; see [`crate::store::count`].
pub(crate) type Added = BTreeMap<RowKey, i64>;

/// Ordered maps, one per table, with an estimate of the memory they take.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    tables: Vec<Rows>,
    /// Of the same tables, where they are tables of counts.
    added: Vec<Added>,
    bytes: usize,
}

impl Memtable {
    /// An empty memtable for `tables` tables, those of the runtime included.
    pub(crate) fn new(tables: usize) -> Self {
        let (tables, added) = (0..tables).map(|_| (Rows::new(), Added::new())).unzip();
        Self { tables, added, bytes: 0 }
    }

    /// An empty one for the same tables.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.tables.len())
    }

    /// Estimated memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes a row, or with `None` its deletion.
    pub(crate) fn put(&mut self, table: Table, key: RowKey, value: Option<Bytes>) {
        self.put_at(table.slot(self.tables.len()), key, value);
    }

    fn put_at(&mut self, slot: usize, key: RowKey, value: Option<Bytes>) {
        let added = value.as_ref().map_or(0, Bytes::len);
        let key_bytes = key.len();
        match self.tables[slot].insert(key, value) {
            Some(old) => {
                self.bytes = self.bytes.saturating_sub(old.as_ref().map_or(0, Bytes::len)) + added;
            }
            None => self.bytes += key_bytes + added + ROW_OVERHEAD_BYTES,
        }
    }

    /// Adds to a count.
    pub(crate) fn add(&mut self, table: Table, key: RowKey, more: i64) {
        self.add_at(table.slot(self.tables.len()), key, more);
    }

    fn add_at(&mut self, slot: usize, key: RowKey, more: i64) {
        let key_bytes = key.len();
        match self.added[slot].entry(key) {
            Entry::Occupied(mut added) => *added.get_mut() += more,
            Entry::Vacant(place) => {
                place.insert(more);
                self.bytes += key_bytes + ROW_OVERHEAD_BYTES;
            }
        }
    }

    /// What was added to a count.
    pub(crate) fn added(&self, table: Table, key: &[u8]) -> i64 {
        self.added[table.slot(self.tables.len())].get(key).copied().unwrap_or(0)
    }

    /// Forgets a row of which nothing older is known anywhere: no deletion needs to hide it.
    pub(crate) fn remove(&mut self, table: Table, key: &[u8]) {
        let slot = table.slot(self.tables.len());
        if let Some(value) = self.tables[slot].remove(key) {
            let bytes = key.len() + value.as_ref().map_or(0, Bytes::len) + ROW_OVERHEAD_BYTES;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// `None`: nothing known here; `Some(None)`: deleted here.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Option<Bytes>> {
        self.tables[table.slot(self.tables.len())].get(key).cloned()
    }

    /// The rows from `start` (inclusive) to `end` (exclusive; `None` is the end of the table).
    pub(crate) fn range(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> std::collections::btree_map::Range<'_, RowKey, Option<Bytes>> {
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        self.tables[table.slot(self.tables.len())].range::<[u8], _>((Bound::Included(start), end))
    }

    /// Moves every row of `staged` into this memtable and leaves `staged` empty.
    pub(crate) fn merge(&mut self, staged: &mut Memtable) {
        for slot in 0..staged.tables.len() {
            for (key, value) in std::mem::take(&mut staged.tables[slot]) {
                self.put_at(slot, key, value);
            }
            for (key, more) in std::mem::take(&mut staged.added[slot]) {
                self.add_at(slot, key, more);
            }
        }
        staged.bytes = 0;
    }

    /// Drops every row.
    pub(crate) fn clear(&mut self) {
        if self.bytes > 0 {
            self.tables.iter_mut().for_each(Rows::clear);
            self.added.iter_mut().for_each(Added::clear);
            self.bytes = 0;
        }
    }

    /// All tables, those of the runtime last: their rows, and what was added to their counts.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&Rows, &Added)> {
        self.tables.iter().zip(&self.added)
    }
}
