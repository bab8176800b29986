//! The key of a row, as memory holds it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

/// Bytes of a key that need no memory of their own; with them a [`RowKey`] takes 32 bytes, as `Bytes` do.
const SHORT_MAX: usize = 30;

/// The key of a row: its bytes, in their order. A short one, as most are, holds them in place, so that a map
/// of many compares them without waiting for memory that each has elsewhere.
///
/// **Invariants**: K1 what is short is held in place, so equal keys are held alike; K2 what is behind the bytes of a
/// short key is 0.
#[derive(Clone, PartialEq, Eq)]
pub struct RowKey(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Here { length: u8, bytes: [u8; SHORT_MAX] },
    Elsewhere(Box<[u8]>),
}

impl From<&[u8]> for RowKey {
    #[inline]
    fn from(key: &[u8]) -> Self {
        if key.len() > SHORT_MAX {
            return Self(Place::Elsewhere(key.into()));
        }
        let mut bytes = [0; SHORT_MAX];
        bytes[..key.len()].copy_from_slice(key);
        Self(Place::Here { length: key.len() as u8, bytes })
    }
}

impl Deref for RowKey {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Here { length, bytes } => &bytes[..usize::from(*length)],
            Place::Elsewhere(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for RowKey {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for RowKey {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Ord for RowKey {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (
                Place::Here { length, bytes },
                Place::Here { length: other_length, bytes: other_bytes },
            ) => {
                // By K2 a key comes before what it is the beginning of; by its length, if only zeros follow.
                numbers(bytes).cmp(&numbers(other_bytes)).then(length.cmp(other_length))
            }
            _ => self[..].cmp(&other[..]),
        }
    }
}

impl PartialOrd for RowKey {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Numbers in the order of the bytes.
#[inline]
fn numbers(bytes: &[u8; SHORT_MAX]) -> (u128, u128) {
    let (first, rest) = bytes.split_first_chunk::<16>().expect("it is longer");
    let mut last = [0; 16];
    last[..SHORT_MAX - 16].copy_from_slice(rest);
    (u128::from_be_bytes(*first), u128::from_be_bytes(last))
}

impl fmt::Debug for RowKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes of few kinds, for keys that begin alike; around the length that is short.
    fn keys() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(255)], 0..6),
            proptest::collection::vec(prop_oneof![5 => Just(0), 1 => Just(7)], 14..36),
        ]
    }

    #[test]
    fn it_is_no_larger_than_what_it_stands_for() {
        assert_eq!(size_of::<RowKey>(), 32);
        assert_eq!(size_of::<RowKey>(), size_of::<bytes::Bytes>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn keys_are_their_bytes_in_their_order(one in keys(), other in keys()) {
            let (key, other_key) = (RowKey::from(&one[..]), RowKey::from(&other[..]));
            prop_assert_eq!(&key[..], &one[..]);
            prop_assert_eq!(key.cmp(&other_key), one.cmp(&other));
            prop_assert_eq!(key == other_key, one == other);
        }
    }
}
