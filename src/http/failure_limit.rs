//! How often something may fail: per user and per address of a client. For signing in, so that
//! passwords are not found by trying; for commands, so that a fault of ours is not used against us.
//!
//! Memory is bounded: what was not touched for longest is forgotten when there are too many counts.
//! To have one forgotten so, somebody must fail under tens of thousands of other names: each is a
//! hash of a password where passwords are counted, a registration where faults are. Counts are of one
//! node and end with it.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::generations::Generations;
use crate::ids::Stamp;
use crate::seams::Clock;

/// Failures of an address for each of a user: many people may share an address.
const PER_ADDRESS: u32 = 3;
/// Counts that are kept; an entry takes 32 bytes.
const COUNTS_MAX: usize = 131_072;

/// Address of the client at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Counts failures.
pub struct FailureLimit {
    failures_max: u32,
    window_s: u64,
    is_used: AtomicBool,
    clock: Clock,
    /// Keys are hashed with a secret of the process: nobody chooses names that collide.
    hasher: RandomState,
    counts: Mutex<Generations<u64, Count>>,
}

/// What an attempt is counted for.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    user: Option<u64>,
    address: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Stamp,
    failures: u32,
}

impl FailureLimit {
    /// Refuses after so many failures of a user (0: never), until so many seconds have passed since
    /// the first of them; until twice as many have passed after twice as many failures, and so on. More
    /// than are allowed come about where many attempts begin before the first of them has failed, and
    /// thus gain nothing in the long run.
    pub fn new(failures_max: u32, window_s: u64, clock: Clock) -> Self {
        let counts = Mutex::new(Generations::new(COUNTS_MAX));
        let is_used = AtomicBool::new(false);
        Self { failures_max, window_s, is_used, clock, hasher: RandomState::new(), counts }
    }

    /// What an attempt is counted for: by whom it is, as far as that is known, and from where.
    pub fn attempt(&self, user: Option<impl Hash>, peer: Option<Peer>) -> Attempt {
        let address = peer.and_then(network).map(|network| self.hasher.hash_one((1, network)));
        Attempt { user: user.map(|user| self.hasher.hash_one((0, user))), address }
    }

    /// Whether nothing ever failed, so that nobody has to wait.
    pub fn is_unused(&self) -> bool {
        !self.is_used.load(Ordering::Relaxed)
    }

    /// Seconds to wait before this attempt, if it may not be made now. Where the outcome itself is worth
    /// something, as that of a password is, to be asked before the attempt and again before its outcome
    /// is told: attempts that run at the same time are then no way around the limit. Where the harm is
    /// done by the attempt, once.
    pub fn wait_s(&self, attempt: Attempt) -> Option<u64> {
        let now = self.clock.now();
        let mut counts = self.counts();
        let wait = |(key, max)| {
            let count = counts.get(&key).filter(|count| count.failures >= max)?;
            count.left_s(self.window_s, max, now)
        };
        self.keys(attempt).filter_map(wait).max()
    }

    /// Counts a failure.
    pub fn failed(&self, attempt: Attempt) {
        let now = self.clock.now();
        let mut counts = self.counts();
        for (key, max) in self.keys(attempt) {
            let known = counts.get(&key);
            let known = known.filter(|count| count.left_s(self.window_s, max, now).is_some());
            let Count { since, failures } = known.unwrap_or(Count { since: now, failures: 0 });
            counts.insert(key, Count { since, failures: failures.saturating_add(1) }, 1);
        }
        drop(counts);
        self.is_used.store(true, Ordering::Relaxed);
    }

    fn counts(&self) -> MutexGuard<'_, Generations<u64, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys and their limits; none when the limit is off.
    fn keys(&self, attempt: Attempt) -> impl Iterator<Item = (u64, u32)> {
        let user = attempt.user.map(|key| (key, self.failures_max));
        let address =
            attempt.address.map(|key| (key, self.failures_max.saturating_mul(PER_ADDRESS)));
        let is_on = self.failures_max > 0;
        [user, address].into_iter().flatten().filter(move |_| is_on)
    }
}

