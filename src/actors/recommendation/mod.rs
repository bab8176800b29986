//! The recommendation service: what a reader may want to read next, and why.
//!
//! ```text
//!  events of post and user ─► ingest: commands ─► log ─► apply ─► engine: counters, co-reads, lists
//!                                                          │
//!                              on the leader: learning ◄───┘ (before the engine takes a read in)
//!                                    └─► once a second: weights, as values ─► log ─► engine
//!  questions ─► query ─► engine ─► ids with reasons
//! ```
//!
//! **Owns** what it derives from the events of others, the ranker's weights, and the log of what was
//! shown. **Receives** [`message::Command`] and [`message::Query`]. **Tells** nobody anything.
//!
//! It answers ids and reasons, never a title: whoever shows a post asks its owner whether the viewer
//! may see it. All of it is kept in memory and written at checkpoints; everything but what was shown
//! can be rebuilt from the owners.
//!
//! **Invariants**: R1–R5 in [`engine`]; R6 weights change by a command alone, and only the leader
//! learns, so replicas that took the same log are the same; R7 no time that a command brings lies
//! after its stamp.

mod apply;
mod copies;
pub mod engine;
pub mod event;
mod ingest;
mod learning;
pub mod message;
pub mod owners;
mod query;
mod service;
pub mod split;

#[cfg(test)]
mod tests;

pub use event::Event;
pub use message::{Answer, Command, Error, Query, Reply};
pub use service::Service;
