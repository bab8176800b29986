//! The state in tables: what changed is written, and everything read again.
//!
//! Slots are the keys, so an engine that is loaded gives every post, reader and tag the slot that it
//! had, and goes on to the bit (R1). Each key begins with the number of a copy, so that there can be
//! two while one is made anew.

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::neighbours::Neighbours;
use crate::actors::recommendation::engine::pace::Pace;
use crate::actors::recommendation::engine::post::{Post, Status};
use crate::actors::recommendation::engine::reader::Reader;
use crate::actors::recommendation::engine::rows::Rows;
use crate::actors::recommendation::engine::settings::{Settings, WINDOWS};
use crate::actors::recommendation::engine::slots::Slots;
use crate::actors::recommendation::engine::state::Engine;
use crate::actors::recommendation::engine::tag::{SavedTag, Tags};
use crate::actors::recommendation::engine::top_list::TopList;
use crate::actors::recommendation::engine::weights::Weights;
use crate::actors::state_machine::{ReadTables, Table, Tables};
use crate::memory;
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;

/// Names of the tables; a [`Table`] below is an index into this list, which only ever grows.
pub const TABLES: &[&str] =
    &["posts", "readers", "tags", "shared", "serving", "late", "traffic", "waiting", "exposures"];

/// Copy, slot → [`Post`].
const POSTS: Table = Table(0);
/// Copy, slot → [`Reader`].
const READERS: Table = Table(1);
/// Copy, slot → [`SavedTag`].
const TAGS: Table = Table(2);
/// Copy → [`Shared`].
const SHARED: Table = Table(3);

/// One row with an empty key, of the service: which copy serves.
pub const SERVING: Table = Table(4);
/// Copy, number → a fact that waits, of the service.
pub const LATE: Table = Table(5);

/// What there is one of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Shared {
    newest: TopList,
    trends: [TopList; WINDOWS],
    pace: Pace,
    pairs: Neighbours,
    weights_version: u64,
    weights: Vec<f32>,
}

impl Record for Shared {
    const KIND: u8 = 71;
}

impl Engine {
    /// Stages about so many rows of what changed since it was staged or loaded. Returns whether that
    /// was all: then the tables hold the whole state as of now.
    pub fn save(&mut self, copy: u32, tables: &mut Tables<'_>, rows: usize) -> bool {
        let mut left = rows;
        while left > 0
            && let Some((slot, post)) = self.posts.next_changed()
        {
            tables.put(POSTS, key(copy, slot), codec::encode(post));
            left -= 1;
        }
        while left > 0
            && let Some((slot, reader)) = self.readers.next_changed()
        {
            tables.put(READERS, key(copy, slot), codec::encode(reader));
            left -= 1;
        }
        while left > 0
            && let Some((slot, tag)) = self.tags.next_changed()
        {
            tables.put(TAGS, key(copy, slot), codec::encode(&tag));
            left -= 1;
        }
        if left == 0 {
            return false;
        }
        let shared = Shared {
            newest: self.newest.clone(),
            trends: self.trends.clone(),
            pace: self.pace.clone(),
            pairs: self.pairs().clone(),
            weights_version: self.weights.version(),
            weights: self.weights.values().to_vec(),
        };
        tables.put(SHARED, copy.to_be_bytes(), codec::encode(&shared));
        true
    }

    /// The engine of a copy; one that knows nothing where there is no such copy.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn load(
        settings: Settings,
        copy: u32,
        tables: &ReadTables<'_>,
    ) -> Result<Self, StoreError> {
        let Some(shared) = tables.get(SHARED, &copy.to_be_bytes())? else {
            return Ok(Self::new(settings));
        };
        let shared: Shared = codec::decode(&shared)?;
        let weights = Weights::restored(shared.weights_version, &shared.weights)
            .ok_or_else(|| damaged("the weights are none"))?;
        let posts: Vec<Post> = read(tables, POSTS, copy)?;
        let readers: Vec<Reader> = read(tables, READERS, copy)?;
        let tags: Vec<SavedTag> = read(tables, TAGS, copy)?;
        let mut engine = Self::new(settings);
        engine.post_slots = Slots::of(posts.len(), |slot| posts[slot as usize].id.0);
        engine.reader_slots = Slots::of(readers.len(), |slot| readers[slot as usize].id.0);
        let unknown = posts.iter().filter(|post| post.status == Status::Unknown).count();
        let of_posts = posts.iter().flat_map(|post| post.tags().iter().copied());
        let of_readers = readers.iter().flat_map(Reader::held_tags);
        engine.tags = Tags::of_saved(tags, of_posts.chain(of_readers));
        engine.posts = Rows::written(posts);
        engine.readers = Rows::written(readers);
        engine.newest = shared.newest;
        engine.trends = shared.trends;
        engine.pace = shared.pace;
        engine.weights = weights;
        engine.restore(unknown, shared.pairs);
        Ok(engine)
    }
}

/// Stages the deletion of at most so many rows of a copy, and returns of how many.
///
/// # Errors
/// When the tables cannot be read.
pub fn delete(copy: u32, tables: &mut Tables<'_>, rows: usize) -> Result<usize, StoreError> {
    let prefix = copy.to_be_bytes();
    let mut left = rows;
    for table in [POSTS, READERS, TAGS, SHARED, LATE] {
        let mut keys = Vec::new();
        for row in tables.view().prefix(table, &prefix, &prefix)?.take(left) {
            keys.push(row?.0);
        }
        left -= keys.len();
        keys.into_iter().for_each(|key| tables.delete(table, key));
    }
    Ok(rows - left)
}

/// All rows of a copy, by slot.
fn read<R: Record>(tables: &ReadTables<'_>, table: Table, copy: u32) -> Result<Vec<R>, StoreError> {
    let prefix = copy.to_be_bytes();
    let mut rows = Vec::new();
    for row in tables.prefix(table, &prefix, &prefix)? {
        let (found, value) = row?;
        if found[..] != key(copy, rows.len() as u32) {
            return Err(damaged("a row of the state is missing"));
        }
        memory::note_rows(rows.len());
        rows.push(codec::decode(&value)?);
    }
    Ok(rows)
}

fn key(copy: u32, slot: u32) -> [u8; 8] {
    (u64::from(copy) << 32 | u64::from(slot)).to_be_bytes()
}

/// Rows that contradict one another.
pub fn damaged(detail: &str) -> StoreError {
    StoreError::Damaged { path: Default::default(), detail: detail.into() }
}
