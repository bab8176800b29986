//! The runtime under a service of the tests' own: what must hold for every service.

mod delivery;
mod keyed;
mod pauses;
mod simulation;

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
    Outcome, ReadTables, Refusal, StateMachine, Step, Stop, Table, Tables, refuse,
};
use crate::actors::supervisor::{
    ChildSpec, RestartBudget, RestartCause, RootHandle, Strategy, SupervisorSpec, Tree, TreeOptions,
};
use crate::error::ErrorCode;
use crate::ids::{Bucket, CommandId, NodeId, Stamp};
use crate::seams::{Clock, Random, Seams};
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
        PANICS_SEEN.with(|seen| Ok(Self { crash: false, attempts: seen.get() }))
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
        tables.put(COUNTS, key.to_be_bytes(), next.to_be_bytes().to_vec());
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
struct World {
    router: Router<Counter>,
    tree: Tree,
    root: RootHandle,
    status: watch::Receiver<ReplicaStatus>,
    checkpoints: Arc<Checkpoints>,
    metrics: Arc<Metrics>,
}

const SHARD: &str = "test/services/counter/0/shard";
const REPLICA: &str = "test/services/counter/0/replica";
const LANE: &str = "test/store/lane-0";
const SHARD_FILE: &str = "counter-0.redb";
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

impl World {
    async fn start(folder: &Path) -> Self {
        Self::start_at(folder, Clock::system()).await
    }

    async fn start_at(folder: &Path, clock: Clock) -> Self {
        let seams = Seams { clock, random: Random::system() };
        let options = CheckpointOptions { bytes: 1 << 20, age: Duration::from_secs(60) };
        let ground = ground(seams, LaneOptions::default(), options);
        Self::start_on(folder, ground, TreeOptions::default()).await
    }

    async fn start_on(folder: &Path, ground: Ground, options: TreeOptions) -> Self {
        let (checkpoints, metrics) = (ground.checkpoints.clone(), ground.metrics.clone());
        let paths = [folder.join(SHARD_FILE)];
        let stores = open_stores::<Counter>(&ground.lanes.storage, &paths, 1 << 20).unwrap();
        let Hosted { router, spec, mut replicas } = host::<Counter>(&ground, stores, 1, &[]);
        let services =
            SupervisorSpec::new("services", Strategy::OneForOne).child(ChildSpec::supervisor(spec));
        let store = store_spec(&ground, folder.join(LANE_FILE));
        let spec = SupervisorSpec::new("test", Strategy::RestForOne)
            .child(ChildSpec::supervisor(store))
            .child(ChildSpec::supervisor(services));
        let tree = Tree::new(spec, options).unwrap();
        let root = tree.start().await.unwrap();
        let status = replicas.remove(0).1;
        Self { router, tree, root, status, checkpoints, metrics }
    }

    async fn send(&self, command: Command) -> Result<u64, CallError<No>> {
        self.router.command(Call::new(), command).await.map(|Count(count)| count)
    }

    async fn get(&self, key: u64) -> u64 {
        self.router.query_shard(Call::new(), 0, Query::Get { key }).await.unwrap()
    }

