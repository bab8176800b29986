//! The speed of Quire over HTTP, each figure beside its limits measured in the same run: a bare axum
//! handler that returns the same bytes, one that returns each request its own from memory, and the same axum
//! with a direct redb group commit.
//!
//! `cargo bench --bench http` prints the table; `-- --help` tells what else there is. Servers are
//! processes of their own, bound to one core; the load generator has the other.
#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark is of the real world")]

mod bare;
mod content;
mod direct;
mod histogram;
mod load;
mod machine;
mod process;
mod quire_server;
mod random;
mod recommending;
mod replay;
mod report;
mod scale;
mod sections;
mod table;
mod tails;
mod target;
mod workload;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::content::Sizes;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever ended the benchmark.
pub type Failed = Box<dyn std::error::Error>;

/// What to measure.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo bench --bench http --", about = "Measures Quire over HTTP")]
pub struct Options {
    /// One run of 2 s each over a small set: to see that everything works
    #[arg(long)]
    quick: bool,
    /// Only operations whose name contains this, e.g. `feed`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only so many shards, instead of 1 and 4
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Everything: the table and all sections below
    #[arg(long)]
    all: bool,
    /// CPU per request with 1,000,000 posts beside that with 50,000
    #[arg(long)]
    scale: bool,
    /// Start-up after SIGKILL with 1,000,000 posts
    #[arg(long)]
    startup: bool,
    /// Resident memory with 50,000 posts
    #[arg(long)]
    memory: bool,
    /// Articles while 1 % of requests read at offset 10,000
    #[arg(long)]
    offset: bool,
    /// Creates at 5,000/s over 64 and 512 connections and at 4,000/s, with and without checkpoints
    #[arg(long)]
    checkpoint: bool,
    /// Reads that clients report, in batches
    #[arg(long)]
    reads: bool,
    /// Recommendations beside a bare handler, and how soon they show what is new
    #[arg(long)]
    recommendations: bool,
    /// Serve one set and wait, to profile: load it with `--profile feed`
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// No writes mixed into reads
    #[arg(long)]
    only_reads: bool,
    /// Seconds of a run, instead of 10
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Runs of which the median is taken, instead of 3
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Said by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Which server this process is
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// Folder of that server
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
    /// Sizes of the set that is made
    #[arg(long, hide = true)]
    sizes: Option<String>,
    /// Core that server is bound to
    #[arg(long, hide = true)]
    core: Option<usize>,
    /// Whether that server writes checkpoints
    #[arg(long, hide = true)]
    no_checkpoints: bool,
    /// Whether it is said where that server listens before all that it serves is there
    #[arg(long, hide = true)]
    at_once: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    Bare,
    Direct,
    Replay,
    Quire,
    Fill,
}

impl Options {
    /// Length of a run.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 2 } else { 10 }))
    }

    /// Time before a run.
    pub fn warm_up(&self) -> Duration {
        Duration::from_millis(if self.quick { 500 } else { 2000 })
    }

    /// Runs of each figure.
    pub fn runs(&self) -> usize {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// The set of the table.
    pub fn sizes(&self) -> Sizes {
        if self.quick { Sizes::QUICK } else { Sizes::TABLE }
    }

    /// The set with many more posts.
    pub fn scaled(&self) -> Sizes {
        if self.quick { Sizes { posts: 50_000, ..Sizes::QUICK } } else { Sizes::SCALE }
    }

    /// Shard counts to measure.
    pub fn shard_counts(&self) -> Vec<u16> {
        self.shards.map_or_else(|| vec![1, 4], |shards| vec![shards])
    }

    fn is_table(&self) -> bool {
        let sections = [
            self.scale,
            self.startup,
            self.memory,
            self.offset,
            self.checkpoint,
            self.reads,
            self.recommendations,
        ];
        self.profile.is_none() && !sections.contains(&true)
    }
}

/// Where sets and runs are kept.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("http-bench")
}

fn main() -> Result<(), Failed> {
    let options = Options::parse();
    if let Some(role) = options.role {
        return serve(role, &options);
    }
    std::fs::create_dir_all(folder())?;
    println!("# Quire over HTTP\n");
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    println!("- command: cargo bench --bench http -- {}", arguments.join(" "));
    for fact in machine::facts(&folder()) {
        println!("- {fact}");
    }
    let (server, generator) = *machine::CORES;
    println!("- server on core {server}, load generator on core {generator}");
    machine::pin(generator);
    sections::run(&options)?;
    println!("- load after: {}", machine::load());
    println!("- {}", machine::idle_memory());
    Ok(())
}

fn serve(role: Role, options: &Options) -> Result<(), Failed> {
    process::end_with_parent();
    let folder = options.folder.clone().ok_or("a server needs a folder")?;
    if role == Role::Fill {
        let sizes = options.sizes.as_deref().and_then(Sizes::parse).ok_or("which sizes?")?;
        return quire_server::fill(&folder, sizes, options.shards.unwrap_or(1));
    }
    // Said by the load generator: what a child inherits is the generator's own core.
    machine::pin(options.core.ok_or("a server needs a core")?);
    // The same for all: what the program takes on one core.
    let runtime = quire::cli::runtime()?;
    runtime.block_on(async {
        if role == Role::Quire {
            return quire_server::serve(&folder, !options.no_checkpoints, options.at_once).await;
        }
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let answers = bare::Answers::read(&folder)?;
        let committed =
            |name, pause| direct::writes(&folder.join(name), answers.article.clone(), pause);
        let routes = match role {
            Role::Bare => bare::routes(answers),
            Role::Direct => committed("direct.redb", Duration::ZERO)?.merge(bare::reads(answers)),
            Role::Replay => committed("replay.redb", replay::PAUSE)?.merge(replay::reads(&folder)?),
            Role::Quire | Role::Fill => return Ok(()),
        };
        println!("{}{address}", process::READY);
        Ok(serve_plainly(listener, routes).await?)
    })
}

/// Serves routes with axum's own accept loop.
async fn serve_plainly(listener: TcpListener, routes: axum::Router) -> std::io::Result<()> {
    use axum::serve::ListenerExt;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener.tap_io(|stream| drop(stream.set_nodelay(true))), routes).await
}
