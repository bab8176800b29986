//! Views of a shard's rows: staged over memtable over sealed memtable over file.
//!
//! **Invariants**: T1 a view shows a row of the newest layer that knows its key; T2 a range is in
//! key order, each key once; T3 what a command staged is seen by itself and by nobody else until
//! it is merged.

use std::ops::Bound;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use redb::ReadOnlyTable;

use crate::store::count;
use crate::store::error::StoreError;
use crate::store::memtable::{Memtable, Table};
use crate::store::row_key::RowKey;
use crate::store::shard_file::io_error;

/// A table of a shard file.
type FileTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A read transaction of the shard file as of the last checkpoint, with its tables opened once.
pub(crate) struct FileView {
    tables: Vec<FileTable>,
    has_failed: AtomicBool,
}

impl FileView {
    pub(crate) fn new(tables: Vec<FileTable>) -> Self {
        Self { tables, has_failed: AtomicBool::new(false) }
    }

    /// Whether the file could not be read once: redb may refuse everything since.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Relaxed)
    }

    fn failed(&self, error: redb::StorageError) -> StoreError {
        self.has_failed.store(true, Relaxed);
        io_error(error)
    }

    fn table(&self, table: Table) -> &FileTable {
        &self.tables[table.slot(self.tables.len())]
    }
}

/// Reads of one shard's tables.
#[derive(Clone, Copy)]
pub struct ReadTables<'a> {
    pub(crate) staged: Option<&'a Memtable>,
    pub(crate) active: &'a Memtable,
    pub(crate) sealed: Option<&'a Memtable>,
    /// `None` while the file cannot be read.
    pub(crate) file: Option<&'a FileView>,
    /// Set when nobody wants what is read any more.
    pub(crate) abandoned: Option<&'a AtomicBool>,
}

impl<'a> ReadTables<'a> {
    /// The same, which answers with [`StoreError::Stopped`] once this is set: for reading everything.
    pub(crate) fn until(self, abandoned: &'a AtomicBool) -> Self {
        Self { abandoned: Some(abandoned), ..self }
    }

    fn file(&self) -> Result<&'a FileView, StoreError> {
        self.file.filter(|_| !is_set(self.abandoned)).ok_or(StoreError::Stopped)
    }

    /// The value of a row, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        for layer in [self.staged, Some(self.active), self.sealed].into_iter().flatten() {
            if let Some(known) = layer.get(table, key) {
                return Ok(known);
            }
        }
        let file = self.file()?;
        let found = file.table(table).get(key).map_err(|error| file.failed(error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
    }

    /// A count of a table of counts (C1).
    ///
    /// # Errors
    /// When the file cannot be read, or the row is no count.
    pub fn count(&self, table: Table, key: &[u8]) -> Result<u64, StoreError> {
        let layers = [self.staged, Some(self.active), self.sealed].into_iter().flatten();
        let added = layers.map(|layer| layer.added(table, key)).sum();
        let file = self.file()?;
        let found = file.table(table).get(key).map_err(|error| file.failed(error))?;
        let before = count::of_row(found.as_ref().map(|row| row.value()))?;
        Ok(count::added_up(before, added))
    }

    /// Rows whose key starts with `prefix`, in key order, from `start` on (`start` is a full key,
    /// or the prefix itself).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
        start: &[u8],
    ) -> Result<Range<'a>, StoreError> {
        self.range(table, start, end_of_prefix(prefix).as_deref())
    }

    /// Rows from `start` (inclusive) to `end` (exclusive), in key order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn range(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Range<'a>, StoreError> {
        self.rows(table, start, end, Way::Up)
    }

    /// The same rows from the last to the first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn range_back(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Range<'a>, StoreError> {
        self.rows(table, start, end, Way::Down)
    }

    fn rows(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        way: Way,
    ) -> Result<Range<'a>, StoreError> {
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        let view = self.file()?;
        let rows = view
            .table(table)
            .range::<&[u8]>((Bound::Included(start), upper))
            .map_err(|error| view.failed(error))?;
        let mut sources = Vec::with_capacity(4);
        for layer in [self.staged, Some(self.active), self.sealed].into_iter().flatten() {
            let mut rows = layer.range(table, start, end);
            if let Some((key, value)) = way.of(&mut rows) {
                let head = (key.clone(), value.clone());
                sources.push(Source { head, rest: Rest::Memory(rows) });
            }
        }
        let mut file = Rest::File(Box::new(rows), view);
        if let Some(head) = file.next(way)? {
            sources.push(Source { head, rest: file });
        }
        Ok(Range { sources, way, abandoned: self.abandoned })
    }
}

fn is_set(abandoned: Option<&AtomicBool>) -> bool {
    abandoned.is_some_and(|abandoned| abandoned.load(Relaxed))
}

/// Reads and staged writes of one command.
pub struct Tables<'a> {
    pub(crate) read: ReadTables<'a>,
    pub(crate) staged: &'a mut Memtable,
}

