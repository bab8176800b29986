//! Times of the runtime, on a clock that stands still while anything can be done: a disk in memory
//! commits at once, so what takes time has waited for it on purpose.

use std::io;
use std::sync::Mutex;

use super::*;
use crate::actors::shard::{
    BUSY_TURN, EMPTY_TURNS_MAX, FULL_ENOUGH_COMMANDS, GATHER_MAX, RARE_WRITES_PAUSE,
    RARE_WRITES_QUERIES,
};
use crate::seams::tasks::Inline;
use crate::seams::time::{self, Instant};
use crate::store::file::Storage;

const START: Stamp = Stamp(1_700_000_000_000_000);
/// A millisecond is the finest that timers tell apart.
const TICK: Duration = Duration::from_millis(1);

fn on_paused_time<F: Future<Output = ()>>(test: impl FnOnce(Storage) -> F) {
    let _inline = Inline::begin();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test(Storage::in_memory()));
}

async fn world(storage: &Storage, age: Duration, options: TreeOptions) -> World {
    let seams = Seams { clock: Clock::of_runtime(START), random: Random::seeded(1) };
    let lanes = LaneOptions { storage: storage.clone(), inline: true, ..LaneOptions::default() };
    let checkpoints = CheckpointOptions { bytes: 1 << 20, age };
    World::start_on(Path::new("paused"), ground(seams, lanes, checkpoints), options).await
}

/// A shard that has just proposed something, and when.
async fn just_proposed(storage: &Storage) -> (World, Instant) {
    let world = world(storage, Duration::from_secs(3600), TreeOptions::default()).await;
    world.send(Command::Add { key: 0 }).await.unwrap();
    // That one waited for the replica. The next finds all quiet.
    time::sleep(Duration::from_secs(1)).await;
    let proposed = time::now();
    assert!(at_once(add(&world, 1).await));
    (world, proposed)
}

/// Answers so many queries, which takes no time.
async fn ask(world: &World, queries: usize) {
    let began = time::now();
    for _ in 0..queries {
        world.get(0).await;
    }
    assert_eq!(time::now(), began);
}

/// Sends so many commands together; how long until all are answered.
async fn add(world: &World, commands: usize) -> Duration {
    let sent = time::now();
    let all = (0..commands).map(|_| world.send(Command::Add { key: 0 }));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    sent.elapsed()
}

/// A commit takes up to two ticks, far less than the pause.
fn at_once(waited: Duration) -> bool {
    waited <= 2 * TICK
}

/// Whether an answer has just come to what was proposed at the end of a pause.
fn paused_since(proposed: Instant) -> bool {
    let after = proposed.elapsed().checked_sub(RARE_WRITES_PAUSE);
    after.is_some_and(|after| after <= 3 * TICK)
}

#[test]
fn a_write_among_many_reads_waits_for_others() {
    on_paused_time(async |storage| {
        let (world, proposed) = just_proposed(&storage).await;
        ask(&world, RARE_WRITES_QUERIES).await;
        add(&world, 1).await;
        assert!(paused_since(proposed), "{:?}", proposed.elapsed());
        // What comes when the pause is over anyhow does not wait for another one.
        ask(&world, RARE_WRITES_QUERIES).await;
        time::sleep(RARE_WRITES_PAUSE).await;
        assert!(at_once(add(&world, 1).await));
        world.end().await;
    });
}

#[test]
fn answers_that_readers_have_already_are_reads_too() {
    on_paused_time(async |storage| {
        let (world, proposed) = just_proposed(&storage).await;
        for _ in 0..RARE_WRITES_QUERIES {
            world.router.spared(0);
        }
        assert_eq!(world.router.cell(0).metrics.times_spared(), RARE_WRITES_QUERIES);
        add(&world, 1).await;
        assert!(paused_since(proposed), "{:?}", proposed.elapsed());
        assert!(at_once(add(&world, 1).await), "they count once");
        world.end().await;
    });
}

