//! What a simulation replaces: one seam for each thing that makes a run unrepeatable.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::ids::Stamp;

/// Where stamps come from. The wall clock in production; anything in a test.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Stamp + Send + Sync>);

impl Clock {
    /// The wall clock, in microseconds.
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

    /// The time now.
    pub fn now(&self) -> Stamp {
        (self.0)()
    }
}
