//! Starting and stopping a node.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::actors::hosting::{Ground, Hosted, SHARD_BUDGET, host, open_stores, store_spec};
use crate::actors::lane::Disk;
use crate::actors::replica::actor::ReplicaStatus;
use crate::actors::seams::Clock;
use crate::actors::state_machine::StateMachine;
use crate::actors::supervisor::{
    ChildSpec, GaveUp, NoteEvent, RestartBudget, RootHandle, StartError, Strategy, StuckThread,
    SupervisorSpec, ThreadWatchdog, Tree, TreeOptions,
};
use crate::actors::{post, user};
use crate::config::Config;
use crate::http::limits::Limits;
use crate::http::listener::{self, ListenerActor};
use crate::http::operator::{self, OperatorKey};
use crate::http::ops::{self, OpsState, Readiness};
use crate::http::passwords::PasswordPool;
use crate::http::tokens::{SigningKey, Tokens};
use crate::http::{self, App, Parts};
use crate::ids::{NodeId, ShardId};
use crate::node::data_dir::DataDir;
use crate::store::checkpointer::{CheckpointOptions, Checkpoints};
use crate::store::error::StoreError;
use crate::telemetry::{Metrics, RestartLabels};

/// Raft groups are numbered by service, so that one service can grow without moving another's.
const GROUPS_PER_SERVICE: u32 = 1024;
const USER_GROUPS: u32 = GROUPS_PER_SERVICE;
const POST_GROUPS: u32 = 2 * GROUPS_PER_SERVICE;
/// A supervisor of supervisors gives up when what stands below it gave up so often.
const UPPER_BUDGET: RestartBudget = RestartBudget::new(3, Duration::from_secs(60));
/// Sign-ins and registrations that may wait for a thread that hashes.
const PASSWORDS_WAITING: usize = 256;
/// How long past its limit a handler may block its thread before the process ends.
const WATCHDOG_GRACE: Duration = Duration::from_secs(10);

/// A running node.
pub struct Node {
    /// The application behind the API, with the routers of all services.
    pub app: App,
    /// Where the API listens; `None` for a node without listeners.
    pub address: Option<SocketAddr>,
    /// Where operations listens.
    pub ops_address: Option<SocketAddr>,
    data_dir: DataDir,
    tree: Tree,
    root: RootHandle,
    view: View,
    checkpoints: Arc<Checkpoints>,
    _watchdog: ThreadWatchdog,
}

