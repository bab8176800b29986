//! Experiments and their outcomes in tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::damaged;
use crate::actors::recommendation::message::Exposure;
use crate::actors::recommendation::split::experiment::Experiment;
use crate::actors::recommendation::split::exposures::Exposures;
use crate::actors::recommendation::split::outcomes::{Label, Outcomes, Sums};
use crate::actors::recommendation::split::ring::Ring;
use crate::actors::recommendation::split::{SplitError, Splits};
use crate::actors::state_machine::{ReadTables, Table, Tables};
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;

/// One row with an empty key: [`TrafficRow`].
pub(in crate::actors::recommendation) const TRAFFIC: Table = Table(6);
/// Number → an answer whose reads may still come.
pub(in crate::actors::recommendation) const WAITING: Table = Table(7);
/// Number → [`crate::actors::recommendation::split::Logged`].
pub(in crate::actors::recommendation) const EXPOSURES: Table = Table(8);

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TrafficRow {
    experiments: Vec<Experiment>,
    sums: BTreeMap<Label, Sums>,
    /// Number of the first answer that waits for reads, and how many there are.
    waiting: (u64, u64),
    /// The same of the log of what was shown.
    exposures: (u64, u64),
}

impl Record for TrafficRow {
    const KIND: u8 = 74;
}

/// The experiments, what comes of them, and what was shown.
#[derive(Debug, Default, PartialEq)]
pub struct Traffic {
    splits: Splits,
    outcomes: Outcomes,
    exposures: Exposures,
}

