//! What is kept of a reader.

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::settings::Settings;
use crate::actors::recommendation::engine::top_list::TopList;
use crate::ids::UserId;
use crate::store::codec::Record;

/// Tags whose weight is kept.
const TAGS_MAX: usize = 24;
/// Authors whose weight is kept.
const AUTHORS_MAX: usize = 12;
/// Users followed or muted, tags followed or muted, posts hidden: the newest of each kind.
pub(super) const CHOICES_MAX: usize = 4_096;
/// What one read adds to the weight of each of its tags and its author.
const INTEREST: u32 = 1 << 10;

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
    /// Whether nothing of this author is shown.
    pub(super) fn hides_author(&self, author: u32) -> bool {
        [&self.muted, &self.blocks, &self.blocked_by].iter().any(|list| list.contains(&author))
    }

    /// All lists, in a fixed order.
    fn lists(&self) -> [&Vec<u32>; 7] {
        let Self { follows, followed_tags, muted, muted_tags, hidden, blocks, blocked_by } = self;
        [follows, followed_tags, muted, muted_tags, hidden, blocks, blocked_by]
    }
}

/// A reader or author, in memory as in its row. About 200 bytes, 4 per read and 12 per recent read
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
    pub(super) fn recent(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.reads.iter().rev().copied().zip(self.times_s.iter().rev().copied())
    }

    /// Adds a read, and forgets the oldest where there are too many.
    pub(super) fn add_read(&mut self, settings: &Settings, post: u32, now_ms: u64) {
        push_bounded(&mut self.reads, post, settings.reads_max);
        let seconds = u32::try_from(now_ms / 1000).unwrap_or(u32::MAX);
        push_bounded(&mut self.times_s, seconds, settings.recent_max);
    }

    /// Forgets a read.
    pub(super) fn remove_read(&mut self, post: u32) {
        let Some(at) = self.reads.iter().position(|read| *read == post) else { return };
        let from_end = self.reads.len() - at;
        self.reads.remove(at);
        if from_end <= self.times_s.len() {
            let at = self.times_s.len() - from_end;
            self.times_s.remove(at);
        }
    }

    /// Takes the right to count once. A reader has so many at once and gets a new one from time to
    /// time, so that a flood of reads moves little.
    pub(super) fn may_count(&mut self, settings: &Settings, now_ms: u64) -> bool {
        let elapsed = now_ms.saturating_sub(self.refilled_ms) / settings.refill_ms;
        if elapsed > 0 {
            let refilled = u64::from(self.tokens).saturating_add(elapsed);
            self.tokens = refilled.min(settings.burst_max.into()) as u16;
            self.refilled_ms = now_ms - now_ms % settings.refill_ms;
        }
        let may = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        may
    }

    /// Likes tags and an author a little more, everything else a little less.
    pub(super) fn like(&mut self, tags: &[u32], author: Option<u32>) {
        raise(&mut self.tags, tags, TAGS_MAX);
        raise(&mut self.authors, author.as_slice(), AUTHORS_MAX);
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
        [self.id.0, u64::from(self.tokens), self.refilled_ms, self.reads.len() as u64]
            .into_iter()
            .chain(self.reads.iter().map(|read| u64::from(*read)))
            .chain(self.times_s.iter().map(|time| u64::from(*time)))
            .chain(interests.map(|(what, weight)| u64::from(*what) << 32 | u64::from(*weight)))
            .chain(choices)
            .chain(self.newest.words())
    }
}

/// Adds at the end, and drops the first where there would be too many. Grows by half, not twofold:
/// there are a million of these.
fn push_bounded(list: &mut Vec<u32>, value: u32, most: usize) {
    if list.len() >= most {
        list.remove(0);
    } else if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 2).max(4).min(most - list.len()));
    }
    list.push(value);
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

fn raise(interests: &mut Vec<Interest>, liked: &[u32], most: usize) {
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
        } else if let Some(weakest) = interests.iter_mut().min_by_key(|(_, weight)| *weight) {
            *weakest = (*what, INTEREST);
        }
    }
}

/// An interest in reads.
pub(super) fn strength(interests: &[Interest], what: u32) -> f32 {
    let known = interests.iter().find(|(known, _)| *known == what);
    known.map_or(0.0, |(_, weight)| *weight as f32 / INTEREST as f32)
}
