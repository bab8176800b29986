//! The state, and how events change it.

use crate::actors::recommendation::engine::event::{Event, Feedback};
use crate::actors::recommendation::engine::gather::is_same_visit;
use crate::actors::recommendation::engine::neighbours::{Neighbours, PAIR, SPEEDS};
use crate::actors::recommendation::engine::pace::{self, Pace};
use crate::actors::recommendation::engine::post::{NONE, Post, Status, TAGS_MAX, shown_to};
use crate::actors::recommendation::engine::reader::{Reader, choose, choose_tag};
use crate::actors::recommendation::engine::rows::Rows;
use crate::actors::recommendation::engine::settings::{Settings, WINDOWS};
use crate::actors::recommendation::engine::slots::Slots;
use crate::actors::recommendation::engine::tag::{Tag, Tags};
use crate::actors::recommendation::engine::top_list::TopList;
use crate::actors::recommendation::engine::weights::Weights;
use crate::actors::signature::Signature;
use crate::ids::{PostId, Stamp, UserId};

/// A read may claim to be so old and bring the tokens of that time.
const CLAIMED_MS: u64 = 10 * 60_000;
/// How much nearer reads count in a pair: by place back in the history, in 1/64.
const NEARNESS: [u16; 20] =
    [64, 54, 46, 39, 33, 28, 24, 20, 17, 15, 13, 11, 9, 8, 7, 6, 5, 4, 3, 3];

/// Whose word an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// News, which may be told twice and late.
    News,
    /// An answer of the owner.
    Owner,
}

/// The recommendation engine: what is known of posts and readers, and the ranker's weights.
///
/// Everything but the weights follows from the events and their order, to the bit: there is no
/// floating point in it, no clock, and no order of a hash map. Ids are interned: a *slot* is the
/// place of a post, user or tag in its table, in the order in which they were first heard of.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) posts: Rows<Post>,
    pub(super) post_slots: Slots,
    pub(super) readers: Rows<Reader>,
    pub(super) reader_slots: Slots,
    pub(super) tags: Tags,
    pub(super) newest: TopList,
    pub(super) trends: [TopList; WINDOWS],
    pub(super) pace: Pace,
    pub(super) weights: Weights,
    /// Posts that nobody published yet.
    unknown: usize,
    /// Sum of all pairs, fading with them.
    pairs: Neighbours,
}

