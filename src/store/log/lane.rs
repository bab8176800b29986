//! A lane as its owner sees it: open, hand out groups, close.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::Database;

use crate::ids::GroupId;
use crate::seams::tasks;
use crate::store::error::StoreError;
use crate::store::file::Storage;
use crate::store::log::file;
use crate::store::log::group::{GroupLog, GroupShared};
use crate::store::log::writer::{Answer, Request, Writer};

/// Incarnations rise over all lanes of the process: who compares them (a shard's cell) survives
/// a lane that is reopened.
static INCARNATIONS: AtomicU64 = AtomicU64::new(1);

/// What a lane tells about itself. Called on the lane's thread: be quick.
pub trait LaneObserver: Send + Sync + 'static {
    /// One commit made so many requests with so many bytes of entries durable.
    fn committed(&self, requests: usize, bytes: usize, duration: Duration);

    /// The lane failed and will answer nothing but errors. It must be closed and opened again.
    fn failed(&self, error: &StoreError);
}

/// How a lane behaves.
#[derive(Clone)]
pub struct LaneOptions {
    /// Page cache of the file. Small: what is appended is read from the tails.
    pub cache_bytes: usize,
    /// Recently appended entries kept in memory, per group, so that apply need not read the file.
    pub tail_bytes: usize,
    /// Entries that may wait for a commit. Each owner has one batch in flight, so more than this
    /// is a defect; it is refused.
    pub queue_bytes_max: usize,
    /// How much a purge removes along with a commit that has something else to do.
    pub purge_chunk_bytes: usize,
    /// Pause between the chunks of a purge when the lane is idle.
    pub purge_pause: Duration,
    /// Who is told about commits and failure.
    pub observer: Option<Arc<dyn LaneObserver>>,
    /// Where the file is.
    pub storage: Storage,
    /// No thread: each request is made durable before the call that asked for it returns. For a
    /// simulation, in which nothing may run beside it; callers on several threads would find some
    /// of their requests waiting for the next one's. Compiled into the program although only tests
    /// set it: unlike seeded keys it endangers nothing, and without it each of the seven places that
    /// know it would need an attribute.
    pub inline: bool,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 4 * 1024 * 1024,
            tail_bytes: 4 * 1024 * 1024,
            queue_bytes_max: 256 * 1024 * 1024,
            // About 0.3 ms of a commit (250 MB took 300 ms).
            purge_chunk_bytes: 256 * 1024,
            purge_pause: Duration::from_millis(10),
            observer: None,
            storage: Storage::files(),
            inline: false,
        }
    }
}

/// A log lane: one file, many groups, and one thread unless it is inline.
pub struct LogLane {
    shared: Arc<LaneShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for LogLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLane").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

/// What the lane, its thread and the handles of its groups share.
pub(super) struct LaneShared {
    pub path: PathBuf,
    pub options: LaneOptions,
    /// `None` once the lane is closed or failed: the file must be free then for a successor,
    /// whoever still holds a handle.
    pub database: RwLock<Option<Database>>,
    pub failure: OnceLock<StoreError>,
    /// Since when the thread has been making a batch durable.
    pub committing: Mutex<Option<Instant>>,
    pub queued_requests: AtomicUsize,
    pub queued_bytes: AtomicUsize,
    pub groups: Mutex<HashMap<GroupId, Arc<GroupShared>>>,
    queue: mpsc::Sender<Request>,
    /// The writer of an inline lane: taken out while it works, and for good when the lane is closed
    /// or has failed.
    inline: Mutex<Option<Writer>>,
}

impl LogLane {
    /// Opens the lane at `path` (a file; its directory must exist), or creates it.
    ///
    /// # Errors
    /// When the file is in use, newer, damaged, or cannot be written.
    pub fn open(path: &Path, options: LaneOptions) -> Result<Arc<Self>, StoreError> {
        let database = file::open(&options.storage, path, options.cache_bytes)?;
        Self::start(path, database, options)
    }

    /// Opens the lane on a storage backend (a simulated disk). `name` stands for the path.
    ///
    /// # Errors
    /// As [`LogLane::open`].
    #[cfg(test)]
    pub(crate) fn open_with_backend(
        name: &Path,
        backend: impl redb::StorageBackend,
        options: LaneOptions,
    ) -> Result<Arc<Self>, StoreError> {
        let database = file::open_with_backend(name, backend, options.cache_bytes)?;
        Self::start(name, database, options)
    }

