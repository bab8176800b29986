//! A disk in memory that loses power, tears writes, fails and fills up; for tests.
//!
//! What was written since the last sync is kept apart. A cut keeps a random part of it: whole
//! writes, or single sectors of them.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::Rng;
use redb::StorageBackend;

/// The unit that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A disk with one file. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultDisk(Arc<Mutex<Disk>>);

/// The file as a program sees it that has opened it; dies with the next cut.
#[derive(Debug)]
pub(crate) struct FaultBackend {
    disk: FaultDisk,
    boot: u64,
}

#[derive(Default)]
struct Disk {
    /// What a cut cannot take away.
    durable: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    unsynced: Vec<Change>,
    /// Backends of an earlier boot are dead.
    boot: u64,
    plan: Option<Plan>,
    fails_a_read: bool,
    syncs: u64,
    writes: u64,
    sync_delay: Duration,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("bytes", &self.current.len()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    operations_left: u64,
    kind: io::ErrorKind,
}

impl FaultDisk {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Opens the file.
    pub(crate) fn backend(&self) -> FaultBackend {
        FaultBackend { disk: self.clone(), boot: self.lock().boot }
    }

    /// After so many more changing operations (writes, syncs, changes of length), all of them
    /// fail with an error of this kind, until the next cut.
    pub(crate) fn fail_after(&self, operations: u64, kind: io::ErrorKind) {
        self.lock().plan = Some(Plan { operations_left: operations, kind });
    }

    /// Ends what [`Self::fail_after`] began.
    pub(crate) fn recover(&self) {
        self.lock().plan = None;
    }

    /// Has the next read fail, and only that.
    pub(crate) fn fail_a_read(&self) {
        self.lock().fails_a_read = true;
    }

    /// How many syncs succeeded.
    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// How many writes there were.
    pub(crate) fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// What a cut cannot take away.
    pub(crate) fn durable(&self) -> Vec<u8> {
        self.lock().durable.clone()
    }

    /// Makes every sync take this long.
    pub(crate) fn set_sync_delay(&self, delay: Duration) {
        self.lock().sync_delay = delay;
    }

    /// Cuts the power: of what was not synced, a random part survives. The file can be opened
    /// again at once.
    pub(crate) fn cut(&self, random: &mut impl Rng) {
        let mut disk = self.lock();
        let changes = std::mem::take(&mut disk.unsynced);
        // Nothing, everything, or any mixture: all of them happen to real disks.
        let keep = *[0.0, 0.1, 0.5, 0.9, 1.0].get(random.random_range(0..5)).unwrap_or(&0.5);
        let torn = random.random_bool(0.5);
        for change in &changes {
            match change {
                Change::SetLen(_) => {
                    if random.random_bool(keep) {
                        change.apply_to(&mut disk.durable);
                    }
                }
                Change::Write { offset, data } if torn => {
                    // Sectors lie at multiples of their size in the file, not in the write.
                    let mut start = 0;
                    while start < data.len() {
                        let sector_left = SECTOR_BYTES - (offset + start) % SECTOR_BYTES;
                        let end = data.len().min(start + sector_left);
                        if random.random_bool(keep) {
                            write(&mut disk.durable, offset + start, &data[start..end]);
                        }
                        start = end;
                    }
                }
                Change::Write { .. } => {
                    if random.random_bool(keep) {
                        change.apply_to(&mut disk.durable);
                    }
                }
            }
        }
        disk.current = disk.durable.clone();
        disk.boot += 1;
        disk.plan = None;
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().expect("no holder panics")
    }
}

impl Change {
    fn apply_to(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => write(image, *offset, data),
            Self::SetLen(len) => image.resize(*len, 0),
        }
    }
}

/// Writes what lies within the image; the rest is lost with the length that did not survive.
fn write(image: &mut [u8], offset: usize, data: &[u8]) {
    let end = image.len().min(offset + data.len());
    if offset < end {
        image[offset..end].copy_from_slice(&data[..end - offset]);
    }
}

impl FaultBackend {
    fn alive(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.lock();
        if disk.boot != self.boot {
            return Err(io::Error::other("the power was cut"));
        }
        Ok(disk)
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut disk = self.alive()?;
        let planned = disk.step();
        let out_of_space = planned.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::StorageFull);
        if !out_of_space {
            // Of an operation that fails, too, any part may have reached the disk.
            change.apply_to(&mut disk.current);
            disk.unsynced.push(change);
        }
        planned
    }
}

impl Disk {
    fn step(&mut self) -> io::Result<()> {
        let Some(plan) = &mut self.plan else { return Ok(()) };
        if plan.operations_left == 0 {
            return Err(io::Error::new(plan.kind, "planned by the test"));
        }
        plan.operations_left -= 1;
        Ok(())
    }
}

impl StorageBackend for FaultBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.alive()?.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut disk = self.alive()?;
        if std::mem::take(&mut disk.fails_a_read) {
            return Err(io::Error::other("planned by the test"));
        }
        let from = offset as usize;
        let bytes = disk.current.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let delay = self.alive()?.sync_delay;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let mut guard = self.alive()?;
        guard.step()?;
        let disk = &mut *guard;
        for change in disk.unsynced.drain(..) {
            change.apply_to(&mut disk.durable);
        }
        disk.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.alive()?.writes += 1;
        self.change(Change::Write { offset: offset as usize, data: data.to_vec() })
    }
}
