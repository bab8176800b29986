//! The post that a signed-in reader is about to change, or to write about.

use std::sync::Arc;

use crate::actors::post::message::{Body, PostView, Reader};
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::error::Answered;
use crate::http::extract::link_token;
use crate::http::posts::{fetch_plain, named};
use crate::http::query::Query;
use crate::ids::PostId;

/// A post, and what a command about it asks.
pub(super) struct Seen {
    pub(super) post: PostId,
    /// As it was before the command, but for whether the viewer favors it.
    pub(super) view: PostView,
    pub(super) body: Body,
    /// The secret part of the address, if it has one.
    pub(super) link: Option<[u8; 16]>,
    /// The viewer, as the post's shard needs to know him.
    pub(super) reader: Reader,
}

/// The post of a request's address, which the viewer may see. Asked before the body is looked at: to
/// who may not see the post, nothing is wrong with what he sends.
///
/// # Errors
/// 404 for what this viewer may not see, or when the shard has no answer.
pub(super) async fn seen(
    app: &App,
    viewer: &Arc<Viewer>,
    slug: &str,
    raw_query: Option<&str>,
) -> Answered<Seen> {
    let post = named(slug)?;
    let link = link_token(Query::new(raw_query));
    let (view, body) = fetch_plain(app, post, Some(viewer.clone()), link).await?;
    let reader = Reader::new(viewer, view.summary.author, link);
    Ok(Seen { post, view, body, link, reader })
}
