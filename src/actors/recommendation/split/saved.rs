//! Experiments and their outcomes in tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::message::Exposure;
use crate::actors::recommendation::split::experiment::Experiment;
use crate::actors::recommendation::split::outcomes::{Label, Outcomes, Sums, Waiting};
use crate::actors::recommendation::split::{SplitError, Splits};
use crate::actors::state_machine::{ReadTables, Table, Tables};
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;

/// One row with an empty key: [`TrafficRow`].
pub(in crate::actors::recommendation) const TRAFFIC: Table = Table(6);
/// Number → [`WaitingRow`].
pub(in crate::actors::recommendation) const WAITING: Table = Table(7);

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TrafficRow {
    experiments: Vec<Experiment>,
    sums: BTreeMap<Label, Sums>,
    /// Number of the first answer that waits for reads, and how many there are.
    first: u64,
    waiting: u64,
}

impl Record for TrafficRow {
    const KIND: u8 = 74;
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WaitingRow(Waiting);

impl Record for WaitingRow {
    const KIND: u8 = 75;
}

/// The experiments, and what comes of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    splits: Splits,
    outcomes: Outcomes,
    /// Rows of answers before this one are deleted.
    kept_from: u64,
}

impl Traffic {
    /// As the tables say.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        let Some(row) = tables.get(TRAFFIC, &[])? else { return Ok(Self::default()) };
        let TrafficRow { experiments, sums, first, waiting } = codec::decode(&row)?;
        let damaged = |detail: String| StoreError::Damaged { path: Default::default(), detail };
        let splits = Splits::new(experiments).map_err(|SplitError(why)| damaged(why))?;
        let mut outcomes = Outcomes { sums, first, ..Outcomes::default() };
        for number in first..first.saturating_add(waiting) {
            let row = tables.get(WAITING, &number.to_be_bytes())?;
            let row = row.ok_or_else(|| damaged("an answer is missing".to_owned()))?;
            let WaitingRow(waiting) = codec::decode(&row)?;
            // Nobody's answers are those of whom nothing is kept.
            if waiting.reader != UserId(0) {
                outcomes.latest.insert(waiting.reader, number);
            }
            outcomes.waiting.push_back(waiting);
        }
        Ok(Self { splits, outcomes, kept_from: first })
    }

    /// Stages about so many rows of what changed; whether that was all.
    pub fn save(&mut self, tables: &mut Tables<'_>, rows: usize) -> bool {
        let Outcomes { sums, waiting, first, changed, .. } = &mut self.outcomes;
        for _ in 0..rows {
            if self.kept_from < *first {
                tables.delete(WAITING, self.kept_from.to_be_bytes());
                self.kept_from += 1;
                continue;
            }
            let Some(number) = changed.pop_first() else {
                let experiments = self.splits.experiments().to_vec();
                let (sums, waiting) = (sums.clone(), waiting.len() as u64);
                let row = TrafficRow { experiments, sums, first: *first, waiting };
                tables.put(TRAFFIC, [], codec::encode(&row));
                return true;
            };
            let place = number.checked_sub(*first).map(|place| place as usize);
            if let Some(waiting) = place.and_then(|place| waiting.get(place)) {
                let row = codec::encode(&WaitingRow(waiting.clone()));
                tables.put(WAITING, number.to_be_bytes(), row);
            }
        }
        false
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

    /// See [`Outcomes::show`].
    pub fn show(&mut self, at: Stamp, exposure: &Exposure) {
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

    /// See [`Outcomes::forget_reader`].
    pub fn forget_reader(&mut self, reader: UserId) {
        self.outcomes.forget_reader(reader);
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
        assert_eq!(traffic, Traffic::default());
    }
}
