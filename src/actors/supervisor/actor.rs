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
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::actors::supervisor::budget::SpentBudget;
use crate::actors::supervisor::slot::{Branch, Ending, Slot, SlotState, lock};
use crate::actors::supervisor::spec::{
    ChildSpec, KILL_WAIT, RestartCause, RestartType, StartContext, StartError, Started, Strategy,
    depends, text_of,
};
use crate::actors::supervisor::table::span;
use crate::actors::supervisor::tree::{KillReason, NoteEvent, Tree};

/// Bounds of the time between two looks at the heartbeats: a quarter of the shortest limit, but
/// neither a busy loop nor so long that a restart by watchdog surprises a reader of the metrics.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);

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
struct Escalation(String);

pub(super) struct State {
    myself: ActorRef<SupervisorMessage>,
    tree: Tree,
    slot: Arc<Slot>,
    children: Vec<Child>,
    /// Children in the phase `Up`; an event of any other actor is of an earlier generation.
    by_actor: HashMap<ActorId, usize>,
    /// Ends of actors whose `StartEnded` is still in the mailbox, which events overtake.
    early: HashMap<ActorId, Exit>,
    budget: SpentBudget,
    /// Timers and waiters; they end with this state.
    tasks: JoinSet<()>,
}

struct Child {
    slot: Arc<Slot>,
    phase: Phase,
    want: Option<Want>,
    /// No start before this.
    not_before: Instant,
    budget: Option<SpentBudget>,
    dependency_budget: Option<SpentBudget>,
    failures_in_row: u32,
    /// The running handler seen by the last look, and when it was seen first.
    seen: Option<(u64, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down,
    Starting {
        attempt: u64,
        cause: Option<RestartCause>,
    },
    Up {
        actor: ActorId,
        attempt: u64,
        since: Instant,
    },
    /// Ended or told to end; a task waits until it is gone.
    Exiting,
}

/// What is to become of a child besides what it does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Restart(RestartCause),
    /// A temporary sibling in a strategy that restarts it: it only ends.
    Stop,
}

struct Exit {
    /// `None`: it stopped cleanly.
    failure: Option<String>,
    cause: RestartCause,
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

    fn branch(&self) -> &Branch {
        branch_of(&self.slot)
    }

