//! One shard's data: a redb file as of the last checkpoint, and the memtables over it.
//!
//! The store owns both, so that a restarted shard actor finds its state at `applied` and need not
//! open anything. Only the newest shard actor may write: every claim gets a generation, and a
//! handle of an older one is refused.
//!
//! The lock in [`ShardStore`] is an adapter, not shared product state: the shard actor takes it
//! for a message, or to read a whole state, the checkpoint thread for the instant of a seal.
//!
//! **Invariants**: F1 the file always holds exactly the effects of the log up to its `applied`;
//! F2 rows, remembered commands and `applied` change together; F3 at most one sealed memtable;
//! F4 what is sealed of a memory-kept service holds its whole state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(test)]
use redb::StorageBackend;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};

use crate::ids::{LogIndex, STAMP_MAX, Stamp};
use crate::seams::tasks;
use crate::store::codec::{self, Record};
use crate::store::count::{self, Count};
use crate::store::error::StoreError;
use crate::store::file::{self, Storage, Syncs, unreadable};
use crate::store::memtable::RUNTIME_TABLES;
#[cfg(test)]
use crate::store::paced::Paced;
use crate::store::remembered::Remembered;
pub use crate::store::shard_state::{AppliedState, Kept};
use crate::store::shard_state::{DEAD_LETTERS_MAX, Progress, Sealed, ShardState};
use crate::store::tables::{FileView, ReadTables};
use crate::store::upgrade::{self, Layout};

/// Format of the shard file that this program writes. It reads format 2, whose services may have tables that they
/// bring up to date ([`upgrade`]), and format 1, which had remembered commands by their ids.
pub const SHARD_FORMAT: u32 = 3;

const META: TableDefinition<&[u8], &[u8]> = TableDefinition::new("_meta");
/// Key of an epoch → the outcomes of its commands.
const EPOCHS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("_epochs");
/// Of format 1: command id → outcome.
const REMEMBERED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("_remembered");
const DEAD_LETTERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("_dead_letters");
const META_KEY: &[u8] = b"applied";

/// What the file says about itself, written in the transaction that it describes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Meta {
    format: u32,
    index: u64,
    position: Vec<u8>,
    last_stamp: Stamp,
    digest: u64,
}

impl Record for Meta {
    const KIND: u8 = 1;
}

/// The open data of one shard; lives as long as the store, longer than any actor.
pub struct ShardStore {
    path: PathBuf,
    /// `None` only while it is reopened, or when that failed.
    db: Mutex<Option<Database>>,
    /// Opens the file again after an error, which redb latches.
    reopen: Option<Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>>,
    /// Of the service, then of the runtime.
    tables: Vec<&'static str>,
    cache_bytes: usize,
    /// How many read the whole state, under its lock: one, and perhaps one that is abandoned and about to end.
    loading: AtomicUsize,
    state: Mutex<ShardState>,
}

impl ShardStore {
    /// Opens or creates the file at `path` with the given tables, and a page cache of so many bytes. A file of an
    /// earlier program is brought up to date, which may take long.
    ///
    /// # Errors
    /// When the file is locked, damaged, newer than this program, or cannot be written.
    pub fn open(
        storage: &Storage,
        path: &Path,
        layout: impl Into<Layout>,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let db = storage.open(path, cache_bytes, Syncs::InPieces, initialise)?;
        let mut store = Self::from_database(path, db, layout.into())
            .map_err(|error| file::named(path, error))?;
        store.cache_bytes = cache_bytes;
        let (storage, path) = (storage.clone(), path.to_owned());
        store.reopen =
            Some(Box::new(move || storage.open_existing(&path, cache_bytes, Syncs::InPieces)));
        Ok(store)
    }

