//! Questions: what to read next.

use std::cmp::Reverse;

use crate::actors::recommendation::engine::features::{FEATURES, extract};
use crate::actors::recommendation::engine::gather::{self, Asker, gather};
use crate::actors::recommendation::engine::item::{Item, Method, Reason, Recommendations, Source};
use crate::actors::recommendation::engine::post::{NONE, Post};
use crate::actors::recommendation::engine::rules::{self, Chosen};
use crate::actors::recommendation::engine::scratch::Scratch;
use crate::actors::recommendation::engine::state::Engine;
use crate::actors::recommendation::engine::top_list::Place;
use crate::actors::recommendation::engine::weights::Weights;
use crate::ids::{PostId, Stamp, UserId};

/// Recent reads that scores are made from, whatever the settings.
pub(super) const RECENT_MAX: usize = 20;
/// Bits of lift from which a read is named as the reason.
const BECAUSE_LIFT_MIN: f32 = 1.0;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Posts, at most.
    pub limit: usize,
    /// Further posts that must not be in the answer: earlier pages.
    pub exclude: &'a [PostId],
    /// How to rank. What cannot be done falls back: ranker, then trend, then latest.
    pub method: Method,
    /// At most two posts of an author in ten, and variety of tags.
    pub is_diverse: bool,
    /// Places in ten for posts that few have seen; at most 2.
    pub explore: usize,
    /// Decides what is explored: any random number, fresh for each question.
    pub random: u64,
    /// Whether reasons are wanted.
    pub explain: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        let (method, is_diverse, explore) = (Method::Ranker, true, 1);
        Self { limit: 10, exclude: &[], method, is_diverse, explore, random: 0, explain: true }
    }
}

impl Engine {
    /// Recommends posts to a reader, who may be unknown. Never fails: it may only know little.
    pub fn recommend(
        &self,
        reader: UserId,
        now: Stamp,
        options: &Options<'_>,
        scratch: &mut Scratch,
    ) -> Recommendations {
        self.ask(reader, now, options.exclude, scratch);
        self.answer(options, scratch)
    }

    /// Recommends posts to somebody of whom only some reads are known, newest first.
    pub fn recommend_session(
        &self,
        reads: &[PostId],
        now: Stamp,
        options: &Options<'_>,
        scratch: &mut Scratch,
    ) -> Recommendations {
        self.ask_session(reads, None, now, options.exclude, scratch);
        self.answer(options, scratch)
    }

    /// Posts like this one: what its readers read, and what has its tags. Best first. For a reader,
    /// if one is named; that decides what is left out, not what is near.
    pub fn related(
        &self,
        post: PostId,
        reader: Option<UserId>,
        now: Stamp,
        options: &Options<'_>,
        scratch: &mut Scratch,
    ) -> Recommendations {
        self.ask_session(&[post], reader, now, options.exclude, scratch);
        self.answer(&Options { method: Method::Together, explore: 0, ..*options }, scratch)
    }

    /// What is much read of late: of all posts, or of those with a tag. The window is a number
    /// below [`crate::actors::recommendation::engine::settings::WINDOWS`]; without one, or with one
    /// that does not exist, it is that which foresees the reads best. For a reader, if one is named:
    /// without what was read or must not be shown.
    pub fn trending(
        &self,
        tag: Option<&str>,
        window: Option<usize>,
        reader: Option<UserId>,
        options: &Options<'_>,
        scratch: &mut Scratch,
    ) -> Recommendations {
        let window = window.filter(|window| *window < self.trends.len());
        let window = window.unwrap_or_else(|| self.pace.best());
        let list = match tag {
            None => Some(&self.trends[window]),
            Some(tag) => self.tags.find(tag).map(|slot| self.tag(slot).trend(window)),
        };
        let asker = self.reader(reader, &[], 0);
        self.exclude(asker, options.exclude, scratch);
        let posts = list.into_iter().flat_map(|list| list.posts());
        let seen = posts.filter(|post| self.is_wanted(*post, asker, scratch));
        let reason = options.explain.then_some(Reason::Trending);
        let item = |post| self.item(post, reason.clone(), Source::Trend);
        let items = seen.take(options.limit).map(item).collect();
        self.listed(items, Method::Trend)
    }

