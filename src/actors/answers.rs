//! Answers that callers keep and use again for as long as they are exact.
//!
//! A shard counts, by slot, the changes of what its service answers about. Who keeps an answer keeps
//! the versions of the slots that it stands on with it, and uses it again while none has moved: a look
//! at some counters instead of a message to the shard and back.
//!
//! **Invariants**: A1 a version moves before anything changes that it stands for, and before the shard
//! answers whoever comes after; A2 an answer is kept with the version from before the question; A3 a
//! service names every slot of what a command changes the answers about, or all slots move. So whoever
//! was told of a change, or has seen it, finds no answer from before it.

use std::hash::{BuildHasher, Hash};
use std::iter::Sum;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxBuildHasher;
use tokio::sync::MutexGuard;

use crate::s3_fifo::{Key, S3Fifo, Weigh};
use crate::seams::time;

/// Slots of a shard: 512 KiB of counters. With a quarter of them, by calculation, a feed of a hundred authors
/// would move by chance every 25 ms under 2,000 favorites a second.
const SLOTS: u64 = 65_536;

/// Where changes of one thing that answers are about are counted. Several things share one, so it may move
/// without a change of the thing, never the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a thing, which is told from others by its hash.
    pub fn of(thing: &impl Hash) -> Self {
        Self((FxBuildHasher.hash_one(thing) % SLOTS) as u16)
    }
}

/// What a command changes the answers about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Perhaps anything.
    Anything,
    /// What is in these slots; one may stand there twice.
    Slots(Vec<Slot>),
}

/// How many changes there were of what an answer stands on. Counts only grow, so a sum of some is the same
/// only if each of them is: versions of several slots, of several shards too, add up to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(u64);

impl Sum for Version {
    fn sum<I: Iterator<Item = Self>>(versions: I) -> Self {
        Self(versions.fold(0, |sum, version| sum.wrapping_add(version.0)))
    }
}

/// The versions of a shard's slots. Outlives the shard's actor.
pub(crate) struct Versions {
    /// Changes that may be of any slot.
    any: AtomicU64,
    slots: Box<[AtomicU64]>,
}

impl Versions {
    pub(crate) fn new() -> Self {
        Self { any: AtomicU64::new(0), slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The version of a slot now.
    pub(crate) fn of(&self, slot: Slot) -> Version {
        let own = self.slots[usize::from(slot.0)].load(Ordering::Acquire);
        Version(own.wrapping_add(self.any.load(Ordering::Acquire)))
    }

    /// This changes now, or may be found changed.
    pub(crate) fn moved(&self, changed: &Changed) {
        match changed {
            Changed::Anything => {
                self.any.fetch_add(1, Ordering::AcqRel);
            }
            Changed::Slots(slots) => {
                for Slot(place) in slots {
                    self.slots[usize::from(*place)].fetch_add(1, Ordering::AcqRel);
                }
            }
        }
    }
}

/// Turns to make answers, which those share whose hashes say so.
const TURNS: u64 = 64;
/// Longest time that somebody waits for his turn: making an answer takes a few milliseconds, unless a shard
/// starts anew, and then everybody asks for himself.
const TURN_WAIT: Duration = Duration::from_millis(50);

/// Answers of one kind, by what they are about; bounded in bytes. What is asked for often stays.
pub(crate) struct Answers<K, A> {
    kept: Mutex<S3Fifo<K, Kept<A>>>,
    turns: Box<[tokio::sync::Mutex<()>]>,
}

/// Held by who makes an answer, unless the wait for it was too long.
pub(crate) struct Turn<'a>(
    #[cfg_attr(not(test), expect(dead_code, reason = "it is held, not looked at"))]
    Option<MutexGuard<'a, ()>>,
);

struct Kept<A> {
    version: Version,
    answer: A,
    bytes: usize,
}

impl<A> Weigh for Kept<A> {
    fn weight(&self) -> usize {
        self.bytes
    }
}

impl<K: Key, A: Clone> Answers<K, A> {
    /// Keeps at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect();
        Self { kept: Mutex::new(S3Fifo::new(bytes_max)), turns }
    }

    /// What `look` finds; or what it misses, and the turn to make it. What many miss at once, because it has
    /// just changed, is made once: the others wait, and look again.
    pub async fn found_or_turn<F, M>(
        &self,
        key: &K,
        look: impl Fn() -> Result<F, M>,
    ) -> Result<F, (M, Turn<'_>)> {
        if let Ok(found) = look() {
            return Ok(found);
        }
        let turn = &self.turns[(FxBuildHasher.hash_one(key) % TURNS) as usize];
        let turn = Turn(time::timeout(TURN_WAIT, turn.lock()).await.ok());
        look().map_err(|missed| (missed, turn))
    }

    /// Keeps an answer with the version that its question found (A2), and how much it takes, in bytes.
    pub fn keep(&self, key: K, version: Version, answer: A, bytes: usize) {
        let mut kept = self.lock();
        kept.insert(key, Kept { version, answer, bytes });
        kept.trim();
    }

