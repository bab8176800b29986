//! The metric list and the set-up of logs.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Labels of what is measured per shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ShardLabels {
    /// Name of the service.
    pub service: &'static str,
    /// Number of the shard.
    pub shard: u16,
}

/// Labels of handling times.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ShardHandling {
    /// Name of the service.
    pub service: &'static str,
    /// Number of the shard.
    pub shard: u16,
    /// `apply` or `query`.
    pub what: &'static str,
}

/// Labels of deliveries from one shard to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FeedLabels {
    /// Service that the events come from.
    pub service: &'static str,
    /// Its shard.
    pub shard: u16,
    /// Service that they go to.
    pub subscriber: &'static str,
    /// Its shard.
    pub subscriber_shard: u16,
}

/// Labels of restarts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RestartLabels {
    /// Path in the supervision tree.
    pub path: String,
    /// Why.
    pub cause: &'static str,
}

/// Labels of HTTP requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// Route template, never the path itself.
    pub route: String,
    /// Method.
    pub method: &'static str,
    /// Status code.
    pub status: u16,
}

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

/// 1 µs to about 4 s, by powers of four.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_001, 4.0, 12))
}

/// 1 to about 4 million, by powers of four.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 4.0, 12))
}

/// Every metric of the program. One table of them is in `supervision.md`.
pub struct Metrics {
    registry: Registry,
    pub(crate) mailbox_depth: Family<ShardLabels, Gauge>,
    pub(crate) mailbox_wait: Seconds<ShardLabels>,
    pub(crate) handling: Seconds<ShardHandling>,
    pub(crate) batch_commands: Seconds<ShardLabels>,
    pub(crate) batch_bytes: Seconds<ShardLabels>,
    pub(crate) commit: Seconds<ShardLabels>,
    pub(crate) checkpoint: Seconds<ShardLabels>,
    pub(crate) checkpoint_time: Family<ShardLabels, Gauge>,
    pub(crate) checkpoint_failures: Family<ShardLabels, Counter>,
    pub(crate) fsync: Histogram,
    pub(crate) calls_overloaded: Family<ShardLabels, Counter>,
    pub(crate) calls_expired: Family<ShardLabels, Counter>,
    pub(crate) calls_resent: Family<ShardLabels, Counter>,
    pub(crate) queries_spared: Family<ShardLabels, Counter>,
    pub(crate) poisoned: Family<ShardLabels, Counter>,
    pub(crate) applied_index: Family<ShardLabels, Gauge>,
    pub(crate) unwritten_bytes: Family<ShardLabels, Gauge>,
    pub(crate) outbox_events: Family<ShardLabels, Gauge>,
    pub(crate) outbox_bytes: Family<ShardLabels, Gauge>,
    pub(crate) feed_lag_events: Family<FeedLabels, Gauge>,
    pub(crate) feed_lag: Family<FeedLabels, Gauge<f64, AtomicU64>>,
    pub(crate) feed_delivered: Family<FeedLabels, Counter>,
    pub(crate) feed_redelivered: Family<FeedLabels, Counter>,
    pub(crate) feed_dropped: Family<FeedLabels, Counter>,
    pub(crate) feed_buried: Family<FeedLabels, Counter>,
    pub(crate) feed_must_rebuild: Family<FeedLabels, Gauge>,
    pub(crate) restarts: Family<RestartLabels, Counter>,
    pub(crate) requests: Seconds<RouteLabels>,
    pub(crate) requests_refused: Counter,
    pub(crate) connections: Gauge,
    pub(crate) notes_dropped: Counter,
    pub(crate) ranker_absent: Counter,
    pub(crate) process_resident: Gauge,
    pub(crate) process_files: Gauge,
    pub(crate) process_sampled: Gauge,
}

