//! A cache bounded in weight, with second chances: what was touched since the hand last came by
//! stays for another round.

use std::cell::Cell;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// What something in a cache weighs, roughly, in bytes.
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

/// A key of a cache.
pub(super) trait Key: Clone + Eq + Hash {
    /// Bytes that it holds outside itself. A client may choose how many.
    fn outside(&self) -> usize {
        0
    }
}

/// Values by key. Nothing leaves before [`Clock::trim`], so that one piece of work keeps all it has
/// brought in until it is done.
pub(super) struct Clock<K, V> {
    places: FxHashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    hand: usize,
    weight: usize,
    weight_max: usize,
}

struct Slot<K, V> {
    key: K,
    value: V,
    weight: usize,
    touched: Cell<bool>,
}

impl<K: Key, V: Weigh> Clock<K, V> {
    /// An empty cache that [`Self::trim`] brings down to `weight_max`.
    pub(super) fn new(weight_max: usize) -> Self {
        Self { places: FxHashMap::default(), slots: Vec::new(), hand: 0, weight: 0, weight_max }
    }

    /// Looks a value up, and gives it a second chance.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let slot = &self.slots[*self.places.get(key)?];
        slot.touched.set(true);
        Some(&slot.value)
    }

    /// Changes a value that is there. That is no use of it, and gives no second chance.
    pub(super) fn update<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let slot = &mut self.slots[*self.places.get(key)?];
        let result = change(&mut slot.value);
        let weight = slot.key.outside() + slot.value.weight();
        self.weight = self.weight - slot.weight + weight;
        slot.weight = weight;
        Some(result)
    }

    /// Puts a value in, in place of an older one.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        let weight = key.outside() + value.weight();
        self.weight += weight;
        self.places.insert(key.clone(), self.slots.len());
        self.slots.push(Slot { key, value, weight, touched: Cell::new(false) });
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: &K) {
        if let Some(place) = self.places.get(key) {
            self.remove_at(*place);
        }
    }

    /// Drops what was not used for longest, roughly, until the rest is light enough.
    pub(super) fn trim(&mut self) {
        while self.weight > self.weight_max && !self.slots.is_empty() {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            if !self.slots[self.hand].touched.replace(false) {
                self.remove_at(self.hand);
            }
            // Also past a removed one: the newest has come into its place, and would be the next to
            // go, before anybody could ask for it again, while the oldest stayed for ever.
            self.hand += 1;
        }
    }

    fn remove_at(&mut self, place: usize) {
        let slot = self.slots.swap_remove(place);
        self.places.remove(&slot.key);
        self.weight -= slot.weight;
        if let Some(moved) = self.slots.get(place)
            && let Some(moved_place) = self.places.get_mut(&moved.key)
        {
            *moved_place = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Key for i32 {}
    impl Key for usize {}

    impl Key for &'static str {
        fn outside(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn keys_have_weight_too() {
        let mut clock = Clock::new(100);
        let long: &'static str = "x".repeat(90).leak();
        for key in ["a", "b", long, "c"] {
            clock.insert(key, 10_usize);
            clock.update(&key, |value| *value += 1);
            clock.trim();
            assert!(clock.weight <= 100);
            let keys: usize = clock.slots.iter().map(|slot| slot.key.len() + slot.value).sum();
            assert_eq!(clock.weight, keys);
        }
        clock.remove(&"c");
        assert_eq!(clock.weight, clock.slots.iter().map(|slot| slot.weight).sum::<usize>());
    }

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    #[test]
    fn what_is_used_stays_and_the_weight_is_bounded() {
        let mut clock = Clock::new(100);
        for key in 0..50 {
            clock.insert(key, 10);
            assert_eq!(clock.get(&0), Some(&10), "used before every trim, {key}");
            clock.trim();
            assert!(clock.weight <= 100);
        }
        assert_eq!(clock.slots.len(), clock.places.len());
        clock.update(&0, |value| *value = 1_000);
        clock.trim();
        assert_eq!(clock.weight, clock.slots.iter().map(|slot| slot.value).sum::<usize>());
        assert!(clock.weight <= 100);
    }

    #[test]
    fn what_was_used_long_ago_leaves_before_what_has_just_come() {
        let mut clock = Clock::new(100);
        for key in 0..10 {
            clock.insert(key, 10);
        }
        for key in 10..40 {
            clock.insert(key, 10);
            clock.trim();
        }
        let young = (30..40).filter(|key| clock.get(key).is_some()).count();
        assert!(young >= 9, "only {young} of the last ten are there");
    }

    #[test]
    fn places_follow_removals() {
        let mut clock = Clock::new(100);
        for key in 0..5 {
            clock.insert(key, key + 1);
        }
        clock.remove(&1);
        clock.insert(2, 7);
        let values: Vec<_> = (0..5).map(|key| clock.get(&key).copied()).collect();
        assert_eq!(values, [Some(1), None, Some(7), Some(4), Some(5)]);
        assert_eq!(clock.weight, 17);
    }
}
