//! Articles and pages of them, kept with the versions of what they show: of the list, of each post, and of
//! their authors. While none has moved, they are sent again.

use std::sync::Arc;

use axum::response::Response;

use crate::actors::answers::{Slot, Version};
use crate::actors::post::message::{
    Body, Filter, Personal, PostView, is_listed, lists_as_stranger, sees_as_stranger,
};
use crate::actors::post::slots;
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::conduit::render;
use crate::http::conduit::template::Template;
use crate::http::error::Answered;
use crate::http::extract::Page;
use crate::http::lists::{self, Source};
use crate::http::people::{self, Cards};
use crate::http::posts;
use crate::ids::{PostId, UserId};
use crate::s3_fifo::Key;

/// Most slots, of authors in shards, that a feed may be made from to be kept: each is looked at each time.
const KEPT_FOLLOWS_MAX: usize = 512;

/// What a page is kept as.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PageKey {
    list: List,
    page: Page,
}

impl Key for PageKey {
    fn outside(&self) -> usize {
        match &self.list {
            // In the map, and in the queue, where older places may stand for a while.
            List::Of(Filter::Tag(tag)) => 3 * tag.len(),
            List::Of(_) | List::Feed(_) => 0,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum List {
    /// As strangers see it.
    Of(Filter),
    Feed(UserId),
}

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

/// Which posts make a page. Far smaller than the page, so that it is still there for readers who come seldom.
pub struct Order {
    posts: Box<[PostId]>,
    /// Of the list.
    total: u64,
    /// The reader of a feed.
    viewer: Option<Arc<Viewer>>,
}

/// A page as strangers see it, or the posts of a feed as if its only reader were one.
pub struct KeptPage {
    template: Template,
    /// Of each post.
    posts: Box<[Version]>,
    /// Of all authors.
    people: Version,
    /// The reader of a feed.
    viewer: Option<Arc<Viewer>>,
}

impl KeptPage {
    fn is_exact(&self, app: &App) -> bool {
        let mut posts = self.template.places().iter().zip(&self.posts);
        posts.all(|(place, version)| posts::version(app, place.post) == *version)
            && people_of(app, self.authors()) == self.people
    }

    fn authors(&self) -> impl Iterator<Item = UserId> {
        self.template.places().iter().map(|place| place.author)
    }

    fn bytes(&self) -> usize {
        let viewer = self.viewer.as_ref().map_or(0, |viewer| viewer.bytes());
        300 + self.template.bytes() + size_of_val(&self.posts[..]) + viewer
    }
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
    let version = posts::version(app, post);
    if let Some(kept) = articles.of(&post, version)
        && let Some(is_favorited) = is_favorited(app, post, &kept, viewer.as_deref()).await?
        // To hear of his favorites may have taken long: all of it is of one moment, or nothing.
        && posts::version(app, post) == version
        && people::version(app, kept.author) == kept.people
    {
        app.posts.spared(app.posts.shard_of(post.bucket()));
        people::spared(app, std::iter::once(kept.author));
        return Ok(sent(&kept, is_favorited, viewer.as_deref()));
    }
    let (view, body) = posts::fetch(app, post, viewer.clone(), link_token).await?;
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
    Ok(sent(&kept, view.favorited, viewer.as_deref()))
}

fn sent(kept: &KeptArticle, is_favorited: bool, viewer: Option<&Viewer>) -> Response {
    let head = match viewer {
        Some(viewer) => kept.head.for_reader(|_| is_favorited, |author| viewer.follows(author)),
        None => kept.head.for_strangers(),
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

/// `articles`: a page for its reader.
///
/// # Errors
/// When a shard has no answer.
pub async fn page(app: &App, source: Source, page: Page) -> Answered<Response> {
    let kept = match kept_as(app, &source) {
        Some((list, slots)) => find_for(app, PageKey { list, page }, &slots, &source).await?,
        None => None,
    };
    let Some((kept, own)) = kept else {
        let (posts, total) = lists::fetch(app, &source, page).await?;
        let cards = Cards::fetch(app, authors_of(&posts)).await?;
        let favors = |post| posts.iter().any(|view| view.summary.id == post && view.favorited);
        let follows = |author| source.viewer().is_some_and(|viewer| viewer.follows(author));
        return Ok(render::json(
            render::articles(&posts, total, &cards).for_reader(favors, follows),
        ));
    };
    Ok(render::json(match source.viewer() {
        Some(viewer) => kept.template.for_reader(
            |post| own[usize::from(app.posts.shard_of(post.bucket()))].favors(post),
            |author| viewer.follows(author),
        ),
        None => kept.template.for_strangers(),
    }))
}

/// The page, and what its reader has of his own, of one moment; none if the page shows him other posts than
/// strangers, or nobody says which of them he favors, or that has just changed.
async fn find_for(
    app: &App,
    key: PageKey,
    slots: &[Slot],
    source: &Source,
) -> Answered<Option<(Arc<KeptPage>, Vec<Personal>)>> {
    let Some(viewer) = source.viewer() else {
        return Ok(Some((find(app, key, slots, source).await?, Vec::new())));
    };
    let slot = [slots::of_personal(viewer.id)];
    let version = app.posts.version_everywhere(&slot);
    let own = posts::personals(app, viewer.id).await?;
    let sees_other_posts = match source {
        Source::Filtered(..) => !own.iter().all(|own| lists_as_stranger(viewer, own)),
        Source::Feed(_) => false,
    };
    if sees_other_posts || own.iter().any(|own| own.favored.is_none()) {
        return Ok(None);
    }
    let kept = find(app, key, slots, source).await?;
    Ok((app.posts.version_everywhere(&slot) == version).then_some((kept, own)))
}

/// As what a page of this list is kept, and the slots that its keys stand on; none if it is not kept, or
/// surely shows this reader other posts than strangers.
fn kept_as(app: &App, source: &Source) -> Option<(List, Vec<Slot>)> {
    match source {
        Source::Filtered(filters, viewer) => {
            let filter = match &filters[..] {
                [] => Filter::All,
                [filter] => filter.clone(),
                _ => return None,
            };
            if viewer.as_ref().is_some_and(|viewer| !viewer.blocked_by.is_empty()) {
                return None;
            }
            let slot = slots::of_list(&filter);
            Some((List::Of(filter), vec![slot]))
        }
        Source::Feed(viewer)
            if viewer.follows.len() * usize::from(app.posts.shards()) <= KEPT_FOLLOWS_MAX =>
        {
            let slots = viewer.follows.iter().map(|author| slots::of_feed(*author)).collect();
            Some((List::Feed(viewer.id), slots))
        }
        Source::Feed(_) => None,
    }
}

/// The page as it is kept; what of it has moved is asked for again.
async fn find(app: &App, key: PageKey, slots: &[Slot], source: &Source) -> Answered<Arc<KeptPage>> {
    let pages = &app.shared().pages;
    let viewer = match source {
        Source::Filtered(..) => None,
        Source::Feed(viewer) => Some(viewer),
    };
    let look = || {
        let version = app.posts.version_everywhere(slots);
        let kept = pages.of(&key, version).filter(|kept| is_same(kept.viewer.as_ref(), viewer));
        kept.filter(|kept| kept.is_exact(app)).ok_or(version)
    };
    let found = match viewer {
        // Nobody else makes it.
        Some(_) => look().map_err(|version| (version, None)),
        None => {
            pages.found_or_turn(&key, look).await.map_err(|(version, turn)| (version, Some(turn)))
        }
    };
    let (version, _turn) = match found {
        Ok(kept) => {
            app.posts.spared_everywhere();
            people::spared(app, kept.authors());
            return Ok(kept);
        }
        Err(missed) => missed,
    };
    let Order { posts: order, total, .. } = &*find_order(app, &key, version, source).await?;
    let versions = order.iter().map(|post| posts::version(app, *post)).collect();
    let posts = lists::fetch_posts(app, order, viewer.cloned()).await?;
    let people = people_of(app, authors_of(&posts).into_iter());
    let cards = Cards::fetch(app, authors_of(&posts)).await?;
    let template = render::articles(&posts, *total, &cards);
    let viewer = viewer.cloned();
    let kept = Arc::new(KeptPage { template, posts: versions, people, viewer });
    // A post that went away since the list was asked for is left out, this time.
    if posts.len() == order.len() {
        pages.keep(key, version, kept.clone(), kept.bytes());
    }
    Ok(kept)
}

/// The posts of a page whose list is of this version.
async fn find_order(
    app: &App,
    key: &PageKey,
    version: Version,
    source: &Source,
) -> Answered<Arc<Order>> {
    let orders = &app.shared().orders;
    let (source, viewer) = match source {
        Source::Filtered(filters, _) => (Source::Filtered(filters.clone(), None), None),
        Source::Feed(viewer) => (source.clone(), Some(viewer)),
    };
    let kept = orders.of(key, version).filter(|kept| is_same(kept.viewer.as_ref(), viewer));
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let (posts, total) = lists::fetch_order(app, &source, key.page).await?;
    let bytes = 200 + size_of_val(&posts[..]) + viewer.map_or(0, |viewer| viewer.bytes());
    let order = Arc::new(Order { posts: posts.into(), total, viewer: viewer.cloned() });
    orders.keep(key.clone(), version, order.clone(), bytes);
    Ok(order)
}

/// Whether it is the same reader of a feed, with the same edges, or none.
fn is_same(left: Option<&Arc<Viewer>>, right: Option<&Arc<Viewer>>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => Arc::ptr_eq(left, right),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn authors_of(posts: &[PostView]) -> Vec<UserId> {
    posts.iter().map(|view| view.summary.author).collect()
}

fn people_of(app: &App, authors: impl Iterator<Item = UserId>) -> Version {
    authors.map(|author| people::version(app, author)).sum()
}
