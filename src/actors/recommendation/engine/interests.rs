//! What a reader likes.

use crate::actors::recommendation::engine::history::grow;

/// What one read adds to the weight of each of its tags and its author.
const READ: u16 = 1 << 10;

/// A tag or an author, and how much a reader likes it. A weight loses a 32nd with each read before one
/// is added, so it stays below 33 of them; where a post names a tag twice, it ends at 64. 2 bytes are
/// enough, and there are 36 of these in each of a million readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, packed(2))]
pub(super) struct Interest {
    /// Slot of the tag or author.
    pub(super) what: u32,
    /// How much, in [`READ`].
    pub(super) weight: u16,
}

/// Interests of one kind, in the order in which they came; the weakest makes room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interests(Vec<Interest>);

impl Interests {
    /// The interests.
    pub(super) fn all(&self) -> &[Interest] {
        &self.0
    }

    /// Likes some a little more, everything else a little less; `changed` hears what came in and what
    /// went for it.
    pub(super) fn raise(
        &mut self,
        liked: &[u32],
        most: usize,
        mut changed: impl FnMut(u32, Option<u32>),
    ) {
        if liked.is_empty() {
            return;
        }
        for interest in &mut self.0 {
            // An interest halves in about 22 reads.
            interest.weight -= interest.weight / 32;
        }
        for what in liked.iter().copied() {
            if let Some(known) = self.0.iter_mut().find(|known| known.what == what) {
                known.weight = known.weight.saturating_add(READ);
                continue;
            }
            let new = Interest { what, weight: READ };
            if self.0.len() < most {
                grow(&mut self.0, most);
                self.0.push(new);
                changed(what, None);
            } else if let Some(weakest) = self.0.iter_mut().min_by_key(|known| known.weight) {
                changed(what, Some(weakest.what));
                *weakest = new;
            }
        }
    }

    /// Likes some half as much.
    pub(super) fn lower(&mut self, less: &[u32]) {
        for interest in &mut self.0 {
            let what = interest.what;
            if less.contains(&what) {
                interest.weight /= 2;
            }
        }
    }

    /// As pairs of slot and weight: so they are written.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().map(|interest| (interest.what, interest.weight.into()))
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Interest>()
    }
}

impl FromIterator<(u32, u32)> for Interests {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(pairs: I) -> Self {
        let weight = |weight| u16::try_from(weight).unwrap_or(u16::MAX);
        let interest = |(what, strength)| Interest { what, weight: weight(strength) };
        Self(pairs.into_iter().map(interest).collect())
    }
}

/// An interest in reads.
pub(super) fn strength(interests: &[Interest], what: u32) -> f32 {
    let known = interests.iter().find(|known| known.what == what);
    known.map_or(0.0, |known| f32::from(known.weight) / f32::from(READ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_makes_room_and_a_weight_has_an_end() {
        let mut interests = Interests::default();
        for _ in 0..1_000 {
            interests.raise(&[1, 2], 3, |_, _| {});
        }
        let highest = strength(interests.all(), 1);
        assert!((31.0..33.0).contains(&highest), "{highest}");
        interests.raise(&[3], 3, |new, old| assert_eq!((new, old), (3, None)));
        interests.lower(&[2]);
        interests.raise(&[4], 3, |new, old| assert_eq!((new, old), (4, Some(3))));
        let pairs: Vec<(u32, u32)> = interests.pairs().collect();
        assert_eq!(pairs.iter().map(|(what, _)| *what).collect::<Vec<_>>(), [1, 2, 4]);
        assert!(pairs[0].1 > pairs[1].1 && pairs[1].1 > pairs[2].1, "{pairs:?}");
        assert_eq!(pairs.into_iter().collect::<Interests>(), interests);
    }
}
