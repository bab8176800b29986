//! Candidates: which posts may be worth a reader's while, and which must not be shown.

use crate::actors::recommendation::engine::Engine;
use crate::actors::recommendation::item::Source;
use crate::actors::recommendation::post::Post;
use crate::actors::recommendation::reader::Choices;
use crate::actors::recommendation::scratch::{Candidate, EXCLUDED, Scratch};

/// Candidates beyond which no more are taken.
const CANDIDATES_MAX: usize = 2_000;
/// Candidates by co-reads alone, strongest first.
const TOGETHER_MAX: usize = 32;
/// Followed authors, followed tags and tags of interest that are looked at.
const FOLLOWED_LISTS_MAX: usize = 64;
const INTEREST_LISTS_MAX: usize = 4;
/// Posts from each list of a tag or author.
const PER_SMALL_LIST: usize = 8;
/// How much less an older read says.
const FADE_PER_READ: f32 = 0.85;
/// How many reads outweigh the popularity of a post in its lift.
const LIFT_PRIOR: f32 = 16.0;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    /// User slot, for own posts.
    pub(super) user: Option<u32>,
    /// All reads that are remembered.
    pub(super) reads: &'a [u32],
    /// The recent ones, newest first, with times in seconds.
    pub(super) recent: &'a [(u32, u32)],
    pub(super) interests: &'a [(u32, u32)],
    pub(super) authors: &'a [(u32, u32)],
    pub(super) choices: Option<&'a Choices>,
    pub(super) taste: Option<(f32, f32)>,
    pub(super) now_s: u64,
}

impl Asker<'_> {
    /// Whether a post may be shown to this reader, as far as this copy knows.
    pub(super) fn may_see(&self, post: &Post) -> bool {
        if !post.is_listed() || Some(post.author) == self.user {
            return false;
        }
        let Some(choices) = self.choices else { return true };
        !choices.muted.contains(&post.author)
            && !post.tags().iter().any(|tag| choices.muted_tags.contains(tag))
    }
}

/// Fills `scratch` with candidates. `exclude` are further posts that must not be among them.
pub(super) fn gather(engine: &Engine, asker: Asker<'_>, exclude: &[u32], scratch: &mut Scratch) {
    scratch.map.clear();
    scratch.candidates.clear();
    let hidden = asker.choices.map_or(&[][..], |choices| &choices.hidden);
    for post in asker.reads.iter().chain(exclude).chain(hidden) {
        scratch.map.get_or_insert(*post, EXCLUDED);
    }
    let mut taker = Taker { engine, asker, scratch };
    taker.take_followed();
    taker.take_trends();
    taker.take_interests();
    let most = engine.settings.candidates_per_list;
    taker.take(Source::Newest, engine.newest.posts(), most);
    taker.take_together();
}

struct Taker<'a> {
    engine: &'a Engine,
    asker: Asker<'a>,
    scratch: &'a mut Scratch,
}

