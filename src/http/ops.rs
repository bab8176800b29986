//! The operations listener: whether the node lives, is ready, what it measures, and its tree.

use std::sync::Arc;

use axum::Router as Routes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde_json::{Value, json};

use crate::error::ErrorCode;
use crate::http::conduit::render;
use crate::http::edge::Edge;
use crate::http::error::Failure;
use crate::http::limits::Limits;
use crate::telemetry::Metrics;

/// Whether the node can serve, and what is in the way.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// Nothing is in the way.
    pub ready: bool,
    /// What is in the way.
    pub reasons: Vec<String>,
}

/// What the operations listener shows; each part is asked anew for every request.
#[derive(Clone)]
pub struct OpsState {
    /// Whether the node can serve.
    pub ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// The supervision tree.
    pub tree: Arc<dyn Fn() -> Value + Send + Sync>,
    /// The metrics of the node.
    pub metrics: Arc<Metrics>,
}

/// The operations API: the whole route table.
pub fn routes(state: OpsState, limits: &Limits) -> Routes {
    let edge = Edge::new(limits, state.metrics.clone());
    let table: [(&'static str, MethodRouter<OpsState>); 5] = [
        ("/livez", get(livez)),
        ("/readyz", get(readyz)),
        ("/metrics", get(metrics)),
        ("/version", get(version)),
        ("/tree", get(tree)),
    ];
    let mut routes = Routes::new();
    for (path, methods) in table {
        routes = routes.route(path, methods.layer(edge.route(path)));
    }
    let unknown = axum::routing::any(nothing).layer(edge.route("unknown"));
    routes.fallback_service(unknown.with_state(())).with_state(state)
}

/// That this answers at all is the answer.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(state): State<OpsState>, RawQuery(query): RawQuery) -> Response {
    let Readiness { ready, reasons } = (state.ready)();
    let is_verbose = query.is_some_and(|query| {
        query.split('&').any(|pair| pair.split('=').next() == Some("verbose"))
    });
    if is_verbose {
        let mut response = render::json(json!({ "ready": ready, "reasons": reasons }).to_string());
        if !ready {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        return response;
    }
    match ready {
        true => "ok\n".into_response(),
        false => Failure::new(ErrorCode::Unavailable).into_response(),
    }
}

async fn metrics(State(state): State<OpsState>) -> Response {
    let mut response = state.metrics.encode().into_response();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn version() -> Response {
    render::json(json!({ "name": "quire", "version": env!("CARGO_PKG_VERSION") }).to_string())
}

async fn tree(State(state): State<OpsState>) -> Response {
    render::json((state.tree)().to_string())
}

async fn nothing() -> Failure {
    Failure::of_status(StatusCode::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::extract::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn ask(method: &str, path: &str, is_ready: bool) -> (StatusCode, String, String) {
        let reasons = if is_ready { vec![] } else { vec!["no leader".to_owned()] };
        let readiness = Readiness { ready: is_ready, reasons };
        let state = OpsState {
            ready: Arc::new(move || readiness.clone()),
            tree: Arc::new(|| json!({"name": "quire"})),
            metrics: Arc::new(Metrics::new()),
        };
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = routes(state, &Limits::default()).oneshot(request).await.unwrap();
        let status = response.status();
        assert!(response.headers().contains_key("x-request-id"));
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_what_is_wrong_when_asked() {
        assert_eq!(ask("GET", "/livez", false).await.0, StatusCode::OK);
        assert_eq!(ask("GET", "/readyz", true).await.0, StatusCode::OK);
        let (status, kind, body) = ask("GET", "/readyz", false).await;
        assert_eq!(
            (status, kind.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "application/problem+json")
        );
        assert!(!body.contains("leader"));
        let (status, _, body) = ask("GET", "/readyz?verbose", false).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("no leader"), "{body}");
        assert!(ask("GET", "/readyz?verbose", true).await.2.contains("\"ready\":true"));
    }

    #[tokio::test]
    async fn the_rest_is_shown_and_anything_else_is_a_problem() {
        let (_, kind, body) = ask("GET", "/metrics", true).await;
        assert!(kind.starts_with("application/openmetrics-text"));
        assert!(body.ends_with("# EOF\n"), "{body}");
        assert!(ask("GET", "/version", true).await.2.contains(env!("CARGO_PKG_VERSION")));
        assert!(ask("GET", "/tree", true).await.2.contains("quire"));
        for (method, path, expected) in [
            ("POST", "/livez", 405),
            ("DELETE", "/metrics", 405),
            ("GET", "/nothing", 404),
            ("POST", "/", 404),
        ] {
            let (status, kind, body) = ask(method, path, true).await;
            assert_eq!(status.as_u16(), expected, "{method} {path}");
            assert_eq!(kind, "application/problem+json");
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(problem["status"], expected);
            assert_eq!(problem["request_id"].as_str().unwrap().len(), 16);
        }
    }
}
