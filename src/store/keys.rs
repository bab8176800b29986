//! Outcomes of commands that a client gave a key of its own, so that it can send them again for a
//! day. Written together with the effect, in the shard that has it.
//!
//! ```text
//! 0 owner id    → what became of it          1 owner stamp → id        (the owner's oldest)
//! 3 owner       → number and bytes           2 stamp → owner, id       (everybody's oldest)
//! 4             → no older stamp is left
//! ```
//!
//! **Invariants**: I1 the rows of a key change together; I2 an owner has at most
//! [`KEYS_PER_OWNER_MAX`] keys and [`KEYS_BYTES_PER_OWNER_MAX`] bytes, the newest; I3 whoever writes a
//! key forgets some that are past their time, so that none stays for ever while keys are used.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::{KEY_LIFE, KEYS_BYTES_PER_OWNER_MAX, KEYS_PER_OWNER_MAX};
use crate::ids::{CommandId, Stamp};
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;
use crate::store::memtable::KEYS;
use crate::store::tables::{ReadTables, Tables};

/// First bytes of the keys of rows.
const OUTCOME: u8 = 0;
const BY_OWNER: u8 = 1;
const BY_AGE: u8 = 2;
const TOTALS: u8 = 3;
const OLDEST: u8 = 4;
/// Old keys forgotten with each new one. More than one, so that they become fewer.
const FORGOTTEN_AT_ONCE: usize = 4;
/// What a key takes beside its outcome, in bytes, roughly: four rows.
const OVERHEAD_BYTES: u64 = 128;

/// What became of a command with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    /// When it was applied; no other key has the same.
    pub(crate) at: Stamp,
    /// Hash of the request: another one may not use the key.
    pub(crate) fingerprint: [u8; 16],
    /// Which sending of the request it was: any other sees a repetition.
    pub(crate) sending: u64,
    /// The encoded outcome.
    pub(crate) outcome: Bytes,
}

impl Record for KeyRow {
    const KIND: u8 = 240;
}

impl KeyRow {
    fn weight(&self) -> u64 {
        OVERHEAD_BYTES + self.outcome.len() as u64
    }

    fn is_over(&self, now: Stamp) -> bool {
        self.at.plus_ms(KEY_LIFE.as_millis() as u64) < now
    }
}

/// What an owner has of keys.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct TotalsRow {
    keys: u32,
    bytes: u64,
    /// No older one is left: a look for the oldest need not step over what was deleted.
    oldest: Stamp,
}

impl Record for TotalsRow {
    const KIND: u8 = 241;
}

/// What became of the command that `owner` sent under this key, if that is known still.
///
/// # Errors
/// When the tables cannot be read.
pub(crate) fn find(
    tables: &ReadTables<'_>,
    owner: u64,
    id: CommandId,
    now: Stamp,
) -> Result<Option<KeyRow>, StoreError> {
    let row = read::<KeyRow>(tables, &outcome_key(owner, id))?;
    Ok(row.filter(|row| !row.is_over(now)))
}

/// Stages what became of a command; forgets what is past its time, and the owner's oldest where he
/// has too many.
///
/// # Errors
/// When the tables cannot be read.
pub(crate) fn keep(
    tables: &mut Tables<'_>,
    owner: u64,
    id: CommandId,
    row: &KeyRow,
) -> Result<(), StoreError> {
    forget(tables, owner, id)?;
    forget_old(tables, row.at)?;
    let mut totals = totals(tables, owner)?;
    while totals.keys >= KEYS_PER_OWNER_MAX
        || (totals.keys > 0 && totals.bytes + row.weight() > KEYS_BYTES_PER_OWNER_MAX)
    {
        let start = by_owner_key(owner, totals.oldest);
        let oldest = tables.view().prefix(KEYS, &owner_key(BY_OWNER, owner), &start)?.next();
        let (key, id) = oldest.transpose()?.ok_or_else(damaged)?;
        forget(tables, owner, id_of(&id)?)?;
        totals = TotalsRow { oldest: after(&key)?, ..self::totals(tables, owner)? };
    }
    tables.put(KEYS, outcome_key(owner, id), codec::encode(row));
    tables.put(KEYS, by_owner_key(owner, row.at), id.0.to_vec());
    let named = [&owner.to_be_bytes()[..], &id.0].concat();
    tables.put(KEYS, by_age_key(row.at), named);
    let (keys, bytes) = (totals.keys + 1, totals.bytes + row.weight());
    let totals = TotalsRow { keys, bytes, ..totals };
    tables.put(KEYS, owner_key(TOTALS, owner), codec::encode(&totals));
    Ok(())
}

