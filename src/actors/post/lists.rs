//! Lists: which there are, where a post stands in them, and the rows and counts that say so.
//!
//! A list is a shelf (what it is about) and a scope (for whom). One post stands on several shelves
//! in the same scope: public, or its author's own. What a viewer sees of a shelf is the public list
//! merged with the viewer's own one.
//!
//! A feed has no rows of its own: it is made of two lists, see [`ListId::parts`].
//!
//! **Invariants**: L1 the count of a list is the number of its rows; L2 the lists a post stands in
//! follow from its summary and favorites alone; both change in the same command.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::actors::post::change::Change;
use crate::actors::post::message::{Filter, SortKey};
use crate::actors::post::tables::{self, ListRow, SummaryRow, TagRow, TagsVersionRow};
use crate::actors::post::visibility;
use crate::actors::state_machine::ReadTables;
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec;
use crate::store::error::StoreError;

/// What a list is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Shelf {
    /// Every post.
    All,
    /// Posts with a tag, in lower case.
    Tag(Arc<str>),
    /// Posts of an author.
    Author(UserId),
    /// Posts that a user favors.
    FavoritedBy(UserId),
    /// Posts of an author that are for his followers alone.
    ForFollowers(UserId),
    /// Posts of an author for the feeds of followers.
    Feed(UserId),
}

impl Shelf {
    /// What it is called in keys: its kind, whose it is, its tag.
    fn in_keys(&self) -> (u8, Option<UserId>, &str) {
        match self {
            Self::All => (0, None, ""),
            Self::Tag(lower) => (1, None, lower),
            Self::Author(user) => (2, Some(*user), ""),
            Self::FavoritedBy(user) => (3, Some(*user), ""),
            Self::ForFollowers(user) => (4, Some(*user), ""),
            Self::Feed(user) => (5, Some(*user), ""),
        }
    }
}

impl From<&Filter> for Shelf {
    fn from(filter: &Filter) -> Self {
        match filter {
            Filter::All => Self::All,
            Filter::Tag(tag) => Self::Tag(lower(tag).into()),
            Filter::Author(author) => Self::Author(*author),
            Filter::FavoritedBy(user) => Self::FavoritedBy(*user),
        }
    }
}

/// How tags are compared: full Unicode lower case. What a newer Unicode adds are characters that no
/// tag held before, so rows and replays keep their meaning.
pub(super) fn lower(tag: &str) -> String {
    tag.to_lowercase()
}

/// For whom a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// For everybody.
    Public,
    /// What only this author sees.
    Own(UserId),
    /// The part of the public list that this author wrote. Only counted: a reader whom the author
    /// blocks does not see it.
    PublicOf(UserId),
}

impl Scope {
    /// What it is called in keys: its kind, and whose it is.
    fn in_keys(self) -> (u8, Option<UserId>) {
        match self {
            Self::Public => (0, None),
            Self::Own(author) => (1, Some(author)),
            Self::PublicOf(author) => (2, Some(author)),
        }
    }
}

/// A list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ListId {
    pub(super) shelf: Shelf,
    pub(super) scope: Scope,
}

impl ListId {
    /// The list of this shelf and scope. What an author has on the shelf of all posts is what he
    /// has on his own one, which is kept once.
    pub(super) fn new(shelf: Shelf, scope: Scope) -> Self {
        if shelf != Shelf::All {
            return Self { shelf, scope };
        }
        match scope {
            Scope::Public => Self { shelf, scope },
            Scope::Own(author) => Self { shelf: Shelf::Author(author), scope },
            Scope::PublicOf(author) => Self { shelf: Shelf::Author(author), scope: Scope::Public },
        }
    }

    /// What the keys of this list's rows start with.
    pub(super) fn prefix(&self) -> Vec<u8> {
        debug_assert!(!matches!(self.shelf, Shelf::Feed(_)), "a feed has no rows of its own");
        let mut key = shelf_prefix(&self.shelf);
        let (scope, author) = self.scope.in_keys();
        key.push(scope);
        key.extend(author.into_iter().flat_map(bytes_of));
        key
    }

    /// The key of a row: rows are in the order of the list, newest first.
    pub(super) fn row_key(&self, key: SortKey) -> Vec<u8> {
        let mut bytes = self.prefix();
        bytes.extend_from_slice(&(!key.at.0).to_be_bytes());
        bytes.extend_from_slice(&(!key.post.0).to_be_bytes());
        bytes
    }

    /// The key of its count. Whose list it is comes first: all that a new post changes of its author's counts
    /// then lies in one place of the file, and a checkpoint writes a page or two instead of one for each.
    pub(super) fn count_key(&self) -> Vec<u8> {
        let (kind, user, tag) = self.shelf.in_keys();
        let (scope, author) = self.scope.in_keys();
        let mut key = Vec::with_capacity(18 + tag.len());
        let mut users = user.into_iter().chain(author);
        key.extend(users.next().into_iter().flat_map(bytes_of));
        key.extend([kind, scope]);
        key.extend(users.next().into_iter().flat_map(bytes_of));
        key.extend_from_slice(tag.as_bytes());
        key
    }

