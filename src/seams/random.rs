//! Where random numbers come from.

use rand::distr::{Distribution, StandardUniform};

/// A source of random numbers. Cheap to clone; clones draw from the same source.
///
/// In the program there is only one, and it is fit for secrets (keys, salts, links that cannot be
/// guessed): the generator of the thread, ChaCha seeded by the system. One that repeats exists only
/// where `cfg(test)` holds, so that no option, variable or file can bring it into the program.
#[derive(Clone)]
pub struct Random(Source);

#[derive(Clone)]
enum Source {
    System,
    #[cfg(test)]
    Seeded(std::sync::Arc<std::sync::Mutex<rand::rngs::StdRng>>),
}

impl Random {
    /// What nobody can foresee.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// The same numbers for the same seed, as long as they are drawn in the same order.
    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Self {
        use rand::SeedableRng;
        Self(Source::Seeded(std::sync::Arc::new(std::sync::Mutex::new(
            rand::rngs::StdRng::seed_from_u64(seed),
        ))))
    }

    /// A value, each being equally likely: a number, or an array of numbers.
    #[inline]
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn any<T>(&self) -> T
    where
        StandardUniform: Distribution<T>,
    {
        match &self.0 {
            Source::System => rand::random(),
            #[cfg(test)]
            Source::Seeded(random) => {
                use rand::Rng;
                random.lock().expect("drawing a number does not panic").random()
            }
        }
    }
}

impl std::fmt::Debug for Random {
    /// Never a state: it would tell what comes next.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Random").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        let draw = |random: Random| (0..4).map(|_| random.any::<u64>()).collect::<Vec<_>>();
        assert_eq!(draw(Random::seeded(7)), draw(Random::seeded(7)));
        assert_ne!(draw(Random::seeded(7)), draw(Random::seeded(8)));
        assert_ne!(draw(Random::system()), draw(Random::system()));
        let (random, clone) = (Random::seeded(7), Random::seeded(7));
        let again = clone.clone();
        assert_eq!(draw(random)[..2], [clone.any::<u64>(), again.any()], "clones share");
    }
}
