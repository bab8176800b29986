//! Who meets faults of ours again and again, in commands, is asked to wait: a command that panics is
//! tried twice and kept as a dead letter, and who finds one could send it without pause.
//!
//! Callers are told apart here and not in the shard, for only the edge knows them: by the user of a
//! valid token, and by address without one. (Who is signed in is not charged by address as well: one
//! user behind a proxy or a shared address would keep all others from writing.) A command without a
//! fault costs a box and a look at a flag.
//!
//! A command goes on when its caller hangs up, so its outcome is waited for all the same.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use tracing::{Instrument, Span};

use crate::config::COMMAND_DEADLINE;
use crate::error::ErrorCode;
use crate::http::App;
use crate::http::error::Failure;
use crate::http::extract::token_of;
use crate::http::failure_limit::{Attempt, Peer};
use crate::seams::{tasks, time};

/// Faults of a caller in a minute; without a token, of an address, several times as many.
pub const FAULTS_MAX: u32 = 10;
/// How long they count.
pub const FAULTS_WINDOW_S: u64 = 60;

/// Around the routes that send commands: refuses a caller who met too many faults, counts a fault.
/// Reads of the same routes pass: a query that fails leaves nothing behind.
pub async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let limit = &app.shared().fault_limit;
    let caller = Caller {
        token: request.headers().get(header::AUTHORIZATION).cloned(),
        peer: request.extensions().get::<Peer>().copied(),
    };
    let wait_s = match limit.is_unused() {
        true => None,
        false => limit.wait_s(caller.attempt(&app)),
    };
    if let Some(wait_s) = wait_s {
        return Failure::too_many_faults(wait_s).into_response();
    }
    let counted = {
        let app = app.clone();
        async move {
            let response = next.run(request).await;
            let failure = response.extensions().get::<Failure>();
            if failure.is_some_and(|failure| failure.code() == ErrorCode::Internal) {
                app.shared().fault_limit.failed(caller.attempt(&app));
            }
            response
        }
    };
    ToItsEnd(Some(Box::pin(counted))).await
}

/// Who sends a command. Looked at only where it matters, for a token has to be verified.
struct Caller {
    token: Option<HeaderValue>,
    peer: Option<Peer>,
}

impl Caller {
    fn attempt(&self, app: &App) -> Attempt {
        let token = self.token.as_ref().and_then(|header| token_of(header.as_bytes()));
        // Whether the user still has this generation of tokens is no matter: it is the same user.
        let user = token.and_then(|token| app.tokens.verify(token).ok()).map(|bearer| bearer.user);
        let peer = self.peer.filter(|_| user.is_none());
        app.shared().fault_limit.attempt(user, peer)
    }
}

