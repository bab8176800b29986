//! What the engine can be tuned by. The values are not fitted to one stream: see
//! `docs/recommendation-evaluation.md` for what half and twice of each does.

use crate::actors::recommendation::engine::neighbours::SPEEDS;

/// Number of half-lives that the readers of a post are counted with.
pub const WINDOWS: usize = 7;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Bounds and half-lives of an engine. Every replica must have the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Half-lives of a post's counters in milliseconds, shortest first. Each is four times the one
    /// before, so that one of them fits a stream of any pace from minutes to weeks within a factor
    /// of two; the ranker finds out which.
    pub half_lives_ms: [u64; WINDOWS],
    /// Half-lives of co-reads in milliseconds; at least 4: what goes together now, and always.
    pub pair_half_lives_ms: [u64; SPEEDS],
    /// Neighbours kept per post, at most.
    pub neighbours_max: usize,
    /// Recent reads of a reader that new reads are paired with and scores are made from.
    pub recent_max: usize,
    /// Reads of a reader that are remembered, at least `recent_max`.
    pub reads_max: usize,
    /// Reads by one reader that count at once in trends and co-reads.
    pub burst_max: u16,
    /// Time in milliseconds in which one more read of a reader may count.
    pub refill_ms: u64,
    /// Candidates from each list.
    pub candidates_per_list: usize,
    /// Posts that were reported before they were published, at most: reads may overtake posts.
    pub unknown_posts_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let mut half_lives_ms = [4 * MINUTE_MS; WINDOWS];
        for window in 1..WINDOWS {
            half_lives_ms[window] = half_lives_ms[window - 1] * 4;
        }
        Self {
            half_lives_ms,
            pair_half_lives_ms: [2 * HOUR_MS, 7 * 24 * HOUR_MS],
            neighbours_max: 64,
            recent_max: 10,
            reads_max: 256,
            burst_max: 60,
            refill_ms: MINUTE_MS,
            candidates_per_list: 20,
            unknown_posts_max: 100_000,
        }
    }
}
