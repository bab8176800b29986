//! Requests that are sent again under the same key.

use serde_json::json;

use super::{assert_problem, titles};
use crate::support::{TestNode, User, register, with_each_layout};

fn replayed(answer: &crate::support::Response) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

#[tokio::test]
async fn the_same_request_has_one_effect_and_one_answer() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let body = json!({"title": "One", "body": "b"});
        let key = [("idempotency-key", "a key, with blanks")];
        let first = jake.ask("POST", "/v1/posts", &key, Some(&body)).await.expect(201);
        assert!(!replayed(&first));
        for _ in 0..3 {
            let again = jake.ask("POST", "/v1/posts", &key, Some(&body)).await.expect(201);
            assert!(replayed(&again));
            assert_eq!(again.body, first.body);
            assert_eq!(again.header("location"), first.header("location"));
        }
        // A key is its user's, and of one path.
        let other = anna.ask("POST", "/v1/posts", &key, Some(&body)).await.expect(201);
        assert!(!replayed(&other) && other.body != first.body);
        let id = first.json()["id"].as_str().unwrap().to_owned();
        let publish = format!("/v1/posts/{id}/publish");
        let published = jake.ask("POST", &publish, &key, None).await.expect(200);
        assert!(!replayed(&published));

        let wrong = json!({"title": "Two", "body": "b"});
        let refused = jake.ask("POST", "/v1/posts", &key, Some(&wrong)).await;
        assert_problem(&refused, 422, "invalid", &["/idempotency-key"]);
        assert_eq!(titles(&jake.get("/v1/posts?author=jake").await.expect(200).json()), ["One"]);

        // What was answered is answered again, whatever has become of the post.
        jake.ask("DELETE", &format!("/v1/posts/{id}"), &[("if-match", "*")], None)
            .await
            .expect(204);
        let again = jake.ask("POST", &publish, &key, None).await.expect(200);
        assert_eq!((replayed(&again), &again.body), (true, &published.body));
        let again = jake.ask("POST", "/v1/posts", &key, Some(&body)).await.expect(201);
        assert_eq!((replayed(&again), &again.body), (true, &first.body));
        assert_eq!(titles(&jake.get("/v1/posts?author=jake").await.expect(200).json()), [""; 0]);

        // A refusal, too.
        let gone = [("idempotency-key", "gone")];
        let refused = jake.ask("POST", &publish, &gone, None).await;
        assert_problem(&refused, 404, "not_found", &[]);
        let again = jake.ask("POST", &publish, &gone, None).await;
        assert_problem(&again, 404, "not_found", &[]);
        assert!(!replayed(&refused) && replayed(&again));

        for bad in ["", &"x".repeat(256), "é"] {
            let answer =
                jake.ask("POST", "/v1/posts", &[("idempotency-key", bad)], Some(&body)).await;
            assert_problem(&answer, 400, "invalid", &["/idempotency-key"]);
        }
    })
    .await;
}

/// What became of the post since is no matter, nor whose the post was.
#[tokio::test]
async fn a_wish_is_answered_again_when_its_post_is_gone() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let slug = jake.create_slug("One", &[]).await;
        let id = &slug[slug.len() - 13..];
        let wishes = ["less", "hide", "mute_author"];
        for what in wishes {
            let wish = json!({ "what": what, "post": id });
            let key = [("idempotency-key", what)];
            let first = anna.ask("POST", "/v1/feedback", &key, Some(&wish)).await.expect(204);
            assert!(!replayed(&first), "{what}");
        }
        let path = format!("/v1/posts/{id}");
        jake.ask("DELETE", &path, &[("if-match", "*")], None).await.expect(204);
        for what in wishes {
            let wish = json!({ "what": what, "post": id });
            let key = [("idempotency-key", what)];
            let again = anna.ask("POST", "/v1/feedback", &key, Some(&wish)).await.expect(204);
            assert!(replayed(&again), "{what}");
            let fresh = anna.ask("POST", "/v1/feedback", &[], Some(&wish)).await;
            assert_problem(&fresh, 404, "not_found", &[]);
            let gone = [("idempotency-key", "gone")];
            let refused = anna.ask("POST", "/v1/feedback", &gone, Some(&wish)).await;
            if what == "less" {
                assert_problem(&refused, 404, "not_found", &[]);
                let again = anna.ask("POST", "/v1/feedback", &gone, Some(&wish)).await;
                assert_problem(&again, 404, "not_found", &[]);
                assert!(!replayed(&refused) && replayed(&again));
            } else {
                assert_problem(&refused, 422, "invalid", &["/idempotency-key"]);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn keys_outlive_the_process() {
    let mut node = TestNode::builder().shards(4).start().await;
    let jake = register(&node, "jake").await;
    let token = jake.token().to_owned();
    let body = json!({"title": "One", "body": "b"});
    let key = [("idempotency-key", "k")];
    let mut first = None;
    for _ in 0..3 {
        let mut client = node.client();
        client.set_token(&token);
        let answer = client.ask("POST", "/v1/posts", &key, Some(&body)).await.expect(201);
        assert_eq!(replayed(&answer), first.is_some());
        assert_eq!(*first.get_or_insert(answer.body.clone()), answer.body);
        node.kill9();
        node.restart().await;
    }
}

#[tokio::test]
async fn of_many_at_once_one_has_an_effect() {
    with_each_layout(async |node| {
        let jake = register(node, "jake").await;
        let body = json!({"title": "One", "body": "b"});
        let tries = (0..16).map(|_| async {
            let mut client = node.client();
            client.set_token(jake.token());
            let key = [("idempotency-key", "k")];
            client.ask("POST", "/v1/posts", &key, Some(&body)).await
        });
        let answers = futures_util::future::join_all(tries).await;
        let mut fresh = 0;
        for answer in &answers {
            match answer.status {
                201 => fresh += usize::from(!replayed(answer)),
                _ => assert_problem(answer, 409, "conflict", &[]),
            }
        }
        assert_eq!(fresh, 1);
        let mut jake = User::of("jake", node.client());
        assert_eq!(titles(&jake.get("/v1/posts").await.expect(200).json()), [""; 0], "a draft");
    })
    .await;
}
