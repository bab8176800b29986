//! Starting and stopping a node.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::actors::hosting::{
    Ground, Hosted, SHARD_BUDGET, check_states, host, open_log, open_stores,
};
use crate::actors::lane::Disk;
use crate::actors::relay::{OutboxLimits, Subscription};
use crate::actors::state_machine::StateMachine;
use crate::actors::supervisor::{GaveUp, RootHandle, StartError, ThreadWatchdog, Tree, spec_table};
use crate::actors::{post, recommendation, user};
use crate::config::Config;
use crate::http::limits::Limits;
use crate::http::listener::Socket;
use crate::http::operator::OperatorKey;
use crate::http::ops::Readiness;
use crate::http::passwords::PasswordPool;
use crate::http::tokens::{SigningKey, Tokens};
use crate::http::{App, Parts};
use crate::ids::NodeId;
use crate::node::data_dir::DataDir;
use crate::node::lane_watch::LaneWatch;
use crate::node::tree::{View, http_spec, root_spec, tree_options};
use crate::seams::{Clock, Seams};
use crate::store::checkpointer::{CheckpointOptions, Checkpoints};
use crate::store::error::StoreError;
use crate::store::file::named;
use crate::store::log::{LaneOptions, LogLane};
use crate::telemetry::Metrics;

/// Raft groups are numbered by service, so that one service can grow without moving another's.
const GROUPS_PER_SERVICE: u32 = 1024;
pub(super) const USER_GROUPS: u32 = GROUPS_PER_SERVICE;
const POST_GROUPS: u32 = 2 * GROUPS_PER_SERVICE;
const RECOMMENDATION_GROUPS: u32 = 3 * GROUPS_PER_SERVICE;
/// What it holds fits one node, whatever the number of users' shards, and every replica answers.
const RECOMMENDATION_SHARDS: u16 = 1;
/// Sign-ins and registrations that may wait for a thread that hashes.
const PASSWORDS_WAITING: usize = 256;
/// How long past its limit a handler may block its thread before the process ends.
const WATCHDOG_GRACE: Duration = Duration::from_secs(10);

/// Longest sync of the log. Callers have given up long before; a disk that takes longer will not
/// come back by waiting.
const SYNC_MAX: Duration = Duration::from_secs(30);

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
    /// The first error of an actor that no restart repairs.
    hopeless: watch::Receiver<Option<StoreError>>,
    view: View,
    checkpoints: Arc<Checkpoints>,
    api_socket: Option<Socket>,
    specs: String,
    _watchdogs: (ThreadWatchdog, LaneWatch),
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

impl Node {
    /// Opens the data, binds the addresses, starts the tree; returns when it runs, but for what starts in the
    /// background ([`Node::wait_ready`]).
    ///
    /// # Errors
    /// When the data cannot be used, an address is taken or an actor does not start.
    pub async fn start(config: &Config, seams: Seams) -> Result<Self, NodeError> {
        let api = bind(config.listen)?;
        let ops = bind(config.ops_listen)?;
        Self::run(config, seams, Some((api, ops))).await
    }

