//! The part of the shard actor that takes in events of other shards.

use ractor::ActorProcessingErr;

use crate::actors::batch::{BatchedCommand, Verdict};
use crate::actors::relay::message::{Content, FeedRequest, Ingest, Ingested, Part, RuntimeReply};
use crate::actors::shard::State;
use crate::actors::shard::apply::next_stamp;
use crate::actors::shard::kept::{Halt, Place};
use crate::actors::state_machine::StateMachine;
use crate::ids::Stamp;
use crate::store::codec;
use crate::store::feed::Feed;
use crate::store::shard_state::ShardState;

impl<S: StateMachine> State<S> {
    /// Answers what of a source was seen; not before the log of an earlier process was replayed.
    pub(super) fn read_feed(&mut self, request: FeedRequest) -> Result<(), ActorProcessingErr> {
        if self.leads() {
            let guard = self.cell.store.owned(self.generation)?;
            let feed = Feed::read(&guard.read(), &request.source);
            let feed = feed.map_err(|error| self.cell.named(error))?;
            let _ = request.answer.send(feed);
        }
        Ok(())
    }

    /// Whether this shard speaks for its group, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.replica.is_some() && self.has_caught_up
    }

    /// Applies a delivery: each part once, and with it the feed, in one merge (E1). Like any command
    /// it may be applied again by a successor of an actor that died within the entry; the feed says
    /// where that was. It has no deadline: what comes late is dropped, or does not follow.
    pub(super) fn apply_ingest(
        &mut self,
        shard: &mut ShardState,
        place: Place,
        command: BatchedCommand,
    ) -> Result<Verdict<S>, Halt> {
        let Ok(ingest) = codec::decode::<Ingest>(&command.payload) else {
            self.bury(shard, place, command.payload);
            return Ok(Verdict::Runtime(RuntimeReply::Broken));
        };
        let mut feed = Feed::read(&shard.read(), &ingest.source)?;
        if ingest.epoch > feed.epoch {
            feed = Feed::up_to(ingest.epoch, ingest.after);
        } else if ingest.epoch < feed.epoch || !feed.has_seen(ingest.after, u32::MAX - 1) {
            return Ok(Verdict::Runtime(RuntimeReply::NotNext(feed)));
        }
        let mut done = Ingested::default();
        let (mut at, mut part) = (ingest.after, 0);
        for (number, one) in ingest.parts.iter().enumerate() {
            part = if one.position == at { part + 1 } else { 0 };
            at = one.position;
            if feed.has_seen(at, part) {
                done.dropped += 1;
                continue;
            }
            feed = feed.after(at, part);
            let stamp = command.stamp.max(Stamp(one.stamp.0 + 1));
            let place = Place { part: Some(number as u32), ..place };
            match self.apply_part(shard, place, stamp, &ingest, one, feed)? {
                Verdict::Poison => done.buried += 1,
                _ => done.applied += 1,
            }
        }
        let end = Feed::up_to(ingest.epoch, ingest.upto);
        if !feed.has_seen(ingest.upto, u32::MAX - 1) {
            shard.change(|tables| end.write(tables, &ingest.source));
        }
        Ok(Verdict::Runtime(RuntimeReply::Ingested(done)))
    }

    fn apply_part(
        &mut self,
        shard: &mut ShardState,
        place: Place,
        stamp: Stamp,
        ingest: &Ingest,
        part: &Part,
        feed: Feed,
    ) -> Result<Verdict<S>, Halt> {
        let stamp = next_stamp(shard, stamp);
        let verdict = match &part.content {
            Content::Command(payload) => {
                self.attempt(shard, place, stamp, payload, |tables, _| {
                    feed.write(tables, &ingest.source);
                    Ok(())
                })?
            }
            Content::Broken(_) => Verdict::Poison,
        };
        self.conclude(shard, place, &verdict, || {
            // With all that whoever repairs the program needs to deliver it again.
            let (source, parts) = (ingest.source.clone(), vec![part.clone()]);
            codec::encode(&Ingest { source, upto: part.position, parts, ..*ingest }).into()
        });
        if matches!(verdict, Verdict::Replied(_)) {
            // Last, for it is the service's code: should it panic, the part was seen.
            self.tell_committed(place)?;
        } else {
            shard.change(|tables| feed.write(tables, &ingest.source));
        }
        Ok(verdict)
    }
}
