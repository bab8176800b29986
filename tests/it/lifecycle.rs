//! Starting, draining, stopping, and what the operations listener shows meanwhile.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::people::registration;
use crate::support::snapshot::assert_snapshot;
use crate::support::{Connection, TestNode, eventually, register};

/// A registration that is sent in two halves, with the client between them.
async fn half_a_request(node: &TestNode, name: &str) -> (Connection, Vec<u8>) {
    let body = registration(name).to_string().into_bytes();
    let head = format!(
        "POST /api/users HTTP/1.1\r\nhost: quire\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = Connection::open(node.api()).await.unwrap();
    let (first, second) = body.split_at(10);
    connection.write(head.as_bytes()).await.unwrap();
    connection.write(first).await.unwrap();
    // An answer on another connection shows that the server has come that far.
    node.client().get("/api/tags").await.expect(200);
    (connection, second.to_vec())
}

/// Whether a new connection is refused; to be left waiting is no refusal.
async fn is_refused(node: &TestNode) -> bool {
    let connecting = tokio::net::TcpStream::connect(node.api());
    match tokio::time::timeout(Duration::from_secs(1), connecting).await {
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight() {
    let mut node = TestNode::builder().start().await;
    let mut jake = register(&node, "jake").await;
    let (mut slow, rest) = half_a_request(&node, "slow").await;
    let mut ops = node.ops();
    ops.get("/readyz").await.expect(200);
    node.signal("TERM");
    eventually(Duration::from_secs(10), "no new connections", async || {
        is_refused(&node).await.then_some(())
    })
    .await;
    // Not ready any more, but alive, as long as something is in flight.
    let answer = ops.get("/readyz?verbose").await.expect(503).json();
    assert!(answer.to_string().contains("drain"), "{answer}");
    ops.get("/livez").await.expect(200);
    assert!(jake.send("GET", "/api/user", None).await.is_err(), "an idle connection is closed");

    slow.write(&rest).await.unwrap();
    let answer = slow.response().await.unwrap().expect(201).json();
    assert_eq!(answer["user"]["username"], "slow");
    slow.closed().await.unwrap();
    assert_eq!(node.ended().await.code(), Some(0));
    assert!(!node.data_dir().join("ops.addr").exists(), "no node can be found here any more");

    node.restart().await;
    node.client().get("/api/profiles/slow").await.expect(200);
    assert_eq!(node.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn sigint_stops_like_sigterm() {
    let mut node = TestNode::builder().start().await;
    node.signal("INT");
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn draining_has_an_end() {
    let mut node = TestNode::builder().set("shutdown_timeout_ms", 300).start().await;
    let (mut slow, _) = half_a_request(&node, "never").await;
    let status = node.terminate().await;
    assert_eq!(status.code(), Some(0));
    assert!(slow.response().await.is_err(), "what does not end is cut");
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let mut node = TestNode::builder().set("shutdown_timeout_ms", 60_000).start().await;
    let mut jake = register(&node, "jake").await;
    let slug = jake.create_slug("Acknowledged", &[]).await;
    let (_slow, _) = half_a_request(&node, "never").await;
    node.signal("TERM");
    eventually(Duration::from_secs(10), "the node drains", async || {
        is_refused(&node).await.then_some(())
    })
    .await;
    let began = Instant::now();
    let status = node.terminate().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_ne!(status.code(), Some(0), "what was in flight was cut");
    node.restart().await;
    node.client().get(&format!("/api/articles/{slug}")).await.expect(200);
}

#[tokio::test]
async fn operations_are_visible_and_documented() {
    let node = TestNode::builder().shards(2).start().await;
    let mut jake = register(&node, "jake").await;
    jake.create("One", &["tag"]).await;
    let mut ops = node.ops();
    ops.get("/livez").await.expect(200);
    ops.get("/readyz").await.expect(200);
    let ready = ops.get("/readyz?verbose").await.expect(200).json();
    assert_eq!(ready["ready"], true, "{ready}");
    let version = ops.get("/version").await.expect(200).json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));

    let tree = ops.get("/tree").await.expect(200).json();
    let mut paths = Vec::new();
    states(&tree, &mut paths);
    assert!(paths.len() > 10, "{tree}");
    for (name, state) in &paths {
        assert_eq!(state, "running", "{name} in {tree}");
    }

    let metrics = ops.get("/metrics").await.expect(200);
    let kind = metrics.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = metrics.text();
    assert!(text.ends_with("# EOF\n"));
    let documented = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    assert_snapshot("metrics.txt", documented);
    for measured in ["quire_http_request_seconds_count", "quire_lane_commit_seconds_count"] {
        assert!(text.contains(measured), "{measured} is not measured");
    }
    // The API's listener shows nothing of it, and operations nothing of the API.
    for path in ["/livez", "/readyz", "/metrics", "/version", "/tree"] {
        node.client().get(path).await.expect(404);
    }
    ops.get("/api/tags").await.expect(404);
}

/// Every node of the tree that has a state.
fn states(tree: &Value, found: &mut Vec<(String, String)>) {
    if let Some(state) = tree["state"].as_str() {
        let name = tree["id"].as_str().or(tree["path"].as_str()).unwrap_or_default();
        found.push((name.to_owned(), state.to_lowercase()));
    }
    for value in tree.as_object().into_iter().flat_map(|members| members.values()) {
        for child in value.as_array().into_iter().flatten() {
            states(child, found);
        }
    }
}

/// The routes named in the source, with the methods that the running server grants.
#[tokio::test]
async fn the_routes_are_those_of_the_snapshot() {
    let node = TestNode::builder().start().await;
    let mut found = Vec::new();
    let source = |file: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http").join(file);
        std::fs::read_to_string(path).unwrap()
    };
    let files = [
        ("mod.rs", node.client()),
        ("v1/mod.rs", node.client()),
        ("ops.rs", node.ops()),
        ("operator.rs", node.ops()),
    ];
    for (file, mut client) in files {
        for path in paths_in(&source(file)) {
            let asked = path.replace(['{', '}'], "");
            let answer = client.send("BREW", &asked, None).await.unwrap();
            if let Some(methods) = answer.header("allow") {
                let mut methods: Vec<&str> = methods.split(',').map(str::trim).collect();
                methods.sort_unstable();
                found.push(format!("{path} {}", methods.join(" ")));
            }
        }
    }
    assert!(found.len() >= 15, "{found:?}");
    found.sort();
    assert_snapshot("routes.txt", found.iter().map(String::as_str));
}

/// String literals that look like the template of a route, up to the tests.
fn paths_in(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut paths: Vec<String> = Vec::new();
    for literal in source.split('"').skip(1).step_by(2) {
        let is_path = literal.starts_with('/') && !literal.contains([' ', '\n', '#']);
        if is_path && !paths.iter().any(|known| known == literal) {
            paths.push(literal.to_owned());
        }
    }
    paths
}
