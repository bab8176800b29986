//! A service that keeps its state in memory, and what is left of that when memory is lost.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use futures_util::StreamExt;

use super::*;
use crate::actors::supervisor::NodeState;
use crate::ids::LogIndex;
use crate::store::file::Storage;
use crate::store::shard_file::ShardStore;

/// Whether this process sees a count of a key for the first time, which no service can know that
/// is the same on all replicas. Each test has keys of its own.
fn is_first(key: u64, count: u64) -> bool {
    static SEEN: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());
    SEEN.lock().unwrap().insert((key, count))
}

/// Counts by key in memory, and chains over all that it has applied: whatever is applied twice, not at
/// all or in another order changes the chain.
struct Memo {
    counts: BTreeMap<u64, u64>,
    unsaved: BTreeSet<u64>,
    crash: bool,
}

const MEMO: &str = "test/services/memo";

/// Key under which the chain is counted.
const CHAIN: u64 = u64::MAX;

/// A service that has counted one of these keys is read again and again until its gate is open.
const GATES: [u64; 2] = [u64::MAX - 1, u64::MAX - 2];
static OPEN: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
/// How often it was read.
static READ: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

fn is_shut(counts: &BTreeMap<u64, u64>) -> bool {
    let gate = GATES.iter().position(|key| counts.contains_key(key));
    gate.is_some_and(|gate| {
        READ[gate].fetch_add(1, Relaxed);
        !OPEN[gate].load(Relaxed)
    })
}

impl Memo {
    fn set(&mut self, key: u64, count: u64) {
        self.counts.insert(key, count);
        self.unsaved.insert(key);
    }

    fn get(&self, key: u64) -> u64 {
        self.counts.get(&key).copied().unwrap_or(0)
    }
}

impl StateMachine for Memo {
    const NAME: &'static str = "memo";
    const TABLES: &'static [&'static str] = &["counts"];
    const KEPT: Kept = Kept::Memory;
    type Command = Command;
    type Query = Query;
    type Reply = Count;
    type Answer = u64;
    type Refusal = No;
    type Event = Count;

    fn bucket(_command: &Command) -> Bucket {
        Bucket::new(0)
    }

    fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        let (mut counts, began) = (all_counts(tables)?, Instant::now());
        // Not for ever: a test that blocks its one thread would never fail.
        while is_shut(&counts) && began.elapsed() < Duration::from_secs(60) {
            counts = all_counts(tables)?;
        }
        Ok(Self { counts, unsaved: BTreeSet::new(), crash: false })
    }

    fn apply(
        &mut self,
        _tables: &mut Tables<'_>,
        stamp: Stamp,
        command: Command,
    ) -> Result<Outcome<Count, Count>, Stop<No>> {
        let (Command::Add { key }
        | Command::Poison { key }
        | Command::PanicOnce { key }
        | Command::Crash { key }) = command
        else {
            return refuse(No);
        };
        let next = self.get(key) + 1;
        self.set(key, next);
        let chain = self.get(CHAIN) ^ key ^ stamp.0;
        self.set(CHAIN, chain.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17));
        match command {
            Command::Poison { .. } => panic!("poison, on purpose"),
            Command::PanicOnce { .. } => assert!(!is_first(key, next), "once, on purpose"),
            Command::Crash { .. } => self.crash = is_first(key, next),
            Command::Add { .. } | Command::Refuse => {}
        }
        Ok(Outcome::reply(Count(next)))
    }

    fn committed(&mut self) {
        assert!(!std::mem::take(&mut self.crash), "once after the merge, on purpose");
    }

    fn checkpoint(&mut self, tables: &mut Tables<'_>, rows: usize) -> Result<Step<()>, StoreError> {
        for _ in 0..rows {
            let Some(key) = self.unsaved.pop_first() else { return Ok(Step::Done(())) };
            put_count(tables, key, self.get(key));
        }
        Ok(if self.unsaved.is_empty() { Step::Done(()) } else { Step::Again })
    }

    fn query(
        &mut self,
        _tables: &ReadTables<'_>,
        query: &mut Query,
    ) -> Result<Step<u64>, Stop<No>> {
        match query {
            Query::Get { key } => Ok(Step::Done(self.get(*key))),
            Query::Panic => {
                self.counts.clear();
                panic!("a query, on purpose")
            }
            Query::Damaged | Query::Slow { .. } => refuse(No),
        }
    }
}

