//! What is measured, section by section.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::bare::Answers;
use crate::content::Sizes;
use crate::load::{self, Outcome, Plan, Source};
use crate::process::{self, Server};
use crate::report::{self, Figures, Ratio, verdict};
use crate::workload::{Batches, Keys, Mix, Operation, Walk};
use crate::{Failed, Options, folder, machine, recommending};

/// Connections of the read tests.
pub const CONNECTIONS: usize = 64;
/// Connections of the write tests.
const WRITE_CONNECTIONS: [usize; 2] = [64, 512];
/// Sets are made anew when they are older: their tokens live for 30 days.
const SET_AGE_MAX: Duration = Duration::from_secs(20 * 24 * 60 * 60);
/// How long a server may take to be ready.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How long the making of a set may take.
const FILL_PATIENCE: Duration = Duration::from_secs(45 * 60);
/// Answers of which the one of median length is what the bare server returns.
const SAMPLES: usize = 101;
/// How long reading every article once, before anything is measured, may take.
const WALK_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Connections over which batches of reads come.
const READ_CONNECTIONS: [usize; 2] = [4, 64];
/// Reads a second that the service is to take.
const READS_PER_SECOND: f64 = 50_000.0;
/// More than the reads of a run: no two runs send a read of the same time.
const READS_TIME_US: u64 = 3_600_000_000;
/// Creates a second while checkpoints are written.
const CREATES_PER_SECOND: f64 = 5_000.0;

const READS: [(Operation, f64); 6] = [
    (Operation::Article { signed_in: false }, 0.50),
    (Operation::Article { signed_in: true }, 0.50),
    (Operation::List { signed_in: false }, 0.40),
    (Operation::List { signed_in: true }, 0.40),
    (Operation::Feed, 0.30),
    (Operation::Tags, 0.60),
];
const WRITES: [(Operation, f64); 2] = [(Operation::Create, 0.70), (Operation::Favorite, 0.70)];

