//! What the user service keeps decoded: viewers and cards.
//!
//! Exact, not stale: an entry is dropped when a merged command changed what it was made from, and
//! made again when somebody asks. Bounded in bytes by two generations: when the young one is full, the old
//! one is forgotten and what is still used moves over.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// A map bounded in weight that forgets what was not used for long.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    young: Generation<K, V>,
    old: Generation<K, V>,
    half_bytes: usize,
}

#[derive(Debug)]
struct Generation<K, V> {
    entries: FxHashMap<K, (V, usize)>,
    bytes: usize,
}

impl<K, V> Default for Generation<K, V> {
    fn default() -> Self {
        Self { entries: FxHashMap::default(), bytes: 0 }
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Generation<K, V> {
    fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(key);
        self.bytes += bytes;
        self.entries.insert(key, (value, bytes));
    }

    fn remove(&mut self, key: K) -> Option<(V, usize)> {
        let (value, bytes) = self.entries.remove(&key)?;
        self.bytes -= bytes;
        Some((value, bytes))
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    /// Holds at most so many bytes, and the two entries that came last.
    pub(super) fn new(bytes: usize) -> Self {
        let (young, old) = (Generation::default(), Generation::default());
        Self { young, old, half_bytes: bytes / 2 }
    }

    pub(super) fn get(&mut self, key: K) -> Option<V> {
        if let Some((value, _)) = self.young.entries.get(&key) {
            return Some(value.clone());
        }
        let (value, bytes) = self.old.remove(key)?;
        self.insert(key, value.clone(), bytes);
        Some(value)
    }

    /// `bytes`: what the value will ever take, and its place here.
    pub(super) fn insert(&mut self, key: K, value: V, bytes: usize) {
        if self.young.bytes + bytes > self.half_bytes {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value, bytes);
    }

    pub(super) fn remove(&mut self, key: K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut cache = Cache::new(80);
        cache.insert(0, 0, 10);
        for key in 1..1_000 {
            cache.insert(key, key, 10);
            assert_eq!(cache.get(0), Some(0));
            assert!(cache.young.entries.len() + cache.old.entries.len() <= 8);
        }
        assert_eq!(cache.get(1), None);
        cache.insert(5_000, 0, 30);
        assert!(cache.young.bytes + cache.old.bytes <= 80, "by weight, not by number");
        cache.remove(0);
        assert_eq!(cache.get(0), None);
    }
}
