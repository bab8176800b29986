//! The limit of writes: the same axum, and one thread that commits the same rows to one redb file,
//! as many at a time as wait, each commit durable before anybody is answered. Beside the reads of another limit
//! it tells what writes among them cost.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{self, State};
use axum::http::StatusCode;
use axum::routing::post;
use redb::{Database, Durability, TableDefinition};
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::bare::{HEADERS, Headers};

/// Most rows in one commit, as in Quire.
const BATCH: usize = 1024;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

type Row = (Vec<u8>, Vec<u8>);

struct Write {
    rows: Vec<Row>,
    /// Numbers that are one higher now; kept in memory as Quire's are, and written as rows.
    counts: Vec<Vec<u8>>,
    done: oneshot::Sender<()>,
}

#[derive(Clone)]
struct Writer {
    queue: mpsc::Sender<Write>,
    answer: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Article {
    title: String,
    description: String,
    body: String,
    tag_list: Vec<String>,
}

#[derive(Deserialize)]
struct ArticleBody {
    article: Article,
}

/// The routes of creates and favorites, which are committed to a new file and answered with `answer`. A commit
/// begins at the earliest so long after the one before.
///
/// # Errors
/// When the file cannot be made.
pub fn writes(file: &Path, answer: Bytes, pause: Duration) -> Result<Router, redb::Error> {
    let database = Database::create(file)?;
    let (queue, queued) = mpsc::channel();
    std::thread::spawn(move || {
        if let Err(error) = commit(&database, &queued, pause) {
            eprintln!("the direct commit failed: {error}");
            std::process::exit(1);
        }
    });
    let routes = Router::new()
        .route("/api/articles", post(create))
        .route("/api/articles/{slug}/favorite", post(favorite).delete(favorite))
        .with_state(Writer { queue, answer });
    Ok(routes)
}

type Answer = (StatusCode, Headers, Bytes);

/// Body, summary, and a row in the list of everything, of the author and of each tag, with counts.
async fn create(State(writer): State<Writer>, sent: Bytes) -> Answer {
    let Ok(sent) = serde_json::from_slice::<ArticleBody>(&sent) else {
        return (StatusCode::BAD_REQUEST, HEADERS, Bytes::new());
    };
    let Article { title, description, body, tag_list } = sent.article;
    let (id, time): (u64, u64) = (rand::random(), rand::random());
    let author: u16 = rand::random();
    let summary =
        [title.as_bytes(), description.as_bytes(), tag_list.join(",").as_bytes()].concat();
    let mut rows = vec![
        ([b"s", &id.to_be_bytes()[..]].concat(), summary),
        ([b"b", &id.to_be_bytes()[..]].concat(), body.into_bytes()),
    ];
    let mut lists = vec![b"l".to_vec(), [b"a", &author.to_be_bytes()[..]].concat()];
    lists.extend(tag_list.iter().map(|tag| [b"t", tag.as_bytes()].concat()));
    for list in &lists {
        let key = [&list[..], &time.to_be_bytes(), &id.to_be_bytes()].concat();
        rows.push((key, vec![1]));
    }
    finish(writer, StatusCode::CREATED, rows, lists).await
}

/// The favorite, its place in the reader's list, and both counts.
async fn favorite(
    State(writer): State<Writer>,
    extract::Path(slug): extract::Path<String>,
) -> Answer {
    let reader: u16 = rand::random::<u16>() % 10_000;
    let reader = [b"u", &reader.to_be_bytes()[..]].concat();
    let time = rand::random::<u64>().to_be_bytes();
    let rows = vec![
        ([b"f", slug.as_bytes(), &reader].concat(), time.to_vec()),
        ([&reader[..], slug.as_bytes()].concat(), vec![1]),
    ];
    finish(writer, StatusCode::OK, rows, vec![[b"p", slug.as_bytes()].concat(), reader]).await
}

async fn finish(
    writer: Writer,
    status: StatusCode,
    rows: Vec<Row>,
    counts: Vec<Vec<u8>>,
) -> Answer {
    let (done, durable) = oneshot::channel();
    let queued = writer.queue.send(Write { rows, counts, done });
    match (queued, durable.await) {
        (Ok(()), Ok(())) => (status, HEADERS, writer.answer),
        _ => (StatusCode::SERVICE_UNAVAILABLE, HEADERS, Bytes::new()),
    }
}

fn commit(
    database: &Database,
    queue: &mpsc::Receiver<Write>,
    pause: Duration,
) -> Result<(), redb::Error> {
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut began = Instant::now();
    while let Ok(first) = queue.recv() {
        // Meanwhile others come, for the same commit.
        std::thread::sleep(pause.saturating_sub(began.elapsed()));
        began = Instant::now();
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut waiting = Vec::new();
        {
            let mut table = transaction.open_table(TABLE)?;
            let rest = queue.try_iter().take(BATCH - 1);
            for write in std::iter::once(first).chain(rest) {
                for (key, value) in &write.rows {
                    table.insert(key.as_slice(), value.as_slice())?;
                }
                for key in write.counts {
                    let name = [b"c", &key[..]].concat();
                    let count = counts.entry(key).or_default();
                    *count += 1;
                    table.insert(name.as_slice(), count.to_be_bytes().as_slice())?;
                }
                waiting.push(write.done);
            }
        }
        transaction.commit()?;
        for done in waiting {
            let _ = done.send(());
        }
    }
    Ok(())
}
