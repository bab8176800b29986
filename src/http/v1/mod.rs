//! The native API. One file per resource; the shapes of requests and answers stand beside their
//! handlers, and the documentation is generated from both.
//!
//! What every endpoint keeps to: members are snake_case, times RFC 3339 in UTC with microseconds
//! ([`values::Time`]), ids strings ([`values::Id`]); unknown members of a body are refused
//! (by `Json` of a type that denies them); lists are read by cursor ([`page`]); failures are problems, written by the edge;
//! what the viewer may not see is 404 on every method. An endpoint is one `#[utoipa::path]` handler
//! and its place in [`table`].

pub mod cards;
pub mod etag;
pub mod feedback;
pub mod history;
pub mod interests;
pub mod markdown;
pub mod openapi;
pub mod page;
pub mod posts;
pub mod reads;
pub mod recommendations;
pub mod seen;
pub mod values;

use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use crate::http::App;

/// The whole route table of `/v1`: every path once, with the handlers of its methods.
pub fn table() -> Vec<(&'static str, UtoipaMethodRouter<App>)> {
    vec![
        ("/v1/posts", routes!(posts::list)),
        ("/v1/posts/{id}", routes!(posts::show)),
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
