//! Counts of what was foreseen, with their uncertainty.

use std::collections::BTreeSet;

/// Places of a list that count.
pub(super) const PLACES: usize = 10;
/// Standard errors on each side of a 95 % interval.
const NORMAL_95: f64 = 1.96;

/// A mean with half the width of its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Mean {
    pub(super) value: f64,
    pub(super) margin: f64,
}

/// What one method foresaw.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    predictions: u64,
    hits: Sums,
    gains: Sums,
    posts: BTreeSet<u64>,
    /// Sum over lists of the largest share of one author, and such lists.
    author_share: f64,
    authored: u64,
}

impl Tally {
    /// A list for a reader who then chose `chosen`; readers are numbered from 0.
    pub(super) fn add(&mut self, reader: usize, list: &[u64], chosen: u64) {
        self.predictions += 1;
        self.posts.extend(list);
        let place = list.iter().take(PLACES).position(|post| *post == chosen);
        let gain = place.map_or(0.0, |place| 1.0 / (place as f64 + 2.0).log2());
        self.hits.add(reader, if place.is_some() { 1.0 } else { 0.0 });
        self.gains.add(reader, gain);
    }

    /// The authors of the same list.
    pub(super) fn add_authors(&mut self, authors: &[u64]) {
        let most = authors.iter().map(|one| authors.iter().filter(|other| *other == one).count());
        if let Some(most) = most.max() {
            self.author_share += most as f64 / authors.len() as f64;
            self.authored += 1;
        }
    }

    pub(super) fn predictions(&self) -> u64 {
        self.predictions
    }

    /// Share of predictions whose post was among the ten.
    pub(super) fn hit_rate(&self) -> Mean {
        self.hits.mean()
    }

    /// Mean of 1/log2(rank + 1), 0 where the post was not among the ten.
    pub(super) fn ndcg(&self) -> Mean {
        self.gains.mean()
    }

    /// Share of all posts that were in any list.
    pub(super) fn coverage(&self, posts: usize) -> f64 {
        self.posts.len() as f64 / posts.max(1) as f64
    }

    /// Mean share of a list that its most frequent author has; `None` where no author is known.
    pub(super) fn author_share(&self) -> Option<f64> {
        (self.authored > 0).then(|| self.author_share / self.authored as f64)
    }
}

/// Sums by reader: the predictions of one reader are not independent of each other, and an interval
/// that takes them for so would be too narrow.
#[derive(Debug, Clone, Default)]
struct Sums(Vec<(f64, f64)>);

impl Sums {
    fn add(&mut self, reader: usize, value: f64) {
        if self.0.len() <= reader {
            self.0.resize(reader + 1, (0.0, 0.0));
        }
        let (count, sum) = &mut self.0[reader];
        *count += 1.0;
        *sum += value;
    }

    fn mean(&self) -> Mean {
        let (count, sum) =
            self.0.iter().fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
        if count == 0.0 {
            return Mean::default();
        }
        let value = sum / count;
        let squares: f64 = self.0.iter().map(|(count, sum)| (sum - count * value).powi(2)).sum();
        Mean { value, margin: NORMAL_95 * squares.sqrt() / count }
    }
}

/// Times of one kind of work, in nanoseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Times(Vec<u32>);

impl Times {
    pub(super) fn add(&mut self, elapsed: std::time::Duration) {
        self.0.push(u32::try_from(elapsed.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Mean in microseconds.
    pub(super) fn mean_us(&self) -> f64 {
        let sum: u64 = self.0.iter().map(|time| u64::from(*time)).sum();
        sum as f64 / 1e3 / self.0.len().max(1) as f64
    }

    /// The time in microseconds that 99 in 100 do not exceed.
    pub(super) fn p99_us(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        sorted.get(at).map_or(0.0, |time| f64::from(*time) / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_and_gains_are_those_of_the_place() {
        let mut tally = Tally::default();
        tally.add(0, &[1, 2, 3], 1);
        tally.add(1, &[1, 2, 3], 3);
        tally.add(1, &[1, 2, 4], 9);
        tally.add(2, &[], 9);
        assert_eq!(tally.predictions(), 4);
        assert!((tally.hit_rate().value - 0.5).abs() < 1e-9);
        assert!((tally.ndcg().value - 0.375).abs() < 1e-9);
        assert!((tally.coverage(8) - 0.5).abs() < 1e-9);
        assert!(tally.hit_rate().margin > 0.0);
        assert_eq!(tally.author_share(), None);
        tally.add_authors(&[7, 7, 8, 9]);
        assert_eq!(tally.author_share(), Some(0.5));
    }

    #[test]
    fn predictions_of_one_reader_count_as_one_opinion() {
        let (mut one, mut many) = (Tally::default(), Tally::default());
        for n in 0..100 {
            let chosen = if n % 2 == 0 { 1 } else { 9 };
            one.add(n % 2, &[1], chosen);
            many.add(n, &[1], chosen);
        }
        assert!(one.hit_rate().margin > 5.0 * many.hit_rate().margin);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut times = Times::default();
        (1..=100_u64).rev().for_each(|n| times.add(std::time::Duration::from_micros(n)));
        assert_eq!((times.mean_us(), times.p99_us()), (50.5, 99.0));
        assert_eq!(Times::default().p99_us(), 0.0);
    }
}
