//! The shard actor: the one owner of a shard's state.
//!
//! **Owns** the service value, the right to write the shard's memtable, the callers that wait.
//! **Receives** commands and queries from the router, committed entries from the replica.
//! **Sends** batches to the replica, replies to callers.
//! **Started by** the shard's supervisor, before the replica.
//! **When it fails** callers' reply ports are gone and the router asks the successor; the state
//! stays with the store at the last applied entry; what was committed meanwhile is pulled from the
//! replica's log. Nothing acknowledged is lost, nothing is applied twice.
//!
//! **Invariants**: S1 entries are applied in order, each once: only `applied + 1` is accepted;
//! S2 a reply leaves only after its entry was merged; S3 one batch in flight; S4 order of proposals
//! is order of arrival; S5 stamps that are applied grow strictly; S6 a panic in `apply` leaves no
//! trace of its command and does not touch its neighbours.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::AbortHandle;

use crate::actors::call::CallError;
use crate::actors::replica::port::{CommittedEntry, ProposeError, Replica};
use crate::actors::shard_cell::ShardCell;
use crate::actors::state_machine::{StateMachine, Step, Stop};
use crate::actors::supervisor::Heartbeat;
use crate::config::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX};
use crate::ids::{CommandId, LogIndex, Stamp};
use crate::store::codec::{self, Record};
use crate::store::error::StoreError;
use crate::store::shard_file::ShardState;

/// Bytes of committed entries that a restarted actor pulls at a time.
const CATCH_UP_BYTES: usize = 8 * 1024 * 1024;
/// A panicking command is tried this often before it is poison: once could be a fault of what the
/// service held in memory, which is loaded afresh in between.
const APPLY_ATTEMPTS: u32 = 2;

/// Where the answer to a command goes.
pub(crate) type ReplyPort<S> =
    oneshot::Sender<Result<<S as StateMachine>::Reply, CallError<<S as StateMachine>::Refusal>>>;
/// Where the answer to a query goes.
pub(crate) type AnswerPort<S> =
    oneshot::Sender<Result<<S as StateMachine>::Answer, CallError<<S as StateMachine>::Refusal>>>;

/// What a shard actor receives.
pub(crate) enum ShardMessage<S: StateMachine> {
    /// A wish to change state.
    Command(CommandEnvelope<S>),
    /// A question.
    Query(QueryEnvelope<S>),
    /// To itself, behind what already waits: propose what has gathered.
    Flush,
    /// The replica has committed these. An incarnation older than the newest never gets here.
    Committed(Arc<[CommittedEntry]>),
    /// The batch with this number was not proposed, or nobody knows.
    ProposeFailed(u64, ProposeError),
    /// A replica has come or gone.
    ReplicaChanged,
    /// The time that the service asked for has come.
    Wake,
    /// Panic where no catch is: what a fault of ours would do.
    #[cfg(test)]
    Crash,
}

/// A command on its way.
pub(crate) struct CommandEnvelope<S: StateMachine> {
    pub(crate) id: CommandId,
    /// `apply` refuses the command when its stamp is later.
    pub(crate) deadline: Stamp,
    /// The encoded command.
    pub(crate) payload: Bytes,
    pub(crate) sent: Instant,
    /// Bounds the mailbox; `None` for the shard's own.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
    pub(crate) reply: Option<ReplyPort<S>>,
    pub(crate) span: tracing::Span,
}

/// A query on its way.
pub(crate) struct QueryEnvelope<S: StateMachine> {
    pub(crate) query: S::Query,
    pub(crate) sent: Instant,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) answer: AnswerPort<S>,
}

/// What is written to the log: many commands, one entry.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    commands: Vec<BatchedCommand>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BatchedCommand {
    id: CommandId,
    stamp: Stamp,
    deadline: Stamp,
    payload: Bytes,
}

impl Record for Batch {
    const KIND: u8 = 2;
}

/// All that a restart needs.
pub(crate) struct Arguments<S: StateMachine> {
    /// The shard's cell, which survives the actor.
    pub(crate) cell: Arc<ShardCell<S>>,
    /// Marked while a handler runs.
    pub(crate) heartbeat: Heartbeat,
}

/// The actor; its state is in [`State`].
pub(crate) struct ShardActor<S>(std::marker::PhantomData<fn() -> S>);

impl<S> Default for ShardActor<S> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

