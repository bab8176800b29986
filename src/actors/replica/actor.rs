//! The actor of a replica.
//!
//! **Owns**: the Raft group of a shard on this node, and the right to write its log.
//! **Receives**: [`ReplicaMessage`], from itself and from its handle.
//! **Sends**: committed entries to the shard, through [`Applier`]; itself, as a [`Replica`].
//! **Started by**: the supervisor of the shard, after the shard's cell.
//! **When it fails**: proposals in flight are told so (they may be committed all the same); what
//! is committed stays; the successor opens the log with a new incarnation, is elected at once and
//! goes on where the shard's state ends. It fails when Raft stops, which a storage error does.
//! **Invariants**: see [`crate::actors::replica`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Config, EmptyNode, Raft, RaftMetrics, ServerState, SnapshotPolicy};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::actors::published::withdraw;
use crate::actors::replica::handle::{RaftReplica, ReplicaLog, behind_purged_log};
use crate::actors::replica::log_storage::LogStore;
use crate::actors::replica::network::NoPeers;
use crate::actors::replica::port::{AppliedState, Applier, Replica};
use crate::actors::replica::state_machine::{Progress, StateMachine};
use crate::actors::replica::types::{Runtime, TypeConfig, decode_position, log_index, raft_index};
use crate::actors::supervisor::DependencyFailed;
use crate::ids::{GroupId, LogIndex, NodeId, ShardId};
use crate::seams::{Random, tasks, time};
use crate::store::error::StoreError;
use crate::store::file::named;
use crate::store::log::{GroupLogState, LogLane};

/// Five times the tail of an fsync; the library's 50 ms are too tight.
const HEARTBEAT_MS: u64 = 250;
/// Several heartbeats, so that a slow disk starts no election.
const ELECTION_MS: std::ops::Range<u64> = 1_000..2_000;
/// A lone voter needs two commits to lead; a disk that takes longer is stuck.
const LEADER_WAIT: Duration = Duration::from_secs(30);
/// A lane is reopened in milliseconds; longer, and the supervisor shall hear of it.
const LANE_WAIT: Duration = Duration::from_secs(1);
/// A shard file may be large.
const INSTALL_SNAPSHOT_MS: u64 = 60_000;

/// What the actor is told.
pub enum ReplicaMessage {
    /// The group leads and has recovered, or why not.
    Opened(Result<OpenedReplica, StoreError>),
    /// Everything up to here is durable in the shard's file.
    Checkpointed(LogIndex),
    /// Raft has stopped by itself.
    RaftStopped(StoreError),
    /// The lane is another one now, or none.
    LaneReplaced,
}

/// A Raft group that is ready to serve.
pub struct OpenedReplica(Arc<RaftReplica>);

/// How a replica is doing, for readiness and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Which opening of the group this is; rises with every restart.
    pub incarnation: u64,
    /// Raft's term.
    pub term: u64,
    /// Who leads, as far as this replica knows.
    pub leader: Option<NodeId>,
    /// Whether this replica leads.
    pub leads: bool,
    /// The last entry on the log.
    pub last: LogIndex,
    /// The last entry that the shard has applied.
    pub applied: LogIndex,
    /// The last entry that was purged behind a checkpoint.
    pub purged: LogIndex,
}

/// All that a restart needs.
#[derive(Clone)]
pub struct Arguments {
    /// Whose replica this is, for names and logs.
    pub shard: ShardId,
    /// This node.
    pub node: NodeId,
    /// The group on the lane.
    pub group: GroupId,
    /// The lane, which the store may reopen between restarts; `None` while it does.
    pub lane: watch::Receiver<Option<Arc<LogLane>>>,
    /// The shard.
    pub applier: Arc<dyn Applier>,
    /// Where the shard finds its replica while there is one that leads.
    pub published: watch::Sender<Option<Arc<dyn Replica>>>,
    /// Where the status is kept.
    pub status: watch::Sender<ReplicaStatus>,
    /// Where the chance of Raft's timers comes from.
    pub random: Random,
}

