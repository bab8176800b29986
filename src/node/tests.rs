use std::path::PathBuf;
use std::time::Duration;

use super::{Node, NodeError};
use crate::actors::recommendation;
use crate::actors::router::Call;
use crate::actors::state_machine::StateMachine;
use crate::actors::supervisor::RestartCause;
use crate::actors::user::message::{
    Answer, Attempt, ClaimKind, Command, Query, Reply, claim_bucket,
};
use crate::config::Config;
use crate::ids::{GroupId, UserId};
use crate::node::run::USER_GROUPS;
use crate::seams::Seams;
use crate::store::error::StoreError;
use crate::store::log::{LaneOptions, LogLane};

fn config(folder: &tempfile::TempDir, shards: u16) -> Config {
    Config { data_dir: folder.path().join("data"), shards, ..Config::default() }
}

fn claim(number: u64) -> Command {
    Command::Claim {
        kind: ClaimKind::Name,
        normal: format!("user-{number}"),
        owner: UserId(number),
        attempt: Attempt(number),
    }
}

async fn owner(node: &Node, number: u64) -> Option<UserId> {
    let normal = format!("user-{number}");
    let bucket = claim_bucket(ClaimKind::Name, &normal);
    let query = Query::ResolveClaim { kind: ClaimKind::Name, normal };
    let Answer::Owner(owner) = node.app.users.query(Call::new(), bucket, query).await.unwrap()
    else {
        panic!("another answer")
    };
    owner
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_a_stop_and_a_start() {
    let folder = tempfile::tempdir().unwrap();
    for shards in [3, 1] {
        let node = Node::start_offline(&config(&folder, shards), Seams::system()).await.unwrap();
        assert_eq!(node.app.users.shards(), 3, "a directory keeps its shards");
        let first = owner(&node, 1).await.is_some();
        assert_eq!(first, shards == 1);
        let calls = (0..500).map(|number| node.app.users.command(Call::new(), claim(number)));
        for (number, reply) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
            assert_eq!(reply.unwrap(), Reply::Claimed(Attempt(number as u64)));
        }
        node.wait_ready().await.unwrap();
        assert_eq!(node.readiness().reasons, Vec::<String>::new());
        node.stop().await.unwrap();
    }
    let node = Node::start_offline(&config(&folder, 1), Seams::system()).await.unwrap();
    for number in 0..500 {
        assert_eq!(owner(&node, number).await, Some(UserId(number)));
    }
    node.stop().await.unwrap();
}

/// No restart repairs a file, and a budget would only hide the message for a minute and a half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_an_actor_meets_ends_the_node_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start_offline(&config(&folder, 1), Seams::system()).await.unwrap();
    node.wait_ready().await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(node.wait()).is_none(), "it runs");
    let lane = node.data_dir().lane(0);
    let rubbish = folder.path().join("rubbish");
    std::fs::write(&rubbish, vec![7; 4096]).unwrap();
    std::fs::rename(&rubbish, &lane).unwrap();
    node.tree().restart_child("quire/node/store/lane-0", RestartCause::Crash).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), node.wait()).await;
    match ended.expect("long before a budget is spent") {
        Err(NodeError::Store(StoreError::Damaged { path, .. })) => assert_eq!(path, lane),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(&lane).unwrap(), vec![7; 4096], "damage is not touched");
}

/// The damaged file that a node names which is started, instead of being ready.
async fn damaged_at_start(config: &Config) -> PathBuf {
    let ready = async {
        let node = Node::start_offline(config, Seams::system()).await?;
        node.wait_ready().await
    };
    let ready = tokio::time::timeout(Duration::from_secs(20), ready).await;
    match ready.expect("nobody waits for ever") {
        Err(NodeError::Store(StoreError::Damaged { path, .. })) => path,
        other => panic!("{other:?}"),
    }
}

/// Nobody waits for the start of the actor that meets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_what_is_read_in_the_background_ends_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, 1);
    let node = Node::start_offline(&config, Seams::system()).await.unwrap();
    node.wait_ready().await.unwrap();
    let path = node.data_dir().shard(recommendation::Service::NAME, 0);
    node.stop().await.unwrap();
    let file = redb::Database::open(&path).unwrap();
    let write = file.begin_write().unwrap();
    let serving = redb::TableDefinition::<&[u8], &[u8]>::new("serving");
    write.open_table(serving).unwrap().insert(&[][..], &b"rubbish"[..]).unwrap();
    write.commit().unwrap();
    drop(file);

    assert_eq!(damaged_at_start(&config).await, path);
}

/// The replica meets it long after the node has started, and nothing that waits for the replica may
/// wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_read_is_told_to_who_waits_for_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, 1);
    let node = Node::start_offline(&config, Seams::system()).await.unwrap();
    node.wait_ready().await.unwrap();
    let path = node.data_dir().lane(0);
    node.stop().await.unwrap();

    let lane = LogLane::open(&path, LaneOptions::default()).unwrap();
    let log = lane.group(GroupId(USER_GROUPS)).unwrap();
    let (done, durable) = std::sync::mpsc::channel();
    let entry = (log.state().last.next(), bytes::Bytes::from_static(b"rubbish"));
    log.append(vec![entry], Box::new(move |written| done.send(written).unwrap()));
    durable.recv().unwrap().unwrap();
    lane.close();

    assert_eq!(damaged_at_start(&config).await, path);
}

/// `QUIRE_UPDATE_DOCS=1` writes the table instead of comparing it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_child_specs_in_the_document_is_current() {
    let folder = tempfile::tempdir().unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config { listen: any, ops_listen: any, ..config(&folder, 1) };
    let node = Node::start(&config, Seams::system()).await.unwrap();
    let table = node.spec_table().to_owned();
    node.stop().await.unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/supervision.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- specs:begin -->\n", "<!-- specs:end -->");
    let (head, rest) = text.split_once(begin).unwrap();
    let (shown, tail) = rest.split_once(end).unwrap();
    if std::env::var_os("QUIRE_UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{begin}{table}{end}{tail}")).unwrap();
        return;
    }
    assert_eq!(shown, table, "run it with QUIRE_UPDATE_DOCS=1");
}