impl Engine {
    /// An engine that knows nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            posts: Rows::default(),
            post_slots: Slots::default(),
            readers: Rows::default(),
            reader_slots: Slots::default(),
            tags: Tags::default(),
            newest: TopList::default(),
            trends: std::array::from_fn(|_| TopList::default()),
            pace: Pace::default(),
            weights: Weights::default(),
            unknown: 0,
            pairs: Neighbours::default(),
        }
    }

    /// Takes an event in, as of the time at which it happened. What is late, repeated or makes no
    /// sense has no effect.
    pub fn apply(&mut self, event: &Event) {
        self.take(event, None, Word::News);
    }

    /// The same for an event that arrives now: how much a reader counts goes by about that time,
    /// whatever time a read is said to have.
    pub fn apply_live(&mut self, event: &Event, arrived: Stamp) {
        self.take(event, Some(arrived), Word::News);
    }

    /// The same for what the owner of a post says now: it counts even where its version is known.
    pub fn repair(&mut self, event: &Event) {
        self.take(event, None, Word::Owner);
    }

    fn take(&mut self, event: &Event, arrived: Option<Stamp>, word: Word) {
        match event {
            Event::PostChanged {
                post,
                author,
                version,
                is_listed,
                published_at,
                tags,
                signature,
            } => {
                let slot = self.post_slot(*post);
                let known = &self.posts[slot as usize];
                let is_old = known.status != Status::Unknown
                    && (known.version > *version
                        || known.version == *version && word != Word::Owner);
                if is_old || known.status == Status::Deleted {
                    return;
                }
                let author = author.map_or(NONE, |author| self.reader_slot(author));
                self.unlist(slot);
                // Held before the old ones are released: most of them are the same.
                let listed = tags.iter().take(if *is_listed { TAGS_MAX } else { 0 });
                let tags: Vec<u32> = listed.map(|tag| self.tags.hold(tag)).collect();
                self.release_tags(slot);
                let post = &mut self.posts[slot as usize];
                let was_listed = post.is_listed();
                self.unknown -= usize::from(post.status == Status::Unknown);
                post.version = *version;
                post.author = author;
                post.born_ms = published_at.as_millis();
                post.set_tags(tags.into_iter());
                post.signature = *signature;
                post.status = if *is_listed { Status::Listed } else { Status::Hidden };
                if *is_listed && !was_listed && author != NONE {
                    self.wrote(author, slot);
                }
                self.list(slot);
            }
            Event::PostDeleted { post } => {
                // Of a draft that nobody ever saw nothing is known, and there will be no news of it.
                let Some(slot) = self.find_post(*post) else { return };
                self.unlist(slot);
                self.release_tags(slot);
                let post = &mut self.posts[slot as usize];
                self.unknown -= usize::from(post.status == Status::Unknown);
                post.status = Status::Deleted;
                post.neighbours.clear();
                post.signature = Signature::default();
            }
            Event::Interacted { reader, post, how: _, at } => {
                self.read(*reader, *post, *at, token_ms(*at, arrived.unwrap_or(*at)));
            }
            Event::ReadForgotten { reader, post } => {
                if let Some((reader, post)) = self.known(*reader, *post) {
                    self.readers[reader as usize].remove_read(post);
                }
            }
            Event::ReaderErased { reader } => {
                if let Some(slot) = self.find_reader(*reader) {
                    // The slot stays: posts by the reader may be kept by their owner.
                    let reader = &mut self.readers[slot as usize];
                    reader.held_tags().for_each(|tag| self.tags.release(tag));
                    reader.erase();
                }
            }
            Event::AuthorFollowed { reader, author, is_on } => {
                let author = self.reader_slot(*author);
                choose(&mut self.reader_mut(*reader).choices_mut().follows, author, *is_on);
            }
            Event::AuthorMuted { reader, author, is_on } => {
                let author = self.reader_slot(*author);
                choose(&mut self.reader_mut(*reader).choices_mut().muted, author, *is_on);
            }
            Event::TagFollowed { reader, tag, is_on } => {
                let Some(slot) = self.chooser(*reader, *is_on) else { return };
                let choices = self.readers[slot as usize].choices_mut();
                choose_tag(&mut choices.followed_tags, tag, *is_on, &mut self.tags);
            }
            Event::TagMuted { reader, tag, is_on } => {
                let Some(slot) = self.chooser(*reader, *is_on) else { return };
                let choices = self.readers[slot as usize].choices_mut();
                choose_tag(&mut choices.muted_tags, tag, *is_on, &mut self.tags);
            }
            Event::Feedback { reader, post, what } => self.feedback(*reader, *post, *what),
            Event::Blocked { user, target, is_on } => {
                let (user_slot, target_slot) = (self.reader_slot(*user), self.reader_slot(*target));
                choose(&mut self.reader_mut(*user).choices_mut().blocks, target_slot, *is_on);
                choose(&mut self.reader_mut(*target).choices_mut().blocked_by, user_slot, *is_on);
            }
            Event::Denied { post, version } => self.deny(*post, *version),
            Event::FeedbackWithdrawn { reader, post } => {
                if let Some((reader, post)) = self.known(*reader, *post) {
                    choose(&mut self.readers[reader as usize].choices_mut().hidden, post, false);
                }
            }
            Event::Shown { reader, posts } => {
                let shown = shown_to(*reader);
                posts.iter().for_each(|post| self.add_shown(*post, shown));
            }
        }
    }

    /// The weights that [`Engine::recommend`] ranks with.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Sets the weights. Replicas take them from the log; an older version is ignored.
    pub fn set_weights(&mut self, weights: Weights) {
        if weights.version() >= self.weights.version() {
            self.weights = weights;
        }
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a read that arrives now is about to count: nobody's own, not read before, and not one
    /// of a flood.
    pub fn would_count(&self, reader: UserId, post: PostId, at: Stamp, arrived: Stamp) -> bool {
        let Some((who, slot)) = self.known(reader, post) else { return false };
        let (reader, post) = (&self.readers[who as usize], &self.posts[slot as usize]);
        post.status != Status::Deleted
            && post.author != who
            && !reader.has_read(slot)
            && reader.would_count(&self.settings, slot, token_ms(at, arrived))
    }

    fn read(&mut self, reader: UserId, post: PostId, at: Stamp, arrived_ms: u64) {
        if self.find_post(post).is_none() && !self.may_be_unknown(reader, arrived_ms) {
            return;
        }
        let (slot, who) = (self.post_slot(post), self.reader_slot(reader));
        self.fetch_read(who, slot);
        let post = &mut self.posts[slot as usize];
        let reader = &mut self.readers[who as usize];
        let now_ms = at.as_millis();
        post.active_ms = post.active_ms.max(now_ms);
        if post.status == Status::Deleted || post.author == who || reader.has_read(slot) {
            return;
        }
        let is_counted = reader.may_count(&self.settings, slot, arrived_ms);
        if is_counted {
            let last_s = reader.recent().next().map(|(_, at_s)| at_s);
            let is_continued = last_s.is_some_and(|last_s| is_same_visit(last_s, now_ms / 1000));
            self.pace.saw(&self.trends, slot);
            self.pace.count(&self.settings, now_ms);
            post.count(&self.settings, now_ms, is_continued);
            self.pair(who, slot, now_ms);
            self.list_trends(slot);
            self.note_hot(slot, now_ms);
            for tag in self.posts[slot as usize].tags() {
                self.tags.count(*tag, &self.settings, now_ms);
            }
        }
        let post = &self.posts[slot as usize];
        let reader = &mut self.readers[who as usize];
        let author = (post.author != NONE).then_some(post.author);
        reader.like(post.tags(), author, &mut self.tags);
        reader.add_read(&self.settings, slot, now_ms, is_counted);
    }

    /// Whether a read may overtake its post. Not for a reader who has no token left: whoever reads
    /// drafts of their own would fill the place of everybody else's.
    fn may_be_unknown(&self, reader: UserId, arrived_ms: u64) -> bool {
        let known = self.find_reader(reader).map(|slot| &self.readers[slot as usize]);
        self.unknown < self.settings.unknown_posts_max
            && known.is_none_or(|reader| reader.has_token(&self.settings, arrived_ms))
    }

    /// Notes when a post comes into the trend: who was here since and did not read it, passed it
    /// over.
    fn note_hot(&mut self, slot: u32, now_ms: u64) {
        let mut hottest = self.trends[self.pace.best()].posts().take(pace::PLACES);
        let post = &mut self.posts[slot as usize];
        if post.hot_s == 0 && hottest.any(|hot| hot == slot) {
            post.hot_s = u32::try_from(now_ms / 1000).unwrap_or(u32::MAX);
        }
    }

    /// Pairs a post with the recent reads of a reader, in both directions.
    fn pair(&mut self, reader: u32, slot: u32, now_ms: u64) {
        let most = self.settings.neighbours_max;
        let periods = self.settings.pair_half_lives_ms.map(|ms| (now_ms / (ms / 4).max(1)) as u32);
        let recent = self.readers[reader as usize].recent();
        for ((other, _), nearness) in recent.zip(NEARNESS) {
            let together = nearness * PAIR / NEARNESS[0];
            let next = if nearness == NEARNESS[0] { PAIR } else { 0 };
            self.posts[other as usize].neighbours.add(slot, together, next, periods, most);
            self.posts[slot as usize].neighbours.add(other, together, 0, periods, most);
            self.pairs.add(0, 2 * together, next, periods, 0);
        }
    }

    /// What somebody writes about, somebody is interested in.
    fn wrote(&mut self, author: u32, slot: u32) {
        let post = &self.posts[slot as usize];
        let reader = &mut self.readers[author as usize];
        if !reader.has_read(slot) {
            reader.like(post.tags(), None, &mut self.tags);
            reader.add_read(&self.settings, slot, post.born_ms, true);
        }
    }

    fn feedback(&mut self, reader: UserId, post: PostId, what: Feedback) {
        let Some(slot) = self.find_post(post) else { return };
        let who = self.reader_slot(reader);
        let post = &self.posts[slot as usize];
        let reader = &mut self.readers[who as usize];
        let is_new = choose(&mut reader.choices_mut().hidden, slot, true);
        if is_new && what == Feedback::Less {
            reader.like_less(post.tags(), (post.author != NONE).then_some(post.author));
        }
    }

    fn deny(&mut self, post: PostId, version: u64) {
        let Some(slot) = self.find_post(post) else { return };
        let known = &self.posts[slot as usize];
        if known.is_listed() && known.version == version {
            self.unlist(slot);
            self.release_tags(slot);
            self.posts[slot as usize].status = Status::Hidden;
        }
    }

    /// The tags of a post that is not listed any more are none of its concern.
    fn release_tags(&mut self, slot: u32) {
        let post = &mut self.posts[slot as usize];
        post.tags().iter().for_each(|tag| self.tags.release(*tag));
        post.set_tags(std::iter::empty());
    }

    /// The slot of somebody who chooses. Who takes back what was never chosen needs none.
    fn chooser(&mut self, reader: UserId, is_on: bool) -> Option<u32> {
        match is_on {
            true => Some(self.reader_slot(reader)),
            false => {
                let slot = self.find_reader(reader)?;
                self.readers[slot as usize].choices.is_some().then_some(slot)
            }
        }
    }

    /// To whom a post was shown: one of 32 bits for each reader.
    pub fn shown(&self, post: PostId) -> u32 {
        self.find_post(post).map_or(0, |slot| self.posts[slot as usize].shown)
    }

    /// Adds to whom a post was shown, if it is known.
    pub fn add_shown(&mut self, post: PostId, shown: u32) {
        if let Some(slot) = self.find_post(post) {
            self.posts[slot as usize].shown |= shown;
        }
    }

    /// What is known of a post: its version, and whether it is listed.
    pub fn known_post(&self, post: PostId) -> Option<(u64, bool)> {
        let post = &self.posts[self.find_post(post)? as usize];
        Some((post.version, post.is_listed()))
    }

    /// The post in a place, in the order in which they were first heard of.
    pub fn post_at(&self, place: u32) -> Option<PostId> {
        let is_there = (place as usize) < self.posts.len();
        is_there.then(|| self.posts[place as usize].id)
    }

    /// Posts that were heard of, deleted ones included.
    pub fn posts_known(&self) -> usize {
        self.posts.len()
    }

    /// Readers and authors that were heard of.
    pub fn readers_known(&self) -> usize {
        self.readers.len()
    }

    /// Whether anything is known that a reader read.
    pub fn has_history(&self, reader: UserId) -> bool {
        let slot = self.find_reader(reader);
        slot.is_some_and(|slot| !self.readers[slot as usize].reads().is_empty())
    }

    /// The latest read that was counted.
    pub fn latest_read(&self) -> Stamp {
        Stamp(self.pace.touched_ms().saturating_mul(1000))
    }

    fn known(&self, reader: UserId, post: PostId) -> Option<(u32, u32)> {
        Some((self.find_reader(reader)?, self.find_post(post)?))
    }

    /// The slot of a post that was heard of.
    pub(super) fn find_post(&self, post: PostId) -> Option<u32> {
        self.post_slots.find(post.0, |slot| self.posts[slot as usize].id.0)
    }

    /// The slot of a reader or author who was heard of.
    pub(super) fn find_reader(&self, reader: UserId) -> Option<u32> {
        self.reader_slots.find(reader.0, |slot| self.readers[slot as usize].id.0)
    }

    fn reader_mut(&mut self, reader: UserId) -> &mut Reader {
        let slot = self.reader_slot(reader);
        &mut self.readers[slot as usize]
    }

    fn post_slot(&mut self, post: PostId) -> u32 {
        self.find_post(post).unwrap_or_else(|| {
            self.unknown += 1;
            let slot = self.posts.push(Post::unknown(post));
            self.post_slots.insert(post.0, slot);
            slot
        })
    }

    fn reader_slot(&mut self, reader: UserId) -> u32 {
        self.find_reader(reader).unwrap_or_else(|| {
            let slot = self.readers.push(Reader::new(reader));
            self.reader_slots.insert(reader.0, slot);
            slot
        })
    }

    pub(super) fn pairs_words(&self) -> impl Iterator<Item = u64> + '_ {
        self.pairs.words()
    }

    pub(super) fn pairs(&self) -> &Neighbours {
        &self.pairs
    }

    /// Takes over what else was saved.
    pub(super) fn restore(&mut self, unknown: usize, pairs: Neighbours) {
        self.unknown = unknown;
        self.pairs = pairs;
    }

    /// Weight of all pairs.
    pub(super) fn pairs_total(&self) -> [u32; SPEEDS] {
        self.pairs.sums().together
    }

    /// The state of a tag, where it has one.
    pub(super) fn tag(&self, slot: u32) -> &Tag {
        self.tags.get(slot)
    }
}

/// The time that a read has for the tokens of its reader: what it says, but not long ago. The delay
/// of an ordinary read is below that, so a rebuild, which knows no arrivals, finds the same.
fn token_ms(at: Stamp, arrived: Stamp) -> u64 {
    at.as_millis().max(arrived.as_millis().saturating_sub(CLAIMED_MS))
}
