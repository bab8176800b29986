//! What is measured of outboxes and deliveries, without a line in any service.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::ids::{ShardId, Stamp};
use crate::store::outbox::Head;
use crate::telemetry::{FeedLabels, Metrics, ShardLabels};

/// The handles of one outbox.
pub(crate) struct OutboxMetrics {
    events: Gauge,
    bytes: Gauge,
}

impl OutboxMetrics {
    pub(crate) fn new(metrics: &Metrics, shard: ShardId) -> Self {
        let labels = ShardLabels { service: shard.service, shard: shard.index };
        Self {
            events: metrics.outbox_events.get_or_create_owned(&labels),
            bytes: metrics.outbox_bytes.get_or_create_owned(&labels),
        }
    }

    pub(crate) fn holds(&self, head: &Head) {
        self.events.set(head.last.count.saturating_sub(head.trimmed.count) as i64);
        self.bytes.set(head.last.bytes.saturating_sub(head.trimmed.bytes) as i64);
    }
}

/// The handles of one delivery.
pub(super) struct FeedMetrics {
    lag_events: Gauge,
    lag_seconds: Gauge<f64, AtomicU64>,
    pub(super) delivered: Counter,
    pub(super) redelivered: Counter,
    pub(super) dropped: Counter,
    pub(super) buried: Counter,
    must_rebuild: Gauge,
}

impl FeedMetrics {
    pub(super) fn new(metrics: &Metrics, source: ShardId, subscriber: ShardId) -> Self {
        let labels = FeedLabels {
            service: source.service,
            shard: source.index,
            subscriber: subscriber.service,
            subscriber_shard: subscriber.index,
        };
        Self {
            lag_events: metrics.feed_lag_events.get_or_create_owned(&labels),
            lag_seconds: metrics.feed_lag.get_or_create_owned(&labels),
            delivered: metrics.feed_delivered.get_or_create_owned(&labels),
            redelivered: metrics.feed_redelivered.get_or_create_owned(&labels),
            dropped: metrics.feed_dropped.get_or_create_owned(&labels),
            buried: metrics.feed_buried.get_or_create_owned(&labels),
            must_rebuild: metrics.feed_must_rebuild.get_or_create_owned(&labels),
        }
    }

    /// `oldest` is the stamp of the first event that the subscriber lacks.
    pub(super) fn lags(&self, events: u64, oldest: Option<Stamp>, now: Stamp) {
        let waits = oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0));
        self.lag_events.set(events as i64);
        self.lag_seconds.set(waits as f64 / 1e6);
    }

    pub(super) fn must_rebuild(&self, must: bool) {
        self.must_rebuild.set(i64::from(must));
    }
}
