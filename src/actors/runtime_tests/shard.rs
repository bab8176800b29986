//! Commands and queries of one shard, and what crashes cost their callers.

use futures_util::FutureExt;

use super::*;
use crate::ids::LogIndex;

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

#[tokio::test]
async fn no_checkpoint_is_due_by_size_before_the_log_of_an_earlier_process_was_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let seams = Seams { clock: Clock::system(), random: Random::system() };
    let options = CheckpointOptions { bytes: 10, age: Duration::from_secs(3600) };
    let ground = ground(seams, LaneOptions::default(), options);
    let paths = [folder.path().join(SHARD_FILE)];
    let stores = open_stores::<Counter>(&ground.lanes.storage, &paths, 1 << 20).unwrap();
    let Hosted { router, .. } = host::<Counter>(&ground, stores, 1, &[]);
    let cell = router.cell(0);
    let is_due = || ground.checkpoints.wait_due().now_or_never().is_some();

    let unwritten = {
        let mut state = cell.store.lock();
        state.change(|tables| put_count(tables, 1, 1));
        state.unwritten_bytes()
    };
    cell.applied_to(LogIndex(1), Stamp(1), unwritten);
    assert!(!is_due(), "it would take from the replay");
    cell.set_recovered();
    assert!(is_due(), "the replay is over");
    cell.applied_to(LogIndex(2), Stamp(2), 0);
    cell.applied_to(LogIndex(3), Stamp(3), unwritten);
    assert!(is_due());
}
