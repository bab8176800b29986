//! One post, by its address, as its reader sees it.

use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::actors::answers::Version;
use crate::actors::post::message::{Answer, Body, Personal, PostView, Query};
use crate::actors::post::{Progress, slots};
use crate::actors::router::Call;
use crate::actors::user::message::Viewer;
use crate::http::App;
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

/// A post as its reader sees it. Its body is used again if the edge has it.
///
/// # Errors
/// 404 for what this reader may not see, or when the shard has no answer.
pub async fn fetch(
    app: &App,
    post: PostId,
    viewer: Option<Arc<Viewer>>,
    link_token: Option<[u8; 16]>,
) -> Answered<(PostView, Body)> {
    ask(app, post, viewer, link_token, true).await
}

/// The same, but whether he favors it, which it never says.
///
/// # Errors
/// Those of [`fetch`].
pub async fn fetch_plain(
    app: &App,
    post: PostId,
    viewer: Option<Arc<Viewer>>,
    link_token: Option<[u8; 16]>,
) -> Answered<(PostView, Body)> {
    ask(app, post, viewer, link_token, false).await
}

async fn ask(
    app: &App,
    post: PostId,
    viewer: Option<Arc<Viewer>>,
    link_token: Option<[u8; 16]>,
    favorited: bool,
) -> Answered<(PostView, Body)> {
    let kept = app.shared().articles.last(&post);
    let known = kept.as_ref().map(|kept| kept.version);
    let query = Query::GetPost { post, viewer, link_token, known, favorited };
    match (app.posts.query(Call::new(), post.bucket(), query).await?, kept) {
        (Answer::Post(view, Some(body)), _) => Ok((view, body)),
        (Answer::Post(view, None), Some(kept)) => Ok((view, kept.body.clone())),
        _ => Err(wrong_answer()),
    }
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
    fetch(app, post, Some(viewer.clone()), link_token).await.map_err(Failure::after_write)
}

/// The version now of a post, and of who it is shown to.
pub fn version(app: &App, post: PostId) -> Version {
    app.posts.version(app.posts.shard_of(post.bucket()), slots::of_post(post))
}

/// What in a shard is a reader's own, if it is kept.
pub fn kept_personal(app: &App, shard: u16, user: UserId) -> Option<Personal> {
    let version = app.posts.version(shard, slots::of_personal(user));
    app.shared().personals.of(&(user, shard), version)
}

/// The same, kept from now on.
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