    /// The lists that this one is made of: of a feed, the author's public posts and those for his followers alone.
    pub(super) fn parts(&self) -> Vec<ListId> {
        match self.shelf {
            Shelf::Feed(author) => [Shelf::Author(author), Shelf::ForFollowers(author)]
                .map(|shelf| Self::new(shelf, self.scope))
                .into(),
            _ => vec![self.clone()],
        }
    }

    /// The feed that this list is a part of.
    pub(super) fn feed(&self) -> Option<ListId> {
        match (&self.shelf, self.scope) {
            (Shelf::Author(author) | Shelf::ForFollowers(author), Scope::Public) => {
                Some(Self::new(Shelf::Feed(*author), Scope::Public))
            }
            _ => None,
        }
    }

    /// How many posts stand in it.
    pub(super) fn count(&self, tables: &ReadTables<'_>) -> Result<u64, StoreError> {
        if let (Shelf::Tag(lower), Scope::Public) = (&self.shelf, self.scope) {
            let row: Option<TagRow> = tables::read(tables, tables::TAGS, lower.as_bytes())?;
            return Ok(row.map_or(0, |row| row.posts));
        }
        let counts = self.parts().into_iter();
        counts.map(|part| tables.count(tables::COUNTS, &part.count_key())).sum()
    }
}

/// What the keys of all lists of a shelf start with.
pub(super) fn shelf_prefix(shelf: &Shelf) -> Vec<u8> {
    let (kind, user, tag) = shelf.in_keys();
    let mut key = Vec::with_capacity(tag.len() + 36);
    key.push(kind);
    key.extend(user.into_iter().flat_map(bytes_of));
    if let Shelf::Tag(_) = shelf {
        key.extend_from_slice(&(tag.len() as u32).to_be_bytes());
        key.extend_from_slice(tag.as_bytes());
    }
    key
}

fn bytes_of(user: UserId) -> [u8; 8] {
    user.0.to_be_bytes()
}

/// The place that the key of a row names.
pub(super) fn sort_key_of(row_key: &[u8]) -> Result<SortKey, StoreError> {
    let tail = row_key.last_chunk::<16>().ok_or_else(tables::malformed_key)?;
    let (at, post) = tail.split_at(8);
    let number = |bytes: &[u8]| bytes.try_into().map(|bytes| !u64::from_be_bytes(bytes));
    let (Ok(at), Ok(post)) = (number(at), number(post)) else {
        return Err(tables::malformed_key());
    };
    Ok(SortKey { at: Stamp(at), post: PostId(post) })
}

/// A row of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: SortKey,
    pub(super) author: UserId,
}

/// What decides where a post stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) entry: Entry,
    pub(super) scope: Scope,
    in_feeds: bool,
    /// Lower case → as written.
    tags: BTreeMap<String, String>,
}

impl Standing {
    /// Where this post stands.
    pub(super) fn of(post: PostId, row: &SummaryRow) -> Self {
        let mut tags = BTreeMap::new();
        for tag in &row.tags {
            tags.entry(lower(tag)).or_insert_with(|| tag.clone());
        }
        let at = row.published_at.unwrap_or(row.created_at);
        let listed = visibility::is_listed(row.visibility);
        Self {
            entry: Entry { key: SortKey { at, post }, author: row.author },
            scope: if listed { Scope::Public } else { Scope::Own(row.author) },
            in_feeds: visibility::is_in_feeds(row.visibility),
            tags,
        }
    }

    /// Whether those who favor the post find it at the same place in their lists.
    pub(super) fn same_for_favorites(&self, other: &Self) -> bool {
        (self.entry, self.scope) == (other.entry, other.scope)
    }

    /// The lists it stands in, except those of who favors it.
    fn lists(&self) -> Vec<ListId> {
        let author = self.entry.author;
        let mut lists = Vec::with_capacity(3 + self.tags.len());
        if self.scope == Scope::Public {
            lists.push(ListId::new(Shelf::All, self.scope));
        }
        lists.push(ListId::new(Shelf::Author(author), self.scope));
        if self.in_feeds && self.scope != Scope::Public {
            lists.push(ListId::new(Shelf::ForFollowers(author), Scope::Public));
        }
        let tags = self.tags.keys().map(|tag| Shelf::Tag(tag.as_str().into()));
        lists.extend(tags.map(|shelf| ListId::new(shelf, self.scope)));
        lists
    }

    fn shown<'a>(&'a self, lower: &'a str) -> &'a str {
        self.tags.get(lower).map_or(lower, String::as_str)
    }
}

