//! Tags in use. The rendered page is kept for as long as the shards give the very same answers.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use futures_util::future::try_join_all;
use rustc_hash::FxHashMap;

use crate::actors::post::message::{Answer, Query};
use crate::actors::router::Call;
use crate::http::App;
use crate::http::conduit::render;
use crate::http::error::Answered;
use crate::http::extract::wrong_answer;
use crate::http::limits::TAGS_MAX;

type ShardTags = Arc<Vec<(String, u64)>>;

/// The last rendered page and what it was made from. While the page holds those lists, no other
/// list can have their addresses: the same address is the same list.
#[derive(Default)]
pub struct TagPage(Mutex<Option<(Vec<ShardTags>, Bytes)>>);

impl TagPage {
    fn made_from(&self, tags: &[ShardTags]) -> Option<Bytes> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, page) = kept.as_ref()?;
        let same = from.len() == tags.len()
            && from.iter().zip(tags).all(|(left, right)| Arc::ptr_eq(left, right));
        same.then(|| page.clone())
    }

    fn keep(&self, tags: Vec<ShardTags>, page: Bytes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((tags, page));
    }
}

/// `GET /api/tags`
pub async fn list(State(app): State<App>) -> Answered {
    let tags = try_join_all((0..app.posts.shards()).map(|shard| fetch(&app, shard))).await?;
    if let Some(page) = app.shared().tag_page.made_from(&tags) {
        return Ok(render::json(page));
    }
    let page = match tags.as_slice() {
        [only] => render::tags(only.iter().map(|(tag, _)| tag.as_str())),
        several => {
            let merged = merge(several);
            render::tags(merged.iter().map(|(tag, _)| *tag))
        }
    };
    app.shared().tag_page.keep(tags, page.clone());
    Ok(render::json(page))
}

async fn fetch(app: &App, shard: u16) -> Answered<ShardTags> {
    let query = Query::ListTags { limit: TAGS_MAX };
    match app.posts.query_shard(Call::new(), shard, query).await? {
        Answer::Tags { tags, .. } => Ok(tags),
        _ => Err(wrong_answer()),
    }
}

/// Most used first, then by name; the same tag in another case is the same tag.
fn merge(shards: &[ShardTags]) -> Vec<(&str, u64)> {
    let mut merged: FxHashMap<String, (&str, u64)> = FxHashMap::default();
    for (tag, count) in shards.iter().flat_map(|tags| tags.iter()) {
        match merged.entry(tag.to_lowercase()) {
            Entry::Occupied(mut known) => known.get_mut().1 += count,
            Entry::Vacant(place) => {
                place.insert((tag, *count));
            }
        }
    }
    let mut tags: Vec<(&str, u64)> = merged.into_values().collect();
    tags.sort_unstable_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(right.0)));
    tags.truncate(TAGS_MAX);
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(tags: &[(&str, u64)]) -> ShardTags {
        Arc::new(tags.iter().map(|(tag, count)| ((*tag).to_owned(), *count)).collect())
    }

    #[test]
    fn shards_are_summed() {
        let shards = [shard(&[("Rust", 2), ("b", 2)]), shard(&[("rust", 1), ("a", 2)])];
        assert_eq!(merge(&shards), [("Rust", 3), ("a", 2), ("b", 2)]);
    }

    #[test]
    fn a_page_is_reused_only_for_the_very_same_lists() {
        let page = TagPage::default();
        let tags = vec![shard(&[("a", 1)])];
        assert!(page.made_from(&tags).is_none());
        page.keep(tags.clone(), Bytes::from_static(b"x"));
        assert!(page.made_from(&tags).is_some());
        assert!(page.made_from(&[shard(&[("a", 1)])]).is_none());
        assert!(page.made_from(&[]).is_none());
    }
}
