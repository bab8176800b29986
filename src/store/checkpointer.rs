//! Which shards are due for a checkpoint, and writing them: one at a time, when memory or age
//! asks for it. Mechanism only; `actors/checkpoint.rs` drives it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::seams::tasks;
use crate::seams::time::{self, Instant};
use crate::store::error::StoreError;
use crate::store::file::unreadable;
use crate::store::shard_file::{AppliedState, ShardStore};

/// The size that asks for a checkpoint of a memory-kept service, whose rows are all over its file anyway (and of a
/// file in memory).
const BYTES_KEPT: usize = 16 * 1024 * 1024;
/// And of rows in a small file: what a start after a crash applies again in a few tenths of a second.
const BYTES_MIN: usize = 32 * 1024 * 1024;
/// And in a large one: changes that lie far apart share pages only if many are written together, but a start
/// after a crash must apply them again, within two seconds.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long after one batch of commands the next may come when there is hardly any room left.
const CROWDED_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Pause after a checkpoint that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How much a shard may gather before a checkpoint is due, and while one is written. Memory and the next start
/// must have a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    /// Asks for a checkpoint.
    due: usize,
    /// A third of what may come on top while it is written: of a size that is set, as much again; of a large one that
    /// is chosen less, for that must not make the next start take long.
    step: usize,
}

impl Room {
    /// The size that is set, or with 0 what a file with so large a page cache gets.
    fn new(set: usize, page_cache: usize) -> Self {
        if set > 0 {
            return Self { due: set, step: set };
        }
        let due = match page_cache {
            0 => BYTES_KEPT,
            cache => (cache / 2 * 3).clamp(BYTES_MIN, BYTES_MAX),
        };
        Self { due, step: (due / 3).max(BYTES_KEPT) }
    }

    /// How long after one batch of commands the next may come. Nothing, unless more is unwritten than
    /// a checkpoint that works leaves behind; then the longer the less room is left, for writers who
    /// go on until it is full would all wait for a whole checkpoint; and for ever when it is full.
    fn pause(&self, unwritten: usize) -> Duration {
        let crowded = self.due.saturating_add(self.step.saturating_mul(2));
        let part = unwritten.saturating_sub(crowded) as f64 / self.step as f64;
        if part >= 1.0 { Duration::MAX } else { CROWDED_PAUSE_MAX.mul_f64(part.powi(2)) }
    }

    /// Steps of priority that a checkpoint gives up: five, three when it comes as soon as it is due, and then one
    /// less for each half of a step.
    fn patience(&self, unwritten: usize) -> i32 {
        match unwritten.checked_sub(self.due) {
            None => 5 - (unwritten.saturating_mul(2) / self.due) as i32,
            Some(more) => 3 - (more.saturating_mul(2) / self.step).min(3) as i32,
        }
    }
}

/// When checkpoints are due.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointOptions {
    /// A shard with more unwritten memory, in bytes, is written now. 0: chosen for each shard, half as much
    /// again as the page cache of its file within bounds; of a memory-kept service less.
    pub bytes: usize,
    /// A shard that was not written for so long, and has changed, is written.
    pub age: Duration,
}

/// What is told about a checkpoint.
pub struct Checkpointed {
    /// How far the file has come.
    pub applied: AppliedState,
    /// How long it took.
    pub took: Duration,
    /// Unwritten state that has come since, in bytes.
    pub left: usize,
}

/// Called on the thread that writes, after each attempt.
pub type CheckpointObserver = Arc<dyn Fn(Result<Checkpointed, StoreError>) + Send + Sync>;

/// What a shard pulls when it has grown. Cheap to call.
#[derive(Clone)]
pub struct CheckpointTrigger {
    unwritten: Arc<AtomicUsize>,
    room: Room,
    wanted: Arc<AtomicBool>,
    due: Arc<Notify>,
    asked: Arc<Notify>,
}

