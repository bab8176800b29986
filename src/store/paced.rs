//! A file that reaches the disk once, and piece by piece.
//!
//! *Once*: redb writes what its buffer has no room for, and everything again when it has computed the checksums of a
//! commit, whatever is in the buffer then: of a checkpoint of 30 MiB every page was written twice. So what is written
//! is gathered here until a sync (of which redb asks for one more when the file grows), and reads find it here.
//!
//! *Piece by piece*: what a checkpoint writes would wait in the page cache until one sync, and all that time every
//! other sync on the device waits too: those of the log, for which writers wait. So it is synced every few MiB, and of
//! pages that lie apart sooner. After a power cut an early sync leaves only what could have been left without it: the
//! system may write anything at any time.
//!
//! **Invariants**: P1 once a write or a sync has failed, every further one fails: the system tells of
//! what it could not write only once, and redb may pass over an error of a write that it need not have made yet;
//! P2 what is gathered does not overlap, and stands over the file; P3 a sync returns when nothing is gathered that
//! was written before.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// Bytes between two syncs, of writes in a row. With a quarter of it syncs of the log took no less, and there were
/// four times as many here.
const PIECE_BYTES: usize = 4 * 1024 * 1024;
/// Writes between two syncs where each lies apart from the one before, for a disk does each by itself: the sync of a
/// thousand such pages took up to 40 ms, of as many bytes in a row 4, and those of the log waited as long. There are up
/// to eight times as many syncs of such pages; together they take about as long.
const PIECE_WRITES_APART: usize = 128;
/// Bytes that are gathered at most: twice the largest checkpoint whose size is chosen, for a body of 5 kB takes a page
/// of 8 KiB. Beyond it everything is written and synced at once, and some of it will be written again.
const GATHERED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A backend that gathers what is written until a sync. It forwards every method that redb 4.6 has.
#[derive(Debug)]
pub(super) struct Paced<B> {
    backend: B,
    piece_bytes: usize,
    /// Held while what is gathered is written, so that nothing older is written over what is newer; before the next.
    writing: Mutex<()>,
    gathered: Mutex<Gathered>,
    /// Bytes of `gathered`: readers of a file into which nobody writes need no lock.
    bytes: AtomicUsize,
    has_failed: AtomicBool,
}

/// Writes by their offset (P2).
type Gathered = BTreeMap<u64, Arc<[u8]>>;

impl<B: StorageBackend> Paced<B> {
    pub(super) fn new(backend: B) -> Self {
        Self::with_pieces(backend, PIECE_BYTES)
    }

    /// With a sync after about so many bytes.
    pub(super) fn with_pieces(backend: B, piece_bytes: usize) -> Self {
        Self {
            backend,
            piece_bytes,
            writing: Mutex::default(),
            gathered: Mutex::default(),
            bytes: AtomicUsize::new(0),
            has_failed: AtomicBool::new(false),
        }
    }

    /// P1.
    fn check(&self) -> io::Result<()> {
        match self.has_failed.load(Ordering::Acquire) {
            true => Err(io::Error::other("a part of this file could not be written")),
            false => Ok(()),
        }
    }

    fn fail_on<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|_| self.has_failed.store(true, Ordering::Release))
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes everything, with a sync after each piece but the last.
    fn write_gathered(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_first = true;
        loop {
            let piece = self.piece();
            if piece.is_empty() {
                return Ok(());
            }
            if !std::mem::take(&mut is_first) {
                self.backend.sync_data()?;
            }
            for (offset, data) in &piece {
                self.backend.write(*offset, data)?;
            }
            let mut gathered = self.lock();
            for (offset, data) in &piece {
                // Unless it was written anew meanwhile. What is removed is freed with the piece: others wait for
                // the lock.
                if gathered.get(offset).is_some_and(|known| Arc::ptr_eq(known, data)) {
                    gathered.remove(offset);
                    self.bytes.fetch_sub(data.len(), Ordering::AcqRel);
                }
            }
        }
    }

    /// What is written next, in the order of the file.
    fn piece(&self) -> Vec<(u64, Arc<[u8]>)> {
        let (mut left, mut end) = (self.piece_bytes, None);
        let mut piece: Vec<(u64, Arc<[u8]>)> = Vec::new();
        for (offset, data) in self.lock().iter() {
            let is_apart = end.is_some_and(|end| end != *offset);
            let least = if is_apart { self.piece_bytes / PIECE_WRITES_APART } else { 0 };
            left = left.saturating_sub(data.len().max(least));
            end = offset.checked_add(data.len() as u64);
            piece.push((*offset, data.clone()));
            if left == 0 {
                break;
            }
        }
        piece
    }

    /// Writes what overlaps with these bytes.
    fn write_overlapping(&self, offset: u64, length: usize) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gathered = self.lock();
        while let Some((start, data)) = overlapping(&gathered, offset, length) {
            self.backend.write(start, &data)?;
            gathered.remove(&start);
            self.bytes.fetch_sub(data.len(), Ordering::AcqRel);
        }
        Ok(())
    }
}

