//! Transfer of content between a node and files: import and export.
//!
//! ```text
//! file → lines → records (format `quire`; others are turned into it) → chunks
//!      → engine, here or behind the operations listener of the node that holds the data → actors
//! ```
//! An import goes through the same actors and the same checks as a request, with the original times.
//! It may be interrupted and repeated: every record has an identity, and nothing is doubled.

pub mod applied;
pub mod chunk;
mod csv;
pub mod engine;
pub mod export;
mod fault;
mod lines;
mod people;
pub mod record;
pub mod source;
mod stackexchange;
pub mod stream;
mod turns;

#[cfg(test)]
mod tests;
