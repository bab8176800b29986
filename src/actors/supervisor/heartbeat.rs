//! How a handler that does not come back is noticed, from inside the runtime and from outside.
//!
//! A heartbeat is a counter: odd while a handler runs. Whoever watches remembers when, by its own
//! clock, it first saw a value. So a message costs two atomic additions and no clock, and a paused
//! clock of a test and the clock of a plain thread never mix.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::actors::supervisor::tree::Tree;
use crate::seams::{tasks, time};

/// How often the thread looks. Far below any sensible limit; a look costs a lock for each child.
const POLL_DEFAULT: Duration = Duration::from_millis(250);

/// What one generation of a child shares with those who watch it.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat(Arc<AtomicU64>);

impl Heartbeat {
    /// Marks the child busy until the guard is dropped. Taken at the top of each handler; not
    /// nested. A handler that is killed drops its guard too.
    pub fn busy(&self) -> Busy {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before.is_multiple_of(2), "one guard at a time");
        Busy(Arc::clone(&self.0))
    }

    /// The running handler has long work to do and gets on with it: it counts as another one from
    /// here. Bounds what is between two calls, no longer the handler.
    pub fn goes_on(&self) {
        self.0.fetch_add(2, Ordering::Relaxed);
    }

    /// A number that stands for the running handler, or `None` when none runs.
    pub(super) fn running(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|beats| !beats.is_multiple_of(2))
    }
}

/// While this lives, the handler runs.
#[derive(Debug)]
#[must_use = "the handler counts as finished once this is dropped"]
pub struct Busy(Arc<AtomicU64>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A handler that blocks its thread: neither a kill nor anything else in the process helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckThread {
    /// Which child.
    pub path: Arc<str>,
    /// How long it has been running at least, as seen by the thread.
    pub running_for: Duration,
}

/// One running handler as the thread saw it.
pub(super) struct Observation {
    pub(super) path: Arc<str>,
    /// Which start of the child, so that a replacement is not taken for its predecessor.
    pub(super) attempt: u64,
    pub(super) running: u64,
    pub(super) stuck_after: Duration,
}

/// Remembers since when each handler runs.
#[derive(Default)]
pub(super) struct StuckScan {
    seen: HashMap<(Arc<str>, u64), (u64, Instant)>,
}

impl StuckScan {
    /// The first handler that has been running for longer than its limit plus `grace`.
    pub(super) fn look(
        &mut self,
        running: Vec<Observation>,
        now: Instant,
        grace: Duration,
    ) -> Option<StuckThread> {
        let mut seen = HashMap::with_capacity(running.len());
        let mut stuck = None;
        for handler in running {
            let key = (Arc::clone(&handler.path), handler.attempt);
            let since = match self.seen.get(&key) {
                Some((value, since)) if *value == handler.running => *since,
                Some(_) | None => now,
            };
            seen.insert(key, (handler.running, since));
            let running_for = now.duration_since(since);
            if stuck.is_none() && running_for > handler.stuck_after + grace {
                stuck = Some(StuckThread { path: handler.path, running_for });
            }
        }
        self.seen = seen;
        stuck
    }
}

/// A plain thread that watches all heartbeats of a tree. Not a task: one blocked worker of the
/// runtime is enough to stop its timers, if it is the one that drove them and no other is woken,
/// and holds back the task it would have run next, which may be the supervisor.
///
/// By the time it speaks, the supervisor has killed the child, if it could still run, and the kill
/// did not work. What remains is to end the process: the given closure marks the node
/// not ready, logs one clear line and exits non-zero. It is called once; the thread then ends.
#[derive(Debug)]
pub struct ThreadWatchdog {
    // Dropping it ends the thread at its next look.
    _stop: mpsc::Sender<()>,
}

impl ThreadWatchdog {
    /// Watches the children of `tree` that have a `stuck_after`. `grace` is how far beyond it a
    /// handler may run: long enough for the supervisor's kill, a few seconds.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        tree: Tree,
        grace: Duration,
        on_stuck: impl FnOnce(StuckThread) + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start_polling(tree, grace, POLL_DEFAULT, on_stuck)
    }

    /// Like [`ThreadWatchdog::start`], with the time between two looks.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_polling(
        tree: Tree,
        grace: Duration,
        poll: Duration,
        on_stuck: impl FnOnce(StuckThread) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let watch = move || {
            let mut scan = StuckScan::default();
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(poll) {
                if let Some(stuck) = scan.look(tree.running_handlers(), time::mark(), grace) {
                    return on_stuck(stuck);
                }
            }
        };
        tasks::thread("thread-watchdog", watch)?;
        Ok(Self { _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(attempt: u64, running: u64) -> Vec<Observation> {
        let stuck_after = Duration::from_secs(1);
        vec![Observation { path: "a/b".into(), attempt, running, stuck_after }]
    }

    #[test]
    fn only_one_and_the_same_handler_can_be_stuck() {
        let grace = Duration::from_secs(2);
        let mut scan = StuckScan::default();
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(scan.look(seen(1, 3), after(0), grace), None);
        assert_eq!(scan.look(seen(1, 5), after(3), grace), None, "another message");
        assert_eq!(scan.look(seen(2, 5), after(6), grace), None, "another start");
        assert_eq!(scan.look(vec![], after(9), grace), None, "idle");
        assert_eq!(scan.look(seen(2, 5), after(10), grace), None);
        assert_eq!(scan.look(seen(2, 5), after(13), grace), None, "exactly at the limit");
        let stuck = scan.look(seen(2, 5), after(14), grace).unwrap();
        assert_eq!(stuck.running_for, Duration::from_secs(4));
    }

    #[test]
    fn a_guard_marks_the_handler() {
        let heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.running(), None);
        let busy = heartbeat.busy();
        let first = heartbeat.running();
        assert!(first.is_some());
        drop(busy);
        assert_eq!(heartbeat.running(), None);
        let _busy = heartbeat.busy();
        assert_ne!(heartbeat.running(), first);
    }
}
