//! `quire rec`: what an operator asks of the recommendations.

mod eval;
mod experiments;
mod exposures;
mod prequential;
mod report;
mod sensitivity;
mod svg;
mod tally;

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;

/// Options of `quire rec`.
#[derive(Debug, Args)]
pub(super) struct Rec {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure how well recommendations foresee the events of a file
    Eval(eval::Eval),
    /// Show or set which readers see which ranking
    Experiments(experiments::Set),
    /// What came of the experiments, with intervals
    Report(experiments::Report),
    /// What was shown lately, as lines of JSON with request, reader, place and propensity
    Exposures(exposures::Exposures),
}

impl Rec {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Eval(eval) => eval.run().await,
            Command::Experiments(set) => set.run().await,
            Command::Report(report) => report.run().await,
            Command::Exposures(exposures) => exposures.run().await,
        }
    }
}

fn failed(failure: &crate::http::error::Failure) -> Failure {
    Failure::runtime(format!("the data directory cannot do this now: {failure:?}"))
}
