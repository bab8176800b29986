//! A queue whose elements keep their numbers, and its rows.
//!
//! **Invariants**: Q1 an element has one number for ever, one more than the one before it; Q2 after a
//! [`Ring::save`] that was all, the rows are the elements.

use std::collections::{BTreeSet, VecDeque};

use crate::actors::recommendation::engine::damaged;
use crate::actors::state_machine::{ReadTables, Table, Tables};
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;

/// The queue. Elements enter at the back, leave at the front, and may change in between.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ring<T> {
    elements: VecDeque<T>,
    /// Number of the first.
    first: u64,
    /// Numbers of those that have changed since they were staged.
    changed: BTreeSet<u64>,
    /// Rows before this one are deleted.
    kept_from: u64,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { elements: VecDeque::new(), first: 0, changed: BTreeSet::new(), kept_from: 0 }
    }
}

impl<T> Ring<T> {
    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    /// Number of the first element, or of the next one if there is none.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.elements.front()
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        self.elements.get(number.checked_sub(self.first)? as usize)
    }

    /// The same, which changes.
    pub(super) fn change(&mut self, number: u64) -> Option<&mut T> {
        let element = self.elements.get_mut(number.checked_sub(self.first)? as usize)?;
        self.changed.insert(number);
        Some(element)
    }

    /// Adds an element; its number.
    pub(super) fn push(&mut self, element: T) -> u64 {
        let number = self.first + self.elements.len() as u64;
        self.elements.push_back(element);
        self.changed.insert(number);
        number
    }

    /// Takes the first element out, with its number.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        let element = self.elements.pop_front()?;
        self.first += 1;
        Some((self.first - 1, element))
    }

    /// The elements with their numbers, from one on.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let skipped = number.saturating_sub(self.first).min(self.elements.len() as u64);
        (self.first + skipped..).zip(self.elements.range(skipped as usize..))
    }

    /// Numbers of those of which this holds.
    pub(super) fn which(&self, holds: impl Fn(&T) -> bool) -> Vec<u64> {
        self.from(0).filter(|(_, element)| holds(element)).map(|(number, _)| number).collect()
    }
}

impl<T: Record> Ring<T> {
    /// As the rows say: so many from this number on.
    ///
    /// # Errors
    /// When they cannot be read, or one is missing.
    pub(super) fn load(
        tables: &ReadTables<'_>,
        table: Table,
        first: u64,
        length: u64,
    ) -> Result<Self, StoreError> {
        let missing = || damaged("a row of what was shown is missing");
        let mut ring = Self { first, kept_from: first, ..Self::default() };
        for number in first..first.saturating_add(length) {
            let row = tables.get(table, &number.to_be_bytes())?.ok_or_else(missing)?;
            ring.elements.push_back(codec::decode(&row)?);
        }
        Ok(ring)
    }

    /// Stages rows of what changed, and takes them off `rows`; whether that was all.
    pub(super) fn save(&mut self, tables: &mut Tables<'_>, table: Table, rows: &mut usize) -> bool {
        loop {
            let is_kept = self.kept_from >= self.first;
            if is_kept && self.changed.is_empty() {
                return true;
            }
            let Some(left) = rows.checked_sub(1) else { return false };
            *rows = left;
            if !is_kept {
                tables.delete(table, self.kept_from.to_be_bytes());
                self.kept_from += 1;
                continue;
            }
            let Some(number) = self.changed.pop_first() else { continue };
            if let Some(element) = self.get(number) {
                tables.put(table, number.to_be_bytes(), codec::encode(element));
            }
        }
    }
}
