//! The copies of everything: the one that serves, and while it is rebuilt the one that is made anew.
//!
//! A rebuild reads the owners' state in chunks; each is a command. It begins when everything that had
//! happened when it was asked for has arrived. What happens meanwhile comes by events as ever: the copy
//! that serves takes it in at once; for the new copy it waits until all was read, and what was read
//! already changes nothing. When nothing is left the new copy serves. The old one's rows are deleted at
//! the following checkpoints.
//!
//! **Invariants**: B1 the new copy is a fold over what was read, in the order in which it was read,
//! and then over what happened since, in the order of the log; B2 what waits has a bound: beyond it
//! the rebuild is given up, the same on every replica.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::event::{Event as Fact, Interaction};
use crate::actors::recommendation::engine::settings::Settings;
use crate::actors::recommendation::engine::{self, Engine, KeptLists, LATE, SERVING};
use crate::actors::state_machine::{ReadTables, Tables};
use crate::ids::{PostId, Stamp, UserId};
use crate::seams::tasks;
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;

/// Facts that may wait for a new copy. A read, which nearly all of them are, takes 40 bytes while it
/// waits: so they take 160 MB at most but for what is written about posts, twice that for a moment
/// while the table grows. At 50,000 reads a second they last 80 seconds, at 1,000 an hour.
const LATE_MAX: usize = 4_000_000;
/// Of these, so many are taken in by one command: about four milliseconds, so that they become fewer
/// while 50,000 more come in a second.
const LATE_AT_ONCE: usize = 1_024;
/// Rows of a copy that is gone which one checkpoint deletes.
const GONE_ROWS_MAX: usize = 65_536;

/// Which copies there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ServingRow {
    /// The number of the one that serves.
    serving: u32,
    /// The highest number that was given.
    last: u32,
    /// The one that is being made, with the numbers of the facts that wait for it: from, to.
    new: Option<(u32, u64, u64)>,
    /// Copies that nobody needs any more, whose rows are still there.
    gone: Vec<u32>,
}

impl Record for ServingRow {
    const KIND: u8 = 72;
}

/// A fact that waits, and when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LateRow(Stamp, Fact);

impl Record for LateRow {
    const KIND: u8 = 73;
}

/// All copies.
#[derive(Debug)]
pub(super) struct Copies {
    /// The one that serves.
    pub(super) engine: Engine,
    /// Lists of the one that serves.
    pub(super) kept: KeptLists,
    serving: u32,
    last: u32,
    new: Option<NewCopy>,
    gone: Vec<u32>,
    /// How many rows this checkpoint has deleted.
    deleted: usize,
}

/// A copy that is being made.
#[derive(Debug)]
struct NewCopy {
    number: u32,
    engine: Engine,
    late: Late,
}

/// A fact that waits, in little memory.
#[derive(Debug)]
enum LateFact {
    Read(UserId, PostId, Interaction, Stamp),
    Other(Box<Fact>),
}

impl LateFact {
    fn of(fact: Fact) -> Self {
        match fact {
            Fact::Interacted { reader, post, how, at } => Self::Read(reader, post, how, at),
            other => Self::Other(Box::new(other)),
        }
    }

    fn fact(&self) -> Fact {
        match self {
            Self::Read(reader, post, how, at) => {
                Fact::Interacted { reader: *reader, post: *post, how: *how, at: *at }
            }
            Self::Other(fact) => (**fact).clone(),
        }
    }
}

/// Facts that wait, with the time at which they came, numbered from 0.
#[derive(Debug, Default)]
struct Late {
    facts: VecDeque<(Stamp, LateFact)>,
    /// The number of the first.
    first: u64,
    /// Rows are there of the facts from here…
    saved_from: u64,
    /// …to here.
    saved_to: u64,
}