    /// The newest posts of the authors and tags that a reader follows, newest first; nothing else.
    pub fn following(
        &self,
        reader: UserId,
        options: &Options<'_>,
        scratch: &mut Scratch,
    ) -> Recommendations {
        let asker = self.reader(Some(reader), &[], 0);
        let Some(choices) = asker.choices else { return self.listed(Vec::new(), Method::Latest) };
        let authors = choices.follows.iter().map(|author| self.readers[*author as usize].newest());
        let tags = choices.followed_tags.iter().map(|tag| &self.tag(*tag).newest);
        let mut places: Vec<Place> =
            authors.chain(tags).flat_map(|list| list.places()).copied().collect();
        // What was read is followed nevertheless.
        self.exclude(Asker { reads: &[], ..asker }, options.exclude, scratch);
        gather::note_followed(asker, scratch);
        let newest_first = |place: &Place| (Reverse(place.order), place.post);
        let mut items = Vec::with_capacity(options.limit);
        let mut last = None;
        // A post stands in several lists, and some must not be shown: mostly the first part is enough.
        let (mut rest, mut part) = (&mut places[..], 4 * options.limit + options.exclude.len());
        while !rest.is_empty() && items.len() < options.limit {
            part = part.clamp(1, rest.len());
            if part < rest.len() {
                rest.select_nth_unstable_by_key(part, newest_first);
            }
            let (first, others) = rest.split_at_mut(part);
            first.sort_unstable_by_key(newest_first);
            for place in first {
                let is_new = last.replace(place.post) != Some(place.post);
                let has_room = items.len() < options.limit;
                if is_new && has_room && self.is_wanted(place.post, asker, scratch) {
                    let post = &self.posts[place.post as usize];
                    let reason = || self.follow_reason(post, scratch).unwrap_or(Reason::New);
                    let reason = options.explain.then(reason);
                    items.push(self.item(place.post, reason, Source::FollowedAuthor));
                }
            }
            (rest, part) = (others, 4 * part);
        }
        self.listed(items, Method::Latest)
    }

    /// Fills `scratch` with the candidates for a reader and what the ranker sees of them, for
    /// [`crate::actors::recommendation::engine::learner::Learner::learn`] or [`Engine::answer`].
    pub fn ask(&self, reader: UserId, now: Stamp, exclude: &[PostId], scratch: &mut Scratch) {
        let now_s = now.as_millis() / 1000;
        let mut recent = [(0, 0); RECENT_MAX];
        let asker = match self.find_reader(reader) {
            Some(slot) => self.asker(slot, &mut recent, now_s),
            None => self.reader(None, &[], now_s),
        };
        self.prepare(asker, now, exclude, scratch);
    }

