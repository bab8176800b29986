//! What experiments there are, and which variant a reader is in.

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::item::Method;
use crate::actors::signature::mix;
use crate::ids::UserId;

/// Buckets of every experiment: one is a thousandth of the readers.
pub const BUCKETS: u16 = 1_000;
/// Experiments at a time.
const EXPERIMENTS_MAX: usize = 16;
/// Variants of an experiment.
const VARIANTS_MAX: usize = 8;
/// Characters of a name or a salt.
const NAME_CHARS_MAX: usize = 40;

/// Some readers see one ranking, others another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// 1–40 of `a–z`, `0–9`, `-`, `_`; unique.
    pub name: String,
    /// Shuffles readers anew; that of the name unless given. At most 40 characters.
    #[serde(default)]
    pub salt: String,
    /// 1–8. Their buckets are counted from 0 in this order; readers in what is left over of
    /// [`BUCKETS`] are not in the experiment.
    pub variants: Vec<Variant>,
}

/// What some of the readers see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// As the name of an experiment; unique within it.
    pub name: String,
    /// Thousandths of the readers, 1–1,000.
    pub buckets: u16,
    /// How its readers' posts are found.
    pub method: Method,
    /// At most two posts of an author in ten, and variety of tags.
    #[serde(default = "yes")]
    pub is_diverse: bool,
    /// Places in ten for posts that few have seen, 0–2.
    #[serde(default = "one")]
    pub explore: u8,
}

fn yes() -> bool {
    true
}

fn one() -> u8 {
    1
}

/// Why experiments are refused; says which one and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct SplitError(pub String);

/// All experiments, in order. A reader is in the first one that has a place for the reader: two
/// rankings cannot both be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Splits(Vec<Experiment>);

impl Splits {
    /// Checked experiments.
    ///
    /// # Errors
    /// For what the fields of [`Experiment`] and [`Variant`] rule out.
    pub fn new(experiments: Vec<Experiment>) -> Result<Self, SplitError> {
        let refuse = |why: String| Err(SplitError(why));
        if experiments.len() > EXPERIMENTS_MAX {
            return refuse(format!("there may be {EXPERIMENTS_MAX} experiments at a time"));
        }
        for (nth, experiment) in experiments.iter().enumerate() {
            let name = &experiment.name;
            check_name("an experiment", name)?;
            if experiments[..nth].iter().any(|other| other.name == *name) {
                return refuse(format!("two experiments are called `{name}`"));
            }
            experiment.check().map_err(|why| SplitError(format!("experiment `{name}`: {why}")))?;
        }
        Ok(Self(experiments))
    }

    /// The experiments.
    pub fn experiments(&self) -> &[Experiment] {
        &self.0
    }

    /// The experiment and the variant that the reader is in, if any.
    pub fn variant_of(&self, reader: UserId) -> Option<(&Experiment, &Variant)> {
        self.0.iter().find_map(|experiment| Some((experiment, experiment.variant_of(reader)?)))
    }

    /// Whether an experiment has this variant.
    pub fn has(&self, experiment: &str, variant: &str) -> bool {
        let named = self.0.iter().find(|one| one.name == experiment);
        named.is_some_and(|one| one.variants.iter().any(|one| one.name == variant))
    }
}

impl Experiment {
    /// The variant that the reader is in, if any.
    pub fn variant_of(&self, reader: UserId) -> Option<&Variant> {
        let bucket = self.bucket_of(reader);
        let mut end = 0;
        self.variants.iter().find(|variant| {
            end += variant.buckets;
            bucket < end
        })
    }

    /// The reader's bucket: as good as random in each experiment, the same for ever.
    fn bucket_of(&self, reader: UserId) -> u16 {
        let salt = if self.salt.is_empty() { &self.name } else { &self.salt };
        // FNV-1a (Fowler, Noll, Vo), then mixed with the reader.
        let hash = salt.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        (mix(hash ^ mix(reader.0)) % u64::from(BUCKETS)) as u16
    }

