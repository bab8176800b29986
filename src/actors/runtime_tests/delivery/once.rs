//! Each event takes effect once, whoever dies.
//!
//! `QUIRE_RELAY_EVENTS` sets how many events the run with random kills delivers; `QUIRE_SEED` repeats
//! one.

use super::*;
use crate::store::file::Storage;

#[tokio::test]
async fn an_event_arrives_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let world = Delivery::start(folder.path(), LIMITS).await;
    for key in 0..4 {
        assert_eq!(world.emit(key, 3).await, 3);
    }
    let refused = world.source.command(Call::new(), Emit { key: 1, times: 0 }).await;
    assert_eq!(refused, Err(CallError::Refused(No)));
    world.wait_equal(0..4).await;
    world.wait_state("sink/1", FeedState::Following).await;
    // Half of the keys are the other shard's.
    let delivered = |subscriber| world.metric("feed_delivered_total", subscriber);
    eventually("delivered", async || {
        delivered("sink/0") == 6.0 && delivered("sink/1") == 6.0 && delivered("other/0") == 12.0
    })
    .await;
    assert_eq!(world.metric("feed_dropped_total", "sink/0"), 0.0);
    world.end().await;
    let world = Delivery::start(folder.path(), LIMITS).await;
    world.emit(0, 1).await;
    world.wait_equal(0..4).await;
    world.end().await;
}

