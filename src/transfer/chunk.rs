//! What travels from a file to the engine: bounded chunks of records, each with its line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::transfer::record::Record;

/// Most records of a chunk: enough for many batches, few enough for a progress bar to move.
pub const CHUNK_RECORDS_MAX: usize = 1024;
/// Bytes of lines after which a chunk is full; the last line may exceed it by its own length.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// A record and the line it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Line in its file, from 1.
    pub line: u64,
    /// What the line says.
    pub record: Record,
}

/// A line that has no effect, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Line in its file, from 1.
    pub line: u64,
    /// To be read by a person.
    pub reason: String,
}

/// Records of one file, in the order in which they must take effect.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// For reports.
    pub file: PathBuf,
    /// SHA-256 of the file: part of the identity of its comments.
    pub digest: [u8; 32],
    /// The records.
    pub items: Vec<Item>,
    /// Lines that could not be read.
    pub problems: Vec<Problem>,
    /// How much of all files is read once this chunk is.
    pub position: u64,
}

/// Fills chunks and sends them; waits while two are on their way (back-pressure).
pub(super) struct Filler<'a> {
    chunk: Chunk,
    bytes: usize,
    to: &'a mpsc::Sender<Chunk>,
}

/// Nobody takes chunks any more: the import has ended.
pub(super) struct Gone;

impl<'a> Filler<'a> {
    pub(super) fn new(file: PathBuf, digest: [u8; 32], to: &'a mpsc::Sender<Chunk>) -> Self {
        let chunk = Chunk { file, digest, items: Vec::new(), problems: Vec::new(), position: 0 };
        Self { chunk, bytes: 0, to }
    }

    /// Adds what became of a line; `bytes` is about how long it was.
    pub(super) fn add(
        &mut self,
        line: u64,
        bytes: usize,
        outcome: Result<Record, String>,
        position: u64,
    ) -> Result<(), Gone> {
        self.chunk.position = position;
        match outcome {
            Ok(record) => {
                self.bytes += bytes;
                self.chunk.items.push(Item { line, record });
            }
            Err(reason) => self.chunk.problems.push(Problem { line, reason }),
        }
        let lines = self.chunk.items.len() + self.chunk.problems.len();
        if lines >= CHUNK_RECORDS_MAX || self.bytes >= CHUNK_BYTES {
            return self.flush();
        }
        Ok(())
    }

    /// Sends what is there.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        let next = self.chunk.next();
        let full = std::mem::replace(&mut self.chunk, next);
        self.bytes = 0;
        self.to.blocking_send(full).map_err(|_| Gone)
    }
}

impl Chunk {
    /// An empty chunk of the same file.
    fn next(&self) -> Self {
        Self {
            file: self.file.clone(),
            digest: self.digest,
            items: Vec::new(),
            problems: Vec::new(),
            position: self.position,
        }
    }
}
