//! The reading history of the signed-in reader: shown, and forgotten.

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use rustc_hash::FxHashMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::post::message::PostView;
use crate::actors::router::Call;
use crate::actors::user::message::{
    Answer, Command, Depth, Place as ListPlace, Query as UserQuery, Read, Reply,
};
use crate::http::App;
use crate::http::error::{Answered, PROBLEM, Problem};
use crate::http::extract::{SignedIn, wrong_answer};
use crate::http::lists;
use crate::http::people::Cards;
use crate::http::posts::named;
use crate::http::query::Query;
use crate::http::v1::cards::PostCard;
use crate::http::v1::page::{Page, PageBody, PageParameters, Place, Side};
use crate::http::v1::values::Time;
use crate::ids::{PostId, Stamp};

/// A read of the past.
#[derive(Debug, Serialize, ToSchema)]
pub struct PastRead<'a> {
    /// What was read.
    post: PostCard<'a>,
    /// When.
    read_at: Time,
    /// How much of it, in per cent; null when that was not told.
    #[schema(required)]
    depth: Option<u8>,
}

/// Shows what one has read, newest first.
///
/// Posts that one may not see any more are left out, so that a page may be shorter than asked.
#[utoipa::path(
    get, path = "/v1/me/history", operation_id = "list_history", tag = "reader",
    params(PageParameters),
    responses(
        (status = 200, description = "A page of reads.", body = PageBody<PastRead>),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn list(State(app): State<App>, SignedIn(viewer): SignedIn, uri: Uri) -> Answered {
    let page = Page::of(Query::new(uri.query()), &["history"])?;
    let place = page.side.map(place_in_history);
    // One more than asked tells whether there is more.
    let query = UserQuery::ListHistory { user: viewer.id, place, limit: page.limit + 1 };
    let answer = app.users.query(Call::new(), viewer.id.bucket(), query).await?;
    let Answer::History(mut reads) = answer else { return Err(wrong_answer()) };
    let more = reads.len() > page.limit;
    reads.truncate(page.limit);
    reads.sort_unstable_by_key(|read| std::cmp::Reverse((read.at, read.post)));
    let mut order: Vec<PostId> = reads.iter().map(|read| read.post).collect();
    order.sort_unstable();
    order.dedup();
    let posts = lists::fetch_posts(&app, &order, Some(viewer.clone())).await?;
    let authors =
        Cards::fetch(&app, posts.iter().map(|view| view.summary.author).collect()).await?;
    let posts: FxHashMap<PostId, &PostView> =
        posts.iter().map(|view| (view.summary.id, view)).collect();
    let shown = reads.iter().filter_map(|read| {
        let view = *posts.get(&read.post)?;
        let post = PostCard::new(view, authors.get(view.summary.author), Some(&viewer));
        Some(PastRead { post, read_at: Time(read.at), depth: read.depth.map(Depth::percent) })
    });
    let places: Vec<Place> = reads.iter().map(place_of).collect();
    Ok(page.answer(&uri, shown.collect(), &places, more))
}

/// Forgets everything that one has read.
#[utoipa::path(
    delete, path = "/v1/me/history", operation_id = "forget_history", tag = "reader",
    responses(
        (status = 204, description = "It is forgotten."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn forget_all(State(app): State<App>, SignedIn(viewer): SignedIn) -> Answered {
    let call = Call::new();
    loop {
        // A step is short; all of them together have the time of one call.
        let forget = Command::ForgetHistory { user: viewer.id };
        match app.users.command(call, forget).await? {
            Reply::Forgotten { more: false } => return Ok(StatusCode::NO_CONTENT.into_response()),
            Reply::Forgotten { more: true } => {}
            _ => return Err(wrong_answer()),
        }
    }
}

/// Forgets every read of a post, be it there or not.
#[utoipa::path(
    delete, path = "/v1/me/history/{post}", operation_id = "forget_post", tag = "reader",
    params(("post" = String, Path, description = "Id or slug of the post.")),
    responses(
        (status = 204, description = "There is none (any more)."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn forget(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(post): Path<String>,
) -> Answered {
    // Not asked: whether the post can be seen. The history is the reader's own.
    let command = Command::ForgetRead { user: viewer.id, post: named(&post)? };
    app.users.command(Call::new(), command).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn place_of(read: &Read) -> Place {
    Place { sort: read.at.0, id: read.post.0 }
}

fn place_in_history(side: Side) -> ListPlace<(Stamp, PostId)> {
    let key = |place: Place| (Stamp(place.sort), PostId(place.id));
    match side {
        Side::After(place) => ListPlace::After(key(place)),
        Side::Before(place) => ListPlace::Before(key(place)),
    }
}
