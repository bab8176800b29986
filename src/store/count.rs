//! Rows that are counts, and tables of them.
//!
//! A count that a command changes need not be read for that: memory holds how much came or went, and
//! the checkpoint, which comes by the row anyway, adds it up. A count that is not in memory would cost
//! a page of the file for each of the half a dozen that a new post changes.
//!
//! **Invariants**: C1 a table of counts is changed by [`Tables::add`] and read by
//! [`ReadTables::count`] alone; C2 what is sealed is added to the file once.
//!
//! [`Tables::add`]: crate::store::tables::Tables::add
//! [`ReadTables::count`]: crate::store::tables::ReadTables::count

use serde::{Deserialize, Serialize};

use crate::store::codec::{self, Record};
use crate::store::error::StoreError;

/// How many; never 0 in a file, for such a row is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count(pub u64);

impl Record for Count {
    const KIND: u8 = 39;
}

/// The count in a row, which is 0 where there is none.
///
/// # Errors
/// When the row is no count.
pub(super) fn of_row(row: Option<&[u8]>) -> Result<u64, StoreError> {
    Ok(row.map(codec::decode::<Count>).transpose()?.map_or(0, |count| count.0))
}

/// A count with what was added to it. Below 0 it cannot come but by a fault of the program, which must
/// not make the whole shard unusable.
pub(super) fn added_up(count: u64, added: i64) -> u64 {
    count.checked_add_signed(added).unwrap_or_else(|| {
        tracing::error!(count, added, "a count does not fit what was counted");
        debug_assert!(false, "a count does not fit what was counted");
        count.saturating_add_signed(added)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_is_zero_and_rubbish_is_an_error() {
        assert_eq!(of_row(None).unwrap(), 0);
        assert_eq!(of_row(Some(&codec::encode(&Count(300)))).unwrap(), 300);
        assert!(of_row(Some(&[39])).is_err());
        assert_eq!((added_up(3, -3), added_up(0, 2)), (0, 2));
    }
}
