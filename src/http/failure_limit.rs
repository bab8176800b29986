//! How often something may fail: per user and per address of a client. For signing in, so that
//! passwords are not found by trying; for commands, so that a fault of ours is not used against us.
//!
//! Memory is bounded by two generations: when the young one is full, the old one is forgotten.
//! Failing so often that a count is forgotten takes more hashes than a node computes in that time.
//! Counts are of one node and end with it.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;

use crate::ids::Stamp;
use crate::seams::Clock;

/// Failures of an address for each of a user: many people may share an address.
const PER_ADDRESS: u32 = 3;
/// Counts of one generation; an entry takes 24 bytes.
const COUNTS_MAX: usize = 65_536;

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
    counts: Mutex<Counts>,
}

/// What an attempt is counted for.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    user: Option<u64>,
    address: Option<u64>,
}

#[derive(Debug, Default)]
struct Counts {
    young: FxHashMap<u64, Count>,
    old: FxHashMap<u64, Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Stamp,
    failures: u32,
}

impl FailureLimit {
    /// Refuses after so many failures of a user (0: never), until so many seconds have passed since
    /// the first of them.
    pub fn new(failures_max: u32, window_s: u64, clock: Clock) -> Self {
        let (counts, is_used) = (Mutex::new(Counts::default()), AtomicBool::new(false));
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

    /// Seconds to wait before this attempt, if it may not be made now. Asked before the password is
    /// looked at, and again before the outcome is told: attempts that run at the same time are no
    /// way around the limit.
    pub fn wait_s(&self, attempt: Attempt) -> Option<u64> {
        let now = self.clock.now();
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |(key, max)| {
            let count = counts.get(key).filter(|count| count.failures >= max)?;
            count.left_s(self.window_s, now)
        };
        self.keys(attempt).filter_map(wait).max()
    }

    /// Counts a failure.
    pub fn failed(&self, attempt: Attempt) {
        let now = self.clock.now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in self.keys(attempt) {
            counts.add(key, self.window_s, now);
        }
        self.is_used.store(true, Ordering::Relaxed);
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

impl Counts {
    fn get(&self, key: u64) -> Option<Count> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn add(&mut self, key: u64, window_s: u64, now: Stamp) {
        let known = self.get(key).filter(|count| count.left_s(window_s, now).is_some());
        let mut count = known.unwrap_or(Count { since: now, failures: 0 });
        count.failures = count.failures.saturating_add(1);
        self.old.remove(&key);
        if self.young.len() >= COUNTS_MAX && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, count);
    }
}

impl Count {
    /// Seconds until the window ends, if it has not. A clock that was set back ends it, too.
    fn left_s(self, window_s: u64, now: Stamp) -> Option<u64> {
        let passed_s = now.0.checked_sub(self.since.0)? / 1_000_000;
        window_s.checked_sub(passed_s).filter(|left| *left > 0)
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
    fn counts_are_bounded_and_may_be_off() {
        let (limit, _) = limit(1);
        for number in 0..3 * COUNTS_MAX {
            limit.failed(limit.attempt(Some(number), None));
        }
        let counts = limit.counts.lock().unwrap();
        assert!(counts.young.len() <= COUNTS_MAX && counts.old.len() <= COUNTS_MAX);
        drop(counts);
        let off = self::limit(0).0;
        let attempt = off.attempt(Some("jake@b"), peer("192.0.2.1"));
        (0..100).for_each(|_| off.failed(attempt));
        assert_eq!(off.wait_s(attempt), None);
    }
}
