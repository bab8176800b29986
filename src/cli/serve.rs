//! `quire serve`: runs a node until a signal or until it gives up.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::logging;
use crate::cli::options::NodeOptions;
use crate::cli::signals::Signals;
use crate::http::App;
use crate::http::experiments::{self, Experiments};
use crate::node::Node;
use crate::seams::{Seams, tasks, time};

/// Pause before experiments that could not be set are set again.
const RETRY: Duration = Duration::from_secs(5);

/// Options of `quire serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    node: NodeOptions,
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.node.load()?;
        logging::start(&config.log);
        let experiments = match config.experiments.as_os_str().is_empty() {
            true => None,
            false => Some(Experiments::of_file(&config.experiments).map_err(Failure::usage)?),
        };
        let mut signals = Signals::listen()?;
        let node = tokio::select! {
            biased;
            // Nothing was answered yet, and what is on disk is safe at any moment.
            () = signals.next() => return Ok(()),
            node = Node::start(&config, Seams::system()) => node?,
        };
        print_addresses(&node);
        if let Some(wanted) = experiments {
            tasks::spawn(set_experiments(node.app.clone(), wanted));
        }
        until_stopped(node, &mut signals).await
    }
}

/// Sets the experiments of the configuration, however long that takes.
async fn set_experiments(app: App, wanted: Experiments) {
    while let Err(failure) = experiments::set(&app, wanted.clone()).await {
        tracing::warn!(?failure, "the experiments of the configuration are not set yet");
        time::sleep(RETRY).await;
    }
}

/// Tells where the node listens; scripts read it.
pub(super) fn print_addresses(node: &Node) {
    let mut out = std::io::stdout().lock();
    if let (Some(api), Some(ops)) = (node.address, node.ops_address) {
        // Nobody may be reading, which is no reason to stop.
        let _ = writeln!(out, "api http://{api}\noperations http://{ops}");
        let _ = out.flush();
        tracing::info!(%api, operations = %ops, "the node runs");
    }
}

/// Runs until a signal or until the root gives up, and stops in order: not ready, accept no more,
/// finish what is in flight, checkpoint, stop the tree. A second signal exits at once.
pub(super) async fn until_stopped(node: Node, signals: &mut Signals) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = signals.next() => {}
        failure = ended(&node) => return Err(failure),
    }
    stop(node, signals).await
}

/// Waits until the node ends by itself, and tells why.
pub(super) async fn ended(node: &Node) -> Failure {
    match node.wait().await {
        Ok(()) => Failure::runtime("the node ended by itself: see the log, and start again"),
        Err(error) => error.into(),
    }
}

/// Stops in order, or at once when a signal comes. The caller then ends the process.
pub(super) async fn stop(node: Node, signals: &mut Signals) -> Result<(), Failure> {
    tracing::info!("stopping; a second signal exits at once");
    node.drain();
    tokio::select! {
        biased;
        stopped = node.stop() => stopped?,
        () = signals.next() => return Err(stopped_at_once()),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Nothing that was acknowledged is lost: the log has it.
pub(super) fn stopped_at_once() -> Failure {
    Failure::runtime("stopped at once by a second signal: the next start replays the log")
}
