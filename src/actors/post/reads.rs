//! Reads through the caches: what is not there is read from the tables and kept.

use std::sync::Arc;

use crate::actors::post::cache::{CachedList, CachedPost, Caches, Favored, ReadTo};
use crate::actors::post::lists::{Entry, ListId, Scope, Shelf, shelf_prefix, sort_key_of};
use crate::actors::post::message::{Body, Personal, Place, PostView, SortKey, Summary};
use crate::actors::post::progress::Progress;
use crate::actors::post::tables::{self, ListRow, SummaryRow};
use crate::actors::state_machine::{ReadTables, Rows, end_of_prefix};
use crate::actors::user::message::Viewer;
use crate::ids::{PostId, UserId};
use crate::store::codec;
use crate::store::error::StoreError;

/// What opening a list costs, in rows.
const OPEN_ROWS: usize = 4;
/// After so many steps a query goes on without a pause: caches so small that others' work undoes
/// its own must not keep it from ever ending.
const STEPS_MAX: u32 = 512;

/// One step of a query.
pub(super) struct Reads<'a> {
    pub(super) tables: ReadTables<'a>,
    pub(super) caches: &'a mut Caches,
    /// Rows that this step may still read.
    pub(super) left: usize,
}

impl<'a> Reads<'a> {
    /// A step that goes as far as limits allow.
    pub(super) fn new(tables: &ReadTables<'a>, caches: &'a mut Caches) -> Self {
        let left = caches.limits.step_rows;
        Self { tables: *tables, caches, left }
    }

    /// Counts the step in, and reads on where the last one stopped within a list. `false`: there
    /// is still more to read.
    pub(super) fn resume(&mut self, progress: &mut Progress) -> Result<bool, StoreError> {
        progress.steps += 1;
        if progress.steps > STEPS_MAX {
            self.left = usize::MAX;
        }
        if let Some((list, depth)) = &progress.goal {
            if !self.fill(list, *depth)? {
                return Ok(false);
            }
            progress.goal = None;
        }
        Ok(true)
    }

    /// A post's summary and number of favorites.
    pub(super) fn post(&mut self, post: PostId) -> Result<Option<(Arc<Summary>, u64)>, StoreError> {
        if let Some(cached) = self.caches.posts.get(&post) {
            return Ok(Some((cached.summary.clone(), cached.favorites)));
        }
        let key = tables::post_key(post);
        let row: Option<SummaryRow> = tables::read(&self.tables, tables::SUMMARIES, &key)?;
        let Some(row) = row else { return Ok(None) };
        let favorites = tables::read_count(&self.tables, tables::FAVORITE_COUNTS, &key)?;
        let summary = Arc::new(row.into_summary(post));
        let cached = CachedPost::new(summary.clone(), favorites);
        self.caches.posts.insert(post, cached);
        Ok(Some((summary, favorites)))
    }

    /// The body of a post that exists.
    pub(super) fn body(&mut self, post: PostId) -> Result<Body, StoreError> {
        if let Some(body) = self.caches.bodies.get(&post) {
            return Ok(body.clone());
        }
        let body = self.body_uncached(post)?;
        self.caches.bodies.insert(post, body.clone());
        Ok(body)
    }

    /// The same, of one that is seldom read.
    pub(super) fn body_uncached(&self, post: PostId) -> Result<Body, StoreError> {
        let row = self.tables.get(tables::BODIES, &tables::post_key(post))?;
        let row = row.ok_or_else(|| tables::damaged("a post has no body"))?;
        Ok(tables::decode_body(&row)?)
    }

    /// A post as the viewer sees it.
    pub(super) fn view(
        &self,
        (summary, favorites): (Arc<Summary>, u64),
        viewer: Option<&Viewer>,
    ) -> Result<PostView, StoreError> {
        let favorited = match viewer {
            Some(viewer) if favorites > 0 => self.favors(viewer.id, summary.id)?,
            _ => false,
        };
        Ok(PostView { summary, favorites, favorited })
    }

    fn favors(&self, user: UserId, post: PostId) -> Result<bool, StoreError> {
        if let Some(favored) = self.caches.favored.get(&user) {
            if favored.posts().binary_search(&post).is_ok() {
                return Ok(true);
            }
            if favored.read == ReadTo::End {
                return Ok(false);
            }
        }
        let key = tables::favorite_key(post, user);
        Ok(self.tables.get(tables::FAVORITES, &key)?.is_some())
    }

    /// Reads a part of what a user favors, unless all of it was read. Until then favorites are
    /// looked up one by one, so this never makes a query wait.
    pub(super) fn read_favored(&mut self, user: Option<UserId>) -> Result<(), StoreError> {
        let Some(user) = user else { return Ok(()) };
        match self.caches.favored.get(&user).map(|favored| &favored.read) {
            Some(ReadTo::End | ReadTo::TooMany) => return Ok(()),
            Some(ReadTo::Start | ReadTo::Key(_)) => {}
            None => self.caches.favored.insert(user, Favored::default()),
        }
        let (tables, limits) = (self.tables, self.caches.limits);
        let read = |favored: &mut Favored| {
            read_favored_on(favored, &tables, user, limits.step_rows)?;
            favored.check(limits.favored_posts);
            Ok(())
        };
        self.caches.favored.update(&user, read).unwrap_or(Ok(()))
    }

