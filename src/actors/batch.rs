//! What a shard writes to its log, and what becomes of it: batches of commands, and verdicts.
//!
//! An entry is 16 bytes by which the shard that proposed it recognises it, then the encoded
//! [`Batch`].

use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::actors::call::{CallError, Outcome};
use crate::actors::relay::message::RuntimeReply;
use crate::actors::shard::ReplyTo;
use crate::actors::state_machine::StateMachine;
use crate::ids::{CommandId, Stamp};
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;
use crate::store::file::damaged;

/// Bytes before the batch in an entry.
pub(super) const TAG_BYTES: usize = 16;

/// What is written to the log: many commands, one entry.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) commands: Vec<BatchedCommand>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BatchedCommand {
    pub(super) id: CommandId,
    pub(super) stamp: Stamp,
    pub(super) deadline: Stamp,
    pub(super) payload: Bytes,
}

impl Record for Batch {
    const KIND: u8 = 2;
}

impl Batch {
    /// The entry: the tag, then the batch.
    pub(super) fn to_entry(&self, tag: [u8; TAG_BYTES]) -> Bytes {
        let payload: usize = self.commands.iter().map(|command| command.payload.len() + 48).sum();
        let mut bytes = Vec::with_capacity(TAG_BYTES + payload);
        bytes.extend_from_slice(&tag);
        codec::encode_into(self, &mut bytes);
        bytes.into()
    }

    /// The batch of an entry, whose memory its commands share.
    ///
    /// # Errors
    /// When the entry was not made by [`Self::to_entry`].
    pub(super) fn of_entry(entry: &Bytes) -> Result<Self, StoreError> {
        let batch = entry.get(TAG_BYTES..).unwrap_or_default();
        let view = codec::decode_view::<Self, BatchView<'_>>(batch);
        let BatchView { commands } =
            view.map_err(|error| damaged(Path::new(""), format!("an entry of its log: {error}")))?;
        let commands = commands.into_iter().map(|command| BatchedCommand {
            id: command.id,
            stamp: command.stamp,
            deadline: command.deadline,
            payload: entry.slice_ref(command.payload),
        });
        Ok(Self { commands: commands.collect() })
    }
}

/// A [`Batch`] in an entry.
#[derive(Deserialize)]
struct BatchView<'a> {
    #[serde(borrow)]
    commands: Vec<CommandView<'a>>,
}

/// A [`BatchedCommand`] in an entry.
#[derive(Deserialize)]
struct CommandView<'a> {
    id: CommandId,
    stamp: Stamp,
    deadline: Stamp,
    payload: &'a [u8],
}

/// First byte of the outcome of a command that was replied to.
const REPLIED: u8 = 0;

/// What became of one command.
pub(super) enum Verdict<S: StateMachine> {
    Replied(S::Reply),
    Refused(S::Refusal),
    Expired,
    Poison,
    /// What became of an earlier sending under the same idempotency key.
    Replayed(Box<Verdict<S>>),
    /// The idempotency key belongs to another request.
    KeyReused,
    /// Of a command of the runtime; not remembered, for those may be applied twice.
    Runtime(RuntimeReply),
}

pub(super) fn answer<S: StateMachine>(
    reply: Option<ReplyTo<S>>,
    verdict: Result<Verdict<S>, StoreError>,
) {
    let reply = match reply {
        Some(ReplyTo::Caller(reply)) => reply,
        Some(ReplyTo::Runtime(reply)) => {
            // Otherwise dropped: nobody knows what became of it.
            if let Ok(Verdict::Runtime(verdict)) = verdict {
                let _ = reply.send(verdict);
            }
            return;
        }
        None => return,
    };
    let (verdict, replayed) = match verdict {
        Ok(Verdict::Replayed(earlier)) => (Ok(*earlier), true),
        verdict => (verdict, false),
    };
    let result = match verdict {
        Ok(Verdict::Replied(reply)) => Ok(reply),
        Ok(Verdict::Refused(refusal)) => Err(CallError::Refused(refusal)),
        Ok(Verdict::Expired) => Err(CallError::DeadlineExceeded),
        Ok(Verdict::KeyReused) => Err(CallError::KeyReused),
        Ok(Verdict::Poison | Verdict::Replayed(_) | Verdict::Runtime(_)) | Err(_) => {
            Err(CallError::Internal)
        }
    };
    let _ = reply.send(Outcome { result, replayed });
}

