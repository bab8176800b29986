//! The limit of requests around every route of `/v1`, and around the writes of the other API: what a
//! stranger can pile up there, accounts first, has the same bound. Signing in counts for itself: its
//! failures, and what succeeds as a request of its user.

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::App;
use crate::http::error::Failure;
use crate::http::extract::{SignIn, token_of};
use crate::http::failure_limit::Peer;
use crate::http::rate_limit::Quota;

/// Refuses who asked too often, and tells everybody what is left.
pub async fn limit(State(app): State<App>, request: Request, next: Next) -> Response {
    limit_user(app, request, next, false).await
}

/// The same around lists: with who their reader is comes what is in none that recommends.
pub async fn limit_lists(State(app): State<App>, request: Request, next: Next) -> Response {
    limit_user(app, request, next, true).await
}

async fn limit_user(app: App, mut request: Request, next: Next, is_list: bool) -> Response {
    let rate_limit = &app.shared().rate_limit;
    let token = request.headers().get(header::AUTHORIZATION);
    let token = token.and_then(|header| token_of(header.as_bytes()));
    // A token that is not valid is nobody's.
    let bearer = token.and_then(|token| app.tokens.verify(token).ok());
    let peer = request.extensions().get::<Peer>().copied();
    let quota = match bearer.map(|bearer| (bearer, rate_limit.spent(bearer.user))) {
        None => rate_limit.take(None, peer),
        Some((_, Some(spent))) => Some(spent),
        Some((bearer, None)) => {
            // Nor is one that was withdrawn: whoever found it would keep its user out. Nothing is
            // counted before that is known, for who hangs up ends the request here.
            let signed_in = match is_list {
                true => SignIn::of_list_reader(&app, bearer).await,
                false => SignIn::of(&app, bearer).await,
            };
            let user = Some(bearer.user).filter(|_| !signed_in.is_void());
            request.extensions_mut().insert(signed_in);
            rate_limit.take(user, peer)
        }
    };
    within(quota, request, next).await
}

/// The same where no token counts, because what is asked for has nothing to do with its user: each new
/// account would bring a quota for more of them.
pub async fn limit_address(State(app): State<App>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let quota = app.shared().rate_limit.take(None, peer);
    within(quota, request, next).await
}

async fn within(quota: Option<Quota>, request: Request, next: Next) -> Response {
    let mut response = match quota.and_then(Quota::wait_s) {
        Some(wait_s) => Failure::too_many_requests(wait_s).into_response(),
        None => next.run(request).await,
    };
    if let Some(quota) = quota {
        quota.write(response.headers_mut());
    }
    response
}
