//! The accept loop over real sockets, and the edge around a route.

use std::time::Instant;

use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::http::edge::Edge;
use crate::http::error::Failure;

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

async fn start(limits: Limits) -> Server {
    let metrics = Arc::new(Metrics::new());
    let edge = Edge::new(&limits, metrics.clone());
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "slow"
    };
    let routes = Routes::new()
        .route("/quick", get(async || "quick").layer(edge.route("/quick")))
        .route("/api/slow", post(slow).get(slow).layer(edge.route("/api/slow")))
        .route(
            "/broken",
            get(async || Failure::internal("the secret cause")).layer(edge.route("/broken")),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let stop_signal = async {
        let _ = stopped.await;
    };
    let done = tokio::spawn(serve(listener, routes, limits, metrics, stop_signal));
    Server { address, stop, done }
}

/// Sends one request on a connection of its own and reads to the end.
async fn ask(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response).await;
    response
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn what_is_in_flight_finishes_before_the_end() {
    let server = start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /api/slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let idle = TcpStream::connect(server.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let Server { stop, done, .. } = server;
    stop.send(()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("slow"), "{response}");
    done.await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn a_drain_ends_in_time() {
    let limits = Limits { drain_time: Duration::from_millis(50), ..Limits::default() };
    let server = start(limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /api/slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let began = Instant::now();
    server.stop.send(()).unwrap();
    server.done.await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(250));
}

#[tokio::test]
async fn overload_is_answered_within_milliseconds() {
    let server = start(Limits { requests_in_flight: 1, ..Limits::default() }).await;
    let slow = request("GET", "/api/slow");
    let began = Instant::now();
    let (first, second) = tokio::join!(ask(&server, &slow), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let second = ask(&server, &slow).await;
        assert!(began.elapsed() < Duration::from_millis(200));
        second
    });
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    assert!(second.starts_with("HTTP/1.1 503"), "{second}");
    assert!(second.contains("retry-after: 1\r\n"), "{second}");
    assert!(second.contains(r#"{"errors":{"server":["#), "{second}");
}

#[tokio::test]
async fn a_request_ends_in_time() {
    let limits = Limits { request_time: Duration::from_millis(50), ..Limits::default() };
    let server = start(limits).await;
    assert!(ask(&server, &request("GET", "/api/slow")).await.starts_with("HTTP/1.1 504"));
    // A write may have happened.
    assert!(ask(&server, &request("POST", "/api/slow")).await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn slow_and_large_heads_are_cut() {
    let limits = Limits { head_time: Duration::from_millis(100), ..Limits::default() };
    let server = start(limits).await;
    let began = Instant::now();
    ask(&server, "GET /quick HTTP/1.1\r\nhost:").await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let large = format!("GET /quick HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    assert!(ask(&server, &large).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn connections_beyond_the_cap_wait() {
    let server = start(Limits { connections: 1, ..Limits::default() }).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let quick = request("GET", "/quick");
    let waiting = ask(&server, &quick);
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.as_mut()).await;
    assert!(early.is_err());
    drop(first);
    assert!(waiting.await.ends_with("quick"));
}

#[tokio::test]
async fn a_fault_shows_its_id_and_never_its_cause() {
    let server = start(Limits::default()).await;
    let asked =
        "GET /broken HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: my-id\r\n\r\n";
    let response = ask(&server, asked).await;
    assert!(response.starts_with("HTTP/1.1 500"), "{response}");
    assert!(response.contains("x-request-id: my-id\r\n"), "{response}");
    assert!(response.contains(r#""request_id":"my-id""#), "{response}");
    assert!(!response.contains("secret"), "{response}");
}

#[tokio::test]
async fn every_origin_may_ask_under_api_and_only_there() {
    let server = start(Limits::default()).await;
    let preflight = ask(&server, &request("OPTIONS", "/api/slow")).await;
    assert!(preflight.starts_with("HTTP/1.1 204"), "{preflight}");
    assert!(preflight.contains("access-control-allow-origin: *"), "{preflight}");
    assert!(preflight.contains("access-control-allow-headers: Content-Type, Authorization"));
    let elsewhere = ask(&server, &request("OPTIONS", "/quick")).await;
    assert!(elsewhere.starts_with("HTTP/1.1 405"), "{elsewhere}");
    assert!(elsewhere.contains("application/problem+json"), "{elsewhere}");
    assert!(!elsewhere.contains("access-control"), "{elsewhere}");
    assert_eq!(StatusCode::METHOD_NOT_ALLOWED.as_u16(), 405);
}
