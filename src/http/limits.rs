//! What the edge grants at most, with units. Everything whose cost a client controls is here.

use std::time::Duration;

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

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_in_flight: 1024,
            admission_wait: Duration::from_millis(3),
            connections: 4096,
            head_time: Duration::from_secs(30),
            head_bytes: 16 * 1024,
            body_time: Duration::from_secs(15),
            request_time: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            drain_time: Duration::from_secs(10),
        }
    }
}