    fn restarts(&self, path: &str, cause: RestartCause) -> u64 {
        let tree = self.tree.snapshot();
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

    async fn end(self) {
        self.root.stop().await.unwrap();
        self.checkpoints.close();
    }
}

/// A copy of the files of an idle node: what a kill would leave. No checkpoint, no clean close.
fn files_as_a_crash_leaves_them(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in [LANE_FILE, SHARD_FILE] {
        std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_poison_command_is_refused_and_its_neighbours_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let status = world.status.clone().wait_for(|status| status.leads).await.map(|s| *s);
    let term = status.unwrap().term;
    // Sent together, they wait together and share entries.
    let (before, poison, after) = tokio::join!(
        world.send(Command::Add { key: 1 }),
        world.send(Command::Poison { key: 1 }),
        world.send(Command::Add { key: 1 }),
    );
    assert_eq!((before, poison, after), (Ok(1), Err(CallError::Internal), Ok(2)));
    assert_eq!(world.get(1).await, 2, "what the poison staged is gone");
    assert_eq!(world.restarts(SHARD, RestartCause::Crash), 0);
    assert_eq!(world.status.borrow().term, term);
    let crashed = files_as_a_crash_leaves_them(folder.path());
    world.end().await;

    let world = World::start(crashed.path()).await;
    assert_eq!(world.get(1).await, 2, "the log tells the same story after a restart");
    assert_eq!(world.send(Command::Poison { key: 1 }).await, Err(CallError::Internal));
    assert_eq!(world.send(Command::Add { key: 1 }).await, Ok(3));
    world.end().await;

    let world = World::start(crashed.path()).await;
    assert_eq!(world.get(1).await, 3);
    world.end().await;
}

#[tokio::test]
async fn a_command_that_panics_once_is_applied_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    assert_eq!(world.send(Command::PanicOnce { key: 1 }).await, Ok(1));
    assert_eq!(world.get(1).await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_query_that_panics_or_meets_damage_is_an_internal_error_and_restarts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    for query in [Query::Panic, Query::Damaged].iter().cycle().take(50) {
        let answer = world.router.query_shard(Call::new(), 0, query.clone()).await;
        assert_eq!(answer, Err(CallError::Internal));
    }
    assert_eq!(world.send(Command::Add { key: 1 }).await, Ok(1));
    assert_eq!(world.restarts(SHARD, RestartCause::Crash), 0);
    assert!(
        world.metrics.encode().contains("quire_poisoned_total{service=\"counter\",shard=\"0\"} 50")
    );
    world.end().await;
}

#[tokio::test]
async fn a_command_id_has_one_effect_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let id = CommandId([9; 16]);
    let router = world.router.clone();
    let send = || router.command(Call::new().identified(id), Command::Add { key: 1 });
    let refused = CommandId([8; 16]);
    for _ in 0..3 {
        let together = futures_util::future::join_all((0..5).map(|_| send())).await;
        assert!(together.into_iter().all(|reply| reply == Ok(Count(1))));
        let call = Call::new().identified(refused);
        let refusal = world.router.command(call, Command::Refuse).await;
        assert_eq!(refusal, Err(CallError::Refused(No)));
    }
    assert_eq!(world.get(1).await, 1);
    drop(router);
    let crashed = files_as_a_crash_leaves_them(folder.path());
    world.end().await;
    recalls(folder.path(), id).await;
    recalls(crashed.path(), id).await;
}

async fn recalls(folder: &Path, id: CommandId) {
    let world = World::start(folder).await;
    let call = Call::new().identified(id);
    assert_eq!(world.router.command(call, Command::Add { key: 1 }).await, Ok(Count(1)));
    assert_eq!(world.get(1).await, 1, "remembered across a restart of the process");
    world.end().await;
}

/// Adds until told to stop; every call must succeed. Returns the longest wait.
async fn add_until(
    router: Router<Counter>,
    key: u64,
    stop: watch::Receiver<bool>,
) -> (u64, Duration) {
    let (mut acknowledged, mut longest) = (0, Duration::ZERO);
    while !*stop.borrow() {
        let started = Instant::now();
        let reply = router.command(Call::new(), Command::Add { key }).await;
        longest = longest.max(started.elapsed());
        acknowledged += 1;
        assert_eq!(reply, Ok(Count(acknowledged)), "each effect once, in order");
    }
    (acknowledged, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_costs_callers_only_time() {
    const CALLERS: u64 = 32;
    const CRASHES: u64 = 6;
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let status = world.status.clone().wait_for(|status| status.leads).await.map(|s| *s);
    let term = status.unwrap().term;
    let (stop, stopped) = watch::channel(false);
    let callers: Vec<_> = (0..CALLERS)
        .map(|key| tokio::spawn(add_until(world.router.clone(), key, stopped.clone())))
        .collect();
    for crash in 0..CRASHES {
        assert_eq!(world.send(Command::Crash { key: 2000 }).await, Ok(crash + 1));
        world.router.crash(0);
        world.send(Command::Add { key: 3000 }).await.unwrap();
    }
    stop.send(true).unwrap();
    for (key, caller) in callers.into_iter().enumerate() {
        let (acknowledged, _longest) = caller.await.unwrap();
        assert_eq!(world.get(key as u64).await, acknowledged);
    }
    assert_eq!(world.status.borrow().term, term, "Raft outlives an actor crash");
    assert!(world.restarts(SHARD, RestartCause::Crash) >= CRASHES);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_or_lane_that_is_replaced_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    world.send(Command::Add { key: 1000 }).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let callers: Vec<_> = (0..8)
        .map(|key| tokio::spawn(add_until(world.router.clone(), key, stopped.clone())))
        .collect();
    for path in [REPLICA, LANE, SHARD, REPLICA] {
        let cause = if path == LANE { RestartCause::Crash } else { RestartCause::Operator };
        world.tree.restart_child(path, cause).unwrap();
        for _ in 0..20 {
            world.send(Command::Add { key: 3000 }).await.unwrap();
        }
    }
    assert!(world.restarts(REPLICA, RestartCause::Dependency) >= 1, "the lane took it along");
    assert_eq!(world.restarts(REPLICA, RestartCause::Crash), 0, "and spent only its own budget");
    stop.send(true).unwrap();
    for (key, caller) in callers.into_iter().enumerate() {
        let (acknowledged, _) = caller.await.unwrap();
        assert_eq!(world.get(key as u64).await, acknowledged);
    }
    world.end().await;
}

#[tokio::test]
async fn a_long_query_lets_short_ones_pass() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let router = world.router.clone();
    let slow = router.query_shard(Call::new(), 0, Query::Slow { steps: 100_000 });
    let quick = async { router.query_shard(Call::new(), 0, Query::Get { key: 1 }).await.unwrap() };
    let (mut slow, mut quick) = (std::pin::pin!(slow), std::pin::pin!(quick));
    tokio::select! {
        biased;
        _ = &mut slow => panic!("the long query stood before the short one"),
        count = &mut quick => assert_eq!(count, 0),
    }
    assert_eq!(slow.await, Ok(0));
    world.end().await;
}

#[tokio::test]
async fn without_capacity_a_call_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let waiting = (0..crate::config::SHARD_PERMITS + 1)
        .map(|key| world.router.command(Call::new(), Command::Add { key: key as u64 }));
    let replies = futures_util::future::join_all(waiting).await;
    let refused = replies.iter().filter(|reply| **reply == Err(CallError::Overloaded)).count();
    assert_eq!(refused, 1);
    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), crate::config::SHARD_PERMITS);
    world.end().await;
}

