//! Writing posts: drafts, publication, changes under a condition, deletion.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_problem, titles};
use crate::support::{HttpClient, TestNode, User, eventually, register, with_each_layout};

/// Longest time from the moment that a post is due to its publication, on a busy machine.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(20);

/// Writes a post and returns its id.
async fn write(user: &mut User, body: &Value) -> String {
    let answer = user.post("/v1/posts", body).await.expect(201);
    let id = answer.json()["id"].as_str().expect("an id is text").to_owned();
    assert_eq!(answer.header("location"), Some(format!("/v1/posts/{id}").as_str()));
    id
}

/// The entity tag of a post.
async fn tag_of(client: &mut HttpClient, id: &str) -> String {
    let answer = client.get(&format!("/v1/posts/{id}")).await.expect(200);
    answer.header("etag").expect("a post has a tag").to_owned()
}

#[tokio::test]
async fn a_draft_is_published_changed_and_deleted() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut client = node.client();
        let sent = json!({"title": "One", "body": "*hi*", "tags": ["A", "a"]});
        let answer = jake.post("/v1/posts", &sent).await.expect(201).json();
        let id = answer["id"].as_str().unwrap().to_owned();
        let expected = json!({"id": id, "version": 1, "visibility": "draft", "publish_at": null});
        assert_eq!(answer, expected);
        let path = format!("/v1/posts/{id}");
        let post = jake.get(&path).await.expect(200).json();
        assert_eq!((&post["tags"], &post["description"]), (&json!(["A"]), &json!("")));
        assert_eq!(
            (&post["html"], &post["published_at"]),
            (&json!("<p><em>hi</em></p>\n"), &json!(null))
        );
        client.get(&path).await.expect(404);

        let published = jake.post_nothing(&format!("{path}/publish")).await.expect(200).json();
        assert_eq!(
            (&published["visibility"], &published["version"]),
            (&json!("public"), &json!(2))
        );
        let again = jake.post(&format!("{path}/publish"), &json!({})).await.expect(200).json();
        assert_eq!(again, published, "a repetition changes nothing");
        let tag = tag_of(&mut client, &id).await;
        let change = json!({"title": "Two", "description": "About"});
        let condition = [("if-match", tag.as_str())];
        let changed = jake.ask("PATCH", &path, &condition, Some(&change)).await.expect(200);
        let now = jake.get(&path).await.expect(200);
        assert_eq!((now.header("etag"), now.json()), (changed.header("etag"), changed.json()));
        assert_eq!(
            (&changed.json()["title"], &changed.json()["body"]),
            (&json!("Two"), &json!("*hi*"))
        );

        let stale = jake.ask("PATCH", &path, &condition, Some(&change)).await;
        assert_problem(&stale, 412, "conflict", &[]);
        assert_problem(&jake.ask("DELETE", &path, &condition, None).await, 412, "conflict", &[]);
        assert_problem(&jake.ask("DELETE", &path, &[], None).await, 428, "conflict", &[]);
        let bare = [("if-match", "\"3\"")];
        jake.ask("PATCH", &path, &bare, Some(&json!({"tags": []}))).await.expect(200);

        let back = jake.post_nothing(&format!("{path}/unpublish")).await.expect(200).json();
        assert_eq!((&back["visibility"], &back["version"]), (&json!("draft"), &json!(5)));
        client.get(&path).await.expect(404);
        let tag = tag_of(&mut jake, &id).await;
        jake.ask("DELETE", &path, &[("if-match", tag.as_str())], None).await.expect(204);
        for (method, end) in
            [("GET", ""), ("DELETE", ""), ("POST", "/publish"), ("POST", "/unpublish")]
        {
            let answer =
                jake.ask(method, &format!("{path}{end}"), &[("if-match", "*")], None).await;
            assert_problem(&answer, 404, "not_found", &[]);
        }
    })
    .await;
}

