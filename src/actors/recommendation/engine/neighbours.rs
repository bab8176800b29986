//! What is read together with a post.

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::history::grow;

/// Half-lives that pairs are kept with: a short one for what goes together now, and a long one for
/// what always does.
pub(super) const SPEEDS: usize = 2;

/// What one reader adds to a pair of reads that followed each other.
pub(super) const PAIR: u16 = 64;

/// Another post, and how often it was read by the same readers; in [`PAIR`], by speed. 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Neighbour {
    /// The other.
    pub(super) post: u32,
    /// Readers of both, nearer reads counting more.
    pub(super) together: [u16; SPEEDS],
    /// Readers that went from here to there with nothing in between.
    pub(super) next: [u16; SPEEDS],
}

impl Neighbour {
    /// What goes together now counts more, or yesterday's pairs would keep out today's.
    fn strength(&self) -> u32 {
        let weight = |speed: usize| u32::from(self.together[speed]) + u32::from(self.next[speed]);
        4 * weight(0) + weight(1)
    }

    fn is_near_end(&self) -> bool {
        self.together.iter().chain(&self.next).any(|weight| *weight > u16::MAX / 2)
    }
}

/// Sums of pairs, fading with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) together: [u32; SPEEDS],
    pub(super) next: [u32; SPEEDS],
}

/// The neighbours of a post, in the order in which they came; the weakest makes room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Neighbours {
    all: Vec<Neighbour>,
    /// Of what is and was in `all`.
    sums: Sums,
    /// The quarter half-lives as of which the weights are kept.
    periods: [u32; SPEEDS],
}

/// 2^(-n/4) in 2^-16.
const QUARTERS: [u64; 4] = [65_536, 55_109, 46_341, 38_968];

impl Neighbours {
    /// Adds to a pair; `periods` is the time in quarters of each half-life.
    pub(super) fn add(
        &mut self,
        post: u32,
        together: u16,
        next: u16,
        periods: [u32; SPEEDS],
        most: usize,
    ) {
        self.fade(periods);
        for speed in 0..SPEEDS {
            let Sums { together: all_together, next: all_next } = &mut self.sums;
            all_together[speed] = all_together[speed].saturating_add(together.into());
            all_next[speed] = all_next[speed].saturating_add(next.into());
        }
        if let Some(at) = self.all.iter().position(|neighbour| neighbour.post == post) {
            if self.all[at].is_near_end() {
                // Shares stay what they are.
                (0..SPEEDS).for_each(|speed| self.scale(speed, QUARTERS[0], 1));
            }
            let known = &mut self.all[at];
            known.together = known.together.map(|weight| weight.saturating_add(together));
            known.next = known.next.map(|weight| weight.saturating_add(next));
            return;
        }
        let new = Neighbour { post, together: [together; SPEEDS], next: [next; SPEEDS] };
        if self.all.len() < most {
            // In steps, so that few posts pay for room that they do not use.
            grow(&mut self.all, most);
            self.all.push(new);
        } else if let Some(weakest) = self.all.iter_mut().min_by_key(|known| known.strength()) {
            // Of equals the first, which came earliest.
            *weakest = new;
        }
    }

    /// The neighbours.
    pub(super) fn all(&self) -> &[Neighbour] {
        &self.all
    }

    /// The sums, those of evicted neighbours included.
    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Neighbour>()
    }

    /// The state in words, for a digest.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let sums = self.sums.together.iter().chain(&self.sums.next).chain(&self.periods);
        let pairs = self.all.iter().flat_map(|neighbour| {
            let weights = neighbour.together.iter().chain(&neighbour.next);
            let packed = weights.fold(0, |packed, weight| packed << 16 | u64::from(*weight));
            [u64::from(neighbour.post), packed]
        });
        sums.map(|sum| u64::from(*sum)).chain(pairs)
    }

    fn fade(&mut self, periods: [u32; SPEEDS]) {
        for (speed, period) in periods.into_iter().enumerate() {
            // Late news weigh as if they came now: the difference is below a half-life.
            let elapsed = period.saturating_sub(self.periods[speed]);
            if elapsed > 0 {
                self.periods[speed] = period;
                self.scale(speed, QUARTERS[(elapsed % 4) as usize], elapsed / 4);
            }
        }
    }

    fn scale(&mut self, speed: usize, factor: u64, shift: u32) {
        let shift = 16 + shift.min(40);
        let scaled = |value: u64| (value * factor) >> shift;
        for neighbour in &mut self.all {
            for weight in [&mut neighbour.together[speed], &mut neighbour.next[speed]] {
                *weight = scaled((*weight).into()) as u16;
            }
        }
        for sum in [&mut self.sums.together[speed], &mut self.sums.next[speed]] {
            *sum = scaled((*sum).into()) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posts(row: &Neighbours) -> Vec<u32> {
        row.all().iter().map(|neighbour| neighbour.post).collect()
    }

    #[test]
    fn the_weakest_makes_room_and_weights_fade_at_their_speed() {
        let mut row = Neighbours::default();
        row.add(1, PAIR, PAIR, [0, 0], 2);
        row.add(2, PAIR, 0, [0, 0], 2);
        row.add(3, PAIR, 0, [0, 0], 2);
        assert_eq!(posts(&row), [1, 3]);
        row.add(3, PAIR, 0, [4, 0], 2);
        assert_eq!(row.all()[0], Neighbour { post: 1, together: [32, 64], next: [32, 64] });
        assert_eq!(row.all()[1].together, [32 + 64, 128]);
        assert_eq!(row.sums().together, [3 * 32 + 64, 4 * 64]);
        row.add(3, PAIR, 0, [1_000, 1_000], 2);
        assert_eq!(row.sums().together, [64, 64]);
        row.clear();
        assert_eq!((row.all().len(), row.sums()), (0, &Sums::default()));
    }

    #[test]
    fn a_pair_that_is_read_for_ever_does_not_overflow() {
        let mut row = Neighbours::default();
        row.add(2, PAIR, 0, [0, 0], 2);
        for _ in 0..100_000 {
            row.add(1, PAIR, PAIR, [0, 0], 2);
        }
        assert!(row.all()[1].together[1] > 16_000);
    }
}