pub(crate) struct State<S: StateMachine> {
    cell: Arc<ShardCell<S>>,
    heartbeat: Heartbeat,
    generation: u64,
    service: S,
    replica: Option<Arc<dyn Replica>>,
    pending: VecDeque<CommandEnvelope<S>>,
    /// Queries that came before the log of an earlier process was replayed (S7); bounded by the
    /// permits.
    early: Vec<QueryEnvelope<S>>,
    flush_queued: bool,
    in_flight: Option<InFlight<S>>,
    batches: u64,
    wake_at: Option<Stamp>,
    /// Ends with the actor, so that no task outlives it.
    tasks: Tasks,
}

struct InFlight<S: StateMachine> {
    number: u64,
    /// First bytes of the entry: how it is recognised when it comes back.
    tag: [u8; 16],
    commands: Vec<CommandEnvelope<S>>,
    proposed: Instant,
}

#[derive(Default)]
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// What became of one command.
enum Verdict<S: StateMachine> {
    Replied(S::Reply),
    Refused(S::Refusal),
    Expired,
    Poison,
}

impl<S: StateMachine> Actor for ShardActor<S> {
    type Msg = ShardMessage<S>;
    type State = State<S>;
    type Arguments = Arguments<S>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        Arguments { cell, heartbeat }: Arguments<S>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let generation = cell.store.claim();
        let service = S::load(&cell.store.owned(generation)?.read())?;
        let watcher = cell.watch_replica(myself.clone());
        let replica = cell.current_replica();
        let mut state = State {
            cell,
            heartbeat,
            generation,
            service,
            replica,
            pending: VecDeque::new(),
            early: Vec::new(),
            flush_queued: false,
            in_flight: None,
            batches: 0,
            wake_at: None,
            tasks: Tasks(vec![watcher]),
        };
        if state.replica.is_some() {
            state.catch_up(LogIndex(u64::MAX))?;
            state.cell.set_recovered();
        }
        state.cell.publish(generation, myself.clone());
        state.schedule_wake(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let _busy = state.heartbeat.busy();
        match message {
            ShardMessage::Command(envelope) => state.command(&myself, envelope),
            ShardMessage::Query(envelope) => state.query(&myself, envelope)?,
            ShardMessage::Flush => state.flush(&myself)?,
            ShardMessage::Committed(entries) => state.committed(&myself, &entries)?,
            ShardMessage::ProposeFailed(number, error) => state.propose_failed(number, &error),
            ShardMessage::ReplicaChanged => state.replica_changed(&myself)?,
            ShardMessage::Wake => state.wake(&myself)?,
            #[cfg(test)]
            ShardMessage::Crash => panic!("a crash of the actor, on purpose"),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.cell.retract(state.generation);
        Ok(())
    }
}

impl<S: StateMachine> State<S> {
    fn command(&mut self, myself: &ActorRef<ShardMessage<S>>, envelope: CommandEnvelope<S>) {
        self.cell.metrics.received(envelope.sent);
        self.pending.push_back(envelope);
        self.queue_flush(myself);
    }

    /// Proposing is put behind what already waits in the mailbox, so that a batch takes all that
    /// has arrived (S4) instead of the first command alone.
    fn queue_flush(&mut self, myself: &ActorRef<ShardMessage<S>>) {
        if self.in_flight.is_none() && !self.flush_queued && !self.pending.is_empty() {
            self.flush_queued = myself.cast(ShardMessage::Flush).is_ok();
        }
    }

    fn query(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        mut envelope: QueryEnvelope<S>,
    ) -> Result<(), ActorProcessingErr> {
        self.cell.metrics.received(envelope.sent);
        if envelope.answer.is_closed() {
            return Ok(());
        }
        if !self.cell.has_recovered() {
            self.early.push(envelope);
            return Ok(());
        }
        let started = Instant::now();
        let cell = self.cell.clone();
        let guard = cell.store.owned(self.generation)?;
        let service = &mut self.service;
        let query = &mut envelope.query;
        let outcome = catch_unwind(AssertUnwindSafe(|| service.query(&guard.read(), query)));
        let answer = match outcome {
            Ok(Ok(Step::Done(answer))) => Ok(answer),
            Ok(Ok(Step::Again)) => {
                drop(guard);
                cell.metrics.handled("query", started);
                envelope.sent = Instant::now();
                cell.metrics.sent();
                let _ = myself.cast(ShardMessage::Query(envelope));
                return Ok(());
            }
            Ok(Err(Stop::Refused(refusal))) => Err(CallError::Refused(refusal)),
            Ok(Err(Stop::Store(error))) => return Err(error.into()),
            Err(_) => {
                // A query that panics would crash the shard as often as somebody repeats it.
                tracing::error!(shard = %cell.id, "a query panicked; its service is loaded afresh");
                cell.metrics.poisoned();
                self.service = S::load(&guard.read())?;
                Err(CallError::Internal)
            }
        };
        drop(guard);
        cell.metrics.handled("query", started);
        let _ = envelope.answer.send(answer);
        drop(envelope.permit);
        Ok(())
    }

