//! Power cuts over all files of a source and its subscribers: no acknowledged event is lost, none
//! takes effect twice. Simulated: a seed repeats a run. `QUIRE_POWER_CUTS` sets how many runs,
//! `QUIRE_SEED` the first seed.

use std::cell::RefCell;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::seams::tasks::Inline;
use crate::store::file::Storage;

const KEYS: u64 = 6;
const BOOTS: u64 = 4;

#[test]
fn a_power_cut_loses_no_event_and_repeats_none() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("QUIRE_SEED").unwrap_or_else(|| Random::system().any());
    let runs = number("QUIRE_POWER_CUTS").unwrap_or(10);
    for seed in (0..runs).map(|run| first.wrapping_add(run)) {
        println!("QUIRE_SEED={seed}");
        let _inline = Inline::begin();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(seed));
    }
}

async fn run(seed: u64) {
    let random = Random::seeded(seed);
    let mut luck = StdRng::seed_from_u64(random.any());
    let storage = Storage::in_memory();
    let clock = Clock::of_runtime(Stamp(1_700_000_000_000_000));
    let seams = Seams { clock, random: Random::seeded(random.any()) };
    let folder = Path::new("cut");
    let start = || async {
        let lanes =
            LaneOptions { storage: storage.clone(), inline: true, ..LaneOptions::default() };
        let options = CheckpointOptions { bytes: 20_000, age: Duration::from_millis(100) };
        let ground = Ground { outbox: LIMITS, ..ground(seams.clone(), lanes, options) };
        Delivery::start_on(folder, ground, both).await
    };
    let acknowledged = RefCell::default();
    let mut delivered = 0.0;
    for _ in 0..BOOTS {
        let world = start().await;
        assert_there(&world, &acknowledged).await;
        let clients = (0..KEYS).map(|key| {
            let random = Random::seeded(random.any());
            emit_for_ever(&world, key, random, &acknowledged)
        });
        let power = Duration::from_micros(random.any::<u64>() % 400_000);
        let _cut = time::timeout(power, futures_util::future::join_all(clients)).await;
        delivered += world.metric("feed_delivered_total", "other/0");
        for file in FILES {
            storage.disk(&folder.join(file)).cut(&mut luck);
        }
        world.end().await;
    }
    let world = start().await;
    assert_there(&world, &acknowledged).await;
    world.wait_equal(0..KEYS).await;
    println!("{delivered} delivered before the cuts");
    world.end().await;
}

type Acknowledged = RefCell<BTreeMap<u64, u64>>;

async fn emit_for_ever(world: &Delivery, key: u64, random: Random, acknowledged: &Acknowledged) {
    loop {
        time::sleep(Duration::from_micros(random.any::<u64>() % 10_000)).await;
        let count = world.emit(key, 1 + random.any::<u64>() % 5).await;
        acknowledged.borrow_mut().insert(key, count);
    }
}

async fn assert_there(world: &Delivery, acknowledged: &Acknowledged) {
    for key in 0..KEYS {
        let least = acknowledged.borrow().get(&key).copied().unwrap_or(0);
        assert!(world.counted(key).await >= least, "what was acknowledged of {key}");
    }
}
