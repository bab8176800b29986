//! Outcomes of commands that may be sent again.
//!
//! A command id is remembered until the command's deadline has passed; later the same command is
//! refused because of its deadline, so forgetting is never seen. Outcomes are kept in epochs:
//! sealing one is moving a pointer, dropping one frees many outcomes at once, and no command pays
//! for trimming.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use crate::ids::{CommandId, Stamp};
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;

/// Outcomes per epoch: small enough that a dropped epoch is no pause, and as many as a table of 8,192
/// places holds before it doubles (seven eighths).
const EPOCH_OUTCOMES_MAX: usize = 7168;
/// And the bytes of its log, of which an outcome mostly takes 31: an epoch is one row.
const EPOCH_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a command in the log before its outcome.
const LOGGED_HEAD_BYTES: usize = 16 + 8 + 4;

/// The outcomes of some time, one after the other: a hundred thousand commands may come before the
/// first may be forgotten, and an allocation for each would take three times the room.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    /// Its key in the file: the time of the first command. Ascending.
    key: u64,
    /// The latest deadline in this epoch.
    last_deadline: Stamp,
    /// Where in `log` each command id stands.
    places: HashTable<u32>,
    /// Of each command its id, its deadline, how long its encoded outcome is, and that.
    log: Vec<u8>,
}

/// An epoch in the file: id, deadline, encoded outcome.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EpochRow(Vec<(CommandId, Stamp, Bytes)>);

impl Record for EpochRow {
    const KIND: u8 = 242;
}

/// One command of an epoch's log.
struct Logged<'a> {
    id: CommandId,
    deadline: Stamp,
    outcome: &'a [u8],
    /// What comes after it.
    rest: &'a [u8],
}

impl<'a> Logged<'a> {
    /// The first one; nothing at the end of the log.
    fn first(log: &'a [u8]) -> Option<Self> {
        let (id, rest) = log.split_first_chunk()?;
        let (deadline, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (outcome, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let deadline = Stamp(u64::from_le_bytes(*deadline));
        Some(Self { id: CommandId(*id), deadline, outcome, rest })
    }
}

fn hash_of(id: CommandId) -> u64 {
    FxBuildHasher.hash_one(id)
}

impl Epoch {
    /// Its key in the file.
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// Its row in the file.
    pub(super) fn row(&self) -> Vec<u8> {
        let log = Bytes::copy_from_slice(&self.log);
        let mut outcomes = Vec::with_capacity(self.places.len());
        let mut rest = &log[..];
        while let Some(logged) = Logged::first(rest) {
            outcomes.push((logged.id, logged.deadline, log.slice_ref(logged.outcome)));
            rest = logged.rest;
        }
        codec::encode(&EpochRow(outcomes))
    }

    /// The outcome of the command with that id, of which `hash` is the hash.
    fn get(&self, id: CommandId, hash: u64) -> Option<&[u8]> {
        let logged = |place: &u32| Logged::first(&self.log[*place as usize..]);
        let is_it = |place: &u32| logged(place).is_some_and(|logged| logged.id == id);
        logged(self.places.find(hash, is_it)?).map(|logged| logged.outcome)
    }

    /// Adds a command that it does not have: with one that it has, its row would be refused.
    fn insert(&mut self, id: CommandId, deadline: Stamp, outcome: &[u8]) {
        debug_assert!(self.get(id, hash_of(id)).is_none(), "a command has one outcome");
        self.last_deadline = self.last_deadline.max(deadline);
        let place = u32::try_from(self.log.len()).expect("an epoch is bounded, and so is a row");
        self.log.extend_from_slice(&id.0);
        self.log.extend_from_slice(&deadline.0.to_le_bytes());
        self.log.extend_from_slice(&(outcome.len() as u32).to_le_bytes());
        self.log.extend_from_slice(outcome);
        let log = &self.log;
        let hash = |place: &u32| {
            let logged = Logged::first(&log[*place as usize..]);
            hash_of(logged.expect("every place is the start of a command").id)
        };
        self.places.insert_unique(hash_of(id), place, hash);
    }
}

/// Command id → (deadline, encoded outcome).
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    frozen: VecDeque<Arc<Epoch>>,
    current: Epoch,
}

impl Remembered {
    /// The encoded outcome of a command that was applied before.
    pub(crate) fn get(&self, id: &CommandId) -> Option<&[u8]> {
        let hash = hash_of(*id);
        let frozen = self.frozen.iter().rev().map(|epoch| &**epoch);
        std::iter::once(&self.current).chain(frozen).find_map(|epoch| epoch.get(*id, hash))
    }

