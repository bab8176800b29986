//! Opening redb files: creation under a temporary name, and errors that say what to do.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageBackend};

use crate::store::error::StoreError;
use crate::store::paced::Paced;
use crate::store::shard_state::Kept;

/// Part of a shard file that its page cache may take.
const PAGE_CACHE_SHARE: u64 = 128;
/// Page cache of a file that is small, or that is read only when its actor starts.
const PAGE_CACHE_MIN: usize = 4 * 1024 * 1024;
/// More than that for all files of a service is the operator's to allow.
const PAGE_CACHES_MAX: usize = 512 * 1024 * 1024;

/// Where the files of the store are; the one place that opens them. Clones are the same place.
#[derive(Clone, Default)]
pub struct Storage(Place);

#[derive(Clone, Default)]
enum Place {
    /// The file system.
    #[default]
    Files,
    /// Disks in memory, one for each path.
    #[cfg(test)]
    Memory(std::sync::Arc<std::sync::Mutex<Disks>>),
}

#[cfg(test)]
type Disks = std::collections::BTreeMap<std::path::PathBuf, crate::store::fault::FaultDisk>;

/// When a file is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncs {
    /// Whenever its writer needs it.
    WhenAsked,
    /// Also while much is written: a sync at the end must hold up no other file.
    InPieces,
}

impl Storage {
    /// The file system.
    pub fn files() -> Self {
        Self(Place::Files)
    }

    /// Opens the file, or creates it: `initialise` fills it under a temporary name, and only then
    /// is it renamed. A file that was cut off while being created is thus never taken for a real
    /// one (of 2,000 simulated crashes the 20 unreadable files were all cut during creation).
    ///
    /// # Errors
    /// When the file is locked, damaged, read-only, or the device is full.
    pub(crate) fn open(
        &self,
        path: &Path,
        cache_bytes: usize,
        syncs: Syncs,
        initialise: impl FnOnce(&Database) -> Result<(), StoreError>,
    ) -> Result<Database, StoreError> {
        match &self.0 {
            Place::Files => {
                if !path.try_exists().map_err(|error| os_error(path, &error))? {
                    create(path, cache_bytes, syncs, initialise)?;
                }
            }
            #[cfg(test)]
            Place::Memory(disks) => {
                let mut disks = disks.lock().expect("no holder panics");
                if !disks.contains_key(path) {
                    let disk = crate::store::fault::FaultDisk::new();
                    let created = open_backend(disk.backend(), cache_bytes, syncs);
                    initialise(&created.map_err(|error| store_error(path, error))?)?;
                    disks.insert(path.into(), disk);
                }
            }
        }
        self.open_existing(path, cache_bytes, syncs)
    }

    /// Length of the file in bytes; 0 where there is none, or a disk in memory.
    pub(crate) fn length(&self, path: &Path) -> u64 {
        match &self.0 {
            Place::Files => std::fs::metadata(path).map_or(0, |found| found.len()),
            #[cfg(test)]
            Place::Memory(_) => 0,
        }
    }

    /// Opens a file that must be there.
    ///
    /// # Errors
    /// As [`Storage::open`], and when there is none.
    pub(crate) fn open_existing(
        &self,
        path: &Path,
        cache_bytes: usize,
        syncs: Syncs,
    ) -> Result<Database, StoreError> {
        let opened = match &self.0 {
            Place::Files => open_file(path, cache_bytes, syncs),
            #[cfg(test)]
            Place::Memory(_) => open_backend(self.disk(path).backend(), cache_bytes, syncs),
        };
        opened.map_err(|error| store_error(path, error))
    }

    /// Disks in memory, all of them empty.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self(Place::Memory(std::sync::Arc::default()))
    }

    /// The disk that holds a file.
    #[cfg(test)]
    pub(crate) fn disk(&self, path: &Path) -> crate::store::fault::FaultDisk {
        let Place::Memory(disks) = &self.0 else { panic!("files have no disk of ours") };
        let disks = disks.lock().expect("no holder panics");
        disks.get(path).expect("it was created").clone()
    }
}

