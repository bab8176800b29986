//! The work of a lane, on its thread or inline: takes what waits, commits once, answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};

use bytes::Bytes;
use redb::{Durability, ReadableDatabase, ReadableTable, Table};

use crate::ids::{GroupId, LogIndex};
use crate::seams::time;
use crate::store::codec;
use crate::store::error::StoreError;
use crate::store::file::store_error;
use crate::store::log::file::{ENTRIES, GROUPS, GroupRecord, entry_key};
use crate::store::log::group::GroupShared;
use crate::store::log::lane::{LaneShared, lock};

/// Called exactly once, on the lane's thread (or the caller's, when refused at once). All groups
/// of the lane wait for it: it must be quick.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Bytes of entries in one commit; what waits beyond it goes to the next one.
const COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Requests in one commit.
const COMMIT_REQUESTS_MAX: usize = 4096;
/// A purge on an idle lane takes chunks this many times as large as one that rides along.
const IDLE_PURGE_FACTOR: usize = 4;

/// A callback that is called even when its request is lost (L6).
pub(super) struct Answer(Option<Done>);

impl Answer {
    pub fn new(done: Done) -> Self {
        Self(Some(done))
    }

    pub fn send(mut self, result: Result<(), StoreError>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(StoreError::Stopped));
        }
    }
}

/// What the thread is asked for. The state of the group has changed already.
pub(super) enum Request {
    /// Write entries.
    Append {
        group: Arc<GroupShared>,
        append: u64,
        entries: Vec<(LogIndex, Bytes)>,
        bytes: usize,
        done: Answer,
    },
    /// Remove entries at the end.
    Truncate { group: Arc<GroupShared>, from: u64, done: Answer },
    /// Write the group's record (a vote, a purge).
    Record { group: Arc<GroupShared>, done: Answer },
    /// A reader has met this error; redb latches it, so the lane must be opened again.
    Fail(StoreError),
    /// Answer when all that was asked before is durable.
    Barrier { group: Arc<GroupShared>, done: Answer },
    /// Stop.
    Close,
}

impl Request {
    pub fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => *bytes,
            Self::Truncate { .. }
            | Self::Record { .. }
            | Self::Fail(_)
            | Self::Barrier { .. }
            | Self::Close => 0,
        }
    }

    fn group(&self) -> Option<&Arc<GroupShared>> {
        match self {
            Self::Append { group, .. }
            | Self::Truncate { group, .. }
            | Self::Record { group, .. }
            | Self::Barrier { group, .. } => Some(group),
            Self::Fail(_) | Self::Close => None,
        }
    }

    fn answer(self, result: Result<(), StoreError>) {
        match self {
            Self::Append { done, .. }
            | Self::Truncate { done, .. }
            | Self::Record { done, .. }
            | Self::Barrier { done, .. } => done.send(result),
            Self::Fail(_) | Self::Close => {}
        }
    }
}

/// The state of the thread.
pub(super) struct Writer {
    shared: Arc<LaneShared>,
    requests: Receiver<Request>,
    /// Records as they are in the file, as far as they were written by this thread.
    written: HashMap<GroupId, GroupRecord>,
    /// How far entries before the purged position are known to be removed from the file.
    cleaned: HashMap<GroupId, u64>,
    /// Purges that are under way: up to which entry.
    purges: BTreeMap<GroupId, u64>,
}

impl Writer {
    pub fn new(shared: Arc<LaneShared>, requests: Receiver<Request>) -> Self {
        Self {
            shared,
            requests,
            written: HashMap::new(),
            cleaned: HashMap::new(),
            purges: BTreeMap::new(),
        }
    }

    /// Runs until the lane is closed or fails: the life of its thread.
    pub fn run(mut self) {
        // Should this thread panic, the lane must not look healthy.
        let _guard = FailOnPanic(self.shared.clone());
        loop {
            let first = if self.purges.is_empty() {
                self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.requests.recv_timeout(self.shared.options.purge_pause)
            };
            match self.turn(first) {
                Some(writer) => self = writer,
                None => return,
            }
        }
    }

