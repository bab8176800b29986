//! What came of what was shown: counts per variant, exact and the same on every replica.
//!
//! **Invariants**: O1 a shown post is read at most once; O2 what waits for reads is bounded, the
//! oldest forgotten; O3 there is no floating point in what is kept.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::actors::recommendation::message::Exposure;
use crate::actors::recommendation::split::experiment::BUCKETS;
use crate::actors::recommendation::split::ring::Ring;
use crate::actors::signature::mix;
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::Record;

/// How long after it was shown a read of a post counts.
const READ_WITHIN_MS: u64 = 30 * 60_000;
/// Answers that wait for reads.
const WAITING_MAX: usize = 65_536;
/// Posts of one answer that count.
const POSTS_MAX: usize = 50;
/// An unlikely place weighs at most so much: as many posts as compete for one.
const WEIGHT_MAX: u64 = 64;

/// Counts per variant, and the answers whose reads may still come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub(super) sums: BTreeMap<Label, Sums>,
    pub(super) waiting: Ring<Waiting>,
    /// The latest answer of a reader: the one that a read is said to come from.
    pub(super) latest: FxHashMap<UserId, u64>,
}

/// Experiment and variant.
pub(super) type Label = (String, String);

/// An answer whose reads may still come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) reader: UserId,
    at: Stamp,
    label: Label,
    /// Post, how often it would have to be shown to make up for its propensity, and whether it was
    /// a place of exploration.
    posts: Vec<(PostId, u64, bool)>,
}

impl Record for Waiting {
    const KIND: u8 = 75;
}

/// Sums over the answers of a bucket's readers, by bucket. Readers were drawn, not answers, and what
/// one reader does in all answers hangs together: so a bucket of readers is one draw.
pub(super) type Sums = BTreeMap<u16, BucketSums>;

/// Sums of one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BucketSums {
    answers: u64,
    shown: u64,
    read: u64,
    /// How often the posts in places of exploration would have to be shown to make up for their
    /// propensity; and of those that were read.
    weight: u64,
    weight_read: u64,
}

/// What one variant came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantOutcome {
    /// Of the experiment.
    pub experiment: String,
    /// Of the variant.
    pub variant: String,
    /// Answers given.
    pub answers: u64,
    /// Posts shown in them.
    pub shown: u64,
    /// Of these, read by whom they were shown to, within half an hour.
    pub read: u64,
    /// Share of what was shown that was read.
    pub click_through: Option<Estimate>,
    /// The same of a post that few have seen, if each were as likely to be shown: places of
    /// exploration, weighed by their propensity and normalised (SNIPS; Swaminathan and Joachims,
    /// NIPS 2015).
    pub explored: Option<Estimate>,
}

/// An estimate with its 95 % interval, which is `value` ± `margin`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// Half of the interval: 1.96 standard errors, by the delta method for a ratio of sums over
    /// buckets of readers; 1 where there is only one bucket.
    pub margin: f64,
}

impl Outcomes {
    /// Notes what was shown. Answers outside of experiments, and to nobody in particular, are none.
    pub fn show(&mut self, at: Stamp, exposure: &Exposure) {
        let label = exposure.variant.split_once('/');
        let (Some(reader), Some((experiment, variant))) = (exposure.reader, label) else { return };
        let label = (experiment.to_owned(), variant.to_owned());
        let posts: Vec<_> = (exposure.posts.iter().take(POSTS_MAX))
            .map(|shown| {
                let weight = (1.0 / f64::from(shown.propensity)).round() as u64;
                (shown.post, weight.clamp(1, WEIGHT_MAX), shown.is_explored)
            })
            .collect();
        let buckets = self.sums.entry(label.clone()).or_default();
        let sums = buckets.entry(bucket_of(reader)).or_default();
        sums.answers += 1;
        sums.shown += posts.len() as u64;
        let explored = posts.iter().filter(|(_, _, is_explored)| *is_explored);
        sums.weight += explored.map(|(_, weight, _)| weight).sum::<u64>();
        let number = self.waiting.push(Waiting { reader, at, label, posts });
        self.latest.insert(reader, number);
        while self.waiting.len() > WAITING_MAX || self.is_over(at) {
            self.forget_first();
        }
    }

