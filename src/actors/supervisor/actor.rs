//! The supervisor actor: decides what happens when a child ends.
//!
//! **Owns** the phase, the budgets and the back-off of each child; what must outlive a failure of
//! its own is in the slots. **Receives** supervision events, and messages from its own tasks: it
//! never waits inside an event, because the event carries the state of a dead child and the next
//! child may fail meanwhile. Only a supervisor that starts or ends waits in place.
//! **Sends** nothing. **Started by** its parent supervisor, or [`Tree::start`] for the root.
//! **When it fails** its budgets and back-offs are forgotten; ractor kills its children, and its
//! successor waits for them.
//!
//! **Invariants** S1 to S5 of the module above, and
//! - A1: a child leaves the phase `Exiting` only by `Gone`, sent once by the task that waited.
//! - A2: within one strategy scope, nothing starts while something of it starts or must still end.

use std::collections::HashMap;
use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinSet;

use crate::actors::supervisor::budget::SpentBudget;
use crate::actors::supervisor::plan::{Child, Exit};
use crate::actors::supervisor::slot::{Branch, Ending, Slot, SlotState, lock};
use crate::actors::supervisor::spec::{
    KILL_WAIT, RestartCause, RestartType, StartContext, StartError, Started, depends, text_of,
};
use crate::actors::supervisor::tree::{NoteEvent, Tree};
use crate::seams::time::{sleep_until, timeout};

/// What a supervisor receives.
pub(super) enum SupervisorMessage {
    /// A start that it began has ended.
    StartEnded { index: usize, attempt: u64, result: Result<ActorCell, StartError> },
    /// All generations of a child, and what was below them, are gone.
    Gone { index: usize },
    /// The back-off of a child may be over.
    Wake { index: usize },
    /// Time to look at the heartbeats.
    LookAtHeartbeats,
    /// Somebody wants a child replaced.
    Restart { index: usize, cause: RestartCause },
}

pub(super) struct Arguments {
    tree: Tree,
    slot: Arc<Slot>,
}

pub(super) struct SupervisorActor;

/// A budget is spent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Escalation(pub(super) String);

pub(super) struct State {
    pub(super) myself: ActorRef<SupervisorMessage>,
    pub(super) tree: Tree,
    pub(super) slot: Arc<Slot>,
    pub(super) children: Vec<Child>,
    /// Children in the phase `Up`; an event of any other actor is of an earlier generation.
    pub(super) by_actor: HashMap<ActorId, usize>,
    /// Ends of actors whose `StartEnded` is still in the mailbox, which events overtake.
    pub(super) early: HashMap<ActorId, Exit>,
    pub(super) budget: SpentBudget,
    /// Timers and waiters; they end with this state.
    pub(super) tasks: JoinSet<()>,
}

/// Starts a supervisor below another; a [`StartFn`](super::spec::StartFn) for slots.
pub(super) async fn start_linked(
    slot: Arc<Slot>,
    ctx: StartContext,
) -> Result<Started, StartError> {
    let arguments = Arguments { tree: ctx.tree, slot };
    let pair = SupervisorActor::spawn_linked(None, SupervisorActor, arguments, ctx.supervisor);
    Ok(pair.await?.into())
}

/// Starts the root.
pub(super) async fn start_root(tree: Tree, slot: Arc<Slot>) -> Result<Started, StartError> {
    Ok(SupervisorActor::spawn(None, SupervisorActor, Arguments { tree, slot }).await?.into())
}

