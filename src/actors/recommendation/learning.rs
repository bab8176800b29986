//! Learning the ranker's weights, on the leader alone: what comes out of it are values for the log.
//!
//! A lesson is a read: the posts that could have been shown, and the one that was chosen. Where it
//! is known what was shown, only that is compared: a post that nobody saw was not rejected.
//! Every few lessons the weights are tried against older ones on the same read, before it is learned
//! (progressive validation); if they find it worse, the older ones come back, as a newer version.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::actors::recommendation::engine::event::Event as Fact;
use crate::actors::recommendation::engine::learner::{Learner, LearnerSettings};
use crate::actors::recommendation::engine::weights::Weights;
use crate::actors::recommendation::engine::{Engine, Scratch};
use crate::actors::recommendation::message::{Exposure, ShownPost};
use crate::ids::{PostId, Stamp, UserId};

/// Between two proposals of weights.
const PROPOSAL_PERIOD_MS: u64 = 1_000;
/// Lessons a second, at most: on a site of 50,000 posts about a sixtieth of a core. Under load, a
/// sample is learned.
const LESSONS_PER_S: u64 = 100;
/// Lessons from one reader in one minute, at most: the weights are everybody's.
const LESSONS_PER_READER: u8 = 4;
const MINUTE_MS: u64 = 60_000;
/// Lessons at once, at most: a batch of commands is to take about a millisecond.
const LESSONS_BURST: u64 = 16;
/// A read that comes so much later than the latest one teaches nothing: the counters have moved on.
const LATE_MAX_MS: u64 = 10 * 60_000;
/// One lesson in so many is a trial as well.
const TRIAL_EVERY: u64 = 4;
/// Trials until it is decided which weights are better.
const TRIALS: u32 = 256;
/// Weights are taken back when they are worse by more than this share: less is chance.
const WORSE_SHARE: f32 = 0.1;
/// Places in a list that count in a trial.
const PLACES: usize = 10;
/// Readers of whom it is kept what they were shown last.
const SHOWN_READERS_MAX: usize = 16_384;
/// Posts that are kept of what was shown.
const SHOWN_POSTS_MAX: usize = 50;
/// How long a read may follow from what was shown.
const SHOWN_MS: u64 = 30 * 60_000;
/// An unlikely place weighs more, but not without end.
const LESSON_WEIGHT_MAX: f32 = 4.0;

/// What the leader learns with. No replica keeps any of it.
#[derive(Debug)]
pub(super) struct Learning {
    is_leading: bool,
    learner: Learner,
    /// Whether the learner knows more than the log.
    is_ahead: bool,
    proposed_at: Stamp,
    budget: Budget,
    readers: Readers,
    lessons: u64,
    /// How often weights were taken back.
    taken_back: u64,
    trial: Trial,
    shown: Shown,
}

impl Learning {
    /// Goes on from weights.
    pub(super) fn new(weights: Weights) -> Self {
        Self {
            is_leading: false,
            trial: Trial::new(weights.clone()),
            learner: Learner::new(LearnerSettings::default(), weights),
            is_ahead: false,
            proposed_at: Stamp::default(),
            budget: Budget::default(),
            readers: Readers::default(),
            lessons: 0,
            taken_back: 0,
            shown: Shown::default(),
        }
    }

    /// From now on this replica leads, and goes on from the weights that all have.
    pub(super) fn lead(&mut self, weights: &Weights) {
        if !self.is_leading {
            *self = Self { is_leading: true, ..Self::new(weights.clone()) };
        }
    }

    /// Learns from a fact that the engine is about to take in.
    pub(super) fn watch(
        &mut self,
        engine: &Engine,
        scratch: &mut Scratch,
        stamp: Stamp,
        fact: &Fact,
    ) {
        if !self.is_leading {
            return;
        }
        match fact {
            Fact::Interacted { reader, post, how: _, at } => {
                let is_late = at.plus_ms(LATE_MAX_MS) < engine.latest_read();
                // What does not count teaches nothing: or one reader's flood would teach everybody.
                let is_lesson = !is_late
                    && engine.has_history(*reader)
                    && engine.would_count(*reader, *post, *at, stamp);
                if is_lesson && self.readers.may_teach(*reader, stamp) && self.budget.take(stamp) {
                    self.readers.taught(*reader);
                    self.learn(engine, scratch, (*reader, *post), *at);
                }
            }
            Fact::ReaderErased { reader } => self.shown.forget(*reader),
            Fact::PostChanged { .. }
            | Fact::PostDeleted { .. }
            | Fact::ReadForgotten { .. }
            | Fact::AuthorFollowed { .. }
            | Fact::AuthorMuted { .. }
            | Fact::TagFollowed { .. }
            | Fact::TagMuted { .. }
            | Fact::Feedback { .. }
            | Fact::Shown { .. }
            | Fact::Blocked { .. }
            | Fact::Denied { .. }
            | Fact::FeedbackWithdrawn { .. } => {}
        }
    }

