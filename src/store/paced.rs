//! A file that reaches the disk piece by piece.
//!
//! What a checkpoint writes waits in the page cache until one sync at its end, and all that time every other
//! sync on the device waits too: those of the log, for which writers wait. So it is synced every few MiB. After a
//! power cut an early sync leaves only what could have been left without it: the system may write anything at
//! any time.
//!
//! **Invariant**: P1 once an early sync has failed, every write and every sync fails. The system tells of what it
//! could not write only once, and redb may pass over an error of a write that it need not have made yet.

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::{BackendError, StorageBackend};

/// Bytes that may wait for a sync. With a quarter of it syncs of the log took no less, and there were four times
/// as many here.
const PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// A backend that syncs when so many bytes were written. It forwards every method that redb 4.6 has.
#[derive(Debug)]
pub(super) struct Paced<B> {
    backend: B,
    unsynced: AtomicU64,
    has_failed: AtomicBool,
}

impl<B> Paced<B> {
    pub(super) fn new(backend: B) -> Self {
        Self { backend, unsynced: AtomicU64::new(0), has_failed: AtomicBool::new(false) }
    }

    /// P1.
    fn check(&self) -> io::Result<()> {
        match self.has_failed.load(Ordering::Acquire) {
            true => Err(io::Error::other("a part of this file could not be written")),
            false => Ok(()),
        }
    }
}

impl<B: StorageBackend> StorageBackend for Paced<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.backend.sync_data()?;
        // Of one that failed meanwhile on another thread, this one was not told.
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.backend.write(offset, data)?;
        let written = data.len() as u64;
        if self.unsynced.fetch_add(written, Ordering::Relaxed) + written < PIECE_BYTES {
            return Ok(());
        }
        self.sync_data().inspect_err(|_| self.has_failed.store(true, Ordering::Release))
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::store::fault::FaultDisk;

    static WRITE: [u8; 400 * 1024] = [7; 400 * 1024];

    #[test]
    fn what_is_written_is_synced_piece_by_piece() {
        let disk = FaultDisk::new();
        let paced = Paced::new(disk.backend());
        paced.set_len(100 * WRITE.len() as u64).unwrap();
        let write = |number: u64| paced.write(number * WRITE.len() as u64, &WRITE);
        (0..10).for_each(|number| write(number).unwrap());
        assert_eq!(disk.syncs(), 0);
        write(10).unwrap();
        assert_eq!(disk.syncs(), 1);
        assert_eq!(disk.durable()[..11 * WRITE.len()], WRITE.repeat(11));
        // A sync that the writer asks for begins a new piece.
        (11..20).for_each(|number| write(number).unwrap());
        paced.sync_data().unwrap();
        (20..30).for_each(|number| write(number).unwrap());
        assert_eq!(disk.syncs(), 2);
        write(30).unwrap();
        assert_eq!(disk.syncs(), 3);
    }

    #[test]
    fn a_piece_that_cannot_be_synced_is_a_write_that_failed() {
        let disk = FaultDisk::new();
        let paced = Paced::new(disk.backend());
        paced.set_len(100 * WRITE.len() as u64).unwrap();
        disk.fail_after(11, ErrorKind::Other);
        (0..10).for_each(|number| paced.write(number * WRITE.len() as u64, &WRITE).unwrap());
        assert!(paced.write(10 * WRITE.len() as u64, &WRITE).is_err());
        // The disk is well again, but what it could not take is gone.
        disk.recover();
        assert!(paced.sync_data().is_err());
        assert!(paced.write(0, &WRITE).is_err());
        assert!(Paced::new(disk.backend()).write(0, &WRITE).is_ok());
    }
}
