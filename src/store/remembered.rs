//! Outcomes of commands that may be sent again.
//!
//! A command id is remembered until the command's deadline has passed; later the same command is
//! refused because of its deadline, so forgetting is never seen. Outcomes are kept in epochs:
//! sealing one is moving a pointer, dropping one frees many outcomes at once, and no command pays
//! for trimming.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::ids::{CommandId, Stamp};
use crate::store::error::StoreError;

/// Outcomes per epoch: small enough that a dropped epoch is no pause.
const EPOCH_OUTCOMES_MAX: usize = 8192;

#[derive(Debug, Default, Clone)]
struct Epoch {
    /// The latest deadline in this epoch.
    last_deadline: Stamp,
    outcomes: FxHashMap<CommandId, (Stamp, Bytes)>,
}

/// Command id → (deadline, encoded outcome).
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    frozen: VecDeque<Arc<Epoch>>,
    current: Epoch,
}

impl Remembered {
    /// The outcome of a command that was applied before.
    pub(crate) fn get(&self, id: &CommandId) -> Option<&Bytes> {
        let frozen = self.frozen.iter().rev().map(|epoch| &**epoch);
        std::iter::once(&self.current)
            .chain(frozen)
            .find_map(|epoch| epoch.outcomes.get(id))
            .map(|(_, outcome)| outcome)
    }

    /// Remembers an outcome until `deadline`; forgets what lies wholly before `now`.
    pub(crate) fn insert(&mut self, now: Stamp, id: CommandId, deadline: Stamp, outcome: Bytes) {
        while self.frozen.front().is_some_and(|epoch| epoch.last_deadline < now) {
            self.frozen.pop_front();
        }
        if self.current.outcomes.len() >= EPOCH_OUTCOMES_MAX {
            self.freeze();
        }
        self.current.last_deadline = self.current.last_deadline.max(deadline);
        self.current.outcomes.insert(id, (deadline, outcome));
    }

    fn freeze(&mut self) {
        if !self.current.outcomes.is_empty() {
            self.frozen.push_back(Arc::new(std::mem::take(&mut self.current)));
        }
    }

    /// A copy for the checkpoint that shares all epochs.
    pub(crate) fn seal(&mut self) -> Remembered {
        self.freeze();
        Remembered { frozen: self.frozen.clone(), current: Epoch::default() }
    }

    /// Rows for the file.
    pub(crate) fn rows(&self) -> impl Iterator<Item = ([u8; 16], Vec<u8>)> {
        self.frozen.iter().flat_map(|epoch| {
            epoch.outcomes.iter().map(|(id, (deadline, outcome))| {
                let mut value = deadline.0.to_be_bytes().to_vec();
                value.extend_from_slice(outcome);
                (id.0, value)
            })
        })
    }

    /// Takes a row of [`Self::rows`] back.
    pub(crate) fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let damaged = || StoreError::Damaged {
            path: Default::default(),
            detail: "malformed remembered command".into(),
        };
        let id = CommandId(key.try_into().map_err(|_| damaged())?);
        let (deadline, outcome) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
        let deadline = Stamp(u64::from_be_bytes(*deadline));
        self.insert(Stamp(0), id, deadline, Bytes::copy_from_slice(outcome));
        Ok(())
    }
}