    /// The reader in a slot, who asks now; `recent` is where the recent reads are put.
    pub(super) fn asker<'a>(
        &'a self,
        slot: u32,
        recent: &'a mut [(u32, u32); RECENT_MAX],
        now_s: u64,
    ) -> Asker<'a> {
        let reader = &self.readers[slot as usize];
        let mut length = 0;
        for (place, read) in recent.iter_mut().zip(reader.recent()) {
            *place = read;
            length += 1;
        }
        self.reader(Some(reader.id), &recent[..length], now_s)
    }

    /// Ranks the candidates of the last [`Engine::ask`] with the engine's weights.
    pub fn answer(&self, options: &Options<'_>, scratch: &mut Scratch) -> Recommendations {
        self.answer_with(&self.weights, options, scratch)
    }

    /// Ranks the candidates of the last [`Engine::ask`] with these weights.
    pub fn answer_with(
        &self,
        weights: &Weights,
        options: &Options<'_>,
        scratch: &mut Scratch,
    ) -> Recommendations {
        let method = self.score(weights, options.method, scratch);
        let chosen = rules::choose(self, options, method, scratch).chosen;
        self.answered(&chosen, options, method, weights.version(), scratch)
    }

    /// The answer, of what was chosen from the candidates in `scratch`.
    pub(super) fn answered(
        &self,
        chosen: &[Chosen],
        options: &Options<'_>,
        method: Method,
        weights_version: u64,
        scratch: &Scratch,
    ) -> Recommendations {
        let items = chosen.iter().map(|chosen| {
            let index = usize::from(chosen.index);
            let candidate = &scratch.candidates[index];
            let Post { id: post, version, .. } = self.posts[candidate.post as usize];
            let reason = options.explain.then(|| self.reason(chosen, scratch));
            let source = if chosen.is_explored { Source::Exploration } else { candidate.source };
            let score = scratch.scores.get(index).copied().unwrap_or(0.0);
            Item { post, version, reason, score, source, propensity: chosen.propensity }
        });
        let items = items.collect();
        Recommendations { items, method, weights_version }
    }

    /// Which of the candidates in `scratch` a post is.
    pub fn candidate_of(&self, post: PostId, scratch: &Scratch) -> Option<usize> {
        let slot = self.find_post(post)?;
        let index = usize::from(scratch.map.find(slot)?);
        (index < scratch.candidates.len()).then_some(index)
    }

    /// Keeps of the candidates in `scratch` those that are among some posts, and the chosen one,
    /// whose index from then on is returned. Too few to compare: all are kept.
    pub fn keep_candidates(&self, posts: &[PostId], chosen: usize, scratch: &mut Scratch) -> usize {
        let mut kept: Vec<usize> =
            posts.iter().filter_map(|post| self.candidate_of(*post, scratch)).collect();
        kept.push(chosen);
        kept.sort_unstable();
        kept.dedup();
        if kept.len() < 2 {
            return chosen;
        }
        for (place, from) in kept.iter().enumerate() {
            let begin = from * FEATURES;
            scratch.features.copy_within(begin..begin + FEATURES, place * FEATURES);
            scratch.candidates[place] = scratch.candidates[*from];
        }
        scratch.features.truncate(kept.len() * FEATURES);
        scratch.candidates.truncate(kept.len());
        kept.binary_search(&chosen).unwrap_or_default()
    }

    /// The same for somebody with these reads, newest first. If one is named, it is a reader who
    /// must not be shown certain posts.
    fn ask_session(
        &self,
        reads: &[PostId],
        reader: Option<UserId>,
        now: Stamp,
        exclude: &[PostId],
        scratch: &mut Scratch,
    ) {
        let now_s = u32::try_from(now.as_millis() / 1000).unwrap_or(u32::MAX);
        let mut recent = [(NONE, now_s); RECENT_MAX];
        let known = reads.iter().filter_map(|post| self.find_post(*post));
        let mut length = 0;
        for (place, slot) in recent.iter_mut().zip(known) {
            place.0 = slot;
            length += 1;
        }
        // In a page of reads, most of what is excluded is older than the recent ones.
        let exclude: Vec<PostId> = reads.iter().chain(exclude).copied().collect();
        let asker = self.reader(reader, &recent[..length], u64::from(now_s));
        let asker = Asker { interests: &[], authors: &[], ..asker };
        self.prepare(asker, now, &exclude, scratch);
    }

    /// Who asks; nobody in particular where nothing is known.
    fn reader<'a>(
        &'a self,
        reader: Option<UserId>,
        recent: &'a [(u32, u32)],
        now_s: u64,
    ) -> Asker<'a> {
        let Some(slot) = reader.and_then(|reader| self.find_reader(reader)) else {
            return Asker {
                user: None,
                reads: &[],
                recent,
                interests: &[],
                authors: &[],
                choices: None,
                now_s,
            };
        };
        let reader = &self.readers[slot as usize];
        Asker {
            user: Some(slot),
            reads: reader.reads(),
            recent,
            interests: reader.tags.all(),
            authors: reader.authors.all(),
            choices: reader.choices.as_deref(),
            now_s,
        }
    }

    /// Notes in `scratch` what must not be shown.
    pub(super) fn exclude(&self, asker: Asker<'_>, exclude: &[PostId], scratch: &mut Scratch) {
        self.set_exclude(exclude, scratch);
        gather::exclude(asker, scratch);
    }

    fn set_exclude(&self, exclude: &[PostId], scratch: &mut Scratch) {
        let exclude = exclude.iter().filter_map(|post| self.find_post(*post));
        scratch.exclude.clear();
        scratch.exclude.extend(exclude);
    }

    /// Whether a post may stand in a list for this reader.
    fn is_wanted(&self, slot: u32, asker: Asker<'_>, scratch: &Scratch) -> bool {
        let post = &self.posts[slot as usize];
        scratch.map.find(slot).is_none() && asker.may_see(&scratch.unseen, post)
    }

    fn prepare(&self, asker: Asker<'_>, now: Stamp, exclude: &[PostId], scratch: &mut Scratch) {
        self.set_exclude(exclude, scratch);
        gather::note_followed(asker, scratch);
        gather(self, asker, scratch);
        extract(self, asker, now.as_millis(), 0, scratch);
    }

    /// Scores the candidates, and says by which method.
    pub(super) fn score(&self, weights: &Weights, asked: Method, scratch: &mut Scratch) -> Method {
        let mut method = asked;
        if method == Method::Ranker {
            weights.normalise(&scratch.features, &mut scratch.normal);
            weights.score(&scratch.normal, 0, &mut scratch.scores);
            if scratch.scores.iter().all(|score| score.is_finite()) {
                return method;
            }
            method = Method::Trend;
        }
        if method == Method::Trend && self.trends[self.pace.best()].places().is_empty() {
            method = Method::Latest;
        }
        rules::score_by_list(self, method, scratch);
        method
    }

    fn reason(&self, chosen: &Chosen, scratch: &Scratch) -> Reason {
        let candidate = &scratch.candidates[usize::from(chosen.index)];
        if chosen.is_explored {
            return Reason::Exploring;
        }
        if let Some(reason) = self.follow_reason(&self.posts[candidate.post as usize], scratch) {
            return reason;
        }
        // Where nothing else brought the post, a weak reason is the true one.
        let is_because =
            candidate.because_lift >= BECAUSE_LIFT_MIN || candidate.source == Source::Together;
        if candidate.because != NONE && is_because {
            let read = &self.posts[candidate.because as usize];
            // What is hidden by now must not be named.
            if read.is_listed() {
                return Reason::BecauseRead(read.id);
            }
        }
        match candidate.source {
            Source::TagTrend | Source::TagNewest if candidate.tag != NONE => {
                Reason::Interest(self.tags.name(candidate.tag).to_owned())
            }
            Source::Trend | Source::TagTrend => Reason::Trending,
            Source::FollowedAuthor | Source::FollowedTag | Source::Newest | Source::TagNewest => {
                Reason::New
            }
            Source::Exploration => Reason::Exploring,
            Source::Together => self.plain_reason(candidate.post),
        }
    }

    /// What may be said of a post whose real reason must not be named.
    fn plain_reason(&self, slot: u32) -> Reason {
        let first = self.settings.candidates_per_list;
        match self.trends.iter().any(|trend| trend.posts().take(first).any(|post| post == slot)) {
            true => Reason::Trending,
            false if rules::is_fresh(&self.posts[slot as usize]) => Reason::Exploring,
            false => Reason::New,
        }
    }

    fn follow_reason(&self, post: &Post, scratch: &Scratch) -> Option<Reason> {
        if scratch.followed.has_author(post.author) {
            return Some(Reason::Follows(self.readers[post.author as usize].id));
        }
        let tag = scratch.followed.tag_of(post.tags())?;
        Some(Reason::FollowsTag(self.tags.name(tag).to_owned()))
    }

    fn listed(&self, items: Vec<Item>, method: Method) -> Recommendations {
        Recommendations { items, method, weights_version: self.weights.version() }
    }

    fn item(&self, post: u32, reason: Option<Reason>, source: Source) -> Item {
        let Post { id: post, version, .. } = self.posts[post as usize];
        Item { post, version, reason, score: 0.0, source, propensity: 1.0 }
    }
}
