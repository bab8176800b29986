//! Nodes to measure: each on a fresh copy of a set of content.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::content::Sizes;
use crate::load::{self, Outcome, Plan, Source};
use crate::process::{self, Server};
use crate::workload::{Keys, Mix, Operation, Walk};
use crate::{Failed, Options, folder};

/// Connections unless a test says otherwise.
pub const CONNECTIONS: usize = 64;
/// Sets are made anew when they are older: their tokens live for 30 days.
const SET_AGE_MAX: Duration = Duration::from_secs(20 * 24 * 60 * 60);
/// How long a server may take to be ready.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How long the making of a set may take.
const FILL_PATIENCE: Duration = Duration::from_secs(45 * 60);
/// How long reading every article once, before anything is measured, may take.
const WALK_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// A running node and what requests to it can name.
pub struct Target {
    pub server: Server,
    pub keys: Keys,
    pub folder: PathBuf,
}

impl Target {
    /// Starts a node on a fresh copy of a set, which is made if it is not there yet.
    pub fn start(sizes: Sizes, shards: u16, checkpoints: bool) -> Result<Self, Failed> {
        let set = set(sizes, shards)?;
        let run = folder().join(format!("run-{}-{shards}", sizes.folder()));
        process::copy(&set, &run)?;
        // Before the server reads it: what it reads in order the system would read ahead.
        process::warm(&run)?;
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

    /// A run with all of the node's files in the page cache.
    pub fn run_warm(&self, plan: &Plan, source: &mut dyn Source) -> Result<Outcome, Failed> {
        process::warm(&self.folder)?;
        run_checked(plan, source)
    }

    /// So that pages and posts are in memory, as they are in a node that has served for a while.
    pub fn read_all_once(&self, options: &Options) -> Result<(), Failed> {
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

pub fn role(name: &str, folder: &Path) -> Vec<String> {
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

/// What is asked of a server of one operation, run by run.
pub fn mix<'a>(options: &Options, keys: &'a Keys, operation: Operation, seed: u64) -> Mix<'a> {
    let mix = Mix::new(keys, operation, seed);
    if options.only_reads { mix.only_reads() } else { mix }
}