impl CheckpointTrigger {
    /// How long after one batch of commands the next may come, lest memory and the next start have no bound.
    pub fn pause(&self) -> Duration {
        self.room.pause(self.unwritten.load(Ordering::Relaxed))
    }

    /// The shard has so much unwritten memory now.
    pub fn unwritten(&self, bytes: usize) {
        let before = self.unwritten.swap(bytes, Ordering::Relaxed);
        if bytes >= self.room.due && before < self.room.due {
            self.due.notify_one();
        }
    }

    /// The shard wants a checkpoint soon, whatever its size and age.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
        self.due.notify_one();
    }

    /// Returns when a checkpoint is due that a memory-kept service must write its state for.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// The shards of a node that have checkpoints.
pub struct Checkpoints {
    options: CheckpointOptions,
    due: Arc<Notify>,
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    store: Arc<ShardStore>,
    trigger: CheckpointTrigger,
    observer: CheckpointObserver,
    written: Instant,
    /// When a checkpoint that failed is tried again, however little is unwritten: until it
    /// succeeds, nobody knows whether the file can be written.
    retry: Option<Instant>,
}

impl Entry {
    fn unwritten(&self) -> usize {
        self.trigger.unwritten.load(Ordering::Relaxed)
    }

    fn has_grown(&self) -> bool {
        self.unwritten() >= self.trigger.room.due
    }
}

impl Checkpoints {
    /// None yet.
    pub fn new(options: CheckpointOptions) -> Self {
        Self { options, due: Arc::default(), entries: Mutex::default() }
    }

    /// Adds a shard.
    pub fn add(&self, store: Arc<ShardStore>, observer: CheckpointObserver) -> CheckpointTrigger {
        let trigger = CheckpointTrigger {
            unwritten: Arc::default(),
            room: Room::new(self.options.bytes, store.checkpoint_cache()),
            wanted: Arc::default(),
            due: self.due.clone(),
            asked: Arc::default(),
        };
        let written = time::now();
        let entry = Entry { store, trigger: trigger.clone(), observer, written, retry: None };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        trigger
    }

    /// Returns when some shard has grown past its limit, or it is time to look at ages.
    pub async fn wait_due(&self) {
        let pause = (self.options.age / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let _ = time::timeout(pause, self.due.notified()).await;
    }

    /// Writes the shards that are due, one after the other; asks those for their state that must write
    /// it first. Blocks, but not for those. A failure that may pass is for the observer alone: memory
    /// holds everything, and the next round tries again.
    ///
    /// # Errors
    /// The first that no further attempt repairs; the other shards are written all the same.
    pub fn write_due(&self) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 0..entries.len() {
            // Of all shards, for they wait for each other's checkpoints.
            let patience =
                entries.iter().map(|entry| entry.trigger.room.patience(entry.unwritten()));
            let patience = patience.min().unwrap_or(0);
            let entry = &mut entries[number];
            let grown = entry.has_grown();
            let aged = entry.written.elapsed() >= self.options.age;
            let wanted = entry.trigger.wanted.load(Ordering::Relaxed);
            if !entry.retry.map_or(grown || aged || wanted, |at| time::now() >= at) {
                continue;
            }
            if entry.store.is_loading() {
                // The others must not wait for that.
                continue;
            }
            if entry.store.lock().lacks_state() {
                // The shard wants a checkpoint itself once it has written its state.
                entry.trigger.asked.notify_one();
            } else {
                outcome = outcome.and(write(entry, patience).or_else(pass));
                if entry.has_grown() {
                    // It grew past the limit meanwhile, and who pulls the trigger does so only once.
                    self.due.notify_one();
                }
            }
        }
        outcome
    }

    /// Writes every shard that has changed. Blocks. A memory-kept service has written its state when
    /// it stopped; of one that still runs this writes what it has.
    ///
    /// # Errors
    /// The first failure; the other shards are written all the same.
    pub fn write_all(&self) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for entry in self.entries.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // What was sealed before, of a checkpoint that failed say, hides what came since.
            let earlier = entry.store.lock().is_sealed();
            let written = if earlier { write(entry, 0) } else { Ok(()) };
            outcome = outcome.and(written.and_then(|()| write(entry, 0)));
        }
        outcome
    }
}

