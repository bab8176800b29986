//! Identities: what an id is made of, and how it looks outside.
//!
//! An id is a `u64`: the upper 52 bits are a [`Stamp`] in microseconds, the lower 12 bits a
//! [`Bucket`]. An id therefore names the place of its data without a look-up, and is unique
//! without coordination, because a shard never gives out the same stamp twice. Outside the
//! process it is always 13 lower-case Crockford base-32 characters: JavaScript loses bits of
//! large numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Number of buckets that the id space is cut into; fixed for ever, for ids contain it.
pub const BUCKETS: u16 = 4096;
const BUCKET_BITS: u32 = 12;
/// Length of an id in text: 64 bits at 5 bits a character.
pub const ID_CHARS: usize = 13;
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A unit of the id space; a shard owns a set of them. Below [`BUCKETS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket with this number, reduced into range.
    pub fn new(number: u64) -> Self {
        Self((number % u64::from(BUCKETS)) as u16)
    }

    /// The bucket that a text key (a claimed name, an import key) lives in.
    ///
    /// FNV-1a, 64 bit: stable across releases and machines, which a bucket must be.
    pub fn of_key(key: &[u8]) -> Self {
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self::new(hash ^ (hash >> 32))
    }

    /// Which of `shards` shards owns this bucket in a freshly created directory.
    pub fn shard(self, shards: u16) -> u16 {
        self.0 % shards.max(1)
    }

    /// The number of this bucket.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// Hybrid logical time: microseconds since the Unix epoch, strictly increasing per shard.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Stamp(pub u64);

/// The largest stamp that fits into the 52 bits of an id (the year 2112).
pub const STAMP_MAX: Stamp = Stamp((1 << (64 - BUCKET_BITS)) - 1);

impl Stamp {
    /// This stamp, `ms` milliseconds later.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// Whole milliseconds since the Unix epoch.
    pub fn as_millis(self) -> u64 {
        self.0 / 1000
    }
}

/// A text that is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: 13 characters of lower-case Crockford base 32 are expected")]
pub struct InvalidId;

fn id_from_parts(stamp: Stamp, bucket: Bucket) -> u64 {
    debug_assert!(stamp <= STAMP_MAX);
    (stamp.0 << BUCKET_BITS) | u64::from(bucket.0)
}

fn write_id(id: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(id_text(id, &mut [0; ID_CHARS]))
}

/// Writes the 13 characters of an id into `buffer`, without allocating.
pub fn id_text(id: u64, buffer: &mut [u8; ID_CHARS]) -> &str {
    for (position, character) in buffer.iter_mut().enumerate() {
        let shift = 5 * (ID_CHARS - 1 - position) as u32;
        *character = CROCKFORD[((id >> shift) & 31) as usize];
    }
    std::str::from_utf8(buffer).expect("the alphabet is ASCII")
}

fn parse_id(text: &str) -> Result<u64, InvalidId> {
    if text.len() != ID_CHARS {
        return Err(InvalidId);
    }
    let mut id: u128 = 0;
    for byte in text.bytes() {
        let digit = CROCKFORD.iter().position(|c| *c == byte).ok_or(InvalidId)?;
        id = (id << 5) | digit as u128;
    }
    u64::try_from(id).map_err(|_| InvalidId)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl $name {
            /// The id made at `stamp` in `bucket`.
            pub fn new(stamp: Stamp, bucket: Bucket) -> Self {
                Self(id_from_parts(stamp, bucket))
            }

            /// The bucket, and so the shard, that owns what this id names.
            pub fn bucket(self) -> Bucket {
                Bucket((self.0 & u64::from(BUCKETS - 1)) as u16)
            }

            /// When the id was made.
            pub fn stamp(self) -> Stamp {
                Stamp(self.0 >> BUCKET_BITS)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_id(text).map(Self)
            }
        }
    };
}

id_type!(
    /// A post, with its comments and favorites.
    PostId
);
id_type!(
    /// A user, with the edges that start there.
    UserId
);

/// The effect of a command happens once per command id, however often it is sent. Random, and so
/// unique without coordination, unless it is derived from a key of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommandId(pub [u8; 16]);

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Position of an entry in the log of a shard; the first entry has 1, 0 is "nothing yet".
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The position after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The place of an event among all events of its shard: the entry that it came with, and its number
/// in that entry, from 0. No event has the default, which is before the first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct EventPosition {
    /// The entry.
    pub index: LogIndex,
    /// Which of its events.
    pub number: u32,
}

/// Which Raft group a log entry belongs to; unique within a node's data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// A node of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// A shard of a service, as it is written in names, logs and metrics: `post/0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId {
    /// The service whose data it holds.
    pub service: &'static str,
    /// Which of the service's shards, from 0.
    pub index: u16,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.index)
    }
}

/// A shard as it is named in records, which may be read where its service is not compiled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardName {
    /// Name of the service.
    pub service: String,
    /// Which of the service's shards, from 0.
    pub shard: u16,
}

impl From<ShardId> for ShardName {
    fn from(id: ShardId) -> Self {
        Self { service: id.service.to_owned(), shard: id.index }
    }
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_names_its_time_and_bucket() {
        let id = PostId::new(Stamp(1_700_000_000_000_000), Bucket::new(4095));
        assert_eq!(id.stamp(), Stamp(1_700_000_000_000_000));
        assert_eq!(id.bucket(), Bucket::new(4095));
        assert_eq!(id.to_string().len(), ID_CHARS);
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in [
            "",
            "0",
            "zzzzzzzzzzzzz",
            "0h8x2k9v3m1ql",
            "0H8X2K9V3M1QZ",
            "00000000000000",
            "é00000000000",
        ] {
            assert_eq!(text.parse::<PostId>(), Err(InvalidId), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn text_and_back(id: u64) {
            prop_assert_eq!(PostId(id).to_string().parse::<PostId>(), Ok(PostId(id)));
        }

        #[test]
        fn any_text_is_parsed_without_panic(text: String) {
            if let Ok(id) = text.parse::<PostId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
