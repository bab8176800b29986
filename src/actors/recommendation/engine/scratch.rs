//! Memory for one question, reused for the next.

use std::cmp::Ordering;

use crate::actors::recommendation::engine::item::Source;
use crate::actors::recommendation::engine::neighbours::SPEEDS;
use crate::actors::recommendation::engine::reader::Choices;

/// In place of a candidate: this post must not be recommended to this reader.
pub(super) const EXCLUDED: u16 = u16::MAX;
/// In place of a candidate: there was no room for this post, which the reader may see.
pub(super) const NOT_KEPT: u16 = EXCLUDED - 1;
const EMPTY: u32 = u32::MAX;
const PLACES_MIN: usize = 1024;

/// What co-reads with a reader's recent reads say of a post.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence {
    /// How much more often it is read with them than by chance, in bits, the nearer the more.
    pub(super) lift: f32,
    /// Of that, by the last read alone.
    pub(super) last: f32,
    /// Of that, by the reads of this visit.
    pub(super) visit: f32,
    /// Share of the readers of them that read it too.
    pub(super) together: f32,
    /// Share of the readers of the last one that went here next.
    pub(super) next: f32,
    /// How much more often than by chance that is, in bits.
    pub(super) next_lift: f32,
}

/// A post that may be recommended, and what the history says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) post: u32,
    /// Where it came from first.
    pub(super) source: Source,
    /// What co-reads say, by speed.
    pub(super) pairs: [Evidence; SPEEDS],
    /// Its share of all pairs, by speed.
    pub(super) share: [f32; SPEEDS],
    /// The recent read that says most for it.
    pub(super) because: u32,
    pub(super) because_lift: f32,
    /// The tag whose list brought it; [`EMPTY`] for every other list.
    pub(super) tag: u32,
}

impl Candidate {
    pub(super) fn new(post: u32, source: Source, share: [f32; SPEEDS]) -> Self {
        Self {
            post,
            source,
            pairs: [Evidence::default(); SPEEDS],
            share,
            because: EMPTY,
            // So that a read of which nothing much follows is known nevertheless.
            because_lift: -1.0,
            tag: EMPTY,
        }
    }
}

/// What co-reads alone say of a post that is in no list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hint {
    pub(super) post: u32,
    /// As [`Evidence::together`], by speed.
    pub(super) together: [f32; SPEEDS],
}

impl Hint {
    /// The stronger one first.
    pub(super) fn stronger(&self, other: &Self) -> Ordering {
        let sum = |hint: &Self| hint.together[0] + hint.together[1];
        sum(other).total_cmp(&sum(self)).then(self.post.cmp(&other.post))
    }
}

/// Memory for one question at a time. Keep it and pass it again: then a question allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) map: SlotMap,
    pub(super) candidates: Vec<Candidate>,
    pub(super) hints: Vec<Hint>,
    /// Rows of features, one a candidate.
    pub(super) features: Vec<f32>,
    pub(super) normal: Vec<f32>,
    pub(super) scores: Vec<f32>,
    /// Indexes of candidates, best first.
    pub(super) ranking: Vec<u16>,
    /// Indexes of candidates that few have seen, newest first; and those that may still be chosen.
    pub(super) fresh: Vec<u16>,
    pub(super) pool: Vec<u16>,
    /// Posts that the reader has seen on earlier pages.
    pub(super) exclude: Vec<u32>,
    /// Authors whom the reader follows, then tags.
    pub(super) follows: Vec<u32>,
    pub(super) followed_authors: usize,
    pub(super) unseen: Unseen,
    /// Authors of the newest posts.
    pub(super) authors: Vec<u32>,
}

/// Whose posts, and posts with which tags, the reader must not be shown. In place of the reader's
/// lists, which hold thousands and would be searched for each candidate.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    authors: SlotMap,
    tags: SlotMap,
}

impl Unseen {
    /// Takes over what a reader chose.
    pub(super) fn fill(&mut self, choices: Option<&Choices>) {
        self.authors.clear();
        self.tags.clear();
        let Some(choices) = choices else { return };
        for author in choices.hidden_authors() {
            self.authors.get_or_insert(*author, EXCLUDED);
        }
        for tag in &choices.muted_tags {
            self.tags.get_or_insert(*tag, EXCLUDED);
        }
    }

    /// Whether a post must not be shown for its author or a tag.
    pub(super) fn hides(&self, author: u32, tags: &[u32]) -> bool {
        self.authors.find(author).is_some() || tags.iter().any(|tag| self.tags.find(*tag).is_some())
    }
}

/// From posts, or authors or tags, to small numbers; never iterated.
#[derive(Debug, Default)]
pub(super) struct SlotMap {
    places: Vec<(u32, u16)>,
    used: usize,
}

impl SlotMap {
    pub(super) fn clear(&mut self) {
        if self.used > 0 {
            self.places.fill((EMPTY, 0));
        }
        self.used = 0;
    }

    /// The number of a post, after setting it to `value` if it had none.
    #[inline]
    pub(super) fn get_or_insert(&mut self, post: u32, value: u16) -> u16 {
        if self.used * 2 >= self.places.len() {
            self.grow();
        }
        let mut at = self.first(post);
        loop {
            let place = &mut self.places[at];
            if place.0 == EMPTY {
                *place = (post, value);
                self.used += 1;
                return value;
            }
            if place.0 == post {
                return place.1;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }

    /// The number of a post.
    pub(super) fn find(&self, post: u32) -> Option<u16> {
        if self.used == 0 {
            return None;
        }
        let mut at = self.first(post);
        while self.places[at].0 != EMPTY {
            if self.places[at].0 == post {
                return Some(self.places[at].1);
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        None
    }

    /// Sets the number of a post that is in the map.
    pub(super) fn set(&mut self, post: u32, value: u16) {
        if self.used == 0 {
            return;
        }
        let mut at = self.first(post);
        while self.places[at].0 != post {
            if self.places[at].0 == EMPTY {
                return;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at].1 = value;
    }

    #[inline]
    fn first(&self, post: u32) -> usize {
        // Fibonacci hashing; the high bits are the good ones.
        let hash = post.wrapping_mul(0x9e37_79b9);
        (hash >> (32 - self.places.len().trailing_zeros())) as usize
    }

    fn grow(&mut self) {
        let bigger = vec![(EMPTY, 0); (self.places.len() * 2).max(PLACES_MIN)];
        let places = std::mem::replace(&mut self.places, bigger);
        self.used = 0;
        for (post, value) in places {
            if post != EMPTY {
                self.get_or_insert(post, value);
            }
        }
    }
}
