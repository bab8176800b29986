//! Lists of posts: the keys of every shard, merged, and then the posts.

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::actors::answers::Version;
use crate::actors::post::Progress;
use crate::actors::post::message::{
    Answer, Filter, Place, PostView, Query, SortKey, is_listed, sees_as_stranger,
};
use crate::actors::router::Call;
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::error::Answered;
use crate::http::extract::{Page, wrong_answer};
use crate::ids::PostId;

/// What a list is made from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Posts for which all filters hold.
    Filtered(Vec<Filter>, Option<Arc<Viewer>>),
    /// Posts of followed authors.
    Feed(Arc<Viewer>),
}

impl Source {
    /// For whom; none is a stranger.
    pub fn viewer(&self) -> Option<&Arc<Viewer>> {
        match self {
            Self::Filtered(_, viewer) => viewer.as_ref(),
            Self::Feed(viewer) => Some(viewer),
        }
    }

    fn keys(&self, window: Range<usize>) -> Query {
        let progress = Progress::default();
        match self.clone() {
            Self::Filtered(filters, viewer) => {
                Query::ListKeys { filters, viewer, window, progress }
            }
            Self::Feed(viewer) => Query::FeedKeys { viewer, window, progress },
        }
    }
}

/// A page of posts, newest first, and how many there are in all.
///
/// # Errors
/// When a shard has no answer.
pub async fn fetch(app: &App, source: &Source, page: Page) -> Answered<(Vec<PostView>, u64)> {
    let (order, total) = fetch_order(app, source, page).await?;
    let posts = fetch_posts(app, &order, source.viewer().cloned()).await?;
    Ok((posts, total))
}

/// Which posts make a page, newest first, and how many there are in all.
async fn fetch_order(app: &App, source: &Source, page: Page) -> Answered<(Vec<PostId>, u64)> {
    let shards = (0..app.posts.shards()).map(|shard| fetch_keys(app, source, page, shard));
    let shards = try_join_all(shards).await?;
    Ok(page_of(&shards.iter().collect::<Vec<_>>(), page))
}

/// What a shard has of a list, down to a page of it.
#[derive(Debug)]
pub struct Keys {
    /// Newest first: those of the page, if there is only one shard, or else all that may come before its end.
    pub keys: Vec<SortKey>,
    /// How many there are in all.
    pub total: u64,
}

/// The keys that a shard has for a page.
///
/// # Errors
/// When it has no answer.
pub async fn fetch_keys(app: &App, source: &Source, page: Page, shard: u16) -> Answered<Keys> {
    // Which keys of several shards lie before the page is known only together.
    let start = if app.posts.shards() == 1 { page.offset } else { 0 };
    let query = source.keys(start..page.offset + page.limit);
    match app.posts.query_shard(Call::new(), shard, query).await? {
        Answer::Keys { keys, total } => Ok(Keys { keys, total }),
        _ => Err(wrong_answer()),
    }
}

/// The posts of a page, newest first, of the keys of every shard, and how many there are in all.
pub fn page_of(shards: &[&Keys], page: Page) -> (Vec<PostId>, u64) {
    let posts = match shards {
        [only] => only.keys.iter().map(|key| key.post).collect(),
        several => winners(several, page),
    };
    (posts, shards.iter().map(|keys| keys.total).sum())
}

/// What lies beyond a place of a list, newest first whichever way it was read.
#[derive(Debug)]
pub struct Stretch {
    /// The posts; what went after it was found is left out.
    pub posts: Vec<PostView>,
    /// What was found.
    pub keys: Vec<SortKey>,
    /// Whether there is more behind it.
    pub more: bool,
}

/// At most `limit` posts beyond a place.
///
/// # Errors
/// When a shard has no answer.
pub async fn fetch_from(
    app: &App,
    filters: Vec<Filter>,
    viewer: Option<Arc<Viewer>>,
    place: Option<Place>,
    limit: usize,
) -> Answered<Stretch> {
    let shards = try_join_all((0..app.posts.shards()).map(|shard| {
        let (filters, viewer, progress) = (filters.clone(), viewer.clone(), Progress::default());
        // One more than asked tells whether there is more.
        let query = Query::ListKeysFrom { filters, viewer, place, limit: limit + 1, progress };
        async move {
            match app.posts.query_shard(Call::new(), shard, query).await? {
                Answer::KeysFrom(keys) => Ok(keys),
                _ => Err(wrong_answer()),
            }
        }
    }));
    let mut keys: Vec<SortKey> = shards.await?.into_iter().flatten().collect();
    match place {
        Some(Place::Before(_)) => keys.sort_unstable(),
        Some(Place::After(_)) | None => keys.sort_unstable_by(|left, right| right.cmp(left)),
    }
    let more = keys.len() > limit;
    keys.truncate(limit);
    keys.sort_unstable_by(|left, right| right.cmp(left));
    let order: Vec<PostId> = keys.iter().map(|key| key.post).collect();
    let posts = fetch_posts(app, &order, viewer).await?;
    Ok(Stretch { posts, keys, more })
}

