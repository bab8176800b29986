//! Recommendations, over HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_problem, assert_time};
use crate::support::{HttpClient, TestNode, eventually, register, with_each_layout};

/// Events arrive within a moment; a busy machine may need longer.
const SOON: Duration = Duration::from_secs(20);

fn titles(list: &Value) -> Vec<&str> {
    let data = list["data"].as_array().expect("a list has data");
    data.iter().map(|item| item["post"]["title"].as_str().expect("a title is text")).collect()
}

async fn sorted(client: &mut HttpClient, path: &str) -> Vec<String> {
    let list = client.get(path).await.expect(200).json();
    let mut found: Vec<String> = titles(&list).into_iter().map(str::to_owned).collect();
    found.sort_unstable();
    found
}

/// Asks until the list holds just these posts, in any order.
async fn shows(client: &mut HttpClient, path: &str, expected: &[&str]) {
    let what = format!("{path} shows {expected:?}");
    eventually(SOON, &what, async || (sorted(client, path).await == expected).then_some(())).await;
}

#[tokio::test]
async fn a_post_is_recommended_once_it_is_published_and_not_once_it_is_read_or_gone() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let one = jake.create_slug("One", &["Red"]).await;
        let two = jake.create_slug("Two", &["blue"]).await;
        shows(&mut anna, "/v1/recommendations", &["One", "Two"]).await;
        let list = anna.get("/v1/recommendations?explain=true").await.expect(200).json();
        assert_eq!(list["method"], "ranker");
        assert_eq!(list["prev_cursor"], json!(null));
        let item = &list["data"][0];
        assert_eq!(item["post"]["author"]["username"], "jake");
        assert_time(&item["post"]["published_at"]);
        let kind = item["explanation"]["reason"]["kind"].as_str().unwrap();
        assert!(["new", "exploring"].contains(&kind), "{item}");
        assert!(item["explanation"]["propensity"].as_f64().unwrap() > 0.0);
        let plain = anna.get("/v1/recommendations").await.expect(200).json();
        assert!(plain["data"][0].get("explanation").is_none());
        shows(&mut jake, "/v1/recommendations", &[]).await;

        anna.post_nothing(&format!("/api/articles/{one}/favorite")).await.expect(200);
        shows(&mut anna, "/v1/recommendations", &["Two"]).await;
        let mut client = node.client();
        shows(&mut client, "/v1/trending?tag=RED", &["One"]).await;
        let too_long = format!("/v1/trending?tag={}", "x".repeat(81));
        shows(&mut client, &too_long, &[]).await;
        let wrong = client.get(&format!("{too_long}&limit=0")).await;
        assert_problem(&wrong, 422, "invalid", &["/limit"]);
        shows(&mut client, "/v1/trending?window=6", &["One"]).await;
        shows(&mut anna, "/v1/trending", &[]).await;
        shows(&mut anna, "/v1/following", &[]).await;
        anna.post_nothing("/api/profiles/jake/follow").await.expect(200);
        shows(&mut anna, "/v1/following", &["One", "Two"]).await;
        let list = anna.get("/v1/recommendations?explain=true").await.expect(200).json();
        assert_eq!(list["data"][0]["explanation"]["reason"]["kind"], "follows_author", "{list}");

        jake.delete(&format!("/api/articles/{two}")).await.expect(204);
        for path in ["/v1/recommendations", "/v1/trending", "/v1/following"] {
            let found = sorted(&mut anna, path).await;
            assert!(!found.contains(&"Two".to_owned()), "{path} at once");
        }
        let gone = client.get(&format!("/v1/posts/{two}/related")).await;
        assert_problem(&gone, 404, "not_found", &[]);
        client.get(&format!("/v1/posts/{one}/related")).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn pages_do_not_repeat_and_what_is_excluded_stays_away() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let mut ids = Vec::new();
        for n in 0..12 {
            let slug = jake.create_slug(&format!("Number {n:02}"), &[]).await;
            ids.push(slug[slug.len() - 13..].to_owned());
        }
        let all: Vec<String> = (0..12).map(|n| format!("Number {n:02}")).collect();
        let expected: Vec<&str> = all.iter().map(String::as_str).collect();
        // At most two of one author in ten places: so all of them are on the list of the followed.
        anna.post_nothing("/api/profiles/jake/follow").await.expect(200);
        shows(&mut anna, "/v1/following?limit=50", &expected).await;
        let exclude = format!("exclude={},{}", ids[3], ids[4]);
        let mut path = format!("/v1/following?limit=3&{exclude}");
        let mut found = Vec::new();
        loop {
            let answer = anna.get(&path).await.expect(200);
            let list = answer.json();
            found.extend(titles(&list).into_iter().map(str::to_owned));
            let Some(cursor) = list["next_cursor"].as_str() else { break };
            let link = answer.header("link").unwrap();
            assert_eq!(link, format!("<{}&cursor={cursor}>; rel=\"next\"", bare(&path)));
            path = format!("{}&cursor={cursor}", bare(&path));
        }
        found.reverse();
        let left: Vec<&String> =
            all.iter().filter(|title| ![&all[3], &all[4]].contains(title)).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), left);
        let reads = json!({ "reads": [ids[0], ids[1]] });
        let session = "/v1/session/recommendations?limit=100";
        let list = node.client().post(session, &reads).await.expect(200).json();
        let found = titles(&list);
        assert!(!found.is_empty() && !found.contains(&"Number 00"), "{found:?}");
    })
    .await;
}

