//! The signed-in reader: reads, history, interests, feedback.

use serde_json::{Value, json};

use super::{assert_problem, assert_time};
use crate::support::people::{encode, slug};
use crate::support::{HttpClient, TestNode, User, register, with_each_layout};

/// The time of a read, in the past.
fn at(second: u32) -> String {
    format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60)
}

/// The id of a new post.
async fn write(author: &mut User, title: &str) -> String {
    let slug = author.create_slug(title, &["Rust"]).await;
    slug[slug.len() - 13..].to_owned()
}

async fn record(reader: &mut HttpClient, reads: Value) -> Value {
    reader.post("/v1/reads", &json!({ "reads": reads })).await.expect(200).json()
}

/// Title, second and depth of every read of the history, page by page, there and back.
async fn history(reader: &mut HttpClient) -> Vec<(String, String, Value)> {
    let (mut all, mut path) = (Vec::new(), "/v1/me/history?limit=2".to_owned());
    let mut before: Option<Value> = None;
    loop {
        let page = reader.get(&path).await.expect(200).json();
        for read in page["data"].as_array().unwrap() {
            assert_time(&read["read_at"]);
            let title = read["post"]["title"].as_str().unwrap().to_owned();
            let at = read["read_at"].as_str().unwrap()[14..19].to_owned();
            all.push((title, at, read["depth"].clone()));
        }
        if let Some(before) = before {
            let prev = page["prev_cursor"].as_str().unwrap();
            let back = format!("/v1/me/history?limit=2&cursor={prev}");
            assert_eq!(reader.get(&back).await.expect(200).json()["data"], before);
        }
        before = Some(page["data"].clone());
        let Some(next) = page["next_cursor"].as_str() else { return all };
        path = format!("/v1/me/history?limit=2&cursor={next}");
    }
}

fn entry(title: &str, at: &str, depth: Value) -> (String, String, Value) {
    (title.to_owned(), at.to_owned(), depth)
}

