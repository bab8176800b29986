//! Counters that fade: whole numbers only, so that every replica holds the same bits.
//!
//! A counter is kept as of the beginning of a half-life of its own (its *period*). What comes later
//! within the period weighs more than one instead of making the past weigh less (forward decay:
//! Cormode et al., ICDE 2009), and when a period ends the counter is shifted by one bit. So nothing
//! is swept, and a counter that is touched often loses nothing to rounding.

use crate::actors::recommendation::engine::math;

/// What one read adds at the beginning of a period.
pub(super) const ONE: u32 = 1 << 10;
/// The table has a value for every 1/256 of a period.
const STEPS: usize = 256;
/// 2^(1/256) in 2^-62; the table is made of its powers.
const ROOT: u128 = 4_624_189_567_668_517_720;

/// 2^(n/256) in 2^-16, for n from 0 to 256.
const POWERS: [u32; STEPS + 1] = powers();

const fn powers() -> [u32; STEPS + 1] {
    let mut powers = [0; STEPS + 1];
    let mut power: u128 = 1 << 62;
    let mut step = 0;
    while step <= STEPS {
        powers[step] = (power >> 46) as u32;
        power = (power * ROOT) >> 62;
        step += 1;
    }
    powers
}

/// 2^(elapsed/period) in 2^-16, for `elapsed` below `period`.
#[inline]
fn growth(elapsed: u64, period: u64) -> u64 {
    let position = elapsed * (STEPS as u64 * 256) / period;
    let (step, rest) = ((position / 256) as usize, position % 256);
    let (low, high) = (u64::from(POWERS[step]), u64::from(POWERS[step + 1]));
    low + (high - low) * rest / 256
}

/// Adds `weight` (in [`ONE`]) at `now_ms` to a counter last touched at `touched_ms`.
///
/// Late news (`now_ms < touched_ms`) count what they would count by now. Saturates.
#[inline]
pub(super) fn add(
    counter: u32,
    touched_ms: u64,
    now_ms: u64,
    half_life_ms: u64,
    weight: u32,
) -> u32 {
    let (before, now) = (touched_ms / half_life_ms, now_ms / half_life_ms);
    let grown = (u64::from(weight) * growth(now_ms % half_life_ms, half_life_ms)) >> 16;
    let sum = if now >= before {
        shifted(u64::from(counter), now - before) + grown
    } else {
        u64::from(counter) + shifted(grown, before - now)
    };
    sum.min(u64::from(u32::MAX)) as u32
}

#[inline]
fn shifted(value: u64, periods: u64) -> u64 {
    value.checked_shr(periods.min(64) as u32).unwrap_or(0)
}

/// A counter in reads as of `now_ms`: for scores, which no replica keeps.
#[inline]
pub(super) fn value(counter: u32, touched_ms: u64, now_ms: u64, half_life_ms: u64) -> f32 {
    let [value] = values([counter], touched_ms, now_ms, [half_life_ms]);
    value
}

/// The same for counters that are touched together, each with a half-life of its own.
#[inline]
pub(super) fn values<const N: usize>(
    counters: [u32; N],
    touched_ms: u64,
    now_ms: u64,
    half_lives_ms: [u64; N],
) -> [f32; N] {
    let elapsed: [f32; N] = std::array::from_fn(|n| {
        let begin = touched_ms - touched_ms % half_lives_ms[n];
        as_f32(now_ms.saturating_sub(begin)) / as_f32(half_lives_ms[n])
    });
    // One loop, so that the compiler takes several at once.
    std::array::from_fn(|n| {
        as_f32(u64::from(counters[n])) * (1.0 / ONE as f32) * math::exp2(-elapsed[n])
    })
}

/// Of a number below 2^63: one instruction, where any number needs a branch.
#[inline]
pub(super) fn as_f32(number: u64) -> f32 {
    number as i64 as f32
}

/// Orders counters of one half-life whenever they were touched: grows with the value at any common
/// time, exactly up to the 32 bits of the counter.
pub(super) fn order(counter: u32, touched_ms: u64, half_life_ms: u64) -> u64 {
    let period = touched_ms / half_life_ms;
    let zeros = u64::from(counter.leading_zeros().min(31));
    ((period + 31 - zeros) << 32) | (u64::from(counter) << zeros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::signature::mix;

    #[test]
    fn a_counter_halves_in_its_half_life_and_frequent_news_lose_nothing() {
        let half_life = 60_000;
        let mut counter = 0;
        let mut touched = 1_000_000_000_123;
        counter = add(counter, 0, touched, half_life, ONE);
        assert!((value(counter, touched, touched, half_life) - 1.0).abs() < 0.003);
        assert!((value(counter, touched, touched + half_life, half_life) - 0.5).abs() < 0.002);
        let mut exact = 1.0_f64;
        for _ in 0..100_000 {
            counter = add(counter, touched, touched + 100, half_life, ONE);
            touched += 100;
            exact = exact * (-100.0 / 60_000.0_f64).exp2() + 1.0;
        }
        let kept = f64::from(value(counter, touched, touched, half_life));
        assert!((kept / exact - 1.0).abs() < 0.005, "{kept} {exact}");
    }

    #[test]
    fn late_news_count_what_they_would_count_by_now() {
        let half_life = 60_000;
        let (early, late) = (600_000_000, 600_130_000);
        let in_order = add(add(0, 0, early, half_life, ONE), early, late, half_life, ONE);
        let swapped = add(add(0, 0, late, half_life, ONE), late, early, half_life, ONE);
        assert!(in_order.abs_diff(swapped) <= 1, "{in_order} {swapped}");
    }

    #[test]
    fn the_order_is_that_of_the_values() {
        let half_life = 60_000;
        let mut found: Vec<(u64, f32)> = Vec::new();
        for n in 0..200_u64 {
            let touched = 600_000_000 + n * 7_919;
            let counter = (mix(n) % 50_000) as u32 + 1;
            let now = 602_000_000;
            found.push((
                order(counter, touched, half_life),
                value(counter, touched, now, half_life),
            ));
        }
        found.sort_by_key(|(order, _)| *order);
        assert!(found.is_sorted_by(|a, b| a.1 <= b.1 * 1.002));
    }

    #[test]
    fn counters_stop_at_their_end() {
        assert_eq!(add(u32::MAX, 5, 5, 10, ONE), u32::MAX);
        assert_eq!(add(ONE, 0, u64::MAX, 10, 0), 0);
        assert_eq!(order(0, 0, 10), 0);
    }

    #[test]
    fn the_table_is_that_of_the_powers() {
        for (step, power) in POWERS.iter().enumerate() {
            let exact = (step as f64 / 256.0).exp2() * 65_536.0;
            assert!((f64::from(*power) - exact).abs() <= 1.0, "{step}");
        }
    }
}
