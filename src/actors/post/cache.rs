//! What the service keeps in memory: bounded copies of rows, filled on demand, always exact.
//!
//! **Invariants**: K1 what is in a cache is what a read of the tables would answer; K2 a command
//! reaches the caches through its [`Stash`], once its rows are merged, or not at all; K3 the keys
//! of a cached list are its first ones, without a gap.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use crate::actors::post::change::Due;
use crate::actors::post::lists::{Entry, ListId, Scope, Shelf, share_of};
use crate::actors::post::message::{Body, SortKey, Summary};
use crate::actors::state_machine::RowKey;
use crate::actors::user::message::Viewer;
use crate::config::{OFFSET_MAX, PAGE_MAX};
use crate::ids::{PostId, Stamp, UserId};
use crate::s3_fifo::{Key, S3Fifo, Weigh};

/// Room of a cache, in bytes. It grows with the number of public posts of its shard, so that a page costs the same
/// among many posts as among few.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// However few posts there are.
    pub(super) least: usize,
    /// For each post.
    pub(super) each: usize,
    /// However many there are.
    pub(super) most: usize,
}

impl Room {
    /// The same however many posts there are.
    pub(super) const fn fixed(bytes: usize) -> Self {
        Self { least: bytes, each: 0, most: bytes }
    }

    fn of(self, posts: u64) -> usize {
        let shares = usize::try_from(posts).unwrap_or(usize::MAX).saturating_mul(self.each);
        shares.clamp(self.least, self.most)
    }
}

/// Bounds of the caches of one shard, and of one step of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Posts without their bodies, but with their renderings: about half of them, as they take some 1,100 bytes
    /// there. With room for an eighth, an article among a million took 1.4 times what it takes among 50,000. At
    /// least 27,000 of them: with room for half of the 12,500 that each of four shards had, favorites took 4 to
    /// 15 % more.
    pub(super) posts: Room,
    /// Bodies, a sixteenth of them; those that are read most are kept at the edge. Apart from the posts: lists
    /// read no bodies, and large bodies must not displace what every page needs.
    pub(super) bodies: Room,
    /// Lists.
    pub(super) lists: Room,
    /// Who favors what.
    pub(super) favored: Room,
    /// Merged feeds.
    pub(super) feeds: Room,
    /// Keys kept of one list: as deep as the edge may ask, and what a viewer may have to skip.
    pub(super) list_keys: usize,
    /// Favorites kept of one user; who has more is looked up post by post.
    pub(super) favored_posts: usize,
    /// Changes of feeds remembered, to bring merged feeds up to date with.
    pub(super) feed_changes: usize,
    /// Rows that one step of a query reads before others get their turn.
    pub(super) step_rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            posts: Room { least: 30 << 20, each: 512, most: 1 << 30 },
            bodies: Room { least: 8 << 20, each: 320, most: 640 << 20 },
            lists: Room::fixed(8 << 20),
            favored: Room::fixed(4 << 20),
            feeds: Room::fixed(3 << 20),
            list_keys: OFFSET_MAX + PAGE_MAX + 2_000,
            favored_posts: 4_096,
            feed_changes: 256,
            step_rows: 256,
        }
    }
}

impl Key for ListId {
    fn outside(&self) -> usize {
        match &self.shelf {
            Shelf::Tag(lower) => 16 + lower.len(),
            Shelf::All
            | Shelf::Author(_)
            | Shelf::FavoritedBy(_)
            | Shelf::ForFollowers(_)
            | Shelf::Feed(_) => 0,
        }
    }
}

/// A post with what queries answer of it.
pub(super) struct CachedPost {
    pub(super) summary: Arc<Summary>,
    pub(super) favorites: u64,
    weight: usize,
}

impl CachedPost {
    pub(super) fn new(summary: Arc<Summary>, favorites: u64) -> Self {
        let weight = summary.bytes();
        Self { summary, favorites, weight }
    }
}

impl Weigh for Body {
    fn weight(&self) -> usize {
        self.bytes()
    }
}

impl Weigh for CachedPost {
    fn weight(&self) -> usize {
        self.weight
    }
}

/// The first keys of a list, newest first, and the number of all.
#[derive(Default)]
pub(super) struct CachedList {
    pub(super) total: u64,
    pub(super) entries: VecDeque<Entry>,
}

impl CachedList {
    /// Whether every key is here.
    pub(super) fn is_complete(&self) -> bool {
        debug_assert!(self.entries.len() as u64 <= self.total, "K3");
        self.entries.len() as u64 == self.total
    }

    /// Whether so many keys are here, or all that there are.
    pub(super) fn reaches(&self, depth: usize) -> bool {
        self.entries.len() >= depth || self.is_complete()
    }