/// The actor.
pub struct ReplicaActor;

/// The state of the actor. Dropping it stops the group, also when the actor is killed.
pub struct State {
    arguments: Arguments,
    lane: Arc<LogLane>,
    incarnation: u64,
    stop: watch::Sender<bool>,
    /// Opens the group; then watches it.
    task: JoinHandle<()>,
    replica: Option<Arc<RaftReplica>>,
}

impl Actor for ReplicaActor {
    type Msg = ReplicaMessage;
    type State = State;
    type Arguments = Arguments;

    /// Returns when the log is open. Raft itself starts in the background: it replays through the
    /// shard, and a supervisor that waited for that could not restart a shard that crashes in it.
    async fn pre_start(
        &self,
        myself: ActorRef<ReplicaMessage>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        // A lane that is away, for a full disk say, is no fault of this replica: with this wait its
        // restarts never become as frequent as the budget asks, also where starts spend it.
        let mut watched = arguments.lane.clone();
        let there = time::timeout(LANE_WAIT, watched.wait_for(Option::is_some)).await;
        let lane = there.ok().and_then(Result::ok).and_then(|lane| lane.clone());
        let lane = lane.ok_or_else(lane_failed)?;
        let (opener, group) = (lane.clone(), arguments.group);
        // Waits for a commit.
        let opened = tasks::blocking(move || opener.group(group)).await?;
        let log = match opened {
            Err(_) if !lane.is_open() => return Err(lane_failed().into()),
            opened => opened?,
        };
        let applied = arguments.applier.applied();
        let of_state = |error| named(arguments.applier.file(), error);
        check_state(&log.state(), &applied).map_err(of_state)?;
        let incarnation = log.incarnation();
        let progress = Arc::new(Progress::new(&applied).map_err(of_state)?);
        let log = LogStore::new(log);
        let committed = ReplicaLog { log: log.clone(), progress: progress.clone() };
        arguments.applier.opened(incarnation, Arc::new(committed));
        let (stop, stopped) = watch::channel(false);
        let opening = Opening {
            node: arguments.node,
            config: configuration(arguments.shard)?,
            progress,
            applier: arguments.applier.clone(),
            lane: lane.clone(),
            log: log.clone(),
            stop: stopped,
        };
        let seed = arguments.random.any();
        let replaced = replaced(arguments.lane.clone(), lane.clone());
        let task = tasks::spawn(async move {
            // The shard may wait for a log that can be read again, and the group for the shard.
            let outcome = tokio::select! {
                biased;
                opened = Runtime::scope(seed, opening.run(myself.clone())) => {
                    ReplicaMessage::Opened(opened.map(OpenedReplica))
                }
                () = replaced => ReplicaMessage::LaneReplaced,
            };
            let _ = myself.cast(outcome);
        });
        Ok(State { arguments, lane, incarnation, stop, task, replica: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<ReplicaMessage>,
        message: ReplicaMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ReplicaMessage::Opened(Ok(opened)) => state.opened(myself, opened),
            ReplicaMessage::Opened(Err(error)) => return Err(state.failure(error)),
            ReplicaMessage::Checkpointed(index) => return state.checkpointed(index).await,
            ReplicaMessage::RaftStopped(error) => return Err(state.failure(error)),
            ReplicaMessage::LaneReplaced => return Err(lane_failed().into()),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<ReplicaMessage>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(replica) = state.withdraw() {
            // The core ends with its current command; what is left of it is fenced.
            let _ = replica.raft.shutdown().await;
        }
        Ok(())
    }
}

/// Returns when there is another lane than ours, or none.
async fn replaced(mut lane: watch::Receiver<Option<Arc<LogLane>>>, ours: Arc<LogLane>) {
    let is_other =
        |lane: &Option<Arc<LogLane>>| !lane.as_ref().is_some_and(|lane| Arc::ptr_eq(lane, &ours));
    let _ = lane.wait_for(is_other).await;
}

impl State {
    /// A lane that failed or was closed is not this replica's fault, and spends only the lane's budget.
    fn failure(&self, error: StoreError) -> ActorProcessingErr {
        if self.lane.is_open() { error.into() } else { lane_failed().into() }
    }

    fn opened(&mut self, myself: ActorRef<ReplicaMessage>, OpenedReplica(replica): OpenedReplica) {
        let watcher = Watcher {
            metrics: replica.raft.metrics(),
            status: self.arguments.status.clone(),
            lane: self.lane.clone(),
            log: replica.log.clone(),
            incarnation: self.incarnation,
        };
        let durable = self.arguments.applier.durable().index;
        let replaced = replaced(self.arguments.lane.clone(), self.lane.clone());
        self.task = tasks::spawn(async move {
            // What was checkpointed while there was no replica.
            let _ = myself.cast(ReplicaMessage::Checkpointed(durable));
            // A replica that writes nothing would not notice, and its log could not be read.
            let end = tokio::select! {
                biased;
                stopped = watcher.run() => ReplicaMessage::RaftStopped(stopped),
                () = replaced => ReplicaMessage::LaneReplaced,
            };
            let _ = myself.cast(end);
        });
        self.replica = Some(replica.clone());
        self.arguments.published.send_replace(Some(replica));
        let shard = self.arguments.shard;
        tracing::info!(%shard, node = self.arguments.node.0, "the replica leads");
    }

    /// openraft builds a "snapshot" at the checkpoint, which is there already, and then purges
    /// the log behind it. A checkpoint that comes while it does so is left to the next one.
    async fn checkpointed(&mut self, index: LogIndex) -> Result<(), ActorProcessingErr> {
        let Some(replica) = &self.replica else { return Ok(()) };
        if index > replica.log.0.state().purged {
            // They fail when Raft has stopped; then the watcher says why. The second one is for a
            // checkpoint that openraft found at its start: it purges only behind a new one.
            let _ = replica.raft.trigger().snapshot().await;
            let _ = replica.raft.trigger().purge_log(raft_index(index)).await;
        }
        Ok(())
    }

    /// Takes the replica away from the shard. A successor may have published its own already.
    fn withdraw(&mut self) -> Option<Arc<RaftReplica>> {
        self.stop.send_replace(true);
        self.task.abort();
        let replica = self.replica.take();
        // Before the log: who sees a replica may rely on that.
        if let Some(replica) = &replica {
            withdraw(&self.arguments.published, replica);
        }
        self.arguments.applier.closed(self.incarnation);
        let replica = replica?;
        self.arguments.status.send_if_modified(|status| {
            let ours = status.incarnation == self.incarnation;
            if ours {
                (status.leads, status.leader) = (false, None);
            }
            ours
        });
        Some(replica)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let Some(replica) = self.withdraw() else { return };
        // The actor failed or was killed. The shard may still hold the handle, and with it Raft.
        tasks::spawn_if_possible(async move { replica.raft.shutdown().await });
    }
}

fn lane_failed() -> DependencyFailed {
    DependencyFailed { on: "the log lane".into() }
}

/// What is needed to open the group.
struct Opening {
    node: NodeId,
    config: Arc<Config>,
    lane: Arc<LogLane>,
    log: LogStore,
    applier: Arc<dyn Applier>,
    progress: Arc<Progress>,
    stop: watch::Receiver<bool>,
}

impl Opening {
    async fn run(self, actor: ActorRef<ReplicaMessage>) -> Result<Arc<RaftReplica>, StoreError> {
        let (lane, log) = (self.lane, self.log);
        let failure = |error: String| why(&lane, &log).unwrap_or(StoreError::Io(error));
        let node = self.node.0;
        let machine = StateMachine {
            applier: self.applier,
            incarnation: log.0.incarnation(),
            progress: self.progress,
            stop: self.stop,
        };
        let raft = Raft::new(node, self.config, NoPeers, log.clone(), machine)
            .await
            .map_err(|error| failure(error.to_string()))?;
        if raft.is_initialized().await.map_err(|error| failure(error.to_string()))? {
            // It would wait for its election timeout. A lone voter has nobody to disturb.
            raft.trigger().elect(false).await.map_err(|error| failure(error.to_string()))?;
        } else {
            let members = BTreeMap::from([(node, EmptyNode::new())]);
            raft.initialize(members).await.map_err(|error| failure(error.to_string()))?;
        }
        raft.wait(Some(LEADER_WAIT))
            .state(ServerState::Leader, "lead")
            .await
            .map_err(|error| failure(error.to_string()))?;
        // No limit: it takes as long as the shard, which has a watchdog of its own, applies.
        raft.wait_for_recovery(None).await.map_err(|error| failure(error.to_string()))?;
        Ok(Arc::new(RaftReplica { raft, log, actor }))
    }
}

/// Follows Raft's metrics until it stops.
struct Watcher {
    metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    status: watch::Sender<ReplicaStatus>,
    lane: Arc<LogLane>,
    log: LogStore,
    incarnation: u64,
}

impl Watcher {
    async fn run(mut self) -> StoreError {
        loop {
            let metrics = self.metrics.borrow_watched().clone();
            let status = status(&metrics, self.incarnation);
            self.status.send_if_modified(|old| {
                // An older replica that is not quite dead has nothing to say.
                let newer = old.incarnation <= status.incarnation && *old != status;
                if newer {
                    *old = status;
                }
                newer
            });
            let running = metrics.running_state.map_err(|error| error.to_string());
            let next = match running {
                Ok(()) => self.metrics.changed().await.map_err(|_| "raft is gone".to_owned()),
                Err(error) => Err(error),
            };
            if let Err(error) = next {
                return why(&self.lane, &self.log).unwrap_or(StoreError::Io(error));
            }
        }
    }
}

/// Why Raft stopped, as far as the storage knows.
fn why(lane: &LogLane, log: &LogStore) -> Option<StoreError> {
    lane.failure().or_else(|| log.failure())
}

fn status(metrics: &RaftMetrics<TypeConfig>, incarnation: u64) -> ReplicaStatus {
    let position = |index: Option<u64>| index.map_or(LogIndex(0), log_index);
    ReplicaStatus {
        incarnation,
        term: metrics.current_term,
        leader: metrics.current_leader.map(NodeId),
        leads: metrics.state == ServerState::Leader,
        last: position(metrics.last_log_index),
        applied: position(metrics.last_applied.as_ref().map(|id| id.index)),
        purged: position(metrics.purged.as_ref().map(|id| id.index)),
    }
}

fn configuration(shard: ShardId) -> Result<Arc<Config>, StoreError> {
    let config = Config {
        cluster_name: shard.to_string(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.start,
        election_timeout_max: ELECTION_MS.end,
        install_snapshot_timeout: INSTALL_SNAPSHOT_MS,
        // The checkpoint is the snapshot, and the shard decides when it is made. Everything
        // behind it is purged at once.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        // A leader that restarts must not lead with a state that is older than its log.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| StoreError::Io(error.to_string()))
}

/// Refuses a log and a state that do not belong together (R4).
pub(crate) fn check_state(log: &GroupLogState, applied: &AppliedState) -> Result<(), StoreError> {
    if applied.index < log.purged {
        return Err(behind_purged_log(applied.index, log.purged));
    }
    let (_, members) = decode_position(&applied.position)?;
    // With peers, a state may be ahead of the log: it came from a peer. A lone voter has applied
    // nothing that was not on its log before.
    let alone = members.voter_ids().count() <= 1;
    if alone && applied.index > log.last {
        let (applied, last) = (applied.index.0, log.last.0);
        let detail = format!("the state ends at entry {applied}, the log already at {last}");
        return Err(StoreError::Damaged { path: PathBuf::new(), detail });
    }
    Ok(())
}
