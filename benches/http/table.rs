//! The table: every operation against Quire and against its limits.

use std::io::ErrorKind;
use std::path::Path;

use crate::bare::Answers;
use crate::content::Sizes;
use crate::load::{self, Outcome, Plan};
use crate::process::{self, Server};
use crate::report::{self, Figures, Ratio};
use crate::target::{CONNECTIONS, PATIENCE, Target, mix, plan, role, run_checked};
use crate::workload::{Mix, Operation};
use crate::{Failed, Options, folder, replay};

/// Connections of the write tests.
const WRITE_CONNECTIONS: [usize; 2] = [64, 512];
/// Answers of which the one of median length is what the bare server returns.
const SAMPLES: usize = 101;

/// What is read, and the least ratio that is asked for.
pub const READS: [(Operation, f64); 6] = [
    (Operation::Article { signed_in: false }, 0.50),
    (Operation::Article { signed_in: true }, 0.50),
    (Operation::List { signed_in: false }, 0.40),
    (Operation::List { signed_in: true }, 0.40),
    (Operation::Feed, 0.30),
    (Operation::Tags, 0.60),
];
/// The same of what is written.
pub const WRITES: [(Operation, f64); 2] = [(Operation::Create, 0.70), (Operation::Favorite, 0.70)];

/// The table: every operation against Quire and against its limit, in turn.
pub fn table(options: &Options) -> Result<(), Failed> {
    let Sizes { users, posts, follows, favorites } = options.sizes();
    println!("- {users} users, {posts} posts of 5 kB, {follows} follows, {favorites} favorites");
    println!(
        "- medians of {} runs of {} s; {} writes mixed into reads",
        options.runs(),
        options.duration().as_secs(),
        if options.only_reads { "no" } else { "5 %" }
    );
    let counts = options.shard_counts();
    let limits = folder().join("limits");
    record_all(options, *counts.first().ok_or("no shards")?, &limits)?;
    let started = counts.iter().map(|shards| {
        Target::start(options.sizes(), *shards, true).map(|target| (*shards, target))
    });
    let targets = started.collect::<Result<Vec<(u16, Target)>, Failed>>()?;
    let start = |name| start_limit(name, &limits);
    let (bare, direct, replay) = (start("bare")?, start("direct")?, start("replay")?);
    // It is 0.4 GB, and in the memory of that server.
    std::fs::remove_file(limits.join(replay::FILE))?;
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
            &[
                ("bare axum", &bare),
                ("bare axum, direct commit", &direct),
                ("bare axum, from memory, rarer commits", &replay),
            ],
            |own, limit| limit.cpu_us / own.cpu_us,
            bar,
        )?;
    }
    // The writes among the reads have filled their files.
    drop((bare, direct, replay));
    let direct = start("direct")?;
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
    drop(direct);
    std::fs::remove_dir_all(&limits)?;
    println!(
        "\nReads: the ratio is that of CPU per request to bare axum, which sends one answer and does no writes;
\"with commits\" to one that commits those among the reads as they come; \"from memory\" to one that commits
them every {} ms and sends what Quire sends to strangers, as it was before the writes. Writes: the ratio is
that of requests/s.",
        replay::PAUSE.as_millis()
    );
    Ok(())
}

/// Records the answers of a node that is not measured: what it was asked for is in no cache of the others.
fn record_all(options: &Options, shards: u16, limits: &Path) -> Result<(), Failed> {
    let target = Target::start(options.sizes(), shards, true)?;
    record(&target)?.write(limits)?;
    replay::record(target.server.address, &target.keys, limits)
}

/// Starts a limit, with a fresh file if it has one.
fn start_limit(name: &str, limits: &Path) -> Result<Server, Failed> {
    match std::fs::remove_file(limits.join(format!("{name}.redb"))) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Server::start(&role(name, limits), PATIENCE),
    }
}

/// One operation against every server, their runs interleaved so that whatever else the machine
/// does meets all of them. The ratio is to the first of the limits, run by run, and to the others if there are any.
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
            outcomes.push(target.run_warm(&plan, &mut mix)?);
        }
        // Each of them comes right after the last of Quire's in its turn.
        for number in (0..limits.len()).map(|number| (number + run) % limits.len()) {
            let (_, server) = limits[number];
            process::warm(&folder().join("limits"))?;
            let plan = Plan { connections, ..plan(server, options) };
            let mut mix = mix(options, &targets[0].1.keys, operation, run as u64);
            theirs[number].push(run_checked(&plan, &mut mix)?);
        }
    }
    let row = |server: &str, outcomes: &[Outcome], bar| {
        let of = |theirs: &Vec<Outcome>| report::paired(outcomes, theirs, &ratio);
        let [with_commits, from_memory] = [1, 2].map(|other| theirs.get(other).map(of));
        let ratio = Ratio { value: of(&theirs[0]), bar, with_commits, from_memory };
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

/// Whether another operation is asked for.
pub fn is_left_out(options: &Options, operation: Operation) -> bool {
    options.only.as_ref().is_some_and(|only| !operation.name().contains(only.as_str()))
}