    /// The same without listeners: for commands that work on the data of a stopped node.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_offline(config: &Config, seams: Seams) -> Result<Self, NodeError> {
        Self::run(config, seams, None).await
    }

    async fn run(
        config: &Config,
        seams: Seams,
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
            seams: seams.clone(),
            metrics: metrics.clone(),
            lane: watch::Sender::new(None),
            lanes: LaneOptions::default(),
            checkpoints: checkpoints.clone(),
            disk: Disk::default(),
            shard_budget: SHARD_BUDGET,
            outbox: OutboxLimits::default(),
        };
        // The log comes first: shards without one have lost it.
        data_dir.check_log()?;
        let log = open_log(&ground, &data_dir.lane(0))?;
        let shards = data_dir.about().shards;
        let opening = Opening { ground: &ground, data_dir: &data_dir, log: &log, config };
        // Who subscribes comes before those it listens to.
        let recommendations = opening.open::<recommendation::Service>(
            RECOMMENDATION_SHARDS,
            RECOMMENDATION_GROUPS,
            &[],
        )?;
        let subscribed = [Subscription::of(&recommendations.router)];
        let users = opening.open::<user::Service>(shards, USER_GROUPS, &subscribed)?;
        let subscribed = [Subscription::of(&recommendations.router)];
        let posts = opening.open::<post::Service>(shards, POST_GROUPS, &subscribed)?;
        log.close();
        let services = [posts.child, users.child, recommendations.child];
        let replicas = [users.replicas, posts.replicas, recommendations.replicas].concat();
        let view = View {
            replicas: Arc::new(replicas),
            draining: Arc::default(),
            disk: ground.disk.clone(),
            tree: Arc::default(),
        };
        let limits = Limits::from(config);
        let app = App::new(Parts {
            users: users.router,
            posts: posts.router,
            recommendations: recommendations.router,
            tokens: tokens(config, &data_dir, seams.clock.clone())?,
            passwords: PasswordPool::new(
                config.password_threads,
                PASSWORDS_WAITING,
                seams.random.clone(),
            ),
            metrics: metrics.clone(),
            posts_bytes: opening.length::<post::Service>(shards),
            limits: limits.clone(),
            seams,
        });
        let (mut address, mut ops_address, mut api_socket) = (None, None, None);
        let mut listeners = None;
        if let Some((api, ops)) = sockets {
            address = Some(api.local_addr()?);
            ops_address = Some(ops.local_addr()?);
            let key = OperatorKey::of_secret(&data_dir.signing_key()?);
            let api = api_socket.insert(Socket::new(api)).clone();
            listeners = Some(http_spec(api, Socket::new(ops), &app, key, &view));
        }
        let root = root_spec(&ground, data_dir.lane(0), services, listeners);
        let specs = spec_table(&root);
        let (hopeless, heard) = watch::channel(None);
        let tree = Tree::new(root, tree_options(&metrics, &ground.seams.random, hopeless))
            .expect("the ids in the tree are constants and numbers");
        let _ = view.tree.set(tree.clone());
        let root = tokio::select! {
            biased;
            error = first(heard.clone()) => return Err(named(&config.data_dir, error).into()),
            root = tree.start() => root?,
        };
        let (draining, grace) = (view.draining.clone(), WATCHDOG_GRACE);
        let watchdog = ThreadWatchdog::start(tree.clone(), grace, move |stuck| {
            let handler = format!("`{}` has blocked its thread", stuck.path);
            end_process(&draining, &handler, stuck.running_for);
        })?;
        let draining = view.draining.clone();
        let lane_watch = LaneWatch::start(ground.lane.subscribe(), SYNC_MAX, move |time| {
            end_process(&draining, "the disk has not finished a sync", time);
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
            hopeless: heard,
            view,
            checkpoints,
            api_socket,
            specs,
            _watchdogs: (watchdog, lane_watch),
        })
    }

    /// The supervision tree, to look at.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The child specs of the tree as a Markdown table, as `supervision.md` shows it.
    pub fn spec_table(&self) -> &str {
        &self.specs
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
    ///
    /// # Errors
    /// As [`Node::wait`]: then it never can.
    pub async fn wait_ready(&self) -> Result<(), NodeError> {
        let all_lead = async {
            for (_, status) in self.view.replicas.iter() {
                // The sender lives in the tree; if that ended, waiting longer would not help.
                let _ = status.clone().wait_for(|status| status.leads).await;
            }
        };
        tokio::select! {
            biased;
            ended = self.wait() => ended,
            () = all_lead => Ok(()),
        }
    }

    /// Waits until the tree ends, which it does by itself only when it gives up, or until an actor
    /// met an error that no restart repairs. Then what still runs is not worth a stop: everything
    /// acknowledged is in the log, as far as that can be read.
    ///
    /// # Errors
    /// Why it gave up, or the error.
    pub async fn wait(&self) -> Result<(), NodeError> {
        tokio::select! {
            biased;
            error = first(self.hopeless.clone()) => {
                Err(named(self.data_dir.path(), error).into())
            }
            ended = self.root.wait() => Ok(ended?),
        }
    }

    /// From now on the node says that it is not ready.
    pub fn drain(&self) {
        self.view.draining.store(true, Ordering::Relaxed);
    }

    /// Stops the tree from the top: first the listeners, which let finish what is in flight; last
    /// the store, which writes a checkpoint of every shard.
    ///
    /// # Errors
    /// When the tree gave up, or an actor met an error that no restart repairs. The log still has
    /// everything then, as far as it can be read.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.drain();
        if let Some(socket) = &self.api_socket {
            socket.close();
        }
        let stopped = self.root.stop().await;
        self.checkpoints.close();
        let hopeless = self.hopeless.borrow().clone();
        match hopeless {
            Some(error) => Err(named(self.data_dir.path(), error).into()),
            None => Ok(stopped?),
        }
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).map_err(|error| NodeError::Bind { address, error })
}

/// What the shards of every service are opened with.
struct Opening<'a> {
    ground: &'a Ground,
    data_dir: &'a DataDir,
    log: &'a LogLane,
    config: &'a Config,
}

impl Opening<'_> {
    fn open<S: StateMachine>(
        &self,
        shards: u16,
        first_group: u32,
        subscriptions: &[Subscription<S>],
    ) -> Result<Hosted<S>, StoreError> {
        let paths: Vec<PathBuf> = self.paths::<S>(shards).collect();
        let storage = &self.ground.lanes.storage;
        let stores = open_stores::<S>(storage, &paths, self.config.cache_bytes)?;
        check_states(self.log, &stores, first_group)?;
        Ok(host::<S>(self.ground, stores, first_group, subscriptions))
    }

    /// Of the files of a service, in bytes.
    fn length<S: StateMachine>(&self, shards: u16) -> u64 {
        let storage = &self.ground.lanes.storage;
        self.paths::<S>(shards).map(|path| storage.length(&path)).sum()
    }

    fn paths<S: StateMachine>(&self, shards: u16) -> impl Iterator<Item = PathBuf> {
        (0..shards).map(|shard| self.data_dir.shard(S::NAME, shard))
    }
}

fn tokens(config: &Config, data_dir: &DataDir, clock: Clock) -> Result<Tokens, StoreError> {
    let key = SigningKey::new(&data_dir.signing_key()?)
        .map_err(|error| StoreError::Io(error.to_string()))?;
    let life = Duration::from_secs(u64::from(config.token_days) * 24 * 60 * 60);
    Ok(Tokens::new(key, Vec::new(), life, clock))
}

/// The first of these errors; never, if there is none.
async fn first(mut errors: watch::Receiver<Option<StoreError>>) -> StoreError {
    let error = errors.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
    match error {
        Some(error) => error,
        None => std::future::pending().await,
    }
}

/// A blocked thread cannot be killed: the init system restarts the process.
fn end_process(draining: &AtomicBool, what: &str, time: Duration) {
    draining.store(true, Ordering::Relaxed);
    let seconds = time.as_secs();
    eprintln!("quire: {what} for {seconds} s and cannot be stopped: ending the process");
    std::process::exit(1);
}