    /// The answer, if it is of this version.
    pub fn of(&self, key: &K, version: Version) -> Option<A> {
        let kept = self.lock();
        kept.get(key).filter(|kept| kept.version == version).map(|kept| kept.answer.clone())
    }

    /// The answer that was kept last, of whatever version.
    pub fn last(&self, key: &K) -> Option<A> {
        self.lock().get(key).map(|kept| kept.answer.clone())
    }

    /// Sound whoever panics while holding it: entries are only ever whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, S3Fifo<K, Kept<A>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    fn moved(versions: &Versions, slot: Slot) {
        versions.moved(&Changed::Slots(vec![slot]));
    }

    #[test]
    fn an_answer_is_good_until_its_slot_moves() {
        let (versions, answers) = (Versions::new(), Answers::new(1_000));
        let (one, other) = (Slot(1), Slot(2));
        answers.keep(UserId(7), versions.of(one), "seven", 10);
        moved(&versions, other);
        assert_eq!(answers.of(&UserId(7), versions.of(one)), Some("seven"));
        assert_eq!(answers.of(&UserId(8), versions.of(one)), None);
        moved(&versions, one);
        assert_eq!(answers.of(&UserId(7), versions.of(one)), None);
        answers.keep(UserId(7), versions.of(one), "again", 10);
        versions.moved(&Changed::Anything);
        assert_eq!(answers.of(&UserId(7), versions.of(one)), None);
    }

    #[test]
    fn an_answer_on_several_slots_is_good_until_one_of_them_moves() {
        let shards = [Versions::new(), Versions::new()];
        let version = || -> Version {
            let slots =
                shards.iter().flat_map(|shard| [Slot(1), Slot(2)].map(|slot| shard.of(slot)));
            slots.sum()
        };
        let unmoved = version();
        moved(&shards[0], Slot(3));
        assert_eq!(version(), unmoved);
        for (shard, slot) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            let before = version();
            moved(&shards[shard], Slot(slot));
            assert_ne!(version(), before);
        }
        let before = version();
        shards[1].moved(&Changed::Anything);
        assert_ne!(version(), before);
    }

    #[test]
    fn an_answer_that_was_overtaken_is_not_used() {
        let (versions, answers) = (Versions::new(), Answers::new(1_000));
        let asked = versions.of(Slot(1));
        moved(&versions, Slot(1));
        answers.keep(UserId(7), asked, "from before", 10);
        assert_eq!(answers.of(&UserId(7), versions.of(Slot(1))), None);
        assert_eq!(answers.last(&UserId(7)), Some("from before"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (versions, answers) = (Versions::new(), Answers::new(1_000));
        let version = versions.of(Slot(0));
        for key in 0..1_000 {
            answers.keep(UserId(key), version, (), 10);
        }
        let kept = (0..1_000).filter(|key| answers.of(&UserId(*key), version).is_some()).count();
        assert!((1..=100).contains(&kept), "{kept}");
    }

    #[tokio::test]
    async fn what_many_miss_at_once_is_made_once() {
        let (versions, answers) = (Versions::new(), Answers::new(1_000));
        let key = UserId(7);
        let made = std::cell::Cell::new(0);
        let ask = || async {
            let look = || {
                let version = versions.of(Slot(1));
                answers.of(&key, version).ok_or(version)
            };
            let (version, _turn) = match answers.found_or_turn(&key, look).await {
                Ok(found) => return found,
                Err(missed) => missed,
            };
            made.set(made.get() + 1);
            tokio::task::yield_now().await;
            answers.keep(key, version, "made", 10);
            "made"
        };
        let all = futures_util::future::join_all((0..20).map(|_| ask())).await;
        assert_eq!((all, made.get()), (vec!["made"; 20], 1));
        moved(&versions, Slot(1));
        futures_util::future::join_all((0..20).map(|_| ask())).await;
        assert_eq!(made.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_his_turn() {
        let answers: Answers<UserId, ()> = Answers::new(1_000);
        let look = || Err::<(), ()>(());
        let (_, held) = answers.found_or_turn(&UserId(7), look).await.unwrap_err();
        let began = time::now();
        let (_, none) = answers.found_or_turn(&UserId(7), look).await.unwrap_err();
        assert!(none.0.is_none());
        assert!((TURN_WAIT..2 * TURN_WAIT).contains(&began.elapsed()));
        drop(held);
        let (_, turn) = answers.found_or_turn(&UserId(7), look).await.unwrap_err();
        assert!(turn.0.is_some());
    }

    #[test]
    fn things_are_spread_over_the_slots() {
        let slots: std::collections::BTreeSet<u16> =
            (0_u64..1_000).map(|thing| Slot::of(&thing).0).collect();
        assert!(slots.len() > 900, "{}", slots.len());
    }
}
