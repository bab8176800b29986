//! Latencies, log-linear: 64 steps per power of two, so a quantile is off by less than 1.6 %.

use std::time::Duration;

const STEPS: u64 = 64;
const STEP_BITS: u32 = 6;
/// Up to 2^40 ns, which is 18 minutes.
const PLACES: usize = (STEPS as usize) * (40 - STEP_BITS as usize + 1);

/// Counts of durations.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; PLACES], total: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, duration: Duration) {
        let nanos = duration.as_nanos() as u64;
        self.counts[place(nanos).min(PLACES - 1)] += 1;
        self.total += 1;
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The duration that this part of all does not exceed, in milliseconds.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        let wanted = (self.total as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return value(place) as f64 / 1e6;
            }
        }
        f64::NAN
    }
}

fn place(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let shift = u64::BITS - 1 - nanos.leading_zeros() - STEP_BITS;
    (u64::from(shift) * STEPS + (nanos >> shift)) as usize
}

/// The upper end of a place.
fn value(place: usize) -> u64 {
    let place = place as u64;
    if place < 2 * STEPS {
        return place;
    }
    let shift = place / STEPS - 1;
    ((place - shift * STEPS) << shift) + (1 << shift) - 1
}
