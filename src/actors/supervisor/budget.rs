//! How many restarts are allowed, and how long to wait before each. Pure, apart from the
//! randomness that is handed in.

use std::collections::VecDeque;
use std::time::Duration;

use crate::seams::time::Instant;

/// At most so many restarts in a sliding window; one more escalates (S2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartBudget {
    /// Restarts allowed within the window. 0: the first failure escalates.
    pub restarts: u32,
    /// How long a restart counts.
    pub window: Duration,
}

impl RestartBudget {
    /// `restarts` within `window`.
    pub const fn new(restarts: u32, window: Duration) -> Self {
        Self { restarts, window }
    }
}

impl Default for RestartBudget {
    /// 5 in 30 s: with the default back-off, a child that fails at once escalates after about
    /// 1.5 s, and one that fails every ten seconds never does.
    fn default() -> Self {
        Self::new(5, Duration::from_secs(30))
    }
}

/// The restarts that a budget still remembers.
#[derive(Debug)]
pub(super) struct SpentBudget {
    limit: RestartBudget,
    spent: VecDeque<Instant>,
}

impl SpentBudget {
    pub(super) fn new(limit: RestartBudget) -> Self {
        Self { limit, spent: VecDeque::new() }
    }

    pub(super) fn limit(&self) -> RestartBudget {
        self.limit
    }

    /// Takes one restart; `false` when none is left, and then nothing is taken.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        let window = self.limit.window;
        while self.spent.front().is_some_and(|at| now.duration_since(*at) >= window) {
            self.spent.pop_front();
        }
        if self.spent.len() >= self.limit.restarts as usize {
            return false;
        }
        self.spent.push_back(now);
        true
    }
}

/// The pause before a restart. The first one is immediate: most failures are gone after it, and
/// callers wait. Later ones double, so that a child that cannot live does not burn the machine.
///
/// Keep `max` well below window ÷ restarts of the budget, or the budget is never spent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Before the second restart in a row.
    pub initial: Duration,
    /// No pause is longer.
    pub max: Duration,
    /// The part of a pause that is random, 0 to 1: the pause is shortened by up to so much, so that
    /// children that fail together do not return together.
    pub jitter: f64,
    /// A child that ran for so long before it failed begins anew with an immediate restart.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
            jitter: 0.3,
            healthy_after: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The pause after so many failures in a row before this one. `random` is any `u64`.
    pub(super) fn pause(&self, failures_before: u32, random: u64) -> Duration {
        if failures_before == 0 {
            return Duration::ZERO;
        }
        // 2^20 times any sensible start is past any sensible maximum, and cannot overflow.
        let doublings = (failures_before - 1).min(20);
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        let unit = (random >> 11) as f64 / (1u64 << 53) as f64;
        full.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::Random;

    #[tokio::test(start_paused = true)]
    async fn the_window_slides() {
        let mut budget = SpentBudget::new(RestartBudget::new(2, Duration::from_secs(10)));
        let start = Instant::now();
        assert!(budget.spend(start));
        assert!(budget.spend(start + Duration::from_secs(6)));
        assert!(!budget.spend(start + Duration::from_millis(9_999)));
        assert!(budget.spend(start + Duration::from_secs(10)), "the first one is forgotten");
        assert!(!budget.spend(start + Duration::from_secs(15)));
        assert!(budget.spend(start + Duration::from_secs(16)));
    }

    #[test]
    fn an_empty_budget_allows_nothing() {
        let mut budget = SpentBudget::new(RestartBudget::new(0, Duration::from_secs(10)));
        assert!(!budget.spend(Instant::now()));
    }

    #[test]
    fn pauses_double_up_to_the_maximum() {
        let backoff = Backoff {
            initial: Duration::from_millis(100),
            max: Duration::from_millis(450),
            jitter: 0.0,
            ..Backoff::default()
        };
        let pauses = [0, 1, 2, 3, 4, u32::MAX].map(|n| backoff.pause(n, u64::MAX).as_millis());
        assert_eq!(pauses, [0, 100, 200, 400, 450, 450]);
    }

    #[test]
    fn jitter_only_shortens_and_repeats_with_its_seed() {
        let backoff = Backoff { jitter: 0.5, ..Backoff::default() };
        let (one, two) = (Random::seeded(7), Random::seeded(7));
        let pauses: Vec<_> = (0..1_000).map(|_| backoff.pause(1, one.any())).collect();
        assert!(pauses.iter().all(|p| (50..=100).contains(&p.as_millis())), "{pauses:?}");
        assert!(pauses.iter().any(|p| p.as_millis() < 60));
        assert!(pauses.iter().any(|p| p.as_millis() > 90));
        assert_eq!(pauses, (0..1_000).map(|_| backoff.pause(1, two.any())).collect::<Vec<_>>());
    }
}
