//! How many requests one caller may make in a minute: a user, or who is nobody an address. Told
//! with every answer (`RateLimit`, `RateLimit-Policy`), so that a client can slow down in time.
//!
//! A window begins with its first request. Memory is bounded: whose count is forgotten because there
//! are too many begins anew. Counts are of one node and end with it.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::generations::Generations;
use crate::http::failure_limit::Peer;
use crate::ids::{Stamp, UserId};
use crate::seams::Clock;

/// Length of a window, in seconds.
const WINDOW_S: u64 = 60;
/// Counts that are kept; an entry takes 32 bytes.
const COUNTS_MAX: usize = 131_072;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Counts requests.
pub struct RateLimit {
    user_max: u32,
    anonymous_max: u32,
    clock: Clock,
    /// Keys are hashed with a secret of the process: nobody chooses addresses that collide.
    hasher: RandomState,
    counts: Mutex<Generations<u64, Count>>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Stamp,
    requests: u32,
}

/// What a caller may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    policy: &'static str,
    max: u32,
    /// Requests left in this window; `None`: this one was too many.
    left: Option<u32>,
    /// Seconds until the next window.
    reset_s: u64,
}

impl RateLimit {
    /// Grants so many requests a minute to a user, and to an address without one; 0: any number.
    pub fn new(user_max: u32, anonymous_max: u32, clock: Clock) -> Self {
        let counts = Mutex::new(Generations::new(COUNTS_MAX));
        Self { user_max, anonymous_max, clock, hasher: RandomState::new(), counts }
    }

    /// Counts a request. `None`: its caller is not counted.
    pub fn take(&self, user: Option<UserId>, peer: Option<Peer>) -> Option<Quota> {
        let (policy, max, key) = match user {
            Some(user) => ("user", self.user_max, self.user_key(user)),
            None => {
                let key = self.hasher.hash_one((1, network(peer?)));
                ("anonymous", self.anonymous_max, key)
            }
        };
        if max == 0 {
            return None;
        }
        let (requests, reset_s) = self.count(key, 1);
        Some(Quota { policy, max, left: max.checked_sub(requests), reset_s })
    }

    /// Counts a request of a user that is as much work as many. It goes on; those after it may not.
    pub fn charge(&self, user: UserId, further: u32) {
        if self.user_max > 0 && further > 0 {
            self.count(self.user_key(user), further);
        }
    }

    /// Counts so many; how many there were within the window, and the seconds that are left of it.
    fn count(&self, key: u64, more: u32) -> (u32, u64) {
        let now = self.clock.now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counts.get(&key).filter(|count| count.left_s(now).is_some());
        let Count { since, requests } = known.unwrap_or(Count { since: now, requests: 0 });
        let count = Count { since, requests: requests.saturating_add(more) };
        counts.insert(key, count, 1);
        (count.requests, count.left_s(now).unwrap_or(WINDOW_S))
    }

    /// What a user is told who has nothing left. Counts nothing.
    pub fn spent(&self, user: UserId) -> Option<Quota> {
        let max = self.user_max;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&self.user_key(user))?;
        let reset_s = count.left_s(self.clock.now())?;
        let is_spent = max > 0 && count.requests >= max;
        is_spent.then_some(Quota { policy: "user", max, left: None, reset_s })
    }

    fn user_key(&self, user: UserId) -> u64 {
        self.hasher.hash_one((0, user.0))
    }
}

impl Quota {
    /// Seconds to wait, if this request was one too many.
    pub fn wait_s(self) -> Option<u64> {
        self.left.is_none().then_some(self.reset_s)
    }

    /// Tells the caller.
    pub fn write(&self, headers: &mut HeaderMap) {
        let Self { policy, max, left, reset_s } = self;
        let left = left.unwrap_or(0);
        let now = HeaderValue::try_from(format!("\"{policy}\";r={left};t={reset_s}"));
        let terms = HeaderValue::try_from(format!("\"{policy}\";q={max};w={WINDOW_S}"));
        for (name, value) in [(RATE_LIMIT, now), (RATE_LIMIT_POLICY, terms)] {
            headers.insert(name, value.expect("words and digits are visible ASCII"));
        }
    }
}