/// Checkpoints all the time, so that everything that is lost meets one.
const OFTEN: CheckpointOptions = CheckpointOptions { bytes: 8_000, age: Duration::from_millis(20) };
/// None but those that are wanted.
const NEVER: CheckpointOptions =
    CheckpointOptions { bytes: 1 << 30, age: Duration::from_secs(3600) };

async fn start(folder: &Path, options: CheckpointOptions) -> World<Memo> {
    let seams = Seams { clock: Clock::system(), random: Random::system() };
    let ground = ground(seams, LaneOptions::default(), options);
    World::start_on(folder, ground, TreeOptions::default()).await
}

impl World<Memo> {
    async fn send(&self, command: Command) -> Result<u64, CallError<No>> {
        self.router.command(Call::new(), command).await.map(|Count(count)| count)
    }

    async fn get(&self, key: u64) -> u64 {
        self.router.query_shard(Call::new(), 0, Query::Get { key }).await.unwrap()
    }

    /// Everything that replicas compare, and everything that was applied.
    async fn story(&self) -> (LogIndex, u64, u64) {
        let chain = self.get(CHAIN).await;
        let progress = self.router.cell(0).store.lock().progress.clone();
        (progress.applied.index, progress.digest, chain)
    }

    fn durable(&self) -> LogIndex {
        self.router.cell(0).store.durable().index
    }

    async fn wait_durable(&self, least: LogIndex) {
        eventually("a checkpoint is written", async || self.durable() >= least).await;
    }
}

/// What the same files tell in another process that was killed, with the whole log or with a part.
async fn told_again(folder: &Path, options: CheckpointOptions) -> (u64, u64) {
    let world = start(folder, options).await;
    let (_, digest, chain) = world.story().await;
    world.end().await;
    (digest, chain)
}

/// A world whose service has been read at least twice, and must be read until its gate is open.
async fn at_a_gate(folder: &Path, gate: usize) -> World<Memo> {
    let world = start(folder, NEVER).await;
    assert_eq!(world.send(Command::Add { key: GATES[gate] }).await, Ok(1));
    world.end().await;
    let world = start(folder, NEVER).await;
    eventually("it is read", async || READ[gate].load(Relaxed) >= 2).await;
    // The one thread of these tests goes on, too.
    assert!(!world.tree.all_running() && !world.status.borrow().leads, "not ready yet");
    assert_eq!(world.tree.snapshot().find(MEMO).unwrap().state, NodeState::Starting);
    world
}

#[tokio::test]
async fn who_starts_later_does_not_wait_until_a_memory_kept_service_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let world = at_a_gate(folder.path(), 0).await;
    let early = world.router.query_shard(Call::new(), 0, Query::Get { key: GATES[0] });
    let (early, ()) = tokio::join!(early, async { OPEN[0].store(true, Relaxed) });
    assert_eq!(early, Ok(1), "who asked early has waited");
    eventually("it runs", async || world.tree.all_running() && world.status.borrow().leads).await;
    world.end().await;
}

