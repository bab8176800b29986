//! What openraft is configured with, and how its types look on disk.
//!
//! openraft changes its types between releases, so none of them is ever serialised: each has a
//! [`Record`] here.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft::{
    EmptyNode, EntryPayload, LogId, Membership, OptionalSend, RaftTypeConfig, StoredMembership,
};
use serde::{Deserialize, Serialize};

use crate::actors::replica::port::ProposeError;
use crate::ids::LogIndex;
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;

pub(super) type RaftLogId = LogId<LeaderId<u64, u64>>;
pub(super) type RaftVote = openraft::Vote<LeaderId<u64, u64>>;
pub(super) type RaftEntry = openraft::Entry<LeaderId<u64, u64>, Payload>;
pub(super) type RaftMembership = StoredMembership<LeaderId<u64, u64>, u64, EmptyNode>;
type Payload = EntryPayload<Batch, u64, EmptyNode>;

/// What openraft runs on: tokio, with the chance of its timers (when an election is due, and in which
/// phase of its period the clock ticks) from a seed and not from the thread. Whoever calls what begins
/// tasks or draws, which `Raft::new` does, is within `Runtime::scope(seed, …)`, or openraft panics;
/// the tasks that it begins inherit.
pub(super) type Runtime = DeterministicRng<openraft::impls::TokioRuntime>;

/// The type configuration. By hand, because the macro cannot name a responder of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Batch;
    type R = ();
    type NodeId = u64;
    /// Addresses of nodes are the cluster's business.
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = RaftVote;
    type Payload = Payload;
    type Entry = RaftEntry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = ProposalResponder
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// What the shard proposed; opaque here.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch(pub Bytes);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Batches hold what users wrote, which must not get into a log.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes)", self.0.len())
    }
}

type Failed = Box<dyn FnOnce(ProposeError) + Send>;

/// Waits for the fate of a proposal. Being dropped is a fate, too: openraft drops responders
/// when it stops.
pub(super) struct ProposalResponder(Option<Failed>);

impl ProposalResponder {
    pub fn new(failed: Failed) -> Self {
        Self(Some(failed))
    }