impl Actor for SupervisorActor {
    type Msg = SupervisorMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        Arguments { tree, slot }: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let mut state = State::new(myself, tree, slot);
        state.branch().reap().await;
        *lock(&state.branch().outcome) = None;
        *lock(&state.branch().actor) = Some(state.myself.clone());
        let started = state.start_all().await;
        state.settle(started).await?;
        state.look_later();
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let step = match message {
            SupervisorMessage::StartEnded { index, attempt, result } => {
                state.start_ended(index, attempt, result)
            }
            SupervisorMessage::Gone { index } => state.gone(index),
            SupervisorMessage::Wake { index } => state.reconcile(index),
            SupervisorMessage::LookAtHeartbeats => state.look_at_heartbeats(),
            SupervisorMessage::Restart { index, cause } => state.restart(index, cause),
        };
        state.settle(step).await
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let step = match event {
            SupervisionEvent::ActorTerminated(cell, left_behind, reason) => {
                // "killed" is what ractor itself says; a state comes only with a regular end.
                let killed = left_behind.is_none() || reason.as_deref() == Some("killed");
                let failure = killed.then(|| reason.unwrap_or_else(|| "killed".to_owned()));
                let exit = Exit { failure, cause: RestartCause::Crash };
                state.exited(cell.get_id(), exit, left_behind)
            }
            SupervisionEvent::ActorFailed(cell, error) => {
                state.tree.failed(&error);
                let cause = match depends(&error) {
                    true => RestartCause::Dependency,
                    false => RestartCause::Crash,
                };
                let exit = Exit { failure: Some(text_of(&error)), cause };
                state.exited(cell.get_id(), exit, None)
            }
            // Starts are known from their tasks. The rest is about groups and process ids, which
            // a supervisor does not watch; ractor has more such events with its `cluster` feature.
            _ => Ok(()),
        };
        state.settle(step).await
    }

    async fn post_stop(
        &self,
        _: ActorRef<SupervisorMessage>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.stop_all().await;
        *lock(&state.branch().outcome) = Some(Ok(()));
        Ok(())
    }
}

impl State {
    fn new(myself: ActorRef<SupervisorMessage>, tree: Tree, slot: Arc<Slot>) -> Self {
        let branch = branch_of(&slot);
        let children = branch.children.iter().map(|slot| Child::new(Arc::clone(slot))).collect();
        let budget = SpentBudget::new(branch.budget);
        Self {
            myself,
            tree,
            slot,
            children,
            by_actor: HashMap::new(),
            early: HashMap::new(),
            budget,
            tasks: JoinSet::new(),
        }
    }

    pub(super) fn branch(&self) -> &Branch {
        branch_of(&self.slot)
    }

    /// Starts every child in order, in place unless in the background. Here each failed start spends
    /// budget, whatever its cause: nobody handles events yet, so a dependency among the siblings cannot
    /// be repaired.
    async fn start_all(&mut self) -> Result<(), Escalation> {
        for index in 0..self.children.len() {
            if self.children[index].slot.spec.in_background {
                self.begin_start(index);
                continue;
            }
            let mut cause = None;
            loop {
                let slot = Arc::clone(&self.children[index].slot);
                let (attempt, start) = slot.start(self.tree.clone(), self.cell(), cause);
                let error = match start.await {
                    Ok(cell) => {
                        self.up(index, attempt, cause, cell.get_id());
                        break;
                    }
                    Err(error) => error.to_string(),
                };
                slot.clear(self.kill()).await;
                if slot.spec.restart == RestartType::Temporary {
                    self.leave(index, Some(error));
                    break;
                }
                self.plan(index, RestartCause::StartFailure, error)?;
                let child = &mut self.children[index];
                child.want = None;
                cause = Some(RestartCause::StartFailure);
                sleep_until(child.not_before).await;
            }
        }
        Ok(())
    }

    /// Gives up when a step says so: an orderly stop of the children, then a failure that the
    /// parent sees. Not left to `post_stop`, which ractor does not call after an error.
    async fn settle(&mut self, step: Result<(), Escalation>) -> Result<(), ActorProcessingErr> {
        let Err(escalation) = step else { return Ok(()) };
        self.slot.note(NoteEvent::Escalated { reason: escalation.to_string() });
        self.stop_all().await;
        *lock(&self.branch().outcome) = Some(Err(escalation.to_string()));
        Err(escalation.into())
    }

    /// Stops all children in reverse order, each waited for (S3).
    async fn stop_all(&mut self) {
        // Timers and waiters would only compete with what follows.
        self.tasks = JoinSet::new();
        for index in (0..self.children.len()).rev() {
            let slot = &self.children[index].slot;
            slot.set_unless_failed(SlotState::Stopping);
            let limit = slot.spec.shutdown_timeout() + KILL_WAIT;
            let ended = slot.clear(Ending::Stop(Some(self.cell())));
            match timeout(limit, ended).await {
                Ok(()) => slot.note(NoteEvent::Stopped),
                Err(_) => slot.note(NoteEvent::Abandoned),
            }
            slot.set_unless_failed(SlotState::Stopped);
        }
    }

    pub(super) fn cell(&self) -> ActorCell {
        self.myself.get_cell()
    }

    pub(super) fn kill(&self) -> Ending {
        Ending::Kill(Some(self.cell()))
    }
}

fn branch_of(slot: &Slot) -> &Branch {
    slot.branch.as_ref().expect("only slots of supervisors are given to this actor")
}
