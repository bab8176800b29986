//! `quire export`: everything to standard output.

use std::io::{BufWriter, Write};

use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::cli::client::OpsClient;
use crate::cli::data::Data;
use crate::cli::failure::Failure;
use crate::cli::logging;
use crate::cli::options::DataOptions;
use crate::cli::serve::stopped_at_once;
use crate::cli::signals::Signals;
use crate::node::Node;
use crate::seams::tasks;
use crate::transfer::export::{Export as Engine, ExportError, PIECES_WAITING};

/// Options of `quire export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Include password hashes: keep the file secret
    #[arg(long)]
    with_credentials: bool,
    #[command(flatten)]
    data: DataOptions,
}

impl Export {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.data.load()?;
        logging::start_quiet(&config);
        let mut signals = Signals::listen()?;
        let data = signals.unless(Data::open_existing(&config)).await?;
        let (pieces, lines) = mpsc::channel(PIECES_WAITING);
        // Writing blocks for as long as the reader of a pipe likes.
        let writing = tasks::blocking(move || write(lines));
        // The last pieces wait for the reader, too: a signal ends the writing like the sending.
        let outcome = tokio::select! {
            biased;
            () = signals.next() => Err(Failure::runtime("interrupted: the export is incomplete")),
            failure = data.ended() => return Err(failure),
            outcome = async {
                send(&data, self.with_credentials, pieces).await?;
                written(writing.await)
            } => outcome,
        };
        let closed = tokio::select! {
            biased;
            closed = data.close() => closed,
            () = signals.next() => Err(stopped_at_once()),
        };
        // What is wrong with the data is the reason of what went wrong with it.
        closed.and(outcome)
    }
}

fn written(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), Failure> {
    let written = ended.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    written.map_err(|error| {
        Failure::runtime(format!("standard output: {error}: the export is incomplete"))
    })
}

async fn send(
    data: &Data,
    with_credentials: bool,
    pieces: mpsc::Sender<Vec<u8>>,
) -> Result<(), Failure> {
    match data {
        Data::Stopped(node) => export(node, with_credentials, pieces).await,
        Data::Running(client) => fetch(client, with_credentials, pieces).await,
    }
}

async fn export(
    node: &Node,
    with_credentials: bool,
    pieces: mpsc::Sender<Vec<u8>>,
) -> Result<(), Failure> {
    let app = &node.app;
    let (users, posts) = (app.users.clone(), app.posts.clone());
    let engine = Engine { users, posts, with_credentials, began: app.seams.clock.now() };
    match engine.run(pieces).await {
        // The writer knows why.
        Ok(()) | Err(ExportError::Gone) => Ok(()),
        Err(error @ ExportError::Halted(_)) => Err(Failure::runtime(error.to_string())),
    }
}

async fn fetch(
    client: &OpsClient,
    with_credentials: bool,
    pieces: mpsc::Sender<Vec<u8>>,
) -> Result<(), Failure> {
    let path = if with_credentials { "/export?credentials=true" } else { "/export" };
    let mut body = client.open(path, Bytes::new()).await?.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| client.failed(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if pieces.send(data.to_vec()).await.is_err() {
            // The writer knows why.
            return Ok(());
        }
    }
    Ok(())
}

fn write(mut lines: mpsc::Receiver<Vec<u8>>) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    while let Some(piece) = lines.blocking_recv() {
        out.write_all(&piece)?;
    }
    out.flush()
}
