//! What rare work adds to the slowest of many requests.

use crate::load::Plan;
use crate::report::{Figures, verdict};
use crate::target::Target;
use crate::workload::{Mix, Operation};
use crate::{Failed, Options};

/// Creates a second while checkpoints are written.
const CREATES_PER_SECOND: f64 = 5_000.0;

/// Articles alone, and while 1 % of the requests read at offset 10,000.
pub fn offset(options: &Options) -> Result<(), Failed> {
    println!("\n## 1 % of requests at offset 10,000\n");
    println!("| shards | p99 of articles ms | with deep pages ms | times | bar |");
    println!("|--:|--:|--:|--:|---|");
    for shards in options.shard_counts() {
        let target = Target::start(options.sizes(), shards, true)?;
        let operation = Operation::Article { signed_in: false };
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for run in 0..options.runs() as u64 {
            let mut mix = Mix::new(&target.keys, operation, run).only_reads();
            alone.push(target.run_warm(&target.plan(options), &mut mix)?);
            let mut mix = Mix::new(&target.keys, operation, run).only_reads().with_deep_pages(10);
            beside.push(target.run_warm(&target.plan(options), &mut mix)?);
        }
        let (alone, beside) = (Figures::medians(&alone), Figures::medians(&beside));
        let times = beside.p99_ms / alone.p99_ms;
        let (first, second, reached) = (alone.p99_ms, beside.p99_ms, verdict(times <= 3.0));
        println!("| {shards} | {first:.2} | {second:.2} | {times:.1} | ≤ 3: {reached} |");
    }
    Ok(())
}

/// Creates at a steady rate, without and with checkpoints.
pub fn checkpoint(options: &Options) -> Result<(), Failed> {
    println!("\n## Creates at {CREATES_PER_SECOND:.0}/s, latency from the time they were due\n");
    println!("| checkpoints | creates/s | p50 ms | p99 ms | p99.9 ms | CPU µs |");
    println!("|---|--:|--:|--:|--:|--:|");
    let mut tails = Vec::new();
    for (name, checkpoints) in [("none", false), ("default", true)] {
        let mut outcomes = Vec::new();
        for run in 0..options.runs() as u64 {
            let target = Target::start(options.sizes(), 1, checkpoints)?;
            let rate = Some(CREATES_PER_SECOND);
            let plan = Plan { connections: 512, rate, ..target.plan(options) };
            let mut mix = Mix::new(&target.keys, Operation::Create, run);
            outcomes.push(target.run_warm(&plan, &mut mix)?);
        }
        let Figures { rate, p50_ms, p99_ms, p999_ms, cpu_us, .. } = Figures::medians(&outcomes);
        println!("| {name} | {rate:.0} | {p50_ms:.2} | {p99_ms:.2} | {p999_ms:.2} | {cpu_us:.1} |");
        tails.push(p999_ms);
    }
    let added = tails[1] - tails[0];
    println!("\nAdded to the p99.9: {added:.1} ms; at most 20: {}", verdict(added <= 20.0));
    Ok(())
}
