//! The thread that writes checkpoints: one shard at a time, when memory or age asks for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::store::error::StoreError;
use crate::store::shard_file::{AppliedState, ShardStore};

/// When checkpoints are due.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointOptions {
    /// A shard with more unwritten memory, in bytes, is written now.
    pub bytes: usize,
    /// A shard that was not written for so long, and has changed, is written.
    pub age: Duration,
}

/// What the thread tells about its work.
pub struct Checkpointed {
    /// How far the file has come.
    pub applied: AppliedState,
    /// How long it took.
    pub took: Duration,
    /// Unwritten state that has come since, in bytes.
    pub left: usize,
}

/// Called on the checkpoint thread after each attempt.
pub type CheckpointObserver = Arc<dyn Fn(Result<Checkpointed, StoreError>) + Send + Sync>;

/// What a shard pulls when it has grown. Cheap to call.
#[derive(Clone)]
pub struct CheckpointTrigger {
    slot: Arc<Slot>,
    wake: Option<SyncSender<Wake>>,
}

struct Slot {
    bytes: usize,
    unwritten: AtomicUsize,
    asked: AtomicBool,
}

enum Wake {
    Grown,
    Stop,
}

struct Entry {
    store: Arc<ShardStore>,
    slot: Arc<Slot>,
    observer: CheckpointObserver,
    written: Instant,
}

/// The running thread.
pub struct Checkpointer {
    entries: Arc<Mutex<Vec<Entry>>>,
    wake: SyncSender<Wake>,
    options: CheckpointOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl CheckpointTrigger {
    /// A trigger that nobody listens to, for a shard without checkpoints.
    pub fn none() -> Self {
        let slot = Slot {
            bytes: usize::MAX,
            unwritten: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
        };
        Self { slot: Arc::new(slot), wake: None }
    }

    /// The shard has so much unwritten memory now.
    pub fn unwritten(&self, bytes: usize) {
        self.slot.unwritten.store(bytes, Ordering::Relaxed);
        if bytes < self.slot.bytes || self.slot.asked.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(wake) = &self.wake
            && matches!(wake.try_send(Wake::Grown), Err(TrySendError::Disconnected(_)))
        {
            tracing::debug!("the checkpoint thread has ended");
        }
    }
}

impl Checkpointer {
    /// Starts the thread.
    pub fn start(options: CheckpointOptions) -> Self {
        let (wake, waked) = sync_channel(16);
        let entries: Arc<Mutex<Vec<Entry>>> = Arc::default();
        let shared = entries.clone();
        let pause = (options.age / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || {
                loop {
                    match waked.recv_timeout(pause) {
                        Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                        Ok(Wake::Grown) | Err(RecvTimeoutError::Timeout) => {}
                    }
                    write_due(&shared, options);
                }
            })
            .expect("a thread can be started");
        Self { entries, wake, options, thread: Mutex::new(Some(thread)) }
    }

    /// Adds a shard. `observer` runs on the checkpoint thread.
    pub fn add(&self, store: Arc<ShardStore>, observer: CheckpointObserver) -> CheckpointTrigger {
        let slot = Arc::new(Slot {
            bytes: self.options.bytes,
            unwritten: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
        });
        let entry = Entry { store, slot: slot.clone(), observer, written: Instant::now() };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        CheckpointTrigger { slot, wake: Some(self.wake.clone()) }
    }

    /// Ends the thread, then writes every shard that has changed.
    ///
    /// # Errors
    /// The first failure; the other shards are written all the same.
    pub fn finish(&self) -> Result<(), StoreError> {
        self.end_thread();
        let mut outcome = Ok(());
        for entry in self.entries.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            outcome = outcome.and(write(entry));
        }
        outcome
    }

    fn end_thread(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = self.wake.send(Wake::Stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.end_thread();
    }
}

fn write_due(entries: &Mutex<Vec<Entry>>, options: CheckpointOptions) {
    let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
    for entry in entries.iter_mut() {
        let grown = entry.slot.unwritten.load(Ordering::Relaxed) >= options.bytes;
        if grown || entry.written.elapsed() >= options.age {
            // A failure was told to the observer; memory holds everything, the next round retries.
            let _ = write(entry);
        }
    }
}

fn write(entry: &mut Entry) -> Result<(), StoreError> {
    let started = Instant::now();
    entry.written = started;
    let outcome = entry.store.checkpoint();
    entry.slot.asked.store(false, Ordering::Relaxed);
    match outcome {
        Ok(None) => Ok(()),
        Ok(Some(applied)) => {
            let left = entry.store.lock().unwritten_bytes();
            entry.slot.unwritten.store(left, Ordering::Relaxed);
            (entry.observer)(Ok(Checkpointed { applied, took: started.elapsed(), left }));
            Ok(())
        }
        Err(error) => {
            (entry.observer)(Err(error.clone()));
            Err(error)
        }
    }
}