    /// Remembers until `deadline` the outcome of a command that is not known yet; forgets the epochs that
    /// lie wholly before `now`.
    pub(crate) fn insert(&mut self, now: Stamp, id: CommandId, deadline: Stamp, outcome: &[u8]) {
        while self.frozen.front().is_some_and(|epoch| epoch.last_deadline < now) {
            self.frozen.pop_front();
        }
        let is_full = self.current.places.len() >= EPOCH_OUTCOMES_MAX
            || self.current.log.len() + outcome.len() > EPOCH_BYTES_MAX;
        if is_full {
            self.freeze();
        }
        if self.current.places.is_empty() {
            self.current.key = now.0.max(self.next_key());
        }
        self.current.insert(id, deadline, outcome);
    }

    fn freeze(&mut self) {
        if !self.current.places.is_empty() {
            self.frozen.push_back(Arc::new(std::mem::take(&mut self.current)));
        }
    }

    fn next_key(&self) -> u64 {
        self.frozen.back().map_or(0, |last| last.key + 1)
    }

    /// A copy for the checkpoint that shares all epochs.
    pub(crate) fn seal(&mut self) -> Remembered {
        self.freeze();
        Remembered { frozen: self.frozen.clone(), current: Epoch::default() }
    }

    /// What was sealed, by ascending keys. An epoch that was sealed once does not change, and is gone
    /// only when all older ones are.
    pub(super) fn epochs(&self) -> impl Iterator<Item = &Epoch> {
        self.frozen.iter().map(|epoch| &**epoch)
    }

    /// Takes back an epoch; they come by ascending keys, all up to the shard's last stamp.
    ///
    /// # Errors
    /// When the row is none, has a command twice, or is later than that: new epochs would come before it
    /// and not be written.
    pub(super) fn restore(
        &mut self,
        key: &[u8],
        row: &[u8],
        last_stamp: Stamp,
    ) -> Result<(), StoreError> {
        let key = key.try_into().map(u64::from_be_bytes).map_err(|_| damaged())?;
        if Stamp(key) > last_stamp {
            return Err(damaged());
        }
        let EpochRow(outcomes) = codec::decode(row)?;
        let bytes = outcomes.iter().map(|(_, _, outcome)| LOGGED_HEAD_BYTES + outcome.len()).sum();
        let mut epoch = Epoch {
            key,
            places: HashTable::with_capacity(outcomes.len()),
            log: Vec::with_capacity(bytes),
            ..Epoch::default()
        };
        for (id, deadline, outcome) in outcomes {
            if epoch.get(id, hash_of(id)).is_some() {
                return Err(damaged());
            }
            epoch.insert(id, deadline, &outcome);
        }
        self.frozen.push_back(Arc::new(epoch));
        Ok(())
    }