    /// Notes what a reader was shown.
    pub(super) fn shown(&mut self, stamp: Stamp, exposure: Exposure) {
        if let Some(reader) = exposure.reader.filter(|_| self.is_leading) {
            self.shown.set(reader, stamp, exposure.posts);
        }
    }

    /// When new weights are to be proposed, if there are any.
    pub(super) fn next_proposal(&self) -> Option<Stamp> {
        let is_due = self.is_leading && self.is_ahead;
        is_due.then(|| self.proposed_at.plus_ms(PROPOSAL_PERIOD_MS))
    }

    /// The values to propose.
    pub(super) fn proposal(&self) -> Option<Vec<f32>> {
        let values = self.learner.weights().values();
        let is_sound = self.is_ahead && values.iter().all(|value| value.is_finite());
        is_sound.then(|| values.to_vec())
    }

    /// These weights are in the log now.
    pub(super) fn proposed(&mut self, stamp: Stamp, weights: &Weights) {
        self.proposed_at = stamp;
        self.is_ahead = self.is_leading && self.learner.weights().values() != weights.values();
    }

    fn learn(
        &mut self,
        engine: &Engine,
        scratch: &mut Scratch,
        (reader, post): (UserId, PostId),
        at: Stamp,
    ) {
        engine.ask(reader, at, &[], scratch);
        let Some(mut chosen) = engine.candidate_of(post, scratch) else { return };
        if self.lessons.is_multiple_of(TRIAL_EVERY) {
            let better = self.trial.run(self.learner.weights(), scratch, chosen);
            if let Some(better) = better {
                tracing::warn!("the ranker has become worse: its weights are taken back");
                self.learner = Learner::new(LearnerSettings::default(), better);
                self.taken_back += 1;
            }
        }
        let mut weight = 1.0;
        if let Some((shown, propensity)) = self.shown.compared_with(reader, post, at) {
            weight = (1.0 / propensity).clamp(1.0, LESSON_WEIGHT_MAX);
            chosen = engine.keep_candidates(&shown, chosen, scratch);
        }
        self.learner.learn_weighted(scratch, chosen, weight);
        self.lessons += 1;
        self.is_ahead = true;
    }

    /// How often weights were taken back.
    pub(super) fn taken_back(&self) -> u64 {
        self.taken_back
    }

    #[cfg(test)]
    pub(super) fn lessons(&self) -> u64 {
        self.lessons
    }

    /// Turns what was learned into its opposite.
    #[cfg(test)]
    pub(super) fn spoil(&mut self) {
        let spoilt = self.learner.weights().map(|value| -value);
        self.learner = Learner::new(LearnerSettings::default(), spoilt);
    }
}

/// How many lessons may still be learned: a bucket that fills with time.
#[derive(Debug, Default)]
struct Budget {
    /// In lessons times a million.
    filled: u64,
    at: Stamp,
}

impl Budget {
    fn take(&mut self, now: Stamp) -> bool {
        const ONE: u64 = 1_000_000;
        let elapsed_us = now.0.saturating_sub(self.at.0);
        let filled = elapsed_us.saturating_mul(LESSONS_PER_S).saturating_add(self.filled);
        self.filled = filled.min(LESSONS_BURST * ONE);
        self.at = self.at.max(now);
        let may = self.filled >= ONE;
        self.filled -= if may { ONE } else { 0 };
        may
    }
}

/// How many lessons each reader gave in this minute; no more readers than lessons in it.
#[derive(Debug, Default)]
struct Readers {
    minute: u64,
    lessons: FxHashMap<UserId, u8>,
}

impl Readers {
    fn may_teach(&mut self, reader: UserId, now: Stamp) -> bool {
        let minute = now.as_millis() / MINUTE_MS;
        if minute != self.minute {
            self.minute = minute;
            self.lessons.clear();
        }
        self.lessons.get(&reader).is_none_or(|lessons| *lessons < LESSONS_PER_READER)
    }

    fn taught(&mut self, reader: UserId) {
        *self.lessons.entry(reader).or_default() += 1;
    }
}

/// Older weights that are known to be good, and how the present ones do beside them.
#[derive(Debug)]
struct Trial {
    good: Weights,
    /// NDCG of the good and the present ones, summed.
    found: [f32; 2],
    runs: u32,
}

