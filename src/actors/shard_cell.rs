//! What of a shard outlives its actor and its replica, and through which they find each other.
//!
//! **Invariants**: L1 the published actor is the one with the newest generation, or none;
//! L2 `applied` never falls; L3 entries of an older replica than the newest are not handed on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::ActorRef;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use crate::actors::answers::{Changed, Versions};
use crate::actors::lane::Disk;
use crate::actors::relay::Declared;
use crate::actors::relay::message::OutboxSeen;
use crate::actors::replica::port::{AppliedState, Applier, CommittedEntry, CommittedLog, Replica};
use crate::actors::shard::ShardMessage;
use crate::actors::shard_metrics::ShardMetrics;
use crate::actors::state_machine::StateMachine;
use crate::config::SHARD_PERMITS;
use crate::ids::{LogIndex, ShardId, Stamp};
use crate::seams::time::{self, Instant};
use crate::seams::{Clock, Random, Seams, tasks};
use crate::store::checkpointer::CheckpointTrigger;
use crate::store::error::StoreError;
use crate::store::file::named;
use crate::store::shard_file::ShardStore;

/// The place of a shard in the process.
pub(crate) struct ShardCell<S: StateMachine> {
    pub(crate) id: ShardId,
    pub(crate) store: Arc<ShardStore>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) disk: Disk,
    pub(crate) metrics: Arc<ShardMetrics>,
    /// What callers tell by whether an answer that they keep is still exact.
    pub(crate) versions: Versions,
    /// Bounds the commands that wait for this shard.
    pub(crate) command_permits: Arc<Semaphore>,
    /// Bounds the queries; apart, for reads need neither log nor disk.
    pub(crate) query_permits: Arc<Semaphore>,
    pub(crate) outgoing: Declared,
    /// What is known of waiting events; the relays wake by it.
    pub(crate) outbox: watch::Sender<OutboxSeen>,
    checkpoints: CheckpointTrigger,
    actor: watch::Sender<Option<Published<S>>>,
    replica: watch::Sender<Option<Arc<dyn Replica>>>,
    /// Of the newest replica, with its incarnation; there before that leads.
    log: watch::Sender<Option<(u64, Arc<dyn CommittedLog>)>>,
    applied: watch::Sender<LogIndex>,
    incarnation: AtomicU64,
    last_stamp: AtomicU64,
    /// When that was applied, in microseconds since `made`, by the clock of the runtime.
    last_applied_us: AtomicU64,
    made: Instant,
    /// Whether the log of an earlier process was replayed. A replica publishes itself only then. An
    /// actor of a memory-kept service must also have caught up itself.
    recovered: AtomicBool,
}

/// The serving actor and its generation.
pub(crate) struct Published<S: StateMachine> {
    generation: u64,
    pub(crate) actor: ActorRef<ShardMessage<S>>,
}

impl<S: StateMachine> Clone for Published<S> {
    fn clone(&self) -> Self {
        Self { generation: self.generation, actor: self.actor.clone() }
    }
}

impl<S: StateMachine> ShardCell<S> {
    pub(crate) fn new(
        id: ShardId,
        store: Arc<ShardStore>,
        seams: Seams,
        disk: Disk,
        metrics: Arc<ShardMetrics>,
        checkpoints: CheckpointTrigger,
        outgoing: Declared,
    ) -> Self {
        let progress = store.lock().progress.clone();
        let (applied, last_stamp) = (progress.applied.index, progress.last_stamp);
        Self {
            id,
            store,
            clock: seams.clock,
            random: seams.random,
            disk,
            metrics,
            versions: Versions::new(),
            command_permits: Arc::new(Semaphore::new(SHARD_PERMITS)),
            query_permits: Arc::new(Semaphore::new(SHARD_PERMITS)),
            outgoing,
            outbox: watch::Sender::new(OutboxSeen::default()),
            checkpoints,
            actor: watch::Sender::new(None),
            replica: watch::Sender::new(None),
            log: watch::Sender::new(None),
            applied: watch::Sender::new(applied),
            incarnation: AtomicU64::new(0),
            last_stamp: AtomicU64::new(last_stamp.0),
            last_applied_us: AtomicU64::new(0),
            made: time::now(),
            recovered: AtomicBool::new(false),
        }
    }

    /// Where the replica publishes itself.
    pub(crate) fn replica_slot(&self) -> watch::Sender<Option<Arc<dyn Replica>>> {
        self.replica.clone()
    }

    pub(crate) fn current_replica(&self) -> Option<Arc<dyn Replica>> {
        self.replica.borrow().clone()
    }

    /// The log of the replica that runs, whether it leads or not.
    pub(crate) fn current_log(&self) -> Option<Arc<dyn CommittedLog>> {
        self.log.borrow().as_ref().map(|(_, log)| log.clone())
    }

    /// Asks the actor to write its state whenever a checkpoint needs that, until the actor is gone.
    pub(crate) fn watch_checkpoints(&self, actor: ActorRef<ShardMessage<S>>) -> AbortHandle {
        let checkpoints = self.checkpoints.clone();
        tasks::spawn(async move {
            loop {
                checkpoints.asked().await;
                if actor.cast(ShardMessage::Checkpoint { step: 0 }).is_err() {
                    break;
                }
            }
        })
        .abort_handle()
    }

    /// Has a checkpoint written soon.
    pub(crate) fn want_checkpoint(&self) {
        self.checkpoints.want();
    }

    pub(crate) fn has_recovered(&self) -> bool {
        self.recovered.load(Ordering::Relaxed)
    }

