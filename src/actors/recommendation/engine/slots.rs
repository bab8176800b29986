//! Which slot an id has.

use hashbrown::HashTable;

use crate::actors::signature::mix;

/// Slots by id. Only the slots: the id of each stands in its row, which whoever looks for it is about
/// to read, so a million take 10 MB instead of 35. `id_of` tells it.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(HashTable<u32>);

impl Slots {
    /// The slot of an id, if it has one.
    pub(super) fn find(&self, id: u64, id_of: impl Fn(u32) -> u64) -> Option<u32> {
        self.0.find(mix(id), |slot| id_of(*slot) == id).copied()
    }

    /// Gives a slot to an id that has none.
    pub(super) fn insert(&mut self, id: u64, slot: u32, id_of: impl Fn(u32) -> u64) {
        self.0.insert_unique(mix(id), slot, |slot| mix(id_of(*slot)));
    }

    /// The slots of so many ids; of equal ones, the last.
    pub(super) fn of(length: usize, id_of: impl Fn(u32) -> u64) -> Self {
        let mut slots = Self(HashTable::with_capacity(length));
        for slot in 0..length as u32 {
            let id = id_of(slot);
            match slots.0.find_mut(mix(id), |known| id_of(*known) == id) {
                Some(known) => *known = slot,
                None => slots.insert(id, slot, &id_of),
            }
        }
        slots
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.allocation_size()
    }
}