/// Why a node does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be bound.
    #[error(
        "cannot listen on {address}: {error}: free it, or choose another with --listen or --ops-listen"
    )]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// An actor did not start.
    #[error("the node did not start: {0}")]
    Start(#[from] StartError),
    /// The root supervisor spent its restart budget.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
    /// The system refused something else.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// What readiness is made of; shared with the operations listener.
#[derive(Clone)]
struct View {
    replicas: Arc<Vec<(ShardId, watch::Receiver<ReplicaStatus>)>>,
    draining: Arc<AtomicBool>,
    disk: Disk,
    /// Set once the tree is made, which holds the listener that asks.
    tree: Arc<std::sync::OnceLock<Tree>>,
}

impl Node {
    /// Opens the data, binds the addresses, starts the tree; returns when it runs.
    ///
    /// # Errors
    /// When the data cannot be used, an address is taken or an actor does not start.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, NodeError> {
        let api = bind(config.listen)?;
        let ops = bind(config.ops_listen)?;
        Self::run(config, clock, Some((api, ops))).await
    }

    /// The same without listeners: for commands that work on the data of a stopped node.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_offline(config: &Config, clock: Clock) -> Result<Self, NodeError> {
        Self::run(config, clock, None).await
    }

    async fn run(
        config: &Config,
        clock: Clock,
        sockets: Option<(TcpListener, TcpListener)>,
    ) -> Result<Self, NodeError> {
        let data_dir = DataDir::open(&config.data_dir, config.shards)?;
        let metrics = Arc::new(Metrics::new());
        let checkpoints = Arc::new(Checkpoints::new(CheckpointOptions {
            bytes: config.checkpoint_bytes,
            age: Duration::from_secs(config.checkpoint_age_s),
        }));
        let ground = Ground {
            node: NodeId(data_dir.about().node),
            clock: clock.clone(),
            metrics: metrics.clone(),
            lane: watch::Sender::new(None),
            checkpoints: checkpoints.clone(),
            disk: Disk::default(),
            shard_budget: SHARD_BUDGET,
        };
        let users = open::<user::Service>(&ground, &data_dir, config, USER_GROUPS)?;
        let posts = open::<post::Service>(&ground, &data_dir, config, POST_GROUPS)?;
        let replicas = users.replicas.into_iter().chain(posts.replicas).collect();
        let view = View {
            replicas: Arc::new(replicas),
            draining: Arc::default(),
            disk: ground.disk.clone(),
            tree: Arc::default(),
        };
        let limits = limits(config);
        let app = App::new(Parts {
            users: users.router,
            posts: posts.router,
            tokens: tokens(config, &data_dir, clock.clone())?,
            passwords: PasswordPool::new(config.password_threads, PASSWORDS_WAITING),
            metrics: metrics.clone(),
            limits: limits.clone(),
            clock,
        });
        let services = SupervisorSpec::new("services", Strategy::OneForOne)
            .budget(UPPER_BUDGET)
            .child(ChildSpec::supervisor(posts.spec))
            .child(ChildSpec::supervisor(users.spec));
        let mut node = SupervisorSpec::new("node", Strategy::RestForOne)
            .budget(UPPER_BUDGET)
            .child(ChildSpec::supervisor(store_spec(&ground, data_dir.lane(0))))
            .child(ChildSpec::supervisor(services));
        let (mut address, mut ops_address) = (None, None);
        if let Some((api, ops)) = sockets {
            address = Some(api.local_addr()?);
            ops_address = Some(ops.local_addr()?);
            let key = OperatorKey::of_secret(&data_dir.signing_key()?);
            node = node.child(http_spec(api, ops, &app, key, &view));
        }
        let root = SupervisorSpec::new("quire", Strategy::OneForOne)
            .budget(RestartBudget::new(1, Duration::from_secs(60)))
            .child(ChildSpec::supervisor(node));
        let tree = Tree::new(root, tree_options(&metrics))
            .expect("the ids in the tree are constants and numbers");
        let _ = view.tree.set(tree.clone());
        let root = tree.start().await?;
        let (draining, grace) = (view.draining.clone(), WATCHDOG_GRACE);
        let watchdog = ThreadWatchdog::start(tree.clone(), grace, move |stuck| {
            end_process(&draining, &stuck);
        })?;
        if let Some(ops_address) = ops_address {
            data_dir.publish_ops(ops_address)?;
        }
        Ok(Self {
            app,
            address,
            ops_address,
            data_dir,
            tree,
            root,
            view,
            checkpoints,
            _watchdog: watchdog,
        })
    }

    /// The supervision tree, to look at.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The data directory.
    pub fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// Whether the node can serve, and why not.
    pub fn readiness(&self) -> Readiness {
        self.view.readiness()
    }

    /// Waits until the node can serve.
    pub async fn wait_ready(&self) {
        for (_, status) in self.view.replicas.iter() {
            // The sender lives in the tree; if that ended, waiting longer would not help.
            let _ = status.clone().wait_for(|status| status.leads).await;
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
        self.view.draining.store(true, Ordering::Relaxed);
    }

    /// Stops the tree from the top: first the listeners, which let finish what is in flight; last
    /// the store, which writes a checkpoint of every shard.
    ///
    /// # Errors
    /// When the tree gave up. The log still has everything then.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.drain();
        let stopped = self.root.stop().await;
        self.checkpoints.close();
        Ok(stopped?)
    }
}