    /// The same over any backend: in memory, or one that fails on purpose.
    #[cfg(test)]
    pub(crate) fn with_backend(
        backend: impl StorageBackend,
        tables: &'static [&'static str],
    ) -> Result<Self, StoreError> {
        // In pieces so small that what a test writes takes many.
        let backend = Paced::with_pieces(backend, 16 * 1024);
        let db = Database::builder().create_with_backend(backend).map_err(io_error)?;
        if db.begin_read().map_err(io_error)?.open_table(META).is_err() {
            initialise(&db)?;
        }
        Self::from_database(Path::new(""), db, tables.into())
    }

    #[cfg(test)]
    pub(crate) fn in_memory(
        backend: redb::backends::InMemoryBackend,
        tables: &'static [&'static str],
    ) -> Self {
        Self::with_backend(backend, tables).expect("memory does not fail")
    }

    fn from_database(path: &Path, db: Database, layout: Layout) -> Result<Self, StoreError> {
        let meta = read_meta(path, &db)?;
        let applied = AppliedState { index: LogIndex(meta.index), position: meta.position.into() };
        let progress = Progress { applied, last_stamp: meta.last_stamp, digest: meta.digest };
        let mut remembered = read_remembered(&db, meta.format, meta.last_stamp)?;
        let tables = [layout.tables, &RUNTIME_TABLES].concat();
        upgrade::bring_up_to_date(&db, &tables, layout, |transaction| {
            write_head(transaction, &progress, &remembered.seal())
        })?;
        let view = open_view(&db, &tables)?;
        let state = ShardState::new(tables.len(), view, progress, remembered);
        Ok(Self {
            path: path.to_owned(),
            db: Mutex::new(Some(db)),
            reopen: None,
            tables,
            cache_bytes: 0,
            loading: AtomicUsize::new(0),
            state: Mutex::new(state),
        })
    }

    /// Page cache that a checkpoint may count on, in bytes; 0 of a file in memory, and of a memory-kept service,
    /// which writes rows all over its file however few they are.
    pub(super) fn checkpoint_cache(&self) -> usize {
        if self.lock().is_memory_kept() { 0 } else { self.cache_bytes }
    }

    /// Reads the whole state for the owner of `generation`, under its lock, unless that is `abandoned`. It may take
    /// long.
    ///
    /// # Errors
    /// As [`Self::loading`]; [`StoreError::Fenced`] when a successor has claimed the shard, and
    /// [`StoreError::Stopped`] when it was abandoned.
    pub(crate) fn load<T>(
        &self,
        generation: u64,
        abandoned: &AtomicBool,
        read: impl FnOnce(&ReadTables<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.loading(|| {
            let state = self.owned(generation)?;
            read(&state.read().until(abandoned))
        })
    }

    /// Reads the whole state, while checkpoints pass the shard over: the others need not wait for its lock. One that
    /// is about to take the lock does wait.
    ///
    /// # Errors
    /// Those of `read`; that the file cannot be read when it panics, for redb does over some kinds of damage, and
    /// another try would find the same.
    pub(crate) fn loading<T>(
        &self,
        read: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.loading.fetch_add(1, Ordering::Relaxed);
        let found = catch_unwind(AssertUnwindSafe(read));
        self.loading.fetch_sub(1, Ordering::Relaxed);
        found.unwrap_or_else(|_panic| Err(unreadable(&self.path)))
    }

    /// Whether the state is being read as a whole.
    pub(super) fn is_loading(&self) -> bool {
        self.loading.load(Ordering::Relaxed) > 0
    }

    /// Says where the service keeps its state; in tables if nothing is said.
    #[must_use]
    pub fn kept(self, kept: Kept) -> Self {
        self.lock().set_kept(kept);
        self
    }

    /// Makes the caller the only one who may write, and returns its generation. A memory-kept service
    /// finds the shard at its last checkpoint. A file that its predecessor could not read is opened
    /// again.
    ///
    /// # Errors
    /// When it cannot be.
    pub(crate) fn claim(&self) -> Result<u64, StoreError> {
        if self.lock().has_failed() {
            let mut slot = self.db.lock().unwrap_or_else(PoisonError::into_inner);
            // A checkpoint may have opened it meanwhile.
            if self.lock().has_failed() {
                tracing::warn!(file = %self.path.display(), "opening a file again after a failed read");
                // redb panics over some kinds of damage.
                let slot = &mut *slot;
                let opened = tasks::apart(std::iter::once(|| self.open_again(slot))).remove(0);
                opened
                    .unwrap_or_else(|_panic| Err(unreadable(&self.path)))
                    .map_err(|error| file::named(&self.path, error))?;
            }
        }
        Ok(self.lock().claim())
    }

    /// The state, for the owner of `generation`.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when a successor has claimed the shard.
    pub(crate) fn owned(&self, generation: u64) -> Result<MutexGuard<'_, ShardState>, StoreError> {
        let state = self.lock();
        if state.generation != generation {
            return Err(StoreError::Fenced);
        }
        Ok(state)
    }

    /// The state, to look at. A panic of a predecessor leaves it valid: what a command staged is
    /// merged by code that cannot panic, so a poisoned lock means nothing.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ShardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the state has come in memory.
    pub(crate) fn applied(&self) -> AppliedState {
        self.lock().progress.applied.clone()
    }

    /// How far the file has come.
    pub(crate) fn durable(&self) -> AppliedState {
        self.lock().durable.clone()
    }

    /// Writes everything applied so far to the file, while the shard goes on; of a memory-kept service,
    /// up to where it has written its state. Returns the new durable position, or `None` when there
    /// was nothing to write. Blocks; runs on the
    /// checkpoint thread.
    ///
    /// # Errors
    /// When the file cannot be written. Memory then still holds everything, and the next call
    /// tries again.
    pub(crate) fn checkpoint(&self) -> Result<Option<AppliedState>, StoreError> {
        // Held to the end: one checkpoint at a time (F3).
        let mut slot = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            self.open_again(&mut slot).map_err(|error| file::named(&self.path, error))?;
        }
        let Some(sealed) = self.lock().seal() else { return Ok(None) };
        let db = slot.as_ref().ok_or(StoreError::Stopped)?;
        let view = self.write(db, &sealed).and_then(|()| open_view(db, &self.tables));
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                if let Err(error) = self.open_again(&mut slot) {
                    tracing::error!(%error, "a shard file could not be opened again");
                }
                return Err(file::named(&self.path, error));
            }
        };
        let mut state = self.lock();
        state.view = Some(view);
        state.sealed = None;
        state.view_has_sealed = false;
        state.durable = sealed.progress.applied.clone();
        Ok(Some(state.durable.clone()))
    }

    /// Closes the file, whoever still holds the shard; nothing can be read or written after.
    pub(crate) fn close(&self) {
        let mut slot = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        state.generation += 1;
        state.is_closed = true;
        state.view = None;
        *slot = None;
    }

    /// Closes the file and opens it again: redb refuses everything after an I/O error until then.
    /// Readers wait for it; it takes milliseconds, for every commit prepared a quick repair.
    fn open_again(&self, slot: &mut Option<Database>) -> Result<(), StoreError> {
        let Some(reopen) = &self.reopen else { return Ok(()) };
        let mut state = self.lock();
        state.view = None;
        *slot = None;
        let db = reopen()?;
        // Another file in its place would hide what the log no longer holds.
        let found = LogIndex(read_meta(&self.path, &db)?.index);
        let sealed = state.sealed.as_ref().map(|sealed| sealed.progress.applied.index);
        if found != state.durable.index && Some(found) != sealed {
            let detail = format!("it ends at entry {}, another file than before", found.0);
            return Err(StoreError::Damaged { path: self.path.clone(), detail });
        }
        state.view = Some(open_view(&db, &self.tables)?);
        // It was committed, and what came then failed: over this view it would count twice (C2).
        state.view_has_sealed = Some(found) == sealed;
        *slot = Some(db);
        Ok(())
    }

    fn write(&self, db: &Database, sealed: &Sealed) -> Result<(), StoreError> {
        // Then it was committed, and what came then failed: rows may be written twice, counts may not (C2).
        let is_there = LogIndex(read_meta(&self.path, db)?.index) == sealed.progress.applied.index;
        let mut transaction = db.begin_write().map_err(io_error)?;
        transaction.set_durability(Durability::Immediate).map_err(io_error)?;
        transaction.set_quick_repair(true);
        for (name, (rows, added)) in self.tables.iter().zip(sealed.rows.tables()) {
            if rows.is_empty() && added.is_empty() {
                continue;
            }
            let mut file = transaction.open_table(definition(name)).map_err(io_error)?;
            for (key, value) in rows {
                match value {
                    Some(value) => file.insert(&key[..], &value[..]).map_err(io_error)?,
                    None => file.remove(&key[..]).map_err(io_error)?,
                };
            }
            for (key, more) in added.iter().filter(|_| !is_there) {
                add_up(&mut file, key, *more)?;
            }
        }
        write_head(&transaction, &sealed.progress, &sealed.remembered)?;
        if !sealed.dead_letters.is_empty() {
            let mut file = transaction.open_table(DEAD_LETTERS).map_err(io_error)?;
            for (key, command) in &sealed.dead_letters {
                file.insert(&key[..], &command[..]).map_err(io_error)?;
            }
            while file.len().map_err(io_error)? > DEAD_LETTERS_MAX as u64 {
                file.pop_first().map_err(io_error)?;
            }
        }
        transaction.commit().map_err(io_error)
    }

    /// Where the file is; empty when the shard lives in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes how far the file has come, and the commands that are remembered, in this program's format.