#[test]
fn writes_that_are_not_rare_do_not_wait() {
    on_paused_time(async |storage| {
        let (world, _) = just_proposed(&storage).await;
        assert!(at_once(add(&world, 1).await), "nobody reads");
        ask(&world, RARE_WRITES_QUERIES - 1).await;
        assert!(at_once(add(&world, 1).await), "few read");
        ask(&world, 2 * RARE_WRITES_QUERIES - 1).await;
        assert!(at_once(add(&world, 2).await), "few for each of them");
        world.end().await;
    });
}

#[test]
fn many_writes_do_not_wait_however_many_reads_there_are() {
    on_paused_time(async |storage| {
        let (world, _) = just_proposed(&storage).await;
        ask(&world, RARE_WRITES_QUERIES * FULL_ENOUGH_COMMANDS).await;
        let proposed = time::now();
        assert!(at_once(add(&world, FULL_ENOUGH_COMMANDS).await));
        ask(&world, RARE_WRITES_QUERIES * FULL_ENOUGH_COMMANDS).await;
        add(&world, FULL_ENOUGH_COMMANDS - 1).await;
        assert!(paused_since(proposed), "{:?}", proposed.elapsed());
        world.end().await;
    });
}

#[test]
fn a_query_counts_once_however_long_it_is() {
    on_paused_time(async |storage| {
        let (world, _) = just_proposed(&storage).await;
        let slow = Query::Slow { steps: 100 * RARE_WRITES_QUERIES as u32 };
        world.router.query_shard(Call::new(), 0, slow).await.unwrap();
        assert!(at_once(add(&world, 1).await));
        world.end().await;
    });
}

#[test]
fn a_pause_that_was_cut_short_does_not_shorten_the_next_one() {
    on_paused_time(async |storage| {
        let (world, first) = just_proposed(&storage).await;
        ask(&world, RARE_WRITES_QUERIES).await;
        // One waits for the end of the pause; before that, many come.
        let one = add(&world, 1);
        let many = async {
            time::sleep_until(first + RARE_WRITES_PAUSE - 2 * TICK).await;
            let proposed = time::now();
            assert!(at_once(add(&world, FULL_ENOUGH_COMMANDS).await));
            proposed
        };
        let (waited, proposed) = tokio::join!(one, many);
        assert!(first.elapsed() < RARE_WRITES_PAUSE + 2 * TICK, "{waited:?}");
        ask(&world, RARE_WRITES_QUERIES).await;
        add(&world, 1).await;
        assert!(paused_since(proposed), "{:?}", proposed.elapsed());
        world.end().await;
    });
}

/// Sends so many commands, one in each turn that a busy processor gives to everybody; how many batches they were.
async fn add_in_turns(world: &World, commands: usize) -> u64 {
    let entries = || world.router.cell(0).store.applied().index.0;
    let before = entries();
    let all = (0..commands).map(|turn| async move {
        for _ in 0..turn {
            tokio::task::yield_now().await;
        }
        world.send(Command::Add { key: 0 }).await
    });
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    entries() - before
}

#[test]
fn a_batch_takes_what_comes_while_others_want_the_processor() {
    on_paused_time(async |storage| {
        let (world, _) = just_proposed(&storage).await;
        assert_eq!(add_in_turns(&world, FULL_ENOUGH_COMMANDS / 2).await, 1);
        assert_eq!(add_in_turns(&world, FULL_ENOUGH_COMMANDS + 8).await, 2, "it is full enough");
        // As long as it may take, a turn takes.
        let clock = async {
            for _ in 0..8 {
                tokio::time::advance(GATHER_MAX).await;
            }
        };
        let (batches, ()) = tokio::join!(add_in_turns(&world, 8), clock);
        assert!(batches > 2, "{batches}: it waits for a time only");
        world.end().await;
    });
}