/// The posts of the page, newest first. Few shards and many keys: passing over the offset by
/// comparing the heads costs less than sorting.
fn winners(shards: &[&Keys], page: Page) -> Vec<PostId> {
    let mut heads: Vec<std::slice::Iter<'_, SortKey>> =
        shards.iter().map(|shard| shard.keys.iter()).collect();
    let mut winners = Vec::with_capacity(page.limit);
    for place in 0..page.offset + page.limit {
        let newest = heads.iter_mut().max_by_key(|head| head.as_slice().first().copied());
        let Some(key) = newest.and_then(Iterator::next) else { break };
        if place >= page.offset {
            winners.push(key.post);
        }
    }
    winners
}

/// The posts in this order; what is gone or hidden by now is left out.
///
/// # Errors
/// When a shard has no answer.
pub async fn fetch_posts(
    app: &App,
    order: &[PostId],
    viewer: Option<Arc<Viewer>>,
) -> Answered<Vec<PostView>> {
    ask_for_posts(app, order, viewer, true).await
}

async fn ask_for_posts(
    app: &App,
    order: &[PostId],
    viewer: Option<Arc<Viewer>>,
    favorited: bool,
) -> Answered<Vec<PostView>> {
    let mut shards: Vec<Vec<PostId>> = vec![Vec::new(); usize::from(app.posts.shards())];
    for post in order {
        shards[usize::from(app.posts.shard_of(post.bucket()))].push(*post);
    }
    let asked = shards.into_iter().enumerate().filter(|(_, posts)| !posts.is_empty());
    let fetched = try_join_all(asked.map(|(shard, posts)| {
        let query = Query::GetPosts { posts, viewer: viewer.clone(), favorited };
        async move {
            match app.posts.query_shard(Call::new(), shard as u16, query).await? {
                Answer::Posts(posts) => Ok(posts),
                _ => Err(wrong_answer()),
            }
        }
    }));
    let mut posts: Vec<PostView> = fetched.await?.into_iter().flatten().collect();
    let place = |view: &PostView| order.iter().position(|post| *post == view.summary.id);
    posts.sort_by_cached_key(place);
    Ok(posts)
}

/// The same, where a post that strangers see is used again for as long as it has these versions. Says of none that
/// the viewer favors it.
///
/// # Errors
/// When a shard has no answer.
pub async fn find_posts(
    app: &App,
    order: &[PostId],
    versions: &[Version],
    viewer: Option<&Arc<Viewer>>,
) -> Answered<Vec<PostView>> {
    let views = &app.shared().views;
    let sees =
        |view: &PostView| viewer.is_none_or(|viewer| sees_as_stranger(viewer, view.summary.author));
    let kept = order.iter().zip(versions).map(|(post, version)| views.of(post, *version));
    let mut found: Vec<Option<PostView>> = kept.map(|kept| kept.filter(sees)).collect();
    let missing = order.iter().zip(&found).filter(|(_, found)| found.is_none());
    let missing: Vec<PostId> = missing.map(|(post, _)| *post).collect();
    let touched = |posts: &[PostId], shard| {
        posts.iter().any(|post| app.posts.shard_of(post.bucket()) == shard)
    };
    let shards = 0..app.posts.shards();
    let spared = shards.filter(|shard| touched(order, *shard) && !touched(&missing, *shard));
    spared.for_each(|shard| app.posts.spared(shard));
    if !missing.is_empty() {
        for view in ask_for_posts(app, &missing, viewer.cloned(), false).await? {
            let id = view.summary.id;
            let Some(place) = order.iter().position(|post| *post == id) else { continue };
            if is_listed(view.summary.visibility) {
                views.keep(id, versions[place], view.clone(), view.summary.bytes());
            }
            found[place] = Some(view);
        }
    }
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Stamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merging_equals_sorting(
            times in prop::collection::vec(0_u64..50, 0..60),
            offset in 0_usize..70,
            limit in 1_usize..30,
        ) {
            let mut all: Vec<SortKey> = Vec::new();
            let nothing = || Keys { keys: Vec::new(), total: 0 };
            let mut shards = [nothing(), nothing(), nothing(), nothing()];
            for (n, time) in times.into_iter().enumerate() {
                let key = SortKey { at: Stamp(time), post: PostId(n as u64) };
                all.push(key);
                shards[n % 4].keys.push(key);
                shards[n % 4].total += 1;
            }
            for keys in shards.iter_mut().map(|shard| &mut shard.keys).chain([&mut all]) {
                keys.sort_unstable_by(|left, right| right.cmp(left));
            }
            let expected = all.iter().skip(offset).take(limit).map(|key| key.post);
            let page = Page { offset, limit };
            let (found, total) = page_of(&shards.iter().collect::<Vec<_>>(), page);
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
            prop_assert_eq!(total, all.len() as u64);
        }
    }
}
