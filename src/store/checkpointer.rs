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

/// How many times the size that asks for a checkpoint may gather while it is written.
const OVERFULL: usize = 4;
/// How many times it may gather before a checkpoint no longer lets others go first.
const URGENT: usize = 3;
/// Pause after a checkpoint that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// When checkpoints are due.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointOptions {
    /// A shard with more unwritten memory, in bytes, is written now.
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
    bytes: usize,
    wanted: Arc<AtomicBool>,
    due: Arc<Notify>,
    asked: Arc<Notify>,
}

impl CheckpointTrigger {
    /// Whether more is unwritten than a checkpoint that works leaves behind: writers must wait, or
    /// memory would have no bound.
    pub fn is_overfull(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed) / OVERFULL > self.bytes
    }

    /// The shard has so much unwritten memory now.
    pub fn unwritten(&self, bytes: usize) {
        let before = self.unwritten.swap(bytes, Ordering::Relaxed);
        if bytes >= self.bytes && before < self.bytes {
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
    unwritten: Arc<AtomicUsize>,
    wanted: Arc<AtomicBool>,
    asked: Arc<Notify>,
    observer: CheckpointObserver,
    written: Instant,
    /// When a checkpoint that failed is tried again, however little is unwritten: until it
    /// succeeds, nobody knows whether the file can be written.
    retry: Option<Instant>,
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
            bytes: self.options.bytes,
            wanted: Arc::default(),
            due: self.due.clone(),
            asked: Arc::default(),
        };
        let entry = Entry {
            store,
            unwritten: trigger.unwritten.clone(),
            wanted: trigger.wanted.clone(),
            asked: trigger.asked.clone(),
            observer,
            written: time::now(),
            retry: None,
        };
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
        for entry in entries.iter_mut() {
            let grown = entry.unwritten.load(Ordering::Relaxed) >= self.options.bytes;
            let aged = entry.written.elapsed() >= self.options.age;
            let wanted = entry.wanted.load(Ordering::Relaxed);
            if !entry.retry.map_or(grown || aged || wanted, |at| time::now() >= at) {
                continue;
            }
            if entry.store.lock().lacks_state() {
                // The shard wants a checkpoint itself once it has written its state.
                entry.asked.notify_one();
            } else {
                let gathered = entry.unwritten.load(Ordering::Relaxed);
                let is_urgent = gathered / URGENT > self.options.bytes;
                outcome = outcome.and(write(entry, is_urgent).or_else(pass));
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
            let written = if earlier { write(entry, true) } else { Ok(()) };
            outcome = outcome.and(written.and_then(|()| write(entry, true)));
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
fn write(entry: &mut Entry, is_urgent: bool) -> Result<(), StoreError> {
    let (began, started) = (time::now(), time::mark());
    entry.retry = None;
    entry.wanted.store(false, Ordering::Relaxed);
    // redb panics over some kinds of damage.
    let work = || {
        if !is_urgent {
            tasks::give_way();
        }
        entry.store.checkpoint()
    };
    let written = tasks::apart(std::iter::once(work)).remove(0);
    match written.unwrap_or_else(|_panic| Err(unreadable(entry.store.path()))) {
        Ok(None) => {
            entry.written = began;
            Ok(())
        }
        Ok(Some(applied)) => {
            entry.written = began;
            let left = entry.store.lock().unwritten_bytes();
            entry.unwritten.store(left, Ordering::Relaxed);
            (entry.observer)(Ok(Checkpointed { applied, took: started.elapsed(), left }));
            Ok(())
        }
        Err(error) => {
            entry.retry = Some(time::now() + RETRY_PAUSE);
            (entry.observer)(Err(error.clone()));
            Err(error)
        }
    }
}
