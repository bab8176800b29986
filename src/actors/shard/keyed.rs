//! The part of the shard actor that applies commands under an idempotency key.

use ractor::ActorProcessingErr;

use crate::actors::batch::{
    BatchedCommand, Verdict, chain, decode_verdict, encode_replied, encode_verdict,
};
use crate::actors::relay::message::{Keyed, RuntimeReply};
use crate::actors::shard::State;
use crate::actors::state_machine::StateMachine;
use crate::ids::{LogIndex, Stamp};
use crate::store::codec;
use crate::store::keys::{self, KeyRow};
use crate::store::shard_file::ShardState;

impl<S: StateMachine> State<S> {
    /// Applies a command once per key and day: what became of it is written with its effect. That
    /// takes the place of the remembered command ids. One that came too late had no effect and may
    /// be sent again, so it is not kept.
    pub(super) fn apply_keyed(
        &mut self,
        shard: &mut ShardState,
        index: LogIndex,
        number: usize,
        command: BatchedCommand,
    ) -> Result<Verdict<S>, ActorProcessingErr> {
        let Ok(keyed) = codec::decode::<Keyed>(&command.payload) else {
            self.bury(shard, index, &[number as u32], command.payload);
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
        let verdict = self.attempt(shard, index, stamp, &payload, |tables, reply| {
            keys::keep(tables, owner, command.id, &row(encode_replied::<S>(reply)))
        })?;
        if matches!(verdict, Verdict::Poison) {
            self.bury(shard, index, &[number as u32], payload);
        }
        let outcome = encode_verdict::<S>(&verdict);
        shard.progress.digest = chain(shard.progress.digest, &outcome);
        if matches!(verdict, Verdict::Replied(_)) {
            // Last, for it is the service's code: should it panic, the key is kept.
            self.service.committed();
        } else {
            shard.change(|tables| keys::keep(tables, owner, command.id, &row(outcome)))?;
        }
        Ok(verdict)
    }
}
