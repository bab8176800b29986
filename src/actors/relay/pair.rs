//! The delivery from one shard to another: asks the subscriber what it has, reads on from there,
//! hands over, one ingest at a time.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;

use crate::actors::relay::feed::{FeedState, FeedStatus, FeedTeller};
use crate::actors::relay::message::{
    Ingest, OutboxCommand, OutboxPage, OutboxSeen, Part, RuntimeReply,
};
use crate::actors::relay::metrics::FeedMetrics;
use crate::actors::relay::subscription::{Port, ask_outbox, hand_over};
use crate::actors::relay::{GATHER, INGEST_BYTES_MAX, LAG_PERIOD, PASSED_OVER_MAX, RETRY_PAUSE};
use crate::actors::shard::ShardMessage;
use crate::actors::shard_cell::ShardCell;
use crate::actors::state_machine::StateMachine;
use crate::ids::{EventPosition, ShardName, Stamp};
use crate::seams::time;
use crate::store::codec;
use crate::store::outbox::{Acknowledged, Mark, OutboxEvent, Subscriber};

/// One delivery. Everything here may be lost: both shards know what counts.
pub(super) struct Pair<P: StateMachine> {
    cell: Arc<ShardCell<P>>,
    port: Port<P>,
    teller: FeedTeller,
    metrics: FeedMetrics,
    source: ShardName,
    subscriber: ShardName,
    seen: watch::Receiver<OutboxSeen>,
    /// The farthest that was ever handed over.
    handed_over: EventPosition,
}

/// Somebody does not answer, or something is not as assumed: begin anew in a moment.
struct Interrupted;

/// Where a delivery stands.
struct Course {
    epoch: u32,
    /// What the subscriber has, by its own word.
    position: EventPosition,
    /// What was read. Events between the two do not concern the subscriber.
    read: Mark,
    /// How many these are.
    passed_over: u64,
    /// Nothing up to here is still to be handed over.
    settled: EventPosition,
}

/// Some events as commands of the subscriber.
struct Chunk {
    parts: Vec<Part>,
    last: Mark,
    /// Events of it that were handed over before.
    again: u64,
    events: u64,
}

impl<P: StateMachine> Pair<P> {
    pub(super) fn new(
        cell: Arc<ShardCell<P>>,
        port: Port<P>,
        teller: FeedTeller,
        metrics: FeedMetrics,
    ) -> Self {
        let (source, subscriber) = (cell.id.into(), port.id().into());
        let seen = cell.outbox.subscribe();
        let handed_over = EventPosition::default();
        Self { cell, port, teller, metrics, source, subscriber, seen, handed_over }
    }

    /// Delivers for ever.
    pub(super) async fn run(mut self) -> Infallible {
        let mut pause = RETRY_PAUSE.0;
        loop {
            let before = self.handed_over;
            let Err(Interrupted) = self.follow().await;
            self.teller.send_modify(|status| status.state = FeedState::Connecting);
            time::sleep(pause).await;
            pause = match self.handed_over > before {
                true => RETRY_PAUSE.0,
                false => (pause * 2).min(RETRY_PAUSE.1),
            };
        }
    }

    async fn follow(&mut self) -> Result<Infallible, Interrupted> {
        let mut course = self.set_course().await?;
        loop {
            self.seen.mark_unchanged();
            course.settled = course.read.position;
            let page = self.page(Some(course.read.position)).await?;
            let still = |row: &Subscriber| !row.is_lost && row.epoch == course.epoch;
            if !page.subscriber.as_ref().is_some_and(still) {
                return Err(Interrupted);
            }
            if course.read.position < page.head.trimmed.position {
                return Err(self.give_up(course.epoch).await);
            }
            let Some(first) = page.events.first() else {
                self.tell(&course, 0, None);
                // The sender lives in the cell, as this does.
                let _ = self.seen.changed().await;
                continue;
            };
            let behind = first.mark.count - 1;
            self.tell(&course, page.head.last.count - behind, Some(first.stamp));
            let chunk = self.chunk(&page.events);
            course.read = chunk.last;
            course.passed_over += chunk.last.count - behind - chunk.events;
            // Should the relay be restarted, it reads what was only passed over again.
            if chunk.events > 0 || course.passed_over >= PASSED_OVER_MAX {
                let has_caught_up = chunk.last == page.head.last;
                self.deliver(&mut course, chunk, behind, first.stamp).await?;
                if has_caught_up {
                    // What comes meanwhile is delivered together.
                    time::sleep(GATHER).await;
                }
            }
        }
    }

