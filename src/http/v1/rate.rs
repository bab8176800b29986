//! The limit of requests around every route of `/v1`.

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::App;
use crate::http::error::Failure;
use crate::http::extract::token_of;
use crate::http::failure_limit::Peer;

/// Refuses who asked too often, and tells everybody what is left.
pub async fn limit(State(app): State<App>, request: Request, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION);
    let token = token.and_then(|header| token_of(header.as_bytes()));
    // A token that is not valid is nobody's.
    let user = token.and_then(|token| app.tokens.verify(token).ok()).map(|bearer| bearer.user);
    let peer = request.extensions().get::<Peer>().copied();
    let Some(quota) = app.shared().rate_limit.take(user, peer) else {
        return next.run(request).await;
    };
    let mut response = match quota.wait_s() {
        Some(wait_s) => Failure::too_many_requests(wait_s).into_response(),
        None => next.run(request).await,
    };
    quota.write(response.headers_mut());
    response
}
