//! Where tasks and threads begin.
//!
//! On a runtime with one thread, tasks run in an order that depends on nothing outside, so tokio's
//! own are not replaced: these functions exist so that there is one place to look at. What would
//! leave that thread is replaced: in a simulation (`Inline`) blocking work is a task like any
//! other, files are opened one after the other in place, and a log lane has no thread
//! (`LaneOptions::inline`). The threads that remain watch the
//! real time of a real process and are not started there.
#![expect(clippy::disallowed_methods, reason = "this is the seam")]

use std::io;
use std::ops::{Deref, DerefMut};
use std::thread;

use tokio::task::{AbortHandle, JoinHandle, JoinSet};

/// Begins a task.
#[inline]
pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(task)
}

/// Begins a task that ends with the set.
#[inline]
pub fn spawn_in<T: Send + 'static>(
    set: &mut JoinSet<T>,
    task: impl Future<Output = T> + Send + 'static,
) -> AbortHandle {
    set.spawn(task)
}

/// Tasks that end with whoever holds this, an actor say.
#[derive(Debug, Default)]
pub struct Tasks(Vec<AbortHandle>);

impl Tasks {
    /// One more.
    pub fn keep(&mut self, task: AbortHandle) {
        self.0.retain(|task| !task.is_finished());
        self.0.push(task);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Begins a task if this thread belongs to a runtime: for what is dropped, perhaps at its end.
pub fn spawn_if_possible(task: impl Future<Output: Send + 'static> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(task);
    }
}

/// Runs what blocks on a thread where it may.
pub fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(test)]
    if Inline::is_on() {
        return tokio::spawn(async { work() });
    }
    tokio::task::spawn_blocking(work)
}

/// Frees something big where it holds nobody up; here where there is no runtime, and in a simulation.
pub fn free<T: Send + 'static>(big: T) {
    #[cfg(test)]
    if Inline::is_on() {
        return;
    }
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn_blocking(move || drop(big));
    }
}

/// Something big whose end may hold nobody up, however it comes: what a dead actor leaves is freed beside its
/// successor, not before it. For that time both are in memory.
pub struct FreedApart<T: Send + 'static> {
    big: Option<T>,
    is_apart: bool,
}

impl<T: Send + 'static> FreedApart<T> {
    /// Until it is dropped, this is `big`. Unless `is_apart`, it ends like anything else.
    pub fn new(big: T, is_apart: bool) -> Self {
        Self { big: Some(big), is_apart }
    }
}

impl<T: Send + 'static> Deref for FreedApart<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.big.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> DerefMut for FreedApart<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.big.as_mut().expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> Drop for FreedApart<T> {
    fn drop(&mut self) {
        if let Some(big) = self.big.take_if(|_| self.is_apart) {
            free(big);
        }
    }
}

/// Begins a thread that runs beside everything else.
///
/// # Errors
/// When the system gives none.
pub fn thread(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Runs each on a thread of its own, waits for all, and returns their results in order. A panic is
/// an `Err`: for libraries that panic over what a file holds.
pub fn apart<T: Send>(works: impl Iterator<Item: FnOnce() -> T + Send>) -> Vec<thread::Result<T>> {
    #[cfg(test)]
    if Inline::is_on() {
        let here = |work| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        return works.map(here).collect();
    }
    thread::scope(|scope| {
        let running: Vec<_> = works.map(|work| scope.spawn(work)).collect();
        running.into_iter().map(thread::ScopedJoinHandle::join).collect()
    })
}

/// Lets other threads of the process go first, from now on and for good: for a thread of [`apart`], which
/// ends with its work. Each step leaves it a fifth less of a core that others want all the time: four a
/// good quarter of it. Where the system cannot do that for one thread, nothing changes.
pub fn give_way(steps: i32) {
    #[cfg(test)]
    if Inline::is_on() {
        return;
    }
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(steps);
    #[cfg(not(target_os = "linux"))]
    let _ = steps;
}

/// While this lives, blocking work that is asked for on this thread stays on it.
///
/// Of the thread and not of a handle, because who blocks (actors of the store, replicas, hashing)
/// has nothing else of a simulation in its hands; and a simulation is one thread, so nothing else
/// sees it.
#[cfg(test)]
pub(crate) struct Inline(std::marker::PhantomData<*const ()>);

#[cfg(test)]
thread_local! {
    static INLINE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
impl Inline {
    pub(crate) fn begin() -> Self {
        assert!(!INLINE.replace(true), "one simulation a thread");
        Self(std::marker::PhantomData)
    }

    fn is_on() -> bool {
        INLINE.get()
    }
}

#[cfg(test)]
impl Drop for Inline {
    fn drop(&mut self) {
        INLINE.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::ThreadId;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn blocking_work_stays_on_the_thread_of_a_simulation() {
        let here = thread::current().id();
        assert_ne!(blocking(|| thread::current().id()).await.unwrap(), here);
        let inline = Inline::begin();
        assert_eq!(blocking(|| thread::current().id()).await.unwrap(), here);
        let works = || (0..2).map(|_| || thread::current().id());
        assert!(apart(works()).into_iter().all(|at| at.unwrap() == here));
        assert!(apart(std::iter::once(|| panic!("on purpose"))).remove(0).is_err());
        drop(inline);
        assert!(apart(works()).into_iter().all(|at| at.unwrap() != here));
        assert_ne!(blocking(|| thread::current().id()).await.unwrap(), here);
    }

    #[test]
    fn a_panic_apart_is_a_result() {
        let results = apart((0..3).map(|n| move || assert_ne!(n, 1, "on purpose")));
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Says where it ends.
    struct Big(mpsc::Sender<ThreadId>);

    impl Drop for Big {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[test]
    fn what_is_freed_ends_on_another_thread_where_there_is_a_runtime() {
        let (ended, ends) = mpsc::channel();
        let here = thread::current().id();
        let mut held = FreedApart::new(Big(ended.clone()), true);
        let next = FreedApart::new(Big(ended.clone()), true);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            held = next;
            assert_ne!(ends.recv_timeout(PATIENCE).unwrap(), here, "it was replaced");
            drop(FreedApart::new(Big(ended), false));
            assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), here, "it was not asked for");
        });
        let _inline = Inline::begin();
        drop(held);
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), here, "nor in a simulation");
    }
}
