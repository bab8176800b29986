//! Tags in use. What the shards answered is kept for as long as it is exact, and so is the page.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::future::try_join_all;
use rustc_hash::FxHashMap;

use crate::actors::answers::Answers;
use crate::actors::post::message::{Answer, Query};
use crate::actors::post::slots;
use crate::actors::router::Call;
use crate::http::App;
use crate::http::conduit::render;
use crate::http::error::Answered;
use crate::http::extract::wrong_answer;
use crate::http::limits::TAGS_MAX;

type ShardTags = Arc<Vec<(String, u64)>>;

/// There are no more answers than shards, and one page.
const KEPT_BYTES: usize = usize::MAX;

/// What is kept.
pub struct KeptTags {
    shards: Answers<u16, ShardTags>,
    page: Answers<(), Bytes>,
}

impl Default for KeptTags {
    fn default() -> Self {
        Self { shards: Answers::new(KEPT_BYTES), page: Answers::new(KEPT_BYTES) }
    }
}

/// `GET /api/tags`
pub async fn list(State(app): State<App>) -> Answered<Response> {
    let kept = &app.shared().tags;
    let look = || {
        let version = app.posts.version_everywhere(&[slots::of_tags()]);
        kept.page.of(&(), version).ok_or(version)
    };
    let (version, _turn) = match kept.page.found_or_turn(&(), look).await {
        Ok(page) => {
            app.posts.spared_everywhere();
            return Ok(render::json(page));
        }
        Err(missed) => missed,
    };
    let tags = try_join_all((0..app.posts.shards()).map(|shard| fetch(&app, shard))).await?;
    let page = match tags.as_slice() {
        [only] => render::tags(only.iter().map(|(tag, _)| tag.as_str())),
        several => {
            let merged = merge(several);
            render::tags(merged.iter().map(|(tag, _)| *tag))
        }
    };
    kept.page.keep((), version, page.clone(), 0);
    Ok(render::json(page))
}

async fn fetch(app: &App, shard: u16) -> Answered<ShardTags> {
    let kept = &app.shared().tags.shards;
    let version = app.posts.version(shard, slots::of_tags());
    if let Some(tags) = kept.of(&shard, version) {
        app.posts.spared(shard);
        return Ok(tags);
    }
    let query = Query::ListTags { limit: TAGS_MAX };
    let Answer::Tags { tags, .. } = app.posts.query_shard(Call::new(), shard, query).await? else {
        return Err(wrong_answer());
    };
    kept.keep(shard, version, tags.clone(), 0);
    Ok(tags)
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
}
