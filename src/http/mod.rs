//! HTTP: parse and sign in, build one command or query, render. It knows JSON and status codes; it
//! decides nothing.
//!
//! A handler takes types that cannot be wrong ([`extract`], [`json`], [`fields`]), calls the router
//! of a service, and renders what comes back. What a page shows of two services it asks of both.
//! Around every route lies one layer, the [`edge`].

pub mod accounts;
pub mod afterwards;
pub mod checks;
pub mod conduit;
pub mod docs;
pub mod edge;
pub mod error;
pub mod experiments;
pub mod exposures;
pub mod extract;
pub mod failure_limit;
pub mod fault_guard;
pub mod fields;
pub mod json;
pub mod limits;
pub mod listener;
pub mod lists;
pub mod operator;
pub mod ops;
pub mod passwords;
pub mod people;
pub mod pieces;
pub mod posts;
pub mod query;
pub mod rate_limit;
pub mod recommendations;
pub mod request;
pub mod scratch;
pub mod serve;
pub mod slug;
pub mod tokens;
pub mod v1;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router as Routes;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};

use crate::actors::answers::Answers;
use crate::actors::post::message::{Personal, PostView};
use crate::actors::router::Router;
use crate::actors::user::message::{Card, Hidden, Viewer};
use crate::actors::{post, recommendation, user};
use crate::http::afterwards::Afterwards;
use crate::http::conduit::article::KeptArticle;
use crate::http::conduit::orders::Order;
use crate::http::conduit::pages::{KeptPage, PageKey};
use crate::http::conduit::{articles, comments, profiles, tags, users};
use crate::http::edge::Edge;
use crate::http::error::Failure;
use crate::http::failure_limit::FailureLimit;
use crate::http::fault_guard::{FAULTS_MAX, FAULTS_WINDOW_S};
use crate::http::limits::Limits;
use crate::http::passwords::PasswordPool;
use crate::http::rate_limit::RateLimit;
use crate::http::tokens::Tokens;
use crate::http::v1::once::Running;
use crate::http::v1::people::BlockLocks;
use crate::ids::{PostId, UserId};
use crate::seams::Seams;
use crate::telemetry::Metrics;

/// Cards kept, in bytes; a usual one takes 500.
const CARDS_BYTES: usize = 8 * 1024 * 1024;
/// Readers kept, in bytes; a usual one takes 300.
const READERS_BYTES: usize = 4 * 1024 * 1024;
/// Room for articles beside small files, in bytes; one of the benchmark takes 6,200. The bodies among them are
/// mostly in no other cache: that of their shard sees of these only what moves.
const ARTICLES_BYTES_MIN: usize = 27 * 1024 * 1024;
/// As much as all page caches of a service may take: a node's memory is not for articles alone.
const ARTICLES_BYTES_MAX: usize = 512 * 1024 * 1024;
/// The part of the files of posts that they take in between. Among a million posts of 5 kB, whose file has 10.8
/// kB for each, that is one in 28; among 50,000 in a file that has grown, 27 MiB are one in 11.
const ARTICLES_SHARE: u64 = 48;
/// Posts of pages kept, without their bodies, in bytes; one of the benchmark takes 1,100, mostly the same memory
/// as in the cache of its shard.
const VIEWS_BYTES: usize = 9 * 1024 * 1024;
/// Pages kept, in bytes; one of 20 takes 12,000.
const PAGES_BYTES: usize = 13 * 1024 * 1024;
/// What pages consist of, in bytes; one of 20 takes 640 with one shard and 2,000 with four, that of a feed 300 more.
const ORDERS_BYTES: usize = 8 * 1024 * 1024;
/// What readers favor, in bytes; 50 favorites take 600.
const PERSONALS_BYTES: usize = 6 * 1024 * 1024;
/// How long a failed sign-in counts.
const SIGNIN_WINDOW_S: u64 = 15 * 60;

/// What the handlers need of a node.
pub struct Parts {
    /// Calls to the user service.
    pub users: Router<user::Service>,
    /// Calls to the post service.
    pub posts: Router<post::Service>,
    /// Calls to the recommendation service.
    pub recommendations: Router<recommendation::Service>,
    /// Signs and verifies tokens.
    pub tokens: Tokens,
    /// Hashes and verifies passwords.
    pub passwords: PasswordPool,
    /// The metrics of the node.
    pub metrics: Arc<Metrics>,
    /// Length of the files of the post service, in bytes, when the node started.
    pub posts_bytes: u64,
    /// What the edge grants at most.
    pub limits: Limits,
    /// The time, and randomness.
    pub seams: Seams,
}

/// The parts, shared by all handlers. Cheap to clone, as axum does for every request.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// The parts, and what the edge itself keeps.
pub struct Shared {
    parts: Parts,
    /// What was asked of users, mostly the same values as their shards have in memory.
    pub(crate) cards: Answers<UserId, Arc<Card>>,
    pub(crate) viewers: Answers<UserId, Arc<Viewer>>,
    /// With what they hide, for lists that recommend.
    pub(crate) readers: Answers<UserId, (Arc<Viewer>, Arc<Hidden>)>,
    /// What was asked of posts, likewise: as strangers see them, and with what one reader has of his own.
    pub(crate) articles: Answers<PostId, Arc<KeptArticle>>,
    pub(crate) views: Answers<PostId, PostView>,
    pub(crate) personals: Answers<(UserId, u16), Personal>,
    pub(crate) pages: Answers<PageKey, Arc<KeptPage>>,
    pub(crate) orders: Answers<PageKey, Arc<Order>>,
    pub(crate) tags: tags::KeptTags,
    pub(crate) signin_limit: FailureLimit,
    pub(crate) fault_limit: FailureLimit,
    /// Requests with an idempotency key that are at work.
    pub(crate) running: Running,
    pub(crate) block_locks: BlockLocks,
    pub(crate) rate_limit: RateLimit,
    pub(crate) afterwards: Afterwards,
}

