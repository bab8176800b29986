//! The log of one group, as its owner sees it.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redb::{ReadTransaction, ReadableDatabase};

use crate::ids::{GroupId, LogIndex};
use crate::store::error::StoreError;
use crate::store::file::store_error;
use crate::store::log::file::{self, ENTRIES, GroupRecord, entry_key};
use crate::store::log::lane::{LaneShared, lock};
use crate::store::log::writer::{Answer, Done, Request};

/// Largest entry. A batch of commands is far below; a larger one is refused before it can harm
/// its neighbours in the commit.
const ENTRY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A handle of the log of a group; clones are the same incarnation. All writes return at once
/// and answer through a callback, on the lane's thread.
#[derive(Clone)]
pub struct GroupLog {
    lane: Arc<LaneShared>,
    group: Arc<GroupShared>,
    incarnation: u64,
}

/// What a group's log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLogState {
    /// The first entry; behind `last` when there is none.
    pub first: LogIndex,
    /// The last entry, or the last purged one when there is none.
    pub last: LogIndex,
    /// The last purged entry; 0 when nothing was purged.
    pub purged: LogIndex,
    /// The position that came with the purge; empty when nothing was purged.
    pub purged_position: Bytes,
    /// The last saved vote.
    pub vote: Option<Bytes>,
    /// The last saved committed position.
    pub committed: Option<Bytes>,
}

/// Entries on their way to a reader.
struct Page {
    next: u64,
    bytes_left: usize,
    entries: Vec<(LogIndex, Bytes)>,
}

/// What handles of a group and the lane's thread share.
pub(super) struct GroupShared {
    pub id: GroupId,
    /// The record as it was in the file when the group was loaded.
    pub loaded: GroupRecord,
    state: Mutex<GroupState>,
}

/// The log as its owner has ordered it to be; the file follows.
struct GroupState {
    incarnation: u64,
    first: u64,
    last: u64,
    record: GroupRecord,
    /// The newest entries, up to `last`. All that are not yet durable are here (L3).
    tail: VecDeque<TailEntry>,
    tail_bytes: usize,
    /// Number of the last append; entries appended by a later one than `durable` must stay.
    /// Indexes do not tell: they come back after a truncation.
    appends: u64,
    durable: u64,
}

struct TailEntry {
    append: u64,
    bytes: Bytes,
}

impl GroupLog {
    pub(super) fn new(lane: Arc<LaneShared>, group: Arc<GroupShared>, incarnation: u64) -> Self {
        Self { lane, group, incarnation }
    }

    /// Distinguishes this opening of the group from all others in the process; rises.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The file that holds it.
    pub fn path(&self) -> &Path {
        &self.lane.path
    }

    /// Appends entries, which follow the last one. They can be read at once; `done` is called
    /// when they are durable.
    pub fn append(&self, entries: Vec<(LogIndex, Bytes)>, done: Done) {
        let done = Answer::new(done);
        let bytes = entries.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let mut state = lock(&self.group.state);
        if let Err(error) = self.admit(&state, bytes).and_then(|()| state.check_append(&entries)) {
            drop(state);
            return done.send(Err(error));
        }
        state.append(&entries);
        let append = state.appends;
        // Queued under the lock: the order of the queue is the order of the state (L4).
        let refused = self.lane.submit(Request::Append {
            group: self.group.clone(),
            append,
            entries,
            bytes,
            done,
        });
        drop(state);
        drop(refused);
        self.lane.work_inline();
    }