#[tokio::test]
async fn nobody_goes_on_reading_a_memory_kept_service_that_is_stopped_or_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let world = at_a_gate(folder.path(), 1).await;
    world.tree.restart_child(MEMO, RestartCause::Operator).unwrap();
    let has_begun = async || {
        let memo = world.tree.snapshot().find(MEMO).unwrap().clone();
        memo.restarts.operator == 1 && memo.state == NodeState::Starting
    };
    eventually("another one begins", has_begun).await;
    let before = READ[1].load(Relaxed);
    eventually("it is read, too", async || READ[1].load(Relaxed) > before + 1).await;
    world.end().await;

    let read = READ[1].load(Relaxed);
    OPEN[1].store(true, Relaxed);
    let world = start(folder.path(), NEVER).await;
    assert_eq!(world.get(GATES[1]).await, 1);
    assert_eq!(READ[1].load(Relaxed), read + 1, "by nobody else");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_kept_service_loses_nothing_and_does_nothing_twice() {
    const CALLERS: u64 = 8;
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path(), OFTEN).await;
    let (stop, stopped) = watch::channel(false);
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (router, stopped) = (world.router.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut acknowledged = 0;
                while !*stopped.borrow() {
                    // Now and then under an id that is sent again, across whatever happens.
                    let call = Call::new().identified(CommandId(Random::system().any()));
                    for _ in 0..1 + acknowledged % 2 {
                        let reply = router.command(call, Command::Add { key: caller }).await;
                        assert_eq!(reply, Ok(Count(acknowledged + 1)), "each effect once");
                    }
                    acknowledged += 1;
                    let read = router.query_shard(Call::new(), 0, Query::Get { key: caller });
                    assert_eq!(read.await, Ok(acknowledged), "a reader sees what was acknowledged");
                }
                acknowledged
            })
        })
        .collect();
    for round in 0..30 {
        match round % 5 {
            0 => world.router.crash(0),
            1 => assert_eq!(world.send(Command::Crash { key: 100 }).await, Ok(round / 5 + 1)),
            2 => {
                let poison = world.send(Command::Poison { key: 101 }).await;
                assert_eq!(poison, Err(CallError::Internal));
            }
            3 => {
                world
                    .tree
                    .restart_child("test/services/memo/0/replica", RestartCause::Operator)
                    .unwrap();
            }
            _ => {
                world
                    .tree
                    .restart_child("test/services/memo/0/shard", RestartCause::Operator)
                    .unwrap();
            }
        }
        time::sleep(Duration::from_millis(10)).await;
        assert_eq!(world.send(Command::Add { key: 102 }).await, Ok(round + 1));
    }
    stop.send(true).unwrap();
    let mut acknowledged = Vec::new();
    for caller in callers {
        acknowledged.push(caller.await.unwrap());
    }
    for (key, count) in acknowledged.iter().enumerate() {
        assert_eq!(world.get(key as u64).await, *count);
    }
    assert_eq!(world.get(101).await, 0, "a poison leaves nothing in memory either");
    assert!(world.durable() > LogIndex(0));
    let (_, digest, chain) = world.story().await;
    world.end().await;
    assert_eq!(told_again(folder.path(), NEVER).await, (digest, chain));
}

#[tokio::test]
async fn a_panic_takes_a_memory_kept_service_back_and_its_log_on() {
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path(), NEVER).await;
    for count in 1..=50 {
        assert_eq!(world.send(Command::Add { key: 1 }).await, Ok(count));
    }
    assert_eq!(world.send(Command::PanicOnce { key: 200 }).await, Ok(1), "applied once");
    assert_eq!(world.send(Command::Add { key: 1 }).await, Ok(51));
    let (before, poison, after) = tokio::join!(
        world.send(Command::Add { key: 1 }),
        world.send(Command::Poison { key: 1 }),
        world.send(Command::Add { key: 1 }),
    );
    assert_eq!((before, poison, after), (Ok(52), Err(CallError::Internal), Ok(53)));
    let answer = world.router.query_shard(Call::new(), 0, Query::Panic).await;
    assert_eq!(answer, Err(CallError::Internal));
    assert_eq!(world.get(1).await, 53, "what a query destroyed is there again");
    assert_eq!(world.restarts("test/services/memo/0/shard", RestartCause::Crash), 0);
    // What was applied again is written, so that it is not applied once more.
    let (applied, digest, chain) = world.story().await;
    world.wait_durable(applied).await;
    assert_eq!(world.send(Command::Poison { key: 2 }).await, Err(CallError::Internal));
    assert_eq!(world.story().await.2, chain);
    let crashed = files_as_a_crash_leaves_them(folder.path());
    let later = world.story().await.1;
    assert_ne!(later, digest);
    world.end().await;
    assert_eq!(told_again(crashed.path(), NEVER).await, (later, chain));
}