    /// The log of an earlier process was replayed. Not before may a checkpoint be due by size: it would take
    /// from the replay, for which everybody waits, what it spares the next one; and what is replayed has a
    /// bound, that of the process before.
    pub(crate) fn set_recovered(&self) {
        self.recovered.store(true, Ordering::Relaxed);
        // Told under the lock, as a checkpoint tells what it leaves: what is noted last is true.
        let state = self.store.lock();
        self.checkpoints.unwritten(state.unwritten_bytes());
    }

    /// Tells the actor whenever the replica changes, until the actor is gone.
    pub(crate) fn watch_replica(&self, actor: ActorRef<ShardMessage<S>>) -> AbortHandle {
        let mut replica = self.replica.subscribe();
        tasks::spawn(async move {
            while replica.changed().await.is_ok() {
                if actor.cast(ShardMessage::ReplicaChanged).is_err() {
                    break;
                }
            }
        })
        .abort_handle()
    }

    /// Makes the actor the one that callers find (L1).
    pub(crate) fn publish(&self, generation: u64, actor: ActorRef<ShardMessage<S>>) {
        // Its state may have come another way than by commands.
        self.versions.moved(&Changed::Anything);
        self.actor.send_if_modified(|published| {
            let newer = published.as_ref().is_none_or(|old| old.generation < generation);
            if newer {
                *published = Some(Published { generation, actor });
            }
            newer
        });
    }

    /// Takes the actor out of sight, if it is still the one that is seen.
    pub(crate) fn retract(&self, generation: u64) {
        self.actor.send_if_modified(|published| {
            let ours = published.as_ref().is_some_and(|old| old.generation == generation);
            if ours {
                *published = None;
            }
            ours
        });
    }

    /// The serving actor, as it changes.
    pub(crate) fn actor(&self) -> watch::Receiver<Option<Published<S>>> {
        self.actor.subscribe()
    }

    /// The serving actor, now.
    pub(crate) fn current_actor(&self) -> Option<ActorRef<ShardMessage<S>>> {
        self.actor.borrow().as_ref().map(|published| published.actor.clone())
    }

    /// The serving actor, waited for as long as it takes: for those who have nobody to answer to.
    pub(crate) async fn serving(&self) -> Option<ActorRef<ShardMessage<S>>> {
        let mut published = self.actor.subscribe();
        let serving = published.wait_for(Option::is_some).await.ok()?;
        serving.as_ref().map(|published| published.actor.clone())
    }

    /// Hybrid logical time: the clock, or if that was set back, the last applied stamp and what has
    /// passed since. Deadlines are measured with it too: with the clock alone every command would
    /// expire, with a time that stands still none would ever be forgotten.
    pub(crate) fn now(&self) -> Stamp {
        let passed = self.micros().saturating_sub(self.last_applied_us.load(Ordering::Relaxed));
        self.clock.now().max(Stamp(self.last_stamp.load(Ordering::Relaxed) + passed))
    }

    /// Names the shard's file in an error that was made where only rows were known.
    pub(crate) fn named(&self, error: StoreError) -> StoreError {
        named(self.store.path(), error)
    }

    fn micros(&self) -> u64 {
        self.made.elapsed().as_micros() as u64
    }

    /// How long after one batch the next may come, lest checkpoints fall far behind.
    pub(crate) fn pause(&self) -> Duration {
        self.checkpoints.pause()
    }

    /// The state has come to `index` and `stamp`, of which `unwritten` bytes are only in memory.
    pub(crate) fn applied_to(&self, index: LogIndex, stamp: Stamp, unwritten: usize) {
        self.last_stamp.store(stamp.0, Ordering::Relaxed);
        self.last_applied_us.store(self.micros(), Ordering::Relaxed);
        self.applied.send_if_modified(|applied| {
            let newer = index > *applied;
            if newer {
                *applied = index;
            }
            newer
        });
        self.metrics.applied(index, unwritten);
        if self.has_recovered() {
            self.checkpoints.unwritten(unwritten);
        }
    }
}

impl<S: StateMachine> Applier for ShardCell<S> {
    fn opened(&self, incarnation: u64, log: Arc<dyn CommittedLog>) {
        self.log.send_if_modified(|known| {
            let newer = known.as_ref().is_none_or(|(known, _)| *known < incarnation);
            if newer {
                *known = Some((incarnation, log));
            }
            newer
        });
    }

    fn closed(&self, incarnation: u64) {
        self.log
            .send_if_modified(|known| known.take_if(|(known, _)| *known == incarnation).is_some());
    }

    fn apply(&self, incarnation: u64, entries: Vec<CommittedEntry>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.incarnation.fetch_max(incarnation, Ordering::SeqCst) > incarnation {
                std::future::pending::<()>().await;
            }
            let Some(last) = entries.last().map(|entry| entry.index) else { return };
            let entries: Arc<[CommittedEntry]> = entries.into();
            let mut applied = self.applied.subscribe();
            let mut actor = self.actor.subscribe();
            while *applied.borrow_and_update() < last {
                // A dead actor loses what it was sent; its successor pulls what was committed
                // before, and is sent this again.
                let serving = actor.borrow_and_update().clone();
                if let Some(serving) = serving {
                    let _ = serving.actor.cast(ShardMessage::Committed(entries.clone()));
                }
                tokio::select! {
                    biased;
                    _ = applied.wait_for(|applied| *applied >= last) => return,
                    _ = actor.changed() => {}
                }
            }
        })
    }

    fn applied(&self) -> AppliedState {
        self.store.applied()
    }

    fn durable(&self) -> AppliedState {
        self.store.durable()
    }

    fn file(&self) -> &Path {
        self.store.path()
    }
}
