//! The part of the shard actor that keeps its outbox: who subscribes, what they have, what may go.

use std::collections::BTreeMap;

use ractor::{ActorProcessingErr, ActorRef};
use tokio::sync::watch;

use crate::actors::batch::Verdict;
use crate::actors::relay::message::{
    OutboxCommand, OutboxPage, OutboxRequest, OutboxSeen, RuntimeReply,
};
use crate::actors::relay::{Declared, INGEST_BYTES_MAX, INGEST_EVENTS_MAX};
use crate::actors::shard::kept::Halt;
use crate::actors::shard::{CommandEnvelope, ShardMessage, State};
use crate::actors::state_machine::{ReadTables, StateMachine};
use crate::ids::ShardName;
use crate::store::codec;
use crate::store::error::StoreError;
use crate::store::outbox::{Acknowledged, Mark, Outbox};
use crate::store::shard_state::ShardState;

/// The outbox and what is on its way into the log.
pub(super) struct Outgoing {
    pub(super) outbox: Outbox,
    /// Newer than what was logged: epoch and mark. Lost with the actor, and told again.
    acknowledged: BTreeMap<ShardName, (u32, Mark)>,
    /// A settlement is proposed, or waits to be.
    is_settling: bool,
    turns: u64,
}

impl Outgoing {
    pub(super) fn load(tables: &ReadTables<'_>, generation: u64) -> Result<Self, StoreError> {
        let outbox = Outbox::load(tables)?;
        // Whoever watched a predecessor must look again.
        let turns = generation << 32;
        Ok(Self { outbox, acknowledged: BTreeMap::new(), is_settling: false, turns })
    }

    /// The rows have gone back. What was heard since remains true: it will be applied again.
    pub(super) fn reload(&mut self, tables: &ReadTables<'_>) -> Result<(), StoreError> {
        self.outbox = Outbox::load(tables)?;
        self.turns += 1;
        Ok(())
    }

    /// Tells those who watch, if there is something to tell.
    pub(super) fn tell(&self, watched: &watch::Sender<OutboxSeen>, declared: &Declared) {
        if !self.outbox.is_in_use() {
            return;
        }
        declared.metrics.iter().for_each(|metrics| metrics.holds(&self.outbox.head()));
        let seen = OutboxSeen { count: self.outbox.head().last.count, turns: self.turns };
        watched.send_if_modified(|known| {
            let is_news = *known != seen;
            *known = seen;
            is_news
        });
    }

    /// What the subscriber has, as far as is known: the log may hear of it later.
    fn mark_of(&self, name: &ShardName, epoch: u32, logged: Mark) -> Mark {
        match self.acknowledged.get(name) {
            Some((of, mark)) if *of == epoch => logged.max(*mark),
            _ => logged,
        }
    }
}

impl<S: StateMachine> State<S> {
    /// Before anything else is proposed: the log says who subscribes, so that every replica keeps
    /// the same events.
    pub(super) fn declare_subscribers(&mut self, myself: &ActorRef<ShardMessage<S>>) {
        let declared = &self.cell.outgoing.subscribers;
        let outbox = &self.outgoing.outbox;
        let is_known = outbox.names().count() == declared.len()
            && outbox.names().all(|name| declared.contains(name));
        if !is_known {
            let command = OutboxCommand::Declare { subscribers: declared.clone() };
            let envelope = self.outbox_envelope(&command);
            self.pending.push_front(envelope);
        }
        self.outgoing.tell(&self.cell.outbox, &self.cell.outgoing);
        self.queue_flush(myself);
    }

    pub(super) fn read_outbox(&mut self, request: OutboxRequest) -> Result<(), ActorProcessingErr> {
        if !self.leads() {
            return Ok(());
        }
        let outbox = &self.outgoing.outbox;
        let guard = self.cell.store.owned(self.generation)?;
        let events = match request.after {
            Some(after) => {
                let page = outbox.page(&guard.read(), after, INGEST_EVENTS_MAX, INGEST_BYTES_MAX);
                page.map_err(|error| self.cell.named(error))?
            }
            None => Vec::new(),
        };
        drop(guard);
        let subscriber = outbox.subscriber(&request.subscriber).copied();
        let _ = request.answer.send(OutboxPage { head: outbox.head(), subscriber, events });
        Ok(())
    }

