//! The replica of a shard on this node: who orders the shard's batches and makes them durable.
pub mod port;
