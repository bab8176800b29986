//! `quire rec eval`: how well the recommendations foresee what was read.

use std::path::PathBuf;

use clap::Args;

use crate::cli::failure::{Failure, one_line};
use crate::cli::output::{say, tell};
use crate::cli::progress::Progress;
use crate::cli::rec::prequential::{Evaluation, Setup, evaluate};
use crate::cli::rec::{report, sensitivity, svg};
use crate::seams::tasks;
use crate::transfer::stream::Stream;

/// Bad lines that are told one by one; the rest is counted.
const PROBLEMS_TOLD: usize = 100;

/// Options of `quire rec eval`.
///
/// The engine is that of the service. Every event is predicted before it is learned; intervals are
/// those of 95 %, with the predictions of one reader counted together.
#[derive(Debug, Args)]
pub(super) struct Eval {
    /// CSV files with the columns user,item,ts (Unix milliseconds), or folders with posts.jsonl and
    /// events.csv
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print one JSON object a stream instead of a table
    #[arg(long)]
    json: bool,
    /// Draw the comparison
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Also measure a model that stops learning at four fifths of the events
    #[arg(long)]
    split_time: bool,
    /// Print what half and twice of each constant does, instead
    #[arg(long, hide_short_help = true)]
    sensitivity: bool,
}

impl Eval {
    pub(super) async fn run(self) -> Result<(), Failure> {
        // Work for the processor alone: a signal ends the process at once, nothing is lost.
        let work = tasks::blocking(move || self.work());
        work.await
            .map_err(|error| Failure::runtime(format!("the evaluation ended early: {error}")))?
    }

    fn work(self) -> Result<(), Failure> {
        let mut problems = 0;
        let mut streams = Vec::new();
        for path in &self.paths {
            let stream = Stream::read(path).map_err(|error| Failure::usage(error.to_string()))?;
            problems += tell_problems(&stream);
            if stream.events.is_empty() {
                let path = path.display();
                return Err(Failure::usage(format!("`{path}` holds no event that can be read")));
            }
            streams.push(stream);
        }
        if self.sensitivity {
            say(&sensitivity::table(&streams));
            return told(problems);
        }
        let mut evaluations = Vec::new();
        for stream in &streams {
            let mut progress = Progress::new("evaluating", stream.events.len() as u64);
            let setup = Setup { is_split: self.split_time, ..Setup::default() };
            let evaluation = evaluate(stream, &setup, |done| progress.set(done));
            drop(progress);
            match self.json {
                true => say(&report::json(stream, &evaluation)),
                false => say(&report::table(stream, &evaluation)),
            }
            evaluations.push(evaluation);
        }
        if let Some(path) = &self.svg {
            let pairs: Vec<(&str, &Evaluation)> =
                streams.iter().map(|stream| stream.name.as_str()).zip(&evaluations).collect();
            std::fs::write(path, svg::draw(&pairs)).map_err(|error| {
                Failure::runtime(format!("`{}` cannot be written: {error}", path.display()))
            })?;
        }
        told(problems)
    }
}

fn tell_problems(stream: &Stream) -> usize {
    for (file, line, reason) in stream.problems.iter().take(PROBLEMS_TOLD) {
        tell(&format!("{file}:{line}: {}", one_line(reason)));
    }
    let untold = stream.problems.len().saturating_sub(PROBLEMS_TOLD);
    if untold > 0 {
        tell(&format!("and {untold} more bad lines"));
    }
    stream.problems.len()
}

/// Bad lines are a failure in the end, as in an import; everything else is measured all the same.
fn told(problems: usize) -> Result<(), Failure> {
    match problems {
        0 => Ok(()),
        1 => Err(Failure::runtime("1 bad line was passed over, all others are measured")),
        bad => Err(Failure::runtime(format!(
            "{bad} bad lines were passed over, all others are measured"
        ))),
    }
}
