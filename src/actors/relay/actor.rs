//! The relay: the actor that delivers a shard's events to those who subscribe.
//!
//! **Owns** one delivery for each subscribing shard, each a task at its own pace ([`Pair`]).
//! **Receives** that a delivery has ended, which it never does by itself. **Sends** questions and
//! acknowledgements to its own shard, deliveries to subscribers. **Started by** the shard's
//! supervisor, after the replica. **When it fails** nothing is lost: what waits is in the outbox, how
//! far each subscriber is says its own feed, and the successor asks for it.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::actors::relay::feed::FeedTeller;
use crate::actors::relay::metrics::FeedMetrics;
use crate::actors::relay::pair::Pair;
use crate::actors::relay::subscription::Port;
use crate::actors::shard_cell::ShardCell;
use crate::actors::state_machine::StateMachine;
use crate::ids::ShardId;
use crate::seams::tasks::{self, Tasks};
use crate::telemetry::Metrics;

/// What the actor receives.
pub(crate) enum RelayMessage {
    /// The delivery to this shard has ended.
    Ended(ShardId),
}

/// All that a restart needs.
pub(crate) struct Arguments<P: StateMachine> {
    /// The source.
    pub(crate) cell: Arc<ShardCell<P>>,
    /// Who subscribes, and where the status of each feed is told.
    pub(crate) subscribers: Vec<(Port<P>, FeedTeller)>,
    pub(crate) metrics: Arc<Metrics>,
}

impl<P: StateMachine> Clone for Arguments<P> {
    fn clone(&self) -> Self {
        let (cell, subscribers) = (self.cell.clone(), self.subscribers.clone());
        Self { cell, subscribers, metrics: self.metrics.clone() }
    }
}

/// The actor.
pub(crate) struct RelayActor<P>(std::marker::PhantomData<fn() -> P>);

impl<P> Default for RelayActor<P> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<P: StateMachine> Actor for RelayActor<P> {
    type Msg = RelayMessage;
    /// The running deliveries; they end with it.
    type State = Tasks;
    type Arguments = Arguments<P>;

    async fn pre_start(
        &self,
        myself: ActorRef<RelayMessage>,
        Arguments { cell, subscribers, metrics }: Arguments<P>,
    ) -> Result<Tasks, ActorProcessingErr> {
        let mut state = Tasks::default();
        for (port, teller) in subscribers {
            let subscriber = port.id();
            let metrics = FeedMetrics::new(&metrics, cell.id, subscriber);
            let delivery = tasks::spawn(Pair::new(cell.clone(), port, teller, metrics).run());
            state.keep(delivery.abort_handle());
            let myself = myself.clone();
            tasks::spawn(async move {
                let Err(_ended) = delivery.await;
                let _ = myself.cast(RelayMessage::Ended(subscriber));
            });
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<RelayMessage>,
        message: RelayMessage,
        _state: &mut Tasks,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RelayMessage::Ended(subscriber) => {
                Err(format!("the delivery to {subscriber} has ended").into())
            }
        }
    }
}
