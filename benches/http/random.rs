//! Random numbers that are the same for the same seed, and Zipf-distributed ones.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, evenly.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// A number from 0 up to and without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Brings them into some order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

/// Draws numbers below `n`, of which some are far more frequent than others, in constant time
/// (Walker's alias method). Which ones is shuffled: frequent is not the same as old.
pub struct Zipf {
    cells: Vec<(f32, u32, u32)>,
}

impl Zipf {
    /// The number of rank `r` has a weight of `1 / r^exponent`.
    pub fn new(n: usize, exponent: f64, seed: u64) -> Self {
        let mut names: Vec<u32> = (0..n as u32).collect();
        Random::new(seed).shuffle(&mut names);
        let weights: Vec<f64> = (1..=n).map(|rank| (rank as f64).powf(-exponent)).collect();
        let scale = n as f64 / weights.iter().sum::<f64>();
        let mut parts: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..n).partition(|rank| parts[*rank] < 1.0);
        let mut cells: Vec<_> = names.iter().map(|name| (1.0_f32, *name, *name)).collect();
        while let (Some(low), Some(high)) = (small.pop(), large.pop()) {
            cells[low] = (parts[low] as f32, names[low], names[high]);
            parts[high] -= 1.0 - parts[low];
            if parts[high] < 1.0 { small.push(high) } else { large.push(high) }
        }
        Self { cells }
    }

    /// The next number.
    pub fn draw(&self, random: &mut Random) -> usize {
        let (part, own, other) = self.cells[random.below(self.cells.len())];
        if (random.unit() as f32) < part { own as usize } else { other as usize }
    }
}