    /// Waits until the log of the source says that the subscriber follows, and asks it from where.
    async fn set_course(&mut self) -> Result<Course, Interrupted> {
        let (head, row) = loop {
            self.seen.mark_unchanged();
            let OutboxPage { head, subscriber, .. } = self.page(None).await?;
            match subscriber {
                Some(row) if !row.is_lost => break (head, row),
                Some(row) => self.wait_lost(&row).await?,
                None => {}
            }
            let _ = self.seen.changed().await;
        };
        let feed = self.port.feed(self.source.clone()).await.ok_or(Interrupted)?;
        // Of an earlier epoch only what it has copied counts, which goes up to where this one began.
        let position = if feed.epoch < row.epoch { row.since } else { feed.position };
        if feed.epoch > row.epoch || position > head.last.position {
            // One of the two was set back, from a copy of its files say: what is missing where,
            // nobody knows.
            tracing::error!(
                shard = %self.cell.id, subscriber = %self.subscriber,
                "the subscriber has seen more than there is: it must be rebuilt"
            );
            return Err(self.give_up(feed.epoch).await);
        }
        let read = Mark { position, ..row.acknowledged };
        Ok(Course { epoch: row.epoch, position, read, settled: position, passed_over: 0 })
    }

    async fn page(&self, after: Option<EventPosition>) -> Result<OutboxPage, Interrupted> {
        ask_outbox(&self.cell, self.subscriber.clone(), after).await.ok_or(Interrupted)
    }

    /// Maps events, until enough bytes have gathered.
    fn chunk(&self, events: &[OutboxEvent]) -> Chunk {
        let mut chunk = Chunk { parts: Vec::new(), last: Mark::default(), again: 0, events: 0 };
        let (mut bytes, mut counted) = (0, 0);
        for event in events {
            self.port.map(self.cell.id, event, &mut chunk.parts);
            chunk.last = event.mark;
            if chunk.parts.len() > counted {
                chunk.events += 1;
                chunk.again += u64::from(event.mark.position <= self.handed_over);
            }
            bytes += chunk.parts[counted..].iter().map(Part::bytes).sum::<usize>();
            counted = chunk.parts.len();
            if bytes >= INGEST_BYTES_MAX {
                break;
            }
        }
        chunk
    }

    /// Hands a chunk over and waits until the subscriber has it. `behind` events were there before.
    async fn deliver(
        &mut self,
        course: &mut Course,
        chunk: Chunk,
        behind: u64,
        oldest: Stamp,
    ) -> Result<(), Interrupted> {
        let ingest = Ingest {
            source: self.source.clone(),
            epoch: course.epoch,
            after: course.position,
            upto: chunk.last.position,
            parts: chunk.parts,
        };
        self.metrics.redelivered.inc_by(chunk.again);
        self.handed_over = self.handed_over.max(ingest.upto);
        let port = self.port.clone();
        let mut reply = port.ingest(&ingest);
        let reply = loop {
            match time::timeout(LAG_PERIOD, &mut reply).await {
                Ok(reply) => break reply,
                Err(_) => {
                    let waiting = self.seen.borrow().count.saturating_sub(behind);
                    self.tell(course, waiting, Some(oldest));
                }
            }
        };
        let done = match reply {
            Some(RuntimeReply::Ingested(done)) => done,
            // It would be so again and again.
            Some(RuntimeReply::Broken) => return Err(self.give_up(course.epoch).await),
            Some(_) | None => return Err(Interrupted),
        };
        course.position = ingest.upto;
        course.passed_over = 0;
        self.metrics.delivered.inc_by(chunk.events);
        self.metrics.dropped.inc_by(done.dropped);
        self.metrics.buried.inc_by(done.buried);
        if let Some(actor) = self.cell.current_actor() {
            let (subscriber, epoch) = (self.subscriber.clone(), course.epoch);
            let acknowledged = Acknowledged { subscriber, epoch, mark: chunk.last };
            let _ = actor.cast(ShardMessage::Acknowledged(acknowledged));
        }
        Ok(())
    }

    /// Has the source say that this subscriber must be rebuilt.
    async fn give_up(&self, epoch: u32) -> Interrupted {
        let given_up = vec![(self.subscriber.clone(), epoch)];
        let command = OutboxCommand::Settle { acknowledged: Vec::new(), given_up };
        let _ = hand_over(&self.cell, codec::encode(&command).into()).await;
        Interrupted
    }

    fn tell(&self, course: &Course, lag: u64, oldest: Option<Stamp>) {
        self.metrics.lags(lag, oldest, self.cell.now());
        self.metrics.must_rebuild(false);
        let (position, epoch) = (course.settled, course.epoch);
        let status = FeedStatus { state: FeedState::Following, position, lag, epoch };
        self.teller.send_if_modified(|known| std::mem::replace(known, status) != status);
    }

    /// What a lost subscriber has counts for nothing, but for how often it was rebuilt: it may have
    /// followed before, when the source knew it by another row.
    async fn wait_lost(&self, row: &Subscriber) -> Result<(), Interrupted> {
        self.metrics.must_rebuild(true);
        self.teller.send_modify(|status| {
            status.state = FeedState::MustRebuild;
            status.epoch = row.epoch;
        });
        let mut pause = RETRY_PAUSE.0;
        loop {
            match self.port.feed(self.source.clone()).await {
                Some(feed) if feed.epoch > row.epoch => {
                    return Err(self.give_up(feed.epoch).await);
                }
                Some(_) => return Ok(()),
                // It is starting, and cannot say yet.
                None => {
                    time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE.1);
                }
            }
        }
    }
}