/// The replica of a shard that writes nothing must notice that its lane is another one: from the old
/// one nothing can be read.
#[tokio::test]
async fn an_idle_memory_kept_service_finds_its_log_on_another_lane() {
    const REPLICA: &str = "test/services/memo/0/replica";
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path(), NEVER).await;
    for count in 1..=2 {
        assert_eq!(world.send(Command::Add { key: 1 }).await, Ok(count));
        world.tree.restart_child(LANE, RestartCause::Operator).unwrap();
        eventually("the replica has the new lane", async || {
            world.restarts(REPLICA, RestartCause::Dependency) == count
        })
        .await;
    }
    world.router.crash(0);
    assert_eq!(world.get(1).await, 2);
    assert_eq!(world.restarts("test/services/memo/0/shard", RestartCause::StartFailure), 0);
    world.end().await;
}

/// The poison is met while openraft replays the log of an earlier process, before anybody leads.
#[tokio::test]
async fn poison_in_the_log_of_an_earlier_process_stays_poison() {
    let folder = tempfile::tempdir().unwrap();
    // No checkpoint is written, wanted or not.
    let world = start(folder.path(), NEVER).await;
    let empty = std::fs::read(folder.path().join(SHARD_FILE)).unwrap();
    for round in 0..3 {
        for count in 1..=700 {
            assert_eq!(world.send(Command::Add { key: 1 }).await, Ok(round * 700 + count));
        }
        assert_eq!(world.send(Command::Poison { key: 1 }).await, Err(CallError::Internal));
        let crash = world.send(Command::Crash { key: 300 }).await;
        assert_eq!(crash, Ok(round + 1));
    }
    let (_, digest, chain) = world.story().await;
    let crashed = files_as_a_crash_leaves_them(folder.path());
    world.end().await;
    // As if no checkpoint had been: only the log, if nothing of it was purged.
    let purged = std::fs::read(crashed.path().join(SHARD_FILE)).unwrap() != empty;
    println!("checkpoints were written: {purged}");
    let world = start(crashed.path(), NEVER).await;
    for _ in 0..5 {
        world.router.crash(0);
        tokio::task::yield_now().await;
    }
    assert_eq!(world.get(1).await, 2100);
    let told = world.story().await;
    assert_eq!((told.1, told.2), (digest, chain));
    world.end().await;
}

#[tokio::test]
async fn a_clean_stop_leaves_nothing_to_apply_again() {
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path(), NEVER).await;
    for key in 0..3000 {
        world.send(Command::Add { key }).await.unwrap();
    }
    assert_eq!(world.durable(), LogIndex(0));
    let (applied, ..) = world.story().await;
    world.end().await;
    let path = folder.path().join(SHARD_FILE);
    let store = ShardStore::open(&Storage::files(), &path, Memo::TABLES, 1 << 20).unwrap();
    assert!(store.applied().index >= applied);
    assert_eq!(all_counts(&store.lock().read()).unwrap().len(), 3001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_checkpoint_is_staged_in_parts_and_holds_one_moment() {
    const KEYS: u64 = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path(), NEVER).await;
    let adds = (0..KEYS).map(|key| world.send(Command::Add { key }));
    let mut adds = futures_util::stream::iter(adds.collect::<Vec<_>>()).buffer_unordered(500);
    while let Some(reply) = adds.next().await {
        assert_eq!(reply, Ok(1));
    }
    drop(adds);
    // Nobody is kept waiting for all of it, and what is added meanwhile is part of it or not, whole.
    world.router.cell(0).want_checkpoint();
    let mut added = 0;
    while world.durable() == LogIndex(0) {
        assert_eq!(world.send(Command::Add { key: added % KEYS }).await, Ok(2 + added / KEYS));
        added += 1;
    }
    let text = world.metrics.encode();
    let parts = text.lines().find_map(|line| {
        let is_it = line.starts_with("quire_handling_seconds_count") && line.contains("checkpoint");
        is_it.then(|| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
    });
    assert!(parts.unwrap() >= 16, "{parts:?}");
    let crashed = files_as_a_crash_leaves_them(folder.path());
    let (_, digest, chain) = world.story().await;
    world.end().await;
    assert_eq!(told_again(crashed.path(), NEVER).await, (digest, chain));
}