#[tokio::test]
async fn each_visibility_shows_a_post_to_whom_it_should() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let mut bert = register(node, "bert").await;
        let mut client = node.client();
        anna.put("/v1/users/JAKE/follow", &json!({})).await.expect(204);
        let mut ids = Vec::new();
        for visibility in ["draft", "followers", "public", "unlisted"] {
            let body = json!({"title": visibility, "body": "b", "visibility": visibility});
            ids.push((visibility, write(&mut jake, &body).await));
        }
        for (visibility, id) in &ids {
            let path = format!("/v1/posts/{id}");
            let own = jake.get(&path).await.expect(200).json();
            assert_eq!(own["visibility"], *visibility);
            let token = own["link_token"].as_str();
            assert_eq!(token.is_some(), *visibility == "unlisted");
            let seen = |shown: bool| if shown { 200 } else { 404 };
            let by_followers = ["followers", "public"].contains(visibility);
            anna.get(&path).await.expect(seen(by_followers));
            bert.get(&path).await.expect(seen(*visibility == "public"));
            client.get(&path).await.expect(seen(*visibility == "public"));
            let link =
                format!("{path}?link={}", token.unwrap_or("00000000000000000000000000000000"));
            let shown = ["public", "unlisted"].contains(visibility);
            let answer = client.get(&link).await.expect(seen(shown));
            assert!(!shown || answer.json()["link_token"].is_null());
            // What he may not see is not there for any method; what he may is not his.
            for (method, end) in
                [("PATCH", ""), ("DELETE", ""), ("POST", "/publish"), ("POST", "/unpublish")]
            {
                let status = if by_followers { 403 } else { 404 };
                let code = if by_followers { "forbidden" } else { "not_found" };
                for condition in [&[("if-match", "*")][..], &[("if-match", "\"77\"")]] {
                    let answer = anna
                        .ask(method, &format!("{path}{end}"), condition, Some(&json!({})))
                        .await;
                    assert_problem(&answer, status, code, &[]);
                }
                let answer =
                    client.ask(method, &format!("{path}{end}"), &[], Some(&json!({}))).await;
                assert_problem(&answer, 401, "unauthenticated", &["/token"]);
            }
        }
        let listed = client.get("/v1/posts").await.expect(200).json();
        assert_eq!(titles(&listed), ["public"]);
        let own = jake.get("/v1/posts").await.expect(200).json();
        assert_eq!(titles(&own), ["unlisted", "public", "followers", "draft"]);

        // Another publication, another link.
        let (_, unlisted) = &ids[3];
        let path = format!("/v1/posts/{unlisted}");
        let old = jake.get(&path).await.expect(200).json()["link_token"].clone();
        jake.post(&format!("{path}/publish"), &json!({"visibility": "unlisted"})).await.expect(200);
        let link = |token: &Value| format!("{path}?link={}", token.as_str().unwrap());
        client.get(&link(&old)).await.expect(404);
        let new = jake.get(&path).await.expect(200).json()["link_token"].clone();
        client.get(&link(&new)).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_written_is_told_at_once() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let id = write(&mut jake, &json!({"title": "t", "body": "b"})).await;
        let (posts, post) = ("/v1/posts", format!("/v1/posts/{id}"));
        let publish = format!("{post}/publish");
        let (long, huge) = ("x".repeat(1001), "x".repeat(256 * 1024 + 1));
        let many: Vec<String> = (0..11).map(|n| n.to_string()).collect();
        let in_an_hour = "2111-01-01T00:00:00Z";
        let table = [
            ("POST", posts, json!({}), vec!["/title", "/body"]),
            ("POST", posts, json!({"title": null, "body": 1}), vec!["/title", "/body"]),
            ("POST", posts, json!({"title": " ", "body": ""}), vec!["/title", "/body"]),
            ("POST", posts, json!({"title": "t", "body": "b", "slug": 1}), vec!["/slug"]),
            ("POST", posts, json!({"title": "t", "body": "b", "tagList": []}), vec!["/tagList"]),
            ("POST", posts, json!({"title": "t", "body": "b", "tags": "a"}), vec!["/tags"]),
            ("POST", posts, json!({"title": "t", "body": "b", "tags": [1]}), vec!["/tags"]),
            ("POST", posts, json!({"title": "t", "body": "b", "tags": many}), vec!["/tags"]),
            ("POST", posts, json!({"title": "t", "body": "b", "description": long}), vec!["/description"]),
            ("POST", posts, json!({"title": "t", "body": huge}), vec!["/body"]),
            ("POST", posts, json!({"title": "t\0", "body": "b\0"}), vec!["/title", "/body"]),
            ("POST", posts, json!({"title": "t", "body": "b", "visibility": "all"}), vec!["/visibility"]),
            ("POST", posts, json!({"title": "t", "body": "b", "visibility": "scheduled"}), vec!["/publish_at"]),
            ("POST", posts, json!({"title": "t", "body": "b", "publish_at": in_an_hour}), vec!["/publish_at"]),
            (
                "POST",
                posts,
                json!({"title": "t", "body": "b", "visibility": "scheduled", "publish_at": "2020-01-01T00:00:00Z"}),
                vec!["/publish_at"],
            ),
            ("PATCH", &post, json!({"title": ""}), vec!["/title"]),
            ("PATCH", &post, json!({"title": null, "tags": null}), vec!["/title", "/tags"]),
            ("PATCH", &post, json!({"visibility": "public"}), vec!["/visibility"]),
            ("POST", &publish, json!({"visibility": "draft"}), vec!["/visibility"]),
            ("POST", &publish, json!({"visibility": "unlisted", "at": in_an_hour}), vec!["/at"]),
            ("POST", &publish, json!({"at": "tomorrow"}), vec!["/at"]),
            ("POST", &publish, json!({"at": "1969-12-31T23:59:59Z"}), vec!["/at"]),
            ("POST", &publish, json!({"at": "9999-01-01T00:00:00Z"}), vec!["/at"]),
            ("POST", &publish, json!({"at": "2020-01-01T00:00:00Z"}), vec!["/publish_at"]),
            ("POST", &publish, json!({"at": "x".repeat(5000)}), vec!["/at"]),
            ("POST", &format!("{post}/unpublish"), json!({"now": true}), vec!["/now"]),
        ];
        for (method, path, body, pointers) in table {
            let answer = jake.ask(method, path, &[("if-match", "*")], Some(&body)).await;
            let shown: String = body.to_string().chars().take(100).collect();
            println!("{method} {path} {shown}");
            assert_problem(&answer, 422, "invalid", &pointers);
        }
        for (body, kind, status) in [
            ("{", "application/json", 400),
            ("[]", "application/json", 422),
            ("{}", "text/plain", 415),
            ("{\"title\":\"a\",\"title\":\"b\"}", "application/json", 422),
        ] {
            let head = format!(
                "POST /v1/posts HTTP/1.1\r\nhost: quire\r\nauthorization: Bearer {}\r\n\
                 content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                jake.token(),
                body.len()
            );
            let answer = jake.exchange(head.as_bytes()).await.unwrap();
            assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/problem+json")), "{body}");
        }
        assert_eq!(titles(&jake.get("/v1/posts").await.expect(200).json()), ["t"], "nothing was written");
    })
    .await;
}

