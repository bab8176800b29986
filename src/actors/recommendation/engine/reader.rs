//! What is kept of a reader.

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::history::{History, grow};
use crate::actors::recommendation::engine::interests::Interests;
use crate::actors::recommendation::engine::settings::Settings;
use crate::actors::recommendation::engine::tag::Tags;
use crate::actors::recommendation::engine::top_list::TopList;
use crate::actors::signature::mix;
use crate::actors::user::EDGES_MAX;
use crate::ids::UserId;
use crate::store::codec::Record;

/// Tags whose weight is kept.
const TAGS_MAX: usize = 24;
/// Authors whose weight is kept.
const AUTHORS_MAX: usize = 12;
/// Users followed, muted or blocked, tags followed or muted, posts hidden: the newest of each kind. The
/// owner of these choices keeps no more, but of those who block a reader.
pub(super) const CHOICES_MAX: usize = EDGES_MAX as usize;
/// Bits, in words, that posts share of which a reader deleted the read.
const FORGOTTEN_WORDS: usize = 4;
/// How long these bits are kept: in this time a read counts once, however often it is deleted.
const FORGOTTEN_MS: u64 = 7 * 24 * 3_600_000;

/// What a reader chose. Most choose nothing, so it is kept apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Choices {
    pub(super) follows: Vec<u32>,
    pub(super) followed_tags: Vec<u32>,
    pub(super) muted: Vec<u32>,
    pub(super) muted_tags: Vec<u32>,
    pub(super) hidden: Vec<u32>,
    /// Apart from `muted`, for each may end while another lasts.
    pub(super) blocks: Vec<u32>,
    pub(super) blocked_by: Vec<u32>,
}

impl Choices {
    /// The authors of whom nothing is shown; some more than once.
    pub(super) fn hidden_authors(&self) -> impl Iterator<Item = &u32> {
        self.muted.iter().chain(&self.blocks).chain(&self.blocked_by)
    }

    /// All lists, in a fixed order.
    fn lists(&self) -> [&Vec<u32>; 7] {
        let Self { follows, followed_tags, muted, muted_tags, hidden, blocks, blocked_by } = self;
        [follows, followed_tags, muted, muted_tags, hidden, blocks, blocked_by]
    }
}

/// A reader or author. Small, for there may be a million: 112 bytes, 4 per read, 6 per interest, and
/// what few have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SavedReader", into = "SavedReader")]
pub(super) struct Reader {
    pub(super) id: UserId,
    history: History,
    pub(super) tags: Interests,
    pub(super) authors: Interests,
    pub(super) choices: Option<Box<Choices>>,
    rare: Option<Box<Rare>>,
    /// Reads that may still count, and since when.
    tokens: u16,
    refilled_ms: u64,
}

/// What most readers have nothing of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rare {
    /// The newest posts by this user.
    newest: TopList,
    /// Which reads were not counted: their places, ascending. They are forgotten first.
    uncounted: Vec<u16>,
    /// What was read, counted and then deleted from the history, as far as it must be known: one of
    /// so many bits for each post, which many posts share, so it does not say what was read.
    forgotten: [u64; FORGOTTEN_WORDS],
    /// When the first of these bits was set.
    forgotten_ms: u64,
}

/// What is said of who has nothing rare.
static NOTHING_RARE: Rare = Rare {
    newest: TopList::EMPTY,
    uncounted: Vec::new(),
    forgotten: [0; FORGOTTEN_WORDS],
    forgotten_ms: 0,
};

/// A reader as it is written.
#[derive(Serialize, Deserialize)]
struct SavedReader {
    id: UserId,
    reads: Vec<u32>,
    times_s: Vec<u32>,
    tags: Vec<(u32, u32)>,
    authors: Vec<(u32, u32)>,
    choices: Option<Box<Choices>>,
    newest: TopList,
    tokens: u16,
    refilled_ms: u64,
    uncounted: Vec<u16>,
    forgotten: [u64; FORGOTTEN_WORDS],
    forgotten_ms: u64,
}

impl From<SavedReader> for Reader {
    fn from(saved: SavedReader) -> Self {
        let SavedReader { newest, uncounted, forgotten, forgotten_ms, .. } = saved;
        let rare = Rare { newest, uncounted, forgotten, forgotten_ms };
        Self {
            id: saved.id,
            history: History::of(&saved.reads, &saved.times_s),
            tags: saved.tags.into_iter().collect(),
            authors: saved.authors.into_iter().collect(),
            choices: saved.choices,
            rare: (rare != NOTHING_RARE).then(|| Box::new(rare)),
            tokens: saved.tokens,
            refilled_ms: saved.refilled_ms,
        }
    }
}

impl From<Reader> for SavedReader {
    fn from(reader: Reader) -> Self {
        let Reader { id, history, tags, authors, choices, rare, tokens, refilled_ms } = reader;
        let Rare { newest, uncounted, forgotten, forgotten_ms } = *rare.unwrap_or_default();
        Self {
            id,
            reads: history.posts().to_vec(),
            times_s: history.times_s().to_vec(),
            tags: tags.pairs().collect(),
            authors: authors.pairs().collect(),
            choices,
            newest,
            tokens,
            refilled_ms,
            uncounted,
            forgotten,
            forgotten_ms,
        }
    }
}

