//! Answers that callers keep and use again for as long as they are exact.
//!
//! A shard counts, by bucket, the commands that it applies. Who keeps an answer about what is in one
//! bucket keeps the bucket's version with it, and uses the answer again while that has not moved: a
//! look at a counter instead of a message to the shard and back.
//!
//! **Invariants**: A1 a version moves before anything changes that it stands for, and before the shard
//! answers whoever comes after; A2 an answer is kept with the version from before the question; A3 what
//! a command may change is in the bucket that the service names, or it names none and all versions
//! move. So whoever was told of a change, or has seen it, finds no answer from before it.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::generations::Generations;
use crate::ids::{BUCKETS, Bucket};

/// How many changes there were of what an answer was made from: of its bucket, and of any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(u64, u64);

/// The versions of a shard's buckets. Outlives the shard's actor.
pub(crate) struct Versions {
    /// Changes that may be of any bucket.
    all: AtomicU64,
    buckets: Box<[AtomicU64]>,
}

impl Versions {
    pub(crate) fn new() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { all: AtomicU64::new(0), buckets }
    }

    /// The version of a bucket now.
    pub(crate) fn of(&self, bucket: Bucket) -> Version {
        let own = self.buckets[usize::from(bucket.number())].load(Ordering::Acquire);
        Version(own, self.all.load(Ordering::Acquire))
    }

    /// Something in this bucket changes, or may be found changed; anything, if none is named.
    pub(crate) fn moved(&self, bucket: Option<Bucket>) {
        let counted =
            bucket.map_or(&self.all, |bucket| &self.buckets[usize::from(bucket.number())]);
        counted.fetch_add(1, Ordering::AcqRel);
    }
}

/// Answers of one kind, by what they are about; bounded in bytes.
pub struct Answers<K, A> {
    kept: Mutex<Generations<K, (Version, A)>>,
}

impl<K: Copy + Eq + Hash, A: Clone> Answers<K, A> {
    /// Keeps at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { kept: Mutex::new(Generations::new(bytes_max)) }
    }

    /// Keeps an answer with the version that its question found (A2), and how much it takes, in bytes.
    pub fn keep(&self, key: K, version: Version, answer: A, bytes: usize) {
        self.lock().insert(key, (version, answer), bytes);
    }

    /// The answer, if it is of this version.
    pub(crate) fn of(&self, key: K, version: Version) -> Option<A> {
        let (kept, answer) = self.lock().get(&key)?;
        (kept == version).then_some(answer)
    }

    /// Sound whoever panics while holding it: entries are only ever whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, Generations<K, (Version, A)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_until_its_bucket_moves() {
        let (versions, answers) = (Versions::new(), Answers::new(1_000));
        let (one, other) = (Bucket::new(1), Bucket::new(2));
        answers.keep(7, versions.of(one), "seven", 10);
        versions.moved(Some(other));
        assert_eq!(answers.of(7, versions.of(one)), Some("seven"));
        assert_eq!(answers.of(8, versions.of(one)), None);
        versions.moved(Some(one));
        assert_eq!(answers.of(7, versions.of(one)), None);
        answers.keep(7, versions.of(one), "again", 10);
        versions.moved(None);
        assert_eq!(answers.of(7, versions.of(one)), None);
    }

    #[test]
    fn an_answer_that_was_overtaken_is_not_used() {
        let (versions, answers) = (Versions::new(), Answers::new(1_000));
        let bucket = Bucket::new(1);
        let asked = versions.of(bucket);
        versions.moved(Some(bucket));
        answers.keep(7, asked, "from before", 10);
        assert_eq!(answers.of(7, versions.of(bucket)), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (versions, answers) = (Versions::new(), Answers::new(1_000));
        let version = versions.of(Bucket::new(0));
        for key in 0..1_000 {
            answers.keep(key, version, (), 10);
        }
        let kept = (0..1_000).filter(|key| answers.of(*key, version).is_some()).count();
        assert!((1..=100).contains(&kept), "{kept}");
    }
}
