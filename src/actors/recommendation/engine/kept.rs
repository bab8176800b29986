//! Lists that are kept for readers who ask again: for the next page, or for the same one once more.
//!
//! A ranking looks at hundreds of posts all over the memory, and what it finds hardly changes from one
//! question of a reader to the next. What does change it is what the reader does, and what is published:
//! the first drops the list, the second is ranked when the reader asks and takes its place in it. Only what
//! others read waits, for [`KEPT_MS`] at most: a trend that is thirty times as old costs the ranker a
//! thousandth of its hits (`docs/recommendation-evaluation.md`). Why it is so: ADR 0017.
//!
//! Beside the engine's state, not a part of it: what is kept goes with a process.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::actors::recommendation::engine::event::Event;
use crate::actors::recommendation::engine::features::extract;
use crate::actors::recommendation::engine::gather::{self, Asker};
use crate::actors::recommendation::engine::item::{Method, Recommendations, Source};
use crate::actors::recommendation::engine::post::NONE;
use crate::actors::recommendation::engine::recommend::{Options, RECENT_MAX};
use crate::actors::recommendation::engine::rules;
use crate::actors::recommendation::engine::scratch::{Candidate, EXCLUDED, Scratch};
use crate::actors::recommendation::engine::state::Engine;
use crate::ids::{Stamp, UserId};

/// How long a list is kept.
const KEPT_MS: u64 = 30_000;
/// Readers of whom a list is kept, of 2.3 kB each: 19 MB.
const LISTS_MAX: usize = 8_192;
/// Posts of a list, beside those to explore: enough for two pages of twenty, of which each asks for twice
/// as many as it shows.
const POSTS_MAX: usize = 80;
/// Posts that were published since and are ranked when the reader asks; with more, all is ranked anew.
const NEWS_MAX: usize = 64;

/// The lists.
#[derive(Debug, Default)]
pub struct KeptLists {
    lists: FxHashMap<u32, List>,
    /// Readers in the order in which their lists were made, each with the number of the list: what was
    /// dropped or made anew since has another.
    order: VecDeque<(u32, u64)>,
    /// Lists made so far.
    made: u64,
    /// Posts that were published or changed, the latest last, and how many there were before these.
    news: VecDeque<u32>,
    news_before: u64,
}