/// The last of what was gathered that overlaps with these bytes.
fn overlapping(gathered: &Gathered, offset: u64, length: usize) -> Option<(u64, Arc<[u8]>)> {
    let (start, data) = gathered.range(..offset.checked_add(length as u64)?).next_back()?;
    (start + data.len() as u64 > offset).then(|| (*start, data.clone()))
}

impl<B: StorageBackend> StorageBackend for Paced<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.bytes.load(Ordering::Acquire) == 0 {
            return self.backend.read(offset, out);
        }
        let found = overlapping(&self.lock(), offset, out.len());
        if let Some((start, data)) = found {
            let wanted = offset.checked_sub(start).and_then(|skipped| {
                let skipped = usize::try_from(skipped).ok()?;
                data.get(skipped..skipped + out.len())
            });
            if let Some(wanted) = wanted {
                out.copy_from_slice(wanted);
                return Ok(());
            }
            self.fail_on(self.write_overlapping(offset, out.len()))?;
        }
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len < self.backend.len()? {
            // What lies behind the end must not come back.
            self.fail_on(self.write_gathered())?;
        }
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.fail_on(self.write_gathered().and_then(|()| self.backend.sync_data()))?;
        // Of one that failed meanwhile on another thread, this one was not told.
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let new: Arc<[u8]> = data.into();
        loop {
            self.check()?;
            let mut gathered = self.lock();
            let known = overlapping(&gathered, offset, data.len());
            let is_same = |start: u64, known: &[u8]| start == offset && known.len() == data.len();
            if known.as_ref().is_none_or(|(start, known)| is_same(*start, known)) {
                gathered.insert(offset, new);
                if known.is_none() {
                    self.bytes.fetch_add(data.len(), Ordering::AcqRel);
                }
                break;
            }
            drop(gathered);
            self.fail_on(self.write_overlapping(offset, data.len()))?;
        }
        match self.bytes.load(Ordering::Acquire) > GATHERED_BYTES_MAX {
            true => self.sync_data(),
            false => Ok(()),
        }
    }

    fn close(&self) -> io::Result<()> {
        let written = self.check().and_then(|()| self.write_gathered());
        self.backend.close()?;
        written
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

    use proptest::prelude::*;

    use super::*;
    use crate::store::fault::FaultDisk;

    static WRITE: [u8; 400 * 1024] = [7; 400 * 1024];

    #[test]
    fn what_is_gathered_is_written_once_and_synced_piece_by_piece() {
        let disk = FaultDisk::new();
        let paced = Paced::new(disk.backend());
        paced.set_len(100 * WRITE.len() as u64).unwrap();
        let write = |number: u64| paced.write(number * WRITE.len() as u64, &WRITE);
        let before = disk.writes();
        (0..25).chain(0..25).for_each(|number| write(number).unwrap());
        assert_eq!((disk.syncs(), disk.writes()), (0, before));
        paced.sync_data().unwrap();
        // Of 11, 11 and 3 of them.
        assert_eq!((disk.syncs(), disk.writes()), (3, before + 25));
        assert_eq!(disk.durable()[..25 * WRITE.len()], WRITE.repeat(25));
        paced.sync_data().unwrap();
        assert_eq!((disk.syncs(), disk.writes()), (4, before + 25));
    }

    #[test]
    fn a_piece_of_writes_that_lie_apart_is_shorter() {
        const PAGE: usize = 4096;
        let disk = FaultDisk::new();
        let paced = Paced::new(disk.backend());
        paced.set_len(2 * 1024 * PAGE as u64).unwrap();
        let syncs = |step: u64| {
            let before = disk.syncs();
            (0..1024).for_each(|n| paced.write(n * step * PAGE as u64, &WRITE[..PAGE]).unwrap());
            paced.sync_data().unwrap();
            disk.syncs() - before
        };
        assert_eq!((syncs(1), syncs(2)), (1, 8));
    }

    #[test]
    fn no_more_is_gathered_than_there_is_room_for() {
        let disk = FaultDisk::new();
        let paced = Paced::new(disk.backend());
        let fitting = GATHERED_BYTES_MAX / WRITE.len();
        paced.set_len((2 * fitting * WRITE.len()) as u64).unwrap();
        let write = |number: usize| paced.write((number * WRITE.len()) as u64, &WRITE).unwrap();
        (0..fitting).for_each(write);
        assert_eq!(disk.syncs(), 0);
        write(fitting);
        assert!(disk.syncs() > 0 && paced.lock().is_empty());
        assert_eq!(paced.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(disk.durable()[..(fitting + 1) * WRITE.len()], WRITE.repeat(fitting + 1));
    }

    #[test]
    fn what_cannot_be_written_fails_for_good() {
        // Writes of the first piece, its sync, a write of the last piece, or the last sync.
        for operations in [0, 5, 11, 15, 21] {
            let disk = FaultDisk::new();
            let paced = Paced::new(disk.backend());
            paced.set_len(100 * WRITE.len() as u64).unwrap();
            (0..20).for_each(|number| paced.write(number * WRITE.len() as u64, &WRITE).unwrap());
            disk.fail_after(operations, ErrorKind::Other);
            assert!(paced.sync_data().is_err());
            // The disk is well again, but what it could not take is gone.
            disk.recover();
            assert!(paced.sync_data().is_err());
            assert!(paced.write(0, &WRITE).is_err());
            assert!(Paced::new(disk.backend()).write(0, &WRITE).is_ok());
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Read(u64, usize),
        SetLen(u64),
        Sync,
    }

    fn step() -> impl Strategy<Value = Step> {
        let write = (0..40_u64, proptest::collection::vec(any::<u8>(), 1..12));
        prop_oneof![
            6 => write.prop_map(|(offset, data)| Step::Write(offset, data)),
            4 => (0..40_u64, 1..12_usize).prop_map(|(offset, length)| Step::Read(offset, length)),
            1 => (30..60_u64).prop_map(Step::SetLen),
            1 => Just(Step::Sync),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn it_reads_as_a_plain_file_does_and_is_one_after_a_sync(
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let disk = FaultDisk::new();
            let paced = Paced::new(disk.backend());
            let mut file = vec![0_u8; 60];
            paced.set_len(60).unwrap();
            for step in steps {
                match step {
                    Step::Write(offset, data) => {
                        let offset_in = offset as usize;
                        if offset_in + data.len() <= file.len() {
                            paced.write(offset, &data).unwrap();
                            file[offset_in..offset_in + data.len()].copy_from_slice(&data);
                        }
                    }
                    Step::Read(offset, length) => {
                        let mut out = vec![0; length];
                        let known = file.get(offset as usize..offset as usize + length);
                        let read = paced.read(offset, &mut out);
                        prop_assert_eq!(read.ok().map(|()| &out[..]), known);
                    }
                    Step::SetLen(length) => {
                        paced.set_len(length).unwrap();
                        file.resize(length as usize, 0);
                    }
                    Step::Sync => {
                        paced.sync_data().unwrap();
                        prop_assert_eq!(&disk.durable()[..], &file[..]);
                    }
                }
                let gathered = paced.lock();
                let bytes: usize = gathered.values().map(|data| data.len()).sum();
                prop_assert_eq!(bytes, paced.bytes.load(Ordering::Relaxed));
                let ends = gathered.iter().map(|(offset, data)| offset + data.len() as u64);
                prop_assert!(gathered.keys().skip(1).zip(ends).all(|(next, end)| end <= *next));
            }
            paced.close().unwrap();
            let mut out = vec![0; file.len()];
            disk.backend().read(0, &mut out).unwrap();
            prop_assert_eq!(out, file);
        }
    }
}
