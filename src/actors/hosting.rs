//! Hosting a service: from a `StateMachine` to supervised shards and a router.
//!
//! Building a service is separate from running it: this is all that running one more takes.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::actors::checkpoint::CheckpointActor;
use crate::actors::lane::{self, Disk};
use crate::actors::relay::message::SERVICE_KIND_MIN;
use crate::actors::relay::{
    self, Declared, Feed, OutboxLimits, OutboxMetrics, RelayActor, Subscription,
};
use crate::actors::replica::actor::{self as replica, ReplicaActor, ReplicaStatus};
use crate::actors::replica::port::{Applier, Replica};
use crate::actors::router::Router;
use crate::actors::shard::{self, ShardActor};
use crate::actors::shard_cell::ShardCell;
use crate::actors::shard_metrics::ShardMetrics;
use crate::actors::state_machine::{Kept, StateMachine};
use crate::actors::supervisor::{Backoff, ChildSpec, RestartBudget, Strategy, SupervisorSpec};
use crate::ids::{GroupId, NodeId, ShardId, ShardName};
use crate::seams::{Seams, tasks};
use crate::store::checkpointer::{CheckpointObserver, Checkpoints};
use crate::store::codec::Record;
use crate::store::error::StoreError;
use crate::store::file::{Storage, named, page_cache, unreadable};
use crate::store::log::{LaneOptions, LogLane};
use crate::store::shard_file::ShardStore;
use crate::store::upgrade::Layout;
use crate::telemetry::Metrics;

/// Crashes of one shard or replica that are a fault of the moment; one more is a fault of the
/// program, and the supervisor says so upward.
pub(crate) const SHARD_BUDGET: RestartBudget = RestartBudget::new(30, Duration::from_secs(10));
/// A service gives up after several of its shards did.
pub(crate) const SERVICE_BUDGET: RestartBudget = RestartBudget::new(2, Duration::from_secs(60));
/// A handler is bounded to about a millisecond of work; this is far beyond, and far below the
/// patience of a caller ([`crate::config::COMMAND_DEADLINE`]).
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What is queued, or was not yet written to a file, is written at a stop; a slow disk may take so
/// long. Beyond that the log has it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a replica publishes itself.
type ReplicaSlot = watch::Sender<Option<Arc<dyn Replica>>>;

/// What every shard stands on.
pub(crate) struct Ground {
    pub(crate) node: NodeId,
    pub(crate) seams: Seams,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lane: watch::Sender<Option<Arc<LogLane>>>,
    /// How lanes are opened, and where.
    pub(crate) lanes: LaneOptions,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) disk: Disk,
    /// How often a shard or replica may fail; [`SHARD_BUDGET`] but in tests that crash more.
    pub(crate) shard_budget: RestartBudget,
    /// How much may wait for subscribers.
    pub(crate) outbox: OutboxLimits,
}

/// A hosted service: how to call it, how to supervise it, how its replicas are.
pub(crate) struct Hosted<S: StateMachine> {
    pub(crate) router: Router<S>,
    pub(crate) child: ChildSpec,
    pub(crate) replicas: Vec<(ShardId, watch::Receiver<ReplicaStatus>)>,
}