impl Record for Reader {
    const KIND: u8 = 69;
}

impl Reader {
    pub(super) fn new(id: UserId) -> Self {
        Self {
            id,
            history: History::default(),
            tags: Interests::default(),
            authors: Interests::default(),
            choices: None,
            rare: None,
            tokens: 0,
            refilled_ms: 0,
        }
    }

    /// Forgets everything but the posts that others may read.
    pub(super) fn erase(&mut self) {
        let newest = self.rare.take().map(|rare| rare.newest);
        *self = Self::new(self.id);
        if let Some(newest) = newest.filter(|newest| !newest.places().is_empty()) {
            *self.newest_mut() = newest;
        }
    }

    /// All posts read that are remembered, oldest first.
    pub(super) fn reads(&self) -> &[u32] {
        self.history.posts()
    }

    pub(super) fn has_read(&self, post: u32) -> bool {
        self.reads().contains(&post)
    }

    /// The recent reads with their times in seconds, newest first.
    pub(super) fn recent(&self) -> impl Iterator<Item = (u32, u32)> + Clone + '_ {
        self.history.recent()
    }

    /// The newest posts by this user.
    pub(super) fn newest(&self) -> &TopList {
        &self.rare().newest
    }

    /// The same, to change them.
    pub(super) fn newest_mut(&mut self) -> &mut TopList {
        &mut self.rare_mut().newest
    }

    /// Adds a read. Where there are too many, one that was not counted is forgotten, or else the
    /// oldest; but one that was counted makes no room for one that was not. So a post counts again
    /// only after as many other reads that counted.
    pub(super) fn add_read(
        &mut self,
        settings: &Settings,
        post: u32,
        now_ms: u64,
        is_counted: bool,
    ) {
        while self.reads().len() >= settings.reads_max {
            match self.rare().uncounted.first() {
                Some(place) => self.remove_at(usize::from(*place)),
                None if is_counted => self.remove_at(0),
                None => return,
            }
        }
        if !is_counted {
            let place = self.reads().len() as u16;
            push_bounded(&mut self.rare_mut().uncounted, place, settings.reads_max);
        }
        let seconds = u32::try_from(now_ms / 1000).unwrap_or(u32::MAX);
        self.history.push(post, seconds, settings.recent_max, settings.reads_max);
    }

    /// Forgets a read. It does not count again for a while: see [`Rare::forgotten`].
    pub(super) fn remove_read(&mut self, post: u32) {
        let Some(at) = self.reads().iter().position(|read| *read == post) else { return };
        let refilled_ms = self.refilled_ms;
        let rare = self.rare_mut();
        if !rare.has_forgotten() {
            // Within a minute of the last read that counted: whoever forgets says not when.
            rare.forgotten_ms = refilled_ms;
        }
        let (word, bit) = forgotten_bit(post);
        rare.forgotten[word] |= bit;
        self.remove_at(at);
    }

    /// Whether a read of this post, which arrives now, would count: it must not have been deleted
    /// before, and a token must be left. A reader has so many tokens at once and gets a new one from
    /// time to time, so that a flood of reads moves little.
    pub(super) fn would_count(&self, settings: &Settings, post: u32, arrived_ms: u64) -> bool {
        let (word, bit) = forgotten_bit(post);
        let rare = self.rare();
        let is_kept = arrived_ms < rare.forgotten_ms.saturating_add(FORGOTTEN_MS);
        let was_deleted = is_kept && rare.forgotten[word] & bit != 0;
        !was_deleted && self.has_token(settings, arrived_ms)
    }

    /// Whether a token is left.
    pub(super) fn has_token(&self, settings: &Settings, arrived_ms: u64) -> bool {
        self.tokens > 0 || self.refill(settings, arrived_ms) > 0
    }

    /// Takes a token if a read of this post counts; returns whether it does.
    ///
    /// The time is not far from that of arrival, whatever time the read is said to have: claimed
    /// times that ascend would bring a token each.
    pub(super) fn may_count(&mut self, settings: &Settings, post: u32, arrived_ms: u64) -> bool {
        if let Some(rare) = &mut self.rare
            && arrived_ms >= rare.forgotten_ms.saturating_add(FORGOTTEN_MS)
        {
            rare.forgotten = [0; FORGOTTEN_WORDS];
        }
        let may = self.would_count(settings, post, arrived_ms);
        let refill = self.refill(settings, arrived_ms);
        if refill > 0 {
            let refilled = u64::from(self.tokens).saturating_add(refill);
            self.tokens = refilled.min(settings.burst_max.into()) as u16;
            self.refilled_ms = arrived_ms - arrived_ms % settings.refill_ms;
        }
        self.tokens = self.tokens.saturating_sub(u16::from(may));
        may
    }

    /// Tokens that came since the last time.
    fn refill(&self, settings: &Settings, arrived_ms: u64) -> u64 {
        arrived_ms.saturating_sub(self.refilled_ms) / settings.refill_ms
    }

    fn remove_at(&mut self, at: usize) {
        self.history.remove(at);
        if let Some(Rare { uncounted, .. }) = self.rare.as_deref_mut() {
            let place = at as u16;
            uncounted.retain(|uncounted| *uncounted != place);
            uncounted.iter_mut().filter(|later| **later > place).for_each(|later| *later -= 1);
        }
    }

    fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Likes tags and an author a little more, everything else a little less.
    pub(super) fn like(&mut self, liked: &[u32], author: Option<u32>, tags: &mut Tags) {
        self.tags.raise(liked, TAGS_MAX, |new, old| {
            tags.hold_again(new);
            old.into_iter().for_each(|old| tags.release(old));
        });
        self.authors.raise(author.as_slice(), AUTHORS_MAX, |_, _| {});
    }

    /// The tags that it refers to, as often as it does.
    pub(super) fn held_tags(&self) -> impl Iterator<Item = u32> + '_ {
        let chosen =
            self.choices.iter().flat_map(|it| it.followed_tags.iter().chain(&it.muted_tags));
        self.tags.all().iter().map(|tag| tag.what).chain(chosen.copied())
    }

    /// Likes tags and an author half as much.
    pub(super) fn like_less(&mut self, tags: &[u32], author: Option<u32>) {
        self.tags.lower(tags);
        self.authors.lower(author.as_slice());
    }

    pub(super) fn choices_mut(&mut self) -> &mut Choices {
        self.choices.get_or_insert_default()
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let choices = self.choices.as_ref().map_or(0, |choices| {
            let lists = choices.lists();
            size_of::<Choices>() + lists.iter().map(|list| list.capacity() * 4).sum::<usize>()
        });
        let rare = self.rare.as_ref().map_or(0, |rare| {
            size_of::<Rare>() + rare.uncounted.capacity() * 2 + rare.newest.heap_bytes()
        });
        self.history.heap_bytes()
            + self.tags.heap_bytes()
            + self.authors.heap_bytes()
            + choices
            + rare
    }

    /// The state in words, for a digest.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let interests = self.tags.pairs().chain(self.authors.pairs());
        let (rare, reads, times_s) = (self.rare(), self.reads(), self.history.times_s());
        let choices = self.choices.iter().flat_map(|choices| {
            choices.lists().into_iter().flat_map(|list| {
                std::iter::once(list.len() as u64).chain(list.iter().map(|slot| u64::from(*slot)))
            })
        });
        let [a, b, c, d] = rare.forgotten;
        let forgotten = rare.has_forgotten().then_some([a, b, c, d, rare.forgotten_ms]);
        [self.id.0, u64::from(self.tokens), self.refilled_ms, reads.len() as u64]
            .into_iter()
            .chain(reads.iter().map(|read| u64::from(*read)))
            .chain(times_s.iter().map(|time| u64::from(*time)))
            .chain(interests.map(|(what, weight)| u64::from(what) << 32 | u64::from(weight)))
            .chain(choices)
            .chain(rare.uncounted.iter().map(|place| u64::from(*place)))
            .chain(forgotten.into_iter().flatten())
            .chain(rare.newest.words())
    }
}

