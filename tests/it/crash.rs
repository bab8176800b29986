//! The process is killed at random moments while many clients write; after each restart every
//! acknowledged write is there, and nothing else is.
//!
//! `QUIRE_CRASH_ROUNDS` sets the number of rounds, `QUIRE_SEED` repeats a run's decisions.

mod model;
mod verify;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::support::{TestNode, randomness};
use model::{Person, Square};
use writer::Writer;

const CLIENTS: usize = 16;
const ROUNDS: usize = 3;
/// Shortest and longest time of writing before the process is killed.
const WRITING_MS: std::ops::Range<u64> = 50..1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_sigkill() {
    let rounds = match std::env::var("QUIRE_CRASH_ROUNDS") {
        Ok(text) => text.parse().expect("QUIRE_CRASH_ROUNDS is a number"),
        Err(_) => ROUNDS,
    };
    let mut random = randomness();
    // Small checkpoints, so that crashes fall into them, too.
    let mut node = TestNode::builder()
        .shards(random.random_range(1..=4))
        .set("checkpoint_bytes", 64 * 1024)
        .set("checkpoint_age_s", 1)
        .start()
        .await;
    let mut square = Square::default();
    let mut people: Vec<Person> = Vec::new();
    for number in 0..CLIENTS {
        let mut person = Person::register(&node, number).await;
        square.slugs.push(person.publish_shared(&node).await);
        people.push(person);
    }
    let square = Arc::new(square);
    for round in 0..rounds {
        let writing = Duration::from_millis(random.random_range(WRITING_MS));
        people = write_until_killed(&mut node, people, &square, &mut random, writing).await;
        if random.random_bool(0.3) {
            // A second crash, while the log is being replayed.
            node.respawn();
            let moment = Duration::from_millis(random.random_range(0..300));
            tokio::time::sleep(moment).await; // A random moment is the point.
            node.kill9();
        }
        let began = Instant::now();
        node.restart().await;
        let start = began.elapsed();
        let began = Instant::now();
        let counts = verify::everything(&node, &mut people, &square).await;
        println!(
            "round {round}: wrote {writing:?}, start {start:?}, {counts}, checked in {:?}",
            began.elapsed()
        );
    }
}

/// All clients write as fast as they can until the process is gone.
async fn write_until_killed(
    node: &mut TestNode,
    people: Vec<Person>,
    square: &Arc<Square>,
    random: &mut StdRng,
    writing: Duration,
) -> Vec<Person> {
    let mut writers = JoinSet::new();
    for person in people {
        let random = StdRng::seed_from_u64(random.random());
        let writer = Writer::new(node, person, square.clone(), random);
        writers.spawn(writer.write_until_the_end());
    }
    tokio::time::sleep(writing).await; // A random moment is the point.
    node.kill9();
    let mut people = writers.join_all().await;
    people.sort_by_key(|person| person.number);
    people
}
