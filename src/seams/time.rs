//! Time that passes: timers, and instants to compare.
//!
//! All of it is the runtime's: on a runtime whose clock is paused, time goes on only when every
//! task waits, from timer to timer. ractor's own timers run on the same clock. The one exception is
//! [`mark`], which is real, cheap, and may only be measured with.
#![expect(clippy::disallowed_methods, reason = "this is the seam")]

use std::time::Duration;

pub use tokio::time::Instant;
use tokio::time::{Interval, Sleep, Timeout};

/// The instant now.
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits.
#[inline]
pub fn sleep(time: Duration) -> Sleep {
    tokio::time::sleep(time)
}

/// Waits until then.
#[inline]
pub fn sleep_until(when: Instant) -> Sleep {
    tokio::time::sleep_until(when)
}

/// The same with an end.
#[inline]
pub fn timeout<F: Future>(time: Duration, what: F) -> Timeout<F> {
    tokio::time::timeout(time, what)
}

/// The same until then.
#[inline]
pub fn timeout_at<F: Future>(when: Instant, what: F) -> Timeout<F> {
    tokio::time::timeout_at(when, what)
}

/// Ticks, the first one at once.
#[inline]
pub fn interval(period: Duration) -> Interval {
    tokio::time::interval(period)
}

/// Where a measurement begins: for metrics, log lines and threads that watch the process. Nothing
/// that a caller can see may depend on it, for it is another one in every run.
#[inline]
pub fn mark() -> std::time::Instant {
    std::time::Instant::now()
}
