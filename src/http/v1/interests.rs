//! What the signed-in reader chose to read of, and not to: tags, muted and blocked users.

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::router::Call;
use crate::actors::user::message::{
    Answer, Command, Edges, Place as ListPlace, Query as UserQuery, Tag, Viewer,
};
use crate::http::App;
use crate::http::error::{Answered, Failure, PROBLEM, Problem};
use crate::http::extract::{SignedIn, wrong_answer};
use crate::http::fields;
use crate::http::people::Cards;
use crate::http::query::Query;
use crate::http::v1::cards::AuthorCard;
use crate::http::v1::page::{Page, PageBody, PageParameters, Place, Side};
use crate::http::v1::values::private_json;
use crate::ids::UserId;

/// What a reader chose.
#[derive(Debug, Serialize, ToSchema)]
pub struct Interests {
    /// Followed tags, as they were written first, in the order of their lower-case form.
    followed_tags: Vec<String>,
    /// Muted tags, the same way.
    muted_tags: Vec<String>,
    /// How many users one follows.
    followed_users: usize,
    /// How many users one mutes; `/v1/me/mutes` names them.
    muted_users: usize,
}

/// Shows the tags that one follows and mutes.
#[utoipa::path(
    get, path = "/v1/me/interests", operation_id = "show_interests", tag = "reader",
    responses(
        (status = 200, description = "What one chose.", body = Interests),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn show(State(app): State<App>, SignedIn(viewer): SignedIn) -> Answered {
    let query = UserQuery::GetInterests { user: viewer.id };
    let answer = app.users.query(Call::new(), viewer.id.bucket(), query).await?;
    let Answer::Interests(interests) = answer else { return Err(wrong_answer()) };
    let shown = |tags: Vec<Tag>| tags.into_iter().map(|tag| tag.shown).collect();
    let interests = Interests {
        followed_tags: shown(interests.tag_follows),
        muted_tags: shown(interests.tag_mutes),
        followed_users: interests.follows.len(),
        muted_users: interests.mutes.len(),
    };
    Ok(private_json(StatusCode::OK, &interests))
}

/// Follows a tag.
#[utoipa::path(
    put, path = "/v1/tags/{tag}/follow", operation_id = "follow_tag", tag = "reader",
    params(("tag" = String, Path, description = "The tag, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn follow(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(tag): Path<String>,
) -> Answered {
    let tag = checked(tag)?;
    set(&app, Command::SetTagFollow { user: viewer.id, tag, on: true }).await
}

/// Follows a tag no more.
#[utoipa::path(
    delete, path = "/v1/tags/{tag}/follow", operation_id = "unfollow_tag", tag = "reader",
    params(("tag" = String, Path, description = "The tag, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn unfollow(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(tag): Path<String>,
) -> Answered {
    let tag = checked(tag)?;
    set(&app, Command::SetTagFollow { user: viewer.id, tag, on: false }).await
}

/// Mutes a tag: its posts leave one's recommendations.
#[utoipa::path(
    put, path = "/v1/tags/{tag}/mute", operation_id = "mute_tag", tag = "reader",
    params(("tag" = String, Path, description = "The tag, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn mute(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(tag): Path<String>,
) -> Answered {
    let tag = checked(tag)?;
    set(&app, Command::SetTagMute { user: viewer.id, tag, on: true }).await
}

/// Mutes a tag no more.
#[utoipa::path(
    delete, path = "/v1/tags/{tag}/mute", operation_id = "unmute_tag", tag = "reader",
    params(("tag" = String, Path, description = "The tag, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn unmute(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(tag): Path<String>,
) -> Answered {
    let tag = checked(tag)?;
    set(&app, Command::SetTagMute { user: viewer.id, tag, on: false }).await
}

/// Lists the users that one mutes, who registered last first.
#[utoipa::path(
    get, path = "/v1/me/mutes", operation_id = "list_mutes", tag = "reader",
    params(PageParameters),
    responses(
        (status = 200, description = "A page of users.", body = PageBody<AuthorCard>),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn mutes(State(app): State<App>, SignedIn(viewer): SignedIn, uri: Uri) -> Answered {
    list(&app, &viewer, &uri, "mutes", Edges::Mutes).await
}

/// Lists the users that one blocks, who registered last first.
#[utoipa::path(
    get, path = "/v1/me/blocks", operation_id = "list_blocks", tag = "reader",
    params(PageParameters),
    responses(
        (status = 200, description = "A page of users.", body = PageBody<AuthorCard>),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn blocks(State(app): State<App>, SignedIn(viewer): SignedIn, uri: Uri) -> Answered {
    list(&app, &viewer, &uri, "blocks", Edges::Blocks).await
}

fn checked(tag: String) -> Answered<Tag> {
    fields::tag(tag).map_err(|wrong| Failure::invalid("tag", wrong))
}

async fn set(app: &App, command: Command) -> Answered {
    app.users.command(Call::new(), command).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list(app: &App, viewer: &Viewer, uri: &Uri, name: &str, edges: Edges) -> Answered {
    let page = Page::of(Query::new(uri.query()), &[name])?;
    let place = page.side.map(|side| match side {
        Side::After(place) => ListPlace::After(UserId(place.id)),
        Side::Before(place) => ListPlace::Before(UserId(place.id)),
    });
    // One more than asked tells whether there is more.
    let query = UserQuery::ListEdges { user: viewer.id, edges, place, limit: page.limit + 1 };
    let answer = app.users.query(Call::new(), viewer.id.bucket(), query).await?;
    let Answer::Edges(mut users) = answer else { return Err(wrong_answer()) };
    let more = users.len() > page.limit;
    users.truncate(page.limit);
    users.sort_unstable_by_key(|user| std::cmp::Reverse(*user));
    let cards = Cards::fetch(app, users.clone()).await?;
    let card = |user: &UserId| AuthorCard::new(*user, cards.get(*user), Some(viewer));
    let places: Vec<Place> = users.iter().map(|user| Place { sort: user.0, id: user.0 }).collect();
    Ok(page.answer(uri, users.iter().map(card).collect(), &places, more))
}
