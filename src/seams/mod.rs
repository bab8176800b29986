//! What a simulation replaces: one seam for each thing that makes a run unrepeatable.
//!
//! Below everything else, so that all layers can use it. `clippy.toml` forbids the direct calls
//! elsewhere; ADR 0010 tells what a simulated run repeats and what not. Two more seams are where
//! their types are: files are opened by `store::file::Storage` only, and
//! openraft's runtime is named in `actors/replica/types.rs` only.

mod clock;
mod random;
pub mod tasks;
pub mod time;

pub use clock::Clock;
pub use random::Random;

/// What a node takes from outside, as handles: each node of a simulation can have its own.
#[derive(Clone)]
pub struct Seams {
    /// What time it is.
    pub clock: Clock,
    /// Where random numbers come from.
    pub random: Random,
}

impl Seams {
    /// Those of the program.
    pub fn system() -> Self {
        Self { clock: Clock::system(), random: Random::system() }
    }
}
