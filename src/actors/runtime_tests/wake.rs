//! A service is woken at the time that it asked for: once, however often it changed its mind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::*;
use crate::seams::Clock;

/// Rings at the time that was set last, and counts that. The time and the count are in the tables.
struct Alarm {
    at: Option<u64>,
    next: Option<u64>,
}

const AT: u64 = 0;
const RUNG: u64 = 1;
/// At this time it breaks.
const BROKEN: u64 = 7;

/// How often an alarm broke. Of one test alone.
static BREAKS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Order {
    Set { at: u64 },
    Ring,
}

impl Record for Order {
    const KIND: u8 = 203;
}

impl StateMachine for Alarm {
    const NAME: &'static str = "alarm";
    const TABLES: &'static [&'static str] = &["counts"];
    type Command = Order;
    type Query = ();
    type Reply = Count;
    type Answer = u64;
    type Refusal = No;
    type Event = Count;

    fn bucket(_command: &Order) -> Bucket {
        Bucket::new(0)
    }

    fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        let at = Some(count(tables, AT)?).filter(|at| *at > 0);
        Ok(Self { at, next: at })
    }

    fn apply(
        &mut self,
        tables: &mut Tables<'_>,
        _stamp: Stamp,
        order: Order,
    ) -> Result<Outcome<Count, Count>, Stop<No>> {
        let rung = count(&tables.view(), RUNG)?;
        match order {
            Order::Set { at } => {
                put_count(tables, AT, at);
                self.next = Some(at);
                Ok(Outcome::reply(Count(rung)))
            }
            Order::Ring if self.at == Some(BROKEN) => {
                BREAKS.fetch_add(1, Ordering::Relaxed);
                panic!("it breaks, on purpose");
            }
            Order::Ring => {
                put_count(tables, AT, 0);
                put_count(tables, RUNG, rung + 1);
                self.next = None;
                Ok(Outcome::reply(Count(rung + 1)))
            }
        }
    }

    fn committed(&mut self) {
        self.at = self.next;
    }

    fn query(&mut self, tables: &ReadTables<'_>, _query: &mut ()) -> Result<Step<u64>, Stop<No>> {
        Ok(Step::Done(count(tables, RUNG)?))
    }

    fn next_wake(&self) -> Option<Stamp> {
        self.at.map(Stamp)
    }

    fn tick(&self) -> Option<Order> {
        Some(Order::Ring)
    }
}

async fn start(folder: &Path) -> World<Alarm> {
    start_by(folder, Clock::system()).await
}

async fn start_by(folder: &Path, clock: Clock) -> World<Alarm> {
    let seams = Seams { clock, random: Random::system() };
    let options = CheckpointOptions { bytes: 1 << 20, age: Duration::from_secs(60) };
    let ground = ground(seams, LaneOptions::default(), options);
    World::start_on(folder, ground, TreeOptions::default()).await
}

async fn set(world: &World<Alarm>, at: u64) {
    world.router.command(Call::new(), Order::Set { at }).await.unwrap();
}

async fn wait_rung(world: &World<Alarm>, times: u64) {
    eventually("it rings", async || {
        world.router.query_shard(Call::new(), 0, ()).await == Ok(times)
    })
    .await;
}

#[tokio::test]
async fn a_service_that_changes_its_mind_is_woken_once() {
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path()).await;
    let now = || Clock::system().now().0;
    let rung = async || world.router.query_shard(Call::new(), 0, ()).await.unwrap();
    let mut before = 0;
    for lead in [500_000, 5_000_000, 50_000_000] {
        before = rung().await;
        let soon = now() + lead;
        // Each time another one, all within the millisecond that a timer can tell.
        for number in 0..50 {
            set(&world, soon + number % 2).await;
        }
        // A machine that was slower is given more time.
        if now() < soon {
            break;
        }
        eventually("what was late has rung", async || rung().await > before).await;
        set(&world, u64::MAX).await;
    }
    wait_rung(&world, before + 1).await;
    // Were there more ticks, they would be before this in the log.
    set(&world, u64::MAX).await;
    assert_eq!(rung().await, before + 1);
    world.end().await;
}

/// It wants the same again at once, and would fill the log with it.
#[tokio::test]
async fn a_tick_that_breaks_waits_before_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path()).await;
    let begin = Instant::now();
    set(&world, BROKEN).await;
    eventually("it breaks", async || BREAKS.load(Ordering::Relaxed) > 0).await;
    // Each of these is a batch, after which it is looked at again.
    for _ in 0..100 {
        set(&world, BROKEN).await;
    }
    let seconds = begin.elapsed().as_secs();
    let breaks = BREAKS.load(Ordering::Relaxed);
    // Each tick is tried twice.
    assert!(breaks <= 2 * (seconds + 2), "{breaks} times in {seconds} s");
    set(&world, Clock::system().now().0).await;
    wait_rung(&world, 1).await;
    world.end().await;
}

#[tokio::test]
async fn a_time_that_came_while_nobody_ran_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path()).await;
    let soon = Clock::system().now().0 + 100_000;
    set(&world, soon).await;
    world.end().await;
    eventually("its time has come", async || Clock::system().now().0 > soon).await;
    let world = start(folder.path()).await;
    wait_rung(&world, 1).await;
    world.router.crash(0);
    set(&world, Clock::system().now().0).await;
    wait_rung(&world, 2).await;
    world.end().await;
}

/// The time of the log goes on from where the clock had been.
#[tokio::test]
async fn a_clock_that_was_set_back_delays_no_tick() {
    let folder = tempfile::tempdir().unwrap();
    let back = Arc::new(AtomicU64::new(0));
    let by = back.clone();
    let clock = Clock::from_fn(move || Stamp(Clock::system().now().0 - by.load(Ordering::Relaxed)));
    let world = start_by(folder.path(), clock).await;
    set(&world, u64::MAX).await;
    back.store(3_600_000_000, Ordering::Relaxed);
    set(&world, world.router.cell(0).now().0 + 100_000).await;
    wait_rung(&world, 1).await;
    world.end().await;
}
