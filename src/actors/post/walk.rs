//! Lists of several filters: no list is kept for every combination, so the shortest of the lists is
//! walked to its end, and each row looked up in the others. The total is counted on the way.

use std::ops::Range;

use crate::actors::post::lists::{Entry, ListId, Scope, Shelf};
use crate::actors::post::message::SortKey;
use crate::actors::post::progress::Progress;
use crate::actors::post::reads::{Reads, entry_of};
use crate::actors::post::select::{Selection, is_hidden};
use crate::actors::post::tables;
use crate::actors::user::message::Viewer;
use crate::store::error::StoreError;

/// How often a walk starts anew because a list changed between two steps. Then it goes on to its
/// end without a pause: busy lists must not keep it from ever ending.
const RESTARTS_MAX: u32 = 2;

/// A walk between two steps.
#[derive(Debug, Default, Clone)]
pub(super) struct Walk {
    /// Versions of the shelves when it began: the walk is good while none of them has moved.
    versions: Vec<u64>,
    restarts: u32,
    /// Lists still to be walked; the last is being walked.
    lists: Vec<ListId>,
    /// Key of the last row that was looked at.
    after: Option<Vec<u8>>,
    /// Found in the list being walked.
    found: usize,
    keys: Vec<SortKey>,
    total: u64,
}

impl Reads<'_> {
    /// The keys at `window` of what stands on every one of `shelves`.
    pub(super) fn select_common(
        &mut self,
        shelves: &[Shelf],
        viewer: Option<&Viewer>,
        window: Range<usize>,
        progress: &mut Progress,
    ) -> Result<Option<Selection>, StoreError> {
        let versions: Vec<u64> =
            shelves.iter().map(|shelf| self.caches.shelf_version(shelf)).collect();
        let mut walk = match progress.walk.take() {
            Some(walk) if walk.versions == versions => walk,
            earlier => {
                let restarts = earlier.map_or(0, |earlier| earlier.restarts + 1);
                let lists = self.shortest(shelves, viewer)?;
                Box::new(Walk { versions, restarts, lists, ..Walk::default() })
            }
        };
        if walk.restarts > RESTARTS_MAX {
            self.left = usize::MAX;
        }
        while let Some(list) = walk.lists.last().cloned() {
            if !self.walk_on(&mut walk, &list, shelves, viewer, window.end)? {
                progress.walk = Some(walk);
                return Ok(None);
            }
            walk.lists.pop();
            walk.after = None;
            walk.found = 0;
        }
        let Walk { mut keys, total, .. } = *walk;
        keys.sort_unstable_by(|left, right| right.cmp(left));
        keys.truncate(window.end);
        keys.drain(..window.start.min(keys.len()));
        Ok(Some(Selection { keys, total }))
    }

    /// The lists of the shelf with the fewest posts: the public one, and the viewer's own.
    pub(super) fn shortest(
        &mut self,
        shelves: &[Shelf],
        viewer: Option<&Viewer>,
    ) -> Result<Vec<ListId>, StoreError> {
        let mut shortest: Option<(u64, Vec<ListId>)> = None;
        for shelf in shelves {
            let mut lists = vec![ListId::new(shelf.clone(), Scope::Public)];
            lists.extend(self.own_list(shelf, viewer)?);
            let mut total = 0;
            for list in &lists {
                total += self.total(list)?;
            }
            if shortest.as_ref().is_none_or(|(least, _)| total < *least) {
                shortest = Some((total, lists));
            }
        }
        Ok(shortest.map(|(_, lists)| lists).unwrap_or_default())
    }

    /// Walks one list as far as this step may; `true` at its end.
    fn walk_on(
        &mut self,
        walk: &mut Walk,
        list: &ListId,
        shelves: &[Shelf],
        viewer: Option<&Viewer>,
        keys_max: usize,
    ) -> Result<bool, StoreError> {
        let prefix = list.prefix();
        let start = match &walk.after {
            Some(key) => [key, &[0][..]].concat(),
            None => prefix.clone(),
        };
        for row in self.tables.prefix(tables::LISTS, &prefix, &start)? {
            if self.left == 0 {
                return Ok(false);
            }
            self.left = self.left.saturating_sub(shelves.len());
            let (key, value) = row?;
            let entry = entry_of(&key, &value)?;
            walk.after = Some(key.to_vec());
            if is_hidden(viewer, entry.author) || !self.stands_on_all(shelves, list, entry)? {
                continue;
            }
            walk.total += 1;
            if walk.found < keys_max {
                walk.found += 1;
                walk.keys.push(entry.key);
            }
        }
        Ok(true)
    }

    /// Whether an entry of `list` stands, in the same scope, on all shelves.
    pub(super) fn stands_on_all(
        &self,
        shelves: &[Shelf],
        list: &ListId,
        entry: Entry,
    ) -> Result<bool, StoreError> {
        for shelf in shelves.iter().filter(|shelf| **shelf != list.shelf) {
            let stands = match shelf {
                Shelf::Author(author) => entry.author == *author,
                Shelf::All
                | Shelf::Tag(_)
                | Shelf::FavoritedBy(_)
                | Shelf::ForFollowers(_)
                | Shelf::Feed(_) => {
                    let other = ListId::new(shelf.clone(), list.scope);
                    self.tables.get(tables::LISTS, &other.row_key(entry.key))?.is_some()
                }
            };
            if !stands {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