    /// Keeps it until enough has gathered to be worth a command.
    pub(super) fn acknowledged(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        Acknowledged { subscriber, epoch, mark }: Acknowledged,
    ) {
        let known = self.outgoing.acknowledged.entry(subscriber).or_default();
        *known = (*known).max((epoch, mark));
        self.keep_outbox_bounded();
        self.queue_flush(myself);
    }

    /// Proposes to settle, when there is enough to settle or the outbox is too long (O3): whoever is
    /// further behind than it may be is given up.
    pub(super) fn keep_outbox_bounded(&mut self) {
        let outgoing = &self.outgoing;
        if outgoing.is_settling || !outgoing.outbox.is_in_use() || !self.leads() {
            return;
        }
        let limits = &self.cell.outgoing.limits;
        let last = outgoing.outbox.head().last;
        let (mut acknowledged, mut given_up) = (Vec::new(), Vec::new());
        let mut is_due = outgoing.outbox.trimmable() >= limits.acknowledge_events;
        for (name, subscriber) in outgoing.outbox.followers() {
            let (epoch, logged) = (subscriber.epoch, subscriber.acknowledged);
            let mark = outgoing.mark_of(name, epoch, logged);
            if mark > logged {
                acknowledged.push(Acknowledged { subscriber: name.clone(), epoch, mark });
                is_due |= mark.count - logged.count >= limits.acknowledge_events
                    || mark.bytes - logged.bytes >= limits.acknowledge_bytes;
            }
            if last.count.saturating_sub(mark.count) > limits.events_max
                || last.bytes.saturating_sub(mark.bytes) > limits.bytes_max
            {
                given_up.push((name.clone(), epoch));
            }
        }
        if !is_due && given_up.is_empty() {
            return;
        }
        for (name, _) in &given_up {
            tracing::warn!(
                shard = %self.cell.id, subscriber = %name,
                "a subscriber is too far behind: it is given up and must be rebuilt"
            );
        }
        let envelope = self.outbox_envelope(&OutboxCommand::Settle { acknowledged, given_up });
        self.pending.push_back(envelope);
        self.outgoing.is_settling = true;
    }

    fn outbox_envelope(&self, command: &OutboxCommand) -> CommandEnvelope<S> {
        CommandEnvelope::of_runtime(&self.cell, codec::encode(command).into(), None)
    }

    /// Applies what may be applied twice: a successor of an actor that died within the entry does.
    pub(super) fn apply_outbox(
        &mut self,
        shard: &mut ShardState,
        payload: &[u8],
    ) -> Result<Verdict<S>, Halt> {
        let outgoing = &mut self.outgoing;
        let reply = match codec::decode::<OutboxCommand>(payload) {
            Ok(OutboxCommand::Declare { subscribers }) => {
                outgoing.outbox.declare(shard, &subscribers);
                outgoing.turns += 1;
                RuntimeReply::Settled
            }
            Ok(OutboxCommand::Settle { acknowledged, given_up }) => {
                outgoing.outbox.settle(shard, &acknowledged, &given_up)?;
                outgoing.is_settling = false;
                outgoing.turns += u64::from(!given_up.is_empty());
                RuntimeReply::Settled
            }
            Ok(OutboxCommand::Resume { subscriber }) => {
                outgoing.turns += 1;
                RuntimeReply::Resumed(outgoing.outbox.resume(shard, &subscriber))
            }
            // Only a damaged or foreign log holds this; every replica sees the same.
            Err(_) => RuntimeReply::Broken,
        };
        Ok(Verdict::Runtime(reply))
    }
}
