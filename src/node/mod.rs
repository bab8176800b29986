//! A node: the data directory, the tree, and everything on it, as one thing to start and stop.
pub mod data_dir;
mod lane_watch;
mod run;
mod tree;

pub use run::{Node, NodeError};

#[cfg(test)]
mod block_tests;
#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod recommendation_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;