impl Count {
    /// Seconds until the window ends, if it has not. A clock that was set back ends it, too.
    fn left_s(self, now: Stamp) -> Option<u64> {
        let passed_s = now.0.checked_sub(self.since.0)? / 1_000_000;
        WINDOW_S.checked_sub(passed_s).filter(|left| *left > 0)
    }
}

/// What is counted of an address: of IPv6 the part that one customer has.
fn network(Peer(address): Peer) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const SECOND: u64 = 1_000_000;

    fn limit(user_max: u32, anonymous_max: u32) -> (RateLimit, Arc<AtomicU64>) {
        let time = Arc::new(AtomicU64::new(1_000 * SECOND));
        let clock = Clock::from_fn({
            let time = time.clone();
            move || Stamp(time.load(Ordering::Relaxed))
        });
        (RateLimit::new(user_max, anonymous_max, clock), time)
    }

    fn peer(address: &str) -> Option<Peer> {
        Some(Peer(address.parse().unwrap()))
    }

    #[test]
    fn who_asks_too_often_waits_until_the_window_ends() {
        let (limit, time) = limit(3, 2);
        let (jake, home) = (Some(UserId(1)), peer("192.0.2.1"));
        for left in [2, 1, 0] {
            let quota = limit.take(jake, home).unwrap();
            assert_eq!((quota.left, quota.wait_s()), (Some(left), None));
        }
        time.fetch_add(59 * SECOND, Ordering::Relaxed);
        assert_eq!(
            limit.take(jake, peer("192.0.2.2")).unwrap().wait_s(),
            Some(1),
            "wherever he is"
        );
        assert_eq!(limit.take(Some(UserId(2)), home).unwrap().wait_s(), None);
        time.fetch_add(SECOND, Ordering::Relaxed);
        assert_eq!(limit.take(jake, home).unwrap().left, Some(2), "a new window");
    }

    #[test]
    fn who_has_nothing_left_is_told_so_uncounted() {
        let (limit, time) = limit(2, 2);
        let jake = UserId(1);
        for left in [1, 0] {
            assert_eq!(limit.spent(jake), None);
            assert_eq!(limit.take(Some(jake), None).unwrap().left, Some(left));
        }
        assert_eq!(limit.spent(jake), limit.take(Some(jake), None));
        time.fetch_add(60 * SECOND, Ordering::Relaxed);
        assert_eq!(limit.spent(jake), None);
        let (off, _) = self::limit(0, 2);
        off.take(Some(jake), None);
        assert_eq!(off.spent(jake), None);
    }

    #[test]
    fn nobody_is_counted_by_address() {
        let (limit, _) = limit(3, 2);
        for address in ["2001:db8::1", "2001:db8::ffff"] {
            assert_eq!(limit.take(None, peer(address)).unwrap().wait_s(), None);
        }
        assert!(limit.take(None, peer("2001:db8::2")).unwrap().wait_s().is_some());
        assert!(limit.take(None, peer("2001:db8:0:1::1")).unwrap().wait_s().is_none());
        assert!(limit.take(Some(UserId(1)), peer("2001:db8::1")).unwrap().wait_s().is_none());
        let mut headers = HeaderMap::new();
        limit.take(None, peer("192.0.2.1")).unwrap().write(&mut headers);
        assert_eq!(headers["ratelimit"], "\"anonymous\";r=1;t=60");
        assert_eq!(headers["ratelimit-policy"], "\"anonymous\";q=2;w=60");
    }

    #[test]
    fn counts_are_bounded_and_may_be_off() {
        let (limit, _) = limit(1, 0);
        for user in 0..2 * COUNTS_MAX as u64 {
            limit.take(Some(UserId(user)), None);
        }
        assert!(limit.counts.lock().unwrap().len() <= COUNTS_MAX);
        assert_eq!(limit.take(None, peer("192.0.2.1")), None);
        assert_eq!(limit.take(None, None), None);
    }
}