/// Bytes of page cache for one of the `shards` files of a service: what is `set`, or if that is 0 what a
/// file of this length needs.
///
/// A row costs the same in a large file as in a small one only if the pages above the last ones are in
/// memory: about a hundredth of what is used of a file, since a body of a few kilobytes takes some forty
/// bytes there. The length counts what is free as well, which may be half of a file that is written much.
pub(crate) fn page_cache(set: usize, kept: Kept, file_bytes: u64, shards: usize) -> usize {
    let share = match kept {
        _ if set > 0 => return set,
        Kept::Memory => 0,
        Kept::Tables => usize::try_from(file_bytes / PAGE_CACHE_SHARE).unwrap_or(usize::MAX),
    };
    share.min(PAGE_CACHES_MAX / shards.max(1)).max(PAGE_CACHE_MIN)
}

fn create(
    path: &Path,
    cache_bytes: usize,
    syncs: Syncs,
    initialise: impl FnOnce(&Database) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(os_error(&temporary, &error));
        }
        _ => {}
    }
    let file = File::create_new(&temporary).map_err(|error| os_error(&temporary, &error))?;
    let db = FileBackend::new(file)
        .and_then(|backend| open_backend(backend, cache_bytes, syncs))
        .map_err(|error| store_error(&temporary, error))?;
    initialise(&db).map_err(|error| named(&temporary, error))?;
    drop(db);
    File::open(&temporary)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| os_error(path, &error))?;
    sync_directory(path)
}

fn open_file(path: &Path, cache_bytes: usize, syncs: Syncs) -> Result<Database, DatabaseError> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // A new database is made nowhere but in `create`.
    if file.metadata()?.len() == 0 {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "it is empty").into());
    }
    open_backend(FileBackend::new(file)?, cache_bytes, syncs)
}

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
fn open_backend(
    backend: impl StorageBackend,
    cache_bytes: usize,
    syncs: Syncs,
) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    match syncs {
        Syncs::WhenAsked => builder.create_with_backend(backend),
        Syncs::InPieces => builder.create_with_backend(Paced::new(backend)),
    }
}

/// Makes a rename in the directory of `path` durable.
///
/// # Errors
/// When the directory cannot be synced.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| os_error(directory, &error))
}

/// What an error of redb means for the operator: the one place that says so, for every file. The
/// path may be empty where it is not known, and be put in later ([`named`]).
pub(crate) fn store_error(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    use redb::Error;
    match error.into() {
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => {
            StoreError::Locked { path: path.into() }
        }
        Error::Io(error) => os_error(path, &error),
        // The file is redb's, but not what this program wrote.
        error @ (Error::Corrupted(_)
        | Error::RepairAborted
        | Error::UpgradeRequired(_)
        | Error::TableDoesNotExist(_)
        | Error::TableTypeMismatch { .. }
        | Error::TableIsMultimap(_)
        | Error::TypeDefinitionChanged { .. }) => damaged(path, error.to_string()),
        // The remaining variants (the enum is open) are failures of the storage or of redb.
        error => StoreError::Io(error.to_string()),
    }
}

/// What the operating system refused, told by what an operator can do about it.
pub(crate) fn os_error(path: &Path, error: &std::io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { path: path.into() }
        }
        // A file that ends before its end was cut.
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => damaged(path, error.to_string()),
        _ if path.as_os_str().is_empty() => StoreError::Io(error.to_string()),
        _ => StoreError::Io(format!("`{}`: {error}", path.display())),
    }
}

/// A file is not what it must be.
pub(crate) fn damaged(path: &Path, detail: impl Into<String>) -> StoreError {
    StoreError::Damaged { path: path.into(), detail: detail.into() }
}

/// What a panic while a file is opened or written means: redb panics over some kinds of damage.
pub(crate) fn unreadable(path: &Path) -> StoreError {
    damaged(path, "it cannot be read to the end")
}

