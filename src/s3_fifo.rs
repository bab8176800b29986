//! A cache bounded in weight that keeps what is asked for often: S3-FIFO (Yang, Zhang, Qiu, Yue and
//! Rashmi, SOSP 2023).
//!
//! What comes in waits in a small queue; only what was asked for again meanwhile goes on to the main
//! one, where it goes round for as long as it is used. Who left the small queue is remembered for a
//! while without its value: if it is asked for again, it was sent away too soon. So the many posts
//! that are read once do not push out those that are read all the time. Against second chances alone
//! (clock), with keys as uneven as readers are (Zipf, 0.99), misses fall by a sixth.
//!
//! A library's cache would make room when something is put in; here one piece of work must keep all
//! that it has brought in until it is done.

use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use crate::ids::{PostId, UserId};

/// One part in so many is for what has just come in.
const SMALL_SHARE: usize = 10;
/// A value that was used so often counts as no more.
const USES_MAX: u8 = 3;
/// Places of removed values that a queue keeps besides one for each value.
const STALE_MAX: usize = 64;

/// What something in a cache weighs, roughly, in bytes.
pub(crate) trait Weigh {
    fn weight(&self) -> usize;
}

/// A key of a cache.
pub(crate) trait Key: Clone + Eq + Hash {
    /// Bytes that it holds outside itself. A client may choose how many.
    fn outside(&self) -> usize {
        0
    }
}

impl Key for () {}
impl Key for u16 {}
impl Key for PostId {}
impl Key for UserId {}
impl Key for (UserId, u16) {}

/// Values by key. Nothing leaves before [`S3Fifo::trim`].
pub(crate) struct S3Fifo<K, V> {
    slots: FxHashMap<K, Slot<V>>,
    /// Keys in the order in which they came, each with the turn of its slot: a key whose slot has
    /// another turn, or none, is passed over.
    small: VecDeque<(K, u64)>,
    main: VecDeque<(K, u64)>,
    ghosts: Ghosts,
    turns: u64,
    weight: usize,
    small_weight: usize,
    weight_max: usize,
}

struct Slot<V> {
    value: V,
    weight: usize,
    uses: Cell<u8>,
    is_small: bool,
    turn: u64,
}

impl<K: Key, V: Weigh> S3Fifo<K, V> {
    /// An empty cache that [`Self::trim`] brings down to `weight_max`.
    pub(crate) fn new(weight_max: usize) -> Self {
        Self {
            slots: FxHashMap::default(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: Ghosts::default(),
            turns: 0,
            weight: 0,
            small_weight: 0,
            weight_max,
        }
    }

    /// From now on, [`Self::trim`] brings it down to `weight_max`.
    pub(crate) fn allow(&mut self, weight_max: usize) {
        self.weight_max = weight_max;
    }

    /// Looks a value up, which is a use of it.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let slot = self.slots.get(key)?;
        slot.uses.set((slot.uses.get() + 1).min(USES_MAX));
        Some(&slot.value)
    }

    /// Changes a value that is there. That is no use of it.
    pub(crate) fn update<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let slot = self.slots.get_mut(key)?;
        let result = change(&mut slot.value);
        let weight = key.outside() + slot.value.weight();
        self.weight = self.weight - slot.weight + weight;
        if slot.is_small {
            self.small_weight = self.small_weight - slot.weight + weight;
        }
        slot.weight = weight;
        Some(result)
    }

    /// Puts a value in, in place of an older one.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let known = self.take(&key);
        let is_small = match known {
            Some(slot) => slot.is_small,
            None => !self.ghosts.remove(&key),
        };
        let weight = key.outside() + value.weight();
        self.weight += weight;
        self.small_weight += if is_small { weight } else { 0 };
        self.turns += 1;
        let turn = self.turns;
        let slot = Slot { value, weight, uses: Cell::new(0), is_small, turn };
        self.slots.insert(key.clone(), slot);
        let queue = if is_small { &mut self.small } else { &mut self.main };
        queue.push_back((key, turn));
        if queue.len() > 2 * self.slots.len() + STALE_MAX {
            let slots = &self.slots;
            queue.retain(|(key, turn)| slots.get(key).is_some_and(|slot| slot.turn == *turn));
        }
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: &K) {
        self.take(key);
    }

    /// Drops what is used least, roughly, until the rest is light enough.
    pub(crate) fn trim(&mut self) {
        while self.weight > self.weight_max && !self.slots.is_empty() {
            let is_small_full = self.small_weight > self.weight_max / SMALL_SHARE;
            if is_small_full || self.small_weight == self.weight {
                self.advance_small();
            } else {
                self.advance_main();
            }
        }
    }

    /// The first in the small queue goes on to the main one, or leaves.
    fn advance_small(&mut self) {
        let Some((key, turn)) = self.small.pop_front() else { return };
        let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.turn == turn) else { return };
        if slot.uses.replace(0) > 0 {
            slot.is_small = false;
            self.small_weight -= slot.weight;
            self.main.push_back((key, turn));
            return;
        }
        self.take(&key);
        self.ghosts.push(&key, self.slots.len());
    }

    /// The first in the main queue goes round once more, or leaves.
    fn advance_main(&mut self) {
        let Some((key, turn)) = self.main.pop_front() else { return };
        let Some(slot) = self.slots.get(&key).filter(|slot| slot.turn == turn) else { return };
        let uses = slot.uses.get();
        if uses > 0 {
            slot.uses.set(uses - 1);
            self.main.push_back((key, turn));
        } else {
            self.take(&key);
        }
    }

    fn take(&mut self, key: &K) -> Option<Slot<V>> {
        let slot = self.slots.remove(key)?;
        self.weight -= slot.weight;
        self.small_weight -= if slot.is_small { slot.weight } else { 0 };
        Some(slot)
    }
}

