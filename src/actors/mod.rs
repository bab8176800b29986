//! Actors: the runtime that runs any service, and the services.
pub mod answers;
mod batch;
pub mod call;
mod checkpoint;
pub mod escape;
pub(crate) mod hosting;
pub(crate) mod lane;
pub mod post;
mod published;
pub mod recommendation;
pub mod relay;
pub mod rendered;
pub mod replica;
pub mod router;
mod shard;
mod shard_cell;
mod shard_metrics;
pub mod signature;
pub mod state_machine;
pub mod supervisor;
pub(crate) mod telemetry;
pub mod user;

#[cfg(test)]
mod runtime_tests;