    fn start(
        path: &Path,
        database: Database,
        options: LaneOptions,
    ) -> Result<Arc<Self>, StoreError> {
        let (queue, requests) = mpsc::channel();
        let shared = Arc::new(LaneShared {
            path: path.into(),
            options,
            database: RwLock::new(Some(database)),
            failure: OnceLock::new(),
            committing: Mutex::new(None),
            queued_requests: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            groups: Mutex::default(),
            queue,
            inline: Mutex::default(),
        });
        let writer = Writer::new(shared.clone(), requests);
        let thread = if shared.options.inline {
            *lock(&shared.inline) = Some(writer);
            None
        } else {
            let thread = tasks::thread("quire-log-lane", move || writer.run());
            Some(thread.map_err(|error| StoreError::Io(error.to_string()))?)
        };
        Ok(Arc::new(Self { shared, thread: Mutex::new(thread) }))
    }

    /// Opens the log of a group. Handles that were given out before are refused from now on;
    /// what they had asked for is durable when this returns, so it waits for at most a commit.
    ///
    /// # Errors
    /// When the lane has failed or the group's record cannot be read.
    pub fn group(&self, id: GroupId) -> Result<GroupLog, StoreError> {
        let group = {
            let mut groups = lock(&self.shared.groups);
            match groups.get(&id) {
                Some(group) => group.clone(),
                None => {
                    let group = Arc::new(GroupShared::load(&self.shared, id)?);
                    groups.insert(id, group.clone());
                    group
                }
            }
        };
        let incarnation = INCARNATIONS.fetch_add(1, Ordering::Relaxed);
        group.fence(incarnation);
        // The barrier also makes the writer look for the rest of an interrupted purge.
        let (answer, answered) = mpsc::channel();
        drop(self.shared.submit(Request::Barrier {
            group: group.clone(),
            done: Answer::new(Box::new(move |result| drop(answer.send(result)))),
        }));
        self.shared.work_inline();
        answered.recv().unwrap_or(Err(StoreError::Stopped))?;
        Ok(GroupLog::new(self.shared.clone(), group, incarnation))
    }

    /// How long the commit that runs has been running: a sync that hangs cannot be interrupted.
    pub fn committing_for(&self) -> Option<Duration> {
        lock(&self.shared.committing).map(|began| began.elapsed())
    }

    /// Whether the lane takes requests: it was neither closed nor has it failed.
    pub fn is_open(&self) -> bool {
        self.shared.database().is_some()
    }

    /// Whether the lane answers with nothing but errors and has to be reopened.
    pub fn is_failed(&self) -> bool {
        self.failure().is_some()
    }

    /// Why the lane failed.
    pub fn failure(&self) -> Option<StoreError> {
        self.shared.failure.get().cloned()
    }

    /// How many requests wait for a commit.
    pub fn queue_depth(&self) -> usize {
        self.shared.queued_requests.load(Ordering::Relaxed)
    }

    /// Makes durable what waits, and frees the file. Handles of groups answer
    /// [`StoreError::Stopped`] afterwards. Waits for the lane's thread.
    pub fn close(&self) {
        drop(self.shared.submit(Request::Close));
        self.shared.work_inline();
        let Some(thread) = lock(&self.thread).take() else { return };
        // A callback may hold the last handle of the lane; the thread cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!(path = %self.shared.path.display(), "the log lane's thread panicked");
        }
    }
}

impl Drop for LogLane {
    fn drop(&mut self) {
        self.close();
    }
}

impl LaneShared {
    /// Queues a request. When the thread is gone it comes back, and answers itself by being
    /// dropped; whoever holds a lock lets go of it first.
    #[must_use]
    pub fn submit(&self, request: Request) -> Option<Request> {
        self.queued_requests.fetch_add(1, Ordering::Relaxed);
        self.queued_bytes.fetch_add(request.bytes(), Ordering::Relaxed);
        let refused = self.queue.send(request).err()?.0;
        self.taken(&refused);
        Some(refused)
    }

    /// Does what was submitted, if the lane has no thread for it. Not under a lock of a group.
    pub fn work_inline(&self) {
        if !self.options.inline {
            return;
        }
        // Taken out instead of locked: an answer may ask for more, which this loop then finds.
        let Some(writer) = lock(&self.inline).take() else { return };
        *lock(&self.inline) = writer.work();
    }

    /// Accounts for a request that left the queue.
    pub fn taken(&self, request: &Request) {
        self.queued_requests.fetch_sub(1, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(request.bytes(), Ordering::Relaxed);
    }

    /// The open database.
    pub fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees the file. Waits for reads that are under way.
    pub fn release(&self) {
        let database = self.database.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(database);
    }

    /// What is answered when the database is gone.
    pub fn gone(&self) -> StoreError {
        self.failure.get().cloned().unwrap_or(StoreError::Stopped)
    }
}

/// Locks a mutex whose content is valid at every point where its holder could panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
