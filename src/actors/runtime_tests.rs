//! The runtime under a service of the tests' own: what must hold for every service.

mod answers;
mod delivery;
mod kept;
mod keyed;
mod pauses;
mod shard;
mod simulation;
mod wake;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::actors::call::CallError;
use crate::actors::hosting::{Ground, Hosted, host, open_stores, store_spec};
use crate::actors::lane::Disk;
use crate::actors::relay::OutboxLimits;
use crate::actors::replica::actor::ReplicaStatus;
use crate::actors::router::{Call, Router};
use crate::actors::state_machine::{
    Changed, Kept, Outcome, ReadTables, Refusal, Slot, StateMachine, Step, Stop, Table, Tables,
    refuse,
};
use crate::actors::supervisor::{
    ChildSpec, RestartBudget, RestartCause, RootHandle, Strategy, SupervisorSpec, Tree, TreeOptions,
};
use crate::error::ErrorCode;
use crate::ids::{Bucket, CommandId, NodeId, Stamp};
use crate::seams::{Clock, Random, Seams, time};
use crate::store::checkpointer::{CheckpointOptions, Checkpoints};
use crate::store::codec::Record;
use crate::store::error::StoreError;
use crate::store::file::damaged;
use crate::store::log::LaneOptions;
use crate::telemetry::Metrics;

/// Counts, by key, and can be told to break in every way.
struct Counter {
    crash: bool,
    attempts: u32,
    /// The key of the last command that was applied.
    added: u64,
}

const COUNTS: Table = Table(0);

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Command {
    Add {
        key: u64,
    },
    /// Panics whenever it is applied, after it has staged something.
    Poison {
        key: u64,
    },
    /// Panics when it is applied by a service that has applied nothing yet fail.
    PanicOnce {
        key: u64,
    },
    /// Crashes the actor itself, right after the merge.
    Crash {
        key: u64,
    },
    Refuse,
}

#[derive(Debug, Clone)]
enum Query {
    Get {
        key: u64,
    },
    Panic,
    /// Meets a row, or a cache, that is not what it must be.
    Damaged,
    Slow {
        steps: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Count(u64);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("no")]
struct No;

impl Record for Command {
    const KIND: u8 = 200;
}
impl Record for Count {
    const KIND: u8 = 201;
}
impl Record for No {
    const KIND: u8 = 202;
}
impl Refusal for No {
    fn code(&self) -> ErrorCode {
        ErrorCode::Invalid
    }
}

fn count(tables: &ReadTables<'_>, key: u64) -> Result<u64, StoreError> {
    let row = tables.get(COUNTS, &key.to_be_bytes())?;
    Ok(row.map_or(0, |row| u64::from_be_bytes(row[..].try_into().unwrap())))
}

fn put_count(tables: &mut Tables<'_>, key: u64, count: u64) {
    tables.put(COUNTS, key.to_be_bytes(), count.to_be_bytes().to_vec());
}

fn all_counts(tables: &ReadTables<'_>) -> Result<BTreeMap<u64, u64>, StoreError> {
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let rows = tables.range(COUNTS, &[], None)?;
    rows.map(|row| row.map(|(key, count)| (number(&key), number(&count)))).collect()
}

impl StateMachine for Counter {
    const NAME: &'static str = "counter";
    const TABLES: &'static [&'static str] = &["counts"];
    type Command = Command;
    type Query = Query;
    type Reply = Count;
    type Answer = u64;
    type Refusal = No;
    type Event = Count;

    fn bucket(_command: &Command) -> Bucket {
        Bucket::new(0)
    }

    fn load(_tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        PANICS_SEEN.with(|seen| Ok(Self { crash: false, attempts: seen.get(), added: 0 }))
    }

    fn apply(
        &mut self,
        tables: &mut Tables<'_>,
        _stamp: Stamp,
        command: Command,
    ) -> Result<Outcome<Count, Count>, Stop<No>> {
        let (Command::Add { key }
        | Command::Poison { key }
        | Command::PanicOnce { key }
        | Command::Crash { key }) = command
        else {
            return refuse(No);
        };
        let next = count(&tables.view(), key)? + 1;
        put_count(tables, key, next);
        self.added = key;
        match command {
            Command::Poison { .. } => panic!("poison, on purpose"),
            Command::PanicOnce { .. } if self.attempts == 0 => {
                PANICS_SEEN.with(|seen| seen.set(1));
                panic!("once, on purpose")
            }
            Command::Crash { .. } => self.crash = true,
            _ => {}
        }
        Ok(Outcome::reply(Count(next)))
    }

    fn changed(&self) -> Changed {
        match self.crash {
            true => Changed::Anything,
            false => Changed::Slots(vec![Slot::of(&self.added)]),
        }
    }

    fn committed(&mut self) {
        assert!(!std::mem::take(&mut self.crash), "a crash of the actor, on purpose");
    }

