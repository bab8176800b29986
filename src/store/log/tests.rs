use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{Database, TableDefinition};

use super::{Done, GroupLog, LaneObserver, LaneOptions, LogLane};
use crate::ids::{GroupId, LogIndex};
use crate::store::error::StoreError;
use crate::store::fault::FaultDisk;

type Waiter = mpsc::Receiver<Result<(), StoreError>>;

fn waiter() -> (Done, Waiter) {
    let (sender, receiver) = mpsc::channel();
    (Box::new(move |result| drop(sender.send(result))), receiver)
}

fn wait(waiter: &Waiter) -> Result<(), StoreError> {
    waiter.recv_timeout(Duration::from_secs(20)).expect("every request is answered")
}

fn body(index: u64, bytes: usize) -> Bytes {
    Bytes::from(vec![(index % 251) as u8; bytes])
}

fn append(log: &GroupLog, range: std::ops::RangeInclusive<u64>, bytes: usize) -> Waiter {
    let (done, waiter) = waiter();
    log.append(range.map(|index| (LogIndex(index), body(index, bytes))).collect(), done);
    waiter
}

fn purge(log: &GroupLog, index: u64) -> Result<(), StoreError> {
    let (done, waiter) = waiter();
    log.purge_to(LogIndex(index), Bytes::from(index.to_string()), done);
    wait(&waiter)
}

fn truncate(log: &GroupLog, from: u64) -> Result<(), StoreError> {
    let (done, waiter) = waiter();
    log.truncate_from(LogIndex(from), done);
    wait(&waiter)
}

fn indexes(log: &GroupLog, from: u64, to: u64, bytes_max: usize) -> Vec<u64> {
    let entries = log.read(LogIndex(from)..LogIndex(to), bytes_max).unwrap();
    entries.iter().for_each(|(index, bytes)| assert_eq!(*bytes, body(index.0, bytes.len())));
    entries.into_iter().map(|(index, _)| index.0).collect()
}

fn on_disk(disk: &FaultDisk, options: LaneOptions) -> Arc<LogLane> {
    LogLane::open_with_backend(Path::new("lane"), disk.backend(), options).unwrap()
}

/// No entry stays in memory once it is durable.
fn without_tail() -> LaneOptions {
    LaneOptions { tail_bytes: 0, ..LaneOptions::default() }
}

#[derive(Default)]
struct Counter {
    commits: AtomicUsize,
    requests: AtomicUsize,
    failures: AtomicUsize,
}

