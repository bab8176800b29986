//! Lists that are kept for readers who ask again: for the next page, or for the same one once more.
//!
//! A ranking looks at hundreds of posts all over the memory, and what it finds hardly changes from one
//! question of a reader to the next. What does change it is what the reader does, and what is published:
//! the first drops the list, the second is ranked when the reader asks and takes its place in it. Only what
//! others read waits, for [`KEPT_MS`] at most: a trend that is thirty times as old costs the ranker one
//! hit in a thousand predictions (`docs/recommendation-evaluation.md`). Why it is so: ADR 0017.
//!
//! Beside the engine's state, not a part of it: what is kept goes with a process.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::actors::recommendation::engine::event::Event;
use crate::actors::recommendation::engine::features::extract;
use crate::actors::recommendation::engine::gather::{self, Asker};
use crate::actors::recommendation::engine::item::{Method, Recommendations, Source};
use crate::actors::recommendation::engine::post::NONE;
use crate::actors::recommendation::engine::recommend::{Options, RECENT_MAX};
use crate::actors::recommendation::engine::rules::{self, Choice};
use crate::actors::recommendation::engine::scratch::{Candidate, NOT_KEPT, Scratch};
use crate::actors::recommendation::engine::state::Engine;
use crate::actors::recommendation::engine::weights::Weights;
use crate::ids::{Stamp, UserId};

/// How long a list is kept.
const KEPT_MS: u64 = 30_000;
/// Readers of whom a list is kept, of 2.3 kB each: 38 MB. Few in tests, which fill it.
const LISTS_MAX: usize = if cfg!(test) { 64 } else { 16_384 };
/// Posts of a list, beside those to explore: enough for two pages of twenty, of which the second may choose
/// among the [`rules::BEST`] behind the first, and for some that are hidden meanwhile.
const POSTS_MAX: usize = 80;
/// Posts of a list that are looked at first behind as many as are asked for: each is another place in memory, and
/// variety mostly finds its next post among a few. Where it does not, it looks as far as in any ranking.
const NEAR: usize = 10;
/// Posts that were published since and are ranked when the reader asks; with more, all is ranked anew.
const NEWS_MAX: usize = 64;

/// Entries of the order in which lists were made, those of lists that are gone included.
const ORDER_MAX: usize = 4 * LISTS_MAX;

/// The lists.
#[derive(Debug, Default)]
pub struct KeptLists {
    lists: FxHashMap<u32, List>,
    /// Readers in the order in which their lists were made, each with the number of the list: what was
    /// dropped or made anew since has another.
    order: VecDeque<(u32, u64)>,
    /// How often all candidates were ranked; the last one is the number of a list.
    rankings: u64,
    /// The weights of the latest lists.
    weights: Option<Arc<Weights>>,
    /// Posts that came among the newest, the latest last, and how many there were before these.
    news: VecDeque<u32>,
    news_before: u64,
}

#[derive(Debug)]
struct List {
    number: u64,
    /// Whether it was asked for since it was made, or since there was no room for it.
    was_asked: bool,
    made_ms: u64,
    /// What its scores were made with: those of two versions do not compare.
    weights: Arc<Weights>,
    /// How many news were known.
    news: u64,
    /// Best first.
    posts: Box<[KeptPost]>,
    /// So many of the posts are the best of all that there were; behind them are some to explore.
    best: usize,
    /// Nothing else could be shown when it was made.
    is_whole: bool,
}

#[derive(Debug, Clone, Copy)]
struct KeptPost {
    post: u32,
    score: f32,
    because: u32,
    because_lift: f32,
    tag: u32,
    source: Source,
    /// Its place among those to explore; [`NOT_FRESH`] for every other.
    fresh: u8,
}

const NOT_FRESH: u8 = u8::MAX;

/// A question that is answered from a list.
struct Again<'a> {
    asker: Asker<'a>,
    options: &'a Options<'a>,
    list: &'a List,
    /// What was published since, the latest last.
    news: Iter<'a, u32>,
    now_ms: u64,
}

impl Again<'_> {
    fn has_news(&self) -> bool {
        self.news.len() > 0
    }

    /// Whether the list need not be looked at to its end. With news it must: they may be edited posts that
    /// stand in it, and it is kept anew with them. And so must one that has nothing behind it.
    fn may_stop(&self) -> bool {
        !self.has_news() && !self.list.is_whole
    }
}