    fn fail(&mut self, error: ProposeError) {
        if let Some(failed) = self.0.take() {
            failed(error);
        }
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for ProposalResponder {
    fn on_complete(mut self, result: T) {
        let result: &dyn Any = &result;
        match result.downcast_ref::<ClientWriteResult<TypeConfig>>() {
            // Committed: it has arrived at the applier.
            Some(Ok(_)) => self.0 = None,
            Some(Err(openraft::error::ClientWriteError::ForwardToLeader(_))) => {
                self.fail(ProposeError::NotLeader);
            }
            // Discarded by a change of leader: another node may have it.
            Some(Err(_)) | None => self.fail(ProposeError::Stopped),
        }
    }
}

impl Drop for ProposalResponder {
    fn drop(&mut self) {
        self.fail(ProposeError::Stopped);
    }
}

/// Position in Quire's counting.
pub(super) fn log_index(raft_index: u64) -> LogIndex {
    LogIndex(raft_index + 1)
}

/// The reverse of [`log_index`], for a position that is not "nothing yet".
pub(super) fn raft_index(index: LogIndex) -> u64 {
    index.0.saturating_sub(1)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct LogIdRecord {
    term: u64,
    node: u64,
    index: u64,
}

impl Record for LogIdRecord {
    const KIND: u8 = 10;
}

impl From<&RaftLogId> for LogIdRecord {
    fn from(id: &RaftLogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdRecord> for RaftLogId {
    fn from(record: LogIdRecord) -> Self {
        LogId {
            leader_id: LeaderId { term: record.term, node_id: record.node },
            index: record.index,
        }
    }
}

pub(super) fn encode_log_id(id: &RaftLogId) -> Bytes {
    codec::encode(&LogIdRecord::from(id)).into()
}

pub(super) fn decode_log_id(bytes: &[u8]) -> Result<RaftLogId, StoreError> {
    Ok(codec::decode::<LogIdRecord>(bytes)?.into())
}

#[derive(Serialize, Deserialize)]
struct VoteRecord {
    term: u64,
    node: u64,
    committed: bool,
}

impl Record for VoteRecord {
    const KIND: u8 = 9;
}

pub(super) fn encode_vote(vote: &RaftVote) -> Bytes {
    let LeaderId { term, node_id } = vote.leader_id;
    codec::encode(&VoteRecord { term, node: node_id, committed: vote.committed }).into()
}

pub(super) fn decode_vote(bytes: &[u8]) -> Result<RaftVote, StoreError> {
    let VoteRecord { term, node, committed } = codec::decode(bytes)?;
    Ok(RaftVote { leader_id: LeaderId { term, node_id: node }, committed })
}

/// Who votes (two sets while the membership changes) and who only listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct MembershipRecord {
    voters: Vec<BTreeSet<u64>>,
    nodes: BTreeSet<u64>,
}

impl Record for MembershipRecord {
    const KIND: u8 = 11;
}

impl From<&Membership<u64, EmptyNode>> for MembershipRecord {
    fn from(membership: &Membership<u64, EmptyNode>) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(id, _)| *id).collect(),
        }
    }
}

impl From<MembershipRecord> for Membership<u64, EmptyNode> {
    fn from(record: MembershipRecord) -> Self {
        Self::new_with_defaults(record.voters, record.nodes)
    }
}

/// How far state has come, as it is stored with the state: the entry and the members by then.
#[derive(Serialize, Deserialize)]
struct PositionRecord {
    log_id: LogIdRecord,
    membership_log_id: Option<LogIdRecord>,
    membership: MembershipRecord,
}

impl Record for PositionRecord {
    const KIND: u8 = 12;
}

pub(super) fn encode_position(log_id: &RaftLogId, membership: &RaftMembership) -> Bytes {
    let record = PositionRecord {
        log_id: log_id.into(),
        membership_log_id: membership.log_id().as_ref().map(LogIdRecord::from),
        membership: membership.membership().into(),
    };
    codec::encode(&record).into()
}

/// The reverse of [`encode_position`]; no bytes are the position before the first entry.
pub(super) fn decode_position(
    bytes: &[u8],
) -> Result<(Option<RaftLogId>, RaftMembership), StoreError> {
    if bytes.is_empty() {
        return Ok((None, RaftMembership::default()));
    }
    let record: PositionRecord = codec::decode(bytes)?;
    let membership = RaftMembership::new(
        record.membership_log_id.map(RaftLogId::from),
        record.membership.into(),
    );
    Ok((Some(record.log_id.into()), membership))
}

#[derive(Serialize, Deserialize)]
enum BodyKind {
    Blank,
    Batch,
    Membership,
}

/// Precedes the body of an entry, which stays outside so that it is not copied when read.
#[derive(Serialize, Deserialize)]
struct EntryHeader {
    log_id: LogIdRecord,
    body: BodyKind,
}

impl Record for EntryHeader {
    const KIND: u8 = 8;
}

/// An entry on the log: one byte, the length of the header; the header; the body.
pub(super) fn encode_entry(entry: &RaftEntry) -> Bytes {
    let (body, bytes) = match &entry.payload {
        EntryPayload::Blank => (BodyKind::Blank, Bytes::new()),
        EntryPayload::Normal(batch) => (BodyKind::Batch, batch.0.clone()),
        EntryPayload::Membership(membership) => {
            (BodyKind::Membership, codec::encode(&MembershipRecord::from(membership)).into())
        }
    };
    let header = codec::encode(&EntryHeader { log_id: (&entry.log_id).into(), body });
    let header_bytes = u8::try_from(header.len()).expect("four numbers need less than 40 bytes");
    let mut encoded = Vec::with_capacity(1 + header.len() + bytes.len());
    encoded.push(header_bytes);
    encoded.extend_from_slice(&header);
    encoded.extend_from_slice(&bytes);
    encoded.into()
}

/// The reverse of [`encode_entry`]; a batch shares its memory with `bytes`.
pub(super) fn decode_entry(index: LogIndex, bytes: &Bytes) -> Result<RaftEntry, StoreError> {
    let malformed = |detail: &str| StoreError::Damaged {
        path: PathBuf::new(),
        detail: format!("entry {}: {detail}", index.0),
    };
    let header_end = 1 + usize::from(*bytes.first().ok_or_else(|| malformed("no header"))?);
    let header = bytes.get(1..header_end).ok_or_else(|| malformed("its header is cut"))?;
    let header: EntryHeader = codec::decode(header)?;
    if log_index(header.log_id.index) != index {
        return Err(malformed("another entry is in its place"));
    }
    let body = bytes.slice(header_end..);
    let payload = match header.body {
        BodyKind::Blank if body.is_empty() => EntryPayload::Blank,
        BodyKind::Blank => return Err(malformed("a blank entry has a body")),
        BodyKind::Batch => EntryPayload::Normal(Batch(body)),
        BodyKind::Membership => {
            EntryPayload::Membership(codec::decode::<MembershipRecord>(&body)?.into())
        }
    };
    Ok(RaftEntry { log_id: header.log_id.into(), payload })
}

/// Hands an error of the store through openraft, which wants one of the operating system.
pub(super) fn to_io_error(error: StoreError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> RaftLogId {
        LogId { leader_id: LeaderId { term, node_id: 7 }, index }
    }

    #[test]
    fn golden_bytes_stay() {
        let membership = Membership::new_with_defaults(vec![BTreeSet::from([7, 8])], [9]);
        let entry = |payload| encode_entry(&RaftEntry { log_id: id(3, 4), payload });
        assert_eq!(entry(EntryPayload::Blank)[..], [6, 8, 1, 3, 7, 4, 0]);
        let batch = EntryPayload::Normal(Batch(Bytes::from_static(b"ab")));
        assert_eq!(entry(batch)[..], [6, 8, 1, 3, 7, 4, 1, b'a', b'b']);
        let members = [6, 8, 1, 3, 7, 4, 2, 11, 1, 1, 2, 7, 8, 3, 7, 8, 9];
        assert_eq!(entry(EntryPayload::Membership(membership.clone()))[..], members);
        let stored = RaftMembership::new(Some(id(1, 0)), membership);
        let position = [12, 1, 3, 7, 4, 1, 1, 7, 0, 1, 2, 7, 8, 3, 7, 8, 9];
        assert_eq!(encode_position(&id(3, 4), &stored)[..], position);
        assert_eq!(decode_position(&position).unwrap(), (Some(id(3, 4)), stored));
        let vote = RaftVote { leader_id: LeaderId { term: 3, node_id: 7 }, committed: true };
        assert_eq!(encode_vote(&vote)[..], [9, 1, 3, 7, 1]);
        assert_eq!(decode_vote(&[9, 1, 3, 7, 1]).unwrap(), vote);
        assert_eq!(encode_log_id(&id(3, 4))[..], [10, 1, 3, 7, 4]);
    }

    #[test]
    fn entries_come_back_and_damage_is_told() {
        let batch = Batch(Bytes::from_static(b"body"));
        let entry = RaftEntry { log_id: id(3, 4), payload: EntryPayload::Normal(batch.clone()) };
        let bytes = encode_entry(&entry);
        let EntryPayload::Normal(found) = decode_entry(LogIndex(5), &bytes).unwrap().payload else {
            panic!("a batch was written");
        };
        assert_eq!(found, batch);
        assert!(bytes.as_ptr_range().contains(&found.0.as_ptr()), "the body is not copied");
        assert!(decode_entry(LogIndex(6), &bytes).is_err());
        for end in 0..7 {
            assert!(decode_entry(LogIndex(5), &bytes.slice(..end)).is_err(), "{end}");
        }
    }
}