/// What is remembered of a reply.
pub(super) fn encode_replied<S: StateMachine>(reply: &S::Reply) -> Bytes {
    let payload = codec::encode(reply);
    let mut bytes = Vec::with_capacity(1 + payload.len());
    bytes.push(REPLIED);
    bytes.extend_from_slice(&payload);
    bytes.into()
}

pub(super) fn encode_verdict<S: StateMachine>(verdict: &Verdict<S>) -> Bytes {
    let (tag, payload) = match verdict {
        Verdict::Replied(reply) => return encode_replied::<S>(reply),
        Verdict::Refused(refusal) => (1, codec::encode(refusal)),
        Verdict::Expired => (2, Vec::new()),
        Verdict::Poison => (3, Vec::new()),
        Verdict::Replayed(_) | Verdict::KeyReused | Verdict::Runtime(_) => {
            unreachable!("not what became of a command of the service")
        }
    };
    let mut bytes = Vec::with_capacity(1 + payload.len());
    bytes.push(tag);
    bytes.extend_from_slice(&payload);
    bytes.into()
}

pub(super) fn decode_verdict<S: StateMachine>(bytes: &[u8]) -> Result<Verdict<S>, StoreError> {
    match bytes {
        [REPLIED, payload @ ..] => Ok(Verdict::Replied(codec::decode(payload)?)),
        [1, payload @ ..] => Ok(Verdict::Refused(codec::decode(payload)?)),
        [2] => Ok(Verdict::Expired),
        [3] => Ok(Verdict::Poison),
        _ => Err(codec::CodecError::Malformed("unknown outcome".into()).into()),
    }
}

/// FNV-1a over the outcome, continued from the digest so far.
pub(super) fn chain(digest: u64, outcome: &[u8]) -> u64 {
    outcome.iter().fold(digest ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batches() -> impl Strategy<Value = Batch> {
        let payload = proptest::collection::vec(any::<u8>(), 0..40);
        let command = (any::<[u8; 16]>(), any::<u64>(), any::<u64>(), payload);
        let command = command.prop_map(|(id, stamp, deadline, payload)| BatchedCommand {
            id: CommandId(id),
            stamp: Stamp(stamp),
            deadline: Stamp(deadline),
            payload: payload.into(),
        });
        proptest::collection::vec(command, 0..5).prop_map(|commands| Batch { commands })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn an_entry_is_read_as_it_was_written_without_a_copy(batch in batches(), tag: [u8; 16]) {
            let entry = batch.to_entry(tag);
            let read = Batch::of_entry(&entry).unwrap();
            prop_assert_eq!(&read, &batch);
            let memory = entry.as_ptr_range();
            for command in read.commands.iter().filter(|command| !command.payload.is_empty()) {
                prop_assert!(memory.contains(&command.payload.as_ptr()));
            }
        }

        #[test]
        fn any_entry_is_a_batch_exactly_where_its_bytes_are_one(
            batch in batches(),
            changed: proptest::sample::Index,
            byte: u8,
            cut: proptest::sample::Index,
        ) {
            let mut entry = batch.to_entry([0; TAG_BYTES]).to_vec();
            let place = changed.index(entry.len());
            entry[place] = byte;
            entry.truncate(entry.len() - cut.index(entry.len()) / 4);
            let entry = Bytes::from(entry);
            let owned = codec::decode::<Batch>(entry.get(TAG_BYTES..).unwrap_or_default());
            prop_assert_eq!(Batch::of_entry(&entry).ok(), owned.ok());
        }
    }
}
