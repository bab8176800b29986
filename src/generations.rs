//! A bounded map that forgets what was not used for long, in two generations: when the young one is
//! full, the old one is forgotten and the young one becomes the old. What is used moves to the young
//! one. It costs a few nanoseconds a look, and no list that would have to be kept in order.

use std::borrow::Borrow;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// The map. What a value weighs is the owner's to say: bytes, or one each.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    young: Generation<K, V>,
    old: Generation<K, V>,
    /// Of a generation.
    weight_max: usize,
}

#[derive(Debug)]
struct Generation<K, V> {
    entries: FxHashMap<K, (V, usize)>,
    weight: usize,
}

impl<K, V> Default for Generation<K, V> {
    fn default() -> Self {
        Self { entries: FxHashMap::default(), weight: 0 }
    }
}

impl<K: Eq + Hash, V> Generation<K, V> {
    fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<(K, V, usize)>
    where
        K: Borrow<Q>,
    {
        let (key, (value, weight)) = self.entries.remove_entry(key)?;
        self.weight -= weight;
        Some((key, value, weight))
    }
}

impl<K: Eq + Hash, V: Clone> Generations<K, V> {
    /// Holds at most so much in all, and the two entries that came last.
    pub(crate) fn new(weight_max: usize) -> Self {
        let (young, old) = (Generation::default(), Generation::default());
        Self { young, old, weight_max: weight_max / 2 }
    }

    /// The value, which is used by being asked for.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some((value, _)) = self.young.entries.get(key) {
            return Some(value.clone());
        }
        let (key, value, weight) = self.old.remove(key)?;
        self.add(key, value.clone(), weight);
        Some(value)
    }

    /// Replaces what the key had. `weight` is what the value will ever weigh, its place here included.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        self.add(key, value, weight);
    }

    /// Forgets the key.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Adds a key that is in neither generation.
    fn add(&mut self, key: K, value: V, weight: usize) {
        if self.young.weight + weight > self.weight_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.weight += weight;
        self.young.entries.insert(key, (value, weight));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.entries.len() + self.old.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut map = Generations::new(80);
        map.insert(0, 0, 10);
        for key in 1..1_000 {
            map.insert(key, key, 10);
            assert_eq!(map.get(&0), Some(0));
            assert!(map.len() <= 8);
        }
        assert_eq!(map.get(&1), None);
        map.insert(5_000, 0, 30);
        assert!(map.young.weight + map.old.weight <= 80, "by weight, not by number");
        map.remove(&0);
        assert_eq!(map.get(&0), None);
    }

    #[test]
    fn a_value_that_is_replaced_takes_no_more_room() {
        let mut map: Generations<Box<str>, u32> = Generations::new(80);
        map.insert("other".into(), 0, 10);
        for value in 0..1_000 {
            map.insert("key".into(), value, 10);
            assert_eq!(map.get("key"), Some(value));
        }
        assert_eq!((map.len(), map.young.weight, map.get("other")), (2, 20, Some(0)));
    }
}
