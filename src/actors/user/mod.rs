//! The user service: accounts, claims of names and addresses, the edges that start at a user, and
//! what a reader read and wishes.
//!
//! **Owns** accounts and credentials, follows, mutes and blocks of users, follows and mutes of tags,
//! reading history, feedback.
//! **Invariants**: U1 a name or address is borne by at most one user: it is claimed in the shard of
//! its hash before it is borne, and a takeover of an expired claim first makes the attempt void
//! where it would have been used; U2 a token is valid only while it carries its user's generation,
//! which a password change raises; U3 a block is recorded with the blocked before it is answered;
//! U4 a history holds the newest [`HISTORY_MAX`] reads of all that were recorded and not forgotten,
//! and each read that enters it is one event.

mod apply;
mod choices;
pub mod event;
mod history;
pub mod message;
mod query;
mod tables;
mod view;

use std::sync::Arc;

pub use apply::EDGES_MAX;
pub use choices::{FEEDBACK_MAX, TAGS_MAX};
use event::Event;
pub use history::HISTORY_MAX;
use message::{Answer, Card, Command, Error, Hidden, Query, Reply, Viewer};

use crate::actors::state_machine::{
    Changed, Outcome, ReadTables, Slot, StateMachine, Step, Stop, Tables,
};
use crate::generations::Generations;
use crate::ids::{Bucket, Stamp, UserId};
use crate::store::error::StoreError;

/// About 3,000 reads, which take some milliseconds, or hundreds of other commands.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Viewers kept decoded, in bytes; one with the most edges takes 80 kB per kind, a usual one 300 B.
const VIEWERS_BYTES: usize = 8 * 1024 * 1024;
/// The same of what readers hide; the most that one can takes 200 kB, usually it is nothing.
const HIDDEN_BYTES: usize = 8 * 1024 * 1024;
/// Cards kept decoded, with what the edge renders of them, in bytes.
const CARDS_BYTES: usize = 16 * 1024 * 1024;

/// The user service: everything is in the tables, the value holds caches. They are exact, not stale:
/// an entry is dropped when a merged command changed what it was made from, and made again when
/// somebody asks.
#[derive(Debug)]
pub struct Service {
    viewers: Generations<UserId, Arc<Viewer>>,
    hidden: Generations<UserId, Arc<Hidden>>,
    cards: Generations<UserId, Arc<Card>>,
    /// Whose cached entries the running command makes wrong, once it is merged.
    touched: Vec<UserId>,
}

impl Service {
    fn touch(&mut self, user: UserId) {
        self.touched.push(user);
    }
}

impl StateMachine for Service {
    const NAME: &'static str = "user";
    const TABLES: &'static [&'static str] = tables::TABLES;
    const BATCH_BYTES_MAX: usize = BATCH_BYTES_MAX;
    type Command = Command;
    type Query = Query;
    type Reply = Reply;
    type Answer = Answer;
    type Refusal = Error;
    type Event = Event;

    fn bucket(command: &Command) -> Bucket {
        command.bucket()
    }

    fn load(_tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            viewers: Generations::new(VIEWERS_BYTES),
            hidden: Generations::new(HIDDEN_BYTES),
            cards: Generations::new(CARDS_BYTES),
            touched: Vec::new(),
        })
    }

    fn apply(
        &mut self,
        tables: &mut Tables<'_>,
        stamp: Stamp,
        command: Command,
    ) -> Result<Outcome<Reply, Event>, Stop<Error>> {
        self.touched.clear();
        let bucket = command.bucket();
        let applied = self.apply_command(tables, stamp, command);
        debug_assert!(self.touched.iter().all(|user| user.bucket() == bucket), "of this shard");
        applied
    }

    /// What may be kept are cards, viewers and what readers hide.
    fn changed(&self) -> Changed {
        Changed::Slots(self.touched.iter().map(Slot::of).collect())
    }

    fn committed(&mut self) {
        for user in self.touched.drain(..) {
            self.viewers.remove(&user);
            self.hidden.remove(&user);
            self.cards.remove(&user);
        }
    }

    fn query(
        &mut self,
        tables: &ReadTables<'_>,
        query: &mut Query,
    ) -> Result<Step<Answer>, Stop<Error>> {
        self.answer(tables, query)
    }
}

#[cfg(test)]
mod tests;
