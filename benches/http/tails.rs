//! What rare work adds to the slowest of many requests.

use crate::load::Plan;
use crate::report::{Figures, paired, verdict};
use crate::target::{CONNECTIONS, Target};
use crate::workload::{Mix, Operation};
use crate::{Failed, Options};

/// Creates a second while checkpoints are written, and over how many connections. The first is what the bar is set
/// at; it nearly fills a core by itself. With 512 connections hardly a request waits for the one before it, but each is
/// left alone for a tenth of a second between two; 4,000 a second leave a tenth of the core.
const CREATES: [(f64, usize); 3] = [(5_000.0, CONNECTIONS), (5_000.0, 512), (4_000.0, CONNECTIONS)];

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

/// Creates at a steady rate, without and with checkpoints, one run right after the other in turn.
pub fn checkpoint(options: &Options) -> Result<(), Failed> {
    println!("\n## Creates at a steady rate, latency from the time they were due\n");
    println!(
        "| asked/s | connections | checkpoints | creates/s | p50 ms | p99 ms | p99.9 ms | in each run | CPU µs | bar |"
    );
    println!("|--:|--:|---|--:|--:|--:|--:|--:|--:|---|");
    for (asked, connections) in CREATES {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for run in 0..options.runs() as u64 {
            let mut both = [(false, &mut without), (true, &mut with)];
            both.rotate_left(run as usize % 2);
            for (checkpoints, outcomes) in both {
                let target = Target::start(options.sizes(), 1, checkpoints)?;
                let rate = Some(asked);
                let plan = Plan { connections, rate, ..target.plan(options) };
                let mut mix = Mix::new(&target.keys, Operation::Create, run);
                outcomes.push(target.run_warm(&plan, &mut mix)?);
            }
        }
        let added = paired(&with, &without, |with, without| with.p999_ms - without.p999_ms);
        let mut bar = format!("{added:+.1} ms");
        if (asked, connections) == CREATES[0] {
            // Where the core does not do so many, what waits grows on both sides.
            let keeps_up =
                [&without, &with].map(|runs| Figures::medians(runs).rate >= 0.99 * asked);
            bar += &format!(", ≤ 20: {}", verdict(added <= 20.0 && keeps_up == [true; 2]));
        }
        for (name, outcomes, bar) in [("none", &without, ""), ("default", &with, &bar)] {
            let Figures { rate, p50_ms, p99_ms, p999_ms, cpu_us, .. } = Figures::medians(outcomes);
            let each = outcomes.iter().map(|one| format!("{:.0}", one.measured.quantile_ms(0.999)));
            let each = each.collect::<Vec<_>>().join(", ");
            println!(
                "| {asked:.0} | {connections} | {name} | {rate:.0} | {p50_ms:.2} | {p99_ms:.2} | {p999_ms:.2} | {each} | {cpu_us:.1} | {bar} |"
            );
        }
    }
    Ok(())
}