    /// Starts every child in order, in place. Here each failed start spends budget, whatever its
    /// cause: nobody handles events yet, so a dependency among the siblings cannot be repaired.
    async fn start_all(&mut self) -> Result<(), Escalation> {
        for index in 0..self.children.len() {
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

    fn start_ended(
        &mut self,
        index: usize,
        attempt: u64,
        result: Result<ActorCell, StartError>,
    ) -> Result<(), Escalation> {
        let cause = match self.children[index].phase {
            Phase::Starting { attempt: current, cause } if current == attempt => cause,
            // It was told to end meanwhile; the task that waits for it ends what came up.
            Phase::Starting { .. } | Phase::Down | Phase::Up { .. } | Phase::Exiting => {
                return Ok(());
            }
        };
        let error = match result {
            Ok(cell) => {
                self.up(index, attempt, cause, cell.get_id());
                let early = self.early.remove(&cell.get_id());
                if !self.any_starting() {
                    self.early.clear();
                }
                return match early {
                    Some(exit) => self.ended(index, exit, None),
                    None => self.reconcile(index),
                };
            }
            Err(error) => error,
        };
        self.wait_until_gone(index, self.kill(), None);
        if self.children[index].slot.spec.restart == RestartType::Temporary {
            self.leave(index, Some(error.to_string()));
            return Ok(());
        }
        let cause = match &error {
            StartError::Dependency(_) => RestartCause::Dependency,
            StartError::Failed(_)
            | StartError::TimedOut(_)
            | StartError::Lost(_)
            | StartError::NotLinked => RestartCause::StartFailure,
        };
        // No sibling is touched: none could use a child that did not run, and those after it in
        // the scope have not been started yet (A2).
        self.plan(index, cause, error.to_string())
    }

    fn gone(&mut self, index: usize) -> Result<(), Escalation> {
        let child = &mut self.children[index];
        debug_assert_eq!(child.phase, Phase::Exiting, "A1");
        child.phase = Phase::Down;
        if child.want == Some(Want::Stop) {
            child.want = None;
        }
        if child.want.is_none() {
            child.slot.set_unless_failed(SlotState::Stopped);
        }
        self.reconcile(index)
    }

    fn look_at_heartbeats(&mut self) -> Result<(), Escalation> {
        let now = Instant::now();
        for index in 0..self.children.len() {
            let child = &mut self.children[index];
            let Some(limit) = child.slot.spec.stuck_after else { continue };
            let running = match child.phase {
                Phase::Up { attempt, .. } => child.slot.running_handler(attempt),
                Phase::Down | Phase::Starting { .. } | Phase::Exiting => None,
            };
            child.seen = running.map(|handler| match child.seen {
                Some((seen, since)) if seen == handler => (seen, since),
                Some(_) | None => (handler, now),
            });
            let Some((_, since)) = child.seen else { continue };
            if now.duration_since(since) < limit {
                continue;
            }
            child.seen = None;
            child.slot.note(NoteEvent::Killed { why: KillReason::Stuck });
            let failure = format!("a handler ran longer than {}", span(limit));
            self.replace(index, RestartCause::Watchdog, failure)?;
        }
        self.look_later();
        Ok(())
    }

    fn restart(&mut self, index: usize, cause: RestartCause) -> Result<(), Escalation> {
        let child = &mut self.children[index];
        if let Some(Want::Restart(_)) = child.want {
            child.not_before = Instant::now();
            return self.reconcile(index);
        }
        self.replace(index, cause, format!("restart asked for ({})", cause.as_str()))
    }

    /// A child that runs, or should, is to be replaced; it is not to blame unless `cause` says so.
    fn replace(
        &mut self,
        index: usize,
        cause: RestartCause,
        failure: String,
    ) -> Result<(), Escalation> {
        let child = &self.children[index];
        let up = matches!(child.phase, Phase::Up { .. });
        let temporary = child.slot.spec.restart == RestartType::Temporary;
        if up && (cause == RestartCause::Watchdog || temporary && cause.spends_budget()) {
            self.wait_until_gone(index, self.kill(), None);
        }
        if cause.spends_budget() {
            if temporary {
                self.leave(index, Some(failure));
                return Ok(());
            }
            self.plan(index, cause, failure)?;
        } else {
            self.want_restart(index, cause, failure, Duration::ZERO);
        }
        self.want_siblings(index);
        self.reconcile(index)
    }

    /// An actor that was linked to this supervisor has ended.
    fn exited(
        &mut self,
        actor: ActorId,
        exit: Exit,
        left_behind: Option<ractor::actor::messages::BoxedState>,
    ) -> Result<(), Escalation> {
        if let Some(index) = self.by_actor.remove(&actor) {
            return self.ended(index, exit, left_behind);
        }
        // Dropped by a task of its own, so that a panic in there is not this supervisor's (S4).
        self.tasks.spawn(async move { drop(left_behind) });
        if self.any_starting() {
            self.early.insert(actor, exit);
        }
        Ok(())
    }

    /// A child ended by itself.
    fn ended(
        &mut self,
        index: usize,
        exit: Exit,
        left_behind: Option<ractor::actor::messages::BoxedState>,
    ) -> Result<(), Escalation> {
        self.wait_until_gone(index, self.kill(), left_behind);
        match (self.children[index].slot.spec.restart, exit.failure) {
            (RestartType::Temporary, failure) => self.leave(index, failure),
            (RestartType::Transient, None) => self.leave(index, None),
            (RestartType::Transient | RestartType::Permanent, failure) => {
                let failure = failure.unwrap_or_else(|| "it stopped unasked".to_owned());
                self.plan(index, exit.cause, failure)?;
                self.want_siblings(index);
            }
        }
        self.reconcile(index)
    }

    fn up(&mut self, index: usize, attempt: u64, cause: Option<RestartCause>, actor: ActorId) {
        let (child, since) = (&mut self.children[index], Instant::now());
        child.phase = Phase::Up { actor, attempt, since };
        child.seen = None;
        child.slot.set(SlotState::Running(since));
        child.slot.note(NoteEvent::Started { attempt, cause });
        self.by_actor.insert(actor, index);
    }

    /// The child stays down.
    fn leave(&mut self, index: usize, failure: Option<String>) {
        let child = &self.children[index];
        match &failure {
            Some(failure) => {
                child.slot.failed_with(failure);
                child.slot.set(SlotState::Failed);
            }
            None => child.slot.set(SlotState::Stopped),
        }
        child.slot.note(NoteEvent::Ended { failure });
    }

    /// Pays for a restart and decides when it is (S2).
    fn plan(
        &mut self,
        index: usize,
        cause: RestartCause,
        failure: String,
    ) -> Result<(), Escalation> {
        let now = Instant::now();
        let child = &mut self.children[index];
        child.slot.failed_with(&failure);
        let own = match cause.spends_budget() {
            true => &mut child.budget,
            false => &mut child.dependency_budget,
        };
        let refused = own.as_mut().is_some_and(|own| !own.spend(now));
        let spent = if let (true, Some(own)) = (refused, &own) {
            Some((own.limit(), "its own budget"))
        } else if cause.spends_budget() && !self.budget.spend(now) {
            Some((self.budget.limit(), "the budget of its supervisor"))
        } else {
            None
        };
        if let Some((limit, whose)) = spent {
            child.slot.set(SlotState::Failed);
            return Err(Escalation(format!(
                "`{}` has spent {whose} ({} restarts in {}): {failure}",
                child.slot.spec.id,
                limit.restarts,
                span(limit.window),
            )));
        }
        let random = (child.slot.options.randomness)();
        let delay = child.slot.spec.backoff.pause(child.failures_in_row, random);
        child.failures_in_row = child.failures_in_row.saturating_add(1);
        self.want_restart(index, cause, failure, delay);
        Ok(())
    }

    fn want_restart(
        &mut self,
        index: usize,
        cause: RestartCause,
        failure: String,
        delay: Duration,
    ) {
        let child = &mut self.children[index];
        child.want = Some(Want::Restart(cause));
        child.not_before = Instant::now() + delay;
        child.slot.count(cause);
        child.slot.set(match delay.is_zero() {
            true => SlotState::Stopping,
            false => SlotState::BackingOff(child.not_before),
        });
        child.slot.note(NoteEvent::Restarting { cause, delay, failure });
        if !delay.is_zero() {
            let (myself, until) = (self.myself.clone(), child.not_before);
            self.spawn(async move {
                sleep_until(until).await;
                // Fails only when this supervisor has ended.
                let _ = myself.cast(SupervisorMessage::Wake { index });
            });
        }
    }

    /// Marks those who are restarted together with a child that failed.
    fn want_siblings(&mut self, index: usize) {
        let siblings = match self.branch().strategy {
            Strategy::OneForOne => return,
            Strategy::OneForAll => 0..self.children.len(),
            Strategy::RestForOne => index + 1..self.children.len(),
        };
        let because = format!("sibling `{}` was restarted", self.children[index].slot.spec.id);
        for sibling in siblings.filter(|sibling| *sibling != index) {
            let child = &mut self.children[sibling];
            let lives = matches!(child.phase, Phase::Up { .. } | Phase::Starting { .. });
            if !lives || child.want.is_some() {
                continue;
            }
            match child.slot.spec.restart {
                RestartType::Temporary => child.want = Some(Want::Stop),
                RestartType::Permanent | RestartType::Transient => {
                    let cause = RestartCause::Dependency;
                    self.want_restart(sibling, cause, because.clone(), Duration::ZERO);
                }
            }
        }
    }

    /// One step towards what is wanted, within the strategy scope of a child: first everything
    /// that must end does, the last one first; then, after the longest pause, the first one that
    /// is wanted starts (S3, A2).
    fn reconcile(&mut self, index: usize) -> Result<(), Escalation> {
        let scope = match self.branch().strategy {
            Strategy::OneForOne => index..index + 1,
            Strategy::OneForAll | Strategy::RestForOne => 0..self.children.len(),
        };
        let last_alive = scope.clone().rev().find(|at| {
            let child = &self.children[*at];
            child.want.is_some() && child.phase != Phase::Down
        });
        if let Some(at) = last_alive {
            match self.children[at].phase {
                Phase::Exiting | Phase::Down => {}
                Phase::Up { .. } | Phase::Starting { .. } => {
                    self.children[at].slot.set(SlotState::Stopping);
                    self.wait_until_gone(at, Ending::Stop(Some(self.cell())), None);
                }
            }
            return Ok(());
        }
        let children = &self.children[scope.clone()];
        let starting = children.iter().any(|child| matches!(child.phase, Phase::Starting { .. }));
        let due = children.iter().filter(|c| c.want.is_some()).map(|c| c.not_before).max();
        let pausing = due.is_some_and(|due| due > Instant::now());
        let first = scope.into_iter().find(|at| self.children[*at].want.is_some());
        if let (Some(first), false, false) = (first, starting, pausing) {
            self.begin_start(first);
        }
        Ok(())
    }

    fn begin_start(&mut self, index: usize) {
        let child = &mut self.children[index];
        debug_assert_eq!(child.phase, Phase::Down, "S1");
        let cause = match child.want.take() {
            Some(Want::Restart(cause)) => Some(cause),
            Some(Want::Stop) | None => None,
        };
        let cell = self.myself.get_cell();
        let (attempt, start) = child.slot.start(self.tree.clone(), cell, cause);
        child.phase = Phase::Starting { attempt, cause };
        let myself = self.myself.clone();
        self.spawn(async move {
            let result = start.await;
            // Fails only when this supervisor has ended; its successor finds the child by its slot.
            let _ = myself.cast(SupervisorMessage::StartEnded { index, attempt, result });
        });
    }

    /// Ends a child in a task that then tells this supervisor (A1).
    fn wait_until_gone(
        &mut self,
        index: usize,
        how: Ending,
        left_behind: Option<ractor::actor::messages::BoxedState>,
    ) {
        let child = &mut self.children[index];
        if let Phase::Up { actor, since, .. } = child.phase {
            self.by_actor.remove(&actor);
            if since.elapsed() >= child.slot.spec.backoff.healthy_after {
                child.failures_in_row = 0;
            }
        }
        child.phase = Phase::Exiting;
        let (slot, myself) = (Arc::clone(&child.slot), self.myself.clone());
        self.spawn(async move {
            if left_behind.is_some() {
                // A panic in there must not end this task (A1), and the successor must not meet
                // the state of its predecessor (S1).
                let _ = tokio::spawn(async move { drop(left_behind) }).await;
            }
            slot.clear(how).await;
            let _ = myself.cast(SupervisorMessage::Gone { index });
        });
    }

    fn look_later(&mut self) {
        let limits = self.children.iter().filter_map(|child| child.slot.spec.stuck_after);
        let Some(shortest) = limits.min() else { return };
        let (myself, pause) = (self.myself.clone(), (shortest / 4).clamp(LOOK_MIN, LOOK_MAX));
        self.spawn(async move {
            sleep(pause).await;
            let _ = myself.cast(SupervisorMessage::LookAtHeartbeats);
        });
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(task);
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

    fn any_starting(&self) -> bool {
        self.children.iter().any(|child| matches!(child.phase, Phase::Starting { .. }))
    }

    fn cell(&self) -> ActorCell {
        self.myself.get_cell()
    }

    fn kill(&self) -> Ending {
        Ending::Kill(Some(self.cell()))
    }
}

impl Child {
    fn new(slot: Arc<Slot>) -> Self {
        let ChildSpec { budget, dependency_budget, .. } = &slot.spec;
        let (budget, dependency_budget) =
            (budget.map(SpentBudget::new), dependency_budget.map(SpentBudget::new));
        Self {
            slot,
            phase: Phase::Down,
            want: None,
            not_before: Instant::now(),
            budget,
            dependency_budget,
            failures_in_row: 0,
            seen: None,
        }
    }
}

fn branch_of(slot: &Slot) -> &Branch {
    slot.branch.as_ref().expect("only slots of supervisors are given to this actor")
}
