//! The evaluation: each event is foreseen first and learned then.
//!
//! Events in order of time. Before an event is learned, ten posts are predicted for its reader if
//! it is past the first fifth of the events, the reader has an earlier event, and the post is not
//! among those. The reader's earlier posts are excluded. The event is a hit if its post is among
//! the ten. A post that was not seen before cannot be hit and still counts. Where posts are known
//! they enter when published, one's own do not count, and `author` events only build history.

use crate::seams::time;
use std::collections::{BTreeMap, BTreeSet};

use crate::actors::recommendation::engine::event::{Event, Interaction};
use crate::actors::recommendation::engine::item::Method;
use crate::actors::recommendation::engine::learner::{Learner, LearnerSettings};
use crate::actors::recommendation::engine::settings::Settings;
use crate::actors::recommendation::engine::weights::Weights;
use crate::actors::recommendation::engine::{Engine, Options, Scratch};
use crate::actors::signature::Signature;
use crate::cli::rec::tally::{PLACES, Tally, Times};
use crate::ids::{PostId, Stamp, UserId};
use crate::transfer::stream::{Deed, Stream, StreamEvent, StreamPost};

/// The methods that are compared, in the order of the table.
pub(super) const METHODS: [&str; 5] = ["latest", "trend", "item_item", "ranker", "ranker_diverse"];
const RANKER: usize = 3;
const DIVERSE: usize = 4;
/// Of the events, the first that are predicted and the first that a frozen model does not see.
const PREDICTED_FROM: f64 = 0.2;
const FROZEN_FROM: f64 = 0.8;

/// What an evaluation can be varied by.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Setup {
    pub(super) settings: Settings,
    pub(super) learner: LearnerSettings,
    /// Also measures a model that stops learning at four fifths.
    pub(super) is_split: bool,
    /// Only the ranker.
    pub(super) is_quick: bool,
}

/// What an evaluation found.
#[derive(Debug, Default)]
pub(super) struct Evaluation {
    pub(super) tallies: [Tally; METHODS.len()],
    /// The last fifth: while learning goes on, and after it stopped.
    pub(super) split: Option<[[Tally; METHODS.len()]; 2]>,
    /// Posts there were.
    pub(super) posts: usize,
    /// Costs.
    pub(super) event_times: Times,
    pub(super) lesson_times: Times,
    pub(super) recommendation_times: Times,
    pub(super) diverse_times: Times,
    pub(super) memory_bytes: usize,
    pub(super) digest: u64,
}

/// Runs through a stream; tells now and then how many events are done.
pub(super) fn evaluate(
    stream: &Stream,
    setup: &Setup,
    mut progress: impl FnMut(u64),
) -> Evaluation {
    let mut run = Run::new(stream, setup);
    for (nth, event) in stream.events.iter().enumerate() {
        run.take(nth, event);
        if nth % 1024 == 0 {
            progress(nth as u64);
        }
    }
    run.finish()
}

/// A model that stopped learning, and when.
struct Frozen {
    engine: Engine,
    weights: Weights,
    at: Stamp,
}

struct Run<'a> {
    stream: &'a Stream,
    setup: &'a Setup,
    engine: Engine,
    learner: Learner,
    scratch: Scratch,
    posts_done: usize,
    /// Posts by their number; with their authors.
    published: BTreeMap<u64, Option<u64>>,
    /// Earlier posts by reader, and the reader's number.
    histories: BTreeMap<u64, (usize, BTreeSet<u64>)>,
    frozen: Option<Frozen>,
    found: Evaluation,
}

impl<'a> Run<'a> {
    fn new(stream: &'a Stream, setup: &'a Setup) -> Self {
        let mut found = Evaluation::default();
        if setup.is_split {
            found.split = Some(Default::default());
        }
        Self {
            stream,
            setup,
            engine: Engine::new(setup.settings.clone()),
            learner: Learner::new(setup.learner.clone(), Weights::default()),
            scratch: Scratch::default(),
            posts_done: 0,
            published: BTreeMap::new(),
            histories: BTreeMap::new(),
            frozen: None,
            found,
        }
    }

