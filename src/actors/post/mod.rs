//! The post service: posts, who may see them, comments, favorites, tags and lists.
//!
//! **Owns** all of that for the posts whose ids its shard owns; comments and favorites live with
//! their post. **Receives** [`message::Command`] and [`message::Query`]; what a decision needs to
//! know of a reader comes with them. **Tells** others [`event::Event`].
//!
//! **Invariants**: V1, V2 in `visibility.rs` (who may see what), L1, L2 in `lists.rs` (lists and
//! their totals follow the posts), A1, A2 in `apply.rs` and K1–K3 in `cache.rs` (caches are exact
//! and never decide), Q1 in `select.rs` (totals), Q2 in `scan.rs` (cursors). What callers may keep, and what
//! makes it void, is in `slots.rs`.
//!
//! **When it fails** nothing is lost but caches: a service that is loaded anew starts with empty
//! ones.

pub mod event;
pub mod message;
pub mod slots;
mod view;

mod service;

mod apply;
mod change;
mod lists;
mod visibility;

mod feed;
mod query;
mod reads;
mod scan;
mod select;
mod walk;

mod cache;
mod progress;
mod tables;
mod upgrade;

#[cfg(test)]
mod tests;

pub use event::Event;
pub use message::{Answer, Command, Error, Query, Reply};
pub use progress::Progress;
pub use service::Service;