impl View {
    fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push("the node is draining".to_owned());
        }
        if self.disk.is_full() {
            reasons.push("the disk is full".to_owned());
        }
        if !self.tree.get().is_some_and(Tree::all_running) {
            reasons.push("an actor is being restarted".to_owned());
        }
        for (shard, status) in self.replicas.iter() {
            if !status.borrow().leads {
                reasons.push(format!("shard {shard} has no leader"));
            }
        }
        Readiness { ready: reasons.is_empty(), reasons }
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).map_err(|error| NodeError::Bind { address, error })
}

fn open<S: StateMachine>(
    ground: &Ground,
    data_dir: &DataDir,
    config: &Config,
    first_group: u32,
) -> Result<Hosted<S>, StoreError> {
    let shards = 0..data_dir.about().shards;
    let paths: Vec<PathBuf> = shards.map(|shard| data_dir.shard(S::NAME, shard)).collect();
    let stores = open_stores::<S>(&paths, config.cache_bytes)?;
    Ok(host::<S>(ground, stores, first_group))
}

fn tokens(config: &Config, data_dir: &DataDir, clock: Clock) -> Result<Tokens, StoreError> {
    let key = SigningKey::new(&data_dir.signing_key()?)
        .map_err(|error| StoreError::Io(error.to_string()))?;
    let life = Duration::from_secs(u64::from(config.token_days) * 24 * 60 * 60);
    Ok(Tokens::new(key, Vec::new(), life, clock))
}

fn limits(config: &Config) -> Limits {
    Limits {
        requests_in_flight: config.requests_max,
        connections: config.connections_max,
        head_time: Duration::from_millis(config.header_timeout_ms),
        body_time: Duration::from_millis(config.body_timeout_ms),
        request_time: Duration::from_millis(config.request_timeout_ms),
        drain_time: Duration::from_millis(config.shutdown_timeout_ms),
        ..Limits::default()
    }
}

/// The listeners: last to start, first to stop.
fn http_spec(
    api: TcpListener,
    ops: TcpListener,
    app: &App,
    key: OperatorKey,
    view: &View,
) -> ChildSpec {
    let limits = &app.limits;
    let (asked, shown) = (view.clone(), view.clone());
    let state = OpsState {
        ready: Arc::new(move || asked.readiness()),
        tree: Arc::new(move || {
            let tree = shown.tree.get().map(Tree::snapshot);
            serde_json::to_value(tree).unwrap_or_default()
        }),
        metrics: app.metrics.clone(),
    };
    let api = listener_spec("api", api, http::routes(app.clone()), limits, &app.metrics);
    let routes = ops::routes(state, limits).merge(operator::routes(app, key, limits));
    let ops = listener_spec("ops", ops, routes, limits, &app.metrics);
    // Stopped in reverse: operations goes on answering while the API drains.
    let spec =
        SupervisorSpec::new("http", Strategy::OneForOne).budget(UPPER_BUDGET).child(ops).child(api);
    ChildSpec::supervisor(spec)
}

fn listener_spec(
    id: &'static str,
    socket: TcpListener,
    routes: axum::Router,
    limits: &Limits,
    metrics: &Arc<Metrics>,
) -> ChildSpec {
    let arguments = listener::Arguments {
        socket: Arc::new(socket),
        routes,
        limits: limits.clone(),
        metrics: metrics.clone(),
    };
    ChildSpec::actor(id, move |_| (ListenerActor, arguments.clone()))
        .shutdown(limits.drain_time + Duration::from_secs(2))
}

/// A handler that blocks its thread cannot be killed: the init system restarts the process.
fn end_process(draining: &AtomicBool, stuck: &StuckThread) {
    draining.store(true, Ordering::Relaxed);
    let seconds = stuck.running_for.as_secs();
    eprintln!(
        "quire: `{}` has blocked its thread for {seconds} s and cannot be stopped: ending the process",
        stuck.path
    );
    std::process::exit(1);
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
