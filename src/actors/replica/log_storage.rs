//! openraft's log over the log of a group on a lane.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, OnceLock};

use futures_util::stream::{self, Stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use crate::actors::replica::types::{
    RaftEntry, RaftLogId, RaftVote, TypeConfig, decode_entry, decode_log_id, decode_vote,
    encode_entry, encode_log_id, encode_vote, log_index, to_io_error,
};
use crate::ids::LogIndex;
use crate::store::error::StoreError;
use crate::store::file::named;
use crate::store::log::{Done, GroupLog};

/// Entries that are read at once on their way to the applier or, later, to a peer.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// The log of a replica. Clones read and write the same log.
#[derive(Clone)]
pub(super) struct LogStore(pub GroupLog, Arc<OnceLock<StoreError>>);

impl LogStore {
    pub fn new(log: GroupLog) -> Self {
        Self(log, Arc::default())
    }

    /// Why the log could not be read, if so. openraft keeps only the text of what it is told.
    pub fn failure(&self) -> Option<StoreError> {
        self.1.get().cloned()
    }

    /// Decoded entries; `bytes_max` as in [`GroupLog::read`].
    pub fn entries(
        &self,
        range: Range<LogIndex>,
        bytes_max: usize,
    ) -> Result<Vec<RaftEntry>, StoreError> {
        let decode = |entries: Vec<(LogIndex, _)>| {
            entries.iter().map(|(index, bytes)| decode_entry(*index, bytes)).collect()
        };
        self.noted(self.0.read(range, bytes_max).and_then(decode))
    }

    /// Names the file in an error, and keeps the first for [`Self::failure`].
    fn noted<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        read.map_err(|error| named(self.0.path(), error)).inspect_err(|error| {
            let _ = self.1.set(error.clone());
        })
    }

    fn last_log_id(&self) -> Result<Option<RaftLogId>, StoreError> {
        let state = self.0.state();
        let last = self.entries(state.last..state.last.next(), 1)?.pop();
        match last {
            Some(entry) => Ok(Some(entry.log_id)),
            None => self.purged_log_id(),
        }
    }

    fn purged_log_id(&self) -> Result<Option<RaftLogId>, StoreError> {
        let state = self.0.state();
        if state.purged == LogIndex(0) {
            return Ok(None);
        }
        self.noted(decode_log_id(&state.purged_position)).map(Some)
    }
}

/// Calls an operation of the log and waits until it is durable.
async fn durable(operation: impl FnOnce(Done)) -> Result<(), io::Error> {
    let (answer, answered) = oneshot::channel();
    operation(Box::new(move |result| drop(answer.send(result))));
    answered.await.unwrap_or(Err(StoreError::Stopped)).map_err(to_io_error)
}

/// A range of openraft in Quire's counting.
fn log_range(range: &impl RangeBounds<u64>) -> Range<LogIndex> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX - 1,
    };
    log_index(start)..log_index(end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        self.entries(log_range(&range), usize::MAX).map_err(to_io_error)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        self.entries(log_range(&(start..end)), PAGE_BYTES_MAX).map_err(to_io_error)
    }

    /// In pages: what is to be applied after a long absence need not fit into memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<RaftEntry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let store = self.clone();
        let pages = stream::unfold(log_range(&range), move |range| {
            let page = store.entries(range.clone(), PAGE_BYTES_MAX).map_err(to_io_error);
            let (items, rest): (Vec<_>, _) = match page {
                Ok(entries) => {
                    let next = entries
                        .last()
                        .map_or(range.end, |last| log_index(last.log_id.index).next());
                    (entries.into_iter().map(Ok).collect(), next..range.end)
                }
                Err(error) => (vec![Err(error)], range.end..range.end),
            };
            let page = (!items.is_empty()).then(|| (stream::iter(items), rest));
            std::future::ready(page)
        });
        futures_util::StreamExt::flatten(pages)
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        let vote = self.0.state().vote.map(|vote| decode_vote(&vote)).transpose();
        self.noted(vote).map_err(to_io_error)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let last_purged_log_id = self.purged_log_id().map_err(to_io_error)?;
        let last_log_id = self.last_log_id().map_err(to_io_error)?;
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        durable(|done| self.0.save_vote(encode_vote(vote), done)).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        self.0.save_committed(encode_log_id(&committed)).map_err(to_io_error)
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, io::Error> {
        let Some(committed) = self.0.state().committed else { return Ok(None) };
        let committed = self.noted(decode_log_id(&committed)).map_err(to_io_error)?;
        // A follower may learn that an entry is committed before the entry is durable here. What
        // the log then holds is committed as far as it goes.
        let last = self.last_log_id().map_err(to_io_error)?;
        Ok(last.map(|last| if last.index < committed.index { last } else { committed }))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries
            .into_iter()
            .map(|entry| (log_index(entry.log_id.index), encode_entry(&entry)))
            .collect();
        let done = move |result: Result<(), StoreError>| {
            callback.io_completed(result.map_err(to_io_error));
        };
        self.0.append(entries, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<RaftLogId>) -> Result<(), io::Error> {
        let from = last_log_id.map_or(log_index(0), |last| log_index(last.index).next());
        durable(|done| self.0.truncate_from(from, done)).await
    }

    /// Returns when the purge is decided; the lane removes the entries in small steps, so that
    /// neither this group nor its neighbours wait for it.
    async fn purge(&mut self, log_id: RaftLogId) -> Result<(), io::Error> {
        let position = encode_log_id(&log_id);
        durable(|done| self.0.purge_to(log_index(log_id.index), position, done)).await
    }
}
