//! Random numbers that are the same in every release, which those of a library need not be.

/// SplitMix64: small, quick, and good enough for what only has to look natural.
pub(super) struct Random(u64);

impl Random {
    /// The numbers of one thing: they do not depend on how many were drawn for another.
    pub(super) fn new(seed: u64, stream: u64, number: u64) -> Self {
        let mut random = Self(seed ^ stream.rotate_left(48));
        let mixed = random.next() ^ number;
        let mut random = Self(mixed);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number below `end`, small ones far more often.
    pub(super) fn skewed(&mut self, end: u64) -> u64 {
        let high = self.below(end) + 1;
        self.below(high)
    }

    pub(super) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_fixed_for_ever_and_in_range() {
        let mut random = Random(0);
        assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
        let mut random = Random::new(1, 2, 3);
        assert!((0..1000).all(|_| random.below(7) < 7 && random.skewed(5) < 5));
    }
}
