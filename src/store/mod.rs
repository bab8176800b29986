//! Mechanism: bytes, files, durability. No word of the product appears here.
pub mod checkpointer;
pub mod codec;
pub mod error;
pub(crate) mod file;
pub mod memtable;
mod remembered;
pub mod shard_file;
pub mod tables;
