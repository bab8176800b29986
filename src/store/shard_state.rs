//! What a shard holds in memory over its file: rows that no checkpoint has written yet, outcomes that
//! are remembered, how far it has come. Only its actor changes it, and the seal of a checkpoint.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{LogIndex, Stamp};
use crate::store::memtable::{Memtable, Table};
use crate::store::remembered::Remembered;
use crate::store::row_key::RowKey;
use crate::store::tables::{FileView, ReadTables, Tables};

/// Dead letters kept, the newest: who finds a command that panics could send many.
pub(super) const DEAD_LETTERS_MAX: usize = 1_000;
/// What a command of a memory-kept service counts as unwritten beside its bytes: replaying it takes
/// time, however small it is, and this bounds how much is replayed.
const REPLAYED_COMMAND_BYTES: usize = 64;

/// Where a service keeps its state between checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// In rows, which the store keeps: an actor that crashed finds them at the last applied entry.
    Tables,
    /// In the service's own memory, which dies with the actor. It is written into rows for
    /// checkpoints only; after a crash everything goes back to the last one, and the log from there
    /// on is applied again.
    Memory,
}

/// How far a shard's state has come, as it is durable or in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedState {
    /// The last applied entry; 0 when nothing was.
    pub index: LogIndex,
    /// What the replica needs to find that entry again, opaque to the store; empty when nothing was applied.
    pub position: Bytes,
}

/// How far the state has come: everything that moves with an applied entry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// The last applied entry.
    pub(crate) applied: AppliedState,
    /// The highest stamp that was applied; the next command gets a later one.
    pub(crate) last_stamp: Stamp,
    /// Chain over all outcomes: replicas that differ here have diverged.
    pub(crate) digest: u64,
}

/// Of the first owner of a shard in a process.
pub(crate) const GENERATION_FIRST: u64 = 1;

/// What the shard actor works on, behind the lock of the store.
pub(crate) struct ShardState {
    pub(super) generation: u64,
    active: Memtable,
    pub(super) sealed: Option<Arc<Sealed>>,
    /// `None` while the file could not be reopened after an error.
    pub(super) view: Option<FileView>,
    /// What is sealed is in the file already, and in `view`.
    pub(super) view_has_sealed: bool,
    spare: Memtable,
    dead_letters: VecDeque<(Bytes, Bytes)>,
    pub(crate) progress: Progress,
    pub(crate) durable: AppliedState,
    pub(crate) remembered: Remembered,
    /// Of a memory-kept service alone.
    base: Option<Base>,
    /// For good: the node has ended.
    pub(super) is_closed: bool,
}

/// Where a shard goes back to whose service has lost its memory: what was sealed last.
struct Base {
    progress: Progress,
    remembered: Remembered,
    /// The entry as of which the rows hold the service's state.
    saved: LogIndex,
    /// What was applied since, as the bytes of its commands.
    replay_bytes: usize,
}

/// A memtable that is being written to the file, with the progress it stands for.
pub(crate) struct Sealed {
    pub(super) rows: Memtable,
    pub(super) progress: Progress,
    pub(super) remembered: Remembered,
    pub(super) dead_letters: VecDeque<(Bytes, Bytes)>,
}

impl ShardState {
    /// What the file holds, and nothing over it. `tables` counts those of the runtime too.
    pub(super) fn new(
        tables: usize,
        view: FileView,
        progress: Progress,
        remembered: Remembered,
    ) -> Self {
        Self {
            generation: 0,
            active: Memtable::new(tables),
            sealed: None,
            view: Some(view),
            view_has_sealed: false,
            spare: Memtable::new(tables),
            dead_letters: VecDeque::new(),
            durable: progress.applied.clone(),
            progress,
            remembered,
            base: None,
            is_closed: false,
        }
    }

    /// Says where the service keeps its state.
    pub(super) fn set_kept(&mut self, kept: Kept) {
        self.base = match kept {
            Kept::Tables => None,
            Kept::Memory => Some(self.new_base()),
        };
    }

    fn new_base(&mut self) -> Base {
        Base {
            progress: self.progress.clone(),
            remembered: self.remembered.seal(),
            saved: self.progress.applied.index,
            replay_bytes: 0,
        }
    }

    /// Whether the service keeps its state in memory.
    pub(super) fn is_memory_kept(&self) -> bool {
        self.base.is_some()
    }

    /// Whether the file could not be read since it was opened, or not be opened again.
    pub(super) fn has_failed(&self) -> bool {
        !self.is_closed && self.view.as_ref().is_none_or(FileView::has_failed)
    }

    /// A new owner: it finds no half of a command, and what a memory-kept service had in memory is
    /// gone with its predecessor.
    pub(super) fn claim(&mut self) -> u64 {
        self.generation += 1;
        self.spare = self.active.emptied();
        self.roll_back();
        self.generation
    }

    /// Goes back to what was sealed last, if the service is memory-kept: rows, feeds, outbox,
    /// remembered commands and progress together.
    pub(crate) fn roll_back(&mut self) {
        let Some(base) = &mut self.base else { return };
        self.active = self.active.emptied();
        self.spare = self.active.emptied();
        self.dead_letters.clear();
        self.progress = base.progress.clone();
        self.remembered = base.remembered.seal();
        base.saved = base.progress.applied.index;
        base.replay_bytes = 0;
    }

