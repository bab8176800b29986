//! What holds for every route: cross-origin requests, ids, headers.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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

#[tokio::test]
async fn an_article_tells_its_length_however_long_it_is() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        // Short ones are sent in pieces.
        for text in ["\"short\"".to_owned(), "\u{1}".repeat(5_400), "x\n".repeat(60_000)] {
            let body = json!({"article": {"title": "T", "description": "D", "body": text}});
            let made = jake.post("/api/articles", &body).await.expect(201).json();
            assert_eq!(made["article"]["body"], text);
            let path = format!("/api/articles/{}", made["article"]["slug"].as_str().unwrap());
            let got = jake.get(&path).await.expect(200);
            assert_eq!(got.json()["article"]["body"], text);
            let length = got.header("content-length").expect("it is known").to_owned();
            assert_eq!(length, got.body.len().to_string());
            let mut stream = TcpStream::connect(jake.address()).await.unwrap();
            let head = format!("HEAD {path} HTTP/1.1\r\nhost: quire\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
            assert!(answer.contains(&format!("content-length: {length}\r\n")), "{answer}");
        }
    })
    .await;
}
