//! What the user service keeps decoded: viewers and cards.
//!
//! Exact, not stale: an entry is dropped when a merged command changed what it was made from, and
//! made again when somebody asks. Bounded by two generations: when the young one is full, the old
//! one is forgotten and what is still used moves over.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// A bounded map that forgets what was not used for long.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    young: FxHashMap<K, V>,
    old: FxHashMap<K, V>,
    half: usize,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    /// Holds at most `entries` entries.
    pub(super) fn new(entries: usize) -> Self {
        Self { young: FxHashMap::default(), old: FxHashMap::default(), half: entries / 2 }
    }

    pub(super) fn get(&mut self, key: K) -> Option<V> {
        if let Some(value) = self.young.get(&key) {
            return Some(value.clone());
        }
        let value = self.old.remove(&key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: K) {
        self.young.remove(&key);
        self.old.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut cache = Cache::new(8);
        cache.insert(0, 0);
        for key in 1..1_000 {
            cache.insert(key, key);
            assert_eq!(cache.get(0), Some(0));
            assert!(cache.young.len() + cache.old.len() <= 8);
        }
        assert_eq!(cache.get(1), None);
        cache.remove(0);
        assert_eq!(cache.get(0), None);
    }
}
