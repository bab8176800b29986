//! The native API. One file per resource; the shapes of requests and answers stand beside their
//! handlers, and the documentation is generated from both.
//!
//! What every endpoint keeps to: members are snake_case, times RFC 3339 in UTC with microseconds
//! ([`values::Time`]), ids strings ([`values::Id`]); unknown members of a body are refused by its type
//! (`deny_unknown_fields`); a POST may be sent again under a key ([`once`]); lists are read by cursor
//! ([`page`]); failures are problems, written by the edge; what the viewer may not see is 404 on
//! every method. An endpoint is one `#[utoipa::path]` handler and its place in [`table`].

pub mod cards;
pub mod etag;
pub mod feedback;
pub mod history;
pub mod interests;
pub mod markdown;
pub mod once;
pub mod openapi;
pub mod page;
pub mod people;
pub mod posts;
pub mod publishing;
pub mod rate;
pub mod reads;
pub mod recommendations;
pub mod seen;
pub mod values;

use utoipa::openapi::{PathItem, Paths};
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use crate::http::App;

/// The whole route table of `/v1`: every path once, with the handlers of its methods.
pub fn table() -> Vec<(&'static str, UtoipaMethodRouter<App>)> {
    vec![
        ("/v1/posts", routes!(posts::list, posts::create)),
        ("/v1/posts/{id}", routes!(posts::show, posts::change, posts::delete)),
        ("/v1/posts/{id}/publish", routes!(publishing::publish)),
        ("/v1/posts/{id}/unpublish", routes!(publishing::unpublish)),
        ("/v1/users/{name}/follow", routes!(people::follow, people::unfollow)),
        ("/v1/users/{name}/mute", routes!(people::mute, people::unmute)),
        ("/v1/users/{name}/block", routes!(people::block, people::unblock)),
        ("/v1/posts/{id}/related", routes!(recommendations::related)),
        ("/v1/recommendations", routes!(recommendations::list)),
        ("/v1/session/recommendations", routes!(recommendations::session)),
        ("/v1/trending", routes!(recommendations::trending)),
        ("/v1/following", routes!(recommendations::following)),
        ("/v1/reads", routes!(reads::record)),
        ("/v1/feedback", routes!(feedback::give)),
        ("/v1/tags/{tag}/follow", routes!(interests::follow, interests::unfollow)),
        ("/v1/tags/{tag}/mute", routes!(interests::mute, interests::unmute)),
        ("/v1/me/history", routes!(history::list, history::forget_all)),
        ("/v1/me/history/{post}", routes!(history::forget)),
        ("/v1/me/interests", routes!(interests::show)),
        ("/v1/me/mutes", routes!(interests::mutes)),
        ("/v1/me/blocks", routes!(interests::blocks)),
    ]
}

/// Whether some of these methods may change something.
pub fn has_commands(documented: &Paths) -> bool {
    let changes = |PathItem { put, post, delete, patch, .. }: &PathItem| {
        [put, post, delete, patch].into_iter().any(Option::is_some)
    };
    documented.paths.values().any(changes)
}
