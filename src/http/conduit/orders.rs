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

/// Most keys that are kept for a page: among several shards, one far down a list needs every key before it.
/// What is more is kept merged, and asked for as a whole again.
const KEPT_KEYS_MAX: usize = if cfg!(test) { 12 } else { 500 };

/// Which posts make a page. Smaller than the page, so that it is still there for readers who come seldom.
pub struct Order {
    made: Made,
    /// The reader of a feed.
    viewer: Option<Arc<Viewer>>,
}

enum Made {
    Of(Vec<Part>),
    Whole(Version, Vec<PostId>, u64),
}

/// The keys of a shard.
#[derive(Clone)]
struct Part {
    version: Version,
    keys: Arc<Keys>,
}

impl Order {
    fn bytes(&self) -> usize {
        let made = match &self.made {
            Made::Of(parts) => {
                parts.iter().map(|part| 120 + size_of_val(&part.keys.keys[..])).sum()
            }
            Made::Whole(_, posts, _) => size_of_val(&posts[..]),
        };
        200 + made + self.viewer.as_ref().map_or(0, |viewer| viewer.bytes())
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
    let kept_parts = match kept.as_ref().map(|kept| &kept.made) {
        Some(Made::Whole(version, posts, total))
            if *version == app.posts.version_everywhere(slots) =>
        {
            return Ok((posts.clone(), *total));
        }
        Some(Made::Of(parts)) => &parts[..],
        Some(Made::Whole(..)) | None => &[],
    };
    let parts = (0..app.posts.shards()).map(|shard| {
        let kept = kept_parts.get(usize::from(shard));
        find_part(app, shard, kept, key.page, slots, source)
    });
    let parts = try_join_all(parts).await?;
    let keys: Vec<&Keys> = parts.iter().map(|part| &*part.keys).collect();
    let (posts, total) = lists::page_of(&keys, key.page);
    let is_kept = kept_parts.len() == parts.len()
        && kept_parts.iter().zip(&parts).all(|(kept, part)| Arc::ptr_eq(&kept.keys, &part.keys));
    if !is_kept {
        let version = parts.iter().map(|part| part.version).sum();
        let made = match keys.iter().map(|shard| shard.keys.len()).sum::<usize>() {
            ..=KEPT_KEYS_MAX => Made::Of(parts),
            _ => Made::Whole(version, posts.clone(), total),
        };
        let order = Order { made, viewer: source.viewer().cloned() };
        let bytes = order.bytes();
        orders.keep(key.clone(), version, Arc::new(order), bytes);
    }
    Ok((posts, total))
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
