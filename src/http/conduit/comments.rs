//! Comments on an article.

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;

use crate::actors::post::Progress;
use crate::actors::post::message::{Answer, Command, Comment, Query as PostQuery, Reply};
use crate::actors::router::Call;
use crate::http::App;
use crate::http::checks::Checks;
use crate::http::conduit::render;
use crate::http::conduit::seen::{Seen, seen};
use crate::http::error::{Answered, Failure};
use crate::http::extract::{Reader, SignedIn, link_token, wrong_answer};
use crate::http::fields;
use crate::http::json::{Field, Json, Object};
use crate::http::people::{self, Cards};
use crate::http::posts::named;
use crate::http::query::Query;

/// The body of a new comment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CommentBody {
    comment: Field<Object<CommentMembers>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CommentMembers {
    body: Field<String>,
}

/// `GET /api/articles/{slug}/comments`
pub async fn list(
    State(app): State<App>,
    Reader(viewer): Reader,
    Path(slug): Path<String>,
    RawQuery(raw): RawQuery,
) -> Answered {
    let post = named(&slug)?;
    let link_token = link_token(Query::new(raw.as_deref()));
    let progress = Progress::default();
    let query = PostQuery::ListComments { post, viewer: viewer.clone(), link_token, progress };
    let answer = app.posts.query(Call::new(), post.bucket(), query).await?;
    let Answer::Comments(comments) = answer else { return Err(wrong_answer()) };
    let authors = comments.iter().map(|comment| comment.author).collect();
    let cards = Cards::fetch(&app, authors).await?;
    Ok(render::comments(&comments, &cards, viewer.as_deref()))
}

/// `POST /api/articles/{slug}/comments`
pub async fn create(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(slug): Path<String>,
    RawQuery(raw): RawQuery,
    Json(body): Json<CommentBody>,
) -> Answered {
    let Seen { post, reader, .. } = seen(&app, &viewer, &slug, raw.as_deref()).await?;
    let sent = body.comment.unwrapped("comment")?;
    let mut checks = Checks::default();
    let Some(body) = checks.required("body", sent.body, fields::comment) else {
        return Err(checks.failure());
    };
    let card = people::card(&app, viewer.id).await?;
    let text = body.clone();
    let command = Command::AddComment { post, reader, body: text, created_at: None, import: None };
    let reply = app.posts.command(Call::new(), command).await?;
    let Reply::Comment { number, created_at } = reply else { return Err(wrong_answer()) };
    let author = viewer.id;
    let comment = Comment { number, author, body, created_at, updated_at: created_at };
    Ok(render::comment(&comment, card.as_deref(), &viewer))
}

/// `DELETE /api/articles/{slug}/comments/{number}`
pub async fn delete(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path((slug, number)): Path<(String, String)>,
    RawQuery(raw): RawQuery,
) -> Answered {
    let Seen { post, reader, .. } = seen(&app, &viewer, &slug, raw.as_deref()).await?;
    let number = number.parse().map_err(|_| Failure::not_found("comment"))?;
    app.posts.command(Call::new(), Command::DeleteComment { post, number, reader }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
