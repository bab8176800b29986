//! One post, by its address, as its reader sees it.

use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::actors::answers::Version;
use crate::actors::post::message::{
    Answer, Body, Personal, PostView, Query, is_listed, sees_as_stranger,
};
use crate::actors::post::{Progress, slots};
use crate::actors::router::Call;
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::conduit::render::summary_bytes;
use crate::http::error::{Answered, Failure};
use crate::http::extract::wrong_answer;
use crate::http::slug;
use crate::ids::{PostId, UserId};

/// The post that a slug, or an id alone, names.
///
/// # Errors
/// 404 when it can name none.
pub fn named(slug: &str) -> Answered<PostId> {
    slug::post_of(slug).ok_or_else(|| Failure::not_found("article"))
}

/// A post as its reader sees it. What strangers see is kept.
///
/// # Errors
/// 404 for what this reader may not see, or when the shard has no answer.
pub async fn fetch(
    app: &App,
    post: PostId,
    viewer: Option<Arc<Viewer>>,
    link_token: Option<[u8; 16]>,
) -> Answered<(PostView, Body)> {
    let (shard, articles) = (app.posts.shard_of(post.bucket()), &app.shared().articles);
    let version = version(app, post);
    if let Some((view, body)) = articles.of(&post, version)
        && let Some(favorited) = is_favorited(app, shard, viewer.as_deref(), &view).await?
    {
        app.posts.spared(shard);
        return Ok((PostView { favorited, ..view }, body));
    }
    let (view, body) = ask(app, post, viewer, link_token).await?;
    if is_listed(view.summary.visibility) {
        let bytes = summary_bytes(&view.summary) + body.bytes();
        let seen_by_strangers = PostView { favorited: false, ..view.clone() };
        articles.keep(post, version, (seen_by_strangers, body.clone()), bytes);
    }
    Ok((view, body))
}

/// The same after a write of this request. What else its answer needs is fetched before the write,
/// so that this is all that can fail when it has happened.
///
/// # Errors
/// Those of [`fetch`], none of which denies the write.
pub async fn fetch_written(
    app: &App,
    post: PostId,
    viewer: &Arc<Viewer>,
    link_token: Option<[u8; 16]>,
) -> Answered<(PostView, Body)> {
    ask(app, post, Some(viewer.clone()), link_token).await.map_err(Failure::after_write)
}

async fn ask(
    app: &App,
    post: PostId,
    viewer: Option<Arc<Viewer>>,
    link_token: Option<[u8; 16]>,
) -> Answered<(PostView, Body)> {
    let query = Query::GetPost { post, viewer, link_token };
    match app.posts.query(Call::new(), post.bucket(), query).await? {
        Answer::Post(view, body) => Ok((view, body)),
        _ => Err(wrong_answer()),
    }
}

/// Whether the reader favors a post that a stranger sees so; none if the post is to be asked for instead.
async fn is_favorited(
    app: &App,
    shard: u16,
    viewer: Option<&Viewer>,
    view: &PostView,
) -> Answered<Option<bool>> {
    let Some(viewer) = viewer else { return Ok(Some(false)) };
    if !sees_as_stranger(viewer, view.summary.author) {
        return Ok(None);
    }
    if view.favorites == 0 {
        return Ok(Some(false));
    }
    let Personal { favored, .. } = personal(app, shard, viewer.id).await?;
    Ok(favored.map(|favored| favored.contains(&view.summary.id)))
}

/// The version now of a post as it is kept.
pub fn version(app: &App, post: PostId) -> Version {
    app.posts.version(app.posts.shard_of(post.bucket()), slots::of_post(post))
}

/// What in a shard is a reader's own, kept from now on.
///
/// # Errors
/// When the shard has no answer.
pub async fn personal(app: &App, shard: u16, user: UserId) -> Answered<Personal> {
    let personals = &app.shared().personals;
    let version = app.posts.version(shard, slots::of_personal(user));
    if let Some(personal) = personals.of(&(user, shard), version) {
        return Ok(personal);
    }
    let query = Query::GetPersonal { user, progress: Progress::default() };
    let Answer::Personal(personal) = app.posts.query_shard(Call::new(), shard, query).await? else {
        return Err(wrong_answer());
    };
    personals.keep((user, shard), version, personal.clone(), personal.bytes());
    Ok(personal)
}

/// The same in every shard, in order.
///
/// # Errors
/// When a shard has no answer.
pub async fn personals(app: &App, user: UserId) -> Answered<Vec<Personal>> {
    try_join_all((0..app.posts.shards()).map(|shard| personal(app, shard, user))).await
}