    fn flush(&mut self, myself: &ActorRef<ShardMessage<S>>) -> Result<(), ActorProcessingErr> {
        self.flush_queued = false;
        if self.in_flight.is_some() || self.pending.is_empty() {
            return Ok(());
        }
        let Some(replica) = self.replica.clone() else { return Ok(()) };
        let (commands, entry) = {
            let cell = self.cell.clone();
            let guard = cell.store.owned(self.generation)?;
            self.gather(&guard)
        };
        if commands.is_empty() {
            return Ok(());
        }
        self.batches += 1;
        let number = self.batches;
        let tag: [u8; 16] = rand::random();
        let mut bytes =
            Vec::with_capacity(entry.commands.iter().map(|c| c.payload.len() + 48).sum());
        bytes.extend_from_slice(&tag);
        bytes.extend_from_slice(&codec::encode(&entry));
        self.cell.metrics.batch(commands.len(), bytes.len());
        self.in_flight = Some(InFlight { number, tag, commands, proposed: Instant::now() });
        let myself = myself.clone();
        replica.propose(
            bytes.into(),
            Box::new(move |error| {
                let _ = myself.cast(ShardMessage::ProposeFailed(number, error));
            }),
        );
        Ok(())
    }

    /// Takes the next batch from what waits: answers at once what is known or too late, stamps the
    /// rest (S5).
    fn gather(&mut self, shard: &ShardState) -> (Vec<CommandEnvelope<S>>, Batch) {
        let now = self.cell.now();
        let mut stamp = now.max(Stamp(shard.progress.last_stamp.0 + 1));
        let mut envelopes = Vec::new();
        let mut batch = Batch { commands: Vec::new() };
        let mut bytes = 0;
        while let Some(next) = self.pending.front() {
            let full = batch.commands.len() >= BATCH_COMMANDS_MAX
                || (bytes > 0 && bytes + next.payload.len() > BATCH_BYTES_MAX);
            if full {
                break;
            }
            let mut envelope = self.pending.pop_front().expect("there is a front");
            if let Some(outcome) = shard.remembered.get(&envelope.id) {
                let verdict = decode_verdict::<S>(outcome);
                answer::<S>(envelope.reply.take(), verdict);
                continue;
            }
            if now > envelope.deadline {
                self.cell.metrics.expired();
                answer::<S>(envelope.reply.take(), Ok(Verdict::Expired));
                continue;
            }
            bytes += envelope.payload.len();
            batch.commands.push(BatchedCommand {
                id: envelope.id,
                stamp,
                deadline: envelope.deadline,
                payload: envelope.payload.clone(),
            });
            stamp = Stamp(stamp.0 + 1);
            envelopes.push(envelope);
        }
        (envelopes, batch)
    }

    fn committed(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
        entries: &[CommittedEntry],
    ) -> Result<(), ActorProcessingErr> {
        let Some(first) = entries.first() else { return Ok(()) };
        self.catch_up(first.index)?;
        for entry in entries {
            self.apply_entry(entry)?;
        }
        self.after_apply(myself);
        Ok(())
    }

    fn after_apply(&mut self, myself: &ActorRef<ShardMessage<S>>) {
        self.queue_flush(myself);
        self.schedule_wake(myself);
    }

    /// Pulls committed entries before `next` that this actor lacks (its predecessor may have died
    /// between commit and apply).
    fn catch_up(&mut self, next: LogIndex) -> Result<(), ActorProcessingErr> {
        loop {
            let applied = self.cell.store.applied().index;
            if applied.next() >= next {
                return Ok(());
            }
            let Some(replica) = self.replica.clone().or_else(|| self.cell.current_replica()) else {
                return Ok(());
            };
            let entries = replica.committed_after(applied, CATCH_UP_BYTES)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                self.apply_entry(entry)?;
            }
        }
    }

