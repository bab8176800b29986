//! The service as the runtime sees it.

use crate::actors::recommendation::copies::Copies;
use crate::actors::recommendation::engine::{self, Scratch};
use crate::actors::recommendation::event::Event;
use crate::actors::recommendation::learning::Learning;
use crate::actors::recommendation::message::{Answer, Command, Error, Query, Reply};
use crate::actors::recommendation::split::Traffic;
use crate::actors::state_machine::{Kept, Outcome, ReadTables, StateMachine, Step, Stop, Tables};
use crate::ids::{Bucket, Stamp};
use crate::store::error::StoreError;

/// One shard's recommendation service.
pub struct Service {
    pub(super) copies: Copies,
    pub(super) traffic: Traffic,
    pub(super) learning: Learning,
    /// Memory for one question at a time.
    pub(super) scratch: Scratch,
}

impl StateMachine for Service {
    const NAME: &'static str = "recommendation";
    const TABLES: &'static [&'static str] = engine::TABLES;
    const KEPT: Kept = Kept::Memory;

    type Command = Command;
    type Query = Query;
    type Reply = Reply;
    type Answer = Answer;
    type Refusal = Error;
    type Event = Event;

    fn bucket(command: &Command) -> Bucket {
        command.bucket()
    }

    fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        let copies = Copies::load(tables)?;
        let learning = Learning::new(copies.engine.weights().clone());
        let traffic = Traffic::load(tables)?;
        Ok(Self { copies, traffic, learning, scratch: Scratch::default() })
    }

    fn apply(
        &mut self,
        _tables: &mut Tables<'_>,
        stamp: Stamp,
        command: Command,
    ) -> Result<Outcome<Reply, Event>, Stop<Error>> {
        self.take(stamp, command).map(Outcome::reply)
    }

    fn checkpoint(&mut self, tables: &mut Tables<'_>, rows: usize) -> Result<Step<()>, StoreError> {
        Ok(match self.copies.save(tables, rows)? && self.traffic.save(tables, rows) {
            true => Step::Done(()),
            false => Step::Again,
        })
    }

    fn query(
        &mut self,
        _tables: &ReadTables<'_>,
        query: &mut Query,
    ) -> Result<Step<Answer>, Stop<Error>> {
        Ok(Step::Done(self.answer(query)))
    }

    fn lead(&mut self) {
        self.learning.lead(self.copies.engine.weights());
    }

    fn next_wake(&self) -> Option<Stamp> {
        self.learning.next_proposal()
    }

    fn tick(&self) -> Option<Command> {
        let values = self.learning.proposal()?;
        Some(Command::SetWeights { version: self.copies.engine.weights().version() + 1, values })
    }
}