    /// What is a reader's own. Nothing: this step has done enough.
    pub(super) fn personal(
        &mut self,
        user: UserId,
        progress: &mut Progress,
    ) -> Result<Option<Personal>, StoreError> {
        progress.steps += 1;
        self.read_favored(Some(user))?;
        let favored = match self.caches.favored.get(&user) {
            Some(favored) if favored.read == ReadTo::End => Some(favored.posts().into()),
            Some(Favored { read: ReadTo::TooMany, .. }) => None,
            // It may be thrown out each time before it is read to the end.
            _ if progress.steps > STEPS_MAX => None,
            _ => return Ok(None),
        };
        let hidden = ListId::new(Shelf::All, Scope::Own(user));
        Ok(Some(Personal { favored, has_hidden: self.total(&hidden)? > 0 }))
    }

    /// How many posts stand in a list.
    pub(super) fn total(&mut self, list: &ListId) -> Result<u64, StoreError> {
        if let Some(cached) = self.caches.lists.get(list) {
            return Ok(cached.total);
        }
        self.left = self.left.saturating_sub(OPEN_ROWS);
        let total = list.count(&self.tables)?;
        self.caches.lists.insert(list.clone(), CachedList { total, ..CachedList::default() });
        Ok(total)
    }

    /// The same for work over many lists; nothing if this step has done enough.
    pub(super) fn total_if_affordable(&mut self, list: &ListId) -> Result<Option<u64>, StoreError> {
        if self.left == 0 && self.caches.lists.get(list).is_none() {
            return Ok(None);
        }
        self.total(list).map(Some)
    }

    /// Reads a list up to a depth, or as far as this step may. `true`: it got there, or there is
    /// no more.
    pub(super) fn fill(&mut self, list: &ListId, depth: usize) -> Result<bool, StoreError> {
        self.total(list)?;
        let (tables, left) = (self.tables, &mut self.left);
        let read = |cached: &mut CachedList| read_list_on(cached, &tables, list, depth, left);
        self.caches.lists.update(list, read).unwrap_or(Ok(false))
    }
}

fn read_favored_on(
    favored: &mut Favored,
    tables: &ReadTables<'_>,
    user: UserId,
    rows_max: usize,
) -> Result<(), StoreError> {
    let prefix = shelf_prefix(&Shelf::FavoritedBy(user));
    let start = match &favored.read {
        ReadTo::Key(key) => [key, &[0][..]].concat(),
        ReadTo::Start | ReadTo::End | ReadTo::TooMany => prefix.clone(),
    };
    let rows = tables.prefix(tables::LISTS, &prefix, &start)?.take(rows_max);
    let keys = rows.map(|row| row.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()?;
    let posts = keys.iter().map(|key| Ok(sort_key_of(key)?.post));
    favored.add(posts.collect::<Result<Vec<_>, StoreError>>()?.into_iter());
    favored.read = match keys.into_iter().nth(rows_max - 1) {
        Some(last) => ReadTo::Key(last),
        None => ReadTo::End,
    };
    Ok(())
}

fn read_list_on(
    cached: &mut CachedList,
    tables: &ReadTables<'_>,
    list: &ListId,
    depth: usize,
    left: &mut usize,
) -> Result<bool, StoreError> {
    let want = usize::try_from(cached.total).unwrap_or(usize::MAX).min(depth);
    let have = cached.entries.len();
    if have >= want {
        return Ok(true);
    }
    let rows = (want - have).min(*left);
    if rows == 0 {
        return Ok(false);
    }
    *left -= rows;
    let place = cached.entries.back().map(|last| Place::After(last.key));
    let parts = list.parts().into_iter().map(|part| Ahead::open(part, tables, place));
    let mut parts = parts.collect::<Result<Vec<_>, _>>()?;
    for _ in 0..rows {
        // The newest; a part that has ended has no key, which is less than any.
        let newest = parts.iter_mut().max_by_key(|part| part.key());
        let entry = newest.map(Ahead::next).transpose()?.flatten();
        let entry = entry.ok_or_else(|| tables::damaged("a list is shorter than its count"))?;
        cached.entries.push_back(entry);
    }
    Ok(cached.entries.len() >= want)
}

/// What of a list lies beyond a place.
pub(super) struct Ahead<'a> {
    pub(super) list: ListId,
    pub(super) head: Option<Entry>,
    rows: Rows<'a>,
}

impl<'a> Ahead<'a> {
    pub(super) fn open(
        list: ListId,
        tables: &ReadTables<'a>,
        place: Option<Place>,
    ) -> Result<Self, StoreError> {
        let prefix = list.prefix();
        let end = end_of_prefix(&prefix);
        let rows = match place {
            None => tables.range(tables::LISTS, &prefix, end.as_deref()),
            Some(Place::After(key)) => {
                let start = [&list.row_key(key)[..], &[0]].concat();
                tables.range(tables::LISTS, &start, end.as_deref())
            }
            Some(Place::Before(key)) => {
                tables.range_back(tables::LISTS, &prefix, Some(&list.row_key(key)))
            }
        };
        let mut ahead = Self { list, head: None, rows: rows? };
        ahead.next()?;
        Ok(ahead)
    }

    /// Place of the first entry; nothing at the end.
    pub(super) fn key(&self) -> Option<SortKey> {
        self.head.map(|entry| entry.key)
    }

    /// The first entry; the one behind it is the first now.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        let row = self.rows.next().transpose()?;
        let next = row.map(|(key, value)| entry_of(&key, &value)).transpose()?;
        Ok(std::mem::replace(&mut self.head, next))
    }
}

/// Decodes a row of a list.
pub(super) fn entry_of(key: &[u8], value: &[u8]) -> Result<Entry, StoreError> {
    let row: ListRow = codec::decode(value)?;
    Ok(Entry { key: sort_key_of(key)?, author: row.author })
}