impl Count {
    /// Seconds until it counts no more, if it still does: a window for each `max` of the failures, and
    /// one at least. A clock that was set back ends it, too.
    fn left_s(self, window_s: u64, max: u32, now: Stamp) -> Option<u64> {
        let windows = (self.failures / max.max(1)).max(1);
        let passed_s = now.0.checked_sub(self.since.0)? / 1_000_000;
        let left_s = window_s.saturating_mul(u64::from(windows)).checked_sub(passed_s)?;
        (left_s > 0).then_some(left_s)
    }
}

/// What is counted of an address: of IPv6 the part that one customer has. Not this machine: that is
/// a proxy, behind which are all clients.
fn network(Peer(address): Peer) -> Option<u64> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(u64::from(address.to_bits())),
        IpAddr::V6(address) => Some((address.to_bits() >> 64) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    const SECOND: u64 = 1_000_000;

    fn limit(failures_max: u32) -> (FailureLimit, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(1_000 * SECOND));
        let clock = Clock::from_fn({
            let time = time.clone();
            move || Stamp(time.load(Ordering::Relaxed))
        });
        (FailureLimit::new(failures_max, 900, clock), time)
    }

    fn peer(address: &str) -> Option<Peer> {
        Some(Peer(address.parse().unwrap()))
    }

    #[test]
    fn an_account_is_closed_after_its_failures_and_opens_again() {
        let (limit, time) = limit(10);
        let jake = limit.attempt(Some("jake@b"), None);
        for _ in 0..10 {
            assert_eq!(limit.wait_s(jake), None);
            limit.failed(jake);
        }
        assert_eq!(limit.wait_s(jake), Some(900));
        assert_eq!(limit.wait_s(limit.attempt(Some("jane@b"), None)), None);
        time.fetch_add(899 * SECOND, Ordering::Relaxed);
        assert_eq!(limit.wait_s(jake), Some(1));
        time.fetch_add(SECOND, Ordering::Relaxed);
        assert_eq!(limit.wait_s(jake), None);
        limit.failed(jake);
        assert_eq!(limit.wait_s(jake), None, "a new window");
    }

    #[test]
    fn an_address_is_closed_after_three_times_as_many() {
        let (limit, _) = limit(10);
        for number in 0..30 {
            let attempt = limit.attempt(Some(format!("{number}@b")), peer("2001:db8::1"));
            assert_eq!(limit.wait_s(attempt), None);
            limit.failed(attempt);
        }
        assert!(limit.wait_s(limit.attempt(Some("new@b"), peer("2001:db8::ffff"))).is_some());
        assert!(limit.wait_s(limit.attempt(Some("new@b"), peer("2001:db8:0:1::1"))).is_none());
        assert!(limit.wait_s(limit.attempt(Some("new@b"), peer("192.0.2.1"))).is_none());
        for _ in 0..40 {
            limit.failed(limit.attempt(Some("other@b"), peer("::ffff:127.0.0.1")));
        }
        assert!(limit.wait_s(limit.attempt(Some("new@b"), peer("127.0.0.1"))).is_none(), "a proxy");
    }

    #[test]
    fn failures_beyond_the_limit_are_waited_for_as_well() {
        let (limit, time) = limit(10);
        let jake = limit.attempt(Some("jake"), None);
        // All of them began before the first had failed.
        (0..57).for_each(|_| limit.failed(jake));
        assert_eq!(limit.wait_s(jake), Some(5 * 900));
        time.fetch_add(900 * SECOND, Ordering::Relaxed);
        assert_eq!(limit.wait_s(jake), Some(4 * 900));
        time.fetch_add(4 * 900 * SECOND, Ordering::Relaxed);
        assert_eq!(limit.wait_s(jake), None);
        (0..9).for_each(|_| limit.failed(jake));
        assert_eq!(limit.wait_s(jake), None, "a new window");
    }

    #[test]
    fn counts_are_bounded_and_may_be_off() {
        let (limit, _) = limit(1);
        for number in 0..2 * COUNTS_MAX {
            limit.failed(limit.attempt(Some(number), None));
        }
        assert!(limit.counts().len() <= COUNTS_MAX);
        let off = self::limit(0).0;
        let attempt = off.attempt(Some("jake@b"), peer("192.0.2.1"));
        (0..100).for_each(|_| off.failed(attempt));
        assert_eq!(off.wait_s(attempt), None);
    }
}
