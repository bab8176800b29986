//! The part of the shard actor that applies commands under an idempotency key.

use crate::actors::batch::{BatchedCommand, Verdict, decode_verdict, encode_replied};
use crate::actors::relay::message::{Keyed, RuntimeReply};
use crate::actors::shard::State;
use crate::actors::shard::kept::{Halt, Place};
use crate::actors::state_machine::StateMachine;
use crate::ids::Stamp;
use crate::store::codec;
use crate::store::keys::{self, KeyRow};
use crate::store::shard_state::ShardState;

impl<S: StateMachine> State<S> {
    /// Applies a command once per key and day: what became of it is written with its effect. That
    /// takes the place of the remembered command ids. One that came too late had no effect and may
    /// be sent again, so it is not kept.
    pub(super) fn apply_keyed(
        &mut self,
        shard: &mut ShardState,
        place: Place,
        command: BatchedCommand,
    ) -> Result<Verdict<S>, Halt> {
        let Ok(keyed) = codec::decode::<Keyed>(&command.payload) else {
            self.bury(shard, place, command.payload);
            return Ok(Verdict::Runtime(RuntimeReply::Broken));
        };
        let Keyed { owner, fingerprint, sending, payload } = keyed;
        let stamp = command.stamp.max(Stamp(shard.progress.last_stamp.0 + 1));
        if let Some(known) = keys::find(&shard.read(), owner, command.id, stamp)? {
            if known.fingerprint != fingerprint {
                return Ok(Verdict::KeyReused);
            }
            let verdict = decode_verdict::<S>(&known.outcome)?;
            // The router may have sent the same sending twice.
            let is_same = known.sending == sending;
            return Ok(if is_same { verdict } else { Verdict::Replayed(Box::new(verdict)) });
        }
        shard.progress.last_stamp = stamp;
        if stamp > command.deadline {
            self.cell.metrics.expired();
            return Ok(Verdict::Expired);
        }
        let row = |outcome| KeyRow { at: stamp, fingerprint, sending, outcome };
        let verdict = self.attempt(shard, place, stamp, &payload, |tables, reply| {
            keys::keep(tables, owner, command.id, &row(encode_replied::<S>(reply)))
        })?;
        let outcome = self.conclude(shard, place, &verdict, || payload);
        if matches!(verdict, Verdict::Replied(_)) {
            // Last, for it is the service's code: should it panic, the key is kept.
            self.tell_committed(place)?;
        } else {
            shard.change(|tables| keys::keep(tables, owner, command.id, &row(outcome)))?;
        }
        Ok(verdict)
    }
}
