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
pub const TAGS_MAX: usize = crate::config::TAGS_PAGE_MAX;

/// Time in which a client of the operations listener must take at least some of the response: the
/// pipe behind an export may stand still for as long as whoever reads it has other things to do.
pub const OPERATIONS_WRITE_STALL: Duration = Duration::from_secs(15 * 60);

/// What an operator may change.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests worked on at the same time; an eighth as many wait for [`Self::admission_wait`], more are refused at
    /// once.
    pub requests_in_flight: usize,
    /// How long a request waits for a place, if not too many do. A client that waits longer gains nothing: it would
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
    /// Times that signing in to one account may fail in a quarter of an hour; 0: any number.
    pub signin_failures: u32,
    /// Requests to `/v1`, and writes to `/api`, that a user may make in a minute; 0: any number.
    pub user_requests: u32,
    /// The same of an address that is nobody's.
    pub anonymous_requests: u32,
    /// Time for what is in flight when the node stops.
    pub drain_time: Duration,
}

impl Limits {
    /// The same for the operations listener.
    pub fn for_operations(&self) -> Self {
        Self { write_stall: self.write_stall.max(OPERATIONS_WRITE_STALL), ..self.clone() }
    }
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            requests_in_flight: config.requests_max,
            connections: config.connections_max,
            head_time: Duration::from_millis(config.header_timeout_ms),
            body_time: Duration::from_millis(config.body_timeout_ms),
            request_time: Duration::from_millis(config.request_timeout_ms),
            signin_failures: config.signin_failures_max,
            user_requests: config.user_requests_max,
            anonymous_requests: config.anonymous_requests_max,
            drain_time: Duration::from_millis(config.shutdown_timeout_ms),
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_in_flight: 1024,
            admission_wait: Duration::from_millis(1),
            connections: 4096,
            head_time: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            body_time: Duration::from_secs(10),
            request_time: Duration::from_secs(15),
            write_stall: Duration::from_secs(30),
            signin_failures: 10,
            user_requests: 600,
            anonymous_requests: 120,
            drain_time: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_of_an_export_may_rest_for_minutes() {
        let limits = Limits::default();
        assert!(limits.write_stall <= Duration::from_secs(60));
        assert!(limits.for_operations().write_stall >= Duration::from_secs(600));
    }
}