impl Metrics {
    /// A fresh set; one per node.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("quire"),
            mailbox_depth: Family::default(),
            mailbox_wait: Family::new_with_constructor(seconds),
            handling: Family::new_with_constructor(seconds),
            batch_commands: Family::new_with_constructor(sizes),
            batch_bytes: Family::new_with_constructor(sizes),
            commit: Family::new_with_constructor(seconds),
            checkpoint: Family::new_with_constructor(seconds),
            checkpoint_time: Family::default(),
            checkpoint_failures: Family::default(),
            fsync: seconds(),
            calls_overloaded: Family::default(),
            calls_expired: Family::default(),
            calls_resent: Family::default(),
            queries_spared: Family::default(),
            poisoned: Family::default(),
            applied_index: Family::default(),
            unwritten_bytes: Family::default(),
            outbox_events: Family::default(),
            outbox_bytes: Family::default(),
            feed_lag_events: Family::default(),
            feed_lag: Family::default(),
            feed_delivered: Family::default(),
            feed_redelivered: Family::default(),
            feed_dropped: Family::default(),
            feed_buried: Family::default(),
            feed_must_rebuild: Family::default(),
            restarts: Family::default(),
            requests: Family::new_with_constructor(seconds),
            requests_refused: Counter::default(),
            connections: Gauge::default(),
            notes_dropped: Counter::default(),
            ranker_absent: Counter::default(),
            process_resident: Gauge::default(),
            process_files: Gauge::default(),
            process_sampled: Gauge::default(),
        };
        metrics.register();
        metrics.register_feeds();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        let s = || Unit::Seconds;
        r.register("mailbox_depth", "messages on their way to a shard", self.mailbox_depth.clone());
        r.register_with_unit(
            "mailbox_wait",
            "time from sending to handling",
            s(),
            self.mailbox_wait.clone(),
        );
        r.register_with_unit("handling", "time in a handler", s(), self.handling.clone());
        r.register("batch_commands", "commands in a log entry", self.batch_commands.clone());
        r.register_with_unit("batch", "size of a log entry", Unit::Bytes, self.batch_bytes.clone());
        r.register_with_unit("commit", "from proposal to merge", s(), self.commit.clone());
        r.register_with_unit("checkpoint", "writing a checkpoint", s(), self.checkpoint.clone());
        r.register_with_unit(
            "checkpoint_time",
            "when the last checkpoint ended, Unix time",
            s(),
            self.checkpoint_time.clone(),
        );
        r.register(
            "checkpoint_failures",
            "checkpoints that could not be written",
            self.checkpoint_failures.clone(),
        );
        r.register_with_unit("lane_commit", "one sync of a log lane", s(), self.fsync.clone());
        r.register("calls_overloaded", "calls refused at once", self.calls_overloaded.clone());
        r.register("calls_expired", "commands past their deadline", self.calls_expired.clone());
        r.register("calls_resent", "calls sent again to a successor", self.calls_resent.clone());
        r.register(
            "queries_spared",
            "queries whose answers callers had kept, still exact",
            self.queries_spared.clone(),
        );
        r.register("poisoned", "commands and queries that panicked", self.poisoned.clone());
        r.register("applied_index", "the last applied entry", self.applied_index.clone());
        r.register_with_unit(
            "unwritten",
            "state that only memory and log hold",
            Unit::Bytes,
            self.unwritten_bytes.clone(),
        );
        r.register("restarts", "restarts of actors", self.restarts.clone());
        r.register_with_unit("http_request", "time in a request", s(), self.requests.clone());
        r.register(
            "http_requests_refused",
            "requests refused for lack of capacity",
            self.requests_refused.clone(),
        );
        r.register("http_connections", "open connections", self.connections.clone());
        r.register(
            "http_notes_dropped",
            "notes of what was shown or denied that are lost",
            self.notes_dropped.clone(),
        );
        r.register(
            "http_ranker_absent",
            "recommendations that were answered with what is new instead",
            self.ranker_absent.clone(),
        );
        r.register_with_unit(
            "process_resident",
            "resident memory of the process",
            Unit::Bytes,
            self.process_resident.clone(),
        );
        r.register("process_files", "open file descriptors", self.process_files.clone());
        r.register_with_unit(
            "process_sampled",
            "when the process was sampled, Unix time",
            Unit::Seconds,
            self.process_sampled.clone(),
        );
    }

    fn register_feeds(&mut self) {
        let r = &mut self.registry;
        r.register("outbox_events", "events that wait for subscribers", self.outbox_events.clone());
        r.register_with_unit("outbox", "their size", Unit::Bytes, self.outbox_bytes.clone());
        r.register(
            "feed_lag_events",
            "events that a subscriber lacks",
            self.feed_lag_events.clone(),
        );
        r.register_with_unit(
            "feed_lag",
            "age of the oldest event that a subscriber lacks",
            Unit::Seconds,
            self.feed_lag.clone(),
        );
        r.register("feed_delivered", "events delivered", self.feed_delivered.clone());
        r.register("feed_redelivered", "events handed over again", self.feed_redelivered.clone());
        r.register(
            "feed_dropped",
            "commands that a subscriber had applied before",
            self.feed_dropped.clone(),
        );
        r.register(
            "feed_buried",
            "commands that became dead letters of a subscriber",
            self.feed_buried.clone(),
        );
        r.register(
            "feed_must_rebuild",
            "1 if a subscriber lacks events that are gone",
            self.feed_must_rebuild.clone(),
        );
    }

    /// The OpenMetrics text of everything.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a String accepts every write");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
