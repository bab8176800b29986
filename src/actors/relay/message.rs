//! Commands of the runtime itself, in the log beside those of the service: deliveries to a shard,
//! the upkeep of an outbox, and commands of the service under a key. And what relays and shards say to each other.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::ids::{EventPosition, ShardName, Stamp};
use crate::store::codec::Record;
use crate::store::feed::Feed;
use crate::store::outbox::{Acknowledged, Head, OutboxEvent, Subscriber};

/// Kinds below are the runtime's: no command of a service may have one.
pub(crate) const SERVICE_KIND_MIN: u8 = 16;

/// A delivery: what some events of one source are to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ingest {
    /// Whose events these are.
    pub(crate) source: ShardName,
    /// A higher one than the subscriber knows starts it anew at `after`.
    pub(crate) epoch: u32,
    /// The event before the first of these. The subscriber must have seen it (D2).
    pub(crate) after: EventPosition,
    /// The last of these; it may have no part.
    pub(crate) upto: EventPosition,
    /// In order of events; an event may have none, one or several.
    pub(crate) parts: Vec<Part>,
}

impl Record for Ingest {
    const KIND: u8 = 13;
}

/// One command that an event became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Of the event.
    pub(crate) position: EventPosition,
    /// Of the event: what it causes is stamped later.
    pub(crate) stamp: Stamp,
    pub(crate) content: Content,
}

/// What a part carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    /// An encoded command of the subscriber.
    Command(Bytes),
    /// An event that could not be read or mapped; to be buried (D5).
    Broken(Bytes),
}

impl Part {
    /// Bytes of what it carries.
    pub(crate) fn bytes(&self) -> usize {
        match &self.content {
            Content::Command(bytes) | Content::Broken(bytes) => bytes.len(),
        }
    }
}

/// What changes an outbox beside the service's own events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OutboxCommand {
    /// These subscribe from now on, and nobody else.
    Declare { subscribers: Vec<ShardName> },
    /// Progress, and who is given up in which epoch; trims behind the slowest that is left.
    Settle { acknowledged: Vec<Acknowledged>, given_up: Vec<(ShardName, u32)> },
    /// A subscriber that was given up follows again, from here on.
    Resume { subscriber: ShardName },
}

impl Record for OutboxCommand {
    const KIND: u8 = 14;
}

/// A command of the service under an idempotency key; the id it has in the batch is the key's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keyed {
    /// Whose key.
    pub(crate) owner: u64,
    /// Hash of the request.
    pub(crate) fingerprint: [u8; 16],
    /// Which sending of it.
    pub(crate) sending: u64,
    /// The encoded command.
    pub(crate) payload: Bytes,
}

impl Record for Keyed {
    const KIND: u8 = 15;
}

/// What became of a command of the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RuntimeReply {
    /// The delivery was taken in.
    Ingested(Ingested),
    /// It does not follow what the subscriber has: no effect.
    NotNext(Feed),
    /// The outbox was settled, or subscribers declared.
    Settled,
    /// The subscriber's row now, if it has one.
    Resumed(Option<Subscriber>),
    /// It cannot be applied, ever.
    Broken,
}

/// What a delivery did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ingested {
    /// Parts that were commands the service answered or refused.
    pub(crate) applied: u64,
    /// Parts that had been seen before.
    pub(crate) dropped: u64,
    /// Parts that are dead letters now.
    pub(crate) buried: u64,
}

/// A question to the source: what is there for a subscriber?
pub(crate) struct OutboxRequest {
    pub(crate) subscriber: ShardName,
    /// Events after this one; `None` asks for the rows about it only.
    pub(crate) after: Option<EventPosition>,
    /// Dropped without an answer while the shard does not lead.
    pub(crate) answer: oneshot::Sender<OutboxPage>,
}

/// The answer.
pub(crate) struct OutboxPage {
    pub(crate) head: Head,
    /// `None` until the subscriber was declared.
    pub(crate) subscriber: Option<Subscriber>,
    pub(crate) events: Vec<OutboxEvent>,
}

/// A question to a subscriber: what of this source has it seen?
pub(crate) struct FeedRequest {
    pub(crate) source: ShardName,
    /// Dropped without an answer while the shard does not lead.
    pub(crate) answer: oneshot::Sender<Feed>,
}

/// What of an outbox is watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OutboxSeen {
    /// Events so far.
    pub(crate) count: u64,
    /// Moves whenever the rows about subscribers do, acknowledgements aside.
    pub(crate) turns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LogIndex;
    use crate::store::codec::{decode, encode};

    #[test]
    fn golden_bytes_stay() {
        let at = |index, number| EventPosition { index: LogIndex(index), number };
        let ingest = Ingest {
            source: ShardName { service: "post".into(), shard: 1 },
            epoch: 2,
            after: at(3, 4),
            upto: at(300, 5),
            parts: vec![
                Part {
                    position: at(300, 4),
                    stamp: Stamp(7),
                    content: Content::Command(Bytes::from_static(b"c")),
                },
                Part {
                    position: at(300, 5),
                    stamp: Stamp(8),
                    content: Content::Broken(Bytes::from_static(b"b")),
                },
            ],
        };
        let golden = [
            13, 1, 4, 112, 111, 115, 116, 1, 2, 3, 4, 251, 44, 1, 5, 2, 251, 44, 1, 4, 7, 0, 1, 99,
            251, 44, 1, 5, 8, 1, 1, 98,
        ];
        assert_eq!(encode(&ingest), golden);
        assert_eq!(decode::<Ingest>(&golden).unwrap(), ingest);
        let resume =
            OutboxCommand::Resume { subscriber: ShardName { service: "r".into(), shard: 0 } };
        let golden = [14, 1, 2, 1, 114, 0];
        assert_eq!(encode(&resume), golden);
        assert_eq!(decode::<OutboxCommand>(&golden).unwrap(), resume);
        let payload = Bytes::from_static(b"c");
        let keyed = Keyed { owner: 300, fingerprint: [2; 16], sending: 3, payload };
        let golden = [&[15, 1, 251, 44, 1][..], &[2; 16], &[3, 1, 99]].concat();
        assert_eq!(encode(&keyed), golden);
        assert_eq!(decode::<Keyed>(&golden).unwrap(), keyed);
    }
}
