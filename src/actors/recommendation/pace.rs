//! Which half-life fits the stream.

use crate::actors::recommendation::settings::WINDOWS;
use crate::actors::recommendation::top_list::TopList;

/// A read is foreseen by a trend when the post is among so many of its first.
const PLACES: usize = 10;
/// What a foreseen read adds; fades to half in about 700 reads.
const HIT: u32 = 1 << 20;
const FADE: u32 = 10;

/// How well each trend foresaw the reads of late: so the list that is shown to whom nothing else is
/// known of has the half-life that fits this stream now.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    hits: [u32; WINDOWS],
}

impl Pace {
    /// A read, before it is counted.
    pub(super) fn saw(&mut self, trends: &[TopList; WINDOWS], post: u32) {
        for (hits, trend) in self.hits.iter_mut().zip(trends) {
            let is_hit = trend.posts().take(PLACES).any(|foreseen| foreseen == post);
            *hits = *hits - (*hits >> FADE) + if is_hit { HIT } else { 0 };
        }
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
        self.hits.iter().map(|hits| u64::from(*hits))
    }
}