    /// Applies one entry: all its commands, in order, then the replies (S1, S2).
    fn apply_entry(&mut self, entry: &CommittedEntry) -> Result<(), ActorProcessingErr> {
        let started = Instant::now();
        let cell = self.cell.clone();
        let mut guard = cell.store.owned(self.generation)?;
        let applied = guard.progress.applied.index;
        if entry.index <= applied {
            return Ok(());
        }
        if entry.index != applied.next() {
            return Err(format!("entry {} does not follow {}", entry.index.0, applied.0).into());
        }
        let mut verdicts = Vec::new();
        let mut own = None;
        if let Some(bytes) = &entry.batch {
            own = self.recognise(bytes);
            let batch: Batch = codec::decode(bytes.get(16..).unwrap_or_default())?;
            verdicts.reserve(batch.commands.len());
            for (number, command) in batch.commands.into_iter().enumerate() {
                verdicts.push(self.apply_command(&mut guard, entry.index, number, command)?);
            }
        }
        guard.progress.applied.index = entry.index;
        guard.progress.applied.position = entry.position.clone();
        let (stamp, unwritten) = (guard.progress.last_stamp, guard.unwritten_bytes());
        drop(guard);
        cell.applied_to(entry.index, stamp, unwritten);
        if let Some(batch) = own {
            cell.metrics.committed(batch.proposed);
            for (envelope, verdict) in batch.commands.into_iter().zip(verdicts) {
                let _span = envelope.span.enter();
                tracing::debug!(shard = %cell.id, log_index = entry.index.0, "committed");
                answer::<S>(envelope.reply, Ok(verdict));
            }
        }
        cell.metrics.handled("apply", started);
        Ok(())
    }

    /// The batch of this actor that the entry holds, if it is that.
    fn recognise(&mut self, bytes: &Bytes) -> Option<InFlight<S>> {
        self.in_flight.take_if(|batch| bytes.starts_with(&batch.tag))
    }

    fn apply_command(
        &mut self,
        shard: &mut ShardState,
        index: LogIndex,
        number: usize,
        command: BatchedCommand,
    ) -> Result<Verdict<S>, ActorProcessingErr> {
        let stamp = command.stamp.max(Stamp(shard.progress.last_stamp.0 + 1));
        if let Some(outcome) = shard.remembered.get(&command.id) {
            return Ok(decode_verdict::<S>(outcome)?);
        }
        shard.progress.last_stamp = stamp;
        let verdict = if stamp > command.deadline {
            self.cell.metrics.expired();
            Verdict::Expired
        } else {
            self.attempt(shard, index, number, stamp, &command.payload)?
        };
        let outcome = encode_verdict::<S>(&verdict);
        shard.progress.digest = chain(shard.progress.digest, &outcome);
        shard.remembered.insert(stamp, command.id, command.deadline, outcome);
        if matches!(verdict, Verdict::Replied(_)) {
            // Last, for it is the service's code: should it panic, the command is remembered.
            self.service.committed();
        }
        Ok(verdict)
    }