/// Prepares the shards of a service; they run once the returned spec is part of a started tree.
/// `stores` are its shards in order; `first_group` is the Raft group of the first. Who subscribes to
/// its events is hosted before, and stands in `subscriptions`.
pub(crate) fn host<S: StateMachine>(
    ground: &Ground,
    stores: Vec<ShardStore>,
    first_group: u32,
    subscriptions: &[Subscription<S>],
) -> Hosted<S> {
    const { assert!(S::Command::KIND >= SERVICE_KIND_MIN, "a kind of the runtime's commands") };
    let ports: Vec<_> = subscriptions.iter().flat_map(Subscription::ports).collect();
    let mut feeds = Vec::new();
    let mut cells = Vec::new();
    let mut shards = Vec::new();
    let mut replicas = Vec::new();
    for (index, store) in stores.into_iter().enumerate() {
        let id = ShardId { service: S::NAME, index: index as u16 };
        let group = GroupId(first_group + index as u32);
        let declared = ports.iter().map(|port| port.id().into()).collect();
        let cell = cell::<S>(ground, id, store, declared);
        let mut subscribers = Vec::new();
        for port in &ports {
            let (feed, teller) = Feed::new(&cell, port.id());
            feeds.push(feed);
            subscribers.push((port.clone(), teller));
        }
        let metrics = ground.metrics.clone();
        let relay = relay::Arguments { cell: cell.clone(), subscribers, metrics };
        let (status, watched) = watch::channel(ReplicaStatus::default());
        shards.push(ChildSpec::supervisor(shard_spec(ground, group, status, relay)));
        replicas.push((id, watched));
        cells.push(cell);
    }
    let spec =
        SupervisorSpec::new(S::NAME, Strategy::OneForOne).budget(SERVICE_BUDGET).children(shards);
    // The state of a memory-kept service is read when it starts, all of it.
    let child = ChildSpec::supervisor(spec).in_background(S::KEPT == Kept::Memory);
    Hosted { router: Router::new(cells).with_feeds(feeds), child, replicas }
}

fn cell<S: StateMachine>(
    ground: &Ground,
    id: ShardId,
    store: ShardStore,
    subscribers: Vec<ShardName>,
) -> Arc<ShardCell<S>> {
    let store = Arc::new(store);
    let metrics = ShardMetrics::new(&ground.metrics, id);
    // The observer needs the replica slot of a cell that needs the observer's trigger.
    let slot: Arc<OnceLock<ReplicaSlot>> = Arc::default();
    let (observed, late_slot, clock) = (metrics.clone(), slot.clone(), ground.seams.clock.clone());
    let disk = ground.disk.writer();
    let observer: CheckpointObserver = Arc::new(move |outcome| match outcome {
        Ok(done) => {
            disk.note(Ok(()));
            observed.checkpointed(clock.now(), done.took, done.left);
            let replica = late_slot.get().and_then(|slot| slot.borrow().clone());
            if let Some(replica) = replica {
                replica.checkpointed(done.applied);
            }
        }
        Err(error) => {
            disk.note::<()>(Err(&error));
            observed.checkpoint_failed();
            tracing::error!(shard = %id, %error, "a checkpoint failed; memory and log have everything");
        }
    });
    let trigger = ground.checkpoints.add(store.clone(), observer);
    let outgoing = Declared {
        limits: ground.outbox,
        metrics: (!subscribers.is_empty()).then(|| OutboxMetrics::new(&ground.metrics, id)),
        subscribers,
    };
    let (seams, disk) = (ground.seams.clone(), ground.disk.clone());
    let cell = ShardCell::new(id, store, seams, disk, metrics, trigger, outgoing);
    let _ = slot.set(cell.replica_slot());
    Arc::new(cell)
}

/// Started in order: shard, replica, and a relay if anybody subscribes. The shard comes first because openraft replays through it,
/// but neither is in the other's restart scope: a shard crash leaves Raft alone, a replica crash
/// leaves the state alone.
fn shard_spec<S: StateMachine>(
    ground: &Ground,
    group: GroupId,
    status: watch::Sender<ReplicaStatus>,
    relay: relay::Arguments<S>,
) -> SupervisorSpec {
    let cell = relay.cell.clone();
    let arguments = replica::Arguments {
        shard: cell.id,
        node: ground.node,
        group,
        lane: ground.lane.subscribe(),
        applier: cell.clone() as Arc<dyn Applier>,
        published: cell.replica_slot(),
        status,
        random: ground.seams.random.clone(),
    };
    let id = cell.id.index.to_string();
    let shard = ChildSpec::actor("shard", move |context| {
        let heartbeat = context.heartbeat.clone();
        (ShardActor::<S>::default(), shard::Arguments { cell: cell.clone(), heartbeat })
    })
    .stuck_after(STUCK_AFTER);
    let replica = ChildSpec::actor("replica", move |_| (ReplicaActor, arguments.clone()));
    let relay = (!relay.subscribers.is_empty()).then(|| {
        ChildSpec::actor("relay", move |_| (RelayActor::<S>::default(), relay.clone()))
            .backoff(quick())
    });
    SupervisorSpec::new(id, Strategy::OneForOne)
        .budget(ground.shard_budget)
        .child(shard.backoff(quick()))
        .child(replica.backoff(quick()))
        .children(relay)
}

