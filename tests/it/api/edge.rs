//! What holds for every route: cross-origin requests, ids, headers.

use serde_json::json;

use crate::support::{register, with_each_layout};

const ORIGIN: &str = "https://front.example.org";

#[tokio::test]
async fn a_browser_of_another_origin_may_ask() {
    with_each_layout(async |node| {
        let mut client = node.client();
        for (path, method) in [
            ("/api/articles", "POST"),
            ("/api/user", "PUT"),
            ("/api/articles/x/comments/1", "DELETE"),
            ("/api/tags", "GET"),
        ] {
            let preflight = format!(
                "OPTIONS {path} HTTP/1.1\r\nhost: quire\r\norigin: {ORIGIN}\r\n\
                 access-control-request-method: {method}\r\n\
                 access-control-request-headers: content-type, authorization\r\n\r\n"
            );
            let answer = client.exchange(preflight.as_bytes()).await.unwrap();
            assert!([200, 204].contains(&answer.status), "{answer:?}");
            let header = |name: &str| answer.header(name).unwrap_or_default().to_ascii_lowercase();
            let origin = header("access-control-allow-origin");
            assert!(["*", ORIGIN].contains(&origin.as_str()), "{answer:?}");
            assert!(header("access-control-allow-methods").contains(&method.to_lowercase()));
            for allowed in ["content-type", "authorization"] {
                assert!(header("access-control-allow-headers").contains(allowed), "{answer:?}");
            }
        }
        // An answer, good or bad, can be read by the page that asked.
        for (path, status) in [("/api/tags", 200), ("/api/user", 401), ("/api/nothing", 404)] {
            let head = format!("GET {path} HTTP/1.1\r\nhost: quire\r\norigin: {ORIGIN}\r\n\r\n");
            let answer = client.exchange(head.as_bytes()).await.unwrap().expect(status);
            let origin = answer.header("access-control-allow-origin").unwrap_or_default();
            assert!(["*", ORIGIN].contains(&origin), "{answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn every_answer_names_its_request() {
    with_each_layout(async |node| {
        let mut client = node.client();
        for (path, status) in [("/api/tags", 200), ("/api/user", 401), ("/nothing", 404)] {
            let head =
                format!("GET {path} HTTP/1.1\r\nhost: quire\r\nx-request-id: my-Own.id_1\r\n\r\n");
            let answer = client.exchange(head.as_bytes()).await.unwrap().expect(status);
            assert_eq!(answer.header("x-request-id"), Some("my-Own.id_1"));
            let made = client.get(path).await.expect(status);
            assert!(made.header("x-request-id").is_some_and(|id| id.len() >= 8), "{made:?}");
            let bad = format!("GET {path} HTTP/1.1\r\nhost: quire\r\nx-request-id: <b>\r\n\r\n");
            let made = client.exchange(bad.as_bytes()).await.unwrap().expect(status);
            assert!(made.header("x-request-id").is_some_and(|id| id != "<b>"), "{made:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_members_are_ignored() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let body = json!({"more": 1, "article": {
            "title": "T", "description": "D", "body": "B", "other": {"deep": [null]},
        }});
        let answer = jake.post("/api/articles", &body).await.expect(201).json();
        assert_eq!(answer["article"]["tagList"], json!([]));
    })
    .await;
}
