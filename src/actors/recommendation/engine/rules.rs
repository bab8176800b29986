//! From scores to a list: variety, room for the new, and nothing of one author only.

use std::cmp::Ordering;

use crate::actors::recommendation::engine::item::{Method, Source};
use crate::actors::recommendation::engine::post::{NONE, Post};
use crate::actors::recommendation::engine::recommend::Options;
use crate::actors::recommendation::engine::scratch::{Candidate, EXCLUDED, NOT_KEPT, Scratch};
use crate::actors::recommendation::engine::state::Engine;
use crate::actors::signature::mix;

/// Candidates among which variety is made.
pub(super) const BEST: usize = 50;
/// Candidates after the best that are looked at when none of the best has room.
const FURTHER: usize = 256;
/// Posts of one author in so many places, and of those that compete for a place of exploration.
pub(super) const PER_AUTHOR: usize = 2;
pub(super) const PLACES: usize = 10;
/// Score that a post loses when it has just the tags of one that stands before it.
const SAMENESS: f32 = 0.3;
/// A post is under-exposed until so many bits are set of those to whom it was shown in a place of
/// exploration: about nine signed-in readers, who set 8 of 32 bits on average. A reader counts once: or
/// one account would end exploration for everybody. Other places and anonymous readers do not count:
/// one address that asks again and again would do the same, and what the ranker shows anyway tells
/// nothing of whom it is not for. Where hardly anybody signs in, what is explored ends with the newest
/// posts.
const SHOWN_ENOUGH: u32 = 8;
/// Places in ten for exploration, at most.
const EXPLORE_MAX: usize = 2;

/// A place in the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    /// Which candidate.
    pub(super) index: u16,
    /// Probability of standing there.
    pub(super) propensity: f32,
    pub(super) is_explored: bool,
}

/// What was chosen.
pub(super) struct Choice {
    /// In their order.
    pub(super) chosen: Vec<Chosen>,
    /// The best ones were not enough.
    pub(super) went_further: bool,
    /// Each of the best that was left was looked at for one place: with more of them, another might
    /// stand there.
    pub(super) saw_all: bool,
}

/// Among how many of the best candidates is chosen.
pub(super) fn reach(options: &Options<'_>) -> usize {
    options.limit.max(BEST)
}

/// Scores candidates by a list instead of the ranker; those that are not in it come after.
pub(super) fn score_by_list(engine: &Engine, method: Method, scratch: &mut Scratch) {
    scratch.scores.clear();
    let born = |candidate: &Candidate| {
        // Newer is higher, below 0.
        let born_ms = engine.posts[candidate.post as usize].born_ms;
        -1.0 - 1.0 / (1.0 + born_ms as f32 * 1e-15)
    };
    scratch.scores.extend(scratch.candidates.iter().map(|candidate| match method {
        Method::Together => candidate.pairs[0].together + candidate.pairs[1].together,
        Method::Ranker | Method::Trend | Method::Latest => born(candidate),
    }));
    let list = match method {
        Method::Together => return,
        Method::Trend => &engine.trends[engine.pace.best()],
        Method::Ranker | Method::Latest => &engine.newest,
    };
    let length = list.places().len() as f32;
    for (nth, post) in list.posts().enumerate() {
        let index = scratch.map.find(post).map(usize::from);
        if let Some(index) = index.filter(|index| *index < scratch.candidates.len()) {
            scratch.scores[index] = length - nth as f32;
        }
    }
}

/// Chooses and orders.
pub(super) fn choose(
    engine: &Engine,
    options: &Options<'_>,
    method: Method,
    scratch: &mut Scratch,
) -> Choice {
    choose_among(engine, options, method, reach(options), scratch)
}

/// The same among so many of the best.
pub(super) fn choose_among(
    engine: &Engine,
    options: &Options<'_>,
    method: Method,
    most: usize,
    scratch: &mut Scratch,
) -> Choice {
    let best = rank(most, method, scratch);
    let explore = options.explore.min(EXPLORE_MAX);
    let mut chosen = Vec::with_capacity(options.limit);
    let further = Further { indexes: scratch.ranking.split_off(best), is_sorted: false };
    let left = scratch.ranking.clone();
    let mut picker = Picker { engine, left, further, went_further: false, saw_all: false };
    while chosen.len() < options.limit {
        let from_end = PLACES - 1 - chosen.len() % PLACES;
        let random = mix(options.random.wrapping_add(chosen.len() as u64));
        let explored =
            if from_end < explore { picker.explore(&chosen, random, scratch) } else { None };
        let next = explored.or_else(|| picker.next(&chosen, options.is_diverse, scratch));
        let Some(next) = next else { break };
        chosen.push(next);
    }
    Choice { chosen, went_further: picker.went_further, saw_all: picker.saw_all }
}