impl Rare {
    fn has_forgotten(&self) -> bool {
        self.forgotten != [0; FORGOTTEN_WORDS]
    }
}

/// Adds at the end, and drops the first ones where there would be too many.
fn push_bounded<T>(list: &mut Vec<T>, value: T, most: usize) {
    if list.len() >= most {
        // More than one where a bound became lower.
        list.drain(..=list.len() - most);
    }
    grow(list, most);
    list.push(value);
}

/// Sets or clears the choice of a tag.
pub(super) fn choose_tag(list: &mut Vec<u32>, name: &str, is_on: bool, tags: &mut Tags) {
    if is_on {
        let slot = tags.hold(name);
        let oldest = list.first().copied().filter(|_| list.len() >= CHOICES_MAX);
        match choose(list, slot, true) {
            true => oldest.into_iter().for_each(|oldest| tags.release(oldest)),
            false => tags.release(slot),
        }
    } else if let Some(slot) = tags.find(name)
        && choose(list, slot, false)
    {
        tags.release(slot);
    }
}

/// Sets or clears a choice; returns whether that changed something.
pub(super) fn choose(list: &mut Vec<u32>, slot: u32, is_on: bool) -> bool {
    let known = list.iter().position(|chosen| *chosen == slot);
    match (known, is_on) {
        (None, true) => {
            push_bounded(list, slot, CHOICES_MAX);
            true
        }
        (Some(at), false) => {
            list.remove(at);
            true
        }
        (Some(_), true) | (None, false) => false,
    }
}

fn forgotten_bit(post: u32) -> (usize, u64) {
    let bit = mix(post.into()) % (64 * FORGOTTEN_WORDS as u64);
    ((bit / 64) as usize, 1 << (bit % 64))
}