    /// Notes that a row was added or removed.
    pub(super) fn note(&mut self, entry: Entry, added: bool, keys_max: usize) {
        let was_complete = self.is_complete();
        let place = self.entries.binary_search_by(|other| entry.key.cmp(&other.key));
        match (added, place) {
            (true, Ok(_)) => debug_assert!(false, "K1: a post stands once in a list"),
            (true, Err(place)) => {
                self.total += 1;
                // Behind the last key there may be others that are not here (K3).
                if was_complete || place < self.entries.len() {
                    self.entries.insert(place, entry);
                    self.entries.truncate(keys_max);
                }
            }
            (false, place) => {
                self.total -= 1;
                if let Ok(place) = place {
                    self.entries.remove(place);
                }
            }
        }
    }
}

impl Weigh for CachedList {
    fn weight(&self) -> usize {
        200 + self.entries.capacity() * size_of::<Entry>()
    }
}

/// What a user favors.
#[derive(Default)]
pub(super) struct Favored {
    /// Ascending.
    posts: Vec<PostId>,
    pub(super) read: ReadTo,
}

/// How far the favorites of a user were read.
#[derive(Default, PartialEq, Eq)]
pub(super) enum ReadTo {
    /// Nothing yet.
    #[default]
    Start,
    /// Up to the row with this key.
    Key(RowKey),
    /// All of them.
    End,
    /// There are too many to keep.
    TooMany,
}

impl Weigh for Favored {
    fn weight(&self) -> usize {
        150 + self.posts.capacity() * size_of::<PostId>()
    }
}

/// The merged feed of a viewer, as of a change of feeds.
pub(super) struct CachedFeed {
    /// Whom the viewer followed, muted and was blocked by.
    pub(super) viewer: Arc<Viewer>,
    /// Number of the first change of feeds that is not in it.
    pub(super) next_change: u64,
    pub(super) list: CachedList,
}

impl Weigh for CachedFeed {
    fn weight(&self) -> usize {
        let edges = self.viewer.follows.len() + self.viewer.mutes.len();
        self.list.weight() + 8 * (edges + self.viewer.blocked_by.len())
    }
}

/// The tags: the answer for one limit and version.
pub(super) struct CachedTags {
    pub(super) version: Stamp,
    pub(super) limit: usize,
    pub(super) tags: Arc<Vec<(String, u64)>>,
}

/// The latest changes of feeds, numbered.
#[derive(Default)]
pub(super) struct FeedChanges {
    latest: VecDeque<(Entry, bool)>,
    /// Number of the change that will come next.
    pub(super) next: u64,
}

impl FeedChanges {
    fn push(&mut self, entry: Entry, added: bool, keep: usize) {
        self.latest.push_back((entry, added));
        self.next += 1;
        if self.latest.len() > keep {
            self.latest.pop_front();
        }
    }

    /// The changes from this number on, unless some of them are forgotten.
    pub(super) fn since(&self, number: u64) -> Option<impl Iterator<Item = &(Entry, bool)>> {
        let count = usize::try_from(self.next - number).ok()?;
        let first = self.latest.len().checked_sub(count)?;
        Some(self.latest.range(first..))
    }
}

/// A change of a post.
pub(super) enum PostChange {
    /// A new post with its body.
    Created(Arc<Summary>, Body),
    /// A new version, with a new body if that changed.
    Changed(Arc<Summary>, Option<Body>),
    /// The post is gone.
    Deleted(PostId),
}

/// What one command changes, on its way to the caches (K2).
#[derive(Default)]
pub(super) struct Stash {
    pub(super) posts: Vec<PostChange>,
    /// Post and the number of its favorites.
    pub(super) favorites: Vec<(PostId, u64)>,
    /// Who favors what, or no more.
    pub(super) favored: Vec<(UserId, PostId, bool)>,
    /// List and the row that was added or removed, in this order.
    pub(super) rows: Vec<(ListId, Entry, bool)>,
    /// Stamp of the command, if it changed a count of a tag.
    pub(super) tags_version: Option<Stamp>,
    /// The first row of the schedule.
    pub(super) due: Option<Due>,
}

/// Slots of [`ShelfVersions`]; two shelves rarely share one.
const SHELF_SLOTS: usize = 1_024;

/// A number per shelf that moves with every change of its lists. Shelves may share a number: it
/// may move without a change, never the other way round.
struct ShelfVersions(Vec<u64>);

impl ShelfVersions {
    fn slot(shelf: &Shelf) -> usize {
        FxBuildHasher.hash_one(shelf) as usize % SHELF_SLOTS
    }
}

/// All caches of a shard.
pub(super) struct Caches {
    pub(super) limits: Limits,
    pub(super) posts: S3Fifo<PostId, CachedPost>,
    pub(super) bodies: S3Fifo<PostId, Body>,
    pub(super) lists: S3Fifo<ListId, CachedList>,
    pub(super) favored: S3Fifo<UserId, Favored>,
    pub(super) feeds: S3Fifo<UserId, CachedFeed>,
    pub(super) feed_changes: FeedChanges,
    pub(super) tags: Option<CachedTags>,
    pub(super) tags_version: Stamp,
    shelf_versions: ShelfVersions,
    public_posts: u64,
}

