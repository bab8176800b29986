//! The data directory: who holds it, what it is, and the keys in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::seams::Random;
use crate::store::error::StoreError;
use crate::store::file::{os_error, sync_directory};

/// Format of the directory that this program writes.
pub const DIRECTORY_FORMAT: u32 = 1;
/// Bytes of a token-signing key: the block of the hash would be the useful maximum (64).
const KEY_BYTES: usize = 32;

const ABOUT: &str = "quire.json";
const LOCK: &str = "lock";
const LOG: &str = "log";
const KEY: &str = "signing.key";
const OPS_ADDRESS: &str = "ops.addr";
const DEMO: &str = "demo";

/// What a directory says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Layout of the directory.
    pub format: u32,
    /// This node, in the cluster it may join one day.
    pub node: u64,
    /// Shards per service; fixed when the directory is made.
    pub shards: u16,
}

/// A directory that this process holds. The lock ends with the process, however that ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    about: About,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, or makes it (mode 0700), and locks it.
    ///
    /// # Errors
    /// When another process holds it, it is newer than this program, damaged, or read-only.
    pub fn open(path: &Path, shards: u16) -> Result<Self, StoreError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| os_error(path, &error))?;
        let lock = lock(path)?;
        forget_ops(path)?;
        let file = path.join(ABOUT);
        let about = match std::fs::read_to_string(&file) {
            Ok(text) => read_about(&file, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                refuse_orphans(path, ABOUT)?;
                let node = Random::system().any::<u64>() >> 1;
                let about = About { format: DIRECTORY_FORMAT, node, shards };
                let text = serde_json::to_string_pretty(&about).expect("it is plain data");
                write_new(path, ABOUT, text.as_bytes())?;
                about
            }
            Err(error) => return Err(os_error(&file, &error)),
        };
        Ok(Self { path: path.into(), about, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the directory says about itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The file of a log lane.
    pub fn lane(&self, lane: u16) -> PathBuf {
        self.path.join(format!("{LOG}-{lane}.redb"))
    }

    /// Shards without a log have lost it: the log is made before any of them.
    ///
    /// # Errors
    /// When that is so.
    pub fn check_log(&self) -> Result<(), StoreError> {
        let log = self.lane(0);
        match log.try_exists().map_err(|error| os_error(&log, &error))? {
            true => Ok(()),
            false => refuse_orphans(&self.path, &format!("{LOG}-0.redb")),
        }
    }

    /// The file of a shard.
    pub fn shard(&self, service: &str, shard: u16) -> PathBuf {
        self.path.join(format!("{service}-{shard}.redb"))
    }

    /// The key that signs tokens, made (mode 0600) when there is none.
    ///
    /// # Errors
    /// When it cannot be read or made, or is too short to be one.
    pub fn signing_key(&self) -> Result<Vec<u8>, StoreError> {
        signing_key(&self.path)
    }

    /// Writes where the operations listener is, for commands that look for the running node.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn publish_ops(&self, address: std::net::SocketAddr) -> Result<(), StoreError> {
        write_new(&self.path, OPS_ADDRESS, address.to_string().as_bytes())
    }
}

impl DataDir {
    /// Whether what is in it was generated.
    pub fn is_demo(&self) -> bool {
        self.path.join(DEMO).exists()
    }

    /// From now on what is in it counts as generated.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn mark_demo(&self) -> Result<(), StoreError> {
        write_new(&self.path, DEMO, b"made by quire demo\n")
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path.join(OPS_ADDRESS));
    }
}

/// Removes the address that a killed node left: whoever listens there now is not the holder of this
/// directory, and a command that finds the directory held would hand a credential to it.
fn forget_ops(path: &Path) -> Result<(), StoreError> {
    let file = path.join(OPS_ADDRESS);
    match std::fs::remove_file(&file) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(os_error(&file, &error)),
    }
}

/// Where the operations listener of the node that holds this directory is, if one does.
pub fn ops_address(path: &Path) -> Option<std::net::SocketAddr> {
    std::fs::read_to_string(path.join(OPS_ADDRESS)).ok()?.trim().parse().ok()
}

