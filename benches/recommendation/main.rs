//! The speed of the recommendation engine, on one core: what an event, a learning step and a
//! recommendation cost, and how much memory a site of a given size takes.
//!
//! `cargo bench --bench recommendation` generates sites of two sizes, one ten times the other, and
//! compares; `-- --stream FILE` replays a file of clicks; `-- --help` tells what else there is.
#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark is of the real world")]

#[path = "../http/histogram.rs"]
mod histogram;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use histogram::Histogram;
use quire::actors::recommendation::engine::event::{Event, Interaction};
use quire::actors::recommendation::engine::learner::{Learner, LearnerSettings};
use quire::actors::recommendation::engine::settings::Settings;
use quire::actors::recommendation::engine::weights::Weights;
use quire::actors::recommendation::engine::{Engine, Options as Ranking, Scratch};
use quire::actors::signature::Signature;
use quire::ids::{PostId, Stamp, UserId};
use quire::transfer::stream::Stream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// When the generated events begin, in Unix milliseconds.
const BEGAN_MS: u64 = 1_700_000_000_000;
/// Of the events, one in so many is followed by a recommendation and a lesson.
const ASKED_EVERY: u64 = 500;

/// What to measure.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench recommendation --")]
struct Options {
    /// Replays a file of clicks (user, item, ts) instead of generating
    #[arg(long, value_name = "FILE")]
    stream: Option<PathBuf>,
    /// Posts of the larger site
    #[arg(long, default_value_t = 100_000)]
    posts: u64,
    /// Readers of the larger site
    #[arg(long, default_value_t = 100_000)]
    readers: u64,
    /// Events of the larger site
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// What cargo passes on
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    // As the program does.
    quire::memory::spare_huge_pages();
    println!("{:<32} {:>12} {:>12} {:>12}", "", "mean µs", "p99 µs", "count");
    if let Some(path) = &options.stream {
        let stream = Stream::read(path)?;
        let mut run = Run::new();
        let mut known = std::collections::BTreeSet::new();
        for event in &stream.events {
            if known.insert(event.item) {
                run.publish(event.item, event.ts);
            }
            run.take(event.user, event.item, event.ts, true);
        }
        run.report(&stream.name);
        return Ok(());
    }
    let small = generated(options.posts / 10, options.readers / 10, options.events / 10);
    let large = generated(options.posts, options.readers, options.events);
    for (what, small, large) in [
        ("event", small.event_us, large.event_us),
        ("recommendation", small.recommendation_us, large.recommendation_us),
        ("learning step", small.lesson_us, large.lesson_us),
    ] {
        println!("{what}: {:.2} times that of a tenth", large / small);
    }
    Ok(())
}

/// A site whose readers read what is new, and some of what is old; popular posts more often.
fn generated(posts: u64, readers: u64, events: u64) -> Means {
    let mut run = Run::new();
    let (posts, per_post) = (posts.max(1), (events / posts.max(1)).max(1));
    for n in 0..events {
        // A post a minute, whatever their number.
        let now_ms = BEGAN_MS + n * 60_000 / per_post;
        let published = (n / per_post + 1).min(posts);
        if n % per_post == 0 && n / per_post < posts {
            run.publish(n / per_post, now_ms);
        }
        let draw = mix(n);
        let back = match draw % 10 {
            0..=6 => (draw >> 8) % 30,
            7 | 8 => (draw >> 8) % 3_000,
            _ => (draw >> 8) % published,
        };
        let post = published - 1 - back.min(published - 1);
        let reader = mix(draw) % readers;
        run.take(1_000_000_000 + reader, post, now_ms, n % ASKED_EVERY == 0);
    }
    run.report(&format!("{posts} posts, {readers} readers"))
}

/// Times of one kind of call. Not each of them: they would take more memory than what is measured.
#[derive(Default)]
struct Times {
    sum: Duration,
    histogram: Histogram,
}

impl Times {
    fn add(&mut self, time: Duration) {
        self.sum += time;
        self.histogram.record(time);
    }

    fn mean_us(&self) -> f64 {
        self.sum.as_secs_f64() * 1e6 / self.histogram.total().max(1) as f64
    }

    /// Prints a row, and returns the mean.
    fn print(&self, what: &str) -> f64 {
        let (mean, p99) = (self.mean_us(), self.histogram.quantile_ms(0.99) * 1_000.0);
        println!("{what:<32} {mean:>12.2} {p99:>12.2} {:>12}", self.histogram.total());
        mean
    }
}

/// What calls cost on a site.
struct Means {
    event_us: f64,
    recommendation_us: f64,
    lesson_us: f64,
}

/// An engine under load.
struct Run {
    engine: Engine,
    learner: Learner,
    scratch: Scratch,
    events: Times,
    lessons: Times,
    recommendations: Times,
}

impl Run {
    fn new() -> Self {
        Self {
            engine: Engine::new(Settings::default()),
            learner: Learner::new(LearnerSettings::default(), Weights::default()),
            scratch: Scratch::default(),
            events: Times::default(),
            lessons: Times::default(),
            recommendations: Times::default(),
        }
    }

    fn publish(&mut self, post: u64, now_ms: u64) {
        self.engine.apply(&Event::PostChanged {
            post: PostId(post),
            author: Some(UserId(2_000_000_000 + mix(post) % 5_000)),
            version: 1,
            is_listed: true,
            published_at: Stamp(now_ms * 1_000),
            tags: (0..3).map(|n| format!("tag-{}", mix(post + n) % 500)).collect(),
            signature: Signature([mix(post), mix(!post)]),
        });
    }

    fn take(&mut self, reader: u64, post: u64, now_ms: u64, is_asked: bool) {
        let (reader, at) = (UserId(reader), Stamp(now_ms * 1_000));
        if is_asked && self.engine.has_history(reader) {
            let began = Instant::now();
            self.engine.ask(reader, at, &[], &mut self.scratch);
            let ranking = Ranking::default();
            let weights = self.learner.weights();
            let found = self.engine.answer_with(weights, &ranking, &mut self.scratch);
            self.recommendations.add(began.elapsed());
            std::hint::black_box(found);
            let began = Instant::now();
            if let Some(chosen) = self.engine.candidate_of(PostId(post), &self.scratch) {
                self.learner.learn(&mut self.scratch, chosen);
                self.lessons.add(began.elapsed());
            }
        }
        let event = Event::Interacted { reader, post: PostId(post), how: Interaction::Read, at };
        let began = Instant::now();
        self.engine.apply(&event);
        self.events.add(began.elapsed());
    }

    fn report(&self, site: &str) -> Means {
        println!("{site}, {} events", self.events.histogram.total());
        let means = Means {
            event_us: self.events.print("  event"),
            recommendation_us: self.recommendations.print("  recommendation"),
            lesson_us: self.lessons.print("  learning step"),
        };
        let engine = self.engine.memory_bytes() as f64 / (1 << 20) as f64;
        println!("  {engine:.0} MiB of state, {:.0} MiB resident", resident_mib());
        means
    }
}

/// Memory of this process, in MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kilobytes.unwrap_or(0.0) / 1_024.0
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
