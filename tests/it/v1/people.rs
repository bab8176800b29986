//! Following, muting and blocking.

use serde_json::json;

use super::{assert_problem, titles};
use crate::support::{HttpClient, register, with_each_layout};

#[tokio::test]
async fn an_edge_is_set_and_cleared_however_often() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        jake.create("One", &[]).await;
        let following = async |anna: &mut crate::support::User| {
            let page = anna.get("/v1/posts").await.expect(200).json();
            page["data"][0]["author"]["following"].clone()
        };
        for (method, follows) in
            [("PUT", true), ("PUT", true), ("DELETE", false), ("DELETE", false)]
        {
            for edge in ["follow", "mute"] {
                let path = format!("/v1/users/jake/{edge}");
                let answer = anna.ask(method, &path, &[], None).await.expect(204);
                assert!(answer.body.is_empty());
            }
            assert_eq!(following(&mut anna).await, json!(follows));
        }
        // A mute leaves the feed of the other API.
        anna.ask("PUT", "/v1/users/jake/follow", &[], None).await.expect(204);
        assert_eq!(anna.get("/api/articles/feed").await.expect(200).json()["articlesCount"], 1);
        anna.ask("PUT", "/v1/users/jake/mute", &[], None).await.expect(204);
        assert_eq!(anna.get("/api/articles/feed").await.expect(200).json()["articlesCount"], 0);
    })
    .await;
}

#[tokio::test]
async fn from_its_answer_on_a_block_hides_every_post() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let slug = jake.create_slug("One", &["t"]).await;
        let shown = async |anna: &mut crate::support::User, status: u16, count: usize| {
            anna.get(&format!("/v1/posts/{slug}")).await.expect(status);
            for list in [
                "/v1/posts",
                "/v1/posts?tag=t",
                "/v1/posts?author=jake",
                "/v1/posts?tag=t&author=jake",
            ] {
                let page = anna.get(list).await.expect(200).json();
                assert_eq!(titles(&page).len(), count, "{list}");
            }
        };
        shown(&mut anna, 200, 1).await;
        for _ in 0..2 {
            jake.ask("PUT", "/v1/users/anna/block", &[], None).await.expect(204);
            shown(&mut anna, 404, 0).await;
        }
        jake.get(&format!("/v1/posts/{slug}")).await.expect(200);
        for _ in 0..2 {
            jake.ask("DELETE", "/v1/users/anna/block", &[], None).await.expect(204);
            shown(&mut anna, 200, 1).await;
        }
    })
    .await;
}

/// Of requests that meet, the last may be either; but both ends say the same then.
#[tokio::test]
async fn the_ends_of_a_block_agree_when_it_was_changed_at_once() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let path = format!("/v1/posts/{}", jake.create_slug("One", &[]).await);
        let mut clients: Vec<HttpClient> = (0..8).map(|_| node.client()).collect();
        for round in 0..20 {
            let tries = clients.iter_mut().enumerate().map(|(number, client)| {
                client.set_token(jake.token());
                let method = if (number + round) % 2 == 0 { "PUT" } else { "DELETE" };
                async move { client.ask(method, "/v1/users/anna/block", &[], None).await }
            });
            for answer in futures_util::future::join_all(tries).await {
                answer.expect(204);
            }
            let blocks = jake.get("/v1/me/blocks").await.expect(200).json();
            let is_blocked = !blocks["data"].as_array().unwrap().is_empty();
            let hidden = anna.get(&path).await.status == 404;
            assert_eq!(hidden, is_blocked, "round {round}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_edge_has_two_ends() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut client = node.client();
        for edge in ["follow", "mute", "block"] {
            for method in ["PUT", "DELETE"] {
                let to = |name: &str| format!("/v1/users/{name}/{edge}");
                let own = jake.ask(method, &to("jake"), &[], None).await;
                assert_problem(&own, 422, "invalid", &["/username"]);
                for name in ["nobody", "%00", "%FF%FE", &"x".repeat(2000)] {
                    let answer = jake.ask(method, &to(name), &[], None).await;
                    assert!([400, 404].contains(&answer.status), "{name}: {}", answer.text());
                }
                let unknown = jake.ask(method, &to("nobody"), &[], None).await;
                assert_problem(&unknown, 404, "not_found", &[]);
                let nobody = client.ask(method, &to("jake"), &[], None).await;
                assert_problem(&nobody, 401, "unauthenticated", &["/token"]);
            }
            let wrong = jake.ask("GET", &format!("/v1/users/jake/{edge}"), &[], None).await;
            assert_problem(&wrong, 405, "invalid", &["/method"]);
        }
    })
    .await;
}
