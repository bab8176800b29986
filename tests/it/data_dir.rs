//! A data directory that cannot be used: one line that says what to do, exit code 3, and what
//! is damaged is not touched. What was acknowledged is there again as soon as the cause is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::support::mounts::Mounts;
use crate::support::node::{Builder, Ended};
use crate::support::people::article;
use crate::support::{TestNode, User, eventually, register};

/// The exit code of a directory that cannot be used.
const UNUSABLE: i32 = 3;

/// The damaged file, what the advice names, and what is done to the file.
type Damage = (&'static str, &'static str, fn(&Path));

#[tokio::test]
async fn a_directory_in_use_is_left_to_who_uses_it() {
    let node = TestNode::builder().start().await;
    let mut jake = register(&node, "jake").await;
    let ended = TestNode::builder().data_dir(node.data_dir()).run_to_end().await;
    assert_unusable(&ended, "in use");
    jake.create("Still here", &[]).await;
    node.ops().get("/readyz").await.expect(200);
    let published = quire::node::data_dir::ops_address(node.data_dir());
    assert_eq!(published, Some(node.ops().address()), "where the node is can still be found");
}

#[tokio::test]
async fn a_damaged_or_newer_directory_is_refused_and_not_touched() {
    let whole = directory_with_data().await;
    let damages: &[Damage] = &[
        ("quire.json", "quire.json", |file| std::fs::write(file, "{\"format\":").unwrap()),
        ("quire.json", "format 99", |file| {
            let text = std::fs::read_to_string(file).unwrap();
            std::fs::write(file, text.replacen("\"format\": 1", "\"format\": 99", 1)).unwrap();
        }),
        ("quire.json", "quire.json", |file| std::fs::remove_file(file).unwrap()),
        ("signing.key", "signing.key", |file| std::fs::write(file, "short").unwrap()),
        ("post-0.redb", "post-0.redb", overwrite_start),
        ("user-0.redb", "user-0.redb", overwrite_start),
        ("log-0.redb", "log-0.redb", overwrite_start),
        ("post-0.redb", "post-0.redb", cut_in_half),
        ("log-0.redb", "log-0.redb", cut_in_half),
        ("post-0.redb", "post-0.redb", |file| std::fs::write(file, "").unwrap()),
        ("log-0.redb", "log-0.redb", |file| std::fs::write(file, "").unwrap()),
        ("post-0.redb", "post-0.redb", overwrite_middle),
        ("user-0.redb", "user-0.redb", overwrite_middle),
        ("log-0.redb", "log-0.redb", overwrite_middle),
    ];
    let mut wrong = Vec::new();
    for (number, (file, named, damage)) in damages.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let copy = copy_of(whole.data_dir(), folder.path());
        damage(&copy.join(file));
        let before = bytes_of(&copy);
        let ended = TestNode::builder().data_dir(&copy).run_to_end_within(Duration::from_secs(10));
        let what = format!("damage {number} of {file}");
        let Some(ended) = ended.await else {
            wrong.push(format!("{what}: the node runs"));
            continue;
        };
        if ended.code != Some(UNUSABLE) || !ended.stderr.contains(named) {
            wrong.push(format!("{what}: {ended:?}"));
        }
        // The others may have been opened; what is damaged is for whoever repairs it.
        let changed = changes(&before, &copy);
        if changed.contains(*file) {
            wrong.push(format!("{what}: it was changed"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file that is gone is no reason to begin empty: either the log still has it all, or the node
/// does not start.
#[tokio::test]
async fn a_missing_file_is_never_taken_for_an_empty_one() {
    let whole = directory_with_data().await;
    for file in ["post-0.redb", "user-0.redb", "log-0.redb"] {
        let folder = tempfile::tempdir().unwrap();
        let copy = copy_of(whole.data_dir(), folder.path());
        std::fs::remove_file(copy.join(file)).unwrap();
        let mut node = TestNode::builder().data_dir(&copy).spawn();
        if let Err(ended) = node.ready_or_ended().await {
            assert_unusable(&ended, file);
            continue;
        }
        let listed = node.client().get("/api/articles").await.expect(200).json();
        assert_eq!(listed["articlesCount"], 3, "without {file}");
        node.client().get("/api/profiles/jake").await.expect(200);
    }
}

#[tokio::test]
async fn a_read_only_directory_is_refused() {
    let whole = directory_with_data().await;
    let empty = tempfile::tempdir().unwrap();
    for directory in [whole.data_dir(), empty.path()] {
        let script = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\"";
        let Some(mounts) = Mounts::new(script, directory) else { return };
        let before = bytes_of(directory);
        let node = TestNode::builder().data_dir(directory).launcher(mounts.launcher());
        assert_unusable(&node.run_to_end().await, "cannot be written");
        assert_eq!(bytes_of(directory), before);
    }
}

/// What was cut off is not found until somebody needs it; the next checkpoint does, and ends the node.
#[tokio::test]
async fn a_file_that_is_damaged_while_the_node_runs_ends_it() {
    let node = TestNode::builder().set("checkpoint_age_s", 1).set("cache_bytes", 1024 * 1024);
    let mut node = node.start().await;
    let mut jake = register(&node, "jake").await;
    let mut slugs = Vec::new();
    // More than the caches hold.
    for number in 0..350 {
        let answer = jake.send("POST", "/api/articles", Some(&big_article(number))).await.unwrap();
        slugs.push(slug_of(&answer.expect(201)));
    }
    eventually(Duration::from_secs(60), "all of it is written", async || {
        let metrics = node.ops().get("/metrics").await.expect(200).text();
        let found = metrics
            .lines()
            .find(|line| line.starts_with("quire_unwritten_bytes") && line.contains("=\"post\""));
        found.is_some_and(|line| line.ends_with(" 0")).then_some(())
    })
    .await;
    let file = node.data_dir().join("post-0.redb");
    let length = std::fs::metadata(&file).unwrap().len();
    assert!(length > 350 * 128 * 1024);
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length / 8).unwrap();
    // Readers meet what is in memory, or the damage; that a reader alone ends nothing is shown by
    // `a_query_that_panics_or_meets_damage_is_an_internal_error_and_restarts_nothing`. A checkpoint
    // may meet it meanwhile, and then nobody answers.
    let mut client = node.client();
    for slug in &slugs {
        match client.send("GET", &format!("/api/articles/{slug}"), None).await {
            Ok(answer) => assert!([200, 500, 503].contains(&answer.status), "{}", answer.status),
            Err(_ended) => break,
        }
    }
    let _ = jake.send("POST", "/api/articles", Some(&big_article(1000))).await;
    let ended = node.end_within(Duration::from_secs(30)).await.expect("the node ends");
    assert_unusable(&ended, "post-0.redb");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_the_node_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let script = "mount -t tmpfs -o size=24m,mode=700 tmpfs \"$1\"";
    let Some(mounts) = Mounts::new(script, directory) else { return };
    let builder = || {
        // Small checkpoints: they need room, too.
        let builder = TestNode::builder().data_dir(&directory.join("data"));
        builder.launcher(mounts.launcher()).set("checkpoint_bytes", 1024 * 1024)
    };
    let mut node = builder().start().await;
    let mut jake = register(&node, "jake").await;
    let mut acknowledged = fill(&mut jake).await;
    assert!(acknowledged.len() > 5, "only {} fitted", acknowledged.len());

    // Full: not ready, writes are refused, reads go on, the process lives.
    let mut ops = node.ops();
    eventually(Duration::from_secs(10), "a full node is not ready", async || {
        let _ = jake.send("POST", "/api/articles", Some(&big_article(0))).await;
        (ops.get("/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_all(&node, &acknowledged).await;

    // Room is made: it recovers by itself.
    mounts.run("mount -o remount,size=64m \"$1\"", directory);
    let slug = eventually(Duration::from_secs(30), "the node writes again", async || {
        let answer = jake.send("POST", "/api/articles", Some(&big_article(1))).await.ok()?;
        (answer.status == 201).then(|| slug_of(&answer))
    })
    .await;
    acknowledged.push(slug);
    node.wait_ready().await;
    assert_all(&node, &acknowledged).await;
    acknowledged.extend(fill(&mut jake).await);

    // A crash on a full disk, and a start on one.
    node.kill9();
    node.respawn();
    if let Some(ended) = node.end_within(Duration::from_secs(5)).await {
        assert_unusable(&ended, "no space");
    } else {
        // Whether it can answer reads depends on a few bytes: before the first answer the log is
        // replayed, and to replay it the replica must write its vote. It waits for room, or reads.
        node.kill9();
    }
    mounts.run("mount -o remount,size=256m \"$1\"", directory);
    node.restart().await;
    assert_all(&node, &acknowledged).await;
    jake = sign_in_again(&node, jake);
    jake.create("Room again", &[]).await;
}

fn sign_in_again(node: &TestNode, jake: User) -> User {
    let token = jake.token().to_owned();
    let mut client = node.client();
    client.set_token(token);
    User::of(&jake.name, client)
}

/// Writes large articles until one is refused; the slugs of those that were not.
async fn fill(user: &mut User) -> Vec<String> {
    let mut slugs = Vec::new();
    for number in 0..2_000 {
        match user.send("POST", "/api/articles", Some(&big_article(number))).await {
            Ok(answer) if answer.status == 201 => slugs.push(slug_of(&answer)),
            Ok(answer) => {
                assert!([503, 504].contains(&answer.status), "{}", answer.text());
                return slugs;
            }
            Err(error) => panic!("the node went away: {error}"),
        }
    }
    panic!("the disk is never full");
}

fn big_article(number: usize) -> serde_json::Value {
    let mut body = article(&format!("Large {number}"), &["large"]);
    body["article"]["body"] = json!("0123456789abcdef".repeat(8 * 1024));
    body
}

fn slug_of(answer: &crate::support::Response) -> String {
    crate::support::people::slug(&answer.json()["article"])
}

async fn assert_all(node: &TestNode, slugs: &[String]) {
    let mut client = node.client();
    for slug in slugs {
        let found = client.get(&format!("/api/articles/{slug}")).await.expect(200).json();
        assert_eq!(found["article"]["body"].as_str().unwrap().len(), 128 * 1024);
    }
}

#[track_caller]
fn assert_unusable(ended: &Ended, names: &str) {
    assert_eq!(ended.code, Some(UNUSABLE), "{ended:?}");
    let advice = ended.advice();
    assert!(advice.contains(names), "{advice:?} does not say {names:?}");
}

/// A directory of a node that has stopped; `jake` wrote three articles.
async fn directory_with_data() -> TestNode {
    let mut node = Builder::default().start().await;
    let mut jake = register(&node, "jake").await;
    for title in ["One", "Two", "Three"] {
        jake.create(title, &["tag"]).await;
    }
    assert_eq!(node.terminate().await.code(), Some(0));
    node
}

fn copy_of(directory: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join("data");
    std::fs::create_dir(&copy).unwrap();
    for (name, bytes) in bytes_of(directory) {
        std::fs::write(copy.join(name), bytes).unwrap();
    }
    copy
}

/// Every file of a directory but for the lock, which holds nothing.
fn bytes_of(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
    let files = entries.filter(|entry| name(entry) != "lock");
    files.map(|entry| (name(&entry), std::fs::read(entry.path()).unwrap())).collect()
}

/// Names of the files that are not as they were.
fn changes(before: &BTreeMap<String, Vec<u8>>, directory: &Path) -> BTreeSet<String> {
    let after = bytes_of(directory);
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

fn overwrite_start(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[..4096].fill(0xAA);
    std::fs::write(file, bytes).unwrap();
}

/// What lies behind the header, which alone looks fine.
fn overwrite_middle(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[4096..].fill(0xAA);
    std::fs::write(file, bytes).unwrap();
}

fn cut_in_half(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}
