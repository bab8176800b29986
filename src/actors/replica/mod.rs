//! The replica of a shard on this node: who orders the shard's batches and makes them durable.
//!
//! The only place that names openraft. Positions: openraft counts entries from 0, Quire from 1
//! ([`crate::ids::LogIndex`], where 0 is "nothing yet"); `types` converts.
//!
//! **Invariants**: R1 an entry reaches the [`port::Applier`] only when it is committed, in order,
//! without gap; R2 only what is durable in the shard's file is purged from the log; R3 a replica
//! that was replaced changes neither log nor state: the lane and the applier know its incarnation;
//! R4 state that lies behind a purged log is damage, never an empty start; R5 a proposal either
//! becomes an entry or is told that it may not have become one.
pub mod port;

pub mod actor;
mod handle;
mod log_storage;
mod network;
mod state_machine;
mod types;

#[cfg(test)]
mod log_suite;
#[cfg(test)]
mod tests;