impl LaneObserver for Counter {
    fn committed(&self, requests: usize, _bytes: usize, _duration: Duration) {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.requests.fetch_add(requests, Ordering::SeqCst);
    }
    fn failed(&self, _error: &StoreError) {
        self.failures.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn many_groups_share_one_commit() {
    let disk = FaultDisk::new();
    let counter = Arc::new(Counter::default());
    let options = LaneOptions { observer: Some(counter.clone()), ..LaneOptions::default() };
    let lane = on_disk(&disk, options);
    let logs: Vec<_> = (0..32).map(|group| lane.group(GroupId(group)).unwrap()).collect();
    disk.set_sync_delay(Duration::from_millis(100));
    let syncs = disk.syncs();
    let waiters: Vec<_> = logs.iter().map(|log| append(log, 1..=3, 100)).collect();
    assert!(lane.queue_depth() > 0);
    waiters.iter().for_each(|waiter| wait(waiter).unwrap());
    assert!(disk.syncs() - syncs <= 2, "{} syncs", disk.syncs() - syncs);
    assert_eq!(counter.requests.load(Ordering::SeqCst), 32);
    assert_eq!(lane.queue_depth(), 0);
}

#[test]
fn an_append_is_read_before_it_is_durable() {
    let disk = FaultDisk::new();
    let lane = on_disk(&disk, without_tail());
    let log = lane.group(GroupId(1)).unwrap();
    disk.set_sync_delay(Duration::from_millis(50));
    let waiter = append(&log, 1..=10, 10);
    assert_eq!(indexes(&log, 1, 99, usize::MAX), (1..=10).collect::<Vec<_>>());
    assert!(waiter.try_recv().is_err());
    wait(&waiter).unwrap();
    let waiter = append(&log, 11..=12, 10);
    assert_eq!(indexes(&log, 3, 99, usize::MAX), (3..=12).collect::<Vec<_>>());
    wait(&waiter).unwrap();
}

#[test]
fn ranges_and_limits_are_kept() {
    for tail_bytes in [0, 350, 1 << 20] {
        let disk = FaultDisk::new();
        let lane = on_disk(&disk, LaneOptions { tail_bytes, ..LaneOptions::default() });
        let log = lane.group(GroupId(1)).unwrap();
        wait(&append(&log, 1..=5, 100)).unwrap();
        wait(&append(&log, 6..=10, 100)).unwrap();
        assert_eq!(indexes(&log, 4, 8, usize::MAX), [4, 5, 6, 7]);
        assert_eq!(indexes(&log, 4, 11, 300), [4, 5, 6]);
        assert_eq!(indexes(&log, 4, 11, 1), [4]);
        assert_eq!(indexes(&log, 11, 20, 1), [0; 0]);
        truncate(&log, 8).unwrap();
        assert_eq!(indexes(&log, 0, 20, usize::MAX), (1..=7).collect::<Vec<_>>());
        purge(&log, 3).unwrap();
        assert_eq!(indexes(&log, 0, 20, usize::MAX), [4, 5, 6, 7]);
        wait(&append(&log, 8..=8, 100)).unwrap();
        purge(&log, 20).unwrap();
        let state = log.state();
        assert_eq!(
            (state.first, state.last, state.purged),
            (LogIndex(21), LogIndex(20), LogIndex(20))
        );
        wait(&append(&log, 21..=21, 100)).unwrap();
        assert_eq!(indexes(&log, 0, 99, usize::MAX), [21]);
        let (done, refused) = waiter();
        log.append(vec![(LogIndex(23), body(23, 1))], done);
        assert!(wait(&refused).is_err(), "an append with a hole is refused");
    }
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lane-0.redb");
    let lane = LogLane::open(&path, LaneOptions::default()).unwrap();
    let log = lane.group(GroupId(7)).unwrap();
    wait(&append(&log, 1..=100, 1000)).unwrap();
    let (done, voted) = waiter();
    log.save_vote(Bytes::from_static(b"vote"), done);
    wait(&voted).unwrap();
    truncate(&log, 91).unwrap();
    purge(&log, 40).unwrap();
    log.save_committed(Bytes::from_static(b"committed")).unwrap();
    let before = log.state();
    assert!(matches!(LogLane::open(&path, LaneOptions::default()), Err(StoreError::Locked { .. })));
    lane.close();
    assert!(matches!(log.read(LogIndex(50)..LogIndex(51), 1), Ok(_) | Err(StoreError::Stopped)));

    let lane = LogLane::open(&path, LaneOptions::default()).unwrap();
    let log = lane.group(GroupId(7)).unwrap();
    assert_eq!(log.state(), before);
    assert_eq!(log.state().committed.as_deref(), Some(b"committed".as_slice()));
    assert_eq!(indexes(&log, 0, 200, usize::MAX), (41..=90).collect::<Vec<_>>());
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["lane-0.redb"], "the temporary name is gone");
}

#[test]
fn a_creation_that_was_cut_short_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lane-0.redb");
    std::fs::write(path.with_extension("new"), b"half a file").unwrap();
    let lane = LogLane::open(&path, LaneOptions::default()).unwrap();
    wait(&append(&lane.group(GroupId(0)).unwrap(), 1..=1, 1)).unwrap();
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| LogLane::open(&directory.path().join(name), LaneOptions::default());
    std::fs::write(directory.path().join("text"), b"no database at all").unwrap();
    assert!(matches!(open("text").unwrap_err(), StoreError::Damaged { .. }));

    drop(Database::create(directory.path().join("other")).unwrap());
    assert!(matches!(open("other").unwrap_err(), StoreError::Damaged { .. }));

