//! How long callers wait when a post shard crashes under load.
//!
//! Short in `cargo test`; the figures of the README come from the long form, in release:
//! `QUIRE_RECOVERY_POSTS=100000 QUIRE_CRASH_ROUNDS=200 cargo test --release recovery -- --nocapture`

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};

use super::Node;
use crate::actors::post::message::{Command, Query, Reply, Visibility};
use crate::actors::router::Call;
use crate::config::Config;
use crate::ids::{Bucket, PostId, UserId};
use crate::seams::Seams;

fn from_env(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn post(number: usize) -> Command {
    Command::CreatePost {
        bucket: Bucket::new(number as u64),
        author: UserId(number as u64 % 100),
        title: format!("post {number}"),
        description: String::new(),
        body: "b".repeat(5_000),
        tags: vec![format!("tag-{}", number % 50)],
        visibility: Visibility::Public,
        publish_at: None,
        link_token: [0; 16],
        created_at: None,
        import: None,
    }
}

/// Each crash is to be a first one: neither back-off nor restart budget (thirty in ten seconds) is what
/// is measured.
async fn healthy_again() {
    tokio::time::sleep(Duration::from_millis(1_200)).await;
}

async fn create(node: &Node, number: usize) -> PostId {
    match node.app.posts.command(Call::new(), post(number)).await {
        Ok(Reply::Post { id, .. }) => id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_from_a_crash_is_quick_whatever_the_shard_holds() {
    let posts = from_env("QUIRE_RECOVERY_POSTS", 1_000);
    let rounds = from_env("QUIRE_CRASH_ROUNDS", 3);
    let folder = tempfile::tempdir().unwrap();
    let config = Config { data_dir: folder.path().join("data"), ..Config::default() };
    let node = Node::start_offline(&config, Seams::system()).await.unwrap();
    let creating = stream::iter(0..posts).map(|number| create(&node, number));
    let mut ids: Vec<PostId> = creating.buffer_unordered(512).collect().await;
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        healthy_again().await;
        node.app.posts.crash(0);
        let started = Instant::now();
        let query = Query::GetPost {
            post: ids[round % ids.len()],
            viewer: None,
            link_token: None,
            known: None,
            favorited: false,
        };
        node.app.posts.query_shard(Call::new(), 0, query).await.unwrap();
        reads.push(started.elapsed());
        healthy_again().await;
        node.app.posts.crash(0);
        let started = Instant::now();
        ids.push(create(&node, posts + round).await);
        writes.push(started.elapsed());
    }
    for (what, times) in [("read", &mut reads), ("write", &mut writes)] {
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "{posts} posts, {rounds} crashes: first {what} after {:?} (median), {:?} (p99), {:?} (max)",
            at(0.5),
            at(0.99),
            at(1.0)
        );
        assert!(at(1.0) < Duration::from_secs(5), "callers wait, but not for long");
    }
    for id in ids {
        let query = Query::GetPost {
            post: id,
            viewer: None,
            link_token: None,
            known: None,
            favorited: false,
        };
        node.app.posts.query_shard(Call::new(), 0, query).await.unwrap();
    }
    node.stop().await.unwrap();
}
