//! Quire: the back end of a publishing platform as supervised actors.
//!
//! The code reads like the path of one request:
//!
//! ```text
//!  HTTP request
//!    │  http/          parse, sign in, build one command          (knows JSON and status codes)
//!    ▼
//!  router              key → shard; permit; deadline              (actors/router.rs, no state)
//!    ▼  mailbox
//!  shard actor         batches, stamps, proposes, applies         (actors/shard.rs, owns the state)
//!    ▼  log entry
//!  replica             a Raft group; a node alone is one of one   (actors/replica/)
//!    ▼  committed entry, back to the shard actor
//!  state machine       apply(tables, command) → reply + events    (actors/post/, actors/user/: pure)
//!    ▼
//!  store/              log lanes, memtables, shard files          (knows bytes, not posts)
//! ```
//!
//! `http → actors → store → (ids, error, config, memory, seams)`; nothing points the other way. `node/`
//! puts the parts together, `cli/` is the program, `transfer/` imports and exports, `demo/` makes content up.

// The seams are what tests replace and reach around. The program is compiled, and checked, without.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod actors;
pub mod cli;
pub mod config;
pub mod demo;
pub mod error;
mod generations;
pub mod http;
pub mod ids;
pub mod memory;
pub mod node;
mod s3_fifo;
pub mod seams;
pub mod store;
pub mod telemetry;
pub mod transfer;
