//! Candidates: which posts may be worth a reader's while, and which must not be shown.

use crate::actors::recommendation::engine::interests::Interest;
use crate::actors::recommendation::engine::item::Source;
use crate::actors::recommendation::engine::math::log2p;
use crate::actors::recommendation::engine::neighbours::{PAIR, SPEEDS};
use crate::actors::recommendation::engine::post::{NONE, Post};
use crate::actors::recommendation::engine::reader::Choices;
use crate::actors::recommendation::engine::rules::{PER_AUTHOR, PLACES, add_fresh};
use crate::actors::recommendation::engine::scratch::{
    Candidate, EXCLUDED, Hint, NOT_KEPT, Named, Scratch,
};
use crate::actors::recommendation::engine::state::Engine;

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
/// Pairs that are taken for chance, in the weight of a pair.
const PRIOR: f32 = 16.0;
/// How many pairs of a post's fair share outweigh what was seen.
const PRIOR_READS: f32 = 16.0 * PAIR as f32;
/// Reads within this time are one visit.
const VISIT_S: u64 = 30 * 60;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    /// User slot, for own posts.
    pub(super) user: Option<u32>,
    /// All reads that are remembered.
    pub(super) reads: &'a [u32],
    /// The recent ones, newest first, with times in seconds.
    pub(super) recent: &'a [(u32, u32)],
    pub(super) interests: &'a [Interest],
    pub(super) authors: &'a [Interest],
    pub(super) choices: Option<&'a Choices>,
    pub(super) now_s: u64,
}

impl Asker<'_> {
    /// Whether a post may be shown to this reader, as far as this copy knows.
    pub(super) fn may_see(&self, unseen: &Named, post: &Post) -> bool {
        post.is_listed()
            && Some(post.author) != self.user
            && !unseen.has_author(post.author)
            && unseen.tag_of(post.tags()).is_none()
    }
}

/// Fills `scratch` with candidates; what it says to exclude is not among them.
pub(super) fn gather(engine: &Engine, asker: Asker<'_>, scratch: &mut Scratch) {
    scratch.candidates.clear();
    exclude(asker, scratch);
    let unseen = std::mem::take(&mut scratch.unseen);
    let mut taker = Taker { engine, asker, unseen: &unseen, scratch };
    taker.take_followed();
    taker.take_trends();
    taker.take_interests();
    taker.take_newest();
    taker.take_together();
    add_fresh(engine, |post| asker.may_see(&unseen, post), scratch);
    scratch.unseen = unseen;
}

/// Notes in `scratch` what must not be shown to the reader, beside what it says to exclude.
pub(super) fn exclude(asker: Asker<'_>, scratch: &mut Scratch) {
    let Scratch { map, exclude, unseen, .. } = scratch;
    map.clear();
    let hidden = asker.choices.map_or(&[][..], |choices| &choices.hidden);
    for post in asker.reads.iter().chain(exclude.iter()).chain(hidden) {
        map.get_or_insert(*post, EXCLUDED);
    }
    let choices = asker.choices.into_iter();
    let authors = choices.clone().flat_map(Choices::hidden_authors);
    unseen.fill(authors, choices.flat_map(|choices| &choices.muted_tags));
}

/// Notes in `scratch` what the reader follows.
pub(super) fn note_followed(asker: Asker<'_>, scratch: &mut Scratch) {
    let choices = asker.choices.into_iter();
    let authors = choices.clone().flat_map(|choices| &choices.follows);
    scratch.followed.fill(authors, choices.flat_map(|choices| &choices.followed_tags));
}

/// Whether a read at this time belongs to the visit that asks now.
pub(super) fn is_same_visit(at_s: u32, now_s: u64) -> bool {
    now_s < u64::from(at_s) + VISIT_S
}

struct Taker<'a> {
    engine: &'a Engine,
    asker: Asker<'a>,
    unseen: &'a Named,
    scratch: &'a mut Scratch,
}

