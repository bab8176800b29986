//! Pages of articles as they are sent, kept with the versions of what they show: of the list, of each post, and
//! of their authors. While none has moved, they are sent again. A list is kept as strangers see it, a feed as its
//! reader does.

use std::sync::Arc;

use axum::body::Bytes;
use axum::response::Response;

use crate::actors::answers::{Slot, Version};
use crate::actors::post::message::{Filter, Personal, PostView, lists_as_stranger};
use crate::actors::post::slots;
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::conduit::template::Template;
use crate::http::conduit::{orders, render};
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
    pub(super) page: Page,
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

/// A page of a list as strangers are sent it, or of a feed as its reader is: whether he favors one of its posts
/// moves with the post, where it is counted.
pub struct KeptPage {
    text: Text,
    posts: Box<[Part]>,
    /// Of all authors.
    people: Version,
    /// The reader of a feed.
    viewer: Option<Arc<Viewer>>,
}

enum Text {
    List(Template),
    Feed(Bytes),
}

/// One post of a page.
struct Part {
    post: PostId,
    author: UserId,
    version: Version,
}

impl KeptPage {
    fn is_exact(&self, app: &App) -> bool {
        self.posts.iter().all(|part| posts::version(app, part.post) == part.version)
            && people_of(app, self.authors()) == self.people
    }

    fn authors(&self) -> impl Iterator<Item = UserId> {
        self.posts.iter().map(|part| part.author)
    }

    fn bytes(&self) -> usize {
        let text = match &self.text {
            Text::List(template) => template.bytes(),
            Text::Feed(text) => text.len(),
        };
        let viewer = self.viewer.as_ref().map_or(0, |viewer| viewer.bytes());
        300 + text + size_of_val(&self.posts[..]) + viewer
    }
}

/// `articles`: a page for its reader.
///
/// # Errors
/// When a shard has no answer.
pub async fn page(app: &App, source: Source, page: Page) -> Answered<Response> {
    let found = match kept_as(app, &source) {
        Some((list, slots)) => find_for(app, PageKey { list, page }, &slots, &source).await?,
        None => None,
    };
    let text = match found {
        Some(text) => text,
        None => fetch(app, &source, page).await?,
    };
    Ok(render::json(text))
}

/// The page, made for this reader alone.
async fn fetch(app: &App, source: &Source, page: Page) -> Answered<Bytes> {
    let (posts, total) = lists::fetch(app, source, page).await?;
    let cards = Cards::fetch(app, authors_of(&posts)).await?;
    let favors = |post| posts.iter().any(|view| view.summary.id == post && view.favorited);
    let follows = |author| source.viewer().is_some_and(|viewer| viewer.follows(author));
    Ok(render::articles(&posts, total, &cards).for_reader(favors, follows))
}

/// The page from what is kept, and what its reader has of his own, of one moment; none if the page shows him
/// other posts than strangers, or nobody says which of them he favors, or that has just changed.
async fn find_for(
    app: &App,
    key: PageKey,
    slots: &[Slot],
    source: &Source,
) -> Answered<Option<Bytes>> {
    let Source::Filtered(filters, Some(viewer)) = source else {
        let kept = find(app, key, slots, source).await?;
        return Ok(kept.map(|kept| match &kept.text {
            Text::List(template) => template.text(),
            Text::Feed(text) => text.clone(),
        }));
    };
    let own = Own::fetch(app, viewer).await?;
    if !own.is_told() || !own.shards.iter().all(|shard| lists_as_stranger(viewer, shard)) {
        return Ok(None);
    }
    let of_strangers = Source::Filtered(filters.clone(), None);
    let kept = find(app, key, slots, &of_strangers).await?.filter(|_| own.is_exact(app, viewer));
    Ok(kept.and_then(|kept| match &kept.text {
        Text::List(template) => Some(own.put_into(app, template, viewer)),
        Text::Feed(_) => None,
    }))
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

/// The page as it is kept; what of it has moved is asked for again. None if it is a feed of whose reader nobody
/// says what he favors, or that has just changed.
async fn find(
    app: &App,
    key: PageKey,
    slots: &[Slot],
    source: &Source,
) -> Answered<Option<Arc<KeptPage>>> {
    let pages = &app.shared().pages;
    let viewer = source.viewer();
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
            return Ok(Some(kept));
        }
        Err(missed) => missed,
    };
    let own = match viewer {
        Some(viewer) => Some((viewer, Own::fetch(app, viewer).await?)),
        None => None,
    };
    if own.as_ref().is_some_and(|(_, own)| !own.is_told()) {
        return Ok(None);
    }
    let (order, total) = orders::find(app, &key, slots, source).await?;
    let versions: Vec<Version> = order.iter().map(|post| posts::version(app, *post)).collect();
    let posts = lists::find_posts(app, &order, &versions, viewer).await?;
    let people = people_of(app, authors_of(&posts).into_iter());
    let cards = Cards::fetch(app, authors_of(&posts)).await?;
    let template = render::articles(&posts, total, &cards);
    let text = match own {
        None => Text::List(template),
        Some((viewer, own)) if own.is_exact(app, viewer) => {
            // A copy has no more room than it needs.
            Text::Feed(Bytes::copy_from_slice(&own.put_into(app, &template, viewer)))
        }
        Some(_) => return Ok(None),
    };
    // A post that went away since the list was asked for is left out, this time; then the versions are not
    // those of the parts, and nothing is kept.
    let is_whole = posts.len() == order.len();
    let parts = posts.iter().zip(versions).map(|(PostView { summary, .. }, version)| Part {
        post: summary.id,
        author: summary.author,
        version,
    });
    let kept = KeptPage { text, posts: parts.collect(), people, viewer: viewer.cloned() };
    let kept = Arc::new(kept);
    if is_whole {
        pages.keep(key, version, kept.clone(), kept.bytes());
    }
    Ok(Some(kept))
}

/// What one reader has of his own, in every shard.
struct Own {
    shards: Vec<Personal>,
    version: Version,
}

impl Own {
    async fn fetch(app: &App, viewer: &Viewer) -> Answered<Self> {
        let version = Self::version(app, viewer);
        Ok(Self { shards: posts::personals(app, viewer.id).await?, version })
    }

    fn version(app: &App, viewer: &Viewer) -> Version {
        app.posts.version_everywhere(&[slots::of_personal(viewer.id)])
    }

    /// Whether it still stands: what was found since then is of the same moment.
    fn is_exact(&self, app: &App, viewer: &Viewer) -> bool {
        Self::version(app, viewer) == self.version
    }

    /// Whether all that he favors is known.
    fn is_told(&self) -> bool {
        self.shards.iter().all(|shard| shard.favored.is_some())
    }

    fn put_into(&self, app: &App, template: &Template, viewer: &Viewer) -> Bytes {
        let shard_of = |post: PostId| usize::from(app.posts.shard_of(post.bucket()));
        let favors = |post| self.shards[shard_of(post)].favors(post);
        template.for_reader(favors, |author| viewer.follows(author))
    }
}

/// Whether it is the same reader of a feed, with the same edges, or none.
pub(super) fn is_same(left: Option<&Arc<Viewer>>, right: Option<&Arc<Viewer>>) -> bool {
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