/// Hashes of keys that left the small queue, as many as there are values. Two keys of one hash are
/// taken for one another, which costs a value a place it did not earn.
#[derive(Default)]
struct Ghosts {
    known: FxHashSet<u64>,
    order: VecDeque<u64>,
}

impl Ghosts {
    fn push(&mut self, key: &impl Key, most: usize) {
        let hash = FxBuildHasher.hash_one(key);
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        while self.order.len() > most {
            let oldest = self.order.pop_front();
            oldest.map(|oldest| self.known.remove(&oldest));
        }
    }

    /// Whether the key is among them; from now on it is not. Its place in the order stays, so that
    /// it may be forgotten early when it comes again.
    fn remove(&mut self, key: &impl Key) -> bool {
        self.known.remove(&FxBuildHasher.hash_one(key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Key for i32 {}

    impl Key for &'static str {
        fn outside(&self) -> usize {
            self.len()
        }
    }

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    fn check<K: Key, V: Weigh>(cache: &S3Fifo<K, V>) {
        let weigh = |key: &K, slot: &Slot<V>| key.outside() + slot.value.weight();
        let all: usize = cache.slots.iter().map(|(key, slot)| weigh(key, slot)).sum();
        let small = cache.slots.iter().filter(|(_, slot)| slot.is_small);
        let small: usize = small.map(|(key, slot)| weigh(key, slot)).sum();
        assert_eq!([cache.weight, cache.small_weight], [all, small]);
        for (queue, is_small) in [(&cache.small, true), (&cache.main, false)] {
            let valid = queue
                .iter()
                .filter(|(key, turn)| cache.slots.get(key).is_some_and(|slot| slot.turn == *turn));
            let there = cache.slots.values().filter(|slot| slot.is_small == is_small).count();
            assert_eq!(valid.count(), there, "each value has one place");
        }
    }

    #[test]
    fn keys_have_weight_too() {
        let mut cache = S3Fifo::new(100);
        let long: &'static str = "x".repeat(90).leak();
        for key in ["a", "b", long, "c"] {
            cache.insert(key, 10_usize);
            cache.update(&key, |value| *value += 1);
            cache.trim();
            assert!(cache.weight <= 100);
            check(&cache);
        }
        cache.remove(&"c");
        check(&cache);
    }

    #[test]
    fn what_is_read_once_does_not_push_out_what_is_read_often() {
        let mut cache = S3Fifo::new(1_000);
        for often in 0..50 {
            cache.insert(often, 10);
            cache.get(&often);
        }
        for once in 1_000..11_000 {
            cache.insert(once, 10);
            cache.trim();
            cache.get(&(once % 50));
        }
        let kept = (0..50).filter(|often| cache.get(often).is_some()).count();
        assert_eq!(kept, 50);
    }

    #[test]
    fn what_was_sent_away_too_soon_stays_the_second_time() {
        let mut cache = S3Fifo::new(100);
        for key in 0..15 {
            cache.insert(key, 10);
            cache.trim();
        }
        let gone = (0..15).find(|key| cache.get(key).is_none()).unwrap();
        cache.insert(gone, 10);
        assert!(!cache.slots[&gone].is_small);
        for key in 100..105 {
            cache.insert(key, 10);
            cache.trim();
        }
        assert!(cache.get(&gone).is_some());
    }

    #[test]
    fn what_grows_too_heavy_leaves() {
        let mut cache = S3Fifo::new(100);
        for key in 0..10 {
            cache.insert(key, 10);
        }
        cache.update(&0, |value| *value = 1_000);
        cache.trim();
        assert!(cache.weight <= 100 && cache.get(&0).is_none());
        check(&cache);
    }

    #[test]
    fn what_comes_and_goes_leaves_no_places_behind() {
        let mut cache = S3Fifo::new(100);
        for key in 0..10_000 {
            cache.insert(key, 10);
            cache.remove(&key);
        }
        assert!(cache.small.len() <= STALE_MAX && cache.main.is_empty());
    }

    proptest! {
        #[test]
        fn it_answers_what_was_put_in_last_and_its_weight_is_bounded(
            steps in prop::collection::vec((0..5_u8, 0..20_i32, 1..60_usize), 0..400),
        ) {
            let mut cache = S3Fifo::new(200);
            let mut model = std::collections::HashMap::new();
            for (kind, key, value) in steps {
                match kind {
                    0 | 1 => {
                        cache.insert(key, value);
                        model.insert(key, value);
                    }
                    2 => {
                        let changed = cache.update(&key, |old| *old = value);
                        changed.map(|()| model.insert(key, value));
                    }
                    3 => {
                        cache.remove(&key);
                        model.remove(&key);
                    }
                    _ => {
                        let found = cache.get(&key).copied();
                        prop_assert!(found.is_none() || found == model.get(&key).copied());
                    }
                }
                check(&cache);
                if value % 3 == 0 {
                    cache.trim();
                    prop_assert!(cache.weight <= 200);
                    prop_assert!(cache.ghosts.order.len() <= 20);
                    check(&cache);
                }
            }
        }
    }
}
