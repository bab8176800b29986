//! What is kept of a post.

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::fixed::{self, ONE};
use crate::actors::recommendation::engine::neighbours::Neighbours;
use crate::actors::recommendation::engine::settings::{Settings, WINDOWS};
use crate::actors::signature::{Signature, mix};
use crate::ids::{PostId, UserId};
use crate::store::codec::Record;

/// Tags of a post that count; further ones are ignored.
pub(super) const TAGS_MAX: usize = 5;
/// The window in which readers are told apart by where they came from.
const CONTINUED_WINDOW: usize = 3;
/// In place of a slot: nobody, nothing.
pub(super) const NONE: u32 = u32::MAX;

/// Whether a post may be recommended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Status {
    /// Only heard of: something was read that nobody published yet.
    Unknown,
    /// Everybody may see it.
    Listed,
    /// A draft, unpublished, or for few.
    Hidden,
    /// Gone for ever.
    Deleted,
}

/// A post, in memory as in its row. About 200 bytes without its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Post {
    pub(super) id: PostId,
    /// Version of the last news that took effect.
    pub(super) version: u64,
    /// First publication.
    pub(super) born_ms: u64,
    /// Latest counted read.
    pub(super) touched_ms: u64,
    /// Readers, fading with each half-life.
    counters: [u32; WINDOWS],
    /// Counted readers, ever.
    pub(super) readers: u32,
    /// To whom it was shown as a recommendation: see [`shown_to`].
    pub(super) shown: u32,
    /// User slot, or [`NONE`].
    pub(super) author: u32,
    /// Tag slots; [`NONE`] after the last.
    tags: [u32; TAGS_MAX],
    /// When it came into the trend, in seconds; 0: never.
    pub(super) hot_s: u32,
    /// Readers that came from another post in the same visit, fading.
    continued: u32,
    /// When anything was done with it, counted or not.
    pub(super) active_ms: u64,
    pub(super) status: Status,
    pub(super) signature: Signature,
    pub(super) neighbours: Neighbours,
}

/// The bit that stands for a reader among those to whom a post was shown. Many readers share it, so it
/// does not say who they were; and whoever comes again and again sets it once.
pub(super) fn shown_to(reader: UserId) -> u32 {
    1 << (mix(reader.0) % u64::from(u32::BITS))
}

impl Record for Post {
    const KIND: u8 = 68;
}

impl Post {
    pub(super) fn unknown(id: PostId) -> Self {
        Self {
            id,
            version: 0,
            born_ms: 0,
            touched_ms: 0,
            counters: [0; WINDOWS],
            readers: 0,
            shown: 0,
            author: NONE,
            tags: [NONE; TAGS_MAX],
            hot_s: 0,
            continued: 0,
            active_ms: 0,
            status: Status::Unknown,
            signature: Signature::default(),
            neighbours: Neighbours::default(),
        }
    }

    pub(super) fn is_listed(&self) -> bool {
        self.status == Status::Listed
    }

    #[inline]
    pub(super) fn tags(&self) -> &[u32] {
        let end = self.tags.iter().position(|tag| *tag == NONE).unwrap_or(TAGS_MAX);
        &self.tags[..end]
    }

    pub(super) fn set_tags(&mut self, tags: impl Iterator<Item = u32>) {
        self.tags = [NONE; TAGS_MAX];
        for (place, tag) in self.tags.iter_mut().zip(tags) {
            *place = tag;
        }
    }

    /// Counts a reader; `is_continued` when it was not the first read of a visit.
    pub(super) fn count(&mut self, settings: &Settings, now_ms: u64, is_continued: bool) {
        let (touched_ms, half_lives_ms) = (self.touched_ms, settings.half_lives_ms);
        for (counter, half_life_ms) in self.counters.iter_mut().zip(half_lives_ms) {
            *counter = fixed::add(*counter, touched_ms, now_ms, half_life_ms, ONE);
        }
        let weight = if is_continued { ONE } else { 0 };
        let half_life_ms = half_lives_ms[CONTINUED_WINDOW];
        self.continued = fixed::add(self.continued, touched_ms, now_ms, half_life_ms, weight);
        self.touched_ms = touched_ms.max(now_ms);
        self.readers = self.readers.saturating_add(1);
    }

    /// Readers as of now, by half-life.
    #[inline]
    pub(super) fn readers_by_window(&self, settings: &Settings, now_ms: u64) -> [f32; WINDOWS] {
        fixed::values(self.counters, self.touched_ms, now_ms, settings.half_lives_ms)
    }

    /// Share of its readers of late that came from another post; not 0. They are those of
    /// [`Self::readers_by_window`].
    pub(super) fn continued_share(
        &self,
        settings: &Settings,
        readers: &[f32; WINDOWS],
        now_ms: u64,
    ) -> f32 {
        let half_life_ms = settings.half_lives_ms[CONTINUED_WINDOW];
        let continued = fixed::value(self.continued, self.touched_ms, now_ms, half_life_ms);
        (continued + 1.0) / (readers[CONTINUED_WINDOW] + 2.0)
    }

    /// Its place in the trend of a window, against other posts; 0: nobody read it.
    pub(super) fn trend_order(&self, settings: &Settings, window: usize) -> u64 {
        match self.counters[window] {
            0 => 0,
            counter => fixed::order(counter, self.touched_ms, settings.half_lives_ms[window]),
        }
    }

    /// The state in words, for a digest.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let counters = self.counters.iter().map(|counter| u64::from(*counter));
        let tags = self.tags.iter().map(|tag| u64::from(*tag));
        let counts = u64::from(self.readers) << 32 | u64::from(self.shown);
        let author = u64::from(self.author) << 32 | self.status as u64;
        let hot = u64::from(self.hot_s) << 32 | u64::from(self.continued);
        [
            self.id.0,
            self.version,
            self.born_ms,
            self.touched_ms,
            self.active_ms,
            counts,
            author,
            hot,
        ]
        .into_iter()
        .chain(self.signature.0)
        .chain(counters)
        .chain(tags)
        .chain(self.neighbours.words())
    }
}
