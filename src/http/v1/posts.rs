//! Posts: lists, and one post, read and written.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::actors::post::message::{
    Body, Command, Filter, Place as ListPlace, Reader as PostReader, Reply, SortKey, Summary,
};
use crate::actors::router::Call;
use crate::actors::user::message::Viewer;
use crate::error::ErrorCode;
use crate::http::App;
use crate::http::checks::Checks;
use crate::http::error::{Answered, Failure, PROBLEM, Problem};
use crate::http::extract::{Reader, SignedIn, link_token, wrong_answer};
use crate::http::json::{Field, Json};
use crate::http::people::{self, Cards};
use crate::http::posts::{fetch, fetch_written, named};
use crate::http::query::Query;
use crate::http::v1::cards::PostCard;
use crate::http::v1::etag::{ETag, IF_MATCH, if_match};
use crate::http::v1::markdown::{self, RENDERING};
use crate::http::v1::once::{KEY, Sent};
use crate::http::v1::page::{Page, PageBody, PageParameters, Place, Side};
use crate::http::v1::values::{Audience, Id, Time, json, private_json};
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
    get, path = "/v1/posts", operation_id = "list_posts", tag = "posts",
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
    get, path = "/v1/posts/{id}", operation_id = "show_post", tag = "posts",
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

/// A new post.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPost {
    /// Title.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 300)]
    title: Field<String>,
    /// Description.
    #[serde(default)]
    #[schema(value_type = String, max_length = 1000)]
    description: Field<String>,
    /// Text, in Markdown, at most 256 KiB.
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 1, max_length = 262_144)]
    body: Field<String>,
    /// At most 10 of at most 40 characters.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10)]
    tags: Field<Vec<Field<String>>>,
    /// Who may see it; a draft unless told otherwise.
    #[serde(default)]
    #[schema(value_type = Audience)]
    visibility: Field<String>,
    /// When a scheduled post becomes public.
    #[serde(default)]
    #[schema(value_type = Time)]
    publish_at: Field<String>,
}

/// A post that was made, published or taken back.
#[derive(Debug, Serialize, ToSchema)]
pub struct Written {
    /// Which.
    id: Id,
    /// Its version now, as `If-Match` takes it.
    version: u64,
    /// Who may see it now.
    visibility: Audience,
    /// When it will be published, if it waits for that.
    #[schema(required)]
    publish_at: Option<Time>,
}

impl Written {
    /// What a reply of the post service says.
    pub(super) fn new(
        reply: &Reply,
        visibility: Audience,
        publish_at: Option<Stamp>,
    ) -> Answered<Self> {
        let Reply::Post { id, version } = reply else { return Err(wrong_answer()) };
        let publish_at = publish_at.map(Time);
        Ok(Self { id: (*id).into(), version: *version, visibility, publish_at })
    }
}

/// Writes a post.
///
/// A draft, unless `visibility` says otherwise. The answer tells which post it is; `GET` shows it.
#[utoipa::path(
    post, path = "/v1/posts", operation_id = "create_post", tag = "posts", security(("token" = [])), request_body = NewPost,
    params(("idempotency-key" = Option<String>, Header, description = KEY)),
    responses(
        (status = 201, description = "It is written.", body = Written, headers(("location" = String))),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn create(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Sent { body: sent, key }: Sent<NewPost>,
) -> Answered {
    let mut checks = Checks::default();
    let title = checks.required("title", sent.title, fields::title);
    let description = checks.optional("description", sent.description, fields::summary);
    let body = checks.required("body", sent.body, fields::body);
    let tags = checks.tags("tags", sent.tags);
    let audience = checks.optional("visibility", sent.visibility, |sent| Audience::of(&sent));
    let publish_at = checks.optional("publish_at", sent.publish_at, fields::time);
    let audience = audience.unwrap_or(Audience::Draft);
    if publish_at.is_some() && audience != Audience::Scheduled {
        checks.wrong("publish_at", "is for scheduled posts");
    }
    let (Some(title), Some(body)) = (title, body) else { return Err(checks.failure()) };
    checks.finish()?;
    let mut once = key.begin(&app, &viewer)?;
    let command = Command::CreatePost {
        bucket: once.bucket(),
        author: viewer.id,
        title,
        description: description.unwrap_or_default(),
        body,
        tags: tags.unwrap_or_default(),
        visibility: audience.into(),
        publish_at,
        link_token: app.seams.random.any(),
        created_at: None,
        import: None,
    };
    let reply = once.command(&app.posts, command).await?;
    let written = Written::new(&reply, audience, publish_at)?;
    let mut response = json(StatusCode::CREATED, &written);
    if let Reply::Post { id, .. } = reply
        && let Ok(location) = HeaderValue::from_str(&format!("/v1/posts/{id}"))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(once.answer(response))
}

/// A change of a post; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PostChange {
    /// Title.
    #[serde(default)]
    #[schema(value_type = String, min_length = 1, max_length = 300)]
    title: Field<String>,
    /// Description.
    #[serde(default)]
    #[schema(value_type = String, max_length = 1000)]
    description: Field<String>,
    /// Text, in Markdown, at most 256 KiB.
    #[serde(default)]
    #[schema(value_type = String, min_length = 1, max_length = 262_144)]
    body: Field<String>,
    /// At most 10 of at most 40 characters.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 10)]
    tags: Field<Vec<Field<String>>>,
}

