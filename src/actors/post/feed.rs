//! Feeds: the lists of all followed authors, merged. A merged feed is kept and brought up to date
//! with what has changed since, so that reading it again costs the same for ten followed authors
//! and for a thousand.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use crate::actors::post::cache::{CachedFeed, CachedList, keys};
use crate::actors::post::lists::{Entry, ListId, Scope, Shelf};
use crate::actors::post::message::Visibility;
use crate::actors::post::progress::Progress;
use crate::actors::post::reads::Reads;
use crate::actors::post::select::{READ_AHEAD, Selection};
use crate::actors::post::visibility::{Relation, Surface, may_see};
use crate::actors::user::message::Viewer;
use crate::ids::UserId;
use crate::store::error::StoreError;

/// Keys that are at least read of each followed author.
const AUTHOR_KEYS_MIN: usize = 8;

impl Reads<'_> {
    /// The keys at `window` of the viewer's feed. Nothing: this step has done enough.
    pub(super) fn select_feed(
        &mut self,
        viewer: &Arc<Viewer>,
        window: Range<usize>,
        progress: &mut Progress,
    ) -> Result<Option<Selection>, StoreError> {
        if !self.resume(progress)? {
            return Ok(None);
        }
        if let Some(selection) = self.select_merged(viewer, &window) {
            return Ok(Some(selection));
        }
        let follows = viewer.follows.iter().copied();
        let authors: Vec<UserId> = follows.filter(|author| feeds(viewer, *author)).collect();
        let depth = window.end.next_multiple_of(READ_AHEAD);
        let share = (2 * depth / authors.len().max(1)).clamp(AUTHOR_KEYS_MIN, depth.max(8));
        let mut total = 0;
        let mut lists = Vec::with_capacity(authors.len());
        for author in authors {
            let list = ListId::new(Shelf::Feed(author), Scope::Public);
            // There are many lists, each in another place in memory: most are looked at once.
            let known = self.caches.lists.get(&list).filter(|cached| cached.reaches(share));
            let posts = match known.map(|cached| cached.total) {
                Some(posts) => posts,
                None => {
                    let posts = self.total_if_affordable(&list)?;
                    if posts.is_none() || !self.fill(&list, share)? {
                        return Ok(None);
                    }
                    posts.unwrap_or_default()
                }
            };
            if posts > 0 {
                total += posts;
                lists.push(list);
            }
        }
        let entries = loop {
            let (short, depth) = match self.merge_feeds(&lists, depth) {
                Ok(entries) => break entries,
                Err(short) => short,
            };
            if !self.fill(short, depth)? {
                progress.goal = Some((short.clone(), depth));
                return Ok(None);
            }
        };
        let end = window.end.min(entries.len());
        let selection = Selection { keys: keys(&entries[window.start.min(end)..end]), total };
        let merged = CachedFeed {
            viewer: viewer.clone(),
            next_change: self.caches.feed_changes.next,
            list: CachedList { total, entries: entries.into() },
        };
        self.caches.feeds.insert(viewer.id, merged);
        Ok(Some(selection))
    }

    /// The answer from the feed as it was merged before, if that is recent and deep enough.
    fn select_merged(&mut self, viewer: &Arc<Viewer>, window: &Range<usize>) -> Option<Selection> {
        self.caches.feeds.get(&viewer.id)?;
        let (changes, keys_max) = (&self.caches.feed_changes, self.caches.limits.list_keys);
        let select = |feed: &mut CachedFeed| {
            if !same_edges(&feed.viewer, viewer) {
                return None;
            }
            // The same edges in another place are compared only once.
            feed.viewer = viewer.clone();
            for (entry, added) in changes.since(feed.next_change)? {
                if feeds(viewer, entry.author) {
                    feed.list.note(*entry, *added, keys_max);
                }
            }
            feed.next_change = changes.next;
            let have = feed.list.entries.len();
            if have < window.end && !feed.list.is_complete() {
                return None;
            }
            let end = window.end.min(have);
            let keys = keys(feed.list.entries.range(window.start.min(end)..end));
            Some(Selection { keys, total: feed.list.total })
        };
        self.caches.feeds.update(&viewer.id, select).flatten()
    }

    /// The first `depth` entries of all lists, or the list that must be read further, and how far.
    fn merge_feeds<'l>(
        &self,
        lists: &'l [ListId],
        depth: usize,
    ) -> Result<Vec<Entry>, (&'l ListId, usize)> {
        let nothing = CachedList::default();
        let cached: Vec<&CachedList> =
            lists.iter().map(|list| self.caches.lists.get(list).unwrap_or(&nothing)).collect();
        let heads = cached.iter().enumerate();
        let mut heads: BinaryHeap<_> = heads
            .filter_map(|(number, list)| Some((list.entries.front()?.key, number, 0)))
            .collect();
        let mut merged = Vec::with_capacity(depth);
        while merged.len() < depth {
            let Some((_, number, place)) = heads.pop() else { break };
            let list = cached[number];
            merged.push(list.entries[place]);
            match list.entries.get(place + 1) {
                Some(next) => heads.push((next.key, number, place + 1)),
                None if list.is_complete() => {}
                None => {
                    // Every key that is still missing might be this author's.
                    let missing = depth - merged.len();
                    if missing > 0 {
                        return Err((&lists[number], place + 1 + missing));
                    }
                }
            }
        }
        Ok(merged)
    }
}

/// Whether what this author publishes is in the viewer's feed.
fn feeds(viewer: &Viewer, author: UserId) -> bool {
    let relation = Relation::of_viewer(Some(viewer), author);
    may_see(Visibility::Public, &[0; 16], relation, Surface::Feed)
}

fn same_edges(left: &Arc<Viewer>, right: &Arc<Viewer>) -> bool {
    Arc::ptr_eq(left, right)
        || (left.follows == right.follows
            && left.mutes == right.mutes
            && left.blocked_by == right.blocked_by)
}