    /// Notes that somebody read a post. It counts for the latest answer that showed anything to the
    /// reader, if that showed this post, once.
    pub fn read(&mut self, reader: UserId, post: PostId, at: Stamp) {
        let Some(number) = self.latest.get(&reader) else { return };
        let Some(waiting) = self.waiting.get(*number) else { return };
        if at < waiting.at || at > waiting.at.plus_ms(READ_WITHIN_MS) {
            return;
        }
        let Some(place) = waiting.posts.iter().position(|(shown, ..)| *shown == post) else {
            return;
        };
        let Some(waiting) = self.waiting.change(*number) else { return };
        let (_, weight, is_explored) = waiting.posts.swap_remove(place);
        let buckets = self.sums.entry(waiting.label.clone()).or_default();
        let sums = buckets.entry(bucket_of(reader)).or_default();
        sums.read += 1;
        sums.weight_read += if is_explored { weight } else { 0 };
    }

    /// Forgets what a reader was shown; what is counted says nothing of anybody.
    pub fn forget_reader(&mut self, reader: UserId) {
        self.clear(|waiting| waiting.reader == reader);
    }

    /// Keeps only the counts of these; for experiments that are over.
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.sums.retain(|(experiment, variant), _| keep(experiment, variant));
        self.clear(|waiting| !keep(&waiting.label.0, &waiting.label.1));
    }

    /// No reads of these will count.
    fn clear(&mut self, which: impl Fn(&Waiting) -> bool) {
        for number in self.waiting.which(which) {
            if let Some(waiting) = self.waiting.change(number) {
                waiting.reader = UserId(0);
                waiting.posts.clear();
            }
        }
        self.index();
    }

    /// Finds the latest answer of each reader. Nobody's answers are those of whom nothing is kept.
    pub(super) fn index(&mut self) {
        let left = self.waiting.from(0).filter(|(_, waiting)| waiting.reader != UserId(0));
        self.latest = left.map(|(number, waiting)| (waiting.reader, number)).collect();
    }

    /// What came of each variant, by name.
    pub fn report(&self) -> Vec<VariantOutcome> {
        let rows = self.sums.iter().map(|((experiment, variant), buckets)| {
            let sum = |of: fn(&BucketSums) -> u64| buckets.values().map(of).sum();
            let ratio = |of: fn(&BucketSums) -> (u64, u64)| Estimate::of(buckets.values().map(of));
            VariantOutcome {
                experiment: experiment.clone(),
                variant: variant.clone(),
                answers: sum(|sums| sums.answers),
                shown: sum(|sums| sums.shown),
                read: sum(|sums| sums.read),
                click_through: ratio(|sums| (sums.read, sums.shown)),
                explored: ratio(|sums| (sums.weight_read, sums.weight)),
            }
        });
        rows.collect()
    }

    fn is_over(&self, now: Stamp) -> bool {
        self.waiting.front().is_some_and(|waiting| now > waiting.at.plus_ms(READ_WITHIN_MS))
    }

    fn forget_first(&mut self) {
        let Some((number, waiting)) = self.waiting.pop() else { return };
        if self.latest.get(&waiting.reader) == Some(&number) {
            self.latest.remove(&waiting.reader);
        }
    }
}

/// The reader's bucket, of [`BUCKETS`]: the same in every experiment, and not that which decides
/// about variants, for a small variant has few of those.
fn bucket_of(reader: UserId) -> u16 {
    (mix(mix(reader.0)) % u64::from(BUCKETS)) as u16
}

