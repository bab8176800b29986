//! Articles as they are sent, kept with the versions of what they show: of the post and of its author. While
//! neither has moved, they are sent again.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;

use crate::actors::answers::Version;
use crate::actors::post::message::{Body, is_listed, sees_as_stranger};
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::conduit::render;
use crate::http::conduit::template::Template;
use crate::http::error::Answered;
use crate::http::{people, posts};
use crate::ids::{PostId, UserId};

/// An article as strangers see it.
pub struct KeptArticle {
    head: Template,
    /// With the version of the post that it belongs to, it stays good when the rest has moved.
    pub(in crate::http) body: Body,
    pub(in crate::http) version: u64,
    author: UserId,
    has_favorites: bool,
    /// Of the author.
    people: Version,
}

/// `article` for its reader.
///
/// # Errors
/// 404 for what this reader may not see, or when a shard has no answer.
pub async fn article(
    app: &App,
    post: PostId,
    viewer: Option<Arc<Viewer>>,
    link_token: Option<[u8; 16]>,
) -> Answered<Response> {
    let articles = &app.shared().articles;
    let shard = app.posts.shard_of(post.bucket());
    let version = posts::version(app, post);
    if let Some(kept) = articles.of(&post, version)
        && let Some(is_favorited) = is_favorited(app, post, &kept, viewer.as_deref()).await?
        // To hear of his favorites may have taken long: all of it is of one moment, or nothing.
        && posts::version(app, post) == version
        && people::version(app, kept.author) == kept.people
    {
        app.posts.spared(shard);
        people::spared(app, std::iter::once(kept.author));
        return Ok(sent(&kept, is_favorited, viewer.as_deref()));
    }
    // With what is kept of the reader, the rest may be asked for, and kept, as for anybody.
    let reader = viewer.as_deref().map(|viewer| viewer.id);
    let own = reader.and_then(|reader| posts::kept_personal(app, shard, reader));
    let own = own.filter(|own| own.favored.is_some());
    let (view, body) = match own.is_some() {
        true => posts::fetch_plain(app, post, viewer.clone(), link_token).await?,
        false => posts::fetch(app, post, viewer.clone(), link_token).await?,
    };
    let author = view.summary.author;
    let people = people::version(app, author);
    let card = people::card(app, author).await?;
    let head = render::article_head(&view, card.as_deref());
    let (has_favorites, summary) = (view.favorites > 0, &view.summary);
    let kept = KeptArticle { head, body, version: summary.version, author, has_favorites, people };
    let kept = Arc::new(kept);
    if is_listed(view.summary.visibility) {
        let bytes = 200 + kept.head.bytes() + kept.body.bytes();
        articles.keep(post, version, kept.clone(), bytes);
    }
    let is_favorited = match own {
        None => view.favorited,
        Some(_) if !kept.has_favorites => false,
        Some(own) if posts::version(app, post) == version => own.favors(post),
        // It has moved, perhaps by himself: asked for all at once, it is of one moment.
        Some(_) => {
            let (view, body) = posts::fetch(app, post, viewer.clone(), link_token).await?;
            let card = card.as_deref();
            return Ok(render::article(StatusCode::OK, &view, &body, card, viewer.as_deref()));
        }
    };
    Ok(sent(&kept, is_favorited, viewer.as_deref()))
}

fn sent(kept: &KeptArticle, is_favorited: bool, viewer: Option<&Viewer>) -> Response {
    let head = match viewer {
        Some(viewer) => kept.head.for_reader(|_| is_favorited, |author| viewer.follows(author)),
        None => kept.head.text(),
    };
    render::article_of(head, &kept.body)
}

/// Whether the reader favors an article that strangers see so; none if it is to be asked for instead.
async fn is_favorited(
    app: &App,
    post: PostId,
    kept: &KeptArticle,
    viewer: Option<&Viewer>,
) -> Answered<Option<bool>> {
    let Some(viewer) = viewer else { return Ok(Some(false)) };
    if !sees_as_stranger(viewer, kept.author) {
        return Ok(None);
    }
    if !kept.has_favorites {
        return Ok(Some(false));
    }
    let own = posts::personal(app, app.posts.shard_of(post.bucket()), viewer.id).await?;
    Ok(own.favored.is_some().then(|| own.favors(post)))
}