/// What a list has for it.
struct Found {
    choice: Choice,
    /// How many of the candidates are new.
    added: usize,
    /// How many are the best of all that there are.
    best: usize,
    /// There is nothing else.
    is_whole: bool,
}

impl KeptLists {
    /// Drops what a fact changes, which the engine has taken in.
    pub fn note(&mut self, engine: &Engine, fact: &Event) {
        match fact {
            Event::PostChanged { post, author, .. } => {
                if let Some(author) = author {
                    self.forget(engine, *author);
                }
                // An old post that was changed is no news, nor is a new one that is known by now.
                let is_new = |slot: &u32| engine.newest.posts().any(|post| post == *slot);
                let slot = engine.find_post(*post).filter(is_new);
                if let Some(slot) = slot.filter(|slot| !self.news.contains(slot)) {
                    self.news.push_back(slot);
                    if self.news.len() > NEWS_MAX {
                        self.news.pop_front();
                        self.news_before += 1;
                    }
                }
            }
            Event::Interacted { reader, .. }
            | Event::ReadForgotten { reader, .. }
            | Event::ReaderErased { reader }
            | Event::AuthorFollowed { reader, .. }
            | Event::AuthorMuted { reader, .. }
            | Event::TagFollowed { reader, .. }
            | Event::TagMuted { reader, .. }
            | Event::Feedback { reader, .. }
            | Event::FeedbackWithdrawn { reader, .. } => self.forget(engine, *reader),
            Event::Blocked { user, target, .. } => {
                self.forget(engine, *user);
                self.forget(engine, *target);
            }
            // Whether a post is still listed, and still to explore, is looked at in each list.
            Event::PostDeleted { .. } | Event::Denied { .. } | Event::Shown { .. } => {}
        }
    }

    fn forget(&mut self, engine: &Engine, reader: UserId) {
        if let Some(slot) = engine.find_reader(reader) {
            self.lists.remove(&slot);
        }
    }

    /// How often all candidates were ranked; and how many lists are kept, in how long an order.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (u64, usize, usize) {
        (self.rankings, self.lists.len(), self.order.len())
    }

    /// The weights of an engine, shared by all lists that are made with them.
    fn shared(&mut self, weights: &Weights) -> Arc<Weights> {
        let known = self.weights.take().filter(|known| known.version() == weights.version());
        let shared = known.unwrap_or_else(|| Arc::new(weights.clone()));
        self.weights.insert(shared).clone()
    }

    /// How many posts were news so far.
    fn news_end(&self) -> u64 {
        self.news_before + self.news.len() as u64
    }

    /// Keeps the scored candidates in `scratch`, all that there are.
    fn keep(&mut self, reader: u32, made_ms: u64, weights: &Weights, scratch: &mut Scratch) {
        // Its old list needs no room beside the new one.
        self.lists.remove(&reader);
        self.expire(made_ms);
        let weights = self.shared(weights);
        let posts = best_of(scratch);
        let best = posts.len().min(POSTS_MAX);
        let list = List {
            number: self.rankings,
            was_asked: false,
            made_ms,
            weights,
            news: self.news_end(),
            best,
            is_whole: best == scratch.candidates.len(),
            posts,
        };
        self.lists.insert(reader, list);
        self.order.push_back((reader, self.rankings));
    }

    /// Makes room for a list that is made now: drops what is too old, and of the others the oldest for
    /// which nobody asked again (second chance).
    fn expire(&mut self, now_ms: u64) {
        if self.order.len() >= ORDER_MAX {
            let Self { lists, order, .. } = self;
            order.retain(|(reader, number)| {
                lists.get(reader).is_some_and(|list| list.number == *number)
            });
        }
        while let Some((reader, number)) = self.order.front().copied() {
            let is_full = self.lists.len() >= LISTS_MAX;
            if let Some(list) = self.lists.get_mut(&reader).filter(|list| list.number == number) {
                let is_valid = list.is_valid(now_ms);
                if is_valid && !is_full {
                    return;
                }
                if is_valid && std::mem::take(&mut list.was_asked) {
                    self.order.rotate_left(1);
                    continue;
                }
                self.lists.remove(&reader);
            }
            self.order.pop_front();
        }
    }
}

