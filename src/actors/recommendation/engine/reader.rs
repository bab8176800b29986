//! What is kept of a reader.

use serde::{Deserialize, Serialize};

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
/// What one read adds to the weight of each of its tags and its author.
const INTEREST: u32 = 1 << 10;

/// Bits, in words, that posts share of which a reader deleted the read.
const FORGOTTEN_WORDS: usize = 4;
/// How long these bits are kept: in this time a read counts once, however often it is deleted.
const FORGOTTEN_MS: u64 = 7 * 24 * 3_600_000;

/// How much a reader likes something.
pub(super) type Interest = (u32, u32);

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

/// A reader or author, in memory as in its row. About 250 bytes, 4 per read and 12 per recent read
/// and interest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reader {
    pub(super) id: UserId,
    /// Posts read, oldest first.
    reads: Vec<u32>,
    /// When the last of them were read, in seconds, oldest first.
    times_s: Vec<u32>,
    pub(super) tags: Vec<Interest>,
    pub(super) authors: Vec<Interest>,
    pub(super) choices: Option<Box<Choices>>,
    /// The newest posts by this user.
    pub(super) newest: TopList,
    /// Reads that may still count, and since when.
    tokens: u16,
    refilled_ms: u64,
    /// Which of `reads` were not counted: their places, ascending. They are forgotten first.
    uncounted: Vec<u16>,
    /// What was read, counted and then deleted from the history, as far as it must be known: one of
    /// so many bits for each post, which many posts share, so it does not say what was read.
    forgotten: [u64; FORGOTTEN_WORDS],
    /// When the first of these bits was set.
    forgotten_ms: u64,
}

impl Record for Reader {
    const KIND: u8 = 69;
}

impl Reader {
    pub(super) fn new(id: UserId) -> Self {
        Self {
            id,
            reads: Vec::new(),
            times_s: Vec::new(),
            tags: Vec::new(),
            authors: Vec::new(),
            choices: None,
            newest: TopList::default(),
            tokens: 0,
            refilled_ms: 0,
            uncounted: Vec::new(),
            forgotten: [0; FORGOTTEN_WORDS],
            forgotten_ms: 0,
        }
    }

    /// Forgets everything but the posts that others may read.
    pub(super) fn erase(&mut self) {
        let newest = std::mem::take(&mut self.newest);
        *self = Self { newest, ..Self::new(self.id) };
    }

    pub(super) fn reads(&self) -> &[u32] {
        &self.reads
    }

    pub(super) fn has_read(&self, post: u32) -> bool {
        self.reads.contains(&post)
    }

