//! The recommendation service: its pure core, without actor, clock, file or randomness of its own.
//!
//! ```text
//! event ─► engine.apply            posts, readers, tags: whole numbers, the same on every replica
//!            │
//! question ─► ask: gather ─► features        candidates of a reader, and what is known of them
//!            │                  │
//!            │                  └─► learner.learn ─► weights ─► log ─► engine.set_weights
//!            └─► answer: weights.score ─► rules ─► items with reason, source and propensity
//! ```
//!
//! **Owns** what it derives from the events of others: counters and neighbours of posts, recent
//! reads, interests and choices of readers, lists of what is new and what is much read.
//! **Takes in** [`event::Event`]. **Answers** [`Engine::recommend`], [`Engine::recommend_again`], [`Engine::recommend_session`],
//! [`Engine::related`], [`Engine::trending`], [`Engine::following`].
//!
//! **Invariants**: R1 the state is a function of the events and their order, to the bit
//! ([`Engine::digest`]); weights are values from outside and not part of it. R2 no answer holds a
//! post that is not listed, the reader's own, or one of a muted author or tag, hidden, read or
//! excluded; no reason names a post that is not listed. R3 a deleted post that was heard of before never
//! comes back, and a version that is not higher than the known one changes nothing. R4 everything has a bound: reads
//! per reader, neighbours per post, places per list, posts that were read before they were
//! published, and tags, of which only those have a place that a listed post, a choice or an interest
//! refers to. R5 a reader counts, in any time that passes here and not where reads are said to come
//! from, at most the burst and what was refilled since; and once per post, until as many others as
//! are remembered were counted, or a week after the read was deleted. A rebuild knows no arrivals and
//! goes by the times that the reads are said to have: so in the new copy, of R5 only the second half
//! holds, once per post, for reads that were said to be older than they are.

mod digest;
pub mod event;
mod features;
mod fetch;
mod fixed;
mod gather;
mod history;
mod interests;
pub mod item;
mod kept;
pub mod learner;
mod listing;
mod math;
mod neighbours;
mod pace;
mod post;
mod reader;
mod recommend;
mod rows;
mod rules;
mod saved;
mod scratch;
pub mod settings;
mod slots;
mod state;
mod tag;
mod top_list;
pub mod weights;

#[cfg(test)]
mod tests;

pub use kept::KeptLists;
pub use recommend::Options;
pub use saved::{LATE, SERVING, TABLES, damaged, delete};
pub use scratch::Scratch;
pub use state::Engine;