impl Taker<'_> {
    /// Takes up to `most` posts of a list that the reader may see, whether new here or not.
    fn take(&mut self, source: Source, posts: impl Iterator<Item = u32>, most: usize) {
        let mut taken = 0;
        for post in posts {
            if taken >= most || self.scratch.candidates.len() >= CANDIDATES_MAX {
                return;
            }
            let next = self.scratch.candidates.len() as u16;
            let index = self.scratch.map.get_or_insert(post, next);
            if index == EXCLUDED {
                continue;
            }
            if index == next {
                // Muted posts stay in the map without being candidates; they are few.
                if !self.asker.may_see(&self.engine.posts[post as usize]) {
                    self.scratch.map.exclude(post);
                    continue;
                }
                self.scratch.candidates.push(Candidate::new(post, source));
            }
            taken += 1;
        }
    }

    fn take_followed(&mut self) {
        let engine = self.engine;
        let Some(choices) = self.asker.choices else { return };
        for author in choices.follows.iter().rev().take(FOLLOWED_LISTS_MAX) {
            if let Some(list) = engine.by_author.get(author) {
                self.take(Source::FollowedAuthor, list.posts(), PER_SMALL_LIST);
            }
        }
        for tag in choices.followed_tags.iter().rev().take(FOLLOWED_LISTS_MAX) {
            let tag = engine.tag(*tag);
            self.take(Source::FollowedTag, tag.newest.posts(), PER_SMALL_LIST);
            self.take(Source::FollowedTag, tag.trends[0].posts(), PER_SMALL_LIST);
        }
    }

    fn take_trends(&mut self) {
        let engine = self.engine;
        for trend in &engine.trends {
            self.take(Source::Trend, trend.posts(), engine.settings.candidates_per_list);
        }
    }

    fn take_interests(&mut self) {
        let engine = self.engine;
        // The strongest few, without sorting all.
        let mut strongest = [(0, 0); INTEREST_LISTS_MAX];
        for (tag, weight) in self.asker.interests {
            let at = strongest.partition_point(|(_, kept)| kept >= weight);
            if at < INTEREST_LISTS_MAX {
                strongest[at..].rotate_right(1);
                strongest[at] = (*tag, *weight);
            }
        }
        for (tag, _) in strongest.into_iter().filter(|(_, weight)| *weight > 0) {
            let tag = engine.tag(tag);
            self.take(Source::TagNewest, tag.newest.posts(), PER_SMALL_LIST);
            for trend in &tag.trends {
                self.take(Source::TagTrend, trend.posts(), PER_SMALL_LIST);
            }
        }
    }

    /// Adds what is read together with the recent reads, and what that says of all candidates.
    fn take_together(&mut self) {
        let engine = self.engine;
        let listed = self.scratch.candidates.len();
        let total = engine.pairs_total() as f32;
        let mut fade = 1.0;
        for (nth, (read, at_s)) in self.asker.recent.iter().enumerate() {
            let row = &engine.posts[*read as usize].neighbours;
            let together_sum = (row.together_sum as f32).max(1.0);
            let next_sum = (row.next_sum as f32).max(1.0);
            for neighbour in row.all() {
                let next = self.scratch.candidates.len() as u16;
                let index = self.scratch.map.get_or_insert(neighbour.post, next);
                if index == EXCLUDED {
                    continue;
                }
                if index == next {
                    if self.scratch.candidates.len() >= CANDIDATES_MAX {
                        continue;
                    }
                    self.scratch.candidates.push(Candidate::new(neighbour.post, Source::Together));
                }
                let candidate = &mut self.scratch.candidates[usize::from(index)];
                let together = f32::from(neighbour.together);
                candidate.together += fade * together / (together_sum + LIFT_PRIOR);
                let other = &engine.posts[neighbour.post as usize].neighbours;
                let share = (other.together_sum as f32).max(1.0) / total.max(1.0);
                let lift = fade * (1.0 + together / (64.0 * LIFT_PRIOR * share)).log2();
                candidate.lift += lift;
                if self.asker.now_s < u64::from(*at_s) + 1800 {
                    candidate.lift_session += lift;
                }
                if nth == 0 {
                    candidate.next_lift = (1.0 + f32::from(neighbour.next) / (64.0 * 4.0 * share)).log2();
                    candidate.lift_last = lift;
                    candidate.next = f32::from(neighbour.next) / (next_sum + LIFT_PRIOR);
                }
                if lift > candidate.because_lift {
                    candidate.because_lift = lift;
                    candidate.because = *read;
                }
            }
            fade *= FADE_PER_READ;
        }
        self.keep_strongest(listed);
    }

    /// Of the candidates that only co-reads brought, keeps the strongest.
    fn keep_strongest(&mut self, listed: usize) {
        let (engine, asker) = (self.engine, self.asker);
        let candidates = &mut self.scratch.candidates;
        let strongest = |a: &Candidate, b: &Candidate| {
            b.together.total_cmp(&a.together).then(a.post.cmp(&b.post))
        };
        let mut kept = listed;
        if candidates.len() > listed {
            candidates[listed..].sort_unstable_by(strongest);
        }
        for at in listed..candidates.len() {
            let candidate = candidates[at];
            if kept - listed < TOGETHER_MAX
                && asker.may_see(&engine.posts[candidate.post as usize])
            {
                candidates[kept] = candidate;
                kept += 1;
            }
        }
        candidates.truncate(kept);
    }
}