impl Traffic {
    /// As the tables say.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        let Some(row) = tables.get(TRAFFIC, &[])? else { return Ok(Self::default()) };
        let TrafficRow { experiments, sums, waiting, exposures } = codec::decode(&row)?;
        let splits = Splits::new(experiments).map_err(|SplitError(why)| damaged(&why))?;
        let waiting = Ring::load(tables, WAITING, waiting.0, waiting.1)?;
        let mut outcomes = Outcomes { sums, waiting, ..Outcomes::default() };
        outcomes.index();
        let exposures = Exposures(Ring::load(tables, EXPOSURES, exposures.0, exposures.1)?);
        Ok(Self { splits, outcomes, exposures })
    }

    /// Stages about so many rows of what changed; whether that was all.
    pub fn save(&mut self, tables: &mut Tables<'_>, mut rows: usize) -> bool {
        let Outcomes { sums, waiting, .. } = &mut self.outcomes;
        let Exposures(exposures) = &mut self.exposures;
        let is_all = waiting.save(tables, WAITING, &mut rows)
            && exposures.save(tables, EXPOSURES, &mut rows);
        if is_all {
            let experiments = self.splits.experiments().to_vec();
            let place = |first, length: usize| (first, length as u64);
            let (waiting, exposures) =
                (place(waiting.first(), waiting.len()), place(exposures.first(), exposures.len()));
            let row = TrafficRow { experiments, sums: sums.clone(), waiting, exposures };
            tables.put(TRAFFIC, [], codec::encode(&row));
        }
        is_all
    }

    /// The experiments from now on, in any order. What came of one that is not the same any more is
    /// forgotten: with another method, other buckets or another salt it would be another's. So it is
    /// when its variants change places, for then readers go from one to another.
    pub fn set(&mut self, splits: Splits) {
        let known = std::mem::replace(&mut self.splits, splits);
        let is_kept = |name: &str| {
            let same = known.experiments().iter().find(|one| one.name == name);
            same.is_some_and(|one| self.splits.experiments().contains(one))
        };
        self.outcomes.retain(|experiment, _| is_kept(experiment));
    }

    /// The experiments.
    pub fn splits(&self) -> &Splits {
        &self.splits
    }

    /// What came of them.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// The latest of what was shown.
    pub fn exposures(&self) -> &Exposures {
        &self.exposures
    }

    /// Logs what was shown; see [`Outcomes::show`] for what is counted of it.
    pub fn show(&mut self, at: Stamp, exposure: &Exposure) {
        self.exposures.append(at, exposure);
        // An answer on its way while the experiments change is of none of them.
        let label = exposure.variant.split_once('/');
        if label.is_some_and(|(experiment, variant)| self.splits.has(experiment, variant)) {
            self.outcomes.show(at, exposure);
        }
    }

    /// See [`Outcomes::read`].
    pub fn read(&mut self, reader: UserId, post: PostId, at: Stamp) {
        self.outcomes.read(reader, post, at);
    }

    /// See [`Outcomes::forget_reader`] and [`Exposures::forget_reader`].
    pub fn forget_reader(&mut self, reader: UserId) {
        self.outcomes.forget_reader(reader);
        self.exposures.forget_reader(reader);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::recommendation::engine::TABLES;
    use crate::actors::recommendation::message::ShownPost;
    use crate::actors::recommendation::split::experiment::tests::{experiment, variant};
    use crate::store::tables::TestTables;
    use proptest::prelude::*;

    fn exposure(reader: u64, variant: &str, post: u64) -> Exposure {
        let shown = |post| ShownPost {
            post: PostId(post),
            position: 0,
            propensity: 0.5,
            is_explored: true,
        };
        Exposure {
            request: String::new(),
            reader: Some(UserId(reader)),
            surface: String::new(),
            variant: format!("rank/{variant}"),
            weights_version: 0,
            posts: vec![shown(post), shown(post + 1)],
        }
    }

    proptest! {
        /// What is loaded is what was saved, whatever happened between and within checkpoints.
        #[test]
        fn what_is_saved_is_loaded(
            steps in prop::collection::vec((0..6_u8, 1..9_u64, 0..4_u64), 0..120),
        ) {
            let mut tables = TestTables::new(TABLES);
            let mut traffic = Traffic::default();
            let both = vec![experiment("rank", vec![variant("a", 500), variant("b", 500)])];
            traffic.set(Splits::new(both).unwrap());
            let mut now = Stamp(1_700_000_000_000_000);
            for (kind, reader, post) in steps {
                now = now.plus_ms(1);
                match kind {
                    0 => traffic.show(now, &exposure(reader, "a", post)),
                    1 => traffic.show(now, &exposure(reader, "b", post)),
                    2 => traffic.read(UserId(reader), PostId(post), now),
                    3 if reader == 8 => now = now.plus_ms(60 * 60_000),
                    3 => traffic.forget_reader(UserId(reader)),
                    4 if reader == 8 => {
                        let one = vec![experiment("rank", vec![variant("b", 500)])];
                        traffic.set(Splits::new(one).unwrap());
                    }
                    _ => {
                        let mut saved = |rows| {
                            tables.apply(|tables| Ok::<_, ()>(traffic.save(tables, rows))).unwrap()
                        };
                        if kind == 5 {
                            while !saved(2) {}
                            let loaded = tables.read(Traffic::load).unwrap();
                            prop_assert_eq!(&loaded, &traffic);
                        } else {
                            saved(1);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_experiment_that_changes_starts_afresh_and_the_others_go_on() {
        let both = || {
            let other = experiment("other", vec![variant("on", 1)]);
            vec![experiment("rank", vec![variant("a", 500), variant("b", 500)]), other]
        };
        let mut traffic = Traffic::default();
        traffic.set(Splits::new(both()).unwrap());
        let show = |traffic: &mut Traffic| traffic.show(Stamp(1), &exposure(1, "a", 1));
        let answers = |traffic: &Traffic| traffic.outcomes().report().len();
        show(&mut traffic);
        traffic.set(Splits::new(both().into_iter().rev().collect()).unwrap());
        assert_eq!(answers(&traffic), 1, "their order says nothing of what came of them");
        let changes: [fn(&mut Experiment); 5] = [
            |one| one.salt = "again".to_owned(),
            |one| one.variants[0].method = crate::actors::recommendation::message::Method::Latest,
            |one| one.variants[0].explore = 0,
            |one| one.variants[0].buckets = 400,
            |one| one.variants.reverse(),
        ];
        for change in changes {
            traffic.set(Splits::new(both()).unwrap());
            show(&mut traffic);
            let mut changed = both();
            change(&mut changed[0]);
            traffic.set(Splits::new(changed).unwrap());
            traffic.read(UserId(1), PostId(1), Stamp(1));
            assert_eq!(answers(&traffic), 0);
        }
    }

    #[test]
    fn answers_of_no_experiment_are_not_counted() {
        let mut traffic = Traffic::default();
        traffic.show(Stamp(1), &exposure(1, "a", 1));
        assert_eq!(traffic.outcomes(), &Outcomes::default());
        assert_eq!(traffic.exposures().page(0, 9).len(), 1, "but they are logged");
    }
}