#[tokio::test]
async fn reads_are_recorded_once_shown_newest_first_and_forgotten() {
    with_each_layout(async |node| {
        let mut ann = register(node, "ann").await;
        let mut bob = register(node, "bob").await;
        let one = write(&mut ann, "One").await;
        let two = write(&mut ann, "Two").await;
        let sent = json!([
            { "post": one, "at": at(10), "depth": 100 },
            { "post": format!("any-title-{two}"), "at": at(30) },
            { "post": one, "at": at(20), "depth": 0 },
            { "post": one, "at": at(10), "depth": 50 },
            { "post": two, "at": "2026-01-01T02:00:05+02:00", "depth": null },
        ]);
        let told = json!({ "recorded": 5, "refused": [] });
        assert_eq!(record(&mut bob, sent.clone()).await, told);
        let expected = [
            entry("Two", "00:30", json!(null)),
            entry("One", "00:20", json!(0)),
            entry("One", "00:10", json!(100)),
            entry("Two", "00:05", json!(null)),
        ];
        assert_eq!(history(&mut bob).await, expected);
        assert_eq!(record(&mut bob, sent).await, told, "the same again changes nothing");
        assert_eq!(history(&mut bob).await, expected);
        assert!(history(&mut ann).await.is_empty(), "a history is its reader's own");

        bob.delete(&format!("/v1/me/history/one-{one}")).await.expect(204);
        bob.delete(&format!("/v1/me/history/{one}")).await.expect(204);
        let rest = [expected[0].clone(), expected[3].clone()];
        assert_eq!(history(&mut bob).await, rest);
        bob.delete("/v1/me/history").await.expect(204);
        bob.delete("/v1/me/history").await.expect(204);
        assert!(history(&mut bob).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_history_of_many_steps_is_forgotten_whole() {
    let node = TestNode::builder().start().await;
    let mut ann = register(&node, "ann").await;
    let post = write(&mut ann, "One").await;
    for batch in 0..5_u32 {
        let read = |n: u32| json!({ "post": post, "at": at(0).replace('Z', &format!(".{:06}Z", batch * 1_000 + n)) });
        let reads: Vec<Value> = (0..1_000).map(read).collect();
        assert_eq!(record(&mut ann, json!(reads)).await["recorded"], 1_000);
    }
    let page = ann.get("/v1/me/history?limit=100").await.expect(200).json();
    assert_eq!(page["data"].as_array().unwrap().len(), 100);
    assert!(page["data"][0]["read_at"].as_str().unwrap().ends_with("00.004999Z"), "{page}");
    ann.delete("/v1/me/history").await.expect(204);
    let page = ann.get("/v1/me/history").await.expect(200).json();
    assert_eq!(page, json!({ "data": [], "next_cursor": null, "prev_cursor": null }));
}

#[tokio::test]
async fn a_batch_under_a_key_is_answered_as_it_was() {
    with_each_layout(async |node| {
        let mut ann = register(node, "ann").await;
        let mut bob = register(node, "bob").await;
        let post = write(&mut ann, "One").await;
        let body = json!({ "reads": [
            { "post": "0000000000000", "at": at(1) },
            { "post": post, "at": at(2) },
            { "post": post, "at": "2099-01-01T00:00:00Z" },
        ] });
        let key = [("idempotency-key", "batch-1")];
        let first = bob.ask("POST", "/v1/reads", &key, Some(&body)).await.expect(200);
        assert_eq!(
            (first.json()["recorded"].clone(), first.header("idempotency-replayed")),
            (json!(1), None)
        );
        // What it would be refused for now, it was not refused for then.
        ann.delete(&format!("/api/articles/{post}")).await.expect(204);
        let again = bob.ask("POST", "/v1/reads", &key, Some(&body)).await.expect(200);
        assert_eq!(again.json(), first.json());
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        let other = json!({ "reads": [] });
        let answer = bob.ask("POST", "/v1/reads", &key, Some(&other)).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
    })
    .await;
}

/// What is hidden is refused, and shown, like what never was.
#[tokio::test]
async fn what_a_reader_may_not_see_is_neither_recorded_nor_shown() {
    with_each_layout(async |node| {
        let mut ann = register(node, "ann").await;
        let mut bob = register(node, "bob").await;
        let stays = write(&mut ann, "Stays").await;
        let goes = write(&mut ann, "Goes").await;
        let read = |post: &str, second| json!({ "post": post, "at": at(second) });
        let both = json!([read(&stays, 1), read(&goes, 2)]);
        assert_eq!(record(&mut bob, both).await["recorded"], 2);
        ann.delete(&format!("/api/articles/{goes}")).await.expect(204);
        assert_eq!(history(&mut bob).await, [entry("Stays", "00:01", json!(null))]);
        let sent = json!([
            read(&goes, 5),
            read("0000000000000", 6),
            read("no-id", 7),
            read(&stays, 8),
            { "post": stays, "at": "2099-01-01T00:00:00Z" },
            { "post": goes, "at": "2099-01-01T00:00:00Z" },
        ]);
        let refused = json!([
            { "index": 0, "code": "not_found" },
            { "index": 1, "code": "not_found" },
            { "index": 2, "code": "not_found" },
            { "index": 4, "code": "in_the_future" },
            { "index": 5, "code": "not_found" },
        ]);
        let told = json!({ "recorded": 1, "refused": refused });
        assert_eq!(record(&mut bob, sent).await, told);
        // Their own traces remain theirs to remove.
        bob.delete(&format!("/v1/me/history/{goes}")).await.expect(204);
        let feedback = |what| json!({ "what": what, "post": goes });
        for what in ["less", "hide", "mute_author"] {
            let answer = bob.post("/v1/feedback", &feedback(what)).await;
            assert_problem(&answer, 404, "not_found", &[]);
        }
        bob.post("/v1/feedback", &feedback("withdraw")).await.expect(204);
    })
    .await;
}

#[tokio::test]
async fn tags_are_followed_and_muted_in_any_case() {
    with_each_layout(async |node| {
        let mut ann = register(node, "ann").await;
        let interests = json!({
            "followed_tags": [], "muted_tags": [], "followed_users": 0, "muted_users": 0,
        });
        assert_eq!(ann.get("/v1/me/interests").await.expect(200).json(), interests);
        for tag in ["Rust", "rust", "C++ & co", "É"] {
            let path = format!("/v1/tags/{}/follow", encode(tag));
            ann.put(&path, &json!({})).await.expect(204);
        }
        ann.put("/v1/tags/rust/mute", &json!({})).await.expect(204);
        let interests = json!({
            "followed_tags": ["C++ & co", "Rust", "É"], "muted_tags": ["rust"],
            "followed_users": 0, "muted_users": 0,
        });
        assert_eq!(ann.get("/v1/me/interests").await.expect(200).json(), interests);
        for tag in ["RUST", "é", "c++ & co", "never followed"] {
            ann.delete(&format!("/v1/tags/{}/follow", encode(tag))).await.expect(204);
        }
        ann.delete("/v1/tags/rust/mute").await.expect(204);
        let left = ann.get("/v1/me/interests").await.expect(200).json();
        assert_eq!((&left["followed_tags"], &left["muted_tags"]), (&json!([]), &json!([])));
        let long = format!("/v1/tags/{}/follow", "x".repeat(41));
        assert_problem(&ann.put(&long, &json!({})).await, 422, "invalid", &["/tag"]);
        let blank = ann.put("/v1/tags/%20/mute", &json!({})).await;
        assert_problem(&blank, 422, "invalid", &["/tag"]);
    })
    .await;
}

#[tokio::test]
async fn feedback_mutes_authors_and_tags_and_the_muted_are_listed() {
    with_each_layout(async |node| {
        let mut ann = register(node, "ann").await;
        let mut posts = Vec::new();
        for name in ["bob", "eve", "joe"] {
            let mut author = register(node, name).await;
            posts.push(author.create_slug(&format!("By {name}"), &["Rust"]).await);
        }
        for post in &posts {
            let sent = json!({ "what": "mute_author", "post": post });
            ann.post("/v1/feedback", &sent).await.expect(204);
            ann.post("/v1/feedback", &sent).await.expect(204);
        }
        ann.post("/v1/feedback", &json!({ "what": "mute_tag", "tag": "Rust" })).await.expect(204);
        for what in ["less", "hide", "less", "withdraw", "withdraw"] {
            let sent = json!({ "what": what, "post": posts[0] });
            ann.post("/v1/feedback", &sent).await.expect(204);
        }
        let interests = ann.get("/v1/me/interests").await.expect(200).json();
        assert_eq!(interests["muted_tags"], json!(["Rust"]));
        assert_eq!(interests["muted_users"], 3);

        let first = ann.get("/v1/me/mutes?limit=2").await.expect(200).json();
        let names = |page: &Value| -> Vec<String> {
            let data = page["data"].as_array().unwrap();
            data.iter().map(|user| user["username"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&first), ["joe", "eve"]);
        let next = first["next_cursor"].as_str().unwrap();
        let second = ann.get(&format!("/v1/me/mutes?limit=2&cursor={next}")).await.expect(200);
        let second = second.json();
        assert_eq!((names(&second), &second["next_cursor"]), (vec!["bob".into()], &json!(null)));
        let prev = second["prev_cursor"].as_str().unwrap();
        let back = ann.get(&format!("/v1/me/mutes?limit=2&cursor={prev}")).await.expect(200);
        assert_eq!(back.json()["data"], first["data"]);
        let foreign = ann.get(&format!("/v1/me/blocks?cursor={next}")).await;
        assert_problem(&foreign, 400, "invalid", &["/cursor"]);
        let blocks = ann.get("/v1/me/blocks").await.expect(200).json();
        assert_eq!(blocks["data"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn bad_input_is_refused_and_named() {
    let node = TestNode::builder().start().await;
    let mut ann = register(&node, "ann").await;
    let own = slug(&ann.create("Mine", &[]).await);
    let read = |post: Value, at: Value, depth: Value| json!({ "reads": [{ "post": post, "at": at, "depth": depth }] });
    let (post, time) = (json!(own), json!(at(1)));
    let many: Vec<Value> =
        (0..1_001).map(|n| json!({ "post": own, "at": at(n % 3_000) })).collect();
    let wrong: Vec<Value> = (0..100).map(|_| json!({})).collect();
    let table: Vec<(&str, Value, &[&str])> = vec![
        ("/v1/reads", json!({}), &["/reads"]),
        ("/v1/reads", json!({ "reads": null }), &["/reads"]),
        ("/v1/reads", json!({ "reads": {} }), &["/reads"]),
        ("/v1/reads", json!({ "reads": many }), &["/reads"]),
        ("/v1/reads", json!({ "reads": [], "more": 1 }), &["/more"]),
        ("/v1/reads", json!({ "reads": [1] }), &["/reads/0"]),
        ("/v1/reads", json!({ "reads": [{ "post": own, "at": at(1), "x": 1 }] }), &["/x"]),
        ("/v1/reads", json!({ "reads": [{}] }), &["/reads/0/post", "/reads/0/at"]),
        ("/v1/reads", read(json!(7), time.clone(), json!(1)), &["/reads/0/post"]),
        ("/v1/reads", read(post.clone(), json!("soon"), json!(1)), &["/reads/0/at"]),
        ("/v1/reads", read(post.clone(), json!(1_700_000_000), json!(1)), &["/reads/0/at"]),
        (
            "/v1/reads",
            read(post.clone(), json!("1969-12-31T23:59:59Z"), json!(1)),
            &["/reads/0/at"],
        ),
        ("/v1/reads", read(post.clone(), time.clone(), json!(101)), &["/reads/0/depth"]),
        ("/v1/reads", read(post.clone(), time.clone(), json!(-1)), &["/reads/0/depth"]),
        ("/v1/reads", read(post.clone(), time.clone(), json!(0.5)), &["/reads/0/depth"]),
        ("/v1/reads", read(post.clone(), time, json!("all")), &["/reads/0/depth"]),
        ("/v1/feedback", json!({}), &["/what"]),
        ("/v1/feedback", json!({ "what": "more", "post": own }), &["/what"]),
        ("/v1/feedback", json!({ "what": "less" }), &["/post"]),
        ("/v1/feedback", json!({ "what": "less", "post": 1 }), &["/post"]),
        ("/v1/feedback", json!({ "what": "less", "post": own, "tag": "a" }), &["/tag"]),
        ("/v1/feedback", json!({ "what": "mute_tag" }), &["/tag"]),
        ("/v1/feedback", json!({ "what": "mute_tag", "tag": "" }), &["/tag"]),
        ("/v1/feedback", json!({ "what": "mute_tag", "tag": "a", "post": own }), &["/post"]),
        ("/v1/feedback", json!({ "what": "mute_author", "post": own }), &["/username"]),
        ("/v1/feedback", json!({ "what": "hide", "post": own, "more": 1 }), &["/more"]),
    ];
    for (path, body, pointers) in table {
        println!("{path} {}", body.to_string().chars().take(200).collect::<String>());
        assert_problem(&ann.post(path, &body).await, 422, "invalid", pointers);
    }
    let told = ann.post("/v1/reads", &json!({ "reads": wrong })).await.json();
    assert_eq!(told["errors"].as_array().unwrap().len(), 20, "not everything is told at once");
    let unknown = json!({ "what": "less", "post": "0000000000000" });
    assert_problem(&ann.post("/v1/feedback", &unknown).await, 404, "not_found", &[]);
    assert_problem(&ann.delete("/v1/me/history/no-id").await, 404, "not_found", &[]);
    for path in ["/v1/me/history", "/v1/me/mutes", "/v1/me/blocks"] {
        let bad = ann.get(&format!("{path}?limit=0")).await;
        assert_problem(&bad, 422, "invalid", &["/limit"]);
        let bad = ann.get(&format!("{path}?cursor=00")).await;
        assert_problem(&bad, 400, "invalid", &["/cursor"]);
    }
    assert!(history(&mut ann).await.is_empty(), "what was refused had no effect");
}

#[tokio::test]
async fn nobody_reads_without_a_name() {
    let node = TestNode::builder().start().await;
    let mut client = node.client();
    for (method, path) in [
        ("POST", "/v1/reads"),
        ("POST", "/v1/feedback"),
        ("GET", "/v1/me/history"),
        ("DELETE", "/v1/me/history"),
        ("DELETE", "/v1/me/history/0000000000000"),
        ("GET", "/v1/me/interests"),
        ("GET", "/v1/me/mutes"),
        ("GET", "/v1/me/blocks"),
        ("PUT", "/v1/tags/a/follow"),
        ("DELETE", "/v1/tags/a/follow"),
        ("PUT", "/v1/tags/a/mute"),
        ("DELETE", "/v1/tags/a/mute"),
    ] {
        let answer = client.ask(method, path, &[], Some(&json!({}))).await;
        assert_problem(&answer, 401, "unauthenticated", &["/token"]);
    }
}
