//! The operations listener: whether the node lives, is ready, what it measures, and its tree.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router as Routes;
use axum::extract::{RawQuery, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde_json::{Value, json};

use crate::error::ErrorCode;
use crate::http::conduit::render;
use crate::http::edge::Edge;
use crate::http::error::{Failure, Shape};
use crate::http::limits::Limits;
use crate::http::request::{REQUEST_ID, RequestId};
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

/// The same for a listener that only this machine reaches. A page in a browser here reaches it, too,
/// if its own name is made to lead here; then the browser sends that name.
pub fn only_local_names(routes: Routes) -> Routes {
    routes.layer(axum::middleware::from_fn(check_host))
}

async fn check_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
    // Every browser names a host.
    if host.is_none_or(is_local_name) {
        return next.run(request).await;
    }
    let failure = Failure::of_status(StatusCode::MISDIRECTED_REQUEST);
    let id = RequestId::of(request.headers());
    let mut response = failure.status().into_response();
    failure.write(Shape::Problem, &id, &mut response);
    response.headers_mut().insert(REQUEST_ID, id.header());
    response
}

/// An address or `localhost`, with any port or none.
fn is_local_name(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let host = authority.host();
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok()
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
    async fn a_foreign_name_does_not_lead_to_a_private_listener() {
        let local = ["127.0.0.1:9090", "localhost:9090", "LOCALHOST", "[::1]:9090", "10.0.0.1"];
        let foreign = ["evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example", ""];
        let hosts = local.map(|host| (host, 200)).into_iter();
        for (host, status) in hosts.chain(foreign.map(|host| (host, 421))) {
            let routes = Routes::new().route("/livez", get(livez));
            let request = Request::builder().uri("/livez").header(header::HOST, host);
            let request = request.body(Body::empty()).unwrap();
            let response = only_local_names(routes).oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{host}");
            if status == 421 {
                let kind = &response.headers()[header::CONTENT_TYPE];
                assert_eq!(kind, "application/problem+json");
            }
        }
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
