//! The limit of reads for a server that has every answer in memory: to each request the bytes that Quire sends,
//! recorded before. The bare server sends the same few kilobytes each time, which never leave the processor's
//! caches; what is sent here lies as far apart as what is asked for.
//!
//! It is more than any server can be: it does not look who asks, sends articles and lists as strangers see them, and
//! no write changes what it sends.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::routing::get;
use rustc_hash::FxHashMap;

use crate::Failed;
use crate::bare::{HEADERS, Headers};
use crate::load::Session;
use crate::workload::{Keys, Recordable};

/// Writes wait so long for others, as Quire lets them while they are rare among reads (ADR 0016).
pub const PAUSE: Duration = Duration::from_millis(20);
/// Answers, a line each: what names it, a tab, and the JSON, in which neither stands.
pub const FILE: &str = "replay";

/// Asks for everything that a mix may read, and writes the answers for a server process to read.
///
/// # Errors
/// When the server cannot be reached or refuses something, or the folder cannot be written.
pub fn record(server: SocketAddr, keys: &Keys, folder: &Path) -> Result<(), Failed> {
    let mut session = Session::open(server)?;
    let mut file = BufWriter::new(File::create(folder.join(FILE))?);
    for Recordable { name, request } in keys.recordable() {
        let (status, body) = session.ask(&request)?;
        if status != 200 {
            let body = String::from_utf8_lossy(&body);
            return Err(format!("a read was answered with {status}: {body}").into());
        }
        for part in [name.as_bytes(), b"\t", &body, b"\n"] {
            file.write_all(part)?;
        }
    }
    Ok(file.flush()?)
}

type Answers = Arc<FxHashMap<Bytes, Bytes>>;

/// The routes that return what was recorded.
///
/// # Errors
/// When it is not there, or is something else.
pub fn reads(folder: &Path) -> io::Result<Router> {
    let file = Bytes::from(fs::read(folder.join(FILE))?);
    let mut answers = FxHashMap::default();
    for line in file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let tab = line.iter().position(|byte| *byte == b'\t').ok_or(io::ErrorKind::InvalidData)?;
        answers.insert(file.slice_ref(&line[..tab]), file.slice_ref(&line[tab + 1..]));
    }
    let routes = Router::new()
        .route("/api/articles/{slug}", get(by_address))
        .route("/api/articles", get(by_address))
        .route("/api/articles/feed", get(by_reader))
        .route("/api/tags", get(by_address))
        .with_state(Arc::new(answers));
    Ok(routes)
}

type Answer = Result<(Headers, Bytes), StatusCode>;

fn answer(answers: &Answers, name: &[u8]) -> Answer {
    answers.get(name).map(|body| (HEADERS, body.clone())).ok_or(StatusCode::NOT_FOUND)
}

async fn by_address(State(answers): State<Answers>, request: Request) -> Answer {
    let address = request.uri().path_and_query().map(|address| address.as_str());
    answer(&answers, address.unwrap_or_default().as_bytes())
}

async fn by_reader(State(answers): State<Answers>, request: Request) -> Answer {
    let token = request.headers().get(header::AUTHORIZATION);
    answer(&answers, token.map(|token| token.as_bytes()).unwrap_or_default())
}
