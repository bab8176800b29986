//! Posts: lists, and one post.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::actors::post::message::{Filter, Place as ListPlace, SortKey, Summary};
use crate::http::App;
use crate::http::error::{Answered, Failure, PROBLEM, Problem};
use crate::http::extract::{Reader, link_token};
use crate::http::people::{self, Cards};
use crate::http::posts::{fetch, named};
use crate::http::query::Query;
use crate::http::v1::cards::PostCard;
use crate::http::v1::etag::ETag;
use crate::http::v1::markdown::{self, RENDERING};
use crate::http::v1::page::{Page, PageBody, PageParameters, Place, Side};
use crate::http::v1::values::private_json;
use crate::http::{fields, lists};
use crate::ids::{PostId, Stamp};

/// A post with its body.
#[derive(Debug, Serialize, ToSchema)]
pub struct Post<'a> {
    #[serde(flatten)]
    card: PostCard<'a>,
    /// Text, in Markdown.
    body: &'a str,
    /// The same as HTML, which holds no markup of the author's own.
    html: String,
}

/// The filters of a list of posts.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what the handler reads")]
pub struct Filters {
    /// Only posts with this tag, in any case.
    tag: Option<String>,
    /// Only posts of the author of this name.
    author: Option<String>,
}

/// The link of an unlisted post.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what the handler reads")]
pub struct Link {
    /// `link_token` of an unlisted post.
    link: Option<String>,
}

/// Lists posts, newest first.
///
/// Public posts, and one's own of every visibility.
#[utoipa::path(
    get, path = "/v1/posts", tag = "posts",
    params(Filters, PageParameters),
    responses(
        (status = 200, description = "A page of posts.", body = PageBody<PostCard>),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn list(State(app): State<App>, Reader(viewer): Reader, uri: Uri) -> Answered {
    let query = Query::new(uri.query());
    let (tag, author) = (query.get("tag")?, query.get("author")?);
    let list = ["posts", tag.as_deref().unwrap_or(""), author.as_deref().unwrap_or("")];
    let page = Page::of(query, &list)?;
    let mut filters = Vec::new();
    if let Some(tag) = tag {
        // What no post can have is not looked up: its list would be kept under a name of any size.
        if !fields::may_be_tag(&tag) {
            return Ok(page.answer(&uri, Vec::<PostCard<'_>>::new(), &[], false));
        }
        filters.push(Filter::Tag(tag.into_owned()));
    }
    if let Some(name) = author {
        let Some((author, _)) = people::by_name(&app, &name).await? else {
            return Ok(page.answer(&uri, Vec::<PostCard<'_>>::new(), &[], false));
        };
        filters.push(Filter::Author(author));
    }
    let from = page.side.map(place_in_list);
    let stretch = lists::fetch_from(&app, filters, viewer.clone(), from, page.limit).await?;
    let authors = stretch.posts.iter().map(|view| view.summary.author).collect();
    let authors = Cards::fetch(&app, authors).await?;
    let cards = PostCard::of_all(&stretch.posts, &authors, viewer.as_deref());
    let places: Vec<Place> = stretch.keys.iter().copied().map(place_of).collect();
    Ok(page.answer(&uri, cards, &places, stretch.more))
}

/// Shows a post.
///
/// What the viewer may not see is not there.
#[utoipa::path(
    get, path = "/v1/posts/{id}", tag = "posts",
    params(("id" = String, Path, description = "Id or slug of the post."), Link),
    responses(
        (status = 200, description = "The post.", body = Post, headers(("etag" = String))),
        (status = 304, description = "The client has it already (`If-None-Match`)."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn show(
    State(app): State<App>,
    Reader(viewer): Reader,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let post = named(&id)?;
    let link = link_token(Query::new(uri.query()));
    let (view, body) = fetch(&app, post, viewer.clone(), link).await?;
    let author = people::card(&app, view.summary.author).await?;
    let card = PostCard::new(&view, author.as_deref(), viewer.as_deref());
    let tag = tag_of(&view.summary, &card);
    if let Some(known) = tag.not_modified(&headers) {
        return Ok(known);
    }
    answer(StatusCode::OK, card, &body, &tag).await
}

/// The entity tag of a post: what is not in its card follows from its version.
fn tag_of(summary: &Summary, card: &PostCard<'_>) -> ETag {
    let mut shown = serde_json::to_vec(card).expect("a card is JSON");
    shown.push(RENDERING);
    ETag::new(summary.version, &shown)
}

async fn answer(status: StatusCode, card: PostCard<'_>, body: &[u8], tag: &ETag) -> Answered {
    let html = markdown::html(body).await?;
    let body = std::str::from_utf8(body).map_err(|error| Failure::internal(error.to_string()))?;
    let mut response = private_json(status, &Post { card, body, html });
    tag.mark(&mut response);
    Ok(response)
}

fn place_of(key: SortKey) -> Place {
    Place { sort: key.at.0, id: key.post.0 }
}

fn place_in_list(side: Side) -> ListPlace {
    let key = |place: Place| SortKey { at: Stamp(place.sort), post: PostId(place.id) };
    match side {
        Side::After(place) => ListPlace::After(key(place)),
        Side::Before(place) => ListPlace::Before(key(place)),
    }
}
