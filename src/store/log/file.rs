//! The file of a lane: how it is created, what is in it, and what its errors mean.

use std::path::Path;

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::ids::GroupId;
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;
use crate::store::file::{Storage, Syncs, damaged, named, store_error};

/// `(group, index)`, both big endian → the bytes of the entry.
pub(super) const ENTRIES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");
/// `group`, big endian → [`GroupRecord`].
pub(super) const GROUPS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("groups");
/// What concerns the whole file.
const LANE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("lane");
const FORMAT_KEY: &[u8] = b"format";
/// The format that this program writes, and the newest that it can read.
const FORMAT: u32 = 1;

/// What a lane keeps of a group beside its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupRecord {
    /// Everything up to here was removed from the front; 0 when nothing was.
    pub purged: u64,
    /// What the owner wants to remember of the last purged entry.
    pub purged_position: Bytes,
    /// The owner's vote.
    pub vote: Option<Bytes>,
    /// The owner's committed position; may be older than the newest one it named.
    pub committed: Option<Bytes>,
}

impl Record for GroupRecord {
    const KIND: u8 = 3;
}

/// The key of an entry.
pub(super) fn entry_key(group: GroupId, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The index in the key of an entry.
fn index_of_key(path: &Path, key: &[u8]) -> Result<u64, StoreError> {
    let index = key.get(4..12).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    index.ok_or_else(|| damaged(path, "a key of an entry is malformed"))
}

/// Opens the lane at `path`, or creates it.
pub(super) fn open(
    storage: &Storage,
    path: &Path,
    cache_bytes: usize,
) -> Result<Database, StoreError> {
    let database =
        storage.open(path, cache_bytes, Syncs::WhenAsked, |database| initialise(path, database))?;
    check_format(path, &database)?;
    Ok(database)
}

/// Opens the lane on a backend, which is initialised when it is empty.
#[cfg(test)]
pub(super) fn open_with_backend(
    name: &Path,
    backend: impl redb::StorageBackend,
    cache_bytes: usize,
) -> Result<Database, StoreError> {
    let fresh = backend.len().map_err(|error| crate::store::file::os_error(name, &error))? == 0;
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(backend)
        .map_err(|error| store_error(name, error))?;
    if fresh {
        initialise(name, &database)?;
    }
    check_format(name, &database)?;
    Ok(database)
}

fn initialise(path: &Path, database: &Database) -> Result<(), StoreError> {
    let initialise = || -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(ENTRIES)?;
        transaction.open_table(GROUPS)?;
        transaction.open_table(LANE)?.insert(FORMAT_KEY, FORMAT.to_be_bytes().as_slice())?;
        transaction.commit()?;
        Ok(())
    };
    initialise().map_err(|error| store_error(path, error))
}

fn check_format(path: &Path, database: &Database) -> Result<(), StoreError> {
    let read = || -> Result<Option<Vec<u8>>, redb::Error> {
        let table = match database.begin_read()?.open_table(LANE) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        Ok(table.get(FORMAT_KEY)?.map(|value| value.value().to_vec()))
    };
    let format = read().map_err(|error| store_error(path, error))?;
    let Some(format) = format.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
    else {
        return Err(damaged(path, "it is not a log lane"));
    };
    if format > FORMAT {
        return Err(StoreError::Newer { path: path.into(), found: format, known: FORMAT });
    }
    Ok(())
}

/// Reads what is kept of a group, and the first and last index of its entries.
pub(super) fn load_group(
    path: &Path,
    database: &Database,
    group: GroupId,
) -> Result<(GroupRecord, Option<(u64, u64)>), StoreError> {
    let read = || -> Result<_, redb::Error> {
        let transaction = database.begin_read()?;
        let record = transaction
            .open_table(GROUPS)?
            .get(group.0.to_be_bytes().as_slice())?
            .map(|value| value.value().to_vec());
        Ok((record, transaction.open_table(ENTRIES)?))
    };
    let (record, entries) = read().map_err(|error| store_error(path, error))?;
    let record: GroupRecord = match record {
        Some(bytes) => codec::decode(&bytes).map_err(|error| named(path, error.into()))?,
        None => GroupRecord::default(),
    };
    let (low, high) = (entry_key(group, record.purged + 1), entry_key(group, u64::MAX));
    let ends = || -> Result<_, redb::Error> {
        let mut range = entries.range(low.as_slice()..=high.as_slice())?;
        let first = range.next().transpose()?.map(|(key, _)| key.value().to_vec());
        let last = range.next_back().transpose()?.map(|(key, _)| key.value().to_vec());
        Ok((first, last))
    };
    let (first, last) = ends().map_err(|error| store_error(path, error))?;
    let Some(first) = first else { return Ok((record, None)) };
    let last = index_of_key(path, last.as_ref().unwrap_or(&first))?;
    Ok((record, Some((index_of_key(path, &first)?, last))))
}

/// The index of the first entry that is physically in the file.
#[cfg(test)]
pub(super) fn load_first_key(database: &Database, group: GroupId) -> Option<u64> {
    let entries = database.begin_read().ok()?.open_table(ENTRIES).ok()?;
    let (low, high) = (entry_key(group, 0), entry_key(group, u64::MAX));
    let mut range = entries.range(low.as_slice()..=high.as_slice()).ok()?;
    let (key, _) = range.next()?.ok()?;
    index_of_key(Path::new(""), key.value()).ok()
}
