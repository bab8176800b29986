//! A bounded list of posts, best first.

use serde::{Deserialize, Serialize};

/// A place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// What the list is ordered by; higher is better.
    pub(super) order: u64,
    /// Which post.
    pub(super) post: u32,
}

/// At most as many posts as it is told, best first; of equals, the one that was there first.
///
/// The orders of trends only grow, and those of publication do not change: so the list is exact as
/// long as nothing is removed. What is removed leaves a gap that the next news fill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopList(Vec<Place>);

impl TopList {
    /// No posts.
    pub(super) const EMPTY: Self = Self(Vec::new());

    /// Sets the order of a post. Returns whether it is in the list now.
    pub(super) fn set(&mut self, post: u32, order: u64, most: usize) -> bool {
        let is_full = self.0.len() >= most;
        if is_full && self.0.last().is_some_and(|last| order < last.order) {
            // Its order did not fall, so it was not in the list before.
            return false;
        }
        let known = self.0.iter().position(|place| place.post == post);
        // It can only rise: the search ends where it is.
        let end = known.unwrap_or(self.0.len());
        let at = self.0[..end].partition_point(|place| place.order >= order);
        match known {
            Some(known) => {
                self.0[at..=known].rotate_right(1);
                self.0[at].order = order;
            }
            None => {
                if at >= most {
                    return false;
                }
                self.0.truncate(most.saturating_sub(1));
                self.0.insert(at, Place { order, post });
            }
        }
        true
    }

    /// Removes a post.
    pub(super) fn remove(&mut self, post: u32) {
        self.0.retain(|place| place.post != post);
    }

    /// The posts, best first.
    pub(super) fn posts(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.0.iter().map(|place| place.post)
    }

    /// The places, best first.
    pub(super) fn places(&self) -> &[Place] {
        &self.0
    }

    /// The state in words, for a digest.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|place| [place.order, u64::from(place.post)])
    }

    /// Bytes it has on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Place>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_and_equals_stay_in_order() {
        let mut list = TopList::default();
        for (post, order) in [(1, 5), (2, 5), (3, 9), (4, 1), (2, 7), (5, 1), (6, 5)] {
            list.set(post, order, 4);
        }
        assert_eq!(list.posts().collect::<Vec<_>>(), [3, 2, 1, 6]);
        list.remove(2);
        assert!(list.set(7, 0, 4));
        assert_eq!(list.posts().collect::<Vec<_>>(), [3, 1, 6, 7]);
        assert!(!TopList::default().set(1, 1, 0));
    }
}