    /// Saves the vote; `done` is called when it is durable.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        self.change(done, |state, done| {
            state.record.vote = Some(vote);
            Ok(Request::Record { group: self.group.clone(), done })
        });
    }

    /// Remembers the committed position. It becomes durable with the group's next commit, or
    /// when the lane is closed, and costs none of its own.
    ///
    /// # Errors
    /// When this handle was replaced or the lane failed.
    pub fn save_committed(&self, position: Bytes) -> Result<(), StoreError> {
        let mut state = lock(&self.group.state);
        self.admit(&state, 0)?;
        state.record.committed = Some(position);
        Ok(())
    }

    /// Removes the entry at `from` and all behind it.
    pub fn truncate_from(&self, from: LogIndex, done: Done) {
        self.change(done, |state, done| {
            let from = from.0.max(state.record.purged + 1);
            state.truncate_from(from);
            Ok(Request::Truncate { group: self.group.clone(), from, done })
        });
    }

    /// Removes the entry at `index` and all before it, and remembers `position`. `done` is
    /// called when the purge is decided and durable; the file is cleaned in small steps later.
    pub fn purge_to(&self, index: LogIndex, position: Bytes, done: Done) {
        self.change(done, |state, done| {
            if index.0 <= state.record.purged {
                return Err(done);
            }
            state.purge_to(index.0, position);
            Ok(Request::Record { group: self.group.clone(), done })
        });
    }

    /// Entries in `range` that the log holds, from the first on: at most `bytes_max` bytes, but
    /// at least one entry when there is any.
    ///
    /// # Errors
    /// When the file cannot be read or an entry is missing in the middle.
    pub fn read(
        &self,
        range: Range<LogIndex>,
        bytes_max: usize,
    ) -> Result<Vec<(LogIndex, Bytes)>, StoreError> {
        let state = lock(&self.group.state);
        let from = range.start.0.max(state.first);
        let to = range.end.0.min(state.last + 1);
        let mut page = Page { next: from, bytes_left: bytes_max, entries: Vec::new() };
        let tail_start = state.tail_start();
        let tail: Vec<Bytes> = (from.max(tail_start)..to)
            .map(|index| state.tail[(index - tail_start) as usize].bytes.clone())
            .collect();
        // What the tail does not hold is durable. The snapshot is taken under the lock, so that
        // no truncation comes between.
        let in_file = from < to.min(tail_start);
        let snapshot = in_file.then(|| self.snapshot());
        drop(state);
        let complete = match snapshot {
            Some(snapshot) => snapshot
                .and_then(|snapshot| self.read_file(&mut page, to.min(tail_start), &snapshot))
                .inspect_err(|error| self.fail_lane(error))?,
            None => true,
        };
        if complete {
            let _ = tail.into_iter().all(|bytes| page.push(bytes));
        }
        Ok(page.entries)
    }

    /// redb refuses everything after an I/O error until the file is opened again, and on an idle lane
    /// nobody else would meet it.
    fn fail_lane(&self, error: &StoreError) {
        if matches!(error, StoreError::Io(_)) && self.lane.failure.get().is_none() {
            drop(self.lane.submit(Request::Fail(error.clone())));
            self.lane.work_inline();
        }
    }

    fn snapshot(&self) -> Result<ReadTransaction, StoreError> {
        let database = self.lane.database();
        let Some(database) = database.as_ref() else { return Err(self.lane.gone()) };
        database.begin_read().map_err(|error| store_error(&self.lane.path, error))
    }

    /// Reads entries until `to`; false when the page is full.
    fn read_file(
        &self,
        page: &mut Page,
        to: u64,
        snapshot: &ReadTransaction,
    ) -> Result<bool, StoreError> {
        let (low, high) = (entry_key(self.group.id, page.next), entry_key(self.group.id, to));
        let mut read = || -> Result<bool, redb::Error> {
            let table = snapshot.open_table(ENTRIES)?;
            for entry in table.range(low.as_slice()..high.as_slice())? {
                let (key, value) = entry?;
                if key.value() != entry_key(self.group.id, page.next) {
                    break;
                }
                if !page.push(Bytes::copy_from_slice(value.value())) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let complete = read().map_err(|error| store_error(&self.lane.path, error))?;
        if complete && page.next != to {
            return Err(self.hole(page.next));
        }
        Ok(complete)
    }

    /// What the log holds.
    pub fn state(&self) -> GroupLogState {
        let state = lock(&self.group.state);
        GroupLogState {
            first: LogIndex(state.first),
            last: LogIndex(state.last),
            purged: LogIndex(state.record.purged),
            purged_position: state.record.purged_position.clone(),
            vote: state.record.vote.clone(),
            committed: state.record.committed.clone(),
        }
    }

    /// Changes the state and queues what makes the change durable; `change` gives the answer
    /// back when there is nothing to do. No callback runs under the lock.
    fn change(
        &self,
        done: Done,
        change: impl FnOnce(&mut GroupState, Answer) -> Result<Request, Answer>,
    ) {
        let done = Answer::new(done);
        let mut state = lock(&self.group.state);
        if let Err(error) = self.admit(&state, 0) {
            drop(state);
            return done.send(Err(error));
        }
        let queued = change(&mut state, done).map(|request| self.lane.submit(request));
        drop(state);
        match queued {
            Ok(refused) => drop(refused),
            Err(done) => done.send(Ok(())),
        }
        self.lane.work_inline();
    }

    fn admit(&self, state: &GroupState, bytes: usize) -> Result<(), StoreError> {
        if let Some(failure) = self.lane.failure.get() {
            return Err(failure.clone());
        }
        if state.incarnation != self.incarnation {
            return Err(StoreError::Fenced);
        }
        let queued = self.lane.queued_bytes.load(Ordering::Relaxed);
        if bytes > 0 && queued > self.lane.options.queue_bytes_max {
            return Err(StoreError::Io("the queue of the log lane is full".into()));
        }
        Ok(())
    }

    fn hole(&self, index: u64) -> StoreError {
        let group = self.group.id.0;
        StoreError::Damaged {
            path: self.lane.path.clone(),
            detail: format!("entry {index} of group {group} is missing"),
        }
    }
}

impl Page {
    /// Adds an entry if it fits, or if it is the first.
    fn push(&mut self, bytes: Bytes) -> bool {
        if bytes.len() > self.bytes_left && !self.entries.is_empty() {
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes.len());
        self.entries.push((LogIndex(self.next), bytes));
        self.next += 1;
        true
    }
}

impl GroupShared {
    pub fn load(lane: &LaneShared, id: GroupId) -> Result<Self, StoreError> {
        let database = lane.database();
        let Some(database) = database.as_ref() else { return Err(lane.gone()) };
        let (record, ends) = file::load_group(&lane.path, database, id)?;
        let (first, last) = ends.unwrap_or((record.purged + 1, record.purged));
        let state = GroupState {
            incarnation: 0,
            first,
            last,
            record: record.clone(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            appends: 0,
            durable: 0,
        };
        Ok(Self { id, loaded: record, state: Mutex::new(state) })
    }

    /// From now on, only the handle of this incarnation may write (L5).
    pub fn fence(&self, incarnation: u64) {
        let mut state = lock(&self.state);
        state.incarnation = state.incarnation.max(incarnation);
    }

    /// What the file should hold of the group beside its entries.
    pub fn record(&self) -> GroupRecord {
        lock(&self.state).record.clone()
    }

    /// Everything up to this append is durable and may leave memory.
    pub fn set_durable(&self, append: u64, tail_bytes_max: usize) {
        let mut state = lock(&self.state);
        state.durable = state.durable.max(append);
        while state.tail_bytes > tail_bytes_max {
            let Some(front) = state.tail.front() else { break };
            if front.append > state.durable {
                break;
            }
            state.pop_front();
        }
    }
}

impl GroupState {
    fn tail_start(&self) -> u64 {
        self.last + 1 - self.tail.len() as u64
    }

    fn is_empty(&self) -> bool {
        self.first > self.last
    }

    fn check_append(&self, entries: &[(LogIndex, Bytes)]) -> Result<(), StoreError> {
        let Some((first, _)) = entries.first() else { return Ok(()) };
        // An empty log may begin anywhere behind what was purged: a snapshot came before.
        let follows = if self.is_empty() { first.0 > self.last } else { first.0 == self.last + 1 };
        let consecutive = entries.windows(2).all(|pair| pair[1].0 == pair[0].0.next());
        if !follows || !consecutive {
            let detail = format!("an append at {} after {} leaves a hole", first.0, self.last);
            return Err(StoreError::Io(detail));
        }
        if entries.iter().any(|(_, bytes)| bytes.len() > ENTRY_BYTES_MAX) {
            return Err(StoreError::Io(format!("an entry is larger than {ENTRY_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    fn append(&mut self, entries: &[(LogIndex, Bytes)]) {
        self.appends += 1;
        if let Some((first, _)) = entries.first().filter(|_| self.is_empty()) {
            self.first = first.0;
        }
        for (index, bytes) in entries {
            self.last = index.0;
            self.tail_bytes += bytes.len();
            self.tail.push_back(TailEntry { append: self.appends, bytes: bytes.clone() });
        }
    }

    fn truncate_from(&mut self, from: u64) {
        while self.last >= from {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= entry.bytes.len();
                self.last -= 1;
            } else {
                self.last = from - 1;
            }
        }
        if self.is_empty() {
            self.last = self.record.purged;
            self.first = self.last + 1;
        }
    }

    fn purge_to(&mut self, index: u64, position: Bytes) {
        self.record.purged = index;
        self.record.purged_position = position;
        while !self.tail.is_empty() && self.tail_start() <= index {
            self.pop_front();
        }
        self.first = self.first.max(index + 1);
        self.last = self.last.max(index);
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.tail.pop_front() {
            self.tail_bytes -= entry.bytes.len();
        }
    }
}