#[tokio::test]
async fn a_scheduled_post_becomes_public_at_its_time_or_late_but_never_not() {
    // Asked again and again: without a limit.
    let node = TestNode::builder().shards(4).set("anonymous_requests_max", 0);
    let mut node = node.start().await;
    let mut jake = register(&node, "jake").await;
    let soon = |ms: u128| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let at = jiff::Timestamp::from_millisecond((now.as_millis() + ms) as i64).unwrap();
        at.to_string()
    };
    let body =
        json!({"title": "Soon", "body": "b", "visibility": "scheduled", "publish_at": soon(1_500)});
    let soon_id = write(&mut jake, &body).await;
    let late_id = write(&mut jake, &json!({"title": "Late", "body": "b"})).await;
    let taken_id = write(&mut jake, &json!({"title": "Taken back", "body": "b"})).await;
    for (id, at) in [(&late_id, soon(4_000)), (&taken_id, soon(4_000))] {
        let path = format!("/v1/posts/{id}/publish");
        let answer = jake.post(&path, &json!({"at": at})).await.expect(200).json();
        assert_eq!(answer["visibility"], "scheduled");
        assert!(answer["publish_at"].is_string());
    }
    jake.post_nothing(&format!("/v1/posts/{taken_id}/unpublish")).await.expect(200);
    let mut client = node.client();
    client.get(&format!("/v1/posts/{late_id}")).await.expect(404);
    let shown = async |client: &mut HttpClient, id: &str| {
        let answer = client.get(&format!("/v1/posts/{id}")).await;
        (answer.status == 200).then(|| answer.json())
    };
    let post = eventually(PUBLISHED_WITHIN, "the post is public", async || {
        shown(&mut client, &soon_id).await
    })
    .await;
    assert_eq!((&post["visibility"], &post["publish_at"]), (&json!("public"), &json!(null)));

    // Its time comes while the node is down.
    let due = std::time::Instant::now() + Duration::from_millis(4_000);
    node.kill9();
    eventually(PUBLISHED_WITHIN, "the time has come", async || {
        (std::time::Instant::now() > due).then_some(())
    })
    .await;
    node.restart().await;
    let mut client = node.client();
    eventually(PUBLISHED_WITHIN, "the late post is public", async || {
        shown(&mut client, &late_id).await
    })
    .await;
    client.get(&format!("/v1/posts/{taken_id}")).await.expect(404);
}
