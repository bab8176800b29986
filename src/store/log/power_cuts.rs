//! Simulated power cuts: what was acknowledged is there, and nothing else is broken.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Done, GroupLog, LaneOptions, LogLane};
use crate::ids::{GroupId, LogIndex};
use crate::store::fault::FaultDisk;

const GROUPS: u32 = 3;
/// A fresh disk after so many cuts, so that creation is covered, too.
const CUTS_PER_DISK: usize = 25;

/// A group as it was ordered to be, after each request since the last cut.
struct Model {
    /// `steps[n]` are the entries after n requests.
    steps: Vec<BTreeMap<u64, Bytes>>,
    /// Requests are answered in order, so a count is enough.
    acknowledged: Arc<AtomicUsize>,
    /// The vote and the purged position after each request; the file may be ahead with them.
    records: Vec<(u64, u64)>,
}

impl Model {
    fn new(entries: BTreeMap<u64, Bytes>, record: (u64, u64)) -> Self {
        Self { steps: vec![entries], acknowledged: Arc::default(), records: vec![record] }
    }

    fn step(&mut self, change: impl FnOnce(&mut BTreeMap<u64, Bytes>, &mut (u64, u64))) -> Done {
        let mut entries = self.steps.last().expect("the start is a step").clone();
        let mut record = *self.records.last().expect("the start is a step");
        change(&mut entries, &mut record);
        self.steps.push(entries);
        self.records.push(record);
        let acknowledged = self.acknowledged.clone();
        Box::new(move |result| {
            if result.is_ok() {
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        })
    }

    /// One random request.
    fn act(&mut self, log: &GroupLog, random: &mut StdRng) {
        let last = log.state().last.0;
        let purged = log.state().purged.0;
        match random.random_range(0..10) {
            0 => {
                let vote = random.random::<u64>();
                let done = self.step(|_, record| record.0 = vote);
                log.save_vote(Bytes::copy_from_slice(&vote.to_be_bytes()), done);
            }
            1 if last > purged => {
                let from = random.random_range(purged + 1..=last);
                let done = self.step(|entries, _| drop(entries.split_off(&from)));
                log.truncate_from(LogIndex(from), done);
            }
            2 if last > purged => {
                let upto = random.random_range(purged + 1..=last);
                let done = self.step(|entries, record| {
                    *entries = entries.split_off(&(upto + 1));
                    record.1 = upto;
                });
                log.purge_to(LogIndex(upto), Bytes::from(upto.to_string()), done);
            }
            _ => {
                let count = random.random_range(1..5);
                let batch: Vec<_> = (last + 1..=last + count)
                    .map(|index| {
                        let bytes = vec![random.random(); random.random_range(0..3000)];
                        (LogIndex(index), Bytes::from(bytes))
                    })
                    .collect();
                let done = self.step(|entries, _| {
                    entries.extend(batch.iter().map(|(index, bytes)| (index.0, bytes.clone())));
                });
                log.append(batch, done);
            }
        }
    }

    /// The log is what it was after some request that came no earlier than the last
    /// acknowledged one.
    fn check(self, log: &GroupLog, context: &str) -> Self {
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        let state = log.state();
        let found: BTreeMap<u64, Bytes> = log
            .read(LogIndex(0)..LogIndex(u64::MAX), usize::MAX)
            .unwrap_or_else(|error| panic!("{context}: {error}"))
            .into_iter()
            .map(|(index, bytes)| (index.0, bytes))
            .collect();
        let matches = self.steps[acknowledged..]
            .iter()
            .any(|step| step.range(state.purged.0 + 1..).eq(found.iter()));
        assert!(matches, "{context}: entries differ behind {acknowledged} acknowledged requests");
        let vote = state.vote.map_or(0, |vote| u64::from_be_bytes(vote[..].try_into().unwrap()));
        let records = &self.records[acknowledged..];
        assert!(records.iter().any(|record| record.0 == vote), "{context}: vote {vote}");
        let purged = state.purged.0;
        assert!(records.iter().any(|record| record.1 == purged), "{context}: purged {purged}");
        if purged > 0 {
            assert_eq!(state.purged_position, purged.to_string(), "{context}");
        }
        Model::new(found, (vote, purged))
    }
}

fn open(disk: &FaultDisk, random: &mut StdRng) -> Arc<LogLane> {
    let options = LaneOptions {
        cache_bytes: 1 << 20,
        tail_bytes: random.random_range(0..20_000),
        purge_chunk_bytes: 4096,
        purge_pause: std::time::Duration::from_micros(200),
        ..LaneOptions::default()
    };
    LogLane::open_with_backend(Path::new("lane"), disk.backend(), options)
        .unwrap_or_else(|error| panic!("the lane does not open: {error}"))
}

#[test]
fn acknowledged_writes_survive_power_cuts() {
    let cuts = std::env::var("QUIRE_POWER_CUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let seed = std::env::var("QUIRE_SEED").ok().and_then(|n| n.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("QUIRE_SEED={seed} QUIRE_POWER_CUTS={cuts}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut acknowledged = 0;
    let (mut disk, mut models) = (FaultDisk::new(), BTreeMap::new());
    for cut in 0..cuts {
        if cut % CUTS_PER_DISK == 0 {
            disk = FaultDisk::new();
            models = (0..GROUPS).map(|id| (id, Model::new(BTreeMap::new(), (0, 0)))).collect();
        }
        let lane = open(&disk, &mut random);
        let logs: Vec<_> = (0..GROUPS).map(|id| lane.group(GroupId(id)).unwrap()).collect();
        disk.fail_after(random.random_range(0..80), io::ErrorKind::Other);
        for _ in 0..2000 {
            let id = random.random_range(0..GROUPS);
            if lane.is_failed() {
                break;
            }
            let model = models.get_mut(&id).expect("all groups have a model");
            model.act(&logs[id as usize], &mut random);
            // Now and then the lane catches up, so that commits of all sizes are cut.
            if random.random_bool(0.2) {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        }
        lane.close();
        disk.cut(&mut random);
        drop((logs, lane));
        let lane = open(&disk, &mut random);
        models = models
            .into_iter()
            .map(|(id, model)| {
                acknowledged += model.acknowledged.load(Ordering::SeqCst);
                let context = format!("QUIRE_SEED={seed}, cut {cut}, group {id}");
                (id, model.check(&lane.group(GroupId(id)).unwrap(), &context))
            })
            .collect();
        lane.close();
        drop(lane);
        // Opening repairs the file; a cut in the middle of that must do no harm either.
        if random.random_bool(0.3) {
            disk.cut(&mut random);
            disk.fail_after(random.random_range(0..8), io::ErrorKind::Other);
            drop(LogLane::open_with_backend(Path::new("lane"), disk.backend(), Default::default()));
            disk.cut(&mut random);
        }
    }
    println!("{acknowledged} acknowledged requests survived {cuts} power cuts");
}