/// Brings so many of the best candidates to the front, best first, and returns how many there are.
pub(super) fn rank(most: usize, method: Method, scratch: &mut Scratch) -> usize {
    let Scratch { candidates, scores, ranking, .. } = scratch;
    ranking.clear();
    ranking.extend(0..candidates.len() as u16);
    if method == Method::Together {
        ranking.retain(|index| scores[usize::from(*index)] > 0.0);
    }
    let best = ranking.len().min(most);
    // A list that was kept is sorted but for what is new.
    if ranking.is_sorted_by(|a, b| order(candidates, scores, *a, *b).is_le()) {
        return best;
    }
    if ranking.len() > most {
        ranking.select_nth_unstable_by(most, |a, b| order(candidates, scores, *a, *b));
    }
    ranking[..best].sort_unstable_by(|a, b| order(candidates, scores, *a, *b));
    best
}

/// Best first; of equals, the post that was heard of first.
fn order(candidates: &[Candidate], scores: &[f32], a: u16, b: u16) -> Ordering {
    let (a, b) = (usize::from(a), usize::from(b));
    scores[b].total_cmp(&scores[a]).then(candidates[a].post.cmp(&candidates[b].post))
}

/// The candidates after the best ones, which are seldom needed: so they are sorted when they are.
struct Further {
    indexes: Vec<u16>,
    is_sorted: bool,
}

impl Further {
    fn sort(&mut self, scratch: &Scratch) {
        if !self.is_sorted {
            let Scratch { candidates, scores, .. } = scratch;
            self.indexes.sort_unstable_by(|a, b| order(candidates, scores, *a, *b));
            self.is_sorted = true;
        }
    }
}

struct Picker<'a> {
    engine: &'a Engine,
    /// The best candidates that are not chosen yet, best first.
    left: Vec<u16>,
    further: Further,
    went_further: bool,
    saw_all: bool,
}

