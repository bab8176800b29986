//! What a reader read, and when the latest of it.

/// Posts read, oldest first, and the times of the latest of them.
///
/// One list for both: there are a million of these, and each list costs 24 bytes and what the allocator
/// rounds up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    /// First the times, in seconds, then all posts; each oldest first.
    words: Vec<u32>,
    /// How many times there are.
    times: u16,
}

impl History {
    /// A history of these posts and times, both oldest first; the last time is that of the last post.
    pub(super) fn of(posts: &[u32], times_s: &[u32]) -> Self {
        let most = posts.len().min(usize::from(u16::MAX));
        let times_s = &times_s[times_s.len().saturating_sub(most)..];
        Self { words: [times_s, posts].concat(), times: times_s.len() as u16 }
    }

    /// All posts, oldest first.
    pub(super) fn posts(&self) -> &[u32] {
        &self.words[usize::from(self.times)..]
    }

    /// The times of the latest, in seconds, oldest first.
    pub(super) fn times_s(&self) -> &[u32] {
        &self.words[..usize::from(self.times)]
    }

    /// The posts whose times are known, with these, newest first.
    pub(super) fn recent(&self) -> impl Iterator<Item = (u32, u32)> + Clone + '_ {
        self.posts().iter().rev().copied().zip(self.times_s().iter().rev().copied())
    }

    /// Adds a post; keeps at most so many times.
    pub(super) fn push(&mut self, post: u32, time_s: u32, times_max: usize, posts_max: usize) {
        let times = usize::from(self.times);
        if times < times_max {
            grow(&mut self.words, times_max + posts_max);
            self.words.insert(times, time_s);
            self.times += 1;
        } else {
            // More than one where the bound became lower.
            self.words.drain(..times - times_max);
            self.times = times_max as u16;
            self.words[..times_max].rotate_left(1.min(times_max));
            if let Some(latest) = self.words[..times_max].last_mut() {
                *latest = time_s;
            }
        }
        grow(&mut self.words, times_max + posts_max);
        self.words.push(post);
    }

    /// Forgets the post in a place, and its time.
    pub(super) fn remove(&mut self, place: usize) {
        let times = usize::from(self.times);
        let posts = self.words.len() - times;
        self.words.remove(times + place);
        let from_end = posts - place;
        if from_end <= times {
            self.words.remove(times - from_end);
            self.times -= 1;
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u32>()
    }
}

/// Makes room for one more; at most so many. Twofold, in sizes that every allocator has: by smaller
/// steps less room is unused, but more of it is in holes that others left when they grew.
pub(super) fn grow<T>(list: &mut Vec<T>, most: usize) {
    if list.len() == list.capacity() {
        let room = (list.len() + 1).next_power_of_two().max(4).min(most.max(list.len() + 1));
        list.reserve_exact(room - list.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(history: &History) -> Vec<(u32, u32)> {
        history.recent().collect()
    }

    #[test]
    fn the_latest_have_their_times_whatever_is_removed() {
        let mut history = History::default();
        (1..=5).for_each(|n| history.push(n, 10 * n, 3, 9));
        assert_eq!(history.posts(), [1, 2, 3, 4, 5]);
        assert_eq!(recent(&history), [(5, 50), (4, 40), (3, 30)]);
        history.remove(0);
        assert_eq!(recent(&history), [(5, 50), (4, 40), (3, 30)]);
        history.remove(2);
        assert_eq!(history.posts(), [2, 3, 5]);
        assert_eq!(recent(&history), [(5, 50), (3, 30)]);
        history.push(6, 60, 3, 9);
        assert_eq!(recent(&history), [(6, 60), (5, 50), (3, 30)]);
        assert_eq!(History::of(history.posts(), history.times_s()), history);
        // A bound that became lower.
        history.push(7, 70, 2, 9);
        assert_eq!(recent(&history), [(7, 70), (6, 60)]);
        history.push(8, 80, 0, 9);
        assert_eq!((recent(&history), history.posts()), (vec![], &[2, 3, 5, 6, 7, 8][..]));
    }

    #[test]
    fn more_times_than_posts_are_none_of_theirs() {
        assert_eq!(recent(&History::of(&[7], &[1, 2, 3])), [(7, 3)]);
    }
}
