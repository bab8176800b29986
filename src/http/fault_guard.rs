//! Who meets faults of ours again and again, in commands, is asked to wait: a command that panics is
//! tried twice and kept as a dead letter, and who finds one could send it without pause.
//!
//! Callers are told apart here and not in the shard, for only the edge knows them: by the user of a
//! valid token and by address. A command without a fault costs a look at a flag.

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ErrorCode;
use crate::http::App;
use crate::http::error::Failure;
use crate::http::extract::token_of;
use crate::http::failure_limit::Peer;

/// Faults of a user in a minute; an address may meet several times as many.
pub const FAULTS_MAX: u32 = 10;
/// How long they count.
pub const FAULTS_WINDOW_S: u64 = 60;

/// Around the routes that send commands: refuses a caller who met too many faults, counts a fault.
pub async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let limit = &app.shared().fault_limit;
    let token = request.headers().get(header::AUTHORIZATION).cloned();
    let peer = request.extensions().get::<Peer>().copied();
    let caller = || {
        let token = token.as_ref().and_then(|header| token_of(header.as_bytes()));
        // Whether the user still has this generation of tokens is no matter: it is the same user.
        let user = token.and_then(|token| app.tokens.verify(token).ok()).map(|bearer| bearer.user);
        limit.attempt(user, peer)
    };
    let wait_s = match limit.is_unused() {
        true => None,
        false => limit.wait_s(caller()),
    };
    if let Some(wait_s) = wait_s {
        return Failure::too_many_faults(wait_s).into_response();
    }
    let response = next.run(request).await;
    let failure = response.extensions().get::<Failure>();
    if failure.is_some_and(|failure| failure.code() == ErrorCode::Internal) {
        limit.failed(caller());
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use axum::Router as Routes;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::post;
    use tower::ServiceExt;

    use super::*;
    use crate::actors::router::Router;
    use crate::http::Parts;
    use crate::http::limits::Limits;
    use crate::http::passwords::PasswordPool;
    use crate::http::tokens::{SigningKey, TOKEN_LIFE, Tokens};
    use crate::ids::{Stamp, UserId};
    use crate::seams::{Clock, Random, Seams};
    use crate::telemetry::Metrics;

    const SECOND: u64 = 1_000_000;

    fn app(clock: Clock) -> App {
        let key = SigningKey::new(&[1; 32]).unwrap();
        App::new(Parts {
            users: Router::new(vec![]),
            posts: Router::new(vec![]),
        recommendations: Router::new(vec![]),
            tokens: Tokens::new(key, vec![], TOKEN_LIFE, clock.clone()),
            passwords: PasswordPool::new(1, 1, Random::system()),
            metrics: Metrics::new().into(),
            limits: Limits::default(),
            seams: Seams { clock, random: Random::system() },
        })
    }

    async fn ask(app: &App, path: &str, token: Option<&str>, peer: &str) -> (u16, bool) {
        let routes = Routes::new()
            .route("/fault", post(async || Failure::internal("a poison command")))
            .route("/refusal", post(async || Failure::invalid("title", "is wrong")))
            .layer(from_fn_with_state(app.clone(), guard));
        let mut request = Request::builder().method("POST").uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Token {token}"));
        }
        let request = request.extension(Peer(peer.parse().unwrap())).body(Body::empty()).unwrap();
        let response = routes.oneshot(request).await.unwrap();
        let failure = response.extensions().get::<Failure>().unwrap();
        (failure.status().as_u16(), failure.code() == ErrorCode::RateLimited)
    }

    #[tokio::test]
    async fn who_meets_faults_again_and_again_has_to_wait() {
        let time = Arc::new(AtomicU64::new(1_700_000_000 * SECOND));
        let app = app(Clock::from_fn({
            let time = time.clone();
            move || Stamp(time.load(Ordering::Relaxed))
        }));
        let [jake, jane] = [1, 2].map(|user| app.tokens.sign(UserId(user), 0));
        let (jake, jane, home, away) = (Some(&*jake), Some(&*jane), "192.0.2.1", "192.0.2.2");
        for _ in 0..FAULTS_MAX {
            assert_eq!(ask(&app, "/refusal", jake, home).await, (422, false));
            assert_eq!(ask(&app, "/fault", jake, home).await, (500, false));
        }
        assert_eq!(ask(&app, "/fault", jake, away).await, (429, true), "wherever he is");
        assert_eq!(ask(&app, "/refusal", jake, home).await, (429, true), "whatever he sends");
        // A new token is no way around it, nor is a new account at the same place for long.
        time.fetch_add(SECOND, Ordering::Relaxed);
        let again = app.tokens.sign(UserId(1), 0);
        assert_eq!(ask(&app, "/fault", Some(&again), away).await, (429, true));
        assert_eq!(ask(&app, "/fault", jane, home).await, (500, false));
        for _ in 0..20 {
            ask(&app, "/fault", None, home).await;
        }
        assert_eq!(ask(&app, "/refusal", jane, home).await, (429, true));
        assert_eq!(ask(&app, "/refusal", jane, away).await, (422, false));
        time.fetch_add(FAULTS_WINDOW_S * SECOND, Ordering::Relaxed);
        assert_eq!(ask(&app, "/refusal", jake, home).await, (422, false), "a minute later");
    }
}