/// Stages that some keys that are past their time were never used (I3).
fn forget_old(tables: &mut Tables<'_>, now: Stamp) -> Result<(), StoreError> {
    let bound = tables.get(KEYS, &[OLDEST])?;
    let start = [&[BY_AGE][..], bound.as_deref().unwrap_or_default()].concat();
    let oldest = tables.view().prefix(KEYS, &[BY_AGE], &start)?;
    let oldest = oldest.take(FORGOTTEN_AT_ONCE).collect::<Result<Vec<_>, _>>()?;
    let mut bound = None;
    for (key, named) in oldest {
        let (owner, id) = owner_and_id(&named)?;
        if find(&tables.view(), owner, id, now)?.is_some() {
            break;
        }
        forget(tables, owner, id)?;
        bound = Some(after(&key)?);
    }
    if let Some(bound) = bound {
        tables.put(KEYS, [OLDEST], bound.0.to_be_bytes().to_vec());
    }
    Ok(())
}

/// Stages that a key was never used (I1).
fn forget(tables: &mut Tables<'_>, owner: u64, id: CommandId) -> Result<(), StoreError> {
    let key = outcome_key(owner, id);
    let Some(row) = read::<KeyRow>(&tables.view(), &key)? else { return Ok(()) };
    let TotalsRow { keys, bytes, oldest } = totals(tables, owner)?;
    tables.delete(KEYS, key);
    tables.delete(KEYS, by_owner_key(owner, row.at));
    tables.delete(KEYS, by_age_key(row.at));
    let keys = keys.checked_sub(1).ok_or_else(damaged)?;
    let bytes = bytes.checked_sub(row.weight()).ok_or_else(damaged)?;
    let key = owner_key(TOTALS, owner);
    match keys {
        0 => tables.delete(KEYS, key),
        _ => tables.put(KEYS, key, codec::encode(&TotalsRow { keys, bytes, oldest })),
    }
    Ok(())
}

fn totals(tables: &Tables<'_>, owner: u64) -> Result<TotalsRow, StoreError> {
    Ok(read(&tables.view(), &owner_key(TOTALS, owner))?.unwrap_or_default())
}

fn read<R: Record>(tables: &ReadTables<'_>, key: &[u8]) -> Result<Option<R>, StoreError> {
    let Some(row) = tables.get(KEYS, key)? else { return Ok(None) };
    Ok(Some(codec::decode(&row)?))
}

fn owner_key(kind: u8, owner: u64) -> Vec<u8> {
    [&[kind][..], &owner.to_be_bytes()].concat()
}

fn outcome_key(owner: u64, id: CommandId) -> Vec<u8> {
    [&owner_key(OUTCOME, owner)[..], &id.0].concat()
}

fn by_owner_key(owner: u64, at: Stamp) -> Vec<u8> {
    [&owner_key(BY_OWNER, owner)[..], &at.0.to_be_bytes()].concat()
}

fn by_age_key(at: Stamp) -> Vec<u8> {
    [&[BY_AGE][..], &at.0.to_be_bytes()].concat()
}

/// Right after the stamp that a row is ordered by.
fn after(key: &[u8]) -> Result<Stamp, StoreError> {
    let stamp = key.last_chunk::<8>().ok_or_else(damaged)?;
    Ok(Stamp(u64::from_be_bytes(*stamp).saturating_add(1)))
}

fn owner_and_id(named: &[u8]) -> Result<(u64, CommandId), StoreError> {
    let (owner, id) = named.split_first_chunk::<8>().ok_or_else(damaged)?;
    Ok((u64::from_be_bytes(*owner), id_of(id)?))
}

fn id_of(bytes: &[u8]) -> Result<CommandId, StoreError> {
    bytes.try_into().map(CommandId).map_err(|_| damaged())
}