/// Changes a post of one's own.
#[utoipa::path(
    patch, path = "/v1/posts/{id}", operation_id = "change_post", tag = "posts", security(("token" = [])), request_body = PostChange,
    params(
        ("id" = String, Path, description = "Id or slug of the post."),
        ("if-match" = String, Header, description = IF_MATCH),
    ),
    responses(
        (status = 200, description = "The post now.", body = Post, headers(("etag" = String))),
        (status = 412, description = "It has another version.", body = Problem, content_type = PROBLEM),
        (status = 428, description = "`If-Match` is missing.", body = Problem, content_type = PROBLEM),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn change(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    Json(sent): Json<PostChange>,
) -> Answered {
    let post = named(&id)?;
    let link = link_token(Query::new(uri.query()));
    let mut checks = Checks::default();
    let title = checks.optional("title", sent.title, fields::title);
    let description = checks.optional("description", sent.description, fields::summary);
    let body = checks.optional("body", sent.body, fields::body);
    let tags = checks.tags("tags", sent.tags);
    checks.finish()?;
    let if_version = visible(&app, post, &viewer, link, if_match(&headers)).await?;
    let editor = PostReader::as_author(viewer.id);
    let command = Command::EditPost { post, editor, title, description, body, tags, if_version };
    let author = people::card(&app, viewer.id).await?;
    if let Err(error) = app.posts.command(Call::new(), command).await {
        return Err(not_yours(&app, post, &viewer, link, error.into()).await);
    }
    let (view, body) = fetch_written(&app, post, &viewer, None).await?;
    let card = PostCard::new(&view, author.as_deref(), Some(&viewer));
    let tag = tag_of(&view.summary, &card);
    answer(StatusCode::OK, card, &body, &tag).await.map_err(Failure::after_write)
}

/// Deletes a post of one's own, for ever.
#[utoipa::path(
    delete, path = "/v1/posts/{id}", operation_id = "delete_post", tag = "posts", security(("token" = [])),
    params(
        ("id" = String, Path, description = "Id or slug of the post."),
        ("if-match" = String, Header, description = IF_MATCH),
    ),
    responses(
        (status = 204, description = "It is gone."),
        (status = 412, description = "It has another version.", body = Problem, content_type = PROBLEM),
        (status = 428, description = "`If-Match` is missing.", body = Problem, content_type = PROBLEM),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn delete(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let post = named(&id)?;
    let link = link_token(Query::new(uri.query()));
    let if_version = visible(&app, post, &viewer, link, if_match(&headers)).await?;
    let editor = PostReader::as_author(viewer.id);
    let command = Command::DeletePost { post, editor, if_version };
    match app.posts.command(Call::new(), command).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) => Err(not_yours(&app, post, &viewer, link, error.into()).await),
    }
}

/// What a condition says, unless the viewer may not even see the post.
async fn visible<T>(
    app: &App,
    post: PostId,
    viewer: &Arc<Viewer>,
    link: Option<[u8; 16]>,
    condition: Answered<T>,
) -> Answered<T> {
    if condition.is_err() {
        fetch(app, post, Some(viewer.clone()), link).await?;
    }
    condition
}

/// The entity tag of a post: what is not in its card follows from its version.
fn tag_of(summary: &Summary, card: &PostCard<'_>) -> ETag {
    let mut shown = serde_json::to_vec(card).expect("a card is JSON");
    shown.push(RENDERING);
    ETag::new(summary.version, &shown)
}

async fn answer(status: StatusCode, card: PostCard<'_>, body: &Body, tag: &ETag) -> Answered {
    let (body, html) = markdown::html(body).await?;
    let mut response = private_json(status, &Post { card, body: &body, html });
    tag.mark(&mut response);
    Ok(response)
}

/// Why a write fails of somebody who is not the author: what he may see is not his, and anything
/// else is not there. Asked only now: whose a post is decides the post service, and most who write
/// are the authors.
pub(super) async fn not_yours(
    app: &App,
    post: PostId,
    viewer: &Arc<Viewer>,
    link: Option<[u8; 16]>,
    failure: Failure,
) -> Failure {
    if failure.code() != ErrorCode::NotFound {
        return failure;
    }
    match fetch(app, post, Some(viewer.clone()), link).await {
        Ok(_) => failure.turned_into(ErrorCode::Forbidden),
        Err(_) => failure,
    }
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
