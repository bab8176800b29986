//! The actor of a log lane.
//!
//! **Owns** the open lane (through the store) and the right to reopen it. **Receives** the news
//! that the lane failed. **Sends** the lane, by publishing it, to the replicas on it.
//! **Started by** the store's supervisor, before anything that writes a log.
//! **When it fails** (redb latches an I/O error until the file is reopened) the replicas on it fail
//! with cause `dependency`, which spends only this lane's budget; nothing acknowledged is lost.
//!
//! **Invariants**: A1 at most one opening of the file is published; A2 it is closed before it is
//! opened again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;

use crate::actors::published::withdraw;
use crate::actors::supervisor::{DependencyFailed, Heartbeat};
use crate::seams::tasks;
use crate::store::error::StoreError;
use crate::store::file::unreadable;
use crate::store::log::{LaneObserver, LaneOptions, LogLane};

/// Whether the disk that holds the data has room, as its writers find it: how many of them found
/// none the last time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<AtomicUsize>);

impl Disk {
    /// Whether the last commit of a lane, or the last checkpoint of a shard, failed for lack of
    /// room: the node then only reads.
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// One more who writes to the disk.
    pub(crate) fn writer(&self) -> Arc<DiskWriter> {
        Arc::new(DiskWriter { disk: self.clone(), found_full: AtomicBool::new(false) })
    }
}

/// One file's view of the disk. It outlives restarts, for opening a file proves nothing.
#[derive(Debug)]
pub(crate) struct DiskWriter {
    disk: Disk,
    found_full: AtomicBool,
}

impl DiskWriter {
    /// Notes how the last write went. Only one that succeeded shows that there is room: what fails
    /// for another reason says nothing of it.
    pub(crate) fn note<T>(&self, written: Result<T, &StoreError>) {
        let full = match written {
            Ok(_) => false,
            Err(StoreError::Full) => true,
            Err(_) => return,
        };
        if self.found_full.swap(full, Ordering::Relaxed) == full {
            return;
        }
        let count = &self.disk.0;
        if full && count.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!("the disk is full: writes are refused until there is room");
        } else if !full && count.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::info!("the disk has room again: writes are accepted");
        }
    }
}

/// What a lane actor receives.
pub(crate) enum LaneMessage {
    /// The lane answers nothing but errors from now on.
    Failed(StoreError),
}

/// All that a restart needs.
#[derive(Clone)]
pub(crate) struct Arguments {
    /// The file.
    pub(crate) path: PathBuf,
    /// How it is opened; the observer is this actor's own.
    pub(crate) options: LaneOptions,
    /// Where the replicas find the lane; `None` while it is being reopened.
    pub(crate) published: watch::Sender<Option<Arc<LogLane>>>,
    /// The lane of the generation before, to be closed first: an actor that was killed closes
    /// nothing (A2).
    pub(crate) open: Arc<Mutex<Option<Arc<LogLane>>>>,
    /// Duration of each sync.
    pub(crate) fsync: Histogram,
    /// Told when a commit finds no room, and when one does again.
    pub(crate) disk: Arc<DiskWriter>,
    /// Marked while a handler runs.
    pub(crate) heartbeat: Heartbeat,
}

/// The actor; its state is in [`State`].
pub(crate) struct LaneActor;

/// Hides the lane when it is dropped, also when the actor is killed (A1).
pub(crate) struct State {
    lane: Arc<LogLane>,
    published: watch::Sender<Option<Arc<LogLane>>>,
    heartbeat: Heartbeat,
}

struct Observer {
    actor: ActorRef<LaneMessage>,
    fsync: Histogram,
    disk: Arc<DiskWriter>,
}

impl LaneObserver for Observer {
    fn committed(&self, _requests: usize, _bytes: usize, duration: Duration) {
        self.fsync.observe(duration.as_secs_f64());
        self.disk.note(Ok(()));
    }

    fn failed(&self, error: &StoreError) {
        self.disk.note::<()>(Err(error));
        let _ = self.actor.cast(LaneMessage::Failed(error.clone()));
    }
}

impl Actor for LaneActor {
    type Msg = LaneMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<LaneMessage>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Arguments { path, options, published, open, fsync, disk, heartbeat } = arguments;
        published.send_replace(None);
        let old = open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(old) = old {
            tasks::blocking(move || old.close()).await?;
        }
        let observer = Arc::new(Observer { actor: myself, fsync, disk });
        let options = LaneOptions { observer: Some(observer), ..options };
        let opened = tasks::blocking({
            let path = path.clone();
            move || LogLane::open(&path, options)
        });
        let opened = opened.await.map_err(|lost| match lost.is_panic() {
            true => unreadable(&path).into(),
            false => ActorProcessingErr::from(lost),
        });
        let lane = opened?.map_err(failure)?;
        *open.lock().unwrap_or_else(PoisonError::into_inner) = Some(lane.clone());
        published.send_replace(Some(lane.clone()));
        Ok(State { lane, published, heartbeat })
    }

    async fn handle(
        &self,
        _myself: ActorRef<LaneMessage>,
        message: LaneMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let _busy = state.heartbeat.busy();
        match message {
            LaneMessage::Failed(error) => Err(failure(error)),
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<LaneMessage>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let lane = state.lane.clone();
        // Joins the lane's thread: what is queued becomes durable first.
        tasks::blocking(move || lane.close()).await?;
        Ok(())
    }
}

/// A full disk is nothing that a restart budget could judge: it is waited for, however long.
fn failure(error: StoreError) -> ActorProcessingErr {
    match error {
        StoreError::Full => DependencyFailed { on: "room on the disk".into() }.into(),
        other => other.into(),
    }
}

impl Drop for State {
    fn drop(&mut self) {
        withdraw(&self.published, &self.lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_full_until_who_found_it_so_has_written() {
        let disk = Disk::default();
        let (lane, shard) = (disk.writer(), disk.writer());
        let failed = |writer: &DiskWriter, error: StoreError| writer.note::<()>(Err(&error));
        failed(&lane, StoreError::Io("latched".into()));
        assert!(!disk.is_full(), "not every error is a lack of room");
        failed(&lane, StoreError::Full);
        failed(&lane, StoreError::Full);
        assert!(disk.is_full());
        for other in [StoreError::Io("latched".into()), StoreError::Stopped] {
            failed(&lane, other);
            assert!(disk.is_full(), "nor does another error show that there is room");
        }
        failed(&shard, StoreError::Full);
        lane.note(Ok(()));
        assert!(disk.is_full(), "for the other one");
        shard.note(Ok(()));
        shard.note(Ok(()));
        assert!(!disk.is_full());
    }
}