/// Callers wait while a shard restarts: the first restart is immediate, then short pauses; a second
/// without a crash and the next one is a first again (the budget bounds how often).
pub(crate) fn quick() -> Backoff {
    Backoff {
        initial: Duration::from_millis(5),
        max: Duration::from_millis(200),
        healthy_after: Duration::from_secs(1),
        ..Backoff::default()
    }
}

/// The supervisor of the store: its lanes.
pub(crate) fn store_spec(ground: &Ground, path: std::path::PathBuf) -> SupervisorSpec {
    let published = ground.lane.clone();
    let open: Arc<Mutex<Option<Arc<LogLane>>>> = Arc::default();
    let fsync = ground.metrics.fsync.clone();
    let disk = ground.disk.writer();
    let options = ground.lanes.clone();
    let lane = ChildSpec::actor("lane-0", move |context| {
        let arguments = lane::Arguments {
            path: path.clone(),
            options: options.clone(),
            published: published.clone(),
            open: open.clone(),
            fsync: fsync.clone(),
            disk: disk.clone(),
            heartbeat: context.heartbeat.clone(),
        };
        (lane::LaneActor, arguments)
    });
    let checkpoints = ground.checkpoints.clone();
    let checkpointer =
        ChildSpec::actor("checkpointer", move |_| (CheckpointActor, checkpoints.clone()));
    SupervisorSpec::new("store", Strategy::OneForOne)
        .budget(RestartBudget::new(5, Duration::from_secs(60)))
        .child(lane.shutdown(FLUSH_TIMEOUT))
        .child(checkpointer.shutdown(FLUSH_TIMEOUT))
}

/// Opens the log of the node before anything is started: what is wrong with it stays wrong however
/// often an actor tries again.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_log(ground: &Ground, path: &Path) -> Result<Arc<LogLane>, StoreError> {
    let open = || LogLane::open(path, ground.lanes.clone());
    let opened = tasks::apart(std::iter::once(open)).remove(0);
    opened.map_err(|_panic| unreadable(path))?
}

/// Compares the log with what the shards hold, for the same reason.
///
/// # Errors
/// When a shard and its part of the log do not belong together.
pub(crate) fn check_states(
    log: &LogLane,
    stores: &[ShardStore],
    first_group: u32,
) -> Result<(), StoreError> {
    for (index, store) in stores.iter().enumerate() {
        let group = log.group(GroupId(first_group + index as u32))?;
        replica::check_state(&group.state(), &store.applied())
            .map_err(|error| named(store.path(), error))?;
    }
    Ok(())
}

/// Opens the files of a service's shards, in parallel: recovery of one must not wait for another.
/// `cache_bytes` is the page cache of each; 0 for what the file needs.
///
/// # Errors
/// The first that cannot be opened.
pub(crate) fn open_stores<S: StateMachine>(
    storage: &Storage,
    paths: &[std::path::PathBuf],
    cache_bytes: usize,
) -> Result<Vec<ShardStore>, StoreError> {
    let opening = paths.iter().map(|path| {
        move || {
            let cache_bytes = page_cache(cache_bytes, S::KEPT, storage.length(path), paths.len());
            let layout = Layout { tables: S::TABLES, upgrade: S::upgrade };
            let store = ShardStore::open(storage, path, layout, cache_bytes)?;
            Ok(store.kept(S::KEPT))
        }
    });
    let opened = tasks::apart(opening).into_iter().zip(paths);
    opened.map(|(opened, path)| opened.map_err(|_panic| unreadable(path))?).collect()
}