fn write_head(
    transaction: &WriteTransaction,
    progress: &Progress,
    remembered: &Remembered,
) -> Result<(), StoreError> {
    // Its contents are in epochs by now.
    transaction.delete_table(REMEMBERED).map_err(io_error)?;
    let mut file = transaction.open_table(EPOCHS).map_err(io_error)?;
    write_epochs(&mut file, remembered).map_err(io_error)?;
    let mut file = transaction.open_table(META).map_err(io_error)?;
    let meta = codec::encode(&Meta {
        format: SHARD_FORMAT,
        index: progress.applied.index.0,
        position: progress.applied.position.to_vec(),
        last_stamp: progress.last_stamp,
        digest: progress.digest,
    });
    file.insert(META_KEY, &meta[..]).map_err(io_error)?;
    Ok(())
}

/// Makes the file's epochs those that were sealed: the oldest go, new ones come at the end. Returns how
/// many came.
fn write_epochs(
    file: &mut redb::Table<'_, &[u8], &[u8]>,
    sealed: &Remembered,
) -> Result<usize, redb::StorageError> {
    match sealed.epochs().next() {
        Some(first) => file.retain_in(..&first.key().to_be_bytes()[..], |_, _| false)?,
        None => file.retain(|_, _| false)?,
    }
    let last = file.last()?.map(|(key, _)| key.value().to_vec());
    let mut written = 0;
    for epoch in sealed.epochs() {
        let key = epoch.key().to_be_bytes();
        if last.as_ref().is_none_or(|last| key[..] > last[..]) {
            file.insert(&key[..], &epoch.row()[..])?;
            written += 1;
        }
    }
    Ok(written)
}