    fn take(&mut self, nth: usize, event: &StreamEvent) {
        self.publish_until(event.ts);
        let past = |share: f64| nth as f64 >= share * self.stream.events.len() as f64;
        let (is_predicted, is_last_fifth) = (past(PREDICTED_FROM), past(FROZEN_FROM));
        if self.setup.is_split && is_last_fifth && self.frozen.is_none() {
            let (engine, weights) = (self.engine.clone(), self.learner.weights().clone());
            self.frozen = Some(Frozen { engine, weights, at: stamp(event.ts) });
        }
        let readers = self.histories.len();
        let (number, history) = self.histories.entry(event.user).or_insert((readers, [].into()));
        let number = *number;
        let is_first = history.is_empty();
        let is_new = history.insert(event.item);
        if !is_first && is_new && event.deed != Deed::Author {
            let (reader, now) = (UserId(event.user), stamp(event.ts));
            let began = time::mark();
            self.engine.ask(reader, now, &[], &mut self.scratch);
            let asking = began.elapsed();
            if is_predicted {
                self.predict(number, event, asking, nth as u64, is_last_fifth);
            }
            self.learn(event.item);
        }
        self.apply(event);
    }

    fn predict(
        &mut self,
        reader: usize,
        event: &StreamEvent,
        asking: std::time::Duration,
        nth: u64,
        is_last_fifth: bool,
    ) {
        for method in 0..METHODS.len() {
            if self.setup.is_quick && method != RANKER {
                continue;
            }
            let began = time::mark();
            let options = options(method, nth);
            let weights = self.learner.weights();
            let answer = self.engine.answer_with(weights, &options, &mut self.scratch);
            match method {
                RANKER => self.found.recommendation_times.add(asking + began.elapsed()),
                DIVERSE => self.found.diverse_times.add(asking + began.elapsed()),
                _ => {}
            }
            let list: Vec<u64> = answer.items.iter().map(|item| item.post.0).collect();
            let authors = list.iter().filter_map(|post| *self.published.get(post)?);
            let authors: Vec<u64> = authors.collect();
            self.found.tallies[method].add(reader, &list, event.item);
            self.found.tallies[method].add_authors(&authors);
            if is_last_fifth && let Some([going_on, _]) = &mut self.found.split {
                going_on[method].add(reader, &list, event.item);
            }
            if method == DIVERSE {
                let posts = answer.items.iter().map(|item| item.post).collect();
                self.engine.apply(&Event::Shown { reader: UserId(event.user), posts });
            }
        }
        self.predict_frozen(reader, event, nth);
    }

    fn predict_frozen(&mut self, reader: usize, event: &StreamEvent, nth: u64) {
        let (Some(frozen), Some([_, split])) = (&self.frozen, &mut self.found.split) else {
            return;
        };
        // What the reader read since is not learned from, but not shown again either.
        let (_, history) = &self.histories[&event.user];
        let read: Vec<PostId> =
            history.iter().filter(|post| **post != event.item).map(|post| PostId(*post)).collect();
        let mut scratch = Scratch::default();
        frozen.engine.ask(UserId(event.user), frozen.at, &read, &mut scratch);
        for (method, tally) in split.iter_mut().enumerate() {
            let options = options(method, nth);
            let answer = frozen.engine.answer_with(&frozen.weights, &options, &mut scratch);
            let list: Vec<u64> = answer.items.iter().map(|item| item.post.0).collect();
            tally.add(reader, &list, event.item);
        }
    }

    fn learn(&mut self, item: u64) {
        if let Some(chosen) = self.engine.candidate_of(PostId(item), &self.scratch) {
            let began = time::mark();
            self.learner.learn(&mut self.scratch, chosen);
            self.found.lesson_times.add(began.elapsed());
        }
    }

    fn apply(&mut self, event: &StreamEvent) {
        let now = stamp(event.ts);
        let how = match event.deed {
            Deed::Author => return,
            Deed::Click => Interaction::Read,
            Deed::Comment => Interaction::Comment,
            Deed::Favorite => Interaction::Favorite,
        };
        let began = time::mark();
        if self.stream.posts.is_none() && !self.published.contains_key(&event.item) {
            self.published.insert(event.item, None);
            self.engine.apply(&published(event.item, None, event.ts, &[], Signature::default()));
        }
        let (reader, post) = (UserId(event.user), PostId(event.item));
        self.engine.apply(&Event::Interacted { reader, post, how, at: now });
        self.found.event_times.add(began.elapsed());
    }

