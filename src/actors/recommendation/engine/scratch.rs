//! Memory for one question, reused for the next.

use std::cmp::Ordering;

use crate::actors::recommendation::engine::item::Source;
use crate::actors::recommendation::engine::neighbours::SPEEDS;

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
    /// What the reader follows.
    pub(super) followed: Named,
    /// Whose posts, and posts with which tags, the reader must not be shown.
    pub(super) unseen: Named,
    /// Authors of the newest posts.
    pub(super) authors: Vec<u32>,
}

/// Authors and tags that a reader named. In place of the reader's lists, which hold thousands and would
/// be searched for each candidate.
#[derive(Debug, Default)]
pub(super) struct Named {
    authors: SlotMap,
    tags: SlotMap,
}

impl Named {
    /// Holds these and no others.
    pub(super) fn fill<'a>(
        &mut self,
        authors: impl IntoIterator<Item = &'a u32>,
        tags: impl IntoIterator<Item = &'a u32>,
    ) {
        self.authors.clear();
        for author in authors {
            self.authors.get_or_insert(*author, 0);
        }
        self.tags.clear();
        for tag in tags {
            self.tags.get_or_insert(*tag, 0);
        }
    }

    /// Whether the author is one of them.
    pub(super) fn has_author(&self, author: u32) -> bool {
        self.authors.find(author).is_some()
    }

    /// The first of some tags that is one of them.
    pub(super) fn tag_of(&self, tags: &[u32]) -> Option<u32> {
        tags.iter().copied().find(|tag| self.tags.find(*tag).is_some())
    }
}

/// From posts, or authors or tags, to small numbers; never iterated.
#[derive(Debug, Default)]
pub(super) struct SlotMap {
    places: Vec<Place>,
    used: usize,
    /// Places of another round are empty: so a map that was large once is cleared as fast as any.
    round: u16,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    post: u32,
    value: u16,
    round: u16,
}

impl SlotMap {
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.places.fill(Place::default());
            self.round = 1;
        }
    }

    /// The number of a post, after setting it to `value` if it had none.
    #[inline]
    pub(super) fn get_or_insert(&mut self, post: u32, value: u16) -> u16 {
        if self.used * 2 >= self.places.len() {
            self.grow();
        }
        let mut at = self.first(post);
        loop {
            let round = self.round;
            let place = &mut self.places[at];
            if place.round != round {
                *place = Place { post, value, round };
                self.used += 1;
                return value;
            }
            if place.post == post {
                return place.value;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }

    /// The number of a post.
    pub(super) fn find(&self, post: u32) -> Option<u16> {
        self.place_of(post).map(|at| self.places[at].value)
    }

    /// Sets the number of a post that is in the map.
    pub(super) fn set(&mut self, post: u32, value: u16) {
        if let Some(at) = self.place_of(post) {
            self.places[at].value = value;
        }
    }

    fn place_of(&self, post: u32) -> Option<usize> {
        if self.used == 0 {
            return None;
        }
        let mut at = self.first(post);
        while self.places[at].round == self.round {
            if self.places[at].post == post {
                return Some(at);
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        None
    }

    #[inline]
    fn first(&self, post: u32) -> usize {
        // Fibonacci hashing; the high bits are the good ones.
        let hash = post.wrapping_mul(0x9e37_79b9);
        (hash >> (32 - self.places.len().trailing_zeros())) as usize
    }

    fn grow(&mut self) {
        let bigger = vec![Place::default(); (self.places.len() * 2).max(PLACES_MIN)];
        let places = std::mem::replace(&mut self.places, bigger);
        let before = std::mem::replace(&mut self.round, 1);
        self.used = 0;
        for place in places.into_iter().filter(|place| place.round == before) {
            self.get_or_insert(place.post, place.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cleared_map_knows_nothing_of_any_round_before() {
        let mut map = SlotMap::default();
        assert_eq!((map.find(3), map.get_or_insert(3, 9)), (None, 9));
        // More rounds than can be told apart.
        for _ in 0..70_000 {
            map.clear();
            assert_eq!(map.find(4), None);
            assert_eq!((map.get_or_insert(4, 5), map.get_or_insert(4, 6)), (5, 5));
            map.set(4, 7);
            map.set(3, 8);
            assert_eq!((map.find(4), map.find(3)), (Some(7), None));
        }
        map.clear();
        for post in 0..5_000 {
            map.get_or_insert(post, post as u16);
        }
        assert!((0..5_000).all(|post| map.find(post) == Some(post as u16)));
        assert_eq!(map.find(5_000), None);
        map.clear();
        assert_eq!(map.get_or_insert(5_000, 1), 1);
        assert!((0..5_000).all(|post| map.find(post).is_none()));
    }
}
