//! Starting and stopping a node.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::actors::hosting::{Ground, host, open_stores, store_spec};
use crate::actors::lane::Disk;
use crate::actors::replica::actor::ReplicaStatus;
use crate::actors::router::Router;
use crate::actors::seams::Clock;
use crate::actors::state_machine::StateMachine;
use crate::actors::supervisor::{
    ChildSpec, GaveUp, NoteEvent, RestartBudget, RootHandle, StartError, Strategy, SupervisorSpec,
    Tree, TreeOptions,
};
use crate::actors::user;
use crate::config::Config;
use crate::ids::{NodeId, ShardId};
use crate::node::data_dir::DataDir;
use crate::store::checkpointer::{CheckpointOptions, Checkpoints};
use crate::store::error::StoreError;
use crate::telemetry::{Metrics, RestartLabels};

/// Raft groups are numbered by service, so that one service can grow without moving another's.
const GROUPS_PER_SERVICE: u32 = 1024;

/// A running node.
pub struct Node {
    /// Calls to the user service.
    pub users: Router<user::Service>,
    /// Everything measured.
    pub metrics: Arc<Metrics>,
    /// The data directory.
    pub data_dir: DataDir,
    tree: Tree,
    root: RootHandle,
    replicas: Arc<Vec<(ShardId, watch::Receiver<ReplicaStatus>)>>,
    draining: Arc<AtomicBool>,
    disk: Disk,
}

/// Why a node does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An actor did not start.
    #[error("the node did not start: {0}")]
    Start(#[from] StartError),
    /// The root supervisor spent its restart budget.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
}

/// Whether the node can serve, and why not.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Readiness {
    /// Nothing is in the way.
    pub ready: bool,
    /// What is in the way.
    pub reasons: Vec<String>,
}

impl Node {
    /// Opens the data and starts the tree; returns when it runs.
    ///
    /// # Errors
    /// When the data cannot be used or an actor does not start.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, NodeError> {
        let data_dir = DataDir::open(&config.data_dir, config.shards)?;
        let metrics = Arc::new(Metrics::new());
        let checkpoints = Arc::new(Checkpoints::new(CheckpointOptions {
            bytes: config.checkpoint_bytes,
            age: Duration::from_secs(config.checkpoint_age_s),
        }));
        let disk = Disk::default();
        let ground = Ground {
            node: NodeId(data_dir.about().node),
            clock,
            metrics: metrics.clone(),
            lane: watch::Sender::new(None),
            checkpoints,
            disk: disk.clone(),
        };
        let users =
            open_stores::<user::Service>(&paths::<user::Service>(&data_dir), config.cache_bytes)?;
        let users = host::<user::Service>(&ground, users, GROUPS_PER_SERVICE);
        let services = SupervisorSpec::new("services", Strategy::OneForOne)
            .budget(RestartBudget::new(3, Duration::from_secs(60)))
            .child(ChildSpec::supervisor(users.spec));
        let node = SupervisorSpec::new("node", Strategy::RestForOne)
            .budget(RestartBudget::new(3, Duration::from_secs(60)))
            .child(ChildSpec::supervisor(store_spec(&ground, data_dir.lane(0))))
            .child(ChildSpec::supervisor(services));
        let root = SupervisorSpec::new("quire", Strategy::OneForOne)
            .budget(RestartBudget::new(1, Duration::from_secs(60)))
            .child(ChildSpec::supervisor(node));
        let tree = Tree::new(root, tree_options(&metrics))
            .expect("the ids in the tree are constants and numbers");
        let root = tree.start().await?;
        Ok(Self {
            users: users.router,
            metrics,
            data_dir,
            tree,
            root,
            replicas: Arc::new(users.replicas),
            draining: Arc::default(),
            disk,
        })
    }

    /// The supervision tree, to look at.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether the node can serve, for a listener to ask at any time.
    pub fn readiness(&self) -> impl Fn() -> Readiness + Send + Sync + 'static {
        let (tree, replicas) = (self.tree.clone(), self.replicas.clone());
        let (draining, disk) = (self.draining.clone(), self.disk.clone());
        move || {
            let mut reasons = Vec::new();
            if draining.load(Ordering::Relaxed) {
                reasons.push("the node is draining".to_owned());
            }
            if disk.is_full() {
                reasons.push("the disk is full".to_owned());
            }
            if !tree.all_running() {
                reasons.push("an actor is being restarted".to_owned());
            }
            for (shard, status) in replicas.iter() {
                if !status.borrow().leads {
                    reasons.push(format!("shard {shard} has no leader"));
                }
            }
            Readiness { ready: reasons.is_empty(), reasons }
        }
    }

    /// Waits until the tree ends, which it does by itself only when it gives up.
    ///
    /// # Errors
    /// Why it gave up.
    pub async fn wait(&self) -> Result<(), NodeError> {
        Ok(self.root.wait().await?)
    }

    /// From now on the node says that it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Stops the tree from the top; the store, which comes last, writes a checkpoint of every shard.
    ///
    /// # Errors
    /// When the tree gave up. The log still has everything then.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.drain();
        Ok(self.root.stop().await?)
    }
}

fn paths<S: StateMachine>(data_dir: &DataDir) -> Vec<PathBuf> {
    (0..data_dir.about().shards).map(|shard| data_dir.shard(S::NAME, shard)).collect()
}

/// Counts restarts; the tree itself logs them.
fn tree_options(metrics: &Arc<Metrics>) -> TreeOptions {
    let metrics = metrics.clone();
    TreeOptions {
        observer: Arc::new(move |note| {
            if let NoteEvent::Restarting { cause, .. } = &note.event {
                let path = note.path.to_owned();
                metrics
                    .restarts
                    .get_or_create(&RestartLabels { path, cause: cause.as_str() })
                    .inc();
            }
        }),
        ..TreeOptions::default()
    }
}
