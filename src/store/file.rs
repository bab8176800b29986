//! Opening redb files: creation under a temporary name, and errors that say what to do.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError};

use crate::store::error::StoreError;

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
type Disks = std::collections::BTreeMap<PathBuf, crate::store::fault::FaultDisk>;

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
        initialise: impl FnOnce(&Database) -> Result<(), StoreError>,
    ) -> Result<Database, StoreError> {
        match &self.0 {
            Place::Files => {
                if !path.try_exists().map_err(|error| os_error(path, &error))? {
                    create(path, cache_bytes, initialise)?;
                }
            }
            #[cfg(test)]
            Place::Memory(disks) => {
                let mut disks = disks.lock().expect("no holder panics");
                if !disks.contains_key(path) {
                    let disk = crate::store::fault::FaultDisk::new();
                    initialise(&open_disk(&disk, cache_bytes)?)?;
                    disks.insert(path.into(), disk);
                }
            }
        }
        self.open_existing(path, cache_bytes)
    }

    /// Opens a file that must be there.
    ///
    /// # Errors
    /// As [`Storage::open`], and when there is none.
    pub(crate) fn open_existing(
        &self,
        path: &Path,
        cache_bytes: usize,
    ) -> Result<Database, StoreError> {
        let opened = match &self.0 {
            Place::Files => open_file(path, cache_bytes),
            #[cfg(test)]
            Place::Memory(_) => open_disk(&self.disk(path), cache_bytes),
        };
        opened.map_err(|error| named(path, error))
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

fn create(
    path: &Path,
    cache_bytes: usize,
    initialise: impl FnOnce(&Database) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(os_error(&temporary, &error));
        }
        _ => {}
    }
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    let db = Database::builder()
        .set_cache_size(cache_bytes)
        .create(&temporary)
        .map_err(|error| named(&temporary, database_error(error)))?;
    initialise(&db)?;
    drop(db);
    File::open(&temporary)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| os_error(path, &error))?;
    sync_directory(path)
}

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
fn open_file(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    Database::builder().set_cache_size(cache_bytes).open(path).map_err(database_error)
}

#[cfg(test)]
fn open_disk(
    disk: &crate::store::fault::FaultDisk,
    cache_bytes: usize,
) -> Result<Database, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes).create_with_backend(disk.backend()).map_err(database_error)
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

/// What opening a database can fail with.
pub(crate) fn database_error(error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::Locked { path: PathBuf::new() }
        }
        DatabaseError::UpgradeRequired(found) => StoreError::Damaged {
            path: PathBuf::new(),
            detail: format!("redb file format {found} is not supported"),
        },
        DatabaseError::RepairAborted => {
            StoreError::Damaged { path: PathBuf::new(), detail: "repair was aborted".into() }
        }
        DatabaseError::Storage(error) => io_error(error.into()),
        other => StoreError::Io(other.to_string()),
    }
}

/// What work on an open database can fail with.
pub(crate) fn io_error(error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) => os_error(Path::new(""), &error),
        redb::Error::Corrupted(detail) => StoreError::Damaged { path: PathBuf::new(), detail },
        other => StoreError::Io(other.to_string()),
    }
}

/// What the operating system refused, told by what an operator can do about it.
pub(crate) fn os_error(path: &Path, error: &std::io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { path: path.into() }
        }
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            StoreError::Damaged { path: path.into(), detail: error.to_string() }
        }
        _ => StoreError::Io(format!("{}: {error}", path.display())),
    }
}

/// What a panic while a file is opened means: redb panics over some kinds of damage.
pub(crate) fn unreadable(path: &Path) -> StoreError {
    StoreError::Damaged { path: path.into(), detail: "it cannot be read to the end".into() }
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