fn damaged() -> StoreError {
    let detail = "the rows of idempotency keys contradict one another";
    StoreError::Damaged { path: Default::default(), detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::{decode, encode};
    use crate::store::tables::TestTables;
    use proptest::prelude::*;

    const HOUR: u64 = 60 * 60 * 1_000_000;
    const START: u64 = 1_700_000_000_000_000;

    fn id(number: u64) -> CommandId {
        CommandId(u128::from(number).to_be_bytes())
    }

    struct World {
        tables: TestTables,
        now: u64,
    }

    impl World {
        fn new() -> Self {
            Self { tables: TestTables::new(&["rows"]), now: START }
        }

        fn keep(&mut self, owner: u64, number: u64, bytes: usize) {
            self.now += 1;
            let row = KeyRow {
                at: Stamp(self.now),
                fingerprint: [1; 16],
                sending: 1,
                outcome: vec![0; bytes].into(),
            };
            self.tables.apply(|tables| keep(tables, owner, id(number), &row)).unwrap();
        }

        fn knows(&self, owner: u64, number: u64) -> bool {
            let now = Stamp(self.now);
            self.tables.read(|tables| find(tables, owner, id(number), now)).unwrap().is_some()
        }

        /// Rows of every kind, by their first byte.
        fn rows(&self) -> [usize; 4] {
            let kinds = [OUTCOME, BY_OWNER, BY_AGE, TOTALS];
            kinds.map(|kind| {
                self.tables
                    .read(|tables| tables.range(KEYS, &[kind], Some(&[kind + 1])).unwrap().count())
            })
        }
    }

    #[test]
    fn a_key_lives_a_day_and_is_then_forgotten() {
        let mut world = World::new();
        for number in 0..10 {
            world.keep(number % 2, number, 10);
        }
        assert!(world.knows(1, 1) && !world.knows(0, 1) && !world.knows(1, 0));
        world.tables.checkpoint();
        world.now += 24 * HOUR - 10;
        assert!(world.knows(1, 9));
        world.now += 11;
        assert!(!world.knows(1, 9));
        for number in 100..103 {
            world.keep(7, number, 10);
        }
        assert_eq!(world.rows(), [3, 3, 3, 1], "with every new key some old ones go");
        assert!(world.knows(7, 100));
    }

    #[test]
    fn of_too_many_keys_the_newest_stay() {
        let mut world = World::new();
        let max = u64::from(KEYS_PER_OWNER_MAX);
        world.keep(2, 1, 10);
        world.keep(u64::MAX, 1, 10);
        for number in 0..max + 5 {
            world.keep(1, number, 10);
        }
        assert!(!world.knows(1, 4) && world.knows(1, 5) && world.knows(1, max + 4));
        assert!(world.knows(2, 1) && world.knows(u64::MAX, 1), "each has its own");
        world.keep(1, max + 6, KEYS_BYTES_PER_OWNER_MAX as usize / 2);
        world.keep(1, max + 7, KEYS_BYTES_PER_OWNER_MAX as usize / 2);
        world.keep(1, max + 8, 2 * KEYS_BYTES_PER_OWNER_MAX as usize);
        assert!(world.knows(1, max + 8) && !world.knows(1, max + 7));
        assert_eq!(world.rows(), [3, 3, 3, 3]);
    }

    #[test]
    fn golden_bytes_stay() {
        let row = KeyRow {
            at: Stamp(300),
            fingerprint: [9; 16],
            sending: 5,
            outcome: Bytes::from_static(b"ok"),
        };
        let mut golden = vec![240, 1, 251, 44, 1];
        golden.extend([9; 16]);
        golden.extend([5, 2, 111, 107]);
        assert_eq!(encode(&row), golden);
        assert_eq!(decode::<KeyRow>(&golden).unwrap(), row);
    }

    proptest! {
        #[test]
        fn rows_change_together(steps in prop::collection::vec((0_u64..3, 0_u64..6, 0_u64..30), 0..60)) {
            let mut world = World::new();
            let mut newest = std::collections::BTreeMap::new();
            for (owner, number, hours) in steps {
                world.now += hours * HOUR;
                world.keep(owner, number, 1);
                newest.insert((owner, number), world.now);
            }
            for ((owner, number), at) in newest {
                prop_assert_eq!(world.knows(owner, number), at + 24 * HOUR >= world.now);
            }
            let [outcomes, by_owner, by_age, _] = world.rows();
            prop_assert_eq!((by_owner, by_age), (outcomes, outcomes));
        }
    }
}
