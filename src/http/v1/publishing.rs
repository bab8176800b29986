//! Publishing posts and taking them back.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::actors::post::message::{Command, Reader as PostReader};
use crate::http::App;
use crate::http::checks::Checks;
use crate::http::error::{Answered, PROBLEM, Problem};
use crate::http::extract::SignedIn;
use crate::http::fields;
use crate::http::json::Field;
use crate::http::posts::named;
use crate::http::v1::once::{KEY, Sent};
use crate::http::v1::posts::{Written, not_yours};
use crate::http::v1::values::{Audience, Time, json};

/// How a post is published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// `public`, unless told otherwise; `followers` or `unlisted`. Each time that a post becomes
    /// unlisted its link is a new one.
    #[serde(default)]
    #[schema(value_type = Audience)]
    visibility: Field<String>,
    /// When; now, unless told otherwise. A post that waits for its time becomes public.
    #[serde(default)]
    #[schema(value_type = Time)]
    at: Field<String>,
}

/// Publishes a post of one's own, now or at a time.
#[utoipa::path(
    post, path = "/v1/posts/{id}/publish", operation_id = "publish_post", tag = "posts", security(("token" = [])), request_body = Publication,
    params(
        ("id" = String, Path, description = "Id or slug of the post."),
        ("idempotency-key" = Option<String>, Header, description = KEY),
    ),
    responses(
        (status = 200, description = "It is published, or scheduled.", body = Written),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn publish(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(id): Path<String>,
    Sent { body: sent, key }: Sent<Publication>,
) -> Answered {
    let post = named(&id)?;
    let mut checks = Checks::default();
    let audience = checks.optional("visibility", sent.visibility, |sent| Audience::of(&sent));
    let at = checks.optional("at", sent.at, fields::time);
    let audience = audience.unwrap_or(Audience::Public);
    match audience {
        Audience::Scheduled | Audience::Draft => checks.wrong("visibility", "is not published"),
        Audience::Followers | Audience::Unlisted if at.is_some() => {
            checks.wrong("at", "is for posts that become public");
        }
        Audience::Public | Audience::Followers | Audience::Unlisted => {}
    }
    checks.finish()?;
    let audience = if at.is_some() { Audience::Scheduled } else { audience };
    let mut once = key.begin(&app, &viewer)?;
    let command = Command::PublishPost {
        post,
        editor: PostReader::as_author(viewer.id),
        visibility: audience.into(),
        at,
        link_token: app.seams.random.any(),
    };
    match once.command(&app.posts, command).await {
        Ok(reply) => {
            let written = Written::new(&reply, audience, at)?;
            Ok(once.answer(json(StatusCode::OK, &written)))
        }
        Err(failure) => Err(not_yours(&app, post, &viewer, None, failure).await),
    }
}

/// Unpublishing says no more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Makes a post of one's own a draft again.
#[utoipa::path(
    post, path = "/v1/posts/{id}/unpublish", operation_id = "unpublish_post", tag = "posts", security(("token" = [])),
    params(
        ("id" = String, Path, description = "Id or slug of the post."),
        ("idempotency-key" = Option<String>, Header, description = KEY),
    ),
    responses(
        (status = 200, description = "It is a draft.", body = Written),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn unpublish(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(id): Path<String>,
    Sent { body: Nothing {}, key }: Sent<Nothing>,
) -> Answered {
    let post = named(&id)?;
    let mut once = key.begin(&app, &viewer)?;
    let editor = PostReader::as_author(viewer.id);
    match once.command(&app.posts, Command::UnpublishPost { post, editor }).await {
        Ok(reply) => {
            let written = Written::new(&reply, Audience::Draft, None)?;
            Ok(once.answer(json(StatusCode::OK, &written)))
        }
        Err(failure) => Err(not_yours(&app, post, &viewer, None, failure).await),
    }
}