impl Trial {
    fn new(good: Weights) -> Self {
        Self { good, found: [0.0; 2], runs: 0 }
    }

    /// Lets both rank the candidates of a read. Returns the good ones when it is time to take the
    /// present ones back.
    fn run(&mut self, present: &Weights, scratch: &mut Scratch, chosen: usize) -> Option<Weights> {
        for (found, weights) in self.found.iter_mut().zip([&self.good, present]) {
            let rank = weights.rank_of(scratch, chosen);
            *found += if rank < PLACES { 1.0 / (rank as f32 + 2.0).log2() } else { 0.0 };
        }
        self.runs += 1;
        if self.runs < TRIALS {
            return None;
        }
        let [good, now] = std::mem::take(&mut self.found);
        self.runs = 0;
        if now < good * (1.0 - WORSE_SHARE) {
            return Some(self.good.clone());
        }
        if now >= good {
            self.good = present.clone();
        }
        None
    }
}

/// What readers were shown last, the oldest forgotten.
#[derive(Debug, Default)]
struct Shown {
    by_reader: FxHashMap<UserId, (Stamp, Vec<ShownPost>)>,
    /// Each of them once for each time that something was shown.
    order: VecDeque<(Stamp, UserId)>,
}

impl Shown {
    fn set(&mut self, reader: UserId, at: Stamp, mut posts: Vec<ShownPost>) {
        posts.truncate(SHOWN_POSTS_MAX);
        self.by_reader.insert(reader, (at, posts));
        self.order.push_back((at, reader));
        while self.order.len() > SHOWN_READERS_MAX {
            if let Some((at, reader)) = self.order.pop_front()
                && self.by_reader.get(&reader).is_some_and(|(newest, _)| *newest == at)
            {
                self.by_reader.remove(&reader);
            }
        }
    }

    fn forget(&mut self, reader: UserId) {
        self.by_reader.remove(&reader);
    }

    /// What the reader must have looked at when this post was chosen of what was shown, with the
    /// probability of its place. Nothing if it was not among that.
    fn compared_with(&self, reader: UserId, post: PostId, at: Stamp) -> Option<(Vec<PostId>, f32)> {
        let (shown_at, posts) = self.by_reader.get(&reader)?;
        if at > shown_at.plus_ms(SHOWN_MS) {
            return None;
        }
        let chosen = posts.iter().find(|shown| shown.post == post)?;
        // Who chose a place has seen those above it, and the next one.
        let seen = posts.iter().filter(|shown| shown.position <= chosen.position.saturating_add(1));
        Some((seen.map(|shown| shown.post).collect(), chosen.propensity.max(f32::MIN_POSITIVE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lessons_are_bounded_in_any_time() {
        let mut budget = Budget::default();
        let mut learned = 0;
        for n in 0..100_000_u64 {
            learned += u64::from(budget.take(Stamp(1_000_000_000 + n * 20)));
        }
        let most = 2 * LESSONS_PER_S + LESSONS_BURST;
        assert!((most - 1..=most).contains(&learned), "{learned} in two seconds");
        assert!(budget.take(Stamp(u64::MAX)));
    }

    #[test]
    fn what_was_shown_is_bounded_and_compared_from_the_top() {
        let shown = |post, position, propensity| ShownPost {
            post: PostId(post),
            position,
            propensity,
            is_explored: propensity < 1.0,
        };
        let mut all = Shown::default();
        let at = Stamp(5_000_000);
        all.set(UserId(1), at, vec![shown(7, 0, 1.0), shown(8, 1, 0.5), shown(9, 5, 1.0)]);
        let found = all.compared_with(UserId(1), PostId(8), at).unwrap();
        assert_eq!(found, (vec![PostId(7), PostId(8)], 0.5));
        let first = all.compared_with(UserId(1), PostId(7), at).unwrap();
        assert_eq!(first.0, [PostId(7), PostId(8)]);
        assert!(all.compared_with(UserId(1), PostId(6), at).is_none(), "not shown");
        assert!(all.compared_with(UserId(2), PostId(7), at).is_none());
        let late = at.plus_ms(SHOWN_MS + 1);
        assert!(all.compared_with(UserId(1), PostId(7), late).is_none());
        for reader in 0..2 * SHOWN_READERS_MAX as u64 {
            all.set(UserId(reader % 20_000), Stamp(6_000_000 + reader), Vec::new());
        }
        assert!(all.by_reader.len() <= SHOWN_READERS_MAX);
        assert_eq!(all.order.len(), SHOWN_READERS_MAX);
        all.forget(UserId(3));
        assert!(!all.by_reader.contains_key(&UserId(3)));
    }
}
