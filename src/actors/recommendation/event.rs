//! What other services may learn of recommendations.

use serde::{Deserialize, Serialize};

use crate::store::codec::Record;

/// Nothing, so far: what this service knows it has from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {}

impl Record for Event {
    const KIND: u8 = 67;
}
