//! The one layer around every route: admission, request id, CORS, deadline, shape of errors,
//! metrics. One layer and not a stack, because each layer of a stack costs every request a box, a
//! clone and a future.
//!
//! **Invariants**: E1 every response carries the request id; E2 no response of ours with a status
//! from 400 on has a body of another shape than its path's; E3 a refused request's body is not read.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower::{Layer, Service};
use tracing::Instrument;

use crate::error::ErrorCode;
use crate::http::error::{Failure, Shape};
use crate::http::limits::Limits;
use crate::http::request::{REQUEST_ID, RequestId};
use crate::http::serve::NoCapacity;
use crate::seams::time;
use crate::telemetry::{Metrics, RouteLabels};

/// Places for each request that may wait for one (ADR 0009).
const PLACES_PER_WAITING: usize = 8;
/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_AGE_S: &str = "7200";
/// Methods and statuses whose histogram is kept at hand; others are looked up each time.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"];
const STATUSES: [u16; 14] = [200, 201, 204, 304, 400, 401, 403, 404, 405, 409, 422, 500, 503, 504];

/// What all routes of a listener share.
pub struct Edge {
    places: Semaphore,
    /// For those who wait for a place: one for each [`PLACES_PER_WAITING`] of them. Under overload those
    /// who ask are many, so a few that wait keep every place taken; more would wait for nothing,
    /// and learn it only when the executor comes to them, behind all others who ask.
    waiting: Semaphore,
    admission_wait: Duration,
    request_time: Duration,
    metrics: Arc<Metrics>,
}

impl Edge {
    /// An edge that admits as much as the limits say.
    pub fn new(limits: &Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            places: Semaphore::new(limits.requests_in_flight),
            waiting: Semaphore::new(limits.requests_in_flight.div_ceil(PLACES_PER_WAITING)),
            admission_wait: limits.admission_wait,
            request_time: limits.request_time,
            metrics,
        })
    }

    /// The layer of one route.
    pub fn route(self: &Arc<Self>, template: &'static str) -> EdgeLayer {
        let handles = std::array::from_fn(|_| std::array::from_fn(|_| OnceLock::new()));
        EdgeLayer(Arc::new(Route { edge: self.clone(), template, handles }))
    }

    /// A place among the requests in flight, waited for only a moment and not by many.
    async fn admit(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.places.try_acquire() {
            return Some(place);
        }
        let place = match self.waiting.try_acquire() {
            Ok(_waiting) => time::timeout(self.admission_wait, self.places.acquire()).await.ok(),
            Err(_many) => None,
        };
        let place = place.and_then(Result::ok);
        if place.is_none() {
            self.metrics.requests_refused.inc();
        }
        place
    }
}

/// One route of an edge.
struct Route {
    edge: Arc<Edge>,
    template: &'static str,
    /// By method and status; a look-up by labels would hash and compare three of them.
    handles: [[OnceLock<Histogram>; STATUSES.len()]; METHODS.len()],
}

impl Route {
    fn observe(&self, method: &Method, status: StatusCode, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        let known = METHODS.iter().position(|known| *known == method.as_str());
        let place = STATUSES.iter().position(|known| *known == status.as_u16());
        match (known, place) {
            (Some(method), Some(place)) => self.handles[method][place]
                .get_or_init(|| self.histogram(METHODS[method], status))
                .observe(seconds),
            (known, _) => self
                .histogram(known.map_or("other", |method| METHODS[method]), status)
                .observe(seconds),
        }
    }

    fn histogram(&self, method: &'static str, status: StatusCode) -> Histogram {
        let route = self.template.to_owned();
        let labels = RouteLabels { route, method, status: status.as_u16() };
        self.edge.metrics.requests.get_or_create_owned(&labels)
    }

    /// E1, E2, CORS.
    fn finish(&self, shape: Shape, id: &RequestId, mut response: Response) -> Response {
        if let Some(failure) = failure_of(&mut response) {
            failure.log(id, self.template);
            failure.write(shape, id, &mut response);
        }
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id.header());
        // A browser takes what a user wrote for JSON only, whatever it looks like.
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if shape == Shape::RealWorld {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        response
    }
}

/// The layer of one route.
#[derive(Clone)]
pub struct EdgeLayer(Arc<Route>);

impl<S> Layer<S> for EdgeLayer {
    type Service = EdgeService<S>;

    fn layer(&self, inner: S) -> EdgeService<S> {
        EdgeService { inner, route: self.0.clone() }
    }
}

/// A route's handler with the edge around it.
#[derive(Clone)]
pub struct EdgeService<S> {
    inner: S,
    route: Arc<Route>,
}

impl<S> Service<Request> for EdgeService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let began = time::mark();
        let id = RequestId::of(request.headers());
        // A handler that asks finds the same one.
        request.headers_mut().insert(REQUEST_ID, id.header());
        let shape = Shape::of_path(request.uri().path());
        let method = request.method().clone();
        let route = self.route.clone();
        // A future that is never polled does nothing: what is refused has cost nothing yet (E3).
        let preflight = (shape == Shape::RealWorld && method == Method::OPTIONS).then(preflight);
        let handled = self.inner.call(request);
        Box::pin(async move {
            let response = match preflight {
                Some(response) => response,
                None => answer(&route, &method, &id, handled).await,
            };
            let response = route.finish(shape, &id, response);
            route.observe(&method, response.status(), began);
            Ok(response)
        })
    }
}

async fn answer<F>(route: &Route, method: &Method, id: &RequestId, handled: F) -> Response
where
    F: Future<Output = Result<Response, Infallible>>,
{
    let Some(_place) = route.edge.admit().await else {
        let mut refused = Failure::new(ErrorCode::Overloaded).into_response();
        refused.extensions_mut().insert(NoCapacity);
        return refused;
    };
    let template = route.template;
    let span = tracing::debug_span!("request", %method, route = template, request_id = id.as_str());
    let timed = time::timeout(route.edge.request_time, handled);
    let handled = match span.is_disabled() {
        true => timed.await,
        false => timed.instrument(span).await,
    };
    match handled {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_elapsed) if method.is_safe() => {
            Failure::new(ErrorCode::DeadlineExceeded).into_response()
        }
        Err(_elapsed) => Failure::new(ErrorCode::UnknownOutcome).into_response(),
    }
}

/// The failure of a response, be it a handler's or the framework's own. Responses that bring a
/// JSON body with them are left alone.
fn failure_of(response: &mut Response) -> Option<Failure> {
    let status = response.status();
    if status.as_u16() < 400 {
        return None;
    }
    let own = response.extensions_mut().remove::<Failure>();
    own.or_else(|| (!is_json(response.headers())).then(|| Failure::of_status(status)))
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/"))
}

/// The answer to a browser that asks whether it may ask: yes, from any origin, for a token
/// travels in a header that a foreign page does not have.
fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Content-Type, Authorization, X-Request-Id"),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_AGE_S));
    response
}

#[cfg(test)]
#[path = "edge_tests.rs"]
mod tests;
