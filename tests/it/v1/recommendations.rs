//! Recommendations, over HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_problem, assert_time};
use crate::support::{HttpClient, eventually, register, with_each_layout};

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
