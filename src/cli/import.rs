//! `quire import`: files into a node.

use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use crate::cli::data::Data;
use crate::cli::failure::{Failure, one_line};
use crate::cli::logging;
use crate::cli::options::DataOptions;
use crate::cli::output::{say, tell};
use crate::cli::progress::Progress;
use crate::cli::serve::stopped_at_once;
use crate::cli::signals::Signals;
use crate::config::Config;
use crate::transfer::applied::{Applied, Counts};
use crate::transfer::chunk::Chunk;
use crate::transfer::engine::Engine;
use crate::transfer::record::hex;
use crate::transfer::source::{Format, Passed, Source};

/// Bad lines that are told one by one; the rest is counted.
const PROBLEMS_TOLD: u64 = 100;

/// Options of `quire import`.
///
/// An import may be interrupted and repeated: nothing is doubled. Users are told apart by their
/// name, posts by their key, comments by file and line: give the same file, not a changed one.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// What the files are
    #[arg(long, value_enum)]
    format: FileFormat,
    /// Files of format `quire`, or folders of format `stackexchange`
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    data: DataOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FileFormat {
    /// One JSON record a line, as `quire export` writes them
    Quire,
    /// A folder with posts.jsonl and events.csv; its name becomes part of the keys
    Stackexchange,
}

impl From<FileFormat> for Format {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Quire => Self::Quire,
            FileFormat::Stackexchange => Self::StackExchange,
        }
    }
}

impl Import {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.data.load()?;
        logging::start_quiet(&config);
        let mut signals = Signals::listen()?;
        let source = Source::open(self.format.into(), self.paths)
            .await
            .map_err(|error| Failure::usage(error.to_string()))?;
        let sink = Sink::new(signals.unless(Data::open(&config)).await?, &config);
        let mut report = Report::new(source.bytes);
        let outcome = tokio::select! {
            biased;
            () = signals.next() => Err(Failure::runtime(
                "interrupted: give the same command again to go on, nothing is doubled",
            )),
            failure = sink.data.ended() => return Err(failure),
            passed = import(source, &sink, &mut report) => passed,
        };
        let closed = tokio::select! {
            biased;
            closed = sink.data.close() => closed,
            () = signals.next() => Err(stopped_at_once()),
        };
        // What is wrong with the data is the reason of what went wrong with it.
        closed?;
        report.finish(outcome?)
    }
}

/// Takes chunk after chunk until the files are read.
async fn import(mut source: Source, sink: &Sink, report: &mut Report) -> Result<Passed, Failure> {
    while let Some(chunk) = source.chunks.recv().await {
        let applied = sink.apply(&chunk).await?;
        report.add(&chunk, &applied);
    }
    source.finish().await.map_err(|error| Failure::runtime(error.to_string()))
}

/// Where records go.
struct Sink {
    data: Data,
    /// For a stopped node.
    engine: Option<Engine>,
}

impl Sink {
    fn new(data: Data, config: &Config) -> Self {
        let engine = match &data {
            Data::Stopped(node) => {
                let app = &node.app;
                let (users, posts) = (app.users.clone(), app.posts.clone());
                Some(Engine::new(users, posts, app.seams.clone(), config.password_threads))
            }
            Data::Running(_) => None,
        };
        Self { data, engine }
    }

    async fn apply(&self, chunk: &Chunk) -> Result<Applied, Failure> {
        match (&self.data, &self.engine) {
            (Data::Running(client), _) => {
                let mut body = Vec::new();
                for item in &chunk.items {
                    serde_json::to_writer(&mut body, item).expect("an item is plain data");
                    body.push(b'\n');
                }
                let path = format!("/import?file={}", hex(&chunk.digest));
                let answer = client.post(&path, Bytes::from(body)).await?;
                serde_json::from_slice(&answer).map_err(|error| client.failed(&error))
            }
            (Data::Stopped(_), Some(engine)) => engine
                .apply(&chunk.digest, &chunk.items)
                .await
                .map_err(|halted| Failure::runtime(halted.to_string())),
            (Data::Stopped(_), None) => Err(Failure::runtime("there is no engine")),
        }
    }
}

/// What is told of an import.
struct Report {
    progress: Progress,
    counts: Counts,
    problems: u64,
}

impl Report {
    fn new(bytes: u64) -> Self {
        Self { progress: Progress::new("importing", bytes), counts: Counts::default(), problems: 0 }
    }

    fn add(&mut self, chunk: &Chunk, applied: &Applied) {
        self.counts.merge(&applied.counts);
        let mut problems: Vec<_> = chunk.problems.iter().chain(&applied.problems).collect();
        problems.sort_by_key(|problem| problem.line);
        for problem in problems {
            self.problems += 1;
            if self.problems <= PROBLEMS_TOLD {
                let file = chunk.file.display();
                let reason = one_line(&problem.reason);
                self.progress.line(&format!("{file}:{}: {reason}", problem.line));
            }
        }
        self.progress.set(chunk.position);
    }

    /// The summary on standard output; a failure when lines were bad.
    fn finish(self, passed: Passed) -> Result<(), Failure> {
        let Self { progress, counts, problems } = self;
        drop(progress);
        for (kind, tally) in counts.by_kind() {
            let mut line = format!("{kind} {}", tally.done + tally.existed);
            if tally.existed > 0 {
                line.push_str(&format!(" ({} were there already)", tally.existed));
            }
            if tally.skipped > 0 {
                line.push_str(&format!(
                    ", {} passed over (deleted since, or on posts deleted since or written here)",
                    tally.skipped
                ));
            }
            say(&line);
        }
        if passed.comments_without_text > 0 {
            say(&format!(
                "{} comments passed over: they carry no text",
                passed.comments_without_text
            ));
        }
        if problems > PROBLEMS_TOLD {
            tell(&format!("and {} more bad lines", problems - PROBLEMS_TOLD));
        }
        match problems {
            0 => Ok(()),
            1 => Err(Failure::runtime(
                "1 bad line had no effect, all others have: correct it and import it alone",
            )),
            bad => Err(Failure::runtime(format!(
                "{bad} bad lines had no effect, all others have: correct them and import them alone"
            ))),
        }
    }
}
