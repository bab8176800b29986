//! Event delivery: what a shard does becomes known to other services, exactly once.
//!
//! ```text
//!  source: apply → events enter its outbox, in the merge of their command
//!    │  a mark that is watched: no polling
//!  relay: reads the outbox in order, maps each event to commands of the subscriber
//!    │  one ingest at a time for each subscribing shard, each at its own pace
//!  subscriber: logs the ingest, applies what it has not seen, moves its feed in the same merge
//!    │  what it has now
//!  source: logs acknowledgements, many at a time, and trims behind the slowest
//! ```
//!
//! **Invariants**: D1 the subscriber's feed is the truth: who delivers asks for it first; D2 an ingest
//! that does not follow the feed without a gap has no effect; D3 an event is mapped, and its commands
//! are applied, in the order of the outbox; D4 what is under way to one subscriber is bounded, and
//! nobody waits for another; D5 an event that breaks somebody is buried and does not stop the stream.

mod actor;
mod feed;
pub(crate) mod message;
mod metrics;
mod pair;
mod subscription;

pub(crate) use actor::{Arguments, RelayActor};
pub use feed::{Feed, FeedError, FeedState, FeedStatus};
pub(crate) use metrics::OutboxMetrics;
pub use subscription::{Delivered, Subscribes, Subscription};
#[cfg(test)]
pub(crate) use subscription::{Port, SubscriberPort};

use std::time::Duration;

use crate::ids::ShardName;

/// Bounds of an outbox and of what is done about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutboxLimits {
    /// A subscriber that is further behind, in events, is given up and must be rebuilt.
    pub(crate) events_max: u64,
    /// The same in bytes.
    pub(crate) bytes_max: u64,
    /// Events that gather before an acknowledgement is logged.
    pub(crate) acknowledge_events: u64,
    /// The same in bytes.
    pub(crate) acknowledge_bytes: u64,
}

impl Default for OutboxLimits {
    /// A minute of the fastest writer that was measured. An acknowledgement for so many events costs
    /// a thousandth of what they did.
    fn default() -> Self {
        Self {
            events_max: 1_000_000,
            bytes_max: 256 << 20,
            acknowledge_events: 1024,
            acknowledge_bytes: 1 << 20,
        }
    }
}

/// Who subscribes to a shard, as the program says (the log says since when), and within which bounds.
pub(crate) struct Declared {
    pub(crate) subscribers: Vec<ShardName>,
    pub(crate) limits: OutboxLimits,
    /// `None` for a shard without subscribers: it has no outbox to measure.
    pub(crate) metrics: Option<OutboxMetrics>,
}

/// Most events in one ingest: worth a commit, and applied in a few milliseconds.
pub(crate) const INGEST_EVENTS_MAX: usize = 512;
/// Most bytes of events in one ingest.
pub(crate) const INGEST_BYTES_MAX: usize = 256 * 1024;
/// Pause after a delivery that left nothing to deliver. An event after a quiet time is delivered at once;
/// of many, some gather, for each delivery is an entry in the log of the subscriber and a sync, which
/// those who write wait for as well.
const GATHER: Duration = Duration::from_millis(20);
/// Events that concern a subscriber in nothing are passed over so many at a time without its log
/// hearing of it.
const PASSED_OVER_MAX: u64 = 4096;
/// First and longest pause after a delivery that failed. The shard restarts within milliseconds.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// How often the lag is looked at while nothing moves.
const LAG_PERIOD: Duration = Duration::from_secs(1);