    /// Does all that waits, purges to their end, and returns: a lane without a thread. `None` when
    /// the lane was closed or has failed.
    pub fn work(mut self) -> Option<Self> {
        let _guard = FailOnPanic(self.shared.clone());
        loop {
            let first = match self.requests.try_recv() {
                Ok(request) => Ok(request),
                Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) if self.purges.is_empty() => return Some(self),
                Err(TryRecvError::Empty) => Err(RecvTimeoutError::Timeout),
            };
            self = self.turn(first)?;
        }
    }

    /// One commit: of `first` and what waits behind it, or of a part of a purge.
    fn turn(mut self, first: Result<Request, RecvTimeoutError>) -> Option<Self> {
        let mut batch = Vec::new();
        let open = self.take(first, &mut batch);
        if let Err(error) = self.commit(&mut batch, open) {
            self.fail(error, batch);
            return None;
        }
        if !open {
            self.shared.release();
            return None;
        }
        Some(self)
    }

    /// Takes what waits. False when the lane shall be closed.
    fn take(&mut self, first: Result<Request, RecvTimeoutError>, batch: &mut Vec<Request>) -> bool {
        let mut next = match first {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let mut bytes = 0;
        while let Some(request) = next {
            self.shared.taken(&request);
            if matches!(request, Request::Close) {
                return false;
            }
            bytes += request.bytes();
            batch.push(request);
            let full = bytes >= COMMIT_BYTES_MAX || batch.len() >= COMMIT_REQUESTS_MAX;
            next = if full { None } else { self.requests.try_recv().ok() };
        }
        true
    }

    /// Makes the batch durable and answers it. Leaves it untouched on failure.
    fn commit(&mut self, batch: &mut Vec<Request>, open: bool) -> Result<(), StoreError> {
        let failed = |request: &Request| match request {
            Request::Fail(error) => Some(error.clone()),
            _ => None,
        };
        if let Some(error) = batch.iter().find_map(failed) {
            return Err(error);
        }
        let mut groups: BTreeMap<GroupId, Arc<GroupShared>> = batch
            .iter()
            .filter_map(|request| request.group())
            .map(|group| (group.id, group.clone()))
            .collect();
        if !open {
            // The last chance for committed positions, which have no request of their own.
            groups.extend(lock(&self.shared.groups).iter().map(|(id, group)| (*id, group.clone())));
        }
        let mut records = Vec::new();
        for (id, group) in groups {
            let record = group.record();
            // Entries are removed no earlier than in the commit that says so.
            if record.purged > self.cleaned.get(&id).copied().unwrap_or(0) {
                self.purges.insert(id, record.purged);
            }
            if self.written.entry(id).or_insert_with(|| group.loaded.clone()) != &record {
                records.push((id, record));
            }
        }
        let bytes = batch.iter().map(Request::bytes).sum::<usize>();
        let writes = batch.iter().any(|request| !matches!(request, Request::Barrier { .. }));
        self.skip_finished_purges()?;
        if writes || !records.is_empty() || (batch.is_empty() && !self.purges.is_empty()) {
            let started = time::mark();
            *lock(&self.shared.committing) = Some(started);
            let written = self.write(batch, &records, bytes);
            *lock(&self.shared.committing) = None;
            written?;
            if let Some(observer) = &self.shared.options.observer {
                observer.committed(batch.len(), bytes, started.elapsed());
            }
            self.written.extend(records);
        }
        for request in batch.iter() {
            if let Request::Append { group, append, .. } = request {
                group.set_durable(*append, self.shared.options.tail_bytes);
            }
        }
        batch.drain(..).for_each(|request| request.answer(Ok(())));
        Ok(())
    }

    /// One transaction, one fsync. Nothing in here may panic: a panic that unwinds through a
    /// write transaction leaks pages.
    fn write(
        &mut self,
        batch: &[Request],
        records: &[(GroupId, GroupRecord)],
        bytes: usize,
    ) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let database = shared.database();
        let Some(database) = database.as_ref() else { return Err(shared.gone()) };
        let chunk = self.shared.options.purge_chunk_bytes;
        // While the lane is busy a purge must still be faster than the appends.
        let purge_bytes =
            if batch.is_empty() { chunk * IDLE_PURGE_FACTOR } else { chunk.max(2 * bytes) };
        let mut write = || -> Result<(), redb::Error> {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            {
                let mut entries = transaction.open_table(ENTRIES)?;
                for request in batch {
                    apply(&mut entries, request)?;
                }
                self.purge(&mut entries, purge_bytes)?;
                let mut table = transaction.open_table(GROUPS)?;
                for (id, record) in records {
                    let key = id.0.to_be_bytes();
                    table.insert(key.as_slice(), codec::encode(record).as_slice())?;
                }
            }
            Ok(transaction.commit()?)
        };
        write().map_err(|error| store_error(&shared.path, error))
    }

    /// Removes about `bytes_max` bytes of what is to be purged.
    fn purge(
        &mut self,
        entries: &mut Table<'_, &[u8], &[u8]>,
        bytes_max: usize,
    ) -> Result<(), redb::Error> {
        let Some((&id, &upto)) = self.purges.first_key_value() else { return Ok(()) };
        let (low, high) = (entry_key(id, 0), entry_key(id, upto));
        let mut bytes = 0;
        let mut last = None;
        for entry in entries.range(low.as_slice()..=high.as_slice())? {
            let (key, value) = entry?;
            bytes += value.value().len() + high.len();
            last = Some(key.value().to_vec());
            if bytes >= bytes_max {
                break;
            }
        }
        if let Some(last) = last {
            entries.retain_in(low.as_slice()..=last.as_slice(), |_, _| false)?;
        }
        if bytes < bytes_max {
            self.purges.remove(&id);
            self.cleaned.insert(id, upto);
        }
        Ok(())
    }

    /// Drops purges that have nothing left to do, so that they cost no commit.
    fn skip_finished_purges(&mut self) -> Result<(), StoreError> {
        while let Some((&id, &upto)) = self.purges.first_key_value() {
            let (low, high) = (entry_key(id, 0), entry_key(id, upto));
            let database = self.shared.database();
            let Some(database) = database.as_ref() else { return Err(self.shared.gone()) };
            let has_entries = || -> Result<bool, redb::Error> {
                let entries = database.begin_read()?.open_table(ENTRIES)?;
                Ok(entries.range(low.as_slice()..=high.as_slice())?.next().transpose()?.is_some())
            };
            if has_entries().map_err(|error| store_error(&self.shared.path, error))? {
                return Ok(());
            }
            self.purges.remove(&id);
            self.cleaned.insert(id, upto);
        }
        Ok(())
    }

    /// Answers everything with the error and frees the file, so that a successor can open it.
    fn fail(self, error: StoreError, batch: Vec<Request>) {
        tracing::error!(path = %self.shared.path.display(), %error, "a log lane failed");
        let _ = self.shared.failure.set(error.clone());
        self.shared.release();
        batch.into_iter().for_each(|request| request.answer(Err(error.clone())));
        while let Ok(request) = self.requests.try_recv() {
            self.shared.taken(&request);
            request.answer(Err(error.clone()));
        }
        if let Some(observer) = &self.shared.options.observer {
            observer.failed(&error);
        }
    }
}

fn apply(entries: &mut Table<'_, &[u8], &[u8]>, request: &Request) -> Result<(), redb::Error> {
    match request {
        Request::Append { group, entries: appended, .. } => {
            for (index, bytes) in appended {
                entries.insert(entry_key(group.id, index.0).as_slice(), bytes.as_ref())?;
            }
        }
        Request::Truncate { group, from, .. } => {
            let (low, high) = (entry_key(group.id, *from), entry_key(group.id, u64::MAX));
            entries.retain_in(low.as_slice()..=high.as_slice(), |_, _| false)?;
        }
        Request::Record { .. } | Request::Barrier { .. } | Request::Fail(_) | Request::Close => {}
    }
    Ok(())
}

struct FailOnPanic(Arc<LaneShared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = StoreError::Io("the log lane's thread panicked".into());
            let _ = self.0.failure.set(error.clone());
            self.0.release();
            if let Some(observer) = &self.0.options.observer {
                observer.failed(&error);
            }
        }
    }
}
