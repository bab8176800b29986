//! What the edge grants at most, with units. Everything whose cost a client controls is here.

use std::time::Duration;

use crate::config::Config;

/// Largest request body: the largest post with room for its escapes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Largest page of a list.
pub const PAGE_MAX: usize = crate::config::PAGE_MAX;
/// Page of a list when nothing is asked for.
pub const PAGE_DEFAULT: usize = 20;
/// Largest offset of a list.
pub const OFFSET_MAX: usize = crate::config::OFFSET_MAX;
/// Longest token that is looked at; ours have about 230 characters.
pub const TOKEN_CHARS_MAX: usize = 1024;
/// Most tags in the answer of `GET /api/tags`, and taken from one shard.
pub const TAGS_MAX: usize = 10_000;

/// What an operator may change.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests worked on at the same time; more wait for [`Self::admission_wait`].
    pub requests_in_flight: usize,
    /// How long a request waits for a place. A client that waits longer gains nothing: it would
    /// only stand in a queue that does not get shorter.
    pub admission_wait: Duration,
    /// Open connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Time for the head of a request, waiting for the next request of the connection included.
    pub head_time: Duration,
    /// Largest head of a request, in bytes.
    pub head_bytes: usize,
    /// Time for the body of a request.
    pub body_time: Duration,
    /// Time for a whole request.
    pub request_time: Duration,
    /// Time in which a client must take at least some of the response.
    pub write_stall: Duration,
    /// Time for what is in flight when the node stops.
    pub drain_time: Duration,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            requests_in_flight: config.requests_max,
            connections: config.connections_max,
            head_time: Duration::from_millis(config.header_timeout_ms),
            body_time: Duration::from_millis(config.body_timeout_ms),
            request_time: Duration::from_millis(config.request_timeout_ms),
            drain_time: Duration::from_millis(config.shutdown_timeout_ms),
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_in_flight: 1024,
            admission_wait: Duration::from_millis(3),
            connections: 4096,
            head_time: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            body_time: Duration::from_secs(10),
            request_time: Duration::from_secs(15),
            write_stall: Duration::from_secs(30),
            drain_time: Duration::from_secs(10),
        }
    }
}
