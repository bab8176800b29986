//! How fast the whole stream is, and which half-life fits it.

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::fixed::{self, ONE};
use crate::actors::recommendation::engine::settings::{Settings, WINDOWS};
use crate::actors::recommendation::engine::top_list::TopList;

/// A read is foreseen by a trend when the post is among so many of its first.
pub(super) const PLACES: usize = 10;
/// What a foreseen read adds; fades to half in about 700 reads.
const HIT: u32 = 1 << 20;
const FADE: u32 = 10;

/// How well each trend foresaw the reads of late: so the list that is shown to whom nothing else is
/// known of has the half-life that fits this stream now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pace {
    hits: [u32; WINDOWS],
    /// Reads of all posts, fading with each half-life; in 64.
    traffic: [u32; WINDOWS],
    touched_ms: u64,
}

/// A counter holds 2^22 reads at most, which a fast site has in a fortnight: so 64 count as one.
const TRAFFIC: u32 = 64;

impl Pace {
    /// A read, before it is counted.
    pub(super) fn saw(&mut self, trends: &[TopList; WINDOWS], post: u32) {
        for (hits, trend) in self.hits.iter_mut().zip(trends) {
            let is_hit = trend.posts().take(PLACES).any(|foreseen| foreseen == post);
            *hits = *hits - (*hits >> FADE) + if is_hit { HIT } else { 0 };
        }
    }

    /// Counts a read.
    pub(super) fn count(&mut self, settings: &Settings, now_ms: u64) {
        for (traffic, half_life_ms) in self.traffic.iter_mut().zip(settings.half_lives_ms) {
            *traffic = fixed::add(*traffic, self.touched_ms, now_ms, half_life_ms, ONE / TRAFFIC);
        }
        self.touched_ms = self.touched_ms.max(now_ms);
    }

    /// The latest read.
    pub(super) fn touched_ms(&self) -> u64 {
        self.touched_ms
    }

    /// Reads of all posts in a window as of now.
    pub(super) fn traffic(&self, settings: &Settings, window: usize, now_ms: u64) -> f32 {
        let half_life_ms = settings.half_lives_ms[window];
        TRAFFIC as f32 * fixed::value(self.traffic[window], self.touched_ms, now_ms, half_life_ms)
    }

    /// The window that foresees best; of equals, the shortest.
    pub(super) fn best(&self) -> usize {
        let mut best = 0;
        for window in 1..WINDOWS {
            if self.hits[window] > self.hits[best] {
                best = window;
            }
        }
        best
    }

    /// The state in words, for a digest.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let counters = self.hits.iter().chain(&self.traffic);
        counters.map(|counter| u64::from(*counter)).chain([self.touched_ms])
    }
}
