//! Which posts make a page: the keys of its list in each shard, kept with the version of each, so that only the
//! shards are asked in which the list has moved.

use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::actors::answers::{Slot, Version};
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::conduit::pages::{PageKey, is_same};
use crate::http::error::Answered;
use crate::http::extract::Page;
use crate::http::lists::{self, Keys, Source};
use crate::ids::PostId;

/// Largest order that is kept, in bytes: of several shards, a page far down a list needs every key before it.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// The keys of each shard. Far smaller than the page, so that they are still there for readers who come seldom.
pub struct Order {
    parts: Vec<Part>,
    /// The reader of a feed.
    viewer: Option<Arc<Viewer>>,
}

#[derive(Clone)]
struct Part {
    version: Version,
    keys: Arc<Keys>,
}

impl Order {
    fn bytes(&self) -> usize {
        let parts = self.parts.iter().map(|part| 120 + size_of_val(&part.keys.keys[..]));
        200 + parts.sum::<usize>() + self.viewer.as_ref().map_or(0, |viewer| viewer.bytes())
    }
}

/// The posts of a page, newest first, and how many its list has in all.
///
/// # Errors
/// When a shard has no answer.
pub async fn find(
    app: &App,
    key: &PageKey,
    slots: &[Slot],
    source: &Source,
) -> Answered<(Vec<PostId>, u64)> {
    let orders = &app.shared().orders;
    let kept = orders.last(key).filter(|kept| is_same(kept.viewer.as_ref(), source.viewer()));
    let kept = kept.as_deref();
    let parts = (0..app.posts.shards()).map(|shard| {
        let kept = kept.map(|kept| &kept.parts[usize::from(shard)]);
        find_part(app, shard, kept, key.page, slots, source)
    });
    let order = Order { parts: try_join_all(parts).await?, viewer: source.viewer().cloned() };
    let keys: Vec<&Keys> = order.parts.iter().map(|part| &*part.keys).collect();
    let page = lists::page_of(&keys, key.page);
    let is_kept = kept.is_some_and(|kept| {
        let parts = kept.parts.iter().zip(&order.parts);
        parts.into_iter().all(|(kept, part)| Arc::ptr_eq(&kept.keys, &part.keys))
    });
    let bytes = order.bytes();
    if !is_kept && bytes <= KEPT_BYTES_MAX {
        let version = order.parts.iter().map(|part| part.version).sum();
        orders.keep(key.clone(), version, Arc::new(order), bytes);
    }
    Ok(page)
}

async fn find_part(
    app: &App,
    shard: u16,
    kept: Option<&Part>,
    page: Page,
    slots: &[Slot],
    source: &Source,
) -> Answered<Part> {
    let version = slots.iter().map(|slot| app.posts.version(shard, *slot)).sum();
    match kept {
        Some(part) if part.version == version => Ok(part.clone()),
        _ => {
            let keys = Arc::new(lists::fetch_keys(app, source, page, shard).await?);
            Ok(Part { version, keys })
        }
    }
}
