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
use crate::cli::signals::Signals;
use crate::node::Node;
use crate::transfer::export::{Export as Engine, PIECES_WAITING};

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
        let data = Data::open_existing(&config).await?;
        let (pieces, lines) = mpsc::channel(PIECES_WAITING);
        // Writing blocks for as long as the reader of a pipe likes.
        let writing = tokio::task::spawn_blocking(move || write(lines));
        let outcome = tokio::select! {
            biased;
            () = signals.next() => Err(Failure::runtime("interrupted: the export is incomplete")),
            outcome = send(&data, self.with_credentials, pieces) => outcome,
        };
        let written = match outcome {
            Ok(()) => writing.await.unwrap_or_else(|error| Err(std::io::Error::other(error))),
            Err(_) => Ok(()),
        };
        data.close().await?;
        outcome?;
        written.map_err(|error| {
            Failure::runtime(format!("standard output: {error}: the export is incomplete"))
        })
    }
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
    let engine = Engine { users, posts, with_credentials, began: app.clock.now() };
    engine.run(pieces).await.map_err(|error| Failure::runtime(error.to_string()))
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