impl Copies {
    /// # Errors
    /// When the tables cannot be read.
    pub(super) fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        let row = tables.get(SERVING, &[])?;
        let row: Option<ServingRow> = row.map(|row| codec::decode(&row)).transpose()?;
        let ServingRow { serving, last, new, gone } = row.unwrap_or_default();
        let engine = Engine::load(Settings::default(), serving, tables)?;
        let new = match new {
            None => None,
            Some((number, first, end)) => {
                let engine = Engine::load(Settings::default(), number, tables)?;
                Some(NewCopy { number, engine, late: Late::load(number, first..end, tables)? })
            }
        };
        let kept = KeptLists::default();
        Ok(Self { engine, kept, serving, last, new, gone, deleted: 0 })
    }

    /// Takes a fact in that comes now.
    pub(super) fn observe(&mut self, now: Stamp, fact: Fact) {
        self.engine.apply_live(&fact, now);
        self.kept.note(&self.engine, &fact);
        let Some(new) = &mut self.new else { return };
        if let Fact::Shown { .. } = &fact {
            // The owners know nothing of it, so it is not read again: see `NewCopy::take`.
            new.engine.apply(&fact);
            return;
        }
        new.late.facts.push_back((now, LateFact::of(fact)));
        if new.late.facts.len() > LATE_MAX {
            tracing::warn!("too much happened during a rebuild: it is given up");
            self.give_up();
        }
    }

    /// Takes in what the owner of a post says of it now. A new copy reads that from the owner anyway.
    pub(super) fn repair(&mut self, fact: &Fact) {
        self.engine.repair(fact);
        self.kept.note(&self.engine, fact);
    }

    /// Begins a new copy, in place of one that was begun before; returns its number.
    pub(super) fn begin(&mut self) -> u32 {
        self.give_up();
        self.last += 1;
        let engine = Engine::new(Settings::default());
        self.new = Some(NewCopy { number: self.last, engine, late: Late::default() });
        self.last
    }

    /// Adds facts of the owners to a new copy; `None` if it is not being made.
    pub(super) fn copy(&mut self, number: u32, facts: &[Fact]) -> Option<()> {
        let new = self.new.as_mut().filter(|new| new.number == number)?;
        facts.iter().for_each(|fact| new.take(&self.engine, fact, None));
        Some(())
    }

    /// Takes some of what waits into a new copy, and has it serve when nothing is left. Returns how
    /// much is left; `None` if it is not being made.
    pub(super) fn finish(&mut self, number: u32) -> Option<u64> {
        if number == self.serving {
            // Asked again by somebody who did not hear the answer.
            return Some(0);
        }
        let new = self.new.as_mut().filter(|new| new.number == number)?;
        for _ in 0..LATE_AT_ONCE {
            let Some((came, fact)) = new.late.next() else { break };
            new.take(&self.engine, &fact.fact(), Some(came));
        }
        let left = new.late.facts.len() as u64;
        if left > 0 {
            return Some(left);
        }
        let mut new = self.new.take()?;
        new.engine.set_weights(self.engine.weights().clone());
        self.kept = KeptLists::default();
        // Millions of rows: freeing them would hold up all that waits for this shard.
        tasks::free(std::mem::replace(&mut self.engine, new.engine));
        self.gone.push(std::mem::replace(&mut self.serving, new.number));
        Some(0)
    }

    /// Whether a new copy is being made.
    pub(super) fn is_rebuilding(&self) -> bool {
        self.new.is_some()
    }

    /// Stages about so many rows of what changed; whether that was all.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub(super) fn save(
        &mut self,
        tables: &mut Tables<'_>,
        rows: usize,
    ) -> Result<bool, StoreError> {
        while let Some(gone) = self.gone.last().copied()
            && self.deleted < GONE_ROWS_MAX
        {
            let deleted = engine::delete(gone, tables, rows)?;
            self.deleted += deleted;
            if deleted == rows {
                return Ok(false);
            }
            self.gone.pop();
        }
        if let Some(new) = &mut self.new
            && !(new.late.save(new.number, tables, rows)
                && new.engine.save(new.number, tables, rows))
        {
            return Ok(false);
        }
        if !self.engine.save(self.serving, tables, rows) {
            return Ok(false);
        }
        let new = self.new.as_ref().map(|new| {
            let Late { facts, first, .. } = &new.late;
            (new.number, *first, first + facts.len() as u64)
        });
        let (serving, last, gone) = (self.serving, self.last, self.gone.clone());
        let row = ServingRow { serving, last, new, gone };
        tables.put(SERVING, [], codec::encode(&row));
        self.deleted = 0;
        Ok(true)
    }

    fn give_up(&mut self) {
        let Some(new) = self.new.take() else { return };
        self.gone.push(new.number);
        tasks::free(new);
    }
}

