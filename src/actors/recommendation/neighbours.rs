//! What is read together with a post.

/// Another post, and how often it was read by the same readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// The other.
    pub(super) post: u32,
    /// Readers of both, nearer reads counting more; in [`PAIR`].
    pub(super) together: u16,
    /// Readers that went from here to there with nothing in between; in [`PAIR`].
    pub(super) next: u16,
}

/// What one reader adds to a pair of reads that followed each other.
pub(super) const PAIR: u16 = 64;

/// The neighbours of a post, in the order in which they came; the weakest makes room.
#[derive(Debug, Clone, Default)]
pub(super) struct Neighbours {
    all: Vec<Neighbour>,
    /// Sums of what is and was in `all`, fading with it.
    pub(super) together_sum: u32,
    pub(super) next_sum: u32,
    /// The quarter half-life in which the weights are kept.
    period: u32,
}

/// 2^(-n/4) in 2^-16.
const QUARTERS: [u64; 4] = [65_536, 55_109, 46_341, 38_968];

impl Neighbours {
    /// Adds to a pair; `period` is the time in quarters of the half-life.
    pub(super) fn add(&mut self, post: u32, together: u16, next: u16, period: u32, most: usize) {
        self.fade(period);
        if self.all.iter().any(|n| n.together > u16::MAX / 2 || n.next > u16::MAX / 2) {
            self.scale(QUARTERS[0], 1);
        }
        self.together_sum = self.together_sum.saturating_add(u32::from(together));
        self.next_sum = self.next_sum.saturating_add(u32::from(next));
        if let Some(known) = self.all.iter_mut().find(|n| n.post == post) {
            known.together = known.together.saturating_add(together);
            known.next = known.next.saturating_add(next);
            return;
        }
        let new = Neighbour { post, together, next };
        if self.all.len() < most {
            // In steps, so that few posts pay for room that they do not use.
            if self.all.len() == self.all.capacity() {
                self.all.reserve_exact((self.all.len() / 2).max(4).min(most - self.all.len()));
            }
            self.all.push(new);
            return;
        }
        // `min_by_key` finds the first of equals: the one that came earliest.
        let strength = |n: &Neighbour| u32::from(n.together) + u32::from(n.next);
        if let Some(weakest) = self.all.iter_mut().min_by_key(|n| strength(n)) {
            *weakest = new;
        }
    }

    /// The neighbours.
    pub(super) fn all(&self) -> &[Neighbour] {
        &self.all
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Neighbour>()
    }

    /// The state in words, for a digest.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let sums = u64::from(self.together_sum) << 32 | u64::from(self.next_sum);
        let pairs = self.all.iter().map(|n| {
            u64::from(n.post) << 32 | u64::from(n.together) << 16 | u64::from(n.next)
        });
        [sums, u64::from(self.period)].into_iter().chain(pairs)
    }

    fn fade(&mut self, period: u32) {
        // Late news weigh as if they came now: the difference is below a half-life.
        let elapsed = period.saturating_sub(self.period);
        if elapsed > 0 {
            self.period = period;
            self.scale(QUARTERS[(elapsed % 4) as usize], elapsed / 4);
        }
    }

    fn scale(&mut self, factor: u64, shift: u32) {
        let shift = 16 + shift.min(40);
        let scaled = |value: u64| (value * factor) >> shift;
        for n in &mut self.all {
            n.together = scaled(n.together.into()) as u16;
            n.next = scaled(n.next.into()) as u16;
        }
        self.together_sum = scaled(self.together_sum.into()) as u32;
        self.next_sum = scaled(self.next_sum.into()) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_makes_room_and_weights_fade() {
        let mut row = Neighbours::default();
        row.add(1, PAIR, PAIR, 0, 2);
        row.add(2, PAIR, 0, 0, 2);
        row.add(3, PAIR, 0, 0, 2);
        assert_eq!(row.all().iter().map(|n| n.post).collect::<Vec<_>>(), [1, 3]);
        row.add(3, PAIR, 0, 4, 2);
        assert_eq!(row.all()[0], Neighbour { post: 1, together: 32, next: 32 });
        assert_eq!(row.all()[1].together, 32 + 64);
        assert_eq!(row.together_sum, 3 * 32 + 64);
        row.add(3, PAIR, 0, 1_000, 2);
        assert_eq!(row.together_sum, 64);
    }

    #[test]
    fn a_pair_that_is_read_for_ever_does_not_overflow() {
        let mut row = Neighbours::default();
        row.add(2, PAIR, 0, 0, 2);
        for _ in 0..100_000 {
            row.add(1, PAIR, PAIR, 0, 2);
        }
        assert!(row.all()[1].together > 16_000);
    }
}
