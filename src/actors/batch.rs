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
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) commands: Vec<BatchedCommand>,
}

#[derive(Debug, Serialize, Deserialize)]
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

    /// The batch of an entry.
    ///
    /// # Errors
    /// When the entry was not made by [`Self::to_entry`].
    pub(super) fn of_entry(entry: &[u8]) -> Result<Self, StoreError> {
        let batch = codec::decode(entry.get(TAG_BYTES..).unwrap_or_default());
        batch.map_err(|error| damaged(Path::new(""), format!("an entry of its log: {error}")))
    }
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
