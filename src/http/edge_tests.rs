//! What is decided before any service is asked: these routes lead to no shard at all.

use axum::body::Body;
use axum::extract::Request;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::actors::router::Router;
use crate::http::edge::Edge;
use crate::http::limits::{BODY_BYTES_MAX, Limits};
use crate::http::passwords::PasswordPool;
use crate::http::tokens::{SigningKey, TOKEN_LIFE, Tokens};
use crate::http::{App, Parts, routes};
use crate::seams::{Clock, Random, Seams};
use crate::telemetry::Metrics;

struct Answer {
    status: u16,
    headers: axum::http::HeaderMap,
    text: String,
}

async fn send(request: Request) -> Answer {
    let key = SigningKey::new(&[1; 32]).unwrap();
    let app = App::new(Parts {
        users: Router::new(vec![]),
        posts: Router::new(vec![]),
        recommendations: Router::new(vec![]),
        tokens: Tokens::new(key, vec![], TOKEN_LIFE, Clock::system()),
        passwords: PasswordPool::new(1, 1, Random::system()),
        metrics: Metrics::new().into(),
        posts_bytes: 0,
        limits: Limits::default(),
        seams: Seams::system(),
    });
    let (head, body) = routes(app).oneshot(request).await.unwrap().into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    Answer { status: head.status.as_u16(), headers: head.headers, text }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

#[tokio::test]
async fn what_nobody_can_have_is_not_looked_up() {
    let (tag, name) = ("x".repeat(15_000), "\u{fdfa}".repeat(200));
    let name: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for path in [
        format!("/api/articles?tag={tag}"),
        format!("/api/articles?author={name}"),
        format!("/api/articles?favorited={name}"),
    ] {
        let answer = send(request("GET", &path, &[], "")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.text, r#"{"articles":[],"articlesCount":0}"#);
    }
    let answer = send(request("GET", &format!("/api/profiles/{name}"), &[], "")).await;
    assert_eq!(answer.status, 404, "{}", answer.text);
}

#[tokio::test]
async fn every_refusal_has_the_shape_of_its_path() {
    let json_type = [("content-type", "application/json; charset=utf-8")];
    let users =
        |headers: &[(&str, &str)], body: Vec<u8>| request("POST", "/api/users", headers, body);
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    let pieces = (0..20).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
    let unannounced = Body::from_stream(futures_util::stream::iter(pieces));
    let broken = Err::<Vec<u8>, _>(std::io::Error::other("gone"));
    let broken = Body::from_stream(futures_util::stream::iter([broken]));
    for (request, status, field) in [
        (request("GET", "/api", &[], ""), 404, "path"),
        (request("GET", "/api/nothing", &[], ""), 404, "path"),
        (request("PATCH", "/api/user", &[], ""), 405, "method"),
        (request("GET", "/api/articles/%ff", &[], ""), 400, "request"),
        (request("GET", "/api/articles/none", &[], ""), 404, "article"),
        (users(&[], b"{}".to_vec()), 415, "content-type"),
        (users(&[("content-type", "text/plain")], b"{}".to_vec()), 415, "content-type"),
        (users(&json_type, b"{".to_vec()), 400, "body"),
        (users(&json_type, b"\xff".to_vec()), 400, "body"),
        (users(&json_type, vec![]), 400, "body"),
        (users(&json_type, b"[]".to_vec()), 422, "body"),
        (users(&json_type, b"{}".to_vec()), 422, "user"),
        (users(&json_type, br#"{"user":{}}"#.to_vec()), 422, "password"),
        (users(&json_type, large), 413, "body"),
        (request("POST", "/api/users", &json_type, unannounced), 413, "body"),
        (request("POST", "/api/users", &json_type, broken), 400, "body"),
    ] {
        let path = request.uri().to_string();
        let answer = send(request).await;
        assert_eq!(answer.status, status, "{path} {}", answer.text);
        let body: Value = serde_json::from_str(&answer.text).unwrap();
        assert!(body["errors"][field].is_array(), "{path}: {body}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert_eq!(answer.headers["x-request-id"].len(), 16);
    }
    let answer = send(request("GET", "/elsewhere", &[("x-request-id", "abc")], "")).await;
    let problem: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!((&problem["request_id"], &problem["status"]), (&"abc".into(), &404.into()));
}

#[tokio::test(start_paused = true)]
async fn a_few_wait_for_a_place_and_all_others_are_refused_at_once() {
    let limits = Limits { requests_in_flight: 16, ..Limits::default() };
    let edge = Edge::new(&limits, Metrics::new().into());
    let mut places: Vec<_> = (0..16).map(|_| edge.admit().now_or_never().flatten()).collect();
    assert!(places.iter().all(Option::is_some));
    let (mut first, mut second) = (Box::pin(edge.admit()), Box::pin(edge.admit()));
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    assert!(matches!(edge.admit().now_or_never(), Some(None)), "a third one waits");
    places.pop();
    let first = first.await;
    assert!(first.is_some());
    let began = tokio::time::Instant::now();
    assert!(second.await.is_none());
    // A timer has steps of one millisecond.
    let waited = began.elapsed();
    assert!((limits.admission_wait..=2 * limits.admission_wait).contains(&waited), "{waited:?}");
    assert_eq!(edge.metrics.requests_refused.get(), 2);
}

#[tokio::test]
async fn a_bad_token_is_refused_before_anything_else() {
    for (method, path) in [
        ("GET", "/api/user"),
        ("GET", "/api/articles?limit=x"),
        ("GET", "/api/articles/none"),
        ("GET", "/api/profiles/nobody"),
        ("PUT", "/api/articles/none"),
        ("POST", "/api/articles/none/comments"),
        ("DELETE", "/api/articles/none/comments/x"),
    ] {
        for bad in ["Token eyJhbGciOiJub25lIn0.e30.", "Basic abc", "Token", "Bearer "] {
            let answer = send(request(method, path, &[("authorization", bad)], "")).await;
            assert_eq!(answer.status, 401, "{method} {path} {bad}");
            assert_eq!(answer.text, r#"{"errors":{"token":["is invalid"]}}"#);
        }
    }
    let answer = send(request("DELETE", "/api/articles/none", &[], "")).await;
    assert_eq!(answer.text, r#"{"errors":{"token":["is missing"]}}"#);
}

#[tokio::test]
async fn browsers_may_ask_from_anywhere() {
    let headers = [("origin", "https://example.org"), ("access-control-request-method", "PUT")];
    for path in ["/api/user", "/api/articles/x", "/api/unknown"] {
        let answer = send(request("OPTIONS", path, &headers, "")).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        let allowed = answer.headers["access-control-allow-headers"].to_str().unwrap();
        assert!(allowed.contains("Content-Type") && allowed.contains("Authorization"));
    }
}
