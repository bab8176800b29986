//! The built-in documentation, and the limit of requests.

use serde_json::{Value, json};

use super::assert_problem;
use crate::support::people::{PASSWORD, article, registration};
use crate::support::{HttpClient, Response, TestNode, register};

#[tokio::test]
async fn the_documentation_is_in_the_program() {
    let node = TestNode::builder().start().await;
    let mut client = node.client();
    let moved = client.get("/docs").await.expect(308);
    assert_eq!(moved.header("location"), Some("/docs/"));
    let index = client.get("/docs/").await.expect(200);
    assert_eq!(index.header("content-type"), Some("text/html"));
    let mut assets = 0;
    for asset in index.text().split(['"', '\'']).filter(|text| text.starts_with("./")) {
        let answer = client.get(&format!("/docs/{}", &asset[2..])).await.expect(200);
        assert!(!answer.body.is_empty(), "{asset}");
        assets += 1;
    }
    assert!(assets >= 4, "{}", index.text());
    // Nothing is fetched from elsewhere.
    let start = client.get("/docs/swagger-initializer.js").await.expect(200).text();
    assert!(start.contains("/v1/openapi.json"), "{start}");
    for text in [&index.text(), &start] {
        assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
    }
    for unknown in ["/docs/nothing", "/docs/..%2Findex.html", "/docs/problems/nothing"] {
        assert_problem(&client.get(unknown).await, 404, "not_found", &[]);
    }
    let document = client.get("/v1/openapi.json").await.expect(200).json();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let committed = std::fs::read_to_string(path).expect("the document is committed");
    assert_eq!(document, serde_json::from_str::<Value>(&committed).unwrap());
}

#[tokio::test]
async fn the_type_of_a_problem_leads_to_a_page() {
    let node = TestNode::builder().start().await;
    let mut client: HttpClient = node.client();
    for path in ["/v1/nothing", "/v1/posts?limit=0", "/v1/posts?cursor=x"] {
        let problem = client.get(path).await.json();
        let page = client.get(problem["type"].as_str().unwrap()).await.expect(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.text().contains(problem["code"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let node = TestNode::builder()
        .set("user_requests_max", 7)
        // One of them registers.
        .set("anonymous_requests_max", 6)
        .start()
        .await;
    let mut jake = register(&node, "jake").await;
    let mut client = node.client();
    for (client, policy, max, rest) in
        [(&mut client, "anonymous", 6, 5), (&mut *jake, "user", 7, 7)]
    {
        for left in (0..rest).rev() {
            let answer = client.get("/v1/posts").await.expect(200);
            let now = answer.header("ratelimit").unwrap();
            assert!(now.starts_with(&format!("\"{policy}\";r={left};t=")), "{now}");
            let terms = format!("\"{policy}\";q={max};w=60");
            assert_eq!(answer.header("ratelimit-policy"), Some(terms.as_str()));
        }
        let refused = client.get("/v1/posts").await;
        assert_problem(&refused, 429, "rate_limited", &[]);
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait) && refused.header("ratelimit").is_some());
        // The other API can be read.
        client.get("/api/articles").await.expect(200);
    }
}

#[tokio::test]
async fn nobody_piles_up_accounts_or_articles() {
    let node = TestNode::builder()
        .set("user_requests_max", 3)
        .set("anonymous_requests_max", 2)
        .start()
        .await;
    let mut jake = register(&node, "jake").await;
    register(&node, "anna").await;
    let mut client = node.client();
    let too_often = |answer: Response| {
        let message = json!({"errors": {"server": ["too often; wait before the next try"]}});
        assert_eq!((answer.status, answer.json()), (429, message));
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
    };
    too_often(client.post("/api/users", &registration("bob")).await);
    // An account is no ticket to further ones.
    too_often(jake.post("/api/users", &registration("bob")).await);
    let slug = jake.create_slug("One", &[]).await;
    jake.comment(&slug, "first").await;
    jake.get("/v1/posts").await.expect(200);
    too_often(jake.post("/api/articles", &article("Two", &[])).await);
    // To read is not to write, and who signs in has a quota of his own.
    let list = jake.get("/api/articles").await.expect(200).json();
    assert_eq!(list["articlesCount"], 1);
    let credentials = json!({"user": {"email": "anna@example.org", "password": PASSWORD}});
    for _ in 0..3 {
        client.post("/api/users/login", &credentials).await.expect(200);
    }
    too_often(client.post("/api/users/login", &credentials).await);
}

#[tokio::test]
async fn a_batch_of_reads_counts_as_a_request_for_every_100() {
    let node = TestNode::builder().set("user_requests_max", 7).start().await;
    let mut jake = register(&node, "jake").await;
    let left = async |jake: &mut HttpClient| {
        let answer = jake.get("/v1/posts").await.expect(200);
        let told = answer.header("ratelimit").unwrap().to_owned();
        told.split_once("r=").unwrap().1.split(';').next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(left(&mut jake).await, 6);
    // Unknown posts are as much work.
    let read = json!({ "post": "0h8x2k9v3m1qz", "at": "2020-01-01T00:00:00Z" });
    for (reads, after) in [(100, 4), (201, 0)] {
        let body = json!({ "reads": vec![&read; reads] });
        jake.post("/v1/reads", &body).await.expect(200);
        assert_eq!(left(&mut jake).await, after, "{reads}");
    }
    let refused = jake.get("/v1/posts").await;
    assert_problem(&refused, 429, "rate_limited", &[]);
}

/// Else whoever found it would keep its user out.
#[tokio::test]
async fn a_withdrawn_token_spends_the_quota_of_its_address_and_not_of_its_user() {
    let node = TestNode::builder()
        // One for the new password, and one to register.
        .set("user_requests_max", 6)
        .set("anonymous_requests_max", 5)
        .start()
        .await;
    let mut jake = register(&node, "jake").await;
    let mut thief = node.client();
    thief.set_token(jake.token());
    let change = json!({"user": {"password": "another one"}});
    let changed = jake.ask("PUT", "/api/user", &[], Some(&change)).await.expect(200).json();
    jake.set_token(changed["user"]["token"].as_str().unwrap());
    // The last is refused before anybody asks for its token.
    for (method, path, status) in [
        ("GET", "/v1/posts", 401),
        ("GET", "/v1/me/history", 401),
        ("PUT", "/v1/users/jake/follow", 401),
        ("PATCH", "/v1/trending", 405),
    ] {
        let answer = thief.ask(method, path, &[], None).await.expect(status);
        assert!(answer.header("ratelimit").unwrap().starts_with("\"anonymous\";r="));
    }
    for _ in 0..7 {
        assert_problem(&thief.get("/v1/posts").await, 429, "rate_limited", &[]);
    }
    for left in (0..5).rev() {
        let answer = jake.get("/v1/posts").await.expect(200);
        let now = answer.header("ratelimit").unwrap();
        assert!(now.starts_with(&format!("\"user\";r={left};t=")), "{now}");
    }
    assert_problem(&jake.get("/v1/posts").await, 429, "rate_limited", &[]);
}

#[tokio::test]
async fn a_trace_is_taken_up() {
    let node = TestNode::builder().start().await;
    let mut client = node.client();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let answer = client.ask("GET", "/v1/nothing", &[("traceparent", &parent)], None).await;
    assert_problem(&answer, 404, "not_found", &[]);
    assert_eq!(answer.json()["request_id"], trace);
}