impl Caches {
    /// Empty caches over so many public posts.
    pub(super) fn new(limits: Limits, tags_version: Stamp, public_posts: u64) -> Self {
        let mut caches = Self {
            limits,
            posts: S3Fifo::new(0),
            bodies: S3Fifo::new(0),
            lists: S3Fifo::new(0),
            favored: S3Fifo::new(0),
            feeds: S3Fifo::new(0),
            feed_changes: FeedChanges::default(),
            tags: None,
            tags_version,
            shelf_versions: ShelfVersions(vec![0; SHELF_SLOTS]),
            public_posts,
        };
        caches.make_room();
        caches
    }

    /// Moves with every change of the lists of this shelf.
    pub(super) fn shelf_version(&self, shelf: &Shelf) -> u64 {
        self.shelf_versions.0[ShelfVersions::slot(shelf)]
    }

    /// Drops what is too much. Called when a piece of work is done.
    pub(super) fn trim(&mut self) {
        self.posts.trim();
        self.bodies.trim();
        self.lists.trim();
        self.favored.trim();
        self.feeds.trim();
    }

    /// Gives each cache the room that it has for so many posts.
    fn make_room(&mut self) {
        let (limits, posts) = (&self.limits, self.public_posts);
        self.posts.allow(limits.posts.of(posts));
        self.bodies.allow(limits.bodies.of(posts));
        self.lists.allow(limits.lists.of(posts));
        self.favored.allow(limits.favored.of(posts));
        self.feeds.allow(limits.feeds.of(posts));
    }

    /// Brings all caches up to date with a command whose rows were merged (K2).
    pub(super) fn take_in(&mut self, stash: Stash) {
        for change in stash.posts {
            self.take_in_post(change);
        }
        for (post, favorites) in stash.favorites {
            self.posts.update(&post, |cached| cached.favorites = favorites);
        }
        for (list, entry, added) in stash.rows {
            self.take_in_row(&list, entry, added);
        }
        for (user, post, on) in stash.favored {
            self.take_in_favored(user, post, on);
        }
        if let Some(version) = stash.tags_version {
            self.tags_version = version;
        }
        self.trim();
    }

    fn take_in_post(&mut self, change: PostChange) {
        match change {
            PostChange::Created(summary, body) => {
                self.bodies.insert(summary.id, body);
                self.posts.insert(summary.id, CachedPost::new(summary, 0));
            }
            PostChange::Changed(summary, body) => {
                let id = summary.id;
                if let Some(body) = body {
                    self.bodies.update(&id, |cached| *cached = body);
                }
                self.posts
                    .update(&id, |cached| *cached = CachedPost::new(summary, cached.favorites));
            }
            PostChange::Deleted(post) => {
                self.bodies.remove(&post);
                self.posts.remove(&post);
            }
        }
    }

    fn take_in_row(&mut self, list: &ListId, entry: Entry, added: bool) {
        let keys_max = self.limits.list_keys;
        let feed = list.feed();
        for list in [Some(list), feed.as_ref()].into_iter().flatten() {
            self.shelf_versions.0[ShelfVersions::slot(&list.shelf)] += 1;
            self.lists.update(list, |cached| cached.note(entry, added, keys_max));
        }
        if feed.is_some() {
            self.feed_changes.push(entry, added, self.limits.feed_changes);
        }
        if let Some(share) = share_of(list, entry.author) {
            self.lists.update(&share, |cached| match added {
                true => cached.total += 1,
                false => cached.total -= 1,
            });
        }
        if (&list.shelf, list.scope) == (&Shelf::All, Scope::Public) {
            match added {
                true => self.public_posts += 1,
                false => self.public_posts -= 1,
            }
            self.make_room();
        }
    }

    fn take_in_favored(&mut self, user: UserId, post: PostId, on: bool) {
        let posts_max = self.limits.favored_posts;
        self.favored.update(&user, |favored| {
            if favored.read == ReadTo::TooMany {
                return;
            }
            favored.set(post, on);
            favored.check(posts_max);
        });
    }
}

impl Favored {
    pub(super) fn posts(&self) -> &[PostId] {
        &self.posts
    }

    /// Adds what was read; some of it may have been noted before.
    pub(super) fn add(&mut self, posts: impl Iterator<Item = PostId>) {
        self.posts.extend(posts);
        self.posts.sort_unstable();
        self.posts.dedup();
    }

    /// Notes that the user favors a post, or no more.
    pub(super) fn set(&mut self, post: PostId, on: bool) {
        match (on, self.posts.binary_search(&post)) {
            (true, Err(place)) => self.posts.insert(place, post),
            (false, Ok(place)) => drop(self.posts.remove(place)),
            (true, Ok(_)) | (false, Err(_)) => {}
        }
    }

    /// Gives up when there are too many.
    pub(super) fn check(&mut self, posts_max: usize) {
        if self.posts.len() > posts_max {
            *self = Self { posts: Vec::new(), read: ReadTo::TooMany };
        }
    }
}

/// The keys of entries.
pub(super) fn keys<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<SortKey> {
    entries.into_iter().map(|entry| entry.key).collect()
}