    /// Runs `apply`, containing a panic (S6). This is the one place that catches panics of a
    /// service: the alternative, letting the actor die, would take the batch's neighbours along
    /// and need a second record of who was being applied (ADR 0003).
    fn attempt(
        &mut self,
        shard: &mut ShardState,
        index: LogIndex,
        number: usize,
        stamp: Stamp,
        payload: &Bytes,
    ) -> Result<Verdict<S>, ActorProcessingErr> {
        for _ in 0..APPLY_ATTEMPTS {
            let Ok(command) = codec::decode::<S::Command>(payload) else {
                // Only a damaged or foreign log holds this; every replica sees the same.
                break;
            };
            let mut staged = shard.take_staged();
            let service = &mut self.service;
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                service.apply(&mut shard.tables(&mut staged), stamp, command)
            }));
            match outcome {
                Ok(Ok(outcome)) => {
                    shard.put_staged(staged, true);
                    return Ok(Verdict::Replied(outcome.reply));
                }
                Ok(Err(Stop::Refused(refusal))) => {
                    shard.put_staged(staged, false);
                    return Ok(Verdict::Refused(refusal));
                }
                Ok(Err(Stop::Store(error))) => return Err(error.into()),
                Err(_) => {
                    shard.put_staged(staged, false);
                    self.service = S::load(&shard.read())?;
                }
            }
        }
        tracing::error!(
            shard = %self.cell.id, log_index = index.0, number,
            "a command cannot be applied; it is kept as a dead letter"
        );
        self.cell.metrics.poisoned();
        shard.bury(index, number, payload.clone());
        Ok(Verdict::Poison)
    }

    /// Puts the batch back: it is proposed again under the same command ids, so even if it was
    /// committed after all, its effects happen once.
    fn propose_failed(&mut self, number: u64, error: &ProposeError) {
        let Some(batch) = self.in_flight.take_if(|batch| batch.number == number) else { return };
        tracing::debug!(shard = %self.cell.id, %error, "a batch waits for the replica");
        for envelope in batch.commands.into_iter().rev() {
            self.pending.push_front(envelope);
        }
        self.replica = None;
    }

    fn replica_changed(
        &mut self,
        myself: &ActorRef<ShardMessage<S>>,
    ) -> Result<(), ActorProcessingErr> {
        self.replica = self.cell.current_replica();
        if self.replica.is_some() {
            self.catch_up(LogIndex(u64::MAX))?;
            if let Some(batch) = self.in_flight.take() {
                // Proposed to the predecessor; whether it was committed will be seen by its ids.
                for envelope in batch.commands.into_iter().rev() {
                    self.pending.push_front(envelope);
                }
            }
            self.queue_flush(myself);
            self.cell.set_recovered();
            for envelope in std::mem::take(&mut self.early) {
                self.cell.metrics.sent();
                let _ = myself.cast(ShardMessage::Query(envelope));
            }
        }
        Ok(())
    }

    fn schedule_wake(&mut self, myself: &ActorRef<ShardMessage<S>>) {
        let next = self.service.next_wake();
        if next == self.wake_at {
            return;
        }
        self.wake_at = next;
        let Some(at) = next else { return };
        let micros = at.0.saturating_sub(self.cell.clock.now().0);
        let timer =
            myself.send_after(std::time::Duration::from_micros(micros), || ShardMessage::Wake);
        self.tasks.0.retain(|task| !task.is_finished());
        self.tasks.0.push(timer.abort_handle());
    }

    fn wake(&mut self, myself: &ActorRef<ShardMessage<S>>) -> Result<(), ActorProcessingErr> {
        self.wake_at = None;
        let now = self.cell.now();
        let due = self.service.next_wake().is_some_and(|at| at <= now);
        let command = due.then(|| self.service.tick()).flatten();
        if let Some(command) = command {
            self.pending.push_back(CommandEnvelope {
                id: CommandId::random(),
                deadline: now.plus_ms(crate::config::COMMAND_DEADLINE.as_millis() as u64),
                payload: codec::encode(&command).into(),
                sent: Instant::now(),
                _permit: None,
                reply: None,
                span: tracing::Span::none(),
            });
            self.queue_flush(myself);
        } else {
            self.schedule_wake(myself);
        }
        Ok(())
    }
}

fn answer<S: StateMachine>(reply: Option<ReplyPort<S>>, verdict: Result<Verdict<S>, StoreError>) {
    let Some(reply) = reply else { return };
    let _ = reply.send(match verdict {
        Ok(Verdict::Replied(reply)) => Ok(reply),
        Ok(Verdict::Refused(refusal)) => Err(CallError::Refused(refusal)),
        Ok(Verdict::Expired) => Err(CallError::DeadlineExceeded),
        Ok(Verdict::Poison) | Err(_) => Err(CallError::Internal),
    });
}

fn encode_verdict<S: StateMachine>(verdict: &Verdict<S>) -> Bytes {
    let (tag, payload) = match verdict {
        Verdict::Replied(reply) => (0, codec::encode(reply)),
        Verdict::Refused(refusal) => (1, codec::encode(refusal)),
        Verdict::Expired => (2, Vec::new()),
        Verdict::Poison => (3, Vec::new()),
    };
    let mut bytes = Vec::with_capacity(1 + payload.len());
    bytes.push(tag);
    bytes.extend_from_slice(&payload);
    bytes.into()
}

fn decode_verdict<S: StateMachine>(bytes: &[u8]) -> Result<Verdict<S>, StoreError> {
    match bytes {
        [0, payload @ ..] => Ok(Verdict::Replied(codec::decode(payload)?)),
        [1, payload @ ..] => Ok(Verdict::Refused(codec::decode(payload)?)),
        [2] => Ok(Verdict::Expired),
        [3] => Ok(Verdict::Poison),
        _ => Err(codec::CodecError::Malformed("unknown outcome".into()).into()),
    }
}

/// FNV-1a over the outcome, continued from the digest so far.
fn chain(digest: u64, outcome: &[u8]) -> u64 {
    outcome.iter().fold(digest ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
