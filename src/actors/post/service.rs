//! The service as the runtime sees it.

use crate::actors::post::cache::{Caches, Limits, Stash};
use crate::actors::post::change::{Change, Due, first_due};
use crate::actors::post::event::Event;
use crate::actors::post::lists::{ListId, Scope, Shelf};
use crate::actors::post::message::{Answer, Command, Error, Query, Reply};
use crate::actors::post::reads::Reads;
use crate::actors::post::slots;
use crate::actors::post::tables::{self, TagsVersionRow};
use crate::actors::post::upgrade;
use crate::actors::state_machine::{
    Changed, OldFile, Outcome, ReadTables, StateMachine, Step, Stop, Tables,
};
use crate::ids::{Bucket, Stamp};
use crate::store::error::StoreError;

/// One shard's post service: bounded caches over its tables.
pub struct Service {
    caches: Caches,
    /// What the last command changed, until it is merged.
    stash: Stash,
    /// The first row of the schedule.
    due: Option<Due>,
}

impl Service {
    /// Loads the service with other bounds than the usual ones.
    pub(super) fn load_with(tables: &ReadTables<'_>, limits: Limits) -> Result<Self, StoreError> {
        let row: Option<TagsVersionRow> = tables::read(tables, tables::TAGS_VERSION, &[])?;
        let tags_version = row.map_or(Stamp(0), |row| row.version);
        let public_posts = ListId::new(Shelf::All, Scope::Public).count(tables)?;
        Ok(Self {
            caches: Caches::new(limits, tags_version, public_posts),
            stash: Stash::default(),
            due: first_due(tables, &[])?,
        })
    }
}

impl StateMachine for Service {
    const NAME: &'static str = "post";
    const TABLES: &'static [&'static str] = tables::NAMES;

    type Command = Command;
    type Query = Query;
    type Reply = Reply;
    type Answer = Answer;
    type Refusal = Error;
    type Event = Event;

    fn upgrade(file: &OldFile<'_>) -> Result<(), StoreError> {
        upgrade::upgrade(file)
    }

    fn bucket(command: &Command) -> Bucket {
        command.bucket()
    }

    fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        Self::load_with(tables, Limits::default())
    }

    fn apply(
        &mut self,
        tables: &mut Tables<'_>,
        stamp: Stamp,
        command: Command,
    ) -> Result<Outcome<Reply, Event>, Stop<Error>> {
        // An earlier command may have left something here and never been merged.
        self.stash = Stash::default();
        let mut change =
            Change { tables, stamp, stash: &mut self.stash, due: self.due, events: Vec::new() };
        let reply = change.run(command)?;
        let (events, due) = (change.events, change.due);
        self.stash.due = due;
        Ok(Outcome { reply, events })
    }

    fn changed(&self) -> Changed {
        slots::changed(&self.stash)
    }

    fn committed(&mut self) {
        let stash = std::mem::take(&mut self.stash);
        self.due = stash.due;
        self.caches.take_in(stash);
    }

    fn query(
        &mut self,
        tables: &ReadTables<'_>,
        query: &mut Query,
    ) -> Result<Step<Answer>, Stop<Error>> {
        let result = Reads::new(tables, &mut self.caches).run(query);
        self.caches.trim();
        result
    }

    fn next_wake(&self) -> Option<Stamp> {
        self.due.map(|(at, _)| at)
    }

    fn tick(&self) -> Option<Command> {
        let (_, post) = self.due?;
        Some(Command::PublishDue { bucket: post.bucket() })
    }
}
