//! Blocks of a whole node that are refused, or were cut off between their two ends.

use axum::body::Body;
use axum::http::Request;
use futures_util::future::join_all;
use tower::ServiceExt;

use super::Node;
use crate::actors::router::Call;
use crate::actors::user::EDGES_MAX;
use crate::actors::user::message::{Answer, Attempt, ClaimKind, Claimed, Command, Query};
use crate::config::{Config, SHARD_PERMITS};
use crate::http::routes;
use crate::ids::{Bucket, Stamp, UserId};
use crate::seams::Seams;

struct Site(Node);

impl Site {
    async fn tell(&self, command: Command) {
        self.0.app.users.command(Call::new(), command).await.unwrap();
    }

    async fn register(&self, name: &str, number: u64) -> UserId {
        let user = UserId::new(Stamp(1_000_000 + number), Bucket::new(number));
        let (normal, attempt) = (name.to_owned(), Attempt(number));
        let claim =
            Command::Claim { kind: ClaimKind::Name, normal: normal.clone(), owner: user, attempt };
        self.tell(claim).await;
        let claimed = Claimed { shown: normal.clone(), normal, attempt };
        self.tell(Command::CreateUser {
            user,
            name: claimed.clone(),
            email: claimed,
            password_hash: None,
            bio: None,
            image: None,
            created_at: None,
        })
        .await;
        user
    }

    /// What `method` of a user's block is answered with.
    async fn block(&self, method: &str, user: UserId, name: &str) -> u16 {
        let app = &self.0.app;
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/users/{name}/block"))
            .header("authorization", format!("Bearer {}", app.tokens.sign(user, 1)))
            .body(Body::empty());
        routes(app.clone()).oneshot(request.unwrap()).await.unwrap().status().as_u16()
    }

    async fn is_hidden_from(&self, viewer: UserId, author: UserId) -> bool {
        let query = Query::GetViewer { user: viewer };
        match self.0.app.users.query(Call::new(), viewer.bucket(), query).await.unwrap() {
            Answer::Viewer(viewer) => viewer.is_blocked_by(author),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_refused_or_cut_off_hides_nothing_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { data_dir: folder.path().join("data"), shards: 2, ..Config::default() };
    let node = Node::start_offline(&config, Seams::system()).await.unwrap();
    node.wait_ready().await.unwrap();
    let site = Site(node);
    let (jake, anna) = (site.register("jake", 1).await, site.register("anna", 2).await);

    // As a block leaves it that is cut off, and as that of a node before this order did.
    let other = |on| Command::SetBlockedBy { user: anna, blocker: jake, on };
    let own = |target, on| Command::SetBlock { user: jake, target, on };
    for half in [other(true), own(anna, true)] {
        for (method, hidden) in [("PUT", true), ("DELETE", false)] {
            site.tell(half.clone()).await;
            assert_eq!(site.block(method, jake, "anna").await, 204);
            assert_eq!(site.is_hidden_from(anna, jake).await, hidden, "{half:?}, {method}");
        }
    }

    let strangers: Vec<UserId> = (0..EDGES_MAX).map(|user| UserId(u64::from(user) << 13)).collect();
    for some in strangers.chunks(SHARD_PERMITS / 2) {
        join_all(some.iter().map(|stranger| site.tell(own(*stranger, true)))).await;
    }
    assert_eq!(site.block("PUT", jake, "anna").await, 422);
    assert!(!site.is_hidden_from(anna, jake).await);
    site.tell(own(strangers[0], false)).await;
    assert_eq!(site.block("PUT", jake, "anna").await, 204);
    assert!(site.is_hidden_from(anna, jake).await);
    site.0.stop().await.unwrap();
}