#[derive(Debug)]
struct List {
    number: u64,
    /// Whether it was asked for since it was made, or since there was no room for it.
    was_asked: bool,
    made_ms: u64,
    weights_version: u64,
    /// How many news were known.
    news: u64,
    /// Best first.
    posts: Box<[KeptPost]>,
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

impl KeptLists {
    /// Drops what a fact changes, which the engine has taken in.
    pub fn note(&mut self, engine: &Engine, fact: &Event) {
        match fact {
            Event::PostChanged { post, author, .. } => {
                if let Some(author) = author {
                    self.forget(engine, *author);
                }
                let slot = engine.find_post(*post);
                if let Some(slot) = slot.filter(|slot| engine.posts[*slot as usize].is_listed()) {
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

    /// How often a list was made or brought up to date.
    #[cfg(test)]
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// How many posts were news so far.
    fn news_end(&self) -> u64 {
        self.news_before + self.news.len() as u64
    }

    /// Keeps the scored candidates in `scratch`; `is_all`: there are no others.
    fn keep(&mut self, reader: u32, made: (u64, u64), is_all: bool, scratch: &mut Scratch) {
        let (made_ms, weights_version) = made;
        self.expire(made_ms);
        let best = rules::rank(POSTS_MAX, Method::Ranker, scratch);
        let Scratch { candidates, scores, ranking, fresh, .. } = scratch;
        let is_whole = is_all && best == ranking.len();
        let place_of = |index: &u16| fresh.iter().position(|fresh| fresh == index);
        let mut posts = Vec::with_capacity(best + fresh.len());
        for (rank, index) in ranking.iter().enumerate() {
            let fresh = place_of(index).map_or(NOT_FRESH, |place| place as u8);
            if rank < best || fresh != NOT_FRESH {
                let Candidate { post, source, because, because_lift, tag, .. } =
                    candidates[usize::from(*index)];
                let score = scores[usize::from(*index)];
                posts.push(KeptPost { post, score, because, because_lift, tag, source, fresh });
            }
        }
        // Of those after the best, only some to explore are here: a list that is sorted costs less.
        posts[best..]
            .sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.post.cmp(&b.post)));
        let posts = posts.into_boxed_slice();
        self.made += 1;
        let (number, news) = (self.made, self.news_end());
        let list =
            List { number, was_asked: false, made_ms, weights_version, news, posts, is_whole };
        self.lists.insert(reader, list);
        self.order.push_back((reader, number));
    }

    /// Makes room for a list that is made now: drops what is too old, and of the others the oldest for
    /// which nobody asked again (second chance).
    fn expire(&mut self, now_ms: u64) {
        while let Some((reader, number)) = self.order.front().copied() {
            let is_full = self.order.len() >= LISTS_MAX;
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
        let method = self.score(&self.weights, options.method, scratch);
        let version = self.weights.version();
        // What is excluded is not among the candidates, and may be asked for the next time.
        if method == Method::Ranker && options.exclude.is_empty() {
            kept.keep(slot, (now.as_millis(), version), true, scratch);
        }
        let chosen = rules::choose(self, options, method, scratch).chosen;
        self.explained(&chosen, method, version, scratch)
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
        let list = kept.lists.get_mut(&reader).filter(|list| list.is_valid(now_ms))?;
        list.was_asked = true;
        let known = list.news.checked_sub(kept.news_before)? as usize;
        let mut recent = [(0, 0); RECENT_MAX];
        let asker = self.asker(reader, &mut recent, now_ms / 1000);
        self.exclude(asker, options.exclude, scratch);
        gather::note_followed(asker, scratch);
        scratch.candidates.clear();
        scratch.scores.clear();
        scratch.fresh.clear();
        self.fetch_posts(list.posts.iter().map(|kept| kept.post));
        let made = (list.made_ms, list.weights_version);
        let mut fresh = [None; rules::FRESH_MAX];
        let news: Vec<u32> = kept.news.range(known..).rev().copied().collect();
        for kept in &list.posts {
            // What changed is ranked with the news, and what is not listed any more is left out.
            if !news.contains(&kept.post) {
                self.restore_kept(asker, kept, &mut fresh, scratch);
            }
        }
        scratch.fresh.extend(fresh.into_iter().flatten());
        let left_out = list.posts.len() - scratch.candidates.len();
        // Where something is left out, other posts had a place among the candidates.
        let is_whole = list.is_whole && left_out == 0;
        let reach = POSTS_MAX.saturating_sub(left_out);
        if !is_whole && options.limit.max(rules::BEST) > reach {
            return None;
        }
        self.add_news(asker, &news, now_ms, scratch).then_some(())?;
        let choice = rules::choose(self, options, Method::Ranker, scratch);
        let is_short = choice.went_further || choice.chosen.len() < options.limit;
        if is_short && !is_whole {
            return None;
        }
        let found = self.explained(&choice.chosen, Method::Ranker, made.1, scratch);
        if !news.is_empty() && options.exclude.is_empty() {
            kept.keep(reader, made, is_whole, scratch);
        }
        Some(found)
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

    /// Ranks what was published since, latest first, beside what is restored. False where a score is no
    /// number.
    fn add_news(&self, asker: Asker<'_>, news: &[u32], now_ms: u64, scratch: &mut Scratch) -> bool {
        let first = scratch.candidates.len();
        for post in news {
            let row = &self.posts[*post as usize];
            let next = scratch.candidates.len() as u16;
            if !asker.may_see(&scratch.unseen, row)
                || scratch.map.get_or_insert(*post, next) != next
            {
                continue;
            }
            let is_followed = row.author != NONE && scratch.followed.has_author(row.author);
            let source = if is_followed { Source::FollowedAuthor } else { Source::Newest };
            scratch.candidates.push(Candidate::new(*post, source, [1.0; 2]));
        }
        if first == scratch.candidates.len() {
            return true;
        }
        extract(self, asker, now_ms, first, scratch);
        self.weights.normalise(&scratch.features, &mut scratch.normal);
        self.weights.score(&scratch.normal, first, &mut scratch.scores);
        rules::add_fresh_news(self, first, scratch);
        scratch.scores[first..].iter().all(|score| score.is_finite())
    }
}

/// Of what is excluded the map says so already.
const _: () = assert!(EXCLUDED as usize > POSTS_MAX + NEWS_MAX + rules::FRESH_MAX);
