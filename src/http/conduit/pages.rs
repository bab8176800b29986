//! Pages of articles, kept with the versions of what they show: of the list, of each of its posts, and of
//! their authors. What has not moved is used again; only the rest is asked for.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::response::Response;

use crate::actors::answers::{Slot, Version};
use crate::actors::post::message::{Filter, Personal, PostView, lists_as_stranger};
use crate::actors::post::slots;
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::conduit::render;
use crate::http::error::Answered;
use crate::http::extract::Page;
use crate::http::lists::{self, Source};
use crate::http::people::{self, Cards};
use crate::http::posts;
use crate::ids::{PostId, UserId};
use crate::s3_fifo::Key;

/// Most authors that a feed may be made from to be kept: as many slots are looked at in each shard.
const KEPT_FOLLOWS_MAX: usize = 256;

/// What a page is kept as.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PageKey(List, Page);

impl Key for PageKey {
    fn outside(&self) -> usize {
        match &self.0 {
            List::Of(Filter::Tag(tag)) => tag.len(),
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

/// A page as strangers see it, or the only reader of a feed; but nobody favors anything.
pub struct Kept {
    posts: Vec<PostView>,
    total: u64,
    cards: Cards,
    /// Of each post.
    versions: Vec<Version>,
    /// Of all authors.
    people: Version,
    /// The reader of a feed.
    viewer: Option<Arc<Viewer>>,
    /// As strangers are sent it.
    rendered: OnceLock<Bytes>,
}

impl Kept {
    fn is_exact(&self, app: &App) -> bool {
        let mut posts = self.posts.iter().zip(&self.versions);
        posts.all(|(view, version)| posts::version(app, view.summary.id) == *version)
            && people_of(app, &self.posts) == self.people
    }

    /// A post, if it has not moved.
    fn post(&self, post: PostId, version: Version) -> Option<PostView> {
        let place = self.posts.iter().position(|view| view.summary.id == post)?;
        (self.versions[place] == version).then(|| self.posts[place].clone())
    }

    /// Whether it is a page of everybody's, or of this reader of a feed, with the same edges.
    fn is_for(&self, viewer: Option<&Arc<Viewer>>) -> bool {
        match (&self.viewer, viewer) {
            (Some(kept), Some(viewer)) => Arc::ptr_eq(kept, viewer),
            (None, None) => true,
            _ => false,
        }
    }

    fn rendered_for_strangers(&self) -> &Bytes {
        self.rendered.get_or_init(|| {
            let Self { posts, total, cards, .. } = self;
            // A copy has no more room than it needs.
            Bytes::copy_from_slice(&render::articles(posts, |_| false, *total, cards, None))
        })
    }

    /// What it takes in memory, once it is rendered. Most posts are in the cache of their shard too, and in
    /// other pages: of four in memory, one is counted.
    fn bytes(&self) -> usize {
        let posts = self.posts.iter().map(|view| 60 + render::summary_bytes(&view.summary) / 4);
        let rendered = match self.viewer {
            Some(_) => 0,
            None => render::articles_size(&self.posts, &self.cards),
        };
        500 + posts.sum::<usize>() + rendered
    }
}

/// `articles`: a page for its reader.
///
/// # Errors
/// When a shard has no answer.
pub async fn show(app: &App, source: Source, page: Page) -> Answered<Response> {
    let own = match source.viewer() {
        Some(viewer) => posts::personals(app, viewer.id).await?,
        None => Vec::new(),
    };
    let Some((list, slots)) = kept_as(&source, &own) else {
        return show_anew(app, source, page).await;
    };
    let kept = find(app, PageKey(list, page), &slots, &source).await?;
    let rendered = match source.viewer() {
        Some(viewer) => {
            let is_favorited = |view: &PostView| {
                let post = view.summary.id;
                let favored = &own[usize::from(app.posts.shard_of(post.bucket()))].favored;
                favored.as_ref().is_some_and(|favored| favored.contains(&post))
            };
            let Kept { posts, total, cards, .. } = &*kept;
            render::articles(posts, is_favorited, *total, cards, Some(viewer))
        }
        None => kept.rendered_for_strangers().clone(),
    };
    Ok(render::json(rendered))
}

/// As what a page of this list is kept, and the slots that its keys stand on; none if it is not kept, or
/// shows this reader other posts than strangers, or nobody says which of them he favors.
fn kept_as(source: &Source, own: &[Personal]) -> Option<(List, Vec<Slot>)> {
    if own.iter().any(|own| own.favored.is_none()) {
        return None;
    }
    match source {
        Source::Filtered(filters, viewer) => {
            let filter = match &filters[..] {
                [] => Filter::All,
                [filter] => filter.clone(),
                _ => return None,
            };
            let viewer = viewer.as_deref();
            if viewer.is_some_and(|viewer| !own.iter().all(|own| lists_as_stranger(viewer, own))) {
                return None;
            }
            let slot = slots::of_list(&filter);
            Some((List::Of(filter), vec![slot]))
        }
        Source::Feed(viewer) if viewer.follows.len() <= KEPT_FOLLOWS_MAX => {
            let slots = viewer.follows.iter().map(|author| slots::of_feed(*author)).collect();
            Some((List::Feed(viewer.id), slots))
        }
        Source::Feed(_) => None,
    }
}

/// The page, of which only what has moved is asked for.
async fn find(app: &App, key: PageKey, slots: &[Slot], source: &Source) -> Answered<Arc<Kept>> {
    let (pages, page) = (&app.shared().pages, key.1);
    let viewer = match source {
        Source::Filtered(..) => None,
        Source::Feed(viewer) => Some(viewer),
    };
    let version = app.posts.version_everywhere(slots);
    let last = pages.last(&key).filter(|(_, kept)| kept.is_for(viewer));
    let same = last.as_ref().filter(|(of, _)| *of == version).map(|(_, kept)| kept);
    if let Some(kept) = same
        && kept.is_exact(app)
    {
        app.posts.spared_everywhere();
        app.users.spared_everywhere();
        return Ok(kept.clone());
    }
    let (order, total) = match same {
        Some(kept) => (kept.posts.iter().map(|view| view.summary.id).collect(), kept.total),
        None => {
            let source = match source {
                Source::Filtered(filters, _) => Source::Filtered(filters.clone(), None),
                feed @ Source::Feed(_) => feed.clone(),
            };
            lists::fetch_order(app, &source, page).await?
        }
    };
    let versions: Vec<Version> = order.iter().map(|post| posts::version(app, *post)).collect();
    let unmoved = |(post, version): (&PostId, &Version)| last.as_ref()?.1.post(*post, *version);
    let mut posts: Vec<PostView> = order.iter().zip(&versions).filter_map(unmoved).collect();
    let is_known = |post: &PostId| posts.iter().any(|view| view.summary.id == *post);
    let moved: Vec<PostId> = order.iter().copied().filter(|post| !is_known(post)).collect();
    posts.extend(lists::fetch_posts(app, &moved, viewer.cloned()).await?);
    posts.sort_by_cached_key(|view| order.iter().position(|post| *post == view.summary.id));
    let people = people_of(app, &posts);
    let cards = Cards::fetch(app, authors_of(&posts)).await?;
    // A post that went away since the list was asked for is left out, this time.
    let is_whole = posts.len() == order.len();
    let (viewer, rendered) = (viewer.cloned(), OnceLock::new());
    let kept = Arc::new(Kept { posts, total, cards, versions, people, viewer, rendered });
    if is_whole {
        pages.keep(key, version, kept.clone(), kept.bytes());
    }
    Ok(kept)
}

async fn show_anew(app: &App, source: Source, page: Page) -> Answered<Response> {
    let (posts, total) = lists::fetch(app, &source, page).await?;
    let cards = Cards::fetch(app, authors_of(&posts)).await?;
    let viewer = source.viewer().map(|viewer| &**viewer);
    let is_favorited = |view: &PostView| view.favorited;
    Ok(render::json(render::articles(&posts, is_favorited, total, &cards, viewer)))
}

fn authors_of(posts: &[PostView]) -> Vec<UserId> {
    posts.iter().map(|view| view.summary.author).collect()
}

fn people_of(app: &App, posts: &[PostView]) -> Version {
    posts.iter().map(|view| people::version(app, view.summary.author)).sum()
}
