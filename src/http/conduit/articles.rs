//! Articles: lists, the feed, writing, favorites.

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;

use crate::actors::post::message::{Command, Filter, PostView, Reply, Visibility};
use crate::actors::router::Call;
use crate::http::App;
use crate::http::checks::Checks;
use crate::http::conduit::seen::{Seen, seen};
use crate::http::conduit::{article, pages, render};
use crate::http::error::Answered;
use crate::http::extract::{Page, Reader, SignedIn, link_token, wrong_answer};
use crate::http::fields;
use crate::http::json::{Field, Json, Object};
use crate::http::lists::Source;
use crate::http::people;
use crate::http::posts::{fetch_written, named};
use crate::http::query::Query;
use crate::ids::{Bucket, UserId};

/// The body of both writes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ArticleBody {
    article: Field<Object<ArticleMembers>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ArticleMembers {
    title: Field<String>,
    description: Field<String>,
    body: Field<String>,
    tag_list: Field<Vec<Field<String>>>,
}

/// `GET /api/articles`
pub async fn list(
    State(app): State<App>,
    Reader(viewer): Reader,
    RawQuery(raw): RawQuery,
) -> Answered {
    let query = Query::new(raw.as_deref());
    let page = Page::of(query)?;
    let mut filters = Vec::new();
    if let Some(tag) = query.get("tag")? {
        // What no post can have is not looked up: its list would be kept under a name of any size.
        if !fields::may_be_tag(&tag) {
            return Ok(render::no_articles());
        }
        filters.push(Filter::Tag(tag.into_owned()));
    }
    // Nobody of that name has written or favors anything.
    if let Some(name) = query.get("author")? {
        let Some(author) = user_named(&app, &name).await? else { return Ok(render::no_articles()) };
        filters.push(Filter::Author(author));
    }
    if let Some(name) = query.get("favorited")? {
        let Some(reader) = user_named(&app, &name).await? else { return Ok(render::no_articles()) };
        filters.push(Filter::FavoritedBy(reader));
    }
    pages::page(&app, Source::Filtered(filters, viewer), page).await
}

/// `GET /api/articles/feed`
pub async fn feed(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    RawQuery(raw): RawQuery,
) -> Answered {
    let page = Page::of(Query::new(raw.as_deref()))?;
    pages::page(&app, Source::Feed(viewer), page).await
}

/// `GET /api/articles/{slug}`
pub async fn show(
    State(app): State<App>,
    Reader(viewer): Reader,
    Path(slug): Path<String>,
    RawQuery(raw): RawQuery,
) -> Answered {
    let post = named(&slug)?;
    let link = link_token(Query::new(raw.as_deref()));
    article::article(&app, post, viewer, link).await
}

/// `POST /api/articles`
pub async fn create(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Json(body): Json<ArticleBody>,
) -> Answered {
    let sent: ArticleMembers = body.article.unwrapped("article")?;
    let mut checks = Checks::default();
    let title = checks.required("title", sent.title, fields::title);
    let description = checks.required("description", sent.description, fields::description);
    let body = checks.required("body", sent.body, fields::body);
    let tags = checks.tags("tagList", sent.tag_list);
    let (Some(title), Some(description), Some(body)) = (title, description, body) else {
        return Err(checks.failure());
    };
    checks.finish()?;
    let command = Command::CreatePost {
        bucket: Bucket::new(app.seams.random.any()),
        author: viewer.id,
        title,
        description,
        body,
        tags: tags.unwrap_or_default(),
        visibility: Visibility::Public,
        publish_at: None,
        link_token: app.seams.random.any(),
        created_at: None,
        import: None,
    };
    let card = people::card(&app, viewer.id).await?;
    let Reply::Post { id, .. } = app.posts.command(Call::new(), command).await? else {
        return Err(wrong_answer());
    };
    let (view, body) = fetch_written(&app, id, &viewer, None).await?;
    Ok(render::article(StatusCode::CREATED, &view, &body, card.as_deref(), Some(&viewer)))
}

/// `PUT /api/articles/{slug}`
pub async fn update(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(slug): Path<String>,
    RawQuery(raw): RawQuery,
    Json(body): Json<ArticleBody>,
) -> Answered {
    let Seen { post, view, link, reader, .. } = seen(&app, &viewer, &slug, raw.as_deref()).await?;
    let sent = body.article.unwrapped("article")?;
    let mut checks = Checks::default();
    let title = checks.optional("title", sent.title, fields::title);
    let description = checks.optional("description", sent.description, fields::description);
    let body = checks.optional("body", sent.body, fields::body);
    let tags = checks.tags("tagList", sent.tag_list);
    checks.finish()?;
    let editor = reader;
    let command =
        Command::EditPost { post, editor, title, description, body, tags, if_version: None };
    let card = people::card(&app, view.summary.author).await?;
    app.posts.command(Call::new(), command).await?;
    let (view, body) = fetch_written(&app, post, &viewer, link).await?;
    Ok(render::article(StatusCode::OK, &view, &body, card.as_deref(), Some(&viewer)))
}

/// `DELETE /api/articles/{slug}`
pub async fn delete(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(slug): Path<String>,
    RawQuery(raw): RawQuery,
) -> Answered {
    let Seen { post, reader, .. } = seen(&app, &viewer, &slug, raw.as_deref()).await?;
    let command = Command::DeletePost { post, editor: reader, if_version: None };
    app.posts.command(Call::new(), command).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/articles/{slug}/favorite`
pub async fn favor(
    State(app): State<App>,
    signed_in: SignedIn,
    Path(slug): Path<String>,
    RawQuery(raw): RawQuery,
) -> Answered {
    set_favorite(&app, signed_in, &slug, raw, true).await
}

/// `DELETE /api/articles/{slug}/favorite`
pub async fn unfavor(
    State(app): State<App>,
    signed_in: SignedIn,
    Path(slug): Path<String>,
    RawQuery(raw): RawQuery,
) -> Answered {
    set_favorite(&app, signed_in, &slug, raw, false).await
}

async fn set_favorite(
    app: &App,
    SignedIn(viewer): SignedIn,
    slug: &str,
    raw: Option<String>,
    on: bool,
) -> Answered {
    let Seen { post, view, body, reader, .. } = seen(app, &viewer, slug, raw.as_deref()).await?;
    let card = people::card(app, view.summary.author).await?;
    let command = Command::Favor { post, reader, on };
    let Reply::Favorites(favorites) = app.posts.command(Call::new(), command).await? else {
        return Err(wrong_answer());
    };
    let view = PostView { favorited: on, favorites, ..view };
    Ok(render::article(StatusCode::OK, &view, &body, card.as_deref(), Some(&viewer)))
}

async fn user_named(app: &App, name: &str) -> Answered<Option<UserId>> {
    Ok(people::by_name(app, name).await?.map(|(user, _)| user))
}
