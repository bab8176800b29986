//! What the seams are worth: a whole shard with its replica, lane and supervisors, whose run repeats
//! with its seed, faults included.
//!
//! One thread, time that goes on only when every task waits, a disk in memory, a lane without a
//! thread, one seed. What is compared: every reply with its time, position and stamp; every note of
//! the supervisors; the positions and the digest of outcomes after a power cut; the bytes of both
//! files; and, with each of these, how often the runtime had rested by then. The last one shows a
//! timer that has a chance of its own although it changes nothing else in this run: those of openraft
//! once did, and the bytes of the log's file differed only when one of them met the replacement of a
//! lane in one millisecond. What is not compared, because the process counts it: incarnations and the
//! ids of actors.
//!
//! `QUIRE_SIMULATIONS` sets how many seeds are tried, from 1 on.

use std::sync::Mutex;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};

use super::*;
use crate::seams::tasks::Inline;
use crate::seams::time::Instant;
use crate::store::file::Storage;

const CLIENTS: u64 = 6;
const OPERATIONS: u64 = 40;
const FAULTS: u64 = 12;
const KEYS: u64 = 5;
/// When every simulation begins.
const START: Stamp = Stamp(1_700_000_000_000_000);
/// A checkpoint now and then.
const CHECKPOINTS: CheckpointOptions =
    CheckpointOptions { bytes: 2_000, age: Duration::from_millis(200) };

#[test]
fn the_same_seed_tells_the_same_story_and_another_one_another() {
    let seeds = std::env::var("QUIRE_SIMULATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    for seed in 1..=seeds {
        let (first, second) = (simulate(seed), simulate(seed));
        for (one, other) in first.iter().zip(&second) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
        println!("seed {seed}: {} lines, {}", first.len(), digest(first.join("\n").as_bytes()));
    }
    assert_ne!(simulate(1), simulate(2));
}

/// What happened, in order.
#[derive(Clone)]
struct Trace {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    fn begin() -> Self {
        Self { began: Instant::now(), lines: Arc::default() }
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        let rests = tokio::runtime::Handle::current().metrics().worker_park_count(0);
        let line = format!("{:?} {rests} {what}", self.began.elapsed());
        self.lines.lock().unwrap().push(line);
    }
}

fn simulate(seed: u64) -> Vec<String> {
    let _inline = Inline::begin();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tell(seed))
}

async fn tell(seed: u64) -> Vec<String> {
    let random = Random::seeded(seed);
    let seams = Seams { clock: Clock::of_runtime(START), random: Random::seeded(random.any()) };
    let storage = Storage::in_memory();
    let trace = Trace::begin();
    let start = || async {
        let lanes =
            LaneOptions { storage: storage.clone(), inline: true, ..LaneOptions::default() };
        let ground = ground(seams.clone(), lanes, CHECKPOINTS);
        let (trace, random) = (trace.clone(), seams.random.clone());
        let observer = move |note: &crate::actors::supervisor::SupervisionNote<'_>| {
            trace.tell(format_args!("{note:?}"));
        };
        let options =
            TreeOptions { random, observer: Arc::new(observer), ..TreeOptions::default() };
        World::start_on(Path::new("simulated"), ground, options).await
    };

    let world = start().await;
    let clients = futures_util::future::join_all((0..CLIENTS).map(|client| {
        let random = Random::seeded(random.any());
        client_run(client, &world, random, &trace)
    }));
    let faults = faults_run(&world, Random::seeded(random.any()), &trace);
    let (acknowledged, ()) = tokio::join!(clients, faults);

    // The power is cut: whatever was not synced survives or not, sector by sector.
    let mut luck = StdRng::seed_from_u64(random.any());
    for file in [LANE_FILE, SHARD_FILE] {
        storage.disk(&Path::new("simulated").join(file)).cut(&mut luck);
    }
    world.end().await;
    let world = start().await;
    for key in 0..KEYS {
        let count = world.get(key).await;
        let least = acknowledged.iter().filter_map(|counts| counts.get(&key)).max();
        assert!(count >= least.copied().unwrap_or(0), "nothing acknowledged is lost");
        trace.tell(format_args!("{key} has {count}"));
    }
    tell_state(&world, &trace);
    world.end().await;
    for file in [LANE_FILE, SHARD_FILE] {
        let image = storage.disk(&Path::new("simulated").join(file)).durable();
        trace.tell(format_args!("{file} {} bytes {}", image.len(), digest(&image)));
    }
    let mut lines = trace.lines.lock().unwrap();
    std::mem::take(&mut lines)
}

/// One client: mostly additions, some questions, some commands that are refused or panic. Returns
/// the highest count that was acknowledged, by key.
async fn client_run(
    client: u64,
    world: &World,
    random: Random,
    trace: &Trace,
) -> std::collections::BTreeMap<u64, u64> {
    let mut acknowledged = std::collections::BTreeMap::new();
    for operation in 0..OPERATIONS {
        time::sleep(Duration::from_micros(random.any::<u64>() % 20_000)).await;
        let key = random.any::<u64>() % KEYS;
        let command = match random.any::<u64>() % 40 {
            0 => Command::Poison { key },
            1..4 => Command::Refuse,
            4..10 => {
                let count = world.get(key).await;
                trace.tell(format_args!("{client}.{operation} {key} has {count}"));
                continue;
            }
            _ => Command::Add { key },
        };
        let reply = world.send(command.clone()).await;
        trace.tell(format_args!("{client}.{operation} {command:?} {reply:?}"));
        tell_state(world, trace);
        if let Ok(count) = reply {
            acknowledged.insert(key, count);
        }
    }
    acknowledged
}

/// Crashes of the shard, replacements of replica and lane.
async fn faults_run(world: &World, random: Random, trace: &Trace) {
    for _ in 0..FAULTS {
        time::sleep(Duration::from_micros(random.any::<u64>() % 60_000)).await;
        let fault = random.any::<u64>() % 4;
        trace.tell(format_args!("fault {fault}"));
        match fault {
            0 | 1 => world.router.crash(0),
            2 => drop(world.tree.restart_child(REPLICA, RestartCause::Operator)),
            _ => drop(world.tree.restart_child(LANE, RestartCause::Operator)),
        }
    }
}

fn tell_state(world: &World, trace: &Trace) {
    let progress = world.router.cell(0).store.lock().progress.clone();
    let (index, stamp, digest) = (progress.applied.index, progress.last_stamp, progress.digest);
    let ReplicaStatus { term, last, applied, purged, leads, .. } = *world.status.borrow();
    trace.tell(format_args!(
        "{index:?} {stamp:?} {digest:x} {term} {last:?} {applied:?} {purged:?} {leads}"
    ));
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
