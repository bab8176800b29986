//! The limit of reads for a server that keeps every answer in memory: to each request the very bytes that Quire
//! gave it. The bare server sends the same few kilobytes each time, which never leave the processor's caches;
//! what is sent here lies as far apart as what is asked for.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{self, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;

use crate::Failed;
use crate::bare::{HEADERS, Headers};
use crate::load::Session;
use crate::workload::{Keys, Recordable};

/// Files of answers, a line each: what names it, a tab, and the JSON, in which neither stands.
const FILES: [&str; 4] = ["articles", "lists", "feeds", "tags"];

/// Asks for everything that a mix may read, and writes the answers for a server process to read. Readers are sent
/// the articles and lists of strangers: those of their own differ in a word or two.
///
/// # Errors
/// When the server cannot be reached or refuses something, or the folder cannot be written.
pub fn record(server: SocketAddr, keys: &Keys, folder: &Path) -> Result<(), Failed> {
    fs::create_dir_all(folder)?;
    let mut session = Session::open(server)?;
    for (file, reads) in FILES.into_iter().zip(keys.recordable()) {
        let mut file = BufWriter::new(File::create(folder.join(file))?);
        for Recordable { name, request } in reads {
            let (status, body) = session.ask(&request)?;
            if status != 200 {
                return Err(format!("`{name}` was answered with {status}").into());
            }
            for part in [name.as_bytes(), b"\t", &body, b"\n"] {
                file.write_all(part)?;
            }
        }
        file.flush()?;
    }
    Ok(())
}

type Answers = Arc<HashMap<String, Bytes>>;

/// The routes that return what was recorded.
///
/// # Errors
/// When it is not there.
pub fn reads(folder: &Path) -> io::Result<Router> {
    let read = |name: &str| -> io::Result<Answers> {
        let text = fs::read_to_string(folder.join(name))?;
        let answers = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(Arc::new(answers.map(|(name, json)| (name.into(), json.to_owned().into())).collect()))
    };
    let [articles, lists, feeds, tags] = FILES.map(read);
    let routes = Router::new()
        .route("/api/articles/{slug}", get(article).with_state(articles?))
        .route("/api/articles", get(by_query).with_state(lists?))
        .route("/api/articles/feed", get(by_reader).with_state(feeds?))
        .route("/api/tags", get(by_query).with_state(tags?));
    Ok(routes)
}

type Answer = Result<(Headers, Bytes), StatusCode>;

fn answer(answers: &Answers, name: &str) -> Answer {
    answers.get(name).map(|body| (HEADERS, body.clone())).ok_or(StatusCode::NOT_FOUND)
}

async fn article(
    State(answers): State<Answers>,
    extract::Path(slug): extract::Path<String>,
) -> Answer {
    answer(&answers, &slug)
}

async fn by_query(State(answers): State<Answers>, RawQuery(query): RawQuery) -> Answer {
    answer(&answers, query.as_deref().unwrap_or_default())
}

async fn by_reader(State(answers): State<Answers>, headers: HeaderMap) -> Answer {
    let reader = headers.get(header::AUTHORIZATION).and_then(|token| token.to_str().ok());
    answer(&answers, reader.unwrap_or_default())
}
