//! Which posts a list shows to a viewer: keys and total, without reading a post.
//!
//! **Invariants**: Q1 a total is the number of keys that a list without end would show, whatever
//! part of it was asked for.

use std::ops::Range;

use crate::actors::post::cache::{CachedList, keys};
use crate::actors::post::lists::{ListId, Scope, Shelf};
use crate::actors::post::message::{Filter, SortKey, Visibility};
use crate::actors::post::progress::Progress;
use crate::actors::post::reads::Reads;
use crate::actors::post::tables;
use crate::actors::post::visibility::{Relation, Surface, may_see};
use crate::actors::user::message::Viewer;
use crate::ids::UserId;
use crate::store::error::StoreError;

/// Lists are read in multiples of this many keys: the next page is often asked for too.
pub(super) const READ_AHEAD: usize = 32;

/// A part of a list.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Newest first.
    pub(super) keys: Vec<SortKey>,
    /// Of the whole list.
    pub(super) total: u64,
}

/// Where to read on, because the keys at hand do not suffice.
struct Short {
    own: bool,
    depth: usize,
}

impl Reads<'_> {
    /// The keys at `window` of the list of all posts that match every filter. Nothing: this step
    /// has done enough, go on in the next.
    pub(super) fn select(
        &mut self,
        filters: &[Filter],
        viewer: Option<&Viewer>,
        window: Range<usize>,
        progress: &mut Progress,
    ) -> Result<Option<Selection>, StoreError> {
        if !self.resume(progress)? {
            return Ok(None);
        }
        let mut shelves: Vec<Shelf> = Vec::new();
        for shelf in filters.iter().map(Shelf::from) {
            if let Shelf::Author(author) = shelf
                && is_hidden(viewer, author)
            {
                return Ok(Some(Selection::default()));
            }
            if shelf != Shelf::All && !shelves.contains(&shelf) {
                shelves.push(shelf);
            }
        }
        match &shelves[..] {
            [] => self.select_one(&Shelf::All, viewer, window, progress),
            [shelf] => self.select_one(shelf, viewer, window, progress),
            _ => self.select_common(&shelves, viewer, window, progress),
        }
    }

    fn select_one(
        &mut self,
        shelf: &Shelf,
        viewer: Option<&Viewer>,
        window: Range<usize>,
        progress: &mut Progress,
    ) -> Result<Option<Selection>, StoreError> {
        let public = ListId::new(shelf.clone(), Scope::Public);
        let own = self.own_list(shelf, viewer)?;
        let Some(hidden) = self.hidden_total(shelf, viewer)? else { return Ok(None) };
        let hiding = viewer.filter(|_| hidden > 0);
        loop {
            let own_total = own.as_ref().map_or(Ok(0), |own| self.total(own))?;
            let total = (self.total(&public)? + own_total).checked_sub(hidden);
            let total = total.ok_or_else(|| tables::damaged("a part is larger than its list"))?;
            let short = match self.merge(&public, own.as_ref(), hiding, &window) {
                Ok(keys) => return Ok(Some(Selection { keys, total })),
                Err(short) => short,
            };
            let list = own.as_ref().filter(|_| short.own).unwrap_or(&public);
            let depth = short.depth.next_multiple_of(READ_AHEAD);
            if !self.fill(list, depth)? {
                progress.goal = Some((list.clone(), depth));
                return Ok(None);
            }
        }
    }

    /// The list of what only the viewer sees on this shelf, if there is any such post.
    pub(super) fn own_list(
        &mut self,
        shelf: &Shelf,
        viewer: Option<&Viewer>,
    ) -> Result<Option<ListId>, StoreError> {
        let Some(viewer) = viewer else { return Ok(None) };
        if let Shelf::Author(author) = shelf
            && *author != viewer.id
        {
            return Ok(None);
        }
        // Most readers have nothing of the kind anywhere, which spares a look at every shelf.
        let scope = Scope::Own(viewer.id);
        let all = ListId::new(Shelf::All, scope);
        Ok((self.total(&all)? > 0).then(|| ListId::new(shelf.clone(), scope)))
    }

    /// How many public posts on this shelf are by authors who block the viewer. Nothing: this step
    /// has done enough.
    fn hidden_total(
        &mut self,
        shelf: &Shelf,
        viewer: Option<&Viewer>,
    ) -> Result<Option<u64>, StoreError> {
        // Whose shelf is hidden as a whole was answered before.
        let blockers = match (shelf, viewer) {
            (Shelf::Author(_), _) | (_, None) => &[][..],
            (_, Some(viewer)) => &viewer.blocked_by,
        };
        let mut hidden = 0;
        for blocker in blockers.iter().filter(|blocker| is_hidden(viewer, **blocker)) {
            let share = ListId::new(shelf.clone(), Scope::PublicOf(*blocker));
            let Some(total) = self.total_if_affordable(&share)? else { return Ok(None) };
            hidden += total;
        }
        Ok(Some(hidden))
    }

    fn merge(
        &self,
        public: &ListId,
        own: Option<&ListId>,
        hiding: Option<&Viewer>,
        window: &Range<usize>,
    ) -> Result<Vec<SortKey>, Short> {
        let nothing = CachedList::default();
        let public = self.caches.lists.get(public).unwrap_or(&nothing);
        let own = own.and_then(|own| self.caches.lists.get(own)).unwrap_or(&nothing);
        if own.total == 0 && hiding.is_none() {
            return cut(public, window);
        }
        merge_own(public, own, hiding, window)
    }
}

/// The window of a list that needs no look at its entries.
fn cut(list: &CachedList, window: &Range<usize>) -> Result<Vec<SortKey>, Short> {
    let have = list.entries.len();
    if have < window.end && !list.is_complete() {
        return Err(Short { own: false, depth: window.end });
    }
    let end = window.end.min(have);
    Ok(keys(list.entries.range(window.start.min(end)..end)))
}

/// The window of the public list and the viewer's own, without authors who block the viewer.
fn merge_own(
    public: &CachedList,
    own: &CachedList,
    hiding: Option<&Viewer>,
    window: &Range<usize>,
) -> Result<Vec<SortKey>, Short> {
    let (mut public_at, mut own_at) = (0, 0);
    let mut found = Vec::with_capacity(window.len());
    let mut passed = 0;
    while passed < window.end {
        let missing = window.end - passed;
        let next_public = public.entries.get(public_at);
        let next_own = own.entries.get(own_at);
        if next_public.is_none() && !public.is_complete() {
            return Err(Short { own: false, depth: public_at + missing });
        }
        if next_own.is_none() && !own.is_complete() {
            return Err(Short { own: true, depth: own_at + missing });
        }
        let entry = match (next_public, next_own) {
            (Some(public), Some(own)) if own.key > public.key => own,
            (Some(public), _) => public,
            (None, Some(own)) => own,
            (None, None) => break,
        };
        if next_own.is_some_and(|own| own.key == entry.key) {
            own_at += 1;
        } else {
            public_at += 1;
            if is_hidden(hiding, entry.author) {
                continue;
            }
        }
        if passed >= window.start {
            found.push(entry.key);
        }
        passed += 1;
    }
    Ok(found)
}

/// Whether nothing of this author is shown to the viewer, not even what everybody else sees.
pub(super) fn is_hidden(viewer: Option<&Viewer>, author: UserId) -> bool {
    let relation = Relation::of_viewer(viewer, author);
    !may_see(Visibility::Public, &[0; 16], relation, Surface::List)
}