    /// Takes back an outcome from a file of format 1, which has a row for each.
    ///
    /// # Errors
    /// When the row is none.
    pub(super) fn restore_one(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let id = CommandId(key.try_into().map_err(|_| damaged())?);
        let (deadline, outcome) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
        let deadline = Stamp(u64::from_be_bytes(*deadline));
        self.insert(Stamp(0), id, deadline, outcome);
        Ok(())
    }
}

fn damaged() -> StoreError {
    let detail = "malformed remembered command".into();
    StoreError::Damaged { path: Default::default(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::STAMP_MAX;

    fn outcome(n: u64) -> (CommandId, Stamp, Bytes) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        (CommandId(id), Stamp(n + 1_000_000), Bytes::copy_from_slice(&n.to_be_bytes()))
    }

    fn insert(remembered: &mut Remembered, n: u64) {
        let (id, deadline, bytes) = outcome(n);
        remembered.insert(Stamp(n), id, deadline, &bytes);
    }

    #[test]
    fn epochs_have_ascending_keys_and_come_back_as_they_were() {
        let mut remembered = Remembered::default();
        // As from an old file: they all come at once, without a time.
        for n in 0..10_000 {
            let (id, deadline, bytes) = outcome(n);
            let row = [&deadline.0.to_be_bytes(), &bytes[..]].concat();
            remembered.restore_one(&id.0, &row).unwrap();
        }
        (10_000..30_000).for_each(|n| insert(&mut remembered, n));
        let sealed = remembered.seal();
        let keys: Vec<u64> = sealed.epochs().map(Epoch::key).collect();
        assert!(keys.len() >= 4 && keys.is_sorted_by(|one, next| one < next), "{keys:?}");
        let mut restored = Remembered::default();
        for epoch in sealed.epochs() {
            restored.restore(&epoch.key().to_be_bytes(), &epoch.row(), STAMP_MAX).unwrap();
        }
        for n in 0..30_000 {
            let (id, _, bytes) = outcome(n);
            assert_eq!(restored.get(&id), Some(&bytes[..]));
        }
        assert_eq!(restored.seal().epochs().map(Epoch::key).collect::<Vec<_>>(), keys);
        // What comes then has a later key; what is over goes from the front.
        insert(&mut restored, 2_000_000);
        let keys: Vec<u64> = restored.seal().epochs().map(Epoch::key).collect();
        assert_eq!(keys, [2_000_000]);
        assert_eq!(restored.get(&outcome(29_999).0), None);
        let twice = codec::encode(&EpochRow(vec![outcome(7), outcome(7)]));
        let late = 30_u64.to_be_bytes();
        let bad: [(&[u8], &[u8]); 5] = [
            (&[1], &[242, 1, 0]),
            (&[0; 8], &[]),
            (&[0; 8], &[242, 1, 9]),
            (&[0; 8], &twice),
            (&late, &[242, 1, 0]),
        ];
        for (key, row) in bad {
            assert!(restored.restore(key, row, Stamp(29)).is_err(), "{key:?} {row:?}");
        }
        restored.restore(&late, &[242, 1, 0], Stamp(30)).unwrap();
    }

    #[test]
    fn a_full_epoch_fills_its_table() {
        let mut remembered = Remembered::default();
        (0..EPOCH_OUTCOMES_MAX as u64).for_each(|n| insert(&mut remembered, n));
        assert!(remembered.frozen.is_empty());
        assert_eq!(remembered.current.places.capacity(), EPOCH_OUTCOMES_MAX);
        insert(&mut remembered, EPOCH_OUTCOMES_MAX as u64);
        assert_eq!(remembered.frozen.len(), 1);
    }

    #[test]
    fn an_epoch_is_a_row_of_bounded_size() {
        let mut remembered = Remembered::default();
        for n in 0..40 {
            let (id, deadline, _) = outcome(n);
            remembered.insert(Stamp(n), id, deadline, &vec![0; 100_000]);
        }
        let sealed = remembered.seal();
        assert!(sealed.epochs().all(|epoch| epoch.row().len() <= EPOCH_BYTES_MAX + 10_000));
        assert_eq!(sealed.epochs().count(), 4);
        // One that is larger than an epoch may be has its own.
        let large = vec![7; EPOCH_BYTES_MAX + 1];
        for (n, bytes) in [(40, &[1][..]), (41, &large), (42, &[2])] {
            remembered.insert(Stamp(n), outcome(n).0, outcome(n).1, bytes);
            assert_eq!(remembered.get(&outcome(n).0), Some(bytes));
        }
        let sealed = remembered.seal();
        assert_eq!(sealed.epochs().count(), 7);
        let mut restored = Remembered::default();
        for epoch in sealed.epochs() {
            restored.restore(&epoch.key().to_be_bytes(), &epoch.row(), STAMP_MAX).unwrap();
        }
        assert_eq!(restored.get(&outcome(41).0), Some(&large[..]));
    }

    #[test]
    fn golden_bytes_stay() {
        let row = EpochRow(vec![(CommandId([7; 16]), Stamp(5), Bytes::from_static(b"ab"))]);
        let golden = [&[242, 1, 1][..], &[7; 16], &[5, 2, 97, 98]].concat();
        assert_eq!(codec::encode(&row), golden);
        assert_eq!(codec::decode::<EpochRow>(&golden).unwrap(), row);
        let mut epoch = Epoch::default();
        epoch.insert(CommandId([7; 16]), Stamp(5), b"ab");
        assert_eq!(epoch.row(), golden);
    }
}
