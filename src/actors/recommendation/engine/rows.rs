//! A table of rows by slot that knows which of them have changed since they were last written.

use std::ops::{Index, IndexMut};

use crate::memory;

/// Rows by slot. Whoever asks for one to change it marks it, whether it changes or not.
#[derive(Debug, Clone)]
pub(super) struct Rows<T> {
    rows: Vec<T>,
    /// Slots that have changed, each once, in the order in which they first did.
    changed: Vec<u32>,
    /// One bit a slot: whether it stands in `changed`.
    marks: Vec<u64>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), changed: Vec::new(), marks: Vec::new() }
    }
}

impl<T> Rows<T> {
    /// Rows as they were written.
    pub(super) fn written(rows: Vec<T>) -> Self {
        Self { marks: vec![0; rows.len().div_ceil(64)], rows, changed: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.rows.iter()
    }

    /// Adds a row, which has to be written; returns its slot.
    pub(super) fn push(&mut self, row: T) -> u32 {
        let slot = self.rows.len();
        memory::note_rows(slot);
        self.rows.push(row);
        self.mark(slot);
        slot as u32
    }

    /// A slot that has changed, with its row, which counts as written from now on.
    pub(super) fn next_changed(&mut self) -> Option<(u32, &T)> {
        let slot = self.changed.pop()?;
        self.marks[slot as usize / 64] &= !(1 << (slot % 64));
        Some((slot, &self.rows[slot as usize]))
    }

    /// Bytes of the table itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<T>()
            + self.changed.capacity() * 4
            + self.marks.capacity() * 8
    }

    fn mark(&mut self, slot: usize) {
        if slot / 64 >= self.marks.len() {
            self.marks.push(0);
        }
        let bit = 1 << (slot % 64);
        if self.marks[slot / 64] & bit == 0 {
            self.marks[slot / 64] |= bit;
            self.changed.push(slot as u32);
        }
    }
}

impl<T> Index<usize> for Rows<T> {
    type Output = T;

    fn index(&self, slot: usize) -> &T {
        &self.rows[slot]
    }
}

impl<T> IndexMut<usize> for Rows<T> {
    fn index_mut(&mut self, slot: usize) -> &mut T {
        self.mark(slot);
        &mut self.rows[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_once_for_each_time_it_is_asked() {
        let mut rows: Rows<u32> = Rows::written((0..130).collect());
        assert_eq!(rows.next_changed(), None);
        rows[129] += 1;
        rows[129] += 1;
        assert_eq!(rows.push(7), 130);
        assert_eq!(rows.next_changed(), Some((130, &7)));
        rows[130] = 8;
        let mut told: Vec<(u32, u32)> = Vec::new();
        while let Some((slot, row)) = rows.next_changed() {
            told.push((slot, *row));
        }
        told.sort_unstable();
        assert_eq!(told, [(129, 131), (130, 8)]);
        assert_eq!((rows.len(), rows[130]), (131, 8));
    }
}