impl Estimate {
    /// The ratio of two sums over independent buckets: what is counted, and what it is a share of.
    fn of(buckets: impl Iterator<Item = (u64, u64)> + Clone) -> Option<Self> {
        let buckets = buckets.filter(|(_, whole)| *whole > 0);
        let buckets = buckets.map(|(part, whole)| (part as f64, whole as f64));
        let (part, whole) = buckets.clone().fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
        if whole == 0.0 {
            return None;
        }
        let value = part / whole;
        let count = buckets.clone().count() as f64;
        if count < 2.0 {
            // One draw says nothing of how far another would be off.
            return Some(Self { value, margin: 1.0 });
        }
        let squares: f64 = buckets.map(|(part, whole)| (part - value * whole).powi(2)).sum();
        let margin = 1.96 * (squares * count / (count - 1.0)).sqrt() / whole;
        Some(Self { value, margin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::recommendation::message::ShownPost;

    use proptest::prelude::*;

    const NOW: Stamp = Stamp(1_700_000_000_000_000);

    fn exposure(reader: u64, variant: &str, posts: &[(u64, f32)]) -> Exposure {
        let shown = posts.iter().enumerate().map(|(position, (post, propensity))| ShownPost {
            post: PostId(*post),
            position: position as u16,
            propensity: *propensity,
            is_explored: *propensity < 1.0,
        });
        Exposure {
            request: String::new(),
            reader: Some(UserId(reader)),
            surface: String::new(),
            variant: variant.to_owned(),
            weights_version: 1,
            posts: shown.collect(),
        }
    }

    #[test]
    fn a_read_counts_once_for_the_latest_answer_and_not_for_long() {
        let mut outcomes = Outcomes::default();
        let (reader, later) = (UserId(1), NOW.plus_ms(1_000));
        outcomes.show(NOW, &exposure(1, "rank/a", &[(10, 1.0), (11, 1.0)]));
        outcomes.show(later, &exposure(1, "rank/b", &[(11, 1.0), (12, 0.25)]));
        outcomes.read(reader, PostId(10), later);
        outcomes.read(UserId(2), PostId(11), later);
        outcomes.read(reader, PostId(11), NOW);
        assert!(outcomes.report().iter().all(|one| one.read == 0), "not of the latest answer");
        for _ in 0..2 {
            outcomes.read(reader, PostId(11), later);
        }
        outcomes.read(reader, PostId(12), later.plus_ms(READ_WITHIN_MS + 1));
        let [a, b] = &outcomes.report()[..] else { panic!("two variants") };
        assert_eq!((a.answers, a.shown, a.read), (1, 2, 0));
        assert_eq!((b.answers, b.shown, b.read), (1, 2, 1));
        assert_eq!(b.click_through.unwrap().value, 0.5);
        assert_eq!(b.explored.unwrap().value, 0.0);
        assert!(a.explored.is_none(), "nothing was explored");
    }

    #[test]
    fn outside_of_experiments_nothing_is_counted() {
        let mut outcomes = Outcomes::default();
        outcomes.show(NOW, &exposure(1, "", &[(10, 1.0)]));
        outcomes.show(NOW, &Exposure { reader: None, ..exposure(1, "rank/a", &[(10, 1.0)]) });
        assert_eq!(outcomes, Outcomes::default());
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_over_goes() {
        let mut outcomes = Outcomes::default();
        let many: Vec<_> = (0..100).map(|post| (post, 1.0)).collect();
        for reader in 0..2 * WAITING_MAX as u64 {
            outcomes.show(NOW, &exposure(reader, "rank/a", &many));
        }
        assert_eq!(outcomes.waiting.len(), WAITING_MAX);
        assert_eq!(outcomes.latest.len(), WAITING_MAX);
        assert!(outcomes.waiting.from(0).all(|(_, waiting)| waiting.posts.len() == POSTS_MAX));
        outcomes.read(UserId(0), PostId(1), NOW);
        assert_eq!(outcomes.report()[0].read, 0, "forgotten");
        let last = UserId(2 * WAITING_MAX as u64 - 1);
        outcomes.forget_reader(last);
        outcomes.read(last, PostId(1), NOW);
        assert_eq!(outcomes.report()[0].read, 0, "erased");
        outcomes.show(NOW.plus_ms(READ_WITHIN_MS + 1), &exposure(1, "rank/a", &[(1, 1.0)]));
        assert_eq!((outcomes.waiting.len(), outcomes.latest.len()), (1, 1));
        outcomes.retain(|_, variant| variant != "a");
        outcomes.read(UserId(1), PostId(1), NOW.plus_ms(READ_WITHIN_MS + 1));
        assert!(outcomes.report().is_empty());
    }

    /// In 1,000 experiments whose truth is known, about 95 % of the intervals hold it, although all
    /// answers of one reader hang together and the posts of a place of exploration differ.
    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut holds, mut holds_explored, runs) = (0, 0, 1_000);
        for _ in 0..runs {
            let mut outcomes = Outcomes::default();
            for reader in 0..200 {
                // One in two readers reads much: 0.4, the others 0.1; and some come more often.
                // Fresh posts: pools of 2, where each is read with 0.1, and of 8, with 0.3: uniform
                // over posts that is 0.26. Who reads much reads them twice as often, or not at all.
                let is_keen = random(2) == 0;
                let often = if is_keen { 40 } else { 10 };
                for _ in 0..5 + random(10) {
                    let (pool, fresh) = if random(2) == 0 { (2, 10) } else { (8, 30) };
                    let fresh = if is_keen { 2 * fresh } else { 0 };
                    let mut posts: Vec<_> = (0..9).map(|post| (post, 1.0)).collect();
                    posts.push((99, 1.0 / pool as f32));
                    outcomes.show(NOW, &exposure(reader, "rank/a", &posts));
                    for post in 0..9 {
                        if random(100) < often {
                            outcomes.read(UserId(reader), PostId(post), NOW);
                        }
                    }
                    if random(100) < fresh {
                        outcomes.read(UserId(reader), PostId(99), NOW);
                    }
                }
            }
            let found = outcomes.report().remove(0);
            let truth = (9.0 * 0.25 + 0.2) / 10.0;
            let click_through = found.click_through.unwrap();
            holds += i32::from((click_through.value - truth).abs() <= click_through.margin);
            let explored = found.explored.unwrap();
            holds_explored += i32::from((explored.value - 0.26).abs() <= explored.margin);
        }
        assert!((925..=975).contains(&holds), "{holds} of {runs}");
        assert!((915..=975).contains(&holds_explored), "{holds_explored} of {runs} explored");
    }

    #[test]
    fn a_place_of_exploration_with_one_post_to_choose_from_counts_as_one() {
        let mut outcomes = Outcomes::default();
        let mut alone = exposure(1, "rank/a", &[(10, 1.0), (11, 1.0)]);
        alone.posts[1].is_explored = true;
        outcomes.show(NOW, &alone);
        outcomes.read(UserId(1), PostId(11), NOW);
        let found = outcomes.report().remove(0);
        assert_eq!(found.explored.unwrap().value, 1.0);
        assert_eq!(found.explored.unwrap().margin, 1.0, "of one reader nothing follows");
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_plain_recount(
            steps in prop::collection::vec((0..6_u64, 0..8_u64, 0..3_u64), 0..200),
        ) {
            let mut outcomes = Outcomes::default();
            let mut model: Vec<(u64, Vec<u64>, u64)> = Vec::new();
            for (reader, post, kind) in steps {
                if kind == 0 {
                    let posts = [(post, 1.0), (post + 1, 0.5)];
                    outcomes.show(NOW, &exposure(reader, "x/y", &posts));
                    model.push((reader, vec![post, post + 1], 0));
                } else {
                    outcomes.read(UserId(reader), PostId(post), NOW);
                    let latest = model.iter_mut().rev().find(|(shown_to, ..)| *shown_to == reader);
                    if let Some((_, left, read)) = latest
                        && let Some(place) = left.iter().position(|shown| *shown == post)
                    {
                        left.remove(place);
                        *read += 1;
                    }
                }
            }
            let sums = outcomes.sums.values().next().cloned().unwrap_or_default();
            for reader in 0..6 {
                let found = sums.get(&bucket_of(UserId(reader))).copied().unwrap_or_default();
                let of_reader = model.iter().filter(|(shown_to, ..)| *shown_to == reader);
                let answers = of_reader.clone().count() as u64;
                let read = of_reader.map(|(.., read)| read).sum::<u64>();
                prop_assert_eq!([found.answers, found.shown, found.weight], [answers, 2 * answers, 2 * answers]);
                prop_assert_eq!(found.read, read);
            }
        }
    }
}
