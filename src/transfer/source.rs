//! Reads files into chunks, on a thread of its own.

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use crate::seams::tasks;
use crate::transfer::chunk::{Chunk, Filler};
use crate::transfer::lines::{self, LINE_BYTES_MAX, Lines};
use crate::transfer::record::Record;
use crate::transfer::stackexchange;

/// Chunks that may wait for the engine: one to work on next, while one is being read.
const CHUNKS_WAITING: usize = 2;

/// What the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Files of [`Record`]s, one a line.
    Quire,
    /// Folders with `posts.jsonl` and `events.csv`.
    StackExchange,
}

/// A file that cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be read: {error}", path.display())]
pub struct Unreadable {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl Unreadable {
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self { path, error }
    }
}

/// What reading gave besides the chunks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Events that name a comment without its text.
    pub comments_without_text: u64,
}

/// Files that are being read.
pub struct Source {
    /// The chunks, in order.
    pub chunks: mpsc::Receiver<Chunk>,
    /// Bytes of all files.
    pub bytes: u64,
    reading: tokio::task::JoinHandle<Result<Passed, Unreadable>>,
}

impl Source {
    /// Begins to read. What is needed before the first record (the digest of a file is part of its
    /// comments' identity) is read at once.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn open(format: Format, paths: Vec<PathBuf>) -> Result<Self, Unreadable> {
        let parts = match format {
            Format::Quire => paths,
            Format::StackExchange => paths.iter().flat_map(|p| stackexchange::files(p)).collect(),
        };
        let mut bytes = 0;
        for path in &parts {
            let metadata = std::fs::metadata(path).map_err(Unreadable::at(path))?;
            if !metadata.is_file() {
                return Err(Unreadable::at(path)(io::Error::other("it is not a file")));
            }
            bytes += metadata.len();
        }
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        let reading = tasks::blocking(move || match format {
            Format::Quire => read_files(&parts, &sender),
            Format::StackExchange => stackexchange::read(&parts, &sender),
        });
        Ok(Self { chunks, bytes, reading })
    }

    /// What was passed over, once the last chunk was taken.
    ///
    /// # Errors
    /// When a file could not be read to its end.
    pub async fn finish(mut self) -> Result<Passed, Unreadable> {
        self.chunks.close();
        match self.reading.await {
            Ok(outcome) => outcome,
            Err(error) => Err(Unreadable { path: PathBuf::new(), error: io::Error::other(error) }),
        }
    }
}

fn read_files(paths: &[PathBuf], to: &mpsc::Sender<Chunk>) -> Result<Passed, Unreadable> {
    let mut before = 0;
    for path in paths {
        let (digest, size) = lines::digest(path).map_err(Unreadable::at(path))?;
        let mut filler = Filler::new(path.clone(), digest, to);
        let mut lines = Lines::open(path).map_err(Unreadable::at(path))?;
        while let Some(line) = lines.next_line().map_err(Unreadable::at(path))? {
            let length = line.bytes.as_ref().map_or(0, Vec::len);
            let record = match &line.bytes {
                Some(bytes) => Record::parse(bytes),
                None => Err(too_long()),
            };
            if filler.add(line.number, length, record, before + lines.offset()).is_err() {
                return Ok(Passed::default());
            }
        }
        before += size;
        if filler.flush().is_err() {
            return Ok(Passed::default());
        }
    }
    Ok(Passed::default())
}

pub(super) fn too_long() -> String {
    format!("longer than {} MiB", LINE_BYTES_MAX / (1024 * 1024))
}
