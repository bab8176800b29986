//! What time it is.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::ids::Stamp;

/// Where stamps come from. The wall clock in production; anything in a test.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Stamp + Send + Sync>);

impl Clock {
    /// The wall clock, in microseconds.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Stamp(since.as_micros() as u64)
        }))
    }

    /// A clock that a test controls.
    pub fn from_fn(now: impl Fn() -> Stamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// A clock that starts at `start` now and goes with the runtime's, which a test may stop.
    #[cfg(test)]
    pub(crate) fn of_runtime(start: Stamp) -> Self {
        let began = crate::seams::time::Instant::now();
        Self::from_fn(move || Stamp(start.0 + began.elapsed().as_micros() as u64))
    }

    /// The time now.
    pub fn now(&self) -> Stamp {
        (self.0)()
    }
}