    /// The last entry that a rollback keeps.
    pub(crate) fn base(&self) -> LogIndex {
        self.base.as_ref().map_or(self.progress.applied.index, |base| base.progress.applied.index)
    }

    /// A command with so many bytes was applied to a memory-kept service.
    pub(crate) fn count_replay(&mut self, bytes: usize) {
        if let Some(base) = &mut self.base {
            base.replay_bytes += bytes + REPLAYED_COMMAND_BYTES;
        }
    }

    /// A memory-kept service has staged all of its state as of the last applied entry.
    pub(crate) fn saved(&mut self) {
        if let Some(base) = &mut self.base {
            base.saved = self.progress.applied.index;
        }
    }

    /// Whether there is something to seal, and the rows are not all of it: the service must write its
    /// state first.
    pub(crate) fn lacks_state(&self) -> bool {
        let lacks = |base: &Base| base.saved != self.progress.applied.index;
        self.sealed.is_none() && !self.is_idle() && self.base.as_ref().is_some_and(lacks)
    }

    /// Whether a checkpoint waits to be written.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Sets everything that was applied apart, for a checkpoint; `None` if there is nothing, or the
    /// service must write its state first.
    pub(crate) fn seal(&mut self) -> Option<Arc<Sealed>> {
        if let Some(sealed) = &self.sealed {
            // The last attempt failed: write the same again before sealing more.
            return Some(sealed.clone());
        }
        if self.is_idle() || self.lacks_state() {
            return None;
        }
        let fresh = self.active.emptied();
        let sealed = Arc::new(Sealed {
            rows: std::mem::replace(&mut self.active, fresh),
            progress: self.progress.clone(),
            remembered: self.remembered.seal(),
            dead_letters: std::mem::take(&mut self.dead_letters),
        });
        if self.base.is_some() {
            self.base = Some(self.new_base());
        }
        self.sealed = Some(sealed.clone());
        Some(sealed)
    }

    /// A view of all layers.
    pub(crate) fn read(&self) -> ReadTables<'_> {
        ReadTables {
            staged: None,
            active: &self.active,
            sealed: self.sealed.as_ref().filter(|_| !self.view_has_sealed).map(|it| &it.rows),
            file: self.view.as_ref(),
            abandoned: None,
        }
    }

    /// An empty memtable to stage one command in; give it back with [`Self::put_staged`].
    pub(crate) fn take_staged(&mut self) -> Memtable {
        std::mem::take(&mut self.spare)
    }

    /// The view that a command stages its writes through.
    pub(crate) fn tables<'a>(&'a self, staged: &'a mut Memtable) -> Tables<'a> {
        Tables { read: self.read(), staged }
    }

    /// Merges (or drops) what was staged.
    pub(crate) fn put_staged(&mut self, mut staged: Memtable, keep: bool) {
        if keep {
            self.active.merge(&mut staged);
        } else {
            staged.clear();
        }
        self.spare = staged;
    }

    /// Deletes a row that was written once, with the entry `index`. While no checkpoint can have
    /// seen that entry, nothing of the row is left.
    pub(crate) fn erase(&mut self, table: Table, key: &[u8], index: LogIndex) {
        let sealed = self.sealed.as_ref().map(|sealed| sealed.progress.applied.index);
        // An actor that died within an entry leaves rows of it, which a checkpoint may seal.
        let seen = sealed.unwrap_or(self.durable.index).next();
        if index > seen {
            self.active.remove(table, key);
        } else {
            self.active.put(table, RowKey::from(key), None);
        }
    }

    /// Stages with `body` and merges.
    pub(crate) fn change<T>(&mut self, body: impl FnOnce(&mut Tables<'_>) -> T) -> T {
        let mut staged = self.take_staged();
        let outcome = body(&mut self.tables(&mut staged));
        self.put_staged(staged, true);
        outcome
    }

    /// Keeps a command that could not be applied, for whoever repairs the program. `place` is where
    /// it stands in its entry.
    pub(crate) fn bury(
        &mut self,
        index: LogIndex,
        place: impl IntoIterator<Item = u32>,
        command: &[u8],
    ) {
        let mut key = index.0.to_be_bytes().to_vec();
        place.into_iter().for_each(|number| key.extend_from_slice(&number.to_be_bytes()));
        if self.dead_letters.len() >= DEAD_LETTERS_MAX {
            self.dead_letters.pop_front();
        }
        // A copy, for it may share the memory of its whole entry.
        self.dead_letters.push_back((key.into(), Bytes::copy_from_slice(command)));
    }

    /// Estimated memory of what no checkpoint has written yet, in bytes; of a memory-kept service, also
    /// what would be replayed after a crash.
    pub(crate) fn unwritten_bytes(&self) -> usize {
        let sealed = self.sealed.as_ref().map_or(0, |sealed| sealed.rows.bytes());
        let replay = self.base.as_ref().map_or(0, |base| base.replay_bytes);
        self.active.bytes() + sealed + replay
    }

    /// Whether a checkpoint would write anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.progress.applied.index == self.durable.index
    }
}