impl Picker<'_> {
    fn post(&self, index: u16, scratch: &Scratch) -> &Post {
        &self.engine.posts[scratch.candidates[usize::from(index)].post as usize]
    }

    /// The best that is left, less what it has in common with what stands before it (maximal
    /// marginal relevance; Carbonell and Goldstein, SIGIR 1998).
    fn next(&mut self, chosen: &[Chosen], is_diverse: bool, scratch: &Scratch) -> Option<Chosen> {
        let mut best = None;
        let mut saw_all = true;
        for (at, index) in self.left.iter().take(BEST).enumerate() {
            let score = scratch.scores[usize::from(*index)];
            // Variety only takes away, and what follows has less to lose.
            if best.is_some_and(|(_, best)| best >= score) {
                saw_all = false;
                break;
            }
            if !is_diverse {
                best = Some((at, score));
                saw_all = false;
                break;
            }
            let post = self.post(*index, scratch);
            if !self.has_room(post, chosen, scratch) {
                continue;
            }
            let score = score - SAMENESS * self.sameness(post, chosen, scratch);
            if best.is_none_or(|(_, best)| score > best) {
                best = Some((at, score));
            }
        }
        self.saw_all |= saw_all;
        let index = match best {
            Some((at, _)) => self.left.remove(at),
            None => self.next_further(chosen, scratch)?,
        };
        Some(Chosen { index, propensity: 1.0, is_explored: false })
    }

    /// When none of the best has room: the first one after them that has. When there is none either,
    /// the best of all: a full list of few authors is better than a short one.
    fn next_further(&mut self, chosen: &[Chosen], scratch: &Scratch) -> Option<u16> {
        self.went_further = true;
        self.further.sort(scratch);
        let mut after = self.further.indexes.iter().take(FURTHER);
        let at = after.position(|index| self.has_room(self.post(*index, scratch), chosen, scratch));
        match at {
            Some(at) => Some(self.further.indexes.remove(at)),
            None if !self.left.is_empty() => Some(self.left.remove(0)),
            None if !self.further.indexes.is_empty() => Some(self.further.indexes.remove(0)),
            None => None,
        }
    }

    /// A post that few have seen, at random.
    fn explore(&mut self, chosen: &[Chosen], random: u64, scratch: &mut Scratch) -> Option<Chosen> {
        let mut pool = std::mem::take(&mut scratch.pool);
        pool.clear();
        for index in &scratch.fresh {
            let post = self.post(*index, scratch);
            let is_chosen = chosen.iter().any(|chosen| chosen.index == *index);
            if !is_chosen && self.has_room(post, chosen, scratch) {
                pool.push(*index);
            }
        }
        let picked = pool.get(random as usize % pool.len().max(1)).copied();
        let propensity = 1.0 / pool.len().max(1) as f32;
        scratch.pool = pool;
        let index = picked?;
        self.left.retain(|left| *left != index);
        self.further.indexes.retain(|further| *further != index);
        Some(Chosen { index, propensity, is_explored: true })
    }

    /// Whether one more of this author is not too much in any ten places.
    fn has_room(&self, post: &Post, chosen: &[Chosen], scratch: &Scratch) -> bool {
        if post.author == NONE {
            return true;
        }
        let near = chosen.iter().rev().take(PLACES - 1);
        let same = near.filter(|near| self.post(near.index, scratch).author == post.author);
        same.count() < PER_AUTHOR
    }

    /// The largest share of tags in common with a post that stands before it.
    fn sameness(&self, post: &Post, chosen: &[Chosen], scratch: &Scratch) -> f32 {
        let mut most = 0.0_f32;
        for before in chosen.iter().rev().take(PLACES - 1) {
            let tags = self.post(before.index, scratch).tags();
            let common = post.tags().iter().filter(|tag| tags.contains(tag)).count();
            let all = post.tags().len() + tags.len() - common;
            most = most.max(common as f32 / all.max(1) as f32);
        }
        most
    }
}

/// Adds the posts that few have seen to the candidates: of the newest, which the reader may see. Where
/// the ranker chooses one of them, that explores nothing: so their source is the list they are from.
pub(super) fn add_fresh(engine: &Engine, may_see: impl Fn(&Post) -> bool, scratch: &mut Scratch) {
    scratch.fresh.clear();
    for slot in engine.newest.posts() {
        let post = &engine.posts[slot as usize];
        if !may_compete(engine, post, scratch) || !may_see(post) {
            continue;
        }
        let next = scratch.candidates.len() as u16;
        let mut index = scratch.map.get_or_insert(slot, next);
        if index == EXCLUDED {
            continue;
        }
        if index == NOT_KEPT {
            // That it is seldom read with what the reader read is no reason not to try it.
            scratch.map.set(slot, next);
            index = next;
        }
        if index == next {
            scratch.candidates.push(Candidate::new(slot, Source::Newest, [1.0; 2]));
        }
        scratch.fresh.push(index);
    }
}

/// The same for candidates from the `first` on, latest first, which are newer than those to explore.
pub(super) fn add_fresh_news(engine: &Engine, first: usize, scratch: &mut Scratch) {
    let older = std::mem::take(&mut scratch.fresh);
    for index in (first as u16..scratch.candidates.len() as u16).chain(older) {
        let post = &engine.posts[scratch.candidates[usize::from(index)].post as usize];
        if may_compete(engine, post, scratch) {
            scratch.fresh.push(index);
        }
    }
}

/// Whether a post may be one of those that compete for a place of exploration. One author's many posts
/// would keep out everybody else's.
fn may_compete(engine: &Engine, post: &Post, scratch: &Scratch) -> bool {
    if !is_fresh(post) || scratch.fresh.len() >= FRESH_MAX {
        return false;
    }
    let slots = scratch.fresh.iter().map(|index| scratch.candidates[usize::from(*index)].post);
    let same = slots.filter(|slot| engine.posts[*slot as usize].author == post.author);
    post.author == NONE || same.count() < PER_AUTHOR
}

/// Whether few have seen a post.
pub(super) fn is_fresh(post: &Post) -> bool {
    post.shown.count_ones() < SHOWN_ENOUGH
}

/// Posts that compete for a place of exploration.
pub(super) const FRESH_MAX: usize = 16;
