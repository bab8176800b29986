//! How long a delivery takes, and what it costs the commands of its source.

use super::*;
use crate::store::file::Storage;

/// From the call to the subscriber, under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_arrives_soon() {
    let folder = tempfile::tempdir().unwrap();
    let world = Delivery::start(folder.path(), OutboxLimits::default()).await;
    let (stop, stopped) = watch::channel(false);
    let load: Vec<_> = (0..16)
        .map(|key| {
            let (router, stopped) = (world.source.clone(), stopped.clone());
            tokio::spawn(async move {
                while !*stopped.borrow() {
                    router.command(Call::new(), Emit { key, times: 1 }).await.unwrap();
                }
            })
        })
        .collect();
    let (mut times, mut since_applied) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let began = Instant::now();
        let count = world.emit(100, 1).await;
        let applied = Instant::now();
        while world.taken(100).await < count {
            tokio::task::yield_now().await;
        }
        times.push(began.elapsed());
        since_applied.push(applied.elapsed());
    }
    stop.send(true).unwrap();
    for load in load {
        load.await.unwrap();
    }
    world.wait_equal(0..16).await;
    times.sort();
    since_applied.sort();
    println!("call → applied at the subscriber: p50 {:?}, p99 {:?}", times[50], times[98]);
    let (p50, p99) = (since_applied[50], since_applied[98]);
    println!("applied at the source → at the subscriber: p50 {p50:?}, p99 {p99:?}");
    // The bound is for a machine that does something else too; the figure is in the line above.
    assert!(times[50] < Duration::from_secs(1), "{:?}", times[50]);
    world.end().await;
}

/// What the commands of a source pay for their events: prints the time in its shard's handler, and the
/// time from call to call of many callers, with a disk in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_events_cost_a_command() {
    const CALLERS: u64 = 128;
    let commands = std::env::var("QUIRE_RELAY_EVENTS").ok().and_then(|text| text.parse().ok());
    let commands: u64 = commands.unwrap_or(4_000);
    let nobody = |_: &Router<Sink<0>>, _: &Router<Sink<1>>| Vec::new();
    for round in 0..3 {
        measure("nobody subscribes", commands / CALLERS, round, nobody).await;
        let one = |_: &Router<Sink<0>>, other: &Router<Sink<1>>| vec![Subscription::of(other)];
        measure("one shard does", commands / CALLERS, round, one).await;
        measure("three shards do", commands / CALLERS, round, both).await;
    }

    async fn measure(what: &str, each: u64, round: u64, subscribe: impl Subscribe) {
        let lanes = LaneOptions { storage: Storage::in_memory(), ..LaneOptions::default() };
        let seams = Seams { clock: Clock::system(), random: Random::system() };
        let options = CheckpointOptions { bytes: 16 << 20, age: Duration::from_secs(60) };
        let ground = ground(seams, lanes, options);
        let world = Delivery::start_on(Path::new("figures"), ground, subscribe).await;
        world.emit(0, 1).await;
        let began = Instant::now();
        let callers = (0..CALLERS).map(|key| {
            let router = world.source.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    router.command(Call::new(), Emit { key, times: 1 }).await.unwrap();
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        let took = began.elapsed();
        let text = world.metrics.encode();
        let handler = "quire_handling_seconds_sum{service=\"source\",shard=\"0\",what=\"apply\"} ";
        let seconds = text.lines().find_map(|line| line.strip_prefix(handler));
        let seconds: f64 = seconds.expect("the handler is measured").parse().unwrap();
        let commands = (each * CALLERS) as f64;
        println!(
            "{round}: {what}: {:.2} µs in the handler, {:.2} µs from call to call",
            seconds * 1e6 / commands,
            took.as_secs_f64() * 1e6 / commands
        );
        world.end().await;
    }
}