    /// The recent reads with their times in seconds, newest first.
    pub(super) fn recent(&self) -> impl Iterator<Item = (u32, u32)> + Clone + '_ {
        self.reads.iter().rev().copied().zip(self.times_s.iter().rev().copied())
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
        if self.reads.len() >= settings.reads_max {
            match self.uncounted.first() {
                Some(at) => self.remove_at(usize::from(*at)),
                None if is_counted => self.remove_at(0),
                None => return,
            }
        }
        if !is_counted {
            push_bounded(&mut self.uncounted, self.reads.len() as u16, settings.reads_max);
        }
        push_bounded(&mut self.reads, post, settings.reads_max);
        let seconds = u32::try_from(now_ms / 1000).unwrap_or(u32::MAX);
        push_bounded(&mut self.times_s, seconds, settings.recent_max);
    }

    /// Forgets a read. It does not count again for a while: see `forgotten`.
    pub(super) fn remove_read(&mut self, post: u32) {
        let Some(at) = self.reads.iter().position(|read| *read == post) else { return };
        if !self.has_forgotten() {
            // Within a minute of the last read that counted: whoever forgets says not when.
            self.forgotten_ms = self.refilled_ms;
        }
        let (word, bit) = forgotten_bit(post);
        self.forgotten[word] |= bit;
        self.remove_at(at);
    }

    /// Whether a read of this post, which arrives now, would count: it must not have been deleted
    /// before, and a token must be left. A reader has so many tokens at once and gets a new one from
    /// time to time, so that a flood of reads moves little.
    pub(super) fn would_count(&self, settings: &Settings, post: u32, arrived_ms: u64) -> bool {
        let (word, bit) = forgotten_bit(post);
        let is_kept = arrived_ms < self.forgotten_ms.saturating_add(FORGOTTEN_MS);
        let was_deleted = is_kept && self.forgotten[word] & bit != 0;
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
        if arrived_ms >= self.forgotten_ms.saturating_add(FORGOTTEN_MS) {
            self.forgotten = [0; FORGOTTEN_WORDS];
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

    fn has_forgotten(&self) -> bool {
        self.forgotten != [0; FORGOTTEN_WORDS]
    }

    /// Tokens that came since the last time.
    fn refill(&self, settings: &Settings, arrived_ms: u64) -> u64 {
        arrived_ms.saturating_sub(self.refilled_ms) / settings.refill_ms
    }

    fn remove_at(&mut self, at: usize) {
        let from_end = self.reads.len() - at;
        self.reads.remove(at);
        if from_end <= self.times_s.len() {
            let at = self.times_s.len() - from_end;
            self.times_s.remove(at);
        }
        let place = at as u16;
        self.uncounted.retain(|uncounted| *uncounted != place);
        self.uncounted.iter_mut().filter(|later| **later > place).for_each(|later| *later -= 1);
    }

    /// Likes tags and an author a little more, everything else a little less.
    pub(super) fn like(&mut self, liked: &[u32], author: Option<u32>, tags: &mut Tags) {
        raise(&mut self.tags, liked, TAGS_MAX, |new, old| {
            tags.hold_again(new);
            old.into_iter().for_each(|old| tags.release(old));
        });
        raise(&mut self.authors, author.as_slice(), AUTHORS_MAX, |_, _| {});
    }

    /// The tags that it refers to, as often as it does.
    pub(super) fn held_tags(&self) -> impl Iterator<Item = u32> + '_ {
        let chosen =
            self.choices.iter().flat_map(|it| it.followed_tags.iter().chain(&it.muted_tags));
        self.tags.iter().map(|(tag, _)| *tag).chain(chosen.copied())
    }

    /// Likes tags and an author half as much.
    pub(super) fn like_less(&mut self, tags: &[u32], author: Option<u32>) {
        for (interests, liked) in [(&mut self.tags, tags), (&mut self.authors, author.as_slice())] {
            interests.iter_mut().filter(|(what, _)| liked.contains(what)).for_each(|i| i.1 /= 2);
        }
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
        (self.reads.capacity() + self.times_s.capacity()) * 4
            + (self.tags.capacity() + self.authors.capacity()) * size_of::<Interest>()
            + self.uncounted.capacity() * 2
            + choices
            + self.newest.heap_bytes()
    }

    /// The state in words, for a digest.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let interests = self.tags.iter().chain(&self.authors);
        let choices = self.choices.iter().flat_map(|choices| {
            choices.lists().into_iter().flat_map(|list| {
                std::iter::once(list.len() as u64).chain(list.iter().map(|slot| u64::from(*slot)))
            })
        });
        let [a, b, c, d] = self.forgotten;
        let forgotten = self.has_forgotten().then_some([a, b, c, d, self.forgotten_ms]);
        [self.id.0, u64::from(self.tokens), self.refilled_ms, self.reads.len() as u64]
            .into_iter()
            .chain(self.reads.iter().map(|read| u64::from(*read)))
            .chain(self.times_s.iter().map(|time| u64::from(*time)))
            .chain(interests.map(|(what, weight)| u64::from(*what) << 32 | u64::from(*weight)))
            .chain(choices)
            .chain(self.uncounted.iter().map(|place| u64::from(*place)))
            .chain(forgotten.into_iter().flatten())
            .chain(self.newest.words())
    }
}

/// Adds at the end, and drops the first ones where there would be too many. Grows by half, not
/// twofold: there are a million of these.
fn push_bounded<T>(list: &mut Vec<T>, value: T, most: usize) {
    if list.len() >= most {
        // More than one where a bound became lower.
        list.drain(..=list.len() - most);
    } else if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 2).max(4).min(most - list.len()));
    }
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

/// Raises interests; `changed` hears what came in and what went for it.
fn raise(
    interests: &mut Vec<Interest>,
    liked: &[u32],
    most: usize,
    mut changed: impl FnMut(u32, Option<u32>),
) {
    if liked.is_empty() {
        return;
    }
    for (_, weight) in interests.iter_mut() {
        // An interest halves in about 22 reads.
        *weight -= *weight / 32;
    }
    for what in liked {
        if let Some((_, weight)) = interests.iter_mut().find(|(known, _)| known == what) {
            *weight += INTEREST;
            continue;
        }
        if interests.len() < most {
            if interests.len() == interests.capacity() {
                interests.reserve_exact((interests.len() / 2).max(4).min(most - interests.len()));
            }
            interests.push((*what, INTEREST));
            changed(*what, None);
        } else if let Some(weakest) = interests.iter_mut().min_by_key(|(_, weight)| *weight) {
            changed(*what, Some(weakest.0));
            *weakest = (*what, INTEREST);
        }
    }
}

/// An interest in reads.
pub(super) fn strength(interests: &[Interest], what: u32) -> f32 {
    let known = interests.iter().find(|(known, _)| *known == what);
    known.map_or(0.0, |(_, weight)| *weight as f32 / INTEREST as f32)
}