    open("newer").unwrap().close();
    let newer = Database::open(directory.path().join("newer")).unwrap();
    let transaction = newer.begin_write().unwrap();
    let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("lane");
    let value = 2u32.to_be_bytes();
    transaction.open_table(table).unwrap().insert(b"format".as_slice(), value.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(newer);
    assert!(matches!(open("newer").unwrap_err(), StoreError::Newer { found: 2, known: 1, .. }));
    assert!(matches!(open("missing/lane").unwrap_err(), StoreError::Io(_)));
}

#[test]
fn an_older_incarnation_is_refused() {
    let disk = FaultDisk::new();
    let lane = on_disk(&disk, LaneOptions::default());
    let old = lane.group(GroupId(1)).unwrap();
    disk.set_sync_delay(Duration::from_millis(20));
    let before = append(&old, 1..=2, 10);
    let new = lane.group(GroupId(1)).unwrap();
    assert!(new.incarnation() > old.incarnation());
    assert!(before.try_recv().is_ok(), "what came before the fence is durable behind it");
    assert!(matches!(wait(&append(&old, 3..=3, 10)), Err(StoreError::Fenced)));
    assert!(matches!(truncate(&old, 1), Err(StoreError::Fenced)));
    assert!(matches!(purge(&old, 1), Err(StoreError::Fenced)));
    assert!(matches!(old.save_committed(Bytes::new()), Err(StoreError::Fenced)));
    wait(&append(&new, 3..=3, 10)).unwrap();
    assert_eq!(indexes(&new, 0, 9, usize::MAX), [1, 2, 3]);
}

#[test]
fn a_purge_leaves_the_file_and_appends_go_on_meanwhile() {
    let disk = FaultDisk::new();
    let options = LaneOptions {
        purge_pause: Duration::from_millis(1),
        purge_chunk_bytes: 64 * 1024,
        ..without_tail()
    };
    let lane = on_disk(&disk, options.clone());
    let log = lane.group(GroupId(1)).unwrap();
    for start in 0..40 {
        wait(&append(&log, start * 100 + 1..=start * 100 + 100, 1000)).unwrap();
    }
    let started = Instant::now();
    purge(&log, 3990).unwrap();
    let decided = started.elapsed();
    // Closed in the middle of the purge; the next opening goes on with it.
    lane.close();
    let lane = on_disk(&disk, options);
    let log = lane.group(GroupId(1)).unwrap();
    assert_eq!(indexes(&log, 0, 9999, usize::MAX), (3991..=4000).collect::<Vec<_>>());
    wait(&append(&log, 4001..=4001, 10)).unwrap();
    let syncs = || disk.syncs();
    let mut last = syncs();
    let quiet = (0..200).find(|_| {
        std::thread::sleep(Duration::from_millis(50));
        std::mem::replace(&mut last, syncs()) == last
    });
    assert!(quiet.is_some(), "the purge ends");
    lane.close();
    drop((log, lane));
    let (_, ends) = {
        let database = redb::Builder::new().create_with_backend(disk.backend()).unwrap();
        let first_key = super::file::load_first_key(&database, GroupId(1));
        (decided, first_key)
    };
    assert_eq!(ends, Some(3991), "what was purged is gone from the file");
}

#[test]
fn a_failed_lane_says_so_and_answers_everything() {
    for (kind, full) in [(io::ErrorKind::StorageFull, true), (io::ErrorKind::Other, false)] {
        let disk = FaultDisk::new();
        let counter = Arc::new(Counter::default());
        let options = LaneOptions { observer: Some(counter.clone()), ..LaneOptions::default() };
        let lane = on_disk(&disk, options);
        let log = lane.group(GroupId(1)).unwrap();
        wait(&append(&log, 1..=3, 1000)).unwrap();
        disk.fail_after(1, kind);
        let waiters = [append(&log, 4..=5, 100_000), append(&log, 6..=6, 100_000)];
        for waiter in &waiters {
            let error = wait(waiter).unwrap_err();
            assert_eq!(matches!(error, StoreError::Full), full, "{error}");
        }
        lane.close();
        assert!(lane.is_failed());
        assert_eq!(counter.failures.load(Ordering::SeqCst), 1);
        assert!(wait(&append(&log, 7..=7, 1)).is_err());
        assert!(lane.group(GroupId(2)).is_err());

        // The file is free although the old handles still live.
        disk.cut(&mut rand::rng());
        let lane = on_disk(&disk, LaneOptions::default());
        let log = lane.group(GroupId(1)).unwrap();
        assert_eq!(indexes(&log, 1, 4, usize::MAX), [1, 2, 3]);
    }
}

/// redb refuses everything after a failed read; on an idle lane nobody else would meet that.
#[test]
fn a_lane_that_could_not_be_read_has_failed_and_its_successor_reads() {
    let disk = FaultDisk::new();
    let options = || LaneOptions { cache_bytes: 0, ..LaneOptions::default() };
    let lane = on_disk(&disk, options());
    let log = lane.group(GroupId(1)).unwrap();
    wait(&append(&log, 1..=300, 1000)).unwrap();
    lane.close();
    // Its tail is empty, so it must read.
    let lane = on_disk(&disk, options());
    let log = lane.group(GroupId(1)).unwrap();
    disk.fail_a_read();
    assert!(log.read(LogIndex(1)..LogIndex(301), usize::MAX).is_err());
    lane.close();
    assert!(lane.is_failed());
    let lane = on_disk(&disk, options());
    let log = lane.group(GroupId(1)).unwrap();
    assert_eq!(indexes(&log, 1, 301, usize::MAX).len(), 300);
}

#[test]
fn a_closed_lane_answers_that_it_stopped() {
    let lane = on_disk(&FaultDisk::new(), LaneOptions::default());
    let log = lane.group(GroupId(1)).unwrap();
    let before = append(&log, 1..=1, 10);
    lane.close();
    wait(&before).unwrap();
    assert!(matches!(wait(&append(&log, 2..=2, 10)), Err(StoreError::Stopped)));
    assert!(matches!(lane.group(GroupId(1)), Err(StoreError::Stopped)));
    assert!(!lane.is_failed());
}

/// Not a test of speed: prints what a commit costs on this machine.
#[test]
fn commit_figures() {
    let directory = tempfile::tempdir().unwrap();
    let lane = LogLane::open(&directory.path().join("lane"), LaneOptions::default()).unwrap();
    let log = lane.group(GroupId(1)).unwrap();
    let started = Instant::now();
    for index in 1..=200 {
        wait(&append(&log, index..=index, 1000)).unwrap();
    }
    println!("one append of 1 kB a commit: {:?} each", started.elapsed() / 200);
    let started = Instant::now();
    let waiters: Vec<_> = (201..=10_200).map(|index| append(&log, index..=index, 1000)).collect();
    waiters.iter().for_each(|waiter| wait(waiter).unwrap());
    println!("10,000 appends of 1 kB queued: {:?}", started.elapsed());
    let started = Instant::now();
    purge(&log, 10_000).unwrap();
    println!("purge of 10 MB decided after {:?}", started.elapsed());
}