    /// Posts enter when they are published.
    fn publish_until(&mut self, ts: u64) {
        let Some(posts) = &self.stream.posts else { return };
        while let Some(post) = posts.get(self.posts_done).filter(|post| post.ts <= ts) {
            let StreamPost { id, author, ts, tags, title, text } = post;
            let signature = Signature::of(title, text);
            self.engine.apply(&published(*id, *author, *ts, tags, signature));
            self.published.insert(*id, *author);
            self.posts_done += 1;
        }
    }

    fn finish(mut self) -> Evaluation {
        self.found.posts = self.published.len();
        self.found.memory_bytes = self.engine.memory_bytes();
        self.found.digest = self.engine.digest();
        self.found
    }
}

fn options(method: usize, random: u64) -> Options<'static> {
    let is_diverse = method == DIVERSE;
    Options {
        limit: PLACES,
        exclude: &[],
        method: [Method::Latest, Method::Trend, Method::Together, Method::Ranker, Method::Ranker]
            [method],
        is_diverse,
        explore: usize::from(is_diverse),
        random,
        explain: false,
    }
}

fn stamp(ts: u64) -> Stamp {
    Stamp(ts.saturating_mul(1000))
}

fn published(
    id: u64,
    author: Option<u64>,
    ts: u64,
    tags: &[String],
    signature: Signature,
) -> Event {
    Event::PostChanged {
        post: PostId(id),
        author: author.map(UserId),
        version: 1,
        is_listed: true,
        published_at: stamp(ts),
        tags: tags.to_vec(),
        signature,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn click(user: u64, item: u64, ts: u64) -> StreamEvent {
        StreamEvent { user, item, ts, deed: Deed::Click }
    }

    #[test]
    fn only_what_the_rule_names_is_predicted() {
        // The first fifth (two events), a first read, and a repeated one are not; a new post is.
        let events = vec![
            click(1, 1, 1_000),
            click(1, 2, 2_000),
            click(2, 1, 3_000),
            click(2, 2, 4_000),
            click(2, 2, 5_000),
            click(1, 3, 6_000),
            click(2, 3, 7_000),
            click(3, 3, 8_000),
            click(3, 1, 9_000),
            click(3, 2, 10_000),
        ];
        let stream = Stream { events, ..Stream::default() };
        let found = evaluate(&stream, &Setup { is_split: true, ..Setup::default() }, |_| {});
        let [latest, .., ranker, _] = &found.tallies;
        assert_eq!((latest.predictions(), ranker.predictions()), (5, 5));
        // All but the new post are among so few.
        assert!((latest.hit_rate().value - 0.8).abs() < 1e-9);
        assert!((ranker.hit_rate().value - 0.8).abs() < 1e-9);
        assert_eq!(found.posts, 3);
        let [going_on, frozen] = found.split.unwrap();
        assert_eq!((going_on[RANKER].predictions(), frozen[RANKER].predictions()), (2, 2));
        assert!((frozen[RANKER].hit_rate().value - 1.0).abs() < 1e-9);
    }

    #[test]
    fn posts_enter_when_published_and_own_ones_are_not_predicted() {
        let post = |id, author, ts| StreamPost {
            id,
            author: Some(author),
            ts,
            tags: vec!["a".to_owned()],
            title: "a title".to_owned(),
            text: String::new(),
        };
        let event = |user, item, ts, deed| StreamEvent { user, item, ts, deed };
        let events = vec![
            event(1, 1, 1_000, Deed::Author),
            event(2, 2, 2_000, Deed::Author),
            event(1, 1, 2_500, Deed::Comment),
            event(1, 2, 3_000, Deed::Comment),
            event(2, 1, 4_000, Deed::Favorite),
        ];
        let posts = Some(vec![post(1, 1, 1_000), post(2, 2, 2_000)]);
        let stream = Stream { posts, events, ..Stream::default() };
        let found = evaluate(&stream, &Setup::default(), |_| {});
        assert!(found.tallies.iter().all(|tally| tally.predictions() == 2));
        assert!((found.tallies[0].hit_rate().value - 1.0).abs() < 1e-9);
        assert_eq!(found.tallies[0].author_share(), Some(1.0));
        // Twice the same: no clock and no chance is in it.
        assert_eq!(evaluate(&stream, &Setup::default(), |_| {}).digest, found.digest);
    }
}
