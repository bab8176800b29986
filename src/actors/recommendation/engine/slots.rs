//! Which slot an id has.

use crate::actors::signature::mix;

/// Slots by id, each beside a part of its id's hash: open addressing with linear probing (Knuth, The
/// Art of Computer Programming 3, § 6.4). The ids themselves stand in the rows, which whoever looks for
/// one is about to read; a million take 16 MB. On a large site a look-up waits for the memory twice, for
/// the place here and for the row: a table with its marks in a place of their own was three, and a tenth
/// of what an event takes. Nothing is ever removed. `id_of` tells the id of a slot.
///
/// **Invariants**: S1 the number of places is 0 or a power of two, of which at least a quarter is empty;
/// S2 between the place that a hash points to and the one that holds it none is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    places: Vec<Place>,
    length: usize,
}

/// A slot, and a part of the hash of its id.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u32,
    slot: u32,
}

const EMPTY: Place = Place { hash: 0, slot: u32::MAX };
const PLACES_MIN: usize = 16;

impl Place {
    fn is_empty(self) -> bool {
        self.slot == EMPTY.slot
    }
}

impl Slots {
    /// The slot of an id, if it has one.
    pub(super) fn find(&self, id: u64, id_of: impl Fn(u32) -> u64) -> Option<u32> {
        let hash = hash(id);
        let mask = self.places.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        // Ends at an empty place (S1).
        loop {
            let place = self.places[at];
            if place.is_empty() {
                return None;
            }
            if place.hash == hash && id_of(place.slot) == id {
                return Some(place.slot);
            }
            at = (at + 1) & mask;
        }
    }

    /// Gives a slot to an id that has none.
    pub(super) fn insert(&mut self, id: u64, slot: u32) {
        if 4 * (self.length + 1) > 3 * self.places.len() {
            self.grow();
        }
        self.length += 1;
        put(&mut self.places, Place { hash: hash(id), slot });
    }

    /// The slots of so many ids; of equal ones, the first.
    pub(super) fn of(length: usize, id_of: impl Fn(u32) -> u64) -> Self {
        let places = (4 * length).div_ceil(3).max(PLACES_MIN).next_power_of_two();
        let mut slots = Self { places: vec![EMPTY; places], length: 0 };
        for slot in 0..length as u32 {
            let id = id_of(slot);
            if slots.find(id, &id_of).is_none() {
                slots.insert(id, slot);
            }
        }
        slots
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place>()
    }

    /// Doubles the places. What is known of the hashes is enough, so no row is read.
    fn grow(&mut self) {
        let places = (2 * self.places.len()).max(PLACES_MIN);
        let before = std::mem::replace(&mut self.places, vec![EMPTY; places]);
        for place in before.into_iter().filter(|place| !place.is_empty()) {
            put(&mut self.places, place);
        }
    }
}

fn hash(id: u64) -> u32 {
    (mix(id) >> 32) as u32
}

/// Puts a slot in the first empty place from the one that its hash points to.
fn put(places: &mut [Place], place: Place) {
    let mask = places.len() - 1;
    let mut at = place.hash as usize & mask;
    while !places[at].is_empty() {
        at = (at + 1) & mask;
    }
    places[at] = place;
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_id_has_its_slot_and_no_other_has_one(
            ids in proptest::collection::hash_set(0..5_000_u64, 0..2_000),
        ) {
            let ids: Vec<u64> = ids.into_iter().collect();
            let id_of = |slot: u32| ids[slot as usize];
            let mut grown = Slots::default();
            for (slot, id) in ids.iter().enumerate() {
                prop_assert_eq!(grown.find(*id, id_of), None);
                grown.insert(*id, slot as u32);
            }
            let made = Slots::of(ids.len(), id_of);
            let slots: HashMap<u64, u32> = ids.iter().copied().zip(0..).collect();
            for id in 0..5_000 {
                let slot = slots.get(&id).copied();
                prop_assert_eq!(grown.find(id, id_of), slot);
                prop_assert_eq!(made.find(id, id_of), slot);
            }
            for slots in [grown, made] {
                let empty = slots.places.iter().filter(|place| place.is_empty()).count();
                prop_assert!(4 * empty >= slots.places.len());
            }
        }
    }

    #[test]
    fn ids_that_fall_on_one_place_have_a_slot_each() {
        let ids: Vec<u64> = (0..1_000_000).filter(|id| hash(*id) & 511 == 500).take(300).collect();
        let slots = Slots::of(ids.len(), |slot| ids[slot as usize]);
        for (slot, id) in ids.iter().enumerate() {
            assert_eq!(slots.find(*id, |slot| ids[slot as usize]), Some(slot as u32));
        }
    }

    #[test]
    fn ids_with_one_hash_are_told_apart() {
        let mut ids: Vec<u64> = (0..400_000).collect();
        ids.sort_by_key(|id| hash(*id));
        let equal = ids.windows(2).filter(|pair| hash(pair[0]) == hash(pair[1]));
        let ids: Vec<u64> = equal.flatten().copied().collect();
        assert!(ids.len() >= 10, "some eighteen pairs are to be expected");
        let slots = Slots::of(ids.len(), |slot| ids[slot as usize]);
        for id in ids.iter() {
            let slot = slots.find(*id, |slot| ids[slot as usize]).unwrap();
            assert_eq!(ids[slot as usize], *id);
        }
        let (one, other) = (ids[0], ids[1]);
        assert_eq!(Slots::of(1, |_| one).find(other, |_| one), None);
    }
}
