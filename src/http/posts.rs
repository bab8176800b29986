//! One post, by its address, as its reader sees it.

use std::sync::Arc;

use crate::actors::post::message::{Answer, Body, PostView, Query};
use crate::actors::router::Call;
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::error::{Answered, Failure};
use crate::http::extract::wrong_answer;
use crate::http::slug;
use crate::ids::PostId;

/// The post that a slug, or an id alone, names.
///
/// # Errors
/// 404 when it can name none.
pub fn named(slug: &str) -> Answered<PostId> {
    slug::post_of(slug).ok_or_else(|| Failure::not_found("article"))
}

/// A post as its reader sees it.
///
/// # Errors
/// 404 for what this reader may not see, or when the shard has no answer.
pub async fn fetch(
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
