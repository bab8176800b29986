//! Files that an earlier program wrote: the tables that they lack are made, and once, in the same transaction, a
//! service writes anew what it keeps otherwise now.
//!
//! **Invariants**: U1 a file holds all of it or nothing, whenever the process ends; U2 no command of the log is
//! applied before; U3 an older program refuses the file from then on.

use std::sync::{Mutex, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, TableHandle, WriteTransaction};

use crate::store::error::StoreError;
use crate::store::memtable::Table;
use crate::store::shard_file::{definition, io_error};

/// What a service does to a file with rows of an earlier program. It must do nothing to one that needs nothing:
/// [`OldFile::lacked`] tells.
pub type Upgrade = fn(&OldFile<'_>) -> Result<(), StoreError>;

/// The tables of a service, and how it brings old ones up to date.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Names of the tables; the list only ever grows.
    pub tables: &'static [&'static str],
    /// Called once a file lacks some of them.
    pub upgrade: Upgrade,
}

impl From<&'static [&'static str]> for Layout {
    /// Tables that are empty in files which lack them.
    fn from(tables: &'static [&'static str]) -> Self {
        Self { tables, upgrade: |_| Ok(()) }
    }
}

/// A row as bytes.
type Row = (Vec<u8>, Vec<u8>);

/// A file that is brought up to date.
pub struct OldFile<'a> {
    transaction: &'a WriteTransaction,
    tables: &'a [&'static str],
    lacked: Vec<&'static str>,
}

impl OldFile<'_> {
    /// Whether the file did not have this table.
    pub fn lacked(&self, table: Table) -> bool {
        self.lacked.contains(&self.name(table))
    }

    /// The value of a row, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let opened = self.transaction.open_table(definition(self.name(table))).map_err(io_error)?;
        let found = opened.get(key).map_err(io_error)?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    /// At most `limit` rows from `start` (inclusive) on, in key order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn rows(&self, table: Table, start: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let opened = self.transaction.open_table(definition(self.name(table))).map_err(io_error)?;
        let rows = opened.range(start..).map_err(io_error)?.take(limit);
        rows.map(|row| {
            let (key, value) = row.map_err(io_error)?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        })
        .collect()
    }

    /// Writes rows, or with `None` deletes them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(
        &self,
        table: Table,
        rows: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let name = self.name(table);
        let mut opened = self.transaction.open_table(definition(name)).map_err(io_error)?;
        for (key, value) in rows {
            match value {
                Some(value) => opened.insert(&key[..], &value[..]).map_err(io_error)?,
                None => opened.remove(&key[..]).map_err(io_error)?,
            };
        }
        Ok(())
    }

    /// Deletes all rows of a table.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn clear(&self, table: Table) -> Result<(), StoreError> {
        let name = self.name(table);
        self.transaction.delete_table(definition(name)).map_err(io_error)?;
        self.transaction.open_table(definition(name)).map_err(io_error)?;
        Ok(())
    }

    fn name(&self, table: Table) -> &'static str {
        self.tables[table.slot(self.tables.len())]
    }
}

/// Makes the tables that the file does not have: all of a new one; those that a newer program added of an older one,
/// which is brought up to date by the service, and by `seal` of what tells so. `tables` are those of the runtime too.
pub(super) fn bring_up_to_date(
    db: &Database,
    tables: &[&'static str],
    layout: Layout,
    seal: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let read = db.begin_read().map_err(io_error)?;
    let known: Vec<String> =
        read.list_tables().map_err(io_error)?.map(|table| table.name().to_owned()).collect();
    drop(read);
    let is_known = |name: &&'static str| known.iter().any(|known| known == name);
    let lacked: Vec<_> = tables.iter().copied().filter(|name| !is_known(name)).collect();
    if lacked.is_empty() {
        return Ok(());
    }
    // One file at a time: what a large one has to write is held in memory until it is committed.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut transaction = db.begin_write().map_err(io_error)?;
    transaction.set_quick_repair(true);
    for name in &lacked {
        transaction.open_table(definition(name)).map_err(io_error)?;
    }
    if layout.tables.iter().any(is_known) {
        tracing::info!(tables = ?lacked, "bringing a shard file of an earlier program up to date");
        (layout.upgrade)(&OldFile { transaction: &transaction, tables, lacked })?;
    }
    // Of a file without any rows, too: an older program would fill it, and nobody bring that up to date (U3).
    seal(&transaction)?;
    transaction.commit().map_err(io_error)
}