/// Runs what is asked for.
///
/// # Errors
/// When a server does not start or stops answering.
pub fn run(options: &Options) -> Result<(), Failed> {
    if let Some(name) = &options.profile {
        return profile(options, name);
    }
    if options.all || options.is_table() {
        table(options)?;
    }
    if options.all || options.offset {
        offset(options)?;
    }
    if options.all || options.checkpoint {
        checkpoint(options)?;
    }
    if options.all || options.memory {
        memory(options)?;
    }
    if options.all || options.scale {
        scale(options)?;
    }
    if options.all || options.startup {
        startup(options)?;
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

/// A running node and what requests to it can name.
pub struct Target {
    pub server: Server,
    pub keys: Keys,
    folder: PathBuf,
}

impl Target {
    /// Starts a node on a fresh copy of a set, which is made if it is not there yet.
    pub fn start(sizes: Sizes, shards: u16, checkpoints: bool) -> Result<Self, Failed> {
        let set = set(sizes, shards)?;
        let run = folder().join(format!("run-{}-{shards}", sizes.folder()));
        process::copy(&set, &run)?;
        Self::again(run, checkpoints)
    }

    /// Starts a node where one has been.
    fn again(folder: PathBuf, checkpoints: bool) -> Result<Self, Failed> {
        let mut arguments = role("quire", &folder);
        if !checkpoints {
            arguments.push("--no-checkpoints".into());
        }
        let server = Server::start(&arguments, PATIENCE)?;
        let keys = Keys::read(&folder)?;
        Ok(Self { server, keys, folder })
    }

    pub fn plan(&self, options: &Options) -> Plan {
        plan(&self.server, options)
    }

    /// So that pages and posts are in memory, as they are in a node that has served for a while.
    fn read_all_once(&self, options: &Options) -> Result<(), Failed> {
        let plan = self.plan(options);
        let plan = Plan { warm_up: Duration::ZERO, duration: WALK_PATIENCE, ..plan };
        let mut walk = Walk::new(&self.keys);
        run_checked(&plan, &mut walk)?;
        match walk.left() {
            0 => Ok(()),
            _ => Err("reading every article once took too long".into()),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Runs change their copy; the next one starts from the set again.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub fn plan(server: &Server, options: &Options) -> Plan {
    Plan {
        address: server.address,
        pid: server.pid,
        connections: CONNECTIONS,
        warm_up: options.warm_up(),
        duration: options.duration(),
        rate: None,
    }
}

pub fn role(name: &str, folder: &std::path::Path) -> Vec<String> {
    vec!["--role".into(), name.into(), "--folder".into(), folder.display().to_string()]
}

/// The folder of a set, made once and kept until the format of the data changes: then it must be
/// deleted by hand.
fn set(sizes: Sizes, shards: u16) -> Result<PathBuf, Failed> {
    let name = format!("set-{}-{shards}", sizes.folder());
    let (done, making) = (folder().join(&name), folder().join(format!("{name}.making")));
    let made = done.metadata().and_then(|about| about.modified()).ok();
    if let Some(age) = made.and_then(|made| made.elapsed().ok()) {
        if age < SET_AGE_MAX {
            return Ok(done);
        }
        std::fs::remove_dir_all(&done)?;
    }
    if making.exists() {
        std::fs::remove_dir_all(&making)?;
    }
    std::fs::create_dir_all(&making)?;
    let began = Instant::now();
    let mut arguments = role("fill", &making);
    for (flag, value) in [("--sizes", sizes.folder()), ("--shards", shards.to_string())] {
        arguments.extend([flag.to_owned(), value]);
    }
    process::run(&arguments, FILL_PATIENCE)?;
    std::fs::rename(&making, &done)?;
    println!("- set {name} made in {:.0} s", began.elapsed().as_secs_f64());
    Ok(done)
}

/// The table: every operation against Quire and against its limit, in turn.
fn table(options: &Options) -> Result<(), Failed> {
    let Sizes { users, posts, follows, favorites } = options.sizes();
    println!("- {users} users, {posts} posts of 5 kB, {follows} follows, {favorites} favorites");
    println!(
        "- medians of {} runs of {} s; {} writes mixed into reads",
        options.runs(),
        options.duration().as_secs(),
        if options.only_reads { "no" } else { "5 %" }
    );
    let counts = options.shard_counts();
    let started = counts.iter().map(|shards| {
        Target::start(options.sizes(), *shards, true).map(|target| (*shards, target))
    });
    let targets = started.collect::<Result<Vec<(u16, Target)>, Failed>>()?;
    let (_, first) = targets.first().ok_or("no shards")?;
    let limits = folder().join("limits");
    record(first)?.write(&limits)?;
    let _ = std::fs::remove_file(limits.join("direct.redb"));
    let bare = Server::start(&role("bare", &limits), PATIENCE)?;
    let direct = Server::start(&role("direct", &limits), PATIENCE)?;
    for (_, target) in &targets {
        target.read_all_once(options)?;
    }
    report::head();
    for (operation, bar) in READS {
        measure(
            options,
            operation,
            CONNECTIONS,
            &targets,
            &[("bare axum", &bare), ("bare axum, direct commit", &direct)],
            |own, limit| limit.cpu_us / own.cpu_us,
            bar,
        )?;
    }
    // With a fresh file: the writes among the reads have filled it.
    drop(direct);
    std::fs::remove_file(limits.join("direct.redb"))?;
    let direct = Server::start(&role("direct", &limits), PATIENCE)?;
    for (operation, bar) in WRITES {
        for connections in WRITE_CONNECTIONS {
            measure(
                options,
                operation,
                connections,
                &targets,
                &[("direct commit", &direct)],
                |own, limit| own.rate / limit.rate,
                bar,
            )?;
        }
    }
    println!("\nReads: the ratio is that of CPU per request to bare axum; writes: of requests/s.");
    Ok(())
}

/// A run that tells of answers that failed.
pub fn run_checked(plan: &Plan, source: &mut dyn Source) -> Result<Outcome, Failed> {
    let outcome = load::run(plan, source)?;
    if let Some(failure) = &outcome.failure {
        println!("\n{} answers failed, the first: {failure:?}\n", outcome.failed);
    }
    if outcome.measured.total() == 0 {
        return Err("nothing was answered".into());
    }
    Ok(outcome)
}

/// One operation against every server, their runs interleaved so that whatever else the machine
/// does meets all of them. The ratio is to the first of the limits, run by run.
fn measure(
    options: &Options,
    operation: Operation,
    connections: usize,
    targets: &[(u16, Target)],
    limits: &[(&str, &Server)],
    ratio: impl Fn(&Figures, &Figures) -> f64,
    bar: f64,
) -> Result<(), Failed> {
    if is_left_out(options, operation) {
        return Ok(());
    }
    let mut own: Vec<Vec<Outcome>> = vec![Vec::new(); targets.len()];
    let mut theirs: Vec<Vec<Outcome>> = vec![Vec::new(); limits.len()];
    for run in 0..options.runs() {
        for ((_, target), outcomes) in targets.iter().zip(&mut own) {
            let plan = Plan { connections, ..target.plan(options) };
            let mut mix = mix(options, &target.keys, operation, run as u64);
            outcomes.push(run_checked(&plan, &mut mix)?);
        }
        for ((_, server), outcomes) in limits.iter().zip(&mut theirs) {
            let plan = Plan { connections, ..plan(server, options) };
            let mut mix = mix(options, &targets[0].1.keys, operation, run as u64);
            outcomes.push(run_checked(&plan, &mut mix)?);
        }
    }
    let row = |server: &str, outcomes: &[Outcome], bar| {
        let ratio = Ratio { value: report::paired(outcomes, &theirs[0], &ratio), bar };
        let figures = Figures::medians(outcomes);
        report::row(operation.name(), connections, server, &figures, Some(ratio));
    };
    for ((shards, _), outcomes) in targets.iter().zip(&own) {
        row(&format!("Quire, shards {shards}"), outcomes, Some(bar));
    }
    for ((name, _), outcomes) in limits.iter().zip(&theirs) {
        row(name, outcomes, None);
    }
    Ok(())
}

fn mix<'a>(options: &Options, keys: &'a Keys, operation: Operation, seed: u64) -> Mix<'a> {
    let mix = Mix::new(keys, operation, seed);
    if options.only_reads { mix.only_reads() } else { mix }
}

/// Real answers for the bare server: of many the one of median length.
pub fn record(target: &Target) -> Result<Answers, Failed> {
    let sample = |operation| -> Result<axum::body::Bytes, Failed> {
        let mut mix = Mix::new(&target.keys, operation, 99);
        let mut bodies = Vec::new();
        for _ in 0..SAMPLES {
            let (status, body) = load::ask(target.server.address, &mix.one())?;
            if status != 200 {
                let body = String::from_utf8_lossy(&body).into_owned();
                return Err(format!("{}: status {status}: {body}", operation.name()).into());
            }
            bodies.push(body);
        }
        bodies.sort_by_key(Vec::len);
        Ok(bodies.swap_remove(SAMPLES / 2).into())
    };
    let answers = Answers {
        article: sample(Operation::Article { signed_in: true })?,
        list: sample(Operation::List { signed_in: true })?,
        feed: sample(Operation::Feed)?,
        tags: sample(Operation::Tags)?,
        recommendations: sample(Operation::Recommendations)?,
    };
    println!(
        "- bytes of the answers: article {}, list {}, feed {}, tags {}, recommendations {}",
        answers.article.len(),
        answers.list.len(),
        answers.feed.len(),
        answers.tags.len(),
        answers.recommendations.len()
    );
    Ok(answers)
}

/// Articles alone, and while 1 % of the requests read at offset 10,000.
fn offset(options: &Options) -> Result<(), Failed> {
    println!("\n## 1 % of requests at offset 10,000\n");
    println!("| shards | p99 of articles ms | with deep pages ms | times | bar |");
    println!("|--:|--:|--:|--:|---|");
    for shards in options.shard_counts() {
        let target = Target::start(options.sizes(), shards, true)?;
        let operation = Operation::Article { signed_in: false };
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for run in 0..options.runs() as u64 {
            let mut mix = Mix::new(&target.keys, operation, run).only_reads();
            alone.push(run_checked(&target.plan(options), &mut mix)?);
            let mut mix = Mix::new(&target.keys, operation, run).only_reads().with_deep_pages(10);
            beside.push(run_checked(&target.plan(options), &mut mix)?);
        }
        let (alone, beside) = (Figures::medians(&alone), Figures::medians(&beside));
        let times = beside.p99_ms / alone.p99_ms;
        let (first, second, reached) = (alone.p99_ms, beside.p99_ms, verdict(times <= 3.0));
        println!("| {shards} | {first:.2} | {second:.2} | {times:.1} | ≤ 3: {reached} |");
    }
    Ok(())
}

/// Creates at a steady rate, without and with checkpoints.
fn checkpoint(options: &Options) -> Result<(), Failed> {
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
            outcomes.push(run_checked(&plan, &mut mix)?);
        }
        let Figures { rate, p50_ms, p99_ms, p999_ms, cpu_us, .. } = Figures::medians(&outcomes);
        println!("| {name} | {rate:.0} | {p50_ms:.2} | {p99_ms:.2} | {p999_ms:.2} | {cpu_us:.1} |");
        tails.push(p999_ms);
    }
    let added = tails[1] - tails[0];
    println!("\nAdded to the p99.9: {added:.1} ms; at most 20: {}", verdict(added <= 20.0));
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

/// Whether another operation is asked for.
fn is_left_out(options: &Options, operation: Operation) -> bool {
    options.only.as_ref().is_some_and(|only| !operation.name().contains(only.as_str()))
}

/// CPU per request with many more posts.
fn scale(options: &Options) -> Result<(), Failed> {
    let (few, many) = (options.sizes(), options.scaled());
    println!("\n## {} posts instead of {}\n", many.posts, few.posts);
    println!(
        "| operation | CPU µs, {} posts | CPU µs, {} posts | times | bar |",
        few.posts, many.posts
    );
    println!("|---|--:|--:|--:|---|");
    let targets = [Target::start(few, 1, true)?, Target::start(many, 1, true)?];
    for target in &targets {
        target.read_all_once(options)?;
    }
    for (operation, _) in READS.into_iter().chain(WRITES) {
        if is_left_out(options, operation) {
            continue;
        }
        let mut figures = [const { Vec::new() }; 2];
        for run in 0..options.runs() as u64 {
            for (outcomes, target) in figures.iter_mut().zip(&targets) {
                let mut mix = Mix::new(&target.keys, operation, run);
                outcomes.push(run_checked(&target.plan(options), &mut mix)?);
            }
        }
        let times = report::paired(&figures[1], &figures[0], |many, few| many.cpu_us / few.cpu_us);
        let [few, many] = figures.map(|outcomes| Figures::medians(&outcomes).cpu_us);
        let name = operation.name();
        let reached = verdict(times <= 1.3);
        println!("| {name} | {few:.1} | {many:.1} | {times:.2} | ≤ 1.3: {reached} |");
    }
    Ok(())
}

/// From the start of the process to its first answer, after a SIGKILL under load.
fn startup(options: &Options) -> Result<(), Failed> {
    let sizes = options.scaled();
    println!("\n## Start-up after SIGKILL with {} posts\n", sizes.posts);
    let mut target = Target::start(sizes, 1, true)?;
    let mut times = Vec::new();
    for run in 0..options.runs() as u64 {
        let mut mix = Mix::new(&target.keys, Operation::Create, run);
        run_checked(&Plan { connections: 512, ..target.plan(options) }, &mut mix)?;
        let request = Mix::new(&target.keys, Operation::Article { signed_in: false }, 1).one();
        target.server.kill();
        let began = Instant::now();
        target.server = Server::start(&role("quire", &target.folder), PATIENCE)?;
        let (status, _) = load::ask(target.server.address, &request)?;
        let seconds = began.elapsed().as_secs_f64();
        println!("- first answer (status {status}) after {seconds:.2} s");
        times.push(seconds);
    }
    let median = report::median(times.into_iter());
    println!("- median {median:.2} s; at most 2 s: {}", verdict(median <= 2.0));
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
