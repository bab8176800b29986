//! What the tests of the whole program share: the program as a process, a client, and waiting.

pub mod client;
pub mod mounts;
pub mod node;
pub mod people;
pub mod snapshot;
pub mod wait;

pub use client::{Connection, HttpClient, Response};
pub use node::TestNode;
pub use people::{User, register};
pub use wait::eventually;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Randomness that can be had again: the seed is printed, and taken from `QUIRE_SEED`.
pub fn randomness() -> StdRng {
    let given = std::env::var("QUIRE_SEED").ok();
    let seed = match given {
        Some(text) => text.parse().expect("QUIRE_SEED is a number"),
        None => rand::random(),
    };
    println!("QUIRE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Runs a test with one shard per service and with four: callers must see no difference.
pub async fn with_each_layout(test: impl AsyncFn(&TestNode)) {
    for shards in [1, 4] {
        println!("with {shards} shards per service");
        let node = TestNode::builder().shards(shards).start().await;
        test(&node).await;
    }
}