impl NewCopy {
    /// Takes a fact in. To whom a post was shown no owner can tell: that is taken over from the copy
    /// that serves, whenever there is news of the post, for a read may have come before them.
    fn take(&mut self, serving: &Engine, fact: &Fact, came: Option<Stamp>) {
        match came {
            Some(came) => self.engine.apply_live(fact, came),
            None => self.engine.apply(fact),
        }
        if let Fact::PostChanged { post, .. } = fact {
            self.engine.add_shown(*post, serving.shown(*post));
        }
    }
}

impl Late {
    fn load(
        copy: u32,
        numbers: std::ops::Range<u64>,
        tables: &ReadTables<'_>,
    ) -> Result<Self, StoreError> {
        let (first, end) = (numbers.start, numbers.end);
        let mut facts = VecDeque::new();
        for number in numbers {
            let row = tables.get(LATE, &late_key(copy, number))?;
            let row = row.ok_or_else(|| engine::damaged("a fact that waits is missing"))?;
            let LateRow(came, fact) = codec::decode(&row)?;
            facts.push_back((came, LateFact::of(fact)));
        }
        Ok(Self { facts, first, saved_from: first, saved_to: end })
    }

    fn next(&mut self) -> Option<(Stamp, LateFact)> {
        let fact = self.facts.pop_front()?;
        self.first += 1;
        Some(fact)
    }

    /// Stages about so many rows of what came and went; whether that was all.
    fn save(&mut self, copy: u32, tables: &mut Tables<'_>, rows: usize) -> bool {
        for _ in 0..rows {
            if self.saved_from < self.first.min(self.saved_to) {
                tables.delete(LATE, late_key(copy, self.saved_from));
                self.saved_from += 1;
                continue;
            }
            self.saved_from = self.saved_from.max(self.first);
            self.saved_to = self.saved_to.max(self.first);
            let Some((came, fact)) = self.facts.get((self.saved_to - self.first) as usize) else {
                return true;
            };
            let row = codec::encode(&LateRow(*came, fact.fact()));
            tables.put(LATE, late_key(copy, self.saved_to), row);
            self.saved_to += 1;
        }
        false
    }
}

fn late_key(copy: u32, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&copy.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_takes_as_little_memory_as_is_said_and_stays_what_it_was() {
        assert_eq!(size_of::<(Stamp, LateFact)>(), 40);
        let (reader, post) = (UserId(1), PostId(2));
        for fact in [
            Fact::Interacted { reader, post, how: Interaction::Comment, at: Stamp(3) },
            Fact::PostDeleted { post },
        ] {
            assert_eq!(LateFact::of(fact.clone()).fact(), fact);
        }
    }

    #[tokio::test]
    async fn a_copy_that_is_given_up_is_freed_elsewhere() {
        struct Tells(Option<std::sync::mpsc::Sender<std::thread::ThreadId>>);
        impl Drop for Tells {
            fn drop(&mut self) {
                self.0.take().unwrap().send(std::thread::current().id()).unwrap();
            }
        }
        let (tell, told) = std::sync::mpsc::channel();
        tasks::free(Tells(Some(tell)));
        assert_ne!(told.recv().unwrap(), std::thread::current().id());
    }
}