/// Sends a command in each of these turns, all of which take so long; how many batches they were.
async fn add_in_long_turns(world: &World, long: Duration, turns: &[usize]) -> u64 {
    let entries = || world.router.cell(0).store.applied().index.0;
    let before = entries();
    let all = turns.iter().map(|turn| async move {
        for _ in 0..*turn {
            tokio::task::yield_now().await;
        }
        world.send(Command::Add { key: 0 }).await
    });
    let clock = async {
        for _ in 0..*turns.last().unwrap() {
            // It gives everybody a turn, too.
            tokio::time::advance(long).await;
        }
    };
    let (all, ()) = tokio::join!(futures_util::future::join_all(all), clock);
    assert!(all.iter().all(Result::is_ok));
    entries() - before
}

#[test]
fn a_batch_waits_while_turns_are_taken_by_others() {
    on_paused_time(async |storage| {
        let (world, _) = just_proposed(&storage).await;
        let (short, long) = (BUSY_TURN / 16, 2 * BUSY_TURN);
        let some = EMPTY_TURNS_MAX as usize / 2;
        let many = 16 * some;
        assert!(long * many as u32 <= GATHER_MAX / 2, "the longest wait is never over");
        assert_eq!(add_in_long_turns(&world, short, &[0, many]).await, 2);
        assert_eq!(add_in_long_turns(&world, long, &[0, some]).await, 1);
        assert_eq!(add_in_long_turns(&world, long, &[0, many]).await, 2, "nobody comes");
        // Somebody comes again and again.
        let turns: Vec<usize> = (0..many).step_by(some).collect();
        assert_eq!(add_in_long_turns(&world, long, &turns).await, 1);
        // Each turn is short, not all that it has waited for.
        let turns: Vec<usize> = (0..32).chain([32 + some]).collect();
        assert_eq!(add_in_long_turns(&world, short, &turns).await, 2);
        // Rare ones whose pause is over wait for one turn.
        ask(&world, RARE_WRITES_QUERIES).await;
        tokio::time::advance(RARE_WRITES_PAUSE).await;
        assert_eq!(add_in_long_turns(&world, long, &[0, some]).await, 2);
        world.end().await;
    });
}

#[test]
fn a_batch_waits_for_nobody_while_nobody_wants_the_processor() {
    on_paused_time(async |storage| {
        let (world, _) = just_proposed(&storage).await;
        let before = world.router.cell(0).store.applied().index.0;
        for _ in 0..8 {
            assert!(at_once(add(&world, 1).await));
        }
        assert_eq!(world.router.cell(0).store.applied().index.0 - before, 8);
        world.end().await;
    });
}

/// Retrying it would hide from everybody that nothing reaches the file any more.
#[test]
fn a_checkpoint_that_no_retry_repairs_is_a_failure_of_its_actor() {
    for (kind, is_told) in
        [(io::ErrorKind::PermissionDenied, true), (io::ErrorKind::StorageFull, false)]
    {
        on_paused_time(async |storage| {
            let told: Arc<Mutex<Vec<StoreError>>> = Arc::default();
            let teller = told.clone();
            let failures = Arc::new(move |error: &(dyn std::error::Error + 'static)| {
                teller.lock().unwrap().extend(error.downcast_ref::<StoreError>().cloned());
            });
            let options = TreeOptions { failures, ..TreeOptions::default() };
            let age = Duration::from_secs(1);
            let world = world(&storage, age, options).await;
            world.send(Command::Add { key: 1 }).await.unwrap();
            storage.disk(&Path::new("paused").join(SHARD_FILE)).fail_after(0, kind);
            time::sleep(3 * age).await;
            let told = told.lock().unwrap().clone();
            assert_eq!(!told.is_empty(), is_told, "{kind}: {told:?}");
            for error in told {
                let StoreError::ReadOnly { path } = error else { panic!("{error}") };
                assert_eq!(path, Path::new("paused").join(SHARD_FILE));
            }
            let failed = world.metrics.encode();
            assert!(failed.contains("quire_checkpoint_failures_total{"), "{failed}");
            assert_eq!(world.get(1).await, 1, "memory has it");
        });
    }
}
