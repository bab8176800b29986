//! What the author of a service writes; everything else is the runtime's.
//!
//! A service is a deterministic state machine: commands, queries, events, tables. It knows nothing
//! of threads, files, networks, restarts or metrics.
//!
//! **Invariants**: M1 `apply` depends on nothing but tables, stamp and command: replicas must agree
//! byte for byte; M2 what `apply` stages is seen by nobody until it answers `Ok`; M3 the behaviour
//! of a command version never changes, for a replay after an upgrade must tell the same story.

use std::fmt::Debug;

pub use crate::actors::answers::{Changed, Slot};
use crate::error::ErrorCode;
use crate::ids::{Bucket, Stamp};
use crate::store::codec::Record;
pub use crate::store::count::Count;
use crate::store::error::StoreError;
pub use crate::store::memtable::Table;
pub use crate::store::row_key::RowKey;
pub use crate::store::shard_state::Kept;
pub use crate::store::tables::{Range as Rows, ReadTables, Tables, end_of_prefix};
pub use crate::store::upgrade::OldFile;

/// A service's refusal: final, without effect, and told apart by what the caller can do about it.
pub trait Refusal: Record + Clone + Debug + std::error::Error + Send + Sync + 'static {
    /// The outcome that the edge knows how to show.
    fn code(&self) -> ErrorCode;
}

/// Why `apply` or `query` has no reply.
#[derive(Debug)]
pub enum Stop<R> {
    /// The service says no. Certainly no effect.
    Refused(R),
    /// The tables could not be read: the state is not trustworthy, the actor starts anew.
    Store(StoreError),
}

impl<R> From<StoreError> for Stop<R> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<R> From<crate::store::codec::CodecError> for Stop<R> {
    fn from(error: crate::store::codec::CodecError) -> Self {
        Self::Store(error.into())
    }
}

/// Shorthand for a refusal inside `apply` and `query`.
///
/// # Errors
/// Always: that is what it is for.
pub fn refuse<T, R>(refusal: R) -> Result<T, Stop<R>> {
    Err(Stop::Refused(refusal))
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome<R, E> {
    /// The answer to the caller; remembered with the command id, so keep it small.
    pub reply: R,
    /// Facts for other services, in order. Kept only while somebody subscribes.
    pub events: Vec<E>,
}

impl<R, E> Outcome<R, E> {
    /// A reply and no event.
    pub fn reply(reply: R) -> Self {
        Self { reply, events: Vec::new() }
    }
}

/// How far a query, or the writing of a checkpoint, has come.
#[derive(Debug)]
pub enum Step<A> {
    /// The answer.
    Done(A),
    /// It keeps what it has in itself and wants to be called again, behind what waits: long work must
    /// not stand before short.
    Again,
}

/// What `apply` answers.
pub type Applied<S> = Result<
    Outcome<<S as StateMachine>::Reply, <S as StateMachine>::Event>,
    Stop<<S as StateMachine>::Refusal>,
>;

/// A service. See the module documentation.
pub trait StateMachine: Sized + Send + 'static {
    /// Name in actors, files, metrics and the tree.
    const NAME: &'static str;
    /// Tables of the shard file; a [`Table`] is an index into this list. Only ever appended to.
    const TABLES: &'static [&'static str];
    /// Most bytes of commands in one log entry. Nobody is answered while an entry is applied: a
    /// service whose commands take long for their size asks for less.
    const BATCH_BYTES_MAX: usize = crate::config::BATCH_BYTES_MAX;
    /// Where the state is between checkpoints: wholly in tables or wholly in memory, never a mix.
    const KEPT: Kept = Kept::Tables;

    /// A wish to change state.
    type Command: Record + Send + 'static;
    /// A question without effect; it may keep its progress in itself ([`Step::Again`]).
    type Query: Clone + Send + 'static;
    /// The answer to a command.
    type Reply: Record + Send + 'static;
    /// The answer to a query.
    type Answer: Send + 'static;
    /// The service says no.
    type Refusal: Refusal;
    /// A fact that other services may learn.
    type Event: Record + Send + 'static;

    /// Writes anew what an earlier program kept otherwise in tables, once, when a file is opened that lacks some of
    /// [`Self::TABLES`]. Nothing to do is the rule.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    fn upgrade(_file: &OldFile<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// The bucket whose shard applies a command.
    fn bucket(command: &Self::Command) -> Bucket;

    /// Loads the service. O(1) for a table-kept service: it holds only bounded caches. A memory-kept
    /// one reads what [`Self::checkpoint`] wrote; what was applied since is applied again after it.
    ///
    /// # Errors
    /// When the tables cannot be read.
    fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError>;

    /// Applies a command: stages rows, or changes memory, and answers. Deterministic (M1). `stamp` is
    /// later than that of every earlier command of this shard, so an id made from it is new. A
    /// memory-kept service neither reads nor writes `tables` here: what they hold depends on when a
    /// checkpoint was.
    ///
    /// # Errors
    /// A refusal has no effect (M2): a memory-kept service decides before it changes anything.
    fn apply(
        &mut self,
        tables: &mut Tables<'_>,
        stamp: Stamp,
        command: Self::Command,
    ) -> Applied<Self>;

    /// What the command that was just applied changes the answers of queries about; asked before
    /// [`Self::committed`]. Callers may keep answers ([`crate::actors::answers`]), which this makes void.
    fn changed(&self) -> Changed {
        Changed::Anything
    }

    /// Called after a command's rows were merged: the moment to bring caches up to date. A command
    /// that was refused is not reported.
    fn committed(&mut self) {}

    /// For memory-kept services: stages the state that has changed since it was last staged or loaded,
    /// about `rows` rows of it, and answers [`Step::Again`] while there is more. Between two calls
    /// commands are applied and queries answered; what they change is staged (again) by a later call,
    /// and `rows` grows from call to call, so that there is an end. A checkpoint is what the tables
    /// hold after [`Step::Done`]; if it does not come to that, the service is loaded afresh.
    ///
    /// A service with little state may stage all of it at once. One with much keeps a set of what has
    /// changed, as it must never take much longer than a thousand rows take.
    ///
    /// # Errors
    /// When the tables cannot be read.
    fn checkpoint(&mut self, tables: &mut Tables<'_>, rows: usize) -> Result<Step<()>, StoreError> {
        let _ = (tables, rows);
        Ok(Step::Done(()))
    }

    /// Answers a query. `&mut self` is for caches; the tables are read-only.
    ///
    /// # Errors
    /// A refusal, or tables that cannot be read.
    fn query(
        &mut self,
        tables: &ReadTables<'_>,
        query: &mut Self::Query,
    ) -> Result<Step<Self::Answer>, Stop<Self::Refusal>>;

    /// Told to a service that speaks for its shard from now on: everything that is known to be
    /// committed has been applied, and what it proposes by [`Self::tick`] is proposed. Whoever is
    /// loaded afresh does not lead before it is told so; it may be told so several times. No answer
    /// of `apply`, and no state, may depend on it (M1).
    fn lead(&mut self) {}

    /// When the service wants [`Self::tick`] to be applied, if ever. The leader proposes it.
    fn next_wake(&self) -> Option<Stamp> {
        None
    }

    /// The command that the leader proposes at [`Self::next_wake`].
    fn tick(&self) -> Option<Self::Command> {
        None
    }
}