/// The key that signs tokens; readable beside a running node, by who may read the directory.
///
/// # Errors
/// When it cannot be read or made, or is too short to be one.
pub fn signing_key(directory: &Path) -> Result<Vec<u8>, StoreError> {
    let file = directory.join(KEY);
    match std::fs::read(&file) {
        Ok(key) if key.len() >= KEY_BYTES => Ok(key),
        Ok(_) => Err(StoreError::Damaged { path: file, detail: "the key is too short".into() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key: [u8; KEY_BYTES] = Random::system().any();
            write_new(directory, KEY, &key)?;
            Ok(key.to_vec())
        }
        Err(error) => Err(os_error(&file, &error)),
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file = path.join(LOCK);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&file)
        .map_err(|error| os_error(&file, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.into() }),
        Err(TryLockError::Error(error)) => Err(os_error(&file, &error)),
    }
}

fn read_about(file: &Path, text: &str) -> Result<About, StoreError> {
    /// The only part that every format has.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |error: serde_json::Error| StoreError::Damaged {
        path: file.into(),
        detail: error.to_string(),
    };
    let Format { format } = serde_json::from_str(text).map_err(damaged)?;
    if format > DIRECTORY_FORMAT {
        return Err(StoreError::Newer {
            path: file.into(),
            found: format,
            known: DIRECTORY_FORMAT,
        });
    }
    let about: About = serde_json::from_str(text).map_err(damaged)?;
    if about.shards == 0 {
        let detail = "it has no shards".into();
        return Err(StoreError::Damaged { path: file.into(), detail });
    }
    Ok(about)
}

/// Data without its description or its log is damage: starting empty beside it would hide it.
fn refuse_orphans(path: &Path, missing: &str) -> Result<(), StoreError> {
    let entries = std::fs::read_dir(path).map_err(|error| os_error(path, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| os_error(path, &error))?;
        if entry.path().extension().is_some_and(|extension| extension == "redb") {
            let detail = format!("there is data in it, but no `{missing}`");
            return Err(StoreError::Damaged { path: path.into(), detail });
        }
    }
    Ok(())
}

/// Writes a small file whole or not at all, mode 0600.
fn write_new(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let file = directory.join(name);
    let temporary = directory.join(format!("{name}.new"));
    let written = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut open| {
            open.write_all(bytes)?;
            open.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, &file));
    written.map_err(|error| os_error(&file, &error))?;
    sync_directory(&file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_is_made_once_and_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataDir::open(&path, 4).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(DataDir::open(&path, 4), Err(StoreError::Locked { .. })));
        let about = first.about().clone();
        let key = first.signing_key().unwrap();
        drop(first);
        let again = DataDir::open(&path, 1).unwrap();
        assert_eq!(again.about(), &about, "an existing directory keeps its shards");
        assert_eq!(again.signing_key().unwrap(), key);
        let mode = std::fs::metadata(path.join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_address_that_a_killed_node_left_is_forgotten_by_the_next_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        drop(DataDir::open(path, 1).unwrap());
        std::fs::write(path.join(OPS_ADDRESS), "127.0.0.1:9").unwrap();
        let held = DataDir::open(path, 1).unwrap();
        assert_eq!(ops_address(path), None);
        held.publish_ops(([127, 0, 0, 1], 7).into()).unwrap();
        DataDir::open(path, 1).unwrap_err();
        assert!(ops_address(path).is_some(), "who is refused touches nothing");
    }

    #[test]
    fn a_newer_damaged_or_orphaned_directory_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for (text, newer) in
            [("{\"format\":2,\"x\":1}", true), ("{", false), ("{\"format\":1}", false)]
        {
            std::fs::write(path.join(ABOUT), text).unwrap();
            match DataDir::open(path, 1) {
                Err(StoreError::Newer { found: 2, known: 1, .. }) => assert!(newer),
                Err(StoreError::Damaged { .. }) => assert!(!newer),
                other => panic!("{other:?}"),
            }
            assert_eq!(std::fs::read_to_string(path.join(ABOUT)).unwrap(), text);
        }
        std::fs::remove_file(path.join(ABOUT)).unwrap();
        std::fs::write(path.join("post-0.redb"), "x").unwrap();
        assert!(matches!(DataDir::open(path, 1), Err(StoreError::Damaged { .. })));
    }
}
