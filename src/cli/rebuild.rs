//! `quire rebuild`: makes what a service derived from others anew, while the old copy serves.

use std::time::Instant;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http_body_util::BodyExt;

use crate::cli::client::OpsClient;
use crate::cli::data::Data;
use crate::cli::failure::Failure;
use crate::cli::logging;
use crate::cli::options::DataOptions;
use crate::cli::output::{say, tell};
use crate::http::operator::RebuildLine;
use crate::node::Node;
use crate::seams::time;

/// Longest line of an answer.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Facts between two lines of progress.
const TOLD_EVERY: u64 = 100_000;

/// Options of `quire rebuild`.
#[derive(Debug, Args)]
pub(super) struct Rebuild {
    /// Which service
    #[arg(value_enum)]
    service: Service,
    #[command(flatten)]
    data: DataOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Service {
    /// What is recommended
    Recommendation,
}

impl Rebuild {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.data.load()?;
        logging::start_quiet(&config);
        let data = Data::open_existing(&config).await?;
        let outcome = match self.service {
            Service::Recommendation => rebuild(&data).await,
        };
        data.close().await?;
        let (line, seconds) = outcome?;
        match line {
            RebuildLine::Done { facts, repaired } => {
                let per = seconds * 100_000.0 / facts.max(1) as f64;
                say(&format!(
                    "{facts} facts in {seconds:.1} s, {per:.2} s per 100,000; {repaired} repaired"
                ));
                Ok(())
            }
            RebuildLine::Failed { reason } => Err(Failure::runtime(reason)),
            RebuildLine::Read { .. } => Err(cut_short()),
        }
    }
}

/// The last line, and how long it took.
async fn rebuild(data: &Data) -> Result<(RebuildLine, f64), Failure> {
    let began = time::mark();
    let mut progress = Progress::default();
    let line = match data {
        Data::Stopped(node) => here(node, &mut progress).await,
        Data::Running(client) => there(client, &mut progress).await?,
    };
    Ok((line, seconds(began)))
}

async fn here(node: &Node, progress: &mut Progress) -> RebuildLine {
    match node.app.owners().rebuild(|facts| progress.set(facts)).await {
        Ok(done) => RebuildLine::Done { facts: done.facts, repaired: done.repaired },
        Err(error) => RebuildLine::Failed { reason: error.to_string() },
    }
}

async fn there(client: &OpsClient, progress: &mut Progress) -> Result<RebuildLine, Failure> {
    let mut body = client.open("/rebuild/recommendation", Bytes::new()).await?.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| client.failed(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        text.extend_from_slice(&data);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line: RebuildLine =
                serde_json::from_slice(&line).map_err(|error| client.failed(&error))?;
            match line {
                RebuildLine::Read { facts } => progress.set(facts),
                last @ (RebuildLine::Done { .. } | RebuildLine::Failed { .. }) => return Ok(last),
            }
        }
        if text.len() > LINE_BYTES_MAX {
            return Err(cut_short());
        }
    }
    Err(cut_short())
}

fn cut_short() -> Failure {
    Failure::runtime("the answer was cut short: the rebuild may go on; see the log of the node")
}

/// How many facts were read. Nobody knows how many there are.
#[derive(Default)]
struct Progress {
    told: u64,
}

impl Progress {
    fn set(&mut self, facts: u64) {
        if facts >= self.told + TOLD_EVERY {
            self.told = facts;
            tell(&format!("{facts} facts"));
        }
    }
}

fn seconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}