/// Kills at random while events flow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_takes_effect_once_whoever_is_killed() {
    const KEYS: u64 = 16;
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let events = number("QUIRE_RELAY_EVENTS").unwrap_or(10_000);
    let seed = number("QUIRE_SEED").unwrap_or_else(|| Random::system().any());
    println!("QUIRE_SEED={seed} QUIRE_RELAY_EVENTS={events}");
    let random = Random::seeded(seed);
    let folder = tempfile::tempdir().unwrap();
    // Nobody is given up here.
    let limits = OutboxLimits { events_max: u64::MAX, bytes_max: u64::MAX, ..LIMITS };
    let seams = Seams { clock: Clock::system(), random: Random::system() };
    let options = CheckpointOptions { bytes: 1 << 20, age: Duration::from_millis(300) };
    let ground = Ground { outbox: limits, ..ground(seams, LaneOptions::default(), options) };
    let world = Delivery::start_on(folder.path(), ground, both).await;
    let (stop, stopped) = watch::channel(false);
    let writers = (0..8).map(|writer| {
        let (router, random) = (world.source.clone(), Random::seeded(random.any()));
        tokio::spawn(async move {
            let mut sent = 0;
            while sent < events / 8 {
                let times = 1 + random.any::<u64>() % 20;
                let key = (writer + 8 * (random.any::<u64>() % 2)) % KEYS;
                router.command(Call::new(), Emit { key, times }).await.unwrap();
                sent += times;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let kills = async {
        let mut kills = 0;
        while !*stopped.borrow() {
            time::sleep(Duration::from_millis(5 + random.any::<u64>() % 60)).await;
            let replica = |shard: &str| format!("test/services/{shard}/replica");
            let restart = |path: &str| drop(world.tree.restart_child(path, RestartCause::Operator));
            match random.any::<u64>() % 9 {
                0 => world.source.crash(0),
                1 => world.sink.crash(0),
                2 => world.sink.crash(1),
                3 => world.other.crash(0),
                4 | 5 => restart(RELAY),
                6 => restart(&replica("source/0")),
                7 => restart(&replica("sink/1")),
                _ => restart(LANE),
            }
            kills += 1;
        }
        kills
    };
    let began = Instant::now();
    let written = async {
        for writer in writers {
            writer.await.unwrap();
        }
        stop.send(true).unwrap();
    };
    let (kills, ()) = tokio::join!(kills, written);
    world.wait_equal(0..KEYS).await;
    let delivered = world.metric("feed_delivered_total", "other/0");
    let redelivered = world.metric("feed_redelivered_total", "other/0");
    println!("{kills} kills, {delivered} delivered, {redelivered} again, {:?}", began.elapsed());
    world.end().await;
}

#[tokio::test]
async fn a_delivery_that_was_half_applied_is_applied_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let world = Delivery::start(folder.path(), LIMITS).await;
    world.emit(0, 1).await;
    world.wait_equal(0..1).await;
    let emit = |n: u64| match n % 3 {
        1 => world.emit(FATAL, 1),
        _ => world.emit(0, 20),
    };
    futures_util::future::join_all((0..12).map(emit)).await;
    world.wait_equal(0..1).await;
    world.wait_equal(FATAL..FATAL + 1).await;
    let crashed = crashed_copy(folder.path());
    let digest = world.other.cell(0).store.lock().progress.digest;
    world.end().await;
    let world = Delivery::start(crashed.path(), LIMITS).await;
    world.wait_equal(0..1).await;
    let again = world.other.cell(0).store.lock().progress.digest;
    assert_eq!(again, digest, "a crash within an entry leaves no trace in what replicas compare");
    world.end().await;
}

#[tokio::test]
async fn an_event_that_breaks_a_subscriber_is_buried_and_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let world = Delivery::start(folder.path(), LIMITS).await;
    for (key, times) in [(0, 1), (POISON, 2), (0, 1), (UNMAPPABLE, 1), (HUGE, 1), (0, 1)] {
        world.emit(key, times).await;
    }
    world.wait_equal(0..1).await;
    // One poison, after which the next is refused; one that cannot be mapped, and one too large.
    eventually("three are buried", async || world.metric("feed_buried_total", "other/0") == 3.0)
        .await;
    assert_eq!(world.taken(POISON).await, 0, "what the poison staged is gone");
    let digest = world.other.cell(0).store.lock().progress.digest;
    let crashed = crashed_copy(folder.path());
    world.end().await;
    let world = Delivery::start(crashed.path(), LIMITS).await;
    assert_eq!(world.taken_by_other(0).await, 3);
    let again = world.other.cell(0).store.lock().progress.digest;
    assert_eq!(again, digest, "the log tells the same story");
    world.end().await;
}

/// The subscriber has applied what it was sent, and the relay does not know, or is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_delivered_again_is_dropped() {
    let storage = Storage::in_memory();
    let lanes = LaneOptions { storage: storage.clone(), ..LaneOptions::default() };
    let seams = Seams { clock: Clock::system(), random: Random::system() };
    let options = CheckpointOptions { bytes: 1 << 16, age: Duration::from_millis(100) };
    let ground = Ground { outbox: LIMITS, ..ground(seams, lanes, options) };
    let folder = Path::new("delivered-again");
    let claim = Claim::default();
    let world = Delivery::start_on(folder, ground, |sink: &Router<_>, other: &Router<_>| {
        let rough = |inner| {
            let calls = AtomicU64::new(0);
            let fates = move || match calls.fetch_add(1, Ordering::Relaxed) % 4 {
                0 => Fate::TooLate,
                1 => Fate::Arrives,
                2 => Fate::Lost,
                _ => Fate::Fatal,
            };
            Arc::new(Rough { inner, fates: Box::new(fates), claim: claim.clone() }) as Port<Source>
        };
        vec![Subscription::of(sink).through(rough), Subscription::of(other).through(rough)]
    })
    .await;
    // Longer than the relay's patience: it asks what there is before what it sent is on the log.
    storage.disk(&folder.join(LANE_FILE)).set_sync_delay(Duration::from_millis(15));
    for _ in 0..30 {
        let emits = (0..8).map(|key| world.emit(key, 1 + key));
        futures_util::future::join_all(emits).await;
    }
    world.wait_equal(0..8).await;
    for subscriber in ["sink/0", "sink/1", "other/0"] {
        let again = world.metric("feed_redelivered_total", subscriber);
        let dropped = world.metric("feed_dropped_total", subscriber);
        println!("{subscriber}: {again} handed over again, {dropped} dropped");
        assert!(again > 0.0, "{subscriber}");
    }
    let dropped = |subscriber| world.metric("feed_dropped_total", subscriber);
    assert!(dropped("sink/0") + dropped("sink/1") + dropped("other/0") > 0.0);
    assert!(restarts(&world.tree, RELAY, RestartCause::Crash) > 0);
    world.end().await;
}
