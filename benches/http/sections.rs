//! What is measured: the larger parts have files of their own.

use crate::load::Plan;
use crate::report::{self, Figures, verdict};
use crate::table::{READS, WRITES};
use crate::target::{CONNECTIONS, Target, mix, run_checked};
use crate::workload::{Batches, Mix, Operation};
use crate::{Failed, Options, machine, recommending, scale, table, tails};

/// Connections over which batches of reads come.
const READ_CONNECTIONS: [usize; 2] = [4, 64];
/// Reads a second that the service is to take.
const READS_PER_SECOND: f64 = 50_000.0;
/// More than the reads of a run: no two runs send a read of the same time.
const READS_TIME_US: u64 = 3_600_000_000;

/// Runs what is asked for.
///
/// # Errors
/// When a server does not start or stops answering.
pub fn run(options: &Options) -> Result<(), Failed> {
    if let Some(name) = &options.profile {
        return profile(options, name);
    }
    if options.all || options.is_table() {
        table::table(options)?;
    }
    if options.all || options.offset {
        tails::offset(options)?;
    }
    if options.all || options.checkpoint {
        tails::checkpoint(options)?;
    }
    if options.all || options.memory {
        memory(options)?;
    }
    if options.all || options.scale {
        scale::scale(options)?;
    }
    if options.all || options.startup {
        scale::startup(options)?;
    }
    if options.all || options.reads {
        reads(options)?;
    }
    if options.all || options.recommendations {
        recommending::speed(options)?;
        recommending::freshness(options)?;
    }
    Ok(())
}

/// Memory of a server that has answered some of every read: first with exactly the posts of its size, which
/// is what the aim is about, then with the usual writes among them, which add thousands of posts.
fn memory(options: &Options) -> Result<(), Failed> {
    println!("\n## Memory with {} posts\n", options.sizes().posts);
    for shards in options.shard_counts() {
        let target = Target::start(options.sizes(), shards, true)?;
        let megabytes = || {
            let (now, peak) = machine::memory(target.server.pid);
            (now as f64 / 1e6, peak as f64 / 1e6)
        };
        let read_all = |with_writes: bool| {
            READS.into_iter().try_for_each(|(operation, _)| {
                let mix = Mix::new(&target.keys, operation, 1);
                let mut mix = if with_writes { mix } else { mix.only_reads() };
                run_checked(&target.plan(options), &mut mix).map(drop)
            })
        };
        let (started, _) = megabytes();
        read_all(false)?;
        let (read, _) = megabytes();
        read_all(true)?;
        let (written, peak) = megabytes();
        println!(
            "- shards {shards}: {started:.0} MB after the start, {read:.0} MB after {} s of each read; at most 300 MB: {}; {written:.0} MB after as long of each with its writes (peak {peak:.0} MB)",
            options.duration().as_secs(),
            verdict(read <= 300.0)
        );
    }
    Ok(())
}

/// Reads that clients report, in batches, durable.
fn reads(options: &Options) -> Result<(), Failed> {
    let size = Batches::READS;
    println!("\n## Reads in batches of {size}\n");
    println!("| shards | connections | reads/s | p50 ms | p99 ms | CPU µs a read | bar |");
    println!("|---|--:|--:|--:|--:|--:|---|");
    for shards in options.shard_counts() {
        for connections in READ_CONNECTIONS {
            let target = Target::start(options.sizes(), shards, true)?;
            let plan = Plan { connections, ..target.plan(options) };
            let mut outcomes = Vec::new();
            for run in 0..options.runs() as u64 {
                let mut batches = Batches::new(&target.keys, run, run * READS_TIME_US);
                outcomes.push(run_checked(&plan, &mut batches)?);
            }
            let Figures { rate, p50_ms, p99_ms, cpu_us, .. } = Figures::medians(&outcomes);
            let (rate, cpu_us) = (rate * size as f64, cpu_us / size as f64);
            let reached = verdict(rate >= READS_PER_SECOND);
            println!(
                "| {shards} | {connections} | {rate:.0} | {p50_ms:.1} | {p99_ms:.1} | {cpu_us:.2} | ≥ {READS_PER_SECOND:.0}: {reached} |"
            );
        }
    }
    Ok(())
}

/// Loads one server with one operation for a while, for a profiler to look at.
fn profile(options: &Options, name: &str) -> Result<(), Failed> {
    let operations = READS.into_iter().chain(WRITES).map(|(operation, _)| operation);
    let mut operations = operations.chain([Operation::Recommendations]);
    let operation = operations.find(|one| one.name() == name).ok_or("no such operation")?;
    let target = Target::start(options.sizes(), options.shards.unwrap_or(1), true)?;
    if operation == Operation::Recommendations {
        recommending::read_much(options, &target)?;
    }
    println!("- process {}", target.server.pid);
    for run in 0..options.runs() as u64 {
        let mut mix = mix(options, &target.keys, operation, run);
        let figures = Figures::medians(&[run_checked(&target.plan(options), &mut mix)?]);
        report::row(name, CONNECTIONS, "Quire", &figures, None);
    }
    Ok(())
}