/// What goes on in a task of its own when it is dropped before its end, as hyper does when a client
/// hangs up, and the edge when a request takes too long.
///
/// There it has no place among the requests in flight. It is bounded all the same: it ends by the
/// deadline of a command, it gets no more of the request's body, and all it can wait for has bounds of
/// its own (permits of shards, places for passwords).
struct ToItsEnd(Option<BoxFuture<'static, Response>>);

impl Future for ToItsEnd {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        let rest = self.0.as_mut().expect("nobody asks again for what was answered");
        let response = std::task::ready!(rest.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(response)
    }
}

impl Drop for ToItsEnd {
    fn drop(&mut self) {
        // What has panicked cannot go on.
        let Some(rest) = self.0.take().filter(|_| !std::thread::panicking()) else { return };
        let rest = async { drop(time::timeout(COMMAND_DEADLINE, rest).await) };
        tasks::spawn_if_possible(rest.instrument(Span::current()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use axum::Router as Routes;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::any;
    use futures_util::FutureExt;
    use tokio::sync::Semaphore;
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
    const HOME: &str = "192.0.2.1";
    const AWAY: &str = "192.0.2.2";

    /// An application without services, its time, and what the route `/slow` waits for.
    struct World {
        app: App,
        time: Arc<AtomicU64>,
        turns: Arc<Semaphore>,
    }

    impl World {
        fn new() -> Self {
            let time = Arc::new(AtomicU64::new(1_700_000_000 * SECOND));
            let clock = Clock::from_fn({
                let time = time.clone();
                move || Stamp(time.load(Ordering::Relaxed))
            });
            let key = SigningKey::new(&[1; 32]).unwrap();
            let app = App::new(Parts {
                users: Router::new(vec![]),
                posts: Router::new(vec![]),
                recommendations: Router::new(vec![]),
                tokens: Tokens::new(key, vec![], TOKEN_LIFE, clock.clone()),
                passwords: PasswordPool::new(1, 1, Random::system()),
                metrics: Metrics::new().into(),
                posts_bytes: 0,
                limits: Limits::default(),
                seams: Seams { clock, random: Random::system() },
            });
            Self { app, time, turns: Arc::new(Semaphore::new(0)) }
        }

        fn token(&self, user: u64) -> String {
            self.app.tokens.sign(UserId(user), 0)
        }

        fn pass(&self, seconds: u64) {
            self.time.fetch_add(seconds * SECOND, Ordering::Relaxed);
        }

        /// Whether one is under way, whoever waits for it.
        fn has_slow_command(&self) -> bool {
            Arc::strong_count(&self.turns) > 1
        }

        fn routes(&self) -> Routes {
            let turns = self.turns.clone();
            let slow = async move || {
                turns.acquire().await.unwrap().forget();
                Failure::internal("a poison command")
            };
            Routes::new()
                .route("/fault", any(async || Failure::internal("a poison command")))
                .route("/refusal", any(async || Failure::invalid("title", "is wrong")))
                .route("/slow", any(slow))
                .layer(from_fn_with_state(self.app.clone(), guard))
        }

        /// The status, and whether it is the limit's.
        async fn ask(&self, path: &str, token: Option<&str>, peer: &str) -> (u16, bool) {
            ask(self.routes(), "POST", path, token, peer).await
        }

        async fn read(&self, path: &str, token: Option<&str>) -> (u16, bool) {
            ask(self.routes(), "GET", path, token, HOME).await
        }
    }

    async fn ask(
        routes: Routes,
        method: &str,
        path: &str,
        token: Option<&str>,
        peer: &str,
    ) -> (u16, bool) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Token {token}"));
        }
        let request = request.extension(Peer(peer.parse().unwrap())).body(Body::empty()).unwrap();
        let response = routes.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, status == 429)
    }

    #[tokio::test]
    async fn who_meets_faults_again_and_again_has_to_wait() {
        let world = World::new();
        let [jake, jane] = [1, 2].map(|user| world.token(user));
        let (jake, jane) = (Some(&*jake), Some(&*jane));
        for _ in 0..FAULTS_MAX {
            assert_eq!(world.ask("/refusal", jake, HOME).await, (422, false));
            assert_eq!(world.ask("/fault", jake, HOME).await, (500, false));
        }
        assert_eq!(world.ask("/fault", jake, AWAY).await, (429, true), "wherever he is");
        assert_eq!(world.ask("/refusal", jake, HOME).await, (429, true), "whatever he sends");
        // A new token is no way around it.
        world.pass(1);
        let again = world.token(1);
        assert_eq!(world.ask("/fault", Some(&again), AWAY).await, (429, true));
        // Others at the same place, behind the same proxy say, go on, whoever fails beside them.
        for _ in 0..3 * FAULTS_MAX {
            assert_eq!(world.ask("/fault", None, HOME).await, (500, false));
        }
        assert_eq!(world.ask("/fault", None, HOME).await, (429, true));
        assert_eq!(world.ask("/fault", None, AWAY).await, (500, false));
        assert_eq!(world.ask("/fault", jane, HOME).await, (500, false));
        world.pass(FAULTS_WINDOW_S);
        assert_eq!(world.ask("/refusal", jake, HOME).await, (422, false), "a minute later");
        assert_eq!(world.ask("/refusal", None, HOME).await, (422, false));
    }

    #[tokio::test]
    async fn hanging_up_is_no_way_around_the_limit() {
        let world = World::new();
        let jake = world.token(1);
        for _ in 0..FAULTS_MAX {
            let mut asked = Box::pin(world.ask("/slow", Some(&jake), HOME));
            assert!(asked.as_mut().now_or_never().is_none(), "the command is under way");
            drop(asked);
            assert!(world.has_slow_command(), "also when nobody waits for it");
            world.turns.add_permits(1);
            let ended = async {
                while world.has_slow_command() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it goes on");
        }
        assert_eq!(world.ask("/refusal", Some(&jake), HOME).await, (429, true));
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_without_its_caller_ends_by_the_deadline() {
        let world = World::new();
        let mut asked = Box::pin(world.ask("/slow", None, HOME));
        assert!(asked.as_mut().now_or_never().is_none());
        drop(asked);
        tokio::time::sleep(COMMAND_DEADLINE / 2).await;
        assert!(world.has_slow_command());
        tokio::time::sleep(COMMAND_DEADLINE).await;
        assert!(!world.has_slow_command());
        assert!(world.app.shared().fault_limit.is_unused(), "nobody knows what became of it");
    }

    #[tokio::test]
    async fn reads_are_neither_counted_nor_refused_nor_carried_on() {
        let world = World::new();
        let jake = world.token(1);
        for _ in 0..2 * FAULTS_MAX {
            assert_eq!(world.read("/fault", Some(&jake)).await, (500, false));
        }
        assert_eq!(world.ask("/refusal", Some(&jake), HOME).await, (422, false));
        for _ in 0..FAULTS_MAX {
            world.ask("/fault", Some(&jake), HOME).await;
        }
        assert_eq!(world.ask("/refusal", Some(&jake), HOME).await, (429, true));
        assert_eq!(world.read("/refusal", Some(&jake)).await, (422, false));
        let mut asked = Box::pin(world.read("/slow", Some(&jake)));
        assert!(asked.as_mut().now_or_never().is_none() && world.has_slow_command());
        drop(asked);
        assert!(!world.has_slow_command());
    }

    #[tokio::test]
    async fn faults_at_the_same_time_are_waited_for_one_after_the_other() {
        const FAULTS: u32 = 5 * FAULTS_MAX;
        let world = World::new();
        let jake = world.token(1);
        let asked = (0..FAULTS).map(|_| world.ask("/slow", Some(&jake), HOME));
        let release = async { world.turns.add_permits(FAULTS as usize) };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(asked), release);
        assert!(answers.iter().all(|answer| *answer == (500, false)), "all passed the check");
        for _ in 0..FAULTS / FAULTS_MAX {
            assert_eq!(world.ask("/refusal", Some(&jake), HOME).await, (429, true));
            world.pass(FAULTS_WINDOW_S);
        }
        assert_eq!(world.ask("/refusal", Some(&jake), HOME).await, (422, false));
    }

    /// Ways in that send no command, or count failures of their own.
    const UNGUARDED: [&str; 1] = ["POST /api/users/login"];

    #[tokio::test]
    async fn every_route_that_sends_commands_is_guarded() {
        let world = World::new();
        let jake = world.token(1);
        let limit = &world.app.shared().fault_limit;
        (0..FAULTS_MAX).for_each(|_| limit.failed(limit.attempt(Some(UserId(1)), None)));
        let mut guarded = 0;
        for line in include_str!("../../tests/snapshots/routes.txt").lines() {
            let mut words = line.split(' ');
            let path = words.next().unwrap();
            let is_public = path.starts_with("/api/") || path.starts_with("/v1/");
            if !is_public {
                continue;
            }
            for method in words.filter(|method| !["GET", "HEAD"].contains(method)) {
                let name = format!("{method} {path}");
                if UNGUARDED.contains(&&*name) {
                    continue;
                }
                let routes = crate::http::routes(world.app.clone());
                let path = path.replace(['{', '}'], "");
                let answer = ask(routes, method, &path, Some(&jake), HOME).await;
                assert_eq!(answer, (429, true), "{name}");
                guarded += 1;
            }
        }
        assert!(guarded >= 11, "{guarded}");
    }
}
