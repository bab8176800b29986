//! Mechanism: bytes, files, durability. No word of the product appears here.
pub mod checkpointer;
pub mod codec;
pub(crate) mod count;
pub mod error;
#[cfg(test)]
pub(crate) mod fault;
pub(crate) mod feed;
pub(crate) mod file;
pub(crate) mod keys;
pub mod log;
pub mod memtable;
pub(crate) mod outbox;
mod paced;
mod remembered;
pub(crate) mod row_key;
pub mod shard_file;
pub(crate) mod shard_state;
pub mod tables;
pub mod upgrade;