/// The best of the scored candidates in `scratch`, and those to explore, best first.
fn best_of(scratch: &mut Scratch) -> Box<[KeptPost]> {
    let best = rules::rank(POSTS_MAX, Method::Ranker, scratch);
    let Scratch { candidates, scores, ranking, fresh, .. } = scratch;
    let mut posts = Vec::with_capacity(best + fresh.len());
    for (rank, index) in ranking.iter().enumerate() {
        let place = fresh.iter().position(|fresh| fresh == index);
        if rank < best || place.is_some() {
            let Candidate { post, source, because, because_lift, tag, .. } =
                candidates[usize::from(*index)];
            let score = scores[usize::from(*index)];
            let fresh = place.map_or(NOT_FRESH, |place| place as u8);
            posts.push(KeptPost { post, score, because, because_lift, tag, source, fresh });
        }
    }
    // Behind the best the ranking is in no order: a list that is sorted costs less when it is asked for.
    posts[best..].sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.post.cmp(&b.post)));
    posts.into_boxed_slice()
}

impl List {
    fn is_valid(&self, now_ms: u64) -> bool {
        // A clock that was set back makes no list younger.
        (self.made_ms..self.made_ms + KEPT_MS).contains(&now_ms)
    }
}

impl Engine {
    /// As [`Engine::recommend`], from the list that is kept for the reader if there is one.
    pub fn recommend_again(
        &self,
        reader: UserId,
        now: Stamp,
        options: &Options<'_>,
        scratch: &mut Scratch,
        kept: &mut KeptLists,
    ) -> Recommendations {
        let slot = self.find_reader(reader).filter(|_| options.method == Method::Ranker);
        let Some(slot) = slot else { return self.recommend(reader, now, options, scratch) };
        if let Some(found) = self.recommend_kept(slot, now, options, scratch, kept) {
            return found;
        }
        self.ask(reader, now, options.exclude, scratch);
        kept.rankings += 1;
        let method = self.score(&self.weights, options.method, scratch);
        // What is excluded is not among the candidates, and may be asked for the next time.
        if method == Method::Ranker && options.exclude.is_empty() {
            kept.keep(slot, now.as_millis(), &self.weights, scratch);
        }
        let chosen = rules::choose(self, options, method, scratch).chosen;
        self.answered(&chosen, options, method, self.weights.version(), scratch)
    }

    /// The list that is kept, less what must not be shown any more, and with what is new. `None` where
    /// it does not reach for what is asked.
    fn recommend_kept(
        &self,
        reader: u32,
        now: Stamp,
        options: &Options<'_>,
        scratch: &mut Scratch,
        kept: &mut KeptLists,
    ) -> Option<Recommendations> {
        let now_ms = now.as_millis();
        let news_end = kept.news_end();
        let list = kept.lists.get_mut(&reader).filter(|list| list.is_valid(now_ms))?;
        list.was_asked = true;
        let known = list.news.checked_sub(kept.news_before)? as usize;
        let mut recent = [(0, 0); RECENT_MAX];
        let asker = self.asker(reader, &mut recent, now_ms / 1000);
        let again = Again { asker, options, list, news: kept.news.range(known..), now_ms };
        if again.has_news() || options.explain {
            gather::note_followed(asker, scratch);
        }
        let reach = rules::reach(options);
        let near = if again.may_stop() { reach.min(options.limit + NEAR) } else { reach };
        let mut found = self.choose_kept(&again, near, scratch)?;
        if found.choice.saw_all && near < reach {
            found = self.choose_kept(&again, reach, scratch)?;
        }
        let Found { choice, added, best, is_whole } = found;
        let is_short = choice.went_further || choice.chosen.len() < options.limit;
        if is_short && !is_whole {
            return None;
        }
        let version = list.weights.version();
        let answer = self.answered(&choice.chosen, options, Method::Ranker, version, scratch);
        if added > 0 && options.exclude.is_empty() {
            list.posts = best_of(scratch);
            list.best = best.min(POSTS_MAX).min(list.posts.len());
            list.is_whole = is_whole && list.posts.len() == scratch.candidates.len();
            list.news = news_end;
        }
        Some(answer)
    }