/// Puts the path into an error that was made where it was not known.
pub(crate) fn named(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Locked { path: unknown } if unknown.as_os_str().is_empty() => {
            StoreError::Locked { path: path.into() }
        }
        StoreError::ReadOnly { path: unknown } if unknown.as_os_str().is_empty() => {
            StoreError::ReadOnly { path: path.into() }
        }
        StoreError::Damaged { path: unknown, detail } if unknown.as_os_str().is_empty() => {
            StoreError::Damaged { path: path.into(), detail }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_cache_grows_with_the_file_within_bounds_unless_it_is_set() {
        const MIB: usize = 1024 * 1024;
        for (set, kept, mib, shards, cache) in [
            (0, Kept::Tables, 0, 1, 4 * MIB),
            (0, Kept::Tables, 512, 1, 4 * MIB),
            (0, Kept::Tables, 1024, 1, 8 * MIB),
            (0, Kept::Memory, 1024, 1, 4 * MIB),
            (0, Kept::Tables, 65_536, 1, 512 * MIB),
            (0, Kept::Tables, u64::MAX >> 20, 1, 512 * MIB),
            (0, Kept::Tables, 65_536, 4, 128 * MIB),
            (0, Kept::Tables, 65_536, 1024, 4 * MIB),
            (MIB, Kept::Tables, 65_536, 1, MIB),
            (1024 * MIB, Kept::Memory, 0, 64, 1024 * MIB),
        ] {
            let found = page_cache(set, kept, mib << 20, shards);
            assert_eq!(found, cache, "{set} {kept:?} {mib} {shards}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("post-0.redb");
        assert_eq!(Storage::files().length(&path), 0);
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(Storage::files().length(&path), 100);
    }

    #[test]
    fn an_error_means_the_same_whichever_file_it_is_of() {
        let path = Path::new("log-0.redb");
        let io = |kind: ErrorKind| store_error(path, redb::Error::Io(kind.into()));
        for error in [
            io(ErrorKind::UnexpectedEof),
            io(ErrorKind::InvalidData),
            store_error(path, redb::TableError::TableDoesNotExist("entries".into())),
            store_error(path, redb::TableError::TableIsMultimap("entries".into())),
            store_error(path, redb::StorageError::Corrupted("a page".into())),
            store_error(path, DatabaseError::UpgradeRequired(1)),
            unreadable(path),
        ] {
            let StoreError::Damaged { path: named, .. } = &error else { panic!("{error:?}") };
            assert_eq!(named, path);
        }
        assert!(matches!(io(ErrorKind::StorageFull), StoreError::Full));
        assert!(matches!(io(ErrorKind::PermissionDenied), StoreError::ReadOnly { .. }));
        let locked = store_error(path, DatabaseError::DatabaseAlreadyOpen);
        assert!(matches!(locked, StoreError::Locked { .. }));
        for passing in [io(ErrorKind::Other), store_error(path, redb::StorageError::PreviousIo)] {
            assert!(matches!(passing, StoreError::Io(_)), "{passing:?}");
        }
    }

    #[test]
    fn an_empty_file_is_no_database_and_is_left_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("post-0.redb");
        std::fs::write(&path, []).unwrap();
        for syncs in [Syncs::WhenAsked, Syncs::InPieces] {
            let opened = Storage::files().open(&path, PAGE_CACHE_MIN, syncs, |_| Ok(()));
            assert!(
                matches!(opened, Err(StoreError::Damaged { path: named, .. }) if named == path)
            );
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn a_path_that_was_not_known_is_put_in_once() {
        let unknown = store_error(Path::new(""), redb::StorageError::Corrupted("a page".into()));
        let known = named(Path::new("outer"), named(Path::new("post-0.redb"), unknown));
        assert!(
            matches!(known, StoreError::Damaged { path, .. } if path == Path::new("post-0.redb"))
        );
    }
}
