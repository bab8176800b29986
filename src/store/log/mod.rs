//! Log lanes: the durable logs of many groups in one file, with one fsync for all that wait.
//!
//! A lane is one redb file and one thread. Appends, votes, truncations and purges of all groups
//! queue up while a commit runs; the next commit takes all of them, and then answers all of them.
//!
//! **Invariants**: L1 what was answered with `Ok` survives a power cut; L2 the log of a group has
//! no hole; L3 what was appended can be read at once, durable or not; L4 requests of a group take
//! effect in the order in which they were made; L5 a handle that was replaced by a newer one
//! changes nothing any more; L6 every request is answered exactly once, also when the lane fails.
mod file;
mod group;
mod lane;
mod writer;

#[cfg(test)]
mod power_cuts;
#[cfg(test)]
mod tests;

pub use group::{GroupLog, GroupLogState};
pub use lane::{LaneObserver, LaneOptions, LogLane};
pub use writer::Done;