    /// Chooses among so many of the best that may be shown. `None` where the list has not so many, or a
    /// score is no number.
    fn choose_kept(&self, again: &Again<'_>, reach: usize, scratch: &mut Scratch) -> Option<Found> {
        let Again { asker, options, list, news, now_ms } = again;
        // What was read was no candidate, and a read since would have dropped the list. But a read may
        // have come before the post, which is news now.
        let reads = if again.has_news() { asker.reads } else { &[] };
        self.exclude(Asker { reads, ..*asker }, options.exclude, scratch);
        scratch.candidates.clear();
        scratch.scores.clear();
        scratch.fresh.clear();
        let may_stop = again.may_stop();
        let part = if may_stop { reach + options.exclude.len() } else { usize::MAX };
        self.fetch_rights(list.posts.iter().take(part).map(|kept| kept.post));
        let mut fresh = [None; rules::FRESH_MAX];
        let mut passed_over = 0;
        for kept in &list.posts {
            let is_enough = may_stop && scratch.candidates.len() >= reach;
            if is_enough && kept.fresh == NOT_FRESH {
                passed_over += 1;
            } else {
                self.restore_kept(*asker, kept, &mut fresh, scratch);
            }
        }
        scratch.fresh.extend(fresh.into_iter().flatten());
        // Where something is left out, others had a place when the list was made.
        let left_out = list.posts.len() - passed_over - scratch.candidates.len();
        let is_whole = list.is_whole && left_out == 0;
        let added =
            self.add_news(*asker, news.clone().rev().copied(), *now_ms, &list.weights, scratch)?;
        let best = (list.best + added).saturating_sub(left_out);
        if !is_whole && reach > best {
            return None;
        }
        let choice = rules::choose_among(self, options, Method::Ranker, reach, scratch);
        Some(Found { choice, added, best, is_whole })
    }

    fn restore_kept(
        &self,
        asker: Asker<'_>,
        kept: &KeptPost,
        to_explore: &mut [Option<u16>; rules::FRESH_MAX],
        scratch: &mut Scratch,
    ) {
        let KeptPost { post, score, because, because_lift, tag, source, fresh } = *kept;
        let row = &self.posts[post as usize];
        let next = scratch.candidates.len() as u16;
        if !asker.may_see(&scratch.unseen, row) || scratch.map.get_or_insert(post, next) != next {
            return;
        }
        let candidate = Candidate::new(post, source, [1.0; 2]);
        scratch.candidates.push(Candidate { because, because_lift, tag, ..candidate });
        scratch.scores.push(score);
        if fresh != NOT_FRESH && rules::is_fresh(row) {
            to_explore[usize::from(fresh)] = Some(next);
        }
    }

    /// Ranks what was published since, latest first, beside what is restored, and says how much that is.
    /// `None` where a score is no number.
    fn add_news(
        &self,
        asker: Asker<'_>,
        news: impl Iterator<Item = u32>,
        now_ms: u64,
        weights: &Weights,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        let first = scratch.candidates.len();
        for post in news {
            let row = &self.posts[post as usize];
            let next = scratch.candidates.len() as u16;
            if !asker.may_see(&scratch.unseen, row) || scratch.map.get_or_insert(post, next) != next
            {
                continue;
            }
            let is_followed = row.author != NONE && scratch.followed.has_author(row.author);
            let source = if is_followed { Source::FollowedAuthor } else { Source::Newest };
            scratch.candidates.push(Candidate::new(post, source, [1.0; 2]));
        }
        let added = scratch.candidates.len() - first;
        if added > 0 {
            extract(self, asker, now_ms, first, scratch);
            weights.normalise(&scratch.features, &mut scratch.normal);
            weights.score(&scratch.normal, first, &mut scratch.scores);
            rules::add_fresh_news(self, first, scratch);
        }
        scratch.scores[first..].iter().all(|score| score.is_finite()).then_some(added)
    }
}

// Indexes of candidates stay below what marks posts that are excluded or not kept.
const _: () = assert!((NOT_KEPT as usize) > POSTS_MAX + NEWS_MAX + rules::FRESH_MAX);