impl Tables<'_> {
    /// A read view that sees what this command has staged (T3).
    pub fn view(&self) -> ReadTables<'_> {
        ReadTables { staged: Some(self.staged), ..self.read }
    }

    /// See [`ReadTables::get`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.view().get(table, key)
    }

    /// Stages a row.
    pub fn put(&mut self, table: Table, key: impl AsRef<[u8]>, value: impl Into<Bytes>) {
        let key = RowKey::from(key.as_ref());
        self.staged.put(table, key, Some(value.into()));
    }

    /// Stages that a count of a table of counts is so much more, or less (C1).
    pub fn add(&mut self, table: Table, key: impl AsRef<[u8]>, more: i64) {
        self.staged.add(table, RowKey::from(key.as_ref()), more);
    }

    /// Stages a deletion; deleting what is not there changes nothing.
    pub fn delete(&mut self, table: Table, key: impl AsRef<[u8]>) {
        self.staged.put(table, RowKey::from(key.as_ref()), None);
    }
}

/// Merged rows of all layers, in key order or against it, deletions left out.
pub struct Range<'a> {
    sources: Vec<Source<'a>>,
    way: Way,
    abandoned: Option<&'a AtomicBool>,
}

/// Which way a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn of<I: DoubleEndedIterator>(self, rows: &mut I) -> Option<I::Item> {
        match self {
            Self::Up => rows.next(),
            Self::Down => rows.next_back(),
        }
    }

    /// Whether a row with this key comes before one with the other.
    fn is_before(self, key: &[u8], other: &[u8]) -> bool {
        match self {
            Self::Up => key < other,
            Self::Down => key > other,
        }
    }
}

struct Source<'a> {
    head: (RowKey, Option<Bytes>),
    rest: Rest<'a>,
}

enum Rest<'a> {
    Memory(std::collections::btree_map::Range<'a, RowKey, Option<Bytes>>),
    File(Box<redb::Range<'static, &'static [u8], &'static [u8]>>, &'a FileView),
}

impl Rest<'_> {
    fn next(&mut self, way: Way) -> Result<Option<(RowKey, Option<Bytes>)>, StoreError> {
        match self {
            Self::Memory(rows) => Ok(way.of(rows).map(|(key, value)| (key.clone(), value.clone()))),
            Self::File(rows, view) => {
                let row = way.of(&mut **rows).transpose().map_err(|error| view.failed(error))?;
                Ok(row.map(|(key, value)| {
                    let value = Bytes::copy_from_slice(value.value());
                    (RowKey::from(key.value()), Some(value))
                }))
            }
        }
    }
}

impl Range<'_> {
    fn step(&mut self) -> Result<Option<(RowKey, Bytes)>, StoreError> {
        if is_set(self.abandoned) {
            return Err(StoreError::Stopped);
        }
        while !self.sources.is_empty() {
            // Sources stand newest first, so of equal keys the first wins (T1).
            let mut newest = 0;
            for index in 1..self.sources.len() {
                let head = |index: usize| &self.sources[index].head.0;
                if self.way.is_before(head(index), head(newest)) {
                    newest = index;
                }
            }
            let (key, value) = self.advance(newest)?;
            // What older layers know of this key; from the last on, for a source that ends is removed.
            for index in (newest..self.sources.len()).rev() {
                if self.sources[index].head.0 == key {
                    self.advance(index)?;
                }
            }
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }

    /// Takes the head of a source.
    fn advance(&mut self, index: usize) -> Result<(RowKey, Option<Bytes>), StoreError> {
        let source = &mut self.sources[index];
        Ok(match source.rest.next(self.way)? {
            Some(next) => std::mem::replace(&mut source.head, next),
            None => self.sources.remove(index).head,
        })
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(RowKey, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// The first key after all that start with `prefix`; `None` when there is none.
pub fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Tables in memory alone, for tests of a service's logic: no file, no actor.
#[cfg(test)]
pub(crate) struct TestTables {
    shard: crate::store::shard_file::ShardStore,
}

#[cfg(test)]
impl TestTables {
    pub(crate) fn new(tables: &'static [&'static str]) -> Self {
        let backend = redb::backends::InMemoryBackend::new();
        Self { shard: crate::store::shard_file::ShardStore::in_memory(backend, tables) }
    }

    /// Runs `body` as one command and merges what it staged if it answers `Ok`.
    pub(crate) fn apply<T, E>(
        &mut self,
        body: impl FnOnce(&mut Tables<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = self.shard.lock();
        let mut staged = state.take_staged();
        let outcome = {
            let mut tables = state.tables(&mut staged);
            body(&mut tables)
        };
        state.put_staged(staged, outcome.is_ok());
        outcome
    }

    /// Moves all rows from memory to the file, so that reads go through that layer too.
    pub(crate) fn checkpoint(&self) {
        let mut state = self.shard.lock();
        state.progress.applied.index = state.progress.applied.index.next();
        drop(state);
        self.shard.checkpoint().expect("memory does not fail");
    }

    pub(crate) fn read<T>(&self, body: impl FnOnce(&ReadTables<'_>) -> T) -> T {
        let state = self.shard.lock();
        body(&state.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(end_of_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(end_of_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(end_of_prefix(&[255]), None);
        assert_eq!(end_of_prefix(&[]), None);
    }
}