fn initialise(db: &Database) -> Result<(), StoreError> {
    let transaction = db.begin_write().map_err(io_error)?;
    transaction.open_table(DEAD_LETTERS).map_err(io_error)?;
    write_head(&transaction, &Progress::default(), &Remembered::default())?;
    transaction.commit().map_err(io_error)
}

/// Adds to a count of the file, which is looked for once where it stays one.
fn add_up(
    file: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    key: &[u8],
    more: i64,
) -> Result<(), StoreError> {
    if more == 0 {
        return Ok(());
    }
    let row = |count| codec::encode(&Count(count));
    let after = match file.get_mut(key).map_err(io_error)? {
        Some(mut known) => match count::added_up(count::of_row(Some(known.value()))?, more) {
            0 => 0,
            after => return known.insert(&row(after)[..]).map_err(io_error),
        },
        None => count::added_up(0, more),
    };
    match after {
        0 => file.remove(key).map_err(io_error)?,
        _ => file.insert(key, &row(after)[..]).map_err(io_error)?,
    };
    Ok(())
}

fn read_meta(path: &Path, db: &Database) -> Result<Meta, StoreError> {
    let damaged = |detail: &str| StoreError::Damaged { path: path.into(), detail: detail.into() };
    let read = db.begin_read().map_err(io_error)?;
    let table = read.open_table(META).map_err(|_| damaged("it is not a shard file"))?;
    let row = table.get(META_KEY).map_err(io_error)?.ok_or_else(|| damaged("no position"))?;
    let meta: Meta = codec::decode(row.value()).map_err(|error| damaged(&error.to_string()))?;
    if meta.format > SHARD_FORMAT {
        let known = SHARD_FORMAT;
        return Err(StoreError::Newer { path: path.into(), found: meta.format, known });
    }
    if meta.last_stamp > STAMP_MAX {
        return Err(damaged("it is of a time that never comes"));
    }
    Ok(meta)
}

fn read_remembered(
    db: &Database,
    format: u32,
    last_stamp: Stamp,
) -> Result<Remembered, StoreError> {
    let read = db.begin_read().map_err(io_error)?;
    let mut remembered = Remembered::default();
    let table = read.open_table(if format == 1 { REMEMBERED } else { EPOCHS }).map_err(io_error)?;
    for row in table.iter().map_err(io_error)? {
        let (key, value) = row.map_err(io_error)?;
        match format {
            1 => remembered.restore_one(key.value(), value.value())?,
            _ => remembered.restore(key.value(), value.value(), last_stamp)?,
        }
    }
    Ok(remembered)
}

/// Opens every table at the state of the last commit.
fn open_view(db: &Database, tables: &[&'static str]) -> Result<FileView, StoreError> {
    let read = db.begin_read().map_err(io_error)?;
    let mut opened = Vec::with_capacity(tables.len());
    for name in tables {
        opened.push(read.open_table(definition(name)).map_err(io_error)?);
    }
    Ok(FileView::new(opened))
}

/// A table by its name.
pub(super) fn definition(
    name: &'static str,
) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

/// Any failure of redb, where the path is not at hand.
pub(crate) fn io_error(error: impl Into<redb::Error>) -> StoreError {
    file::store_error(Path::new(""), error)
}

#[cfg(test)]
#[path = "shard_file_tests.rs"]
mod tests;