#[tokio::test]
async fn a_command_past_its_deadline_has_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    // A clock that jumps a minute whenever it is asked: the stamp is past the deadline.
    let now = std::sync::atomic::AtomicU64::new(1_000_000_000);
    let clock = Clock::from_fn(move || {
        Stamp(now.fetch_add(60_000_000, std::sync::atomic::Ordering::Relaxed))
    });
    let world = World::start_at(folder.path(), clock).await;
    assert_eq!(world.send(Command::Add { key: 1 }).await, Err(CallError::DeadlineExceeded));
    assert_eq!(world.get(1).await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_shard_that_is_gone_is_unavailable_after_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let router = world.router.clone();
    world.end().await;
    let call = Call::new().within(Duration::from_millis(50));
    assert_eq!(router.command(call, Command::Add { key: 1 }).await, Err(CallError::Unavailable));
    let answer = router.query_shard(call, 0, Query::Get { key: 1 }).await;
    assert_eq!(answer, Err(CallError::Unavailable));
}

#[tokio::test]
async fn a_clock_that_was_set_back_stops_no_writes() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(std::sync::atomic::AtomicU64::new(9_000_000_000));
    let clock = now.clone();
    let clock = Clock::from_fn(move || Stamp(clock.load(std::sync::atomic::Ordering::Relaxed)));
    let world = World::start_at(folder.path(), clock).await;
    assert_eq!(world.send(Command::Add { key: 1 }).await, Ok(1));
    now.store(1_000_000_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.send(Command::Add { key: 1 }).await, Ok(2));
    world.end().await;
}

#[tokio::test]
async fn a_call_to_a_shard_that_never_comes_back_ends_at_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    assert_eq!(world.get(1).await, 0);
    // What a crash without successor leaves: the dead actor is the last one that was published.
    let cell = world.router.cell(0);
    let dead = cell.current_actor().unwrap();
    world.root.stop().await.unwrap();
    cell.publish(u64::MAX, dead);
    let call = || Call::new().within(Duration::from_millis(50));
    let both = async {
        let answer = world.router.query_shard(call(), 0, Query::Get { key: 1 }).await;
        assert_eq!(answer, Err(CallError::Unavailable));
        let reply = world.router.command(call(), Command::Add { key: 1 }).await;
        assert_eq!(reply, Err(CallError::Unavailable));
    };
    tokio::time::timeout(Duration::from_secs(5), both).await.expect("the calls end");
}

#[tokio::test]
async fn commands_that_cannot_be_proposed_leave_room_for_reads() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    assert_eq!(world.get(1).await, 0);
    // As while the replica is restarted and cannot lead.
    let replica = world.router.cell(0).replica_slot().send_replace(None);
    let call = Call::new().within(Duration::from_millis(20));
    for _ in 0..2 {
        let calls = (0..crate::config::SHARD_PERMITS)
            .map(|key| world.router.command(call, Command::Add { key: key as u64 }));
        let replies = futures_util::future::join_all(calls).await;
        assert!(replies.iter().all(Result::is_err));
    }
    assert_eq!(world.get(1).await, 0, "reads need no log");
    world.router.cell(0).replica_slot().send_replace(replica);
    assert_eq!(world.send(Command::Add { key: 5000 }).await, Ok(1), "it goes on as before");
    world.end().await;
}