impl Change<'_, '_> {
    /// Moves a post from where it stood to where it stands now. `favored_by`: everybody who favors
    /// it, or nobody if nothing changes for them.
    pub(super) fn restand(
        &mut self,
        before: Option<&Standing>,
        after: Option<&Standing>,
        favored_by: &[UserId],
    ) -> Result<(), StoreError> {
        let old = before.map(Standing::lists).unwrap_or_default();
        let new = after.map(Standing::lists).unwrap_or_default();
        let same_place = match (before, after) {
            (Some(before), Some(after)) => before.entry == after.entry,
            _ => false,
        };
        if let Some(before) = before {
            for list in old.iter().filter(|list| !same_place || !new.contains(list)) {
                self.take_off(list, before.entry)?;
            }
            for user in favored_by {
                self.take_off(&favorites_list(*user, before), before.entry)?;
            }
        }
        if let Some(after) = after {
            for list in new.iter().filter(|list| !same_place || !old.contains(list)) {
                let shown = match &list.shelf {
                    Shelf::Tag(lower) => after.shown(lower),
                    Shelf::All
                    | Shelf::Author(_)
                    | Shelf::FavoritedBy(_)
                    | Shelf::ForFollowers(_)
                    | Shelf::Feed(_) => "",
                };
                self.put_on(list, after.entry, shown)?;
            }
            for user in favored_by {
                self.put_on(&favorites_list(*user, after), after.entry, "")?;
            }
        }
        Ok(())
    }

    /// Adds or removes one post in the list of who favors it.
    pub(super) fn stand_as_favorite(
        &mut self,
        user: UserId,
        standing: &Standing,
        on: bool,
    ) -> Result<(), StoreError> {
        let list = favorites_list(user, standing);
        if on {
            self.put_on(&list, standing.entry, "")
        } else {
            self.take_off(&list, standing.entry)
        }
    }

    fn put_on(&mut self, list: &ListId, entry: Entry, shown: &str) -> Result<(), StoreError> {
        let row = codec::encode(&ListRow { author: entry.author });
        self.tables.put(tables::LISTS, list.row_key(entry.key), row);
        self.stash.rows.push((list.clone(), entry, true));
        self.recount(list, entry.author, shown, true)
    }

    fn take_off(&mut self, list: &ListId, entry: Entry) -> Result<(), StoreError> {
        self.tables.delete(tables::LISTS, list.row_key(entry.key));
        self.stash.rows.push((list.clone(), entry, false));
        self.recount(list, entry.author, "", false)
    }

    fn recount(
        &mut self,
        list: &ListId,
        author: UserId,
        shown: &str,
        up: bool,
    ) -> Result<(), StoreError> {
        if let Some(share) = share_of(list, author) {
            self.recount_row(&share, up);
        }
        if let (Shelf::Tag(lower), Scope::Public) = (&list.shelf, list.scope) {
            return self.recount_tag(lower, shown, up);
        }
        self.recount_row(list, up);
        Ok(())
    }

    fn recount_row(&mut self, list: &ListId, up: bool) {
        self.tables.add(tables::COUNTS, list.count_key(), if up { 1 } else { -1 });
    }

    fn recount_tag(&mut self, lower: &str, shown: &str, up: bool) -> Result<(), StoreError> {
        let before: Option<TagRow> =
            tables::read(&self.tables.view(), tables::TAGS, lower.as_bytes())?;
        let row_is_old = before.is_some();
        let mut row = before.unwrap_or_else(|| TagRow { shown: shown.into(), posts: 0 });
        let old_key = tables::use_key(row.posts, lower);
        row.posts = step(row.posts, up)?;
        let new_key = tables::use_key(row.posts, lower);
        if row_is_old && old_key != new_key {
            self.tables.delete(tables::TAGS_BY_USE, old_key);
        }
        if row.posts == 0 {
            self.tables.delete(tables::TAGS, lower);
        } else {
            let value = bytes::Bytes::from(codec::encode(&row));
            self.tables.put(tables::TAGS, lower, value.clone());
            self.tables.put(tables::TAGS_BY_USE, new_key, value);
        }
        if self.stash.tags_version.is_none() {
            let version = TagsVersionRow { version: self.stamp };
            self.tables.put(tables::TAGS_VERSION, [], codec::encode(&version));
            self.stash.tags_version = Some(self.stamp);
        }
        Ok(())
    }
}

fn favorites_list(user: UserId, standing: &Standing) -> ListId {
    ListId::new(Shelf::FavoritedBy(user), standing.scope)
}

/// The count of `author`'s part of a public list, where it is not the count of another list.
pub(super) fn share_of(list: &ListId, author: UserId) -> Option<ListId> {
    let is_shared = matches!(list.shelf, Shelf::Tag(_) | Shelf::FavoritedBy(_));
    (is_shared && list.scope == Scope::Public)
        .then(|| ListId::new(list.shelf.clone(), Scope::PublicOf(author)))
}

fn step(count: u64, up: bool) -> Result<u64, StoreError> {
    let after = if up { count.checked_add(1) } else { count.checked_sub(1) };
    after.ok_or_else(|| tables::damaged("a count does not fit its list"))
}