    fn check(&self) -> Result<(), SplitError> {
        let refuse = |why: String| Err(SplitError(why));
        if self.salt.chars().count() > NAME_CHARS_MAX {
            return refuse(format!("a salt has at most {NAME_CHARS_MAX} characters"));
        }
        if !(1..=VARIANTS_MAX).contains(&self.variants.len()) {
            return refuse(format!("it needs 1 to {VARIANTS_MAX} variants"));
        }
        for (nth, variant) in self.variants.iter().enumerate() {
            let Variant { name, buckets, explore, method, .. } = variant;
            check_name("a variant", name)?;
            if self.variants[..nth].iter().any(|other| other.name == *name) {
                return refuse(format!("two variants are called `{name}`"));
            }
            if !(1..=BUCKETS).contains(buckets) {
                return refuse(format!("variant `{name}` needs 1 to {BUCKETS} buckets"));
            }
            if *explore > 2 {
                return refuse(format!("variant `{name}` may explore in at most 2 places of 10"));
            }
            if *method == Method::Together {
                return refuse(format!("variant `{name}`: `together` alone fills no page"));
            }
        }
        let all: u32 = self.variants.iter().map(|variant| u32::from(variant.buckets)).sum();
        if all > u32::from(BUCKETS) {
            return refuse(format!("its variants have {all} buckets; there are {BUCKETS}"));
        }
        Ok(())
    }
}

fn check_name(what: &str, name: &str) -> Result<(), SplitError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(());
    }
    let most = NAME_CHARS_MAX;
    Err(SplitError(format!("the name of {what} is 1 to {most} of a–z, 0–9, `-` and `_`")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::actors::recommendation::split) fn variant(name: &str, buckets: u16) -> Variant {
        let (name, method) = (name.to_owned(), Method::Ranker);
        Variant { name, buckets, method, is_diverse: true, explore: 1 }
    }

    pub(in crate::actors::recommendation::split) fn experiment(
        name: &str,
        variants: Vec<Variant>,
    ) -> Experiment {
        Experiment { name: name.to_owned(), salt: String::new(), variants }
    }

    #[test]
    fn readers_spread_as_the_buckets_say_and_stay_where_they_are() {
        let one = experiment("rank", vec![variant("a", 500), variant("b", 300)]);
        let mut counts = [0_u32; 3];
        for reader in 0..100_000 {
            let found = one.variant_of(UserId(reader)).map(|variant| variant.name.as_str());
            counts[match found {
                Some("a") => 0,
                Some("b") => 1,
                _ => 2,
            }] += 1;
        }
        let near = |count: u32, expected: u32| count.abs_diff(expected) < 1_000;
        assert!(near(counts[0], 50_000) && near(counts[1], 30_000), "{counts:?}");
        // A change of this value moves every reader to another variant.
        let buckets = [1, 2, 3].map(|reader| one.bucket_of(UserId(reader)));
        assert_eq!(buckets, PINNED);
    }

    const PINNED: [u16; 3] = [670, 87, 947];

    #[test]
    fn experiments_are_independent_and_the_first_one_decides() {
        let half = |name| experiment(name, vec![variant("on", 500)]);
        let splits = Splits::new(vec![half("first"), half("second")]).unwrap();
        let mut both = 0;
        for reader in (0..10_000).map(UserId) {
            let [first, second] = splits.experiments() else { panic!("there are two") };
            let decided = splits.variant_of(reader).map(|(experiment, _)| experiment.name.as_str());
            match (first.variant_of(reader), second.variant_of(reader)) {
                (Some(_), _) => assert_eq!(decided, Some("first")),
                (None, Some(_)) => assert_eq!(decided, Some("second")),
                (None, None) => assert_eq!(decided, None),
            }
            both += u32::from(
                first.variant_of(reader).is_some() && second.variant_of(reader).is_some(),
            );
        }
        assert!(both.abs_diff(2_500) < 200, "{both} in both");
        assert!(splits.has("first", "on"));
        assert!(!splits.has("first", "off") && !splits.has("third", "on"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let with = |change: fn(&mut Experiment)| {
            let mut one = experiment("rank", vec![variant("a", 500), variant("b", 500)]);
            change(&mut one);
            one
        };
        let rows: [(Vec<Experiment>, &str); 11] = [
            (vec![with(|one| one.name.clear())], "name of an experiment"),
            (vec![with(|one| one.name = "A b".into())], "name of an experiment"),
            (vec![with(|one| one.name = "x".repeat(41))], "name of an experiment"),
            (vec![with(|_| {}), with(|_| {})], "two experiments"),
            (vec![with(|one| one.salt = "x".repeat(41))], "salt"),
            (vec![with(|one| one.variants.clear())], "1 to 8 variants"),
            (vec![with(|one| one.variants[1].name = "a".into())], "two variants"),
            (vec![with(|one| one.variants[1].buckets = 501)], "1001 buckets"),
            (vec![with(|one| one.variants[1].buckets = 0)], "`b` needs"),
            (vec![with(|one| one.variants[0].explore = 3)], "`a` may explore"),
            ((0..17).map(|n| experiment(&n.to_string(), vec![])).collect(), "16 experiments"),
        ];
        for (experiments, named) in rows {
            let error = Splits::new(experiments).unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