    fn query(&mut self, tables: &ReadTables<'_>, query: &mut Query) -> Result<Step<u64>, Stop<No>> {
        match query {
            Query::Get { key } => Ok(Step::Done(count(tables, *key)?)),
            Query::Panic => panic!("a query, on purpose"),
            Query::Damaged => Err(Stop::Store(damaged(Path::new(""), "a row, on purpose"))),
            Query::Slow { steps: 0 } => Ok(Step::Done(0)),
            Query::Slow { steps } => {
                *steps -= 1;
                Ok(Step::Again)
            }
        }
    }
}

thread_local! {
    /// What a fresh service knows of earlier panics; the tests that use it have one thread.
    static PANICS_SEEN: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// A tree with one shard of the counter on a real directory.
struct World<S: StateMachine = Counter> {
    router: Router<S>,
    tree: Tree,
    root: RootHandle,
    status: watch::Receiver<ReplicaStatus>,
    checkpoints: Arc<Checkpoints>,
    metrics: Arc<Metrics>,
}

const SHARD: &str = "test/services/counter/0/shard";
const REPLICA: &str = "test/services/counter/0/replica";
const LANE: &str = "test/store/lane-0";
const SHARD_FILE: &str = "shard-0.redb";
const LANE_FILE: &str = "log-0.redb";

fn ground(seams: Seams, lanes: LaneOptions, options: CheckpointOptions) -> Ground {
    Ground {
        node: NodeId(1),
        seams,
        metrics: Arc::new(Metrics::new()),
        lane: watch::Sender::new(None),
        lanes,
        checkpoints: Arc::new(Checkpoints::new(options)),
        disk: Disk::default(),
        shard_budget: RestartBudget::new(10_000, Duration::from_secs(10)),
        outbox: OutboxLimits::default(),
    }
}

impl World<Counter> {
    async fn start(folder: &Path) -> Self {
        Self::start_at(folder, Clock::system()).await
    }

    async fn start_at(folder: &Path, clock: Clock) -> Self {
        let seams = Seams { clock, random: Random::system() };
        let options = CheckpointOptions { bytes: 1 << 20, age: Duration::from_secs(60) };
        let ground = ground(seams, LaneOptions::default(), options);
        Self::start_on(folder, ground, TreeOptions::default()).await
    }

    async fn send(&self, command: Command) -> Result<u64, CallError<No>> {
        self.router.command(Call::new(), command).await.map(|Count(count)| count)
    }

    async fn get(&self, key: u64) -> u64 {
        self.router.query_shard(Call::new(), 0, Query::Get { key }).await.unwrap()
    }
}

impl<S: StateMachine> World<S> {
    async fn start_on(folder: &Path, ground: Ground, options: TreeOptions) -> Self {
        let (checkpoints, metrics) = (ground.checkpoints.clone(), ground.metrics.clone());
        let paths = [folder.join(SHARD_FILE)];
        let stores = open_stores::<S>(&ground.lanes.storage, &paths, 1 << 20).unwrap();
        let Hosted { router, child, mut replicas } = host::<S>(&ground, stores, 1, &[]);
        let (tree, root) = start_tree(&ground, folder, [child], options).await;
        let status = replicas.remove(0).1;
        Self { router, tree, root, status, checkpoints, metrics }
    }

    fn restarts(&self, path: &str, cause: RestartCause) -> u64 {
        restarts(&self.tree, path, cause)
    }

    async fn end(self) {
        self.root.stop().await.unwrap();
        self.checkpoints.close();
    }
}

/// Starts services over a store in a folder.
async fn start_tree(
    ground: &Ground,
    folder: &Path,
    services: impl IntoIterator<Item = ChildSpec>,
    options: TreeOptions,
) -> (Tree, RootHandle) {
    let services = SupervisorSpec::new("services", Strategy::OneForOne).children(services);
    let store = store_spec(ground, folder.join(LANE_FILE));
    let spec = SupervisorSpec::new("test", Strategy::RestForOne)
        .child(ChildSpec::supervisor(store))
        .child(ChildSpec::supervisor(services));
    let tree = Tree::new(spec, options).unwrap();
    let root = tree.start().await.unwrap();
    (tree, root)
}

fn restarts(tree: &Tree, path: &str, cause: RestartCause) -> u64 {
    let tree = tree.snapshot();
    let child = tree.find(path).unwrap();
    if let Some(failure) = &child.last_failure {
        println!("{path}: {failure}");
    }
    let restarts = &child.restarts;
    match cause {
        RestartCause::Crash => restarts.crash,
        RestartCause::Dependency => restarts.dependency,
        RestartCause::Watchdog => restarts.watchdog,
        RestartCause::Operator => restarts.operator,
        RestartCause::StartFailure => restarts.start_failure,
    }
}

/// Looks until it is so. The bound is far beyond what anything takes: it says that it never will be.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            time::sleep(Duration::from_millis(2)).await;
        }
    };
    if time::timeout(Duration::from_secs(120), wait).await.is_err() {
        panic!("never: {what}");
    }
}

/// A copy of the files of a node that is idle and writes no checkpoint: what a kill would leave.
fn files_as_a_crash_leaves_them(folder: &Path) -> tempfile::TempDir {
    copy_of(folder, &[LANE_FILE, SHARD_FILE])
}

fn copy_of(folder: &Path, files: &[&str]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in files {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    copy
}
