//! What the runtime measures of every shard, without a line in any service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::ids::{LogIndex, ShardId, Stamp};
use crate::telemetry::{Metrics, ShardHandling, ShardLabels};

/// The handles of one shard; created once, so that observing costs no look-up.
pub(crate) struct ShardMetrics {
    depth: Gauge,
    wait: Histogram,
    command: Histogram,
    query: Histogram,
    staging: Histogram,
    batch_commands: Histogram,
    batch_bytes: Histogram,
    commit: Histogram,
    refused: Counter,
    expired: Counter,
    poisoned: Counter,
    resent: Counter,
    spared: Counter,
    applied: Gauge,
    unwritten: Gauge,
    checkpoint: Histogram,
    checkpoint_time: Gauge,
    checkpoint_failures: Counter,
}

/// A message on its way to a shard.
pub(crate) struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ShardMetrics {
    pub(crate) fn new(metrics: &Metrics, shard: ShardId) -> Arc<Self> {
        let labels = ShardLabels { service: shard.service, shard: shard.index };
        let handling = |what| ShardHandling { service: shard.service, shard: shard.index, what };
        Arc::new(Self {
            depth: metrics.mailbox_depth.get_or_create_owned(&labels),
            wait: metrics.mailbox_wait.get_or_create_owned(&labels),
            command: metrics.handling.get_or_create_owned(&handling("apply")),
            query: metrics.handling.get_or_create_owned(&handling("query")),
            staging: metrics.handling.get_or_create_owned(&handling("checkpoint")),
            batch_commands: metrics.batch_commands.get_or_create_owned(&labels),
            batch_bytes: metrics.batch_bytes.get_or_create_owned(&labels),
            commit: metrics.commit.get_or_create_owned(&labels),
            refused: metrics.calls_overloaded.get_or_create_owned(&labels),
            expired: metrics.calls_expired.get_or_create_owned(&labels),
            poisoned: metrics.poisoned.get_or_create_owned(&labels),
            resent: metrics.calls_resent.get_or_create_owned(&labels),
            spared: metrics.queries_spared.get_or_create_owned(&labels),
            applied: metrics.applied_index.get_or_create_owned(&labels),
            unwritten: metrics.unwritten_bytes.get_or_create_owned(&labels),
            checkpoint: metrics.checkpoint.get_or_create_owned(&labels),
            checkpoint_time: metrics.checkpoint_time.get_or_create_owned(&labels),
            checkpoint_failures: metrics.checkpoint_failures.get_or_create_owned(&labels),
        })
    }

    /// Counts a message for as long as it is on its way or handled, however that ends.
    pub(crate) fn waiting(&self) -> Waiting {
        self.depth.inc();
        Waiting(self.depth.clone())
    }

    pub(crate) fn resent(&self) {
        self.resent.inc();
    }

    /// A caller had the whole answer to a query already.
    pub(crate) fn spared(&self) {
        self.spared.inc();
    }

    /// How often that was.
    pub(crate) fn times_spared(&self) -> usize {
        self.spared.get() as usize
    }

    pub(crate) fn received(&self, sent: Instant, now: Instant) {
        self.wait.observe(now.saturating_duration_since(sent).as_secs_f64());
    }

    pub(crate) fn handled(&self, what: &'static str, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        match what {
            "query" => &self.query,
            "checkpoint" => &self.staging,
            _ => &self.command,
        }
        .observe(seconds);
    }

    pub(crate) fn batch(&self, commands: usize, bytes: usize) {
        self.batch_commands.observe(commands as f64);
        self.batch_bytes.observe(bytes as f64);
    }

    pub(crate) fn committed(&self, proposed: Instant) {
        self.commit.observe(proposed.elapsed().as_secs_f64());
    }

    pub(crate) fn overloaded(&self) {
        self.refused.inc();
    }

    pub(crate) fn expired(&self) {
        self.expired.inc();
    }

    pub(crate) fn poisoned(&self) {
        self.poisoned.inc();
    }

    pub(crate) fn applied(&self, index: LogIndex, unwritten: usize) {
        self.applied.set(index.0 as i64);
        self.unwritten.set(unwritten as i64);
    }

    pub(crate) fn checkpointed(&self, now: Stamp, took: Duration, left: usize) {
        self.checkpoint.observe(took.as_secs_f64());
        self.checkpoint_time.set((now.as_millis() / 1000) as i64);
        self.unwritten.set(left as i64);
    }

    pub(crate) fn checkpoint_failed(&self) {
        self.checkpoint_failures.inc();
    }
}