impl App {
    /// The application of these parts.
    pub fn new(parts: Parts) -> Self {
        let clock = || parts.seams.clock.clone();
        let signin_limit =
            FailureLimit::new(parts.limits.signin_failures, SIGNIN_WINDOW_S, clock());
        let fault_limit = FailureLimit::new(FAULTS_MAX, FAULTS_WINDOW_S, clock());
        let running = Running::default();
        let block_locks = BlockLocks::default();
        let Limits { user_requests, anonymous_requests, .. } = parts.limits;
        let rate_limit = RateLimit::new(user_requests, anonymous_requests, clock());
        let afterwards = Afterwards::new(&parts);
        let articles_bytes = articles_bytes(parts.posts_bytes);
        Self(Arc::new(Shared {
            parts,
            cards: Answers::new(CARDS_BYTES),
            viewers: Answers::new(READERS_BYTES),
            readers: Answers::new(READERS_BYTES),
            articles: Answers::new(articles_bytes),
            views: Answers::new(VIEWS_BYTES),
            personals: Answers::new(PERSONALS_BYTES),
            pages: Answers::new(PAGES_BYTES),
            orders: Answers::new(ORDERS_BYTES),
            tags: tags::KeptTags::default(),
            signin_limit,
            fault_limit,
            running,
            block_locks,
            rate_limit,
            afterwards,
        }))
    }

    /// The services that take part in a rebuild of the recommendations.
    pub fn owners(&self) -> recommendation::owners::Owners {
        recommendation::owners::Owners {
            posts: self.posts.clone(),
            users: self.users.clone(),
            recommendations: self.recommendations.clone(),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

/// Room for articles beside files of this length: an article costs the same among many as among few only if as
/// large a part of those that are read is kept.
fn articles_bytes(posts_bytes: u64) -> usize {
    let share = usize::try_from(posts_bytes / ARTICLES_SHARE).unwrap_or(usize::MAX);
    share.clamp(ARTICLES_BYTES_MIN, ARTICLES_BYTES_MAX)
}

/// The public API: the whole route table; that of `/v1` is [`v1::table`].
pub fn routes(app: App) -> Routes {
    let edge = Edge::new(&app.limits, app.metrics.clone());
    // The guard is outside: who has to wait there asks nothing more of a service.
    let guard = from_fn_with_state(app.clone(), fault_guard::guard);
    let limit = from_fn_with_state(app.clone(), v1::rate::limit);
    let limit_lists = from_fn_with_state(app.clone(), v1::rate::limit_lists);
    let guarded = |methods: MethodRouter<App>| methods.layer(limit.clone()).layer(guard.clone());
    let limited = from_fn_with_state(app.clone(), v1::rate::limit_address);
    let table: [(&'static str, MethodRouter<App>); 19] = [
        ("/api/users", post(users::register).layer(limited).layer(guard.clone())),
        ("/api/users/login", post(users::login)),
        ("/api/user", guarded(put(users::update)).get(users::current)),
        ("/api/profiles/{username}", get(profiles::show)),
        (
            "/api/profiles/{username}/follow",
            guarded(post(profiles::follow).delete(profiles::unfollow)),
        ),
        ("/api/articles", guarded(post(articles::create)).get(articles::list)),
        ("/api/articles/feed", get(articles::feed)),
        (
            "/api/articles/{slug}",
            guarded(put(articles::update).delete(articles::delete)).get(articles::show),
        ),
        ("/api/articles/{slug}/favorite", guarded(post(articles::favor).delete(articles::unfavor))),
        ("/api/articles/{slug}/comments", guarded(post(comments::create)).get(comments::list)),
        ("/api/articles/{slug}/comments/{number}", guarded(delete(comments::delete))),
        ("/api/tags", get(tags::list)),
        ("/v1/openapi.json", get(docs::openapi)),
        ("/docs", get(docs::index)),
        ("/docs/", get(docs::start)),
        ("/docs/{file}", get(docs::file)),
        ("/docs/problems/{code}", get(docs::problem)),
        ("/api", get(nothing)),
        ("/", get(nothing)),
    ];
    let mut routes = Routes::new();
    for (path, methods) in table {
        routes = routes.route(path, methods.layer(edge.route(path)));
    }
    for (path, (_, documented, methods)) in v1::table() {
        // Who only reads sends no command, and pays nothing for the guard. All of these are lists.
        let methods = match v1::has_commands(&documented) {
            true => guarded(methods),
            false => methods.layer(limit_lists.clone()),
        };
        routes = routes.route(path, methods.layer(edge.route(path)));
    }
    let unknown = axum::routing::any(nothing).layer(edge.route("unknown"));
    routes.fallback_service(unknown.with_state(app.clone())).with_state(app)
}

async fn nothing() -> Failure {
    Failure::of_status(StatusCode::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_articles_grows_with_the_files_within_bounds() {
        const GIB: u64 = 1024 * 1024 * 1024;
        assert_eq!(articles_bytes(0), ARTICLES_BYTES_MIN);
        assert_eq!(articles_bytes(GIB), ARTICLES_BYTES_MIN);
        assert_eq!(articles_bytes(12 * GIB), 256 * 1024 * 1024);
        assert_eq!(articles_bytes(u64::MAX), ARTICLES_BYTES_MAX);
    }
}