impl Taker<'_> {
    /// Takes up to `most` posts of a list that the reader may see, whether new here or not.
    fn take(&mut self, source: Source, posts: impl Iterator<Item = u32> + Clone, most: usize) {
        self.engine.fetch_posts(posts.clone().take(most));
        let mut taken = 0;
        for post in posts {
            if taken >= most || self.scratch.candidates.len() >= CANDIDATES_MAX {
                return;
            }
            let next = self.scratch.candidates.len() as u16;
            let index = self.scratch.map.get_or_insert(post, next);
            if index >= NOT_KEPT {
                continue;
            }
            if index == next {
                // Muted posts stay in the map without being candidates; they are few.
                if !self.asker.may_see(self.unseen, &self.engine.posts[post as usize]) {
                    self.scratch.map.set(post, EXCLUDED);
                    continue;
                }
                self.scratch.candidates.push(self.candidate(post, source));
            }
            taken += 1;
        }
    }

    fn take_followed(&mut self) {
        let engine = self.engine;
        let Some(choices) = self.asker.choices else { return };
        for author in choices.follows.iter().rev().take(FOLLOWED_LISTS_MAX) {
            let newest = engine.readers[*author as usize].newest();
            self.take(Source::FollowedAuthor, newest.posts(), PER_SMALL_LIST);
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
        for Interest { what, weight } in self.asker.interests.iter().copied() {
            let at = strongest.partition_point(|(_, kept)| *kept >= weight);
            if at < INTEREST_LISTS_MAX {
                strongest[at..].rotate_right(1);
                strongest[at] = (what, weight);
            }
        }
        for (tag, _) in strongest.into_iter().filter(|(_, weight)| *weight > 0) {
            let first = self.scratch.candidates.len();
            let lists = engine.tag(tag);
            self.take(Source::TagNewest, lists.newest.posts(), PER_SMALL_LIST);
            for trend in &lists.trends {
                self.take(Source::TagTrend, trend.posts(), PER_SMALL_LIST);
            }
            self.scratch.candidates[first..].iter_mut().for_each(|brought| brought.tag = tag);
        }
    }

    /// Takes the newest. Where nearly all of them are by a few authors, who cannot fill a list of
    /// different ones, the newest of others as well.
    fn take_newest(&mut self) {
        let engine = self.engine;
        let most = engine.settings.candidates_per_list;
        self.take(Source::Newest, engine.newest.posts(), most);
        let mut authors = std::mem::take(&mut self.scratch.authors);
        authors.clear();
        let mut others = 0;
        let is_another = |authors: &mut Vec<u32>, post: u32| {
            let author = engine.posts[post as usize].author;
            let before = authors.iter().filter(|other| **other == author).count();
            authors.push(author);
            author == NONE || before < PER_AUTHOR
        };
        for post in engine.newest.posts().take(most) {
            others += usize::from(is_another(&mut authors, post));
        }
        if others < PLACES {
            let further = engine.newest.posts().skip(most);
            let further: Vec<u32> =
                further.filter(|post| is_another(&mut authors, *post)).collect();
            self.take(Source::Newest, further.into_iter(), most);
        }
        self.scratch.authors = authors;
    }

    /// Adds what is read together with the recent reads, and what that says of all candidates.
    fn take_together(&mut self) {
        self.find_strongest();
        let engine = self.engine;
        let mut fade = 1.0;
        for (nth, (read, at_s)) in self.asker.recent.iter().enumerate() {
            let row = &engine.posts[*read as usize].neighbours;
            let is_visit = is_same_visit(*at_s, self.asker.now_s);
            let sums = row.sums();
            let together_rates = sums.together.map(|sum| fade / (sum as f32 + PRIOR));
            let next_rates = sums.next.map(|sum| 1.0 / (sum as f32 + PRIOR));
            for neighbour in row.all() {
                let index = self.scratch.map.find(neighbour.post).filter(|index| *index < NOT_KEPT);
                let Some(index) = index else { continue };
                let candidate = &mut self.scratch.candidates[usize::from(index)];
                for speed in 0..SPEEDS {
                    let evidence = &mut candidate.pairs[speed];
                    let chance = PRIOR_READS * candidate.share[speed];
                    let together = f32::from(neighbour.together[speed]);
                    evidence.together += together * together_rates[speed];
                    let lift = fade * log2p(together / chance);
                    evidence.lift += lift;
                    if is_visit {
                        evidence.visit += lift;
                    }
                    if nth == 0 {
                        let next = f32::from(neighbour.next[speed]);
                        evidence.last = lift;
                        evidence.next = next * next_rates[speed];
                        evidence.next_lift = log2p(next / chance);
                    }
                    if lift > candidate.because_lift {
                        candidate.because_lift = lift;
                        candidate.because = *read;
                    }
                }
            }
            fade *= FADE_PER_READ;
        }
    }

    /// Adds the strongest of the candidates that only co-reads bring. They are many, and each is another
    /// place in memory: of those that are not kept, nothing is looked at but what the rows say.
    fn find_strongest(&mut self) {
        let engine = self.engine;
        let Scratch { map, candidates, hints, .. } = &mut *self.scratch;
        let listed = candidates.len();
        hints.clear();
        engine.fetch_neighbours(self.asker.recent.iter().map(|(read, _)| *read));
        let mut fade = 1.0;
        for (read, _) in self.asker.recent {
            let row = &engine.posts[*read as usize].neighbours;
            let rates = row.sums().together.map(|sum| fade / (sum as f32 + PRIOR));
            for neighbour in row.all() {
                let next = (listed + hints.len()) as u16;
                let index = map.get_or_insert(neighbour.post, next);
                if index >= NOT_KEPT || usize::from(index) < listed {
                    continue;
                }
                if index == next {
                    if usize::from(next) >= CANDIDATES_MAX {
                        map.set(neighbour.post, NOT_KEPT);
                        continue;
                    }
                    hints.push(Hint { post: neighbour.post, together: [0.0; SPEEDS] });
                }
                let hint = &mut hints[usize::from(index) - listed];
                for ((sum, seen), rate) in
                    hint.together.iter_mut().zip(neighbour.together).zip(rates)
                {
                    *sum += f32::from(seen) * rate;
                }
            }
            fade *= FADE_PER_READ;
        }
        let mut hints = std::mem::take(hints);
        // Posts that may not be seen are few, so mostly the first part is enough.
        let (mut first, mut sorted) = (0, hints.len().min(2 * TOGETHER_MAX));
        if sorted < hints.len() {
            hints.select_nth_unstable_by(sorted, Hint::stronger);
        }
        while first < sorted {
            hints[first..sorted].sort_unstable_by(Hint::stronger);
            engine.fetch_posts(hints[first..sorted].iter().map(|hint| hint.post));
            for hint in &hints[first..sorted] {
                self.keep(hint.post, self.scratch.candidates.len() - listed < TOGETHER_MAX);
            }
            (first, sorted) = (sorted, hints.len());
            if self.scratch.candidates.len() - listed >= TOGETHER_MAX {
                hints[first..].iter().for_each(|hint| self.keep(hint.post, false));
                break;
            }
        }
        self.scratch.hints = hints;
    }

    /// Makes a post that is in the map a candidate, if there is room and the reader may see it.
    fn keep(&mut self, post: u32, has_room: bool) {
        let index = match has_room {
            false => NOT_KEPT,
            true if self.asker.may_see(self.unseen, &self.engine.posts[post as usize]) => {
                let candidate = self.candidate(post, Source::Together);
                self.scratch.candidates.push(candidate);
                self.scratch.candidates.len() as u16 - 1
            }
            true => EXCLUDED,
        };
        self.scratch.map.set(post, index);
    }

    fn candidate(&self, post: u32, source: Source) -> Candidate {
        let sums = self.engine.posts[post as usize].neighbours.sums();
        let total = self.engine.pairs_total();
        let share =
            |speed: usize| (sums.together[speed] as f32).max(1.0) / (total[speed] as f32).max(1.0);
        Candidate::new(post, source, std::array::from_fn(share))
    }
}