impl Checkpoints {
    /// Closes every shard file, so that another process, or this one again, can open it: whoever
    /// still holds a shard at the end of a node gets errors.
    pub fn close(&self) {
        for entry in self.entries.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            entry.store.close();
        }
    }
}

/// Lets go of an error that may be gone the next time.
fn pass(error: StoreError) -> Result<(), StoreError> {
    if error.is_lasting() { Err(error) } else { Ok(()) }
}

/// Writes a shard. Where few cores have much to do, a checkpoint would take every other moment from those
/// who answer requests, so it gives way to them; but not when checkpoints have fallen behind, for then
/// writers are about to wait for them (ADR 0004).
fn write(entry: &mut Entry, patience: i32) -> Result<(), StoreError> {
    let (began, started) = (time::now(), time::mark());
    entry.retry = None;
    entry.trigger.wanted.store(false, Ordering::Relaxed);
    // redb panics over some kinds of damage.
    let work = || {
        tasks::give_way(patience);
        entry.store.checkpoint()
    };
    let written = tasks::apart(std::iter::once(work)).remove(0);
    match written.unwrap_or_else(|_panic| Err(unreadable(entry.store.path()))) {
        Ok(applied) => {
            entry.written = began;
            let left = {
                // Under the lock, as whoever applies: what is noted last is true.
                let state = entry.store.lock();
                let left = state.unwritten_bytes();
                entry.trigger.unwritten.store(left, Ordering::Relaxed);
                left
            };
            if let Some(applied) = applied {
                (entry.observer)(Ok(Checkpointed { applied, took: started.elapsed(), left }));
            }
            Ok(())
        }
        Err(error) => {
            entry.retry = Some(time::now() + RETRY_PAUSE);
            (entry.observer)(Err(error.clone()));
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;
    use crate::ids::LogIndex;
    use crate::store::memtable::Table;

    const BYTES: usize = 10_000;

    fn checkpoints() -> (Checkpoints, Arc<ShardStore>, CheckpointTrigger) {
        let age = Duration::from_secs(3600);
        let checkpoints = Checkpoints::new(CheckpointOptions { bytes: BYTES, age });
        let store = ShardStore::in_memory(redb::backends::InMemoryBackend::new(), &["a"]);
        let store = Arc::new(store);
        let trigger = checkpoints.add(store.clone(), Arc::new(|_| {}));
        (checkpoints, store, trigger)
    }

    /// Applies an entry that is more than a checkpoint is asked for.
    fn grow(store: &ShardStore, index: u64) {
        let mut state = store.lock();
        state.change(|tables| tables.put(Table(0), index.to_be_bytes(), vec![0; BYTES]));
        state.progress.applied.index = LogIndex(index);
    }

    #[tokio::test]
    async fn what_grew_past_the_limit_during_a_checkpoint_is_due_after_it() {
        let (checkpoints, store, trigger) = checkpoints();
        grow(&store, 1);
        trigger.unwritten(store.lock().unwritten_bytes());
        // What comes while the first is written, whose end nobody else tells.
        store.lock().seal();
        grow(&store, 2);
        trigger.unwritten(store.lock().unwritten_bytes());

        assert!(checkpoints.wait_due().now_or_never().is_some());
        checkpoints.write_due().unwrap();
        assert_eq!(store.durable().index, LogIndex(1));
        assert!(checkpoints.wait_due().now_or_never().is_some());
        checkpoints.write_due().unwrap();
        assert_eq!(store.durable().index, LogIndex(2));
        assert!(checkpoints.wait_due().now_or_never().is_none());
    }

    #[test]
    fn a_shard_that_is_being_read_holds_up_no_checkpoint_of_others() {
        let (checkpoints, first, trigger) = checkpoints();
        let second = ShardStore::in_memory(redb::backends::InMemoryBackend::new(), &["a"]);
        let second = Arc::new(second);
        let other = checkpoints.add(second.clone(), Arc::new(|_| {}));
        for (store, trigger) in [(&first, &trigger), (&second, &other)] {
            grow(store, 1);
            trigger.unwritten(store.lock().unwritten_bytes());
        }
        let (checkpoints, owner) = (Arc::new(checkpoints), first.claim().unwrap());
        let written = first.load(owner, &AtomicBool::new(false), |_| {
            let (checkpoints, (done, written)) = (checkpoints.clone(), mpsc::channel());
            let write = move || done.send(checkpoints.write_due().is_ok()).unwrap();
            tasks::thread("writer", write).unwrap();
            Ok(written.recv_timeout(Duration::from_secs(60)))
        });
        assert_eq!(written.unwrap(), Ok(true), "it waits for the one that is read");
        assert_eq!([&first, &second].map(|store| store.durable().index.0), [0, 1]);
        checkpoints.write_due().unwrap();
        assert_eq!(first.durable().index, LogIndex(1));
    }

    #[test]
    fn writers_are_slowed_down_before_they_are_stopped() {
        let (_checkpoints, _store, trigger) = checkpoints();
        let pause = |tenths: usize| {
            trigger.unwritten(BYTES / 10 * tenths);
            trigger.pause()
        };
        assert_eq!(pause(0), Duration::ZERO);
        assert_eq!(pause(30), Duration::ZERO);
        assert_eq!(pause(35), Duration::from_millis(125));
        assert!(pause(39) > Duration::from_millis(400));
        assert_eq!(pause(40), Duration::MAX);
        assert_eq!(pause(1_000), Duration::MAX);
    }

    #[test]
    fn what_asks_for_a_checkpoint_grows_with_the_page_cache_within_bounds() {
        const MIB: usize = 1024 * 1024;
        for (set, cache, due, step) in [
            (0, 0, 16 * MIB, 16 * MIB),
            (0, 4 * MIB, 32 * MIB, 16 * MIB),
            (0, 40 * MIB, 60 * MIB, 20 * MIB),
            (0, 512 * MIB, 64 * MIB, 64 * MIB / 3),
            (MIB, 512 * MIB, MIB, MIB),
            (100 * MIB, 4 * MIB, 100 * MIB, 100 * MIB),
            (0, 30 * MIB, 45 * MIB, 16 * MIB),
        ] {
            assert_eq!(Room::new(set, cache), Room { due, step });
        }
    }

    #[test]
    fn a_checkpoint_that_is_late_does_not_give_way() {
        let small = Room { due: 16, step: 16 };
        let steps = [0, 7, 8, 16, 23, 24, 32, 39, 40, 1_000].map(|bytes| small.patience(bytes));
        assert_eq!(steps, [5, 5, 4, 3, 3, 2, 1, 1, 0, 0]);
        let large = Room { due: 96, step: 32 };
        let steps = [0, 48, 95, 96, 112, 144, 1_000].map(|bytes| large.patience(bytes));
        assert_eq!(steps, [5, 4, 4, 3, 2, 0, 0]);
    }

    #[test]
    fn what_may_come_while_a_large_checkpoint_is_written_is_less_than_three_times_as_much() {
        let large = Room { due: 96, step: 32 };
        assert_eq!([0, 96, 160].map(|bytes| large.pause(bytes)), [Duration::ZERO; 3]);
        assert_eq!(large.pause(176), Duration::from_millis(125));
        assert_eq!(large.pause(192), Duration::MAX);
        let largest = Room::new(usize::MAX, 0);
        assert_eq!(
            (largest.pause(usize::MAX - 1), largest.patience(usize::MAX - 1)),
            (Duration::ZERO, 4)
        );
    }
}
