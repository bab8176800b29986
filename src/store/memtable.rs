//! What was applied since the last checkpoint, in memory, ordered as the file orders it.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

/// Index into the table list that a shard was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table(pub u8);

/// Rough cost of one row beside its key and value: tree node, two handles, allocator slack.
const ROW_OVERHEAD_BYTES: usize = 112;

/// The rows of one table; `None` is a deletion that hides what the file still holds.
pub(crate) type Rows = BTreeMap<Bytes, Option<Bytes>>;

/// Ordered maps, one per table, with an estimate of the memory they take.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    tables: Vec<Rows>,
    bytes: usize,
}

impl Memtable {
    /// An empty memtable for `tables` tables.
    pub(crate) fn new(tables: usize) -> Self {
        Self { tables: (0..tables).map(|_| Rows::new()).collect(), bytes: 0 }
    }

    /// Estimated memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes a row, or with `None` its deletion.
    pub(crate) fn put(&mut self, table: Table, key: Bytes, value: Option<Bytes>) {
        let added = value.as_ref().map_or(0, Bytes::len);
        let key_bytes = key.len();
        match self.tables[usize::from(table.0)].insert(key, value) {
            Some(old) => {
                self.bytes = self.bytes.saturating_sub(old.as_ref().map_or(0, Bytes::len)) + added;
            }
            None => self.bytes += key_bytes + added + ROW_OVERHEAD_BYTES,
        }
    }

    /// `None`: nothing known here; `Some(None)`: deleted here.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Option<Bytes>> {
        self.tables[usize::from(table.0)].get(key).cloned()
    }

    /// The rows from `start` (inclusive) to `end` (exclusive; `None` is the end of the table).
    pub(crate) fn range(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> std::collections::btree_map::Range<'_, Bytes, Option<Bytes>> {
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        self.tables[usize::from(table.0)].range::<[u8], _>((Bound::Included(start), end))
    }

    /// Moves every row of `staged` into this memtable and leaves `staged` empty.
    pub(crate) fn merge(&mut self, staged: &mut Memtable) {
        for number in 0..staged.tables.len() {
            let table = Table(number as u8);
            for (key, value) in std::mem::take(&mut staged.tables[number]) {
                self.put(table, key, value);
            }
        }
        staged.bytes = 0;
    }

    /// Drops every row.
    pub(crate) fn clear(&mut self) {
        if self.bytes > 0 {
            self.tables.iter_mut().for_each(Rows::clear);
            self.bytes = 0;
        }
    }

    /// All tables in order of their numbers.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (Table, &Rows)> {
        self.tables.iter().enumerate().map(|(number, rows)| (Table(number as u8), rows))
    }
}