/// The id that a slug ends with.
fn id(slug: &str) -> &str {
    &slug[slug.len() - 13..]
}

async fn wish(reader: &mut HttpClient, wish: Value) {
    reader.post("/v1/feedback", &wish).await.expect(204);
}

async fn put(reader: &mut HttpClient, path: &str) {
    reader.ask("PUT", path, &[], None).await.expect(204);
}

/// Who reads some posts: that ties them together.
async fn read(node: &TestNode, name: &str, ids: &[&str]) {
    let mut reader = register(node, name).await;
    let read = |id: &&str| json!({ "post": id, "at": "2026-01-01T00:00:00Z" });
    let reads: Vec<Value> = ids.iter().map(read).collect();
    reader.post("/v1/reads", &json!({ "reads": reads })).await.expect(200);
}

#[tokio::test]
async fn from_its_answer_on_what_a_reader_hides_is_in_no_list() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut kate = register(node, "kate").await;
        let mut luke = register(node, "luke").await;
        let mut anna = register(node, "anna").await;
        let mut client = node.client();
        let kept = kate.create_slug("Kept", &[]).await;
        let hidden = kate.create_slug("Hidden", &[]).await;
        let tagged = jake.create_slug("Tagged", &["Red"]).await;
        let blocked = luke.create_slug("Blocked", &[]).await;
        let ids = [id(&kept), id(&hidden), id(&tagged), id(&blocked)];
        read(node, "one", &ids).await;
        read(node, "two", &ids).await;
        for name in ["jake", "kate", "luke"] {
            put(&mut anna, &format!("/v1/users/{name}/follow")).await;
        }
        let related = format!("/v1/posts/{kept}/related");
        let lists = ["/v1/recommendations", "/v1/following", "/v1/trending", &related];
        for path in lists {
            let all = ["Blocked", "Hidden", "Kept", "Tagged"];
            let all = all.iter().filter(|title| path != related || **title != "Kept");
            shows(&mut anna, path, &all.copied().collect::<Vec<_>>()).await;
        }
        let first = anna.get("/v1/following?limit=1").await.expect(200).json();
        let cursor = first["next_cursor"].as_str().unwrap();
        let next = format!("/v1/following?limit=10&cursor={cursor}");
        assert_eq!(titles(&first), ["Blocked"]);
        let session = json!({ "reads": [ids[0]] });
        for (title, left) in [("Hidden", 2), ("Tagged", 1), ("Blocked", 0)] {
            match title {
                "Hidden" => wish(&mut anna, json!({ "what": "hide", "post": hidden })).await,
                "Tagged" => put(&mut anna, "/v1/tags/RED/mute").await,
                _ => put(&mut anna, "/v1/users/luke/block").await,
            }
            for path in lists.into_iter().chain([&*next]) {
                let path = format!("{path}{}explain=true", if path == next { '&' } else { '?' });
                let list = anna.get(&path).await.expect(200);
                assert!(!list.text().contains(&format!("\"{title}\"")), "{path}: {}", list.text());
                let named = json!({ "kind": "because_read", "post": id(&hidden) });
                assert!(!list.text().contains(&named.to_string()), "{}", list.text());
            }
            assert_eq!(sorted(&mut anna, &related).await.len(), left);
            // Nobody else is the worse for it.
            assert_eq!(sorted(&mut client, &related).await.len(), 3);
            let list = client.post("/v1/session/recommendations", &session).await.expect(200);
            assert_eq!(titles(&list.json()).len(), 3);
        }
        for path in ["/v1/recommendations", "/v1/following", "/v1/trending", &next] {
            assert_eq!(sorted(&mut anna, path).await, ["Kept"], "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_read_together_is_related_for_everybody() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut kate = register(node, "kate").await;
        let mut anna = register(node, "anna").await;
        let one = jake.create_slug("One", &["a"]).await;
        let two = kate.create_slug("Two", &["b"]).await;
        let three = kate.create_slug("Three", &["c"]).await;
        for name in ["r1", "r2", "r3"] {
            read(node, name, &[id(&one), id(&two)]).await;
        }
        read(node, "r4", &[id(&three)]).await;
        let path = format!("/v1/posts/{one}/related");
        let mut client = node.client();
        for reader in [&mut client, &mut anna] {
            let what = "what was read together is first";
            let list = eventually(SOON, what, async || {
                let list = reader.get(&path).await.expect(200).json();
                (titles(&list).first() == Some(&"Two")).then_some(list)
            });
            let list = list.await;
            assert_eq!(list["method"], "together");
            assert!(!titles(&list).contains(&"One"), "a post is not related to itself");
        }
        // To its author it is his own.
        assert!(!sorted(&mut kate, &path).await.contains(&"Two".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn feedback_has_its_effect_and_can_be_taken_back() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut kate = register(node, "kate").await;
        let mut anna = register(node, "anna").await;
        let one = jake.create_slug("One", &["Red"]).await;
        kate.create_slug("Two", &["Blue"]).await;
        let path = "/v1/recommendations";
        shows(&mut anna, path, &["One", "Two"]).await;
        for (wished, back) in [
            (json!({ "what": "hide", "post": one }), ("POST", "/v1/feedback")),
            (json!({ "what": "less", "post": one }), ("POST", "/v1/feedback")),
            (json!({ "what": "mute_author", "post": one }), ("DELETE", "/v1/users/jake/mute")),
            (json!({ "what": "mute_tag", "tag": "rED" }), ("DELETE", "/v1/tags/red/mute")),
        ] {
            wish(&mut anna, wished.clone()).await;
            // Only `less` is no promise for the next answer.
            if wished["what"] != "less" {
                assert_eq!(sorted(&mut anna, path).await, ["Two"], "{wished}");
            }
            shows(&mut anna, path, &["Two"]).await;
            let withdrawn = json!({ "what": "withdraw", "post": one });
            let body = (back.0 == "POST").then_some(&withdrawn);
            anna.ask(back.0, back.1, &[], body).await.expect(204);
            shows(&mut anna, path, &["One", "Two"]).await;
        }
    })
    .await;
}

fn bare(path: &str) -> &str {
    path.split("&cursor").next().unwrap()
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_said() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let slug = jake.create_slug("One", &[]).await;
        let mut client = node.client();
        let many = vec![&slug[slug.len() - 13..]; 1_001].join(",");
        for (path, status, pointers) in [
            ("/v1/recommendations?limit=0", 422, ["/limit"]),
            ("/v1/recommendations?limit=101", 422, ["/limit"]),
            ("/v1/recommendations?cursor=x", 400, ["/cursor"]),
            ("/v1/recommendations?exclude=x", 422, ["/exclude"]),
            (&format!("/v1/recommendations?exclude={many}"), 422, ["/exclude"]),
            ("/v1/recommendations?surface=A%20B", 422, ["/surface"]),
            ("/v1/recommendations?explain=1", 422, ["/explain"]),
            ("/v1/trending?window=7", 422, ["/window"]),
        ] {
            assert_problem(&client.get(path).await, status, "invalid", &pointers);
        }
        let unsigned = client.get("/v1/following").await;
        assert_problem(&unsigned, 401, "unauthenticated", &["/token"]);
        let unknown = client.get("/v1/posts/0000000000001/related").await;
        assert_problem(&unknown, 404, "not_found", &[]);
        let session = "/v1/session/recommendations";
        for (body, pointers) in [
            (json!({ "reads": ["x"] }), vec!["/reads"]),
            (json!({ "reads": [], "more": 1 }), vec!["/more"]),
        ] {
            let wrong = client.post(session, &body).await;
            assert_problem(&wrong, 422, "invalid", &pointers);
        }
    })
    .await;
}
