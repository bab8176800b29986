//! What a supervisor does with its children, one step at a time. Nothing here waits: each step
//! changes phases and hands what takes time to a task, which reports by a message.

use std::sync::Arc;
use std::time::Duration;

use ractor::actor::messages::BoxedState;
use ractor::{ActorCell, ActorId};

use crate::actors::supervisor::actor::{Escalation, State, SupervisorMessage};
use crate::actors::supervisor::budget::SpentBudget;
use crate::actors::supervisor::slot::{Ending, Slot, SlotState};
use crate::actors::supervisor::spec::{ChildSpec, RestartCause, RestartType, StartError, Strategy};
use crate::actors::supervisor::table::span;
use crate::actors::supervisor::tree::{KillReason, NoteEvent};
use crate::seams::tasks;
use crate::seams::time::{Instant, now, sleep, sleep_until};

/// Bounds of the time between two looks at the heartbeats: a quarter of the shortest limit, but
/// neither a busy loop nor so long that a restart by watchdog surprises a reader of the metrics.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);

pub(super) struct Child {
    pub(super) slot: Arc<Slot>,
    pub(super) phase: Phase,
    pub(super) want: Option<Want>,
    /// No start before this.
    pub(super) not_before: Instant,
    pub(super) budget: Option<SpentBudget>,
    pub(super) dependency_budget: Option<SpentBudget>,
    pub(super) failures_in_row: u32,
    /// The running handler seen by the last look, and when it was seen first.
    pub(super) seen: Option<(u64, Instant)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
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
pub(super) enum Want {
    Restart(RestartCause),
    /// A temporary sibling in a strategy that restarts it: it only ends.
    Stop,
}

pub(super) struct Exit {
    /// `None`: it stopped cleanly.
    pub(super) failure: Option<String>,
    pub(super) cause: RestartCause,
}

impl State {
    pub(super) fn start_ended(
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

    pub(super) fn gone(&mut self, index: usize) -> Result<(), Escalation> {
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

    pub(super) fn look_at_heartbeats(&mut self) -> Result<(), Escalation> {
        let now = now();
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

    pub(super) fn restart(&mut self, index: usize, cause: RestartCause) -> Result<(), Escalation> {
        let child = &mut self.children[index];
        if let Some(Want::Restart(_)) = child.want {
            child.not_before = now();
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
    pub(super) fn exited(
        &mut self,
        actor: ActorId,
        exit: Exit,
        left_behind: Option<BoxedState>,
    ) -> Result<(), Escalation> {
        if let Some(index) = self.by_actor.remove(&actor) {
            return self.ended(index, exit, left_behind);
        }
        // Dropped by a task of its own, so that a panic in there is not this supervisor's (S4).
        tasks::spawn_in(&mut self.tasks, async move { drop(left_behind) });
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
        left_behind: Option<BoxedState>,
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

    pub(super) fn up(
        &mut self,
        index: usize,
        attempt: u64,
        cause: Option<RestartCause>,
        actor: ActorId,
    ) {
        let (child, since) = (&mut self.children[index], now());
        child.phase = Phase::Up { actor, attempt, since };
        child.seen = None;
        child.slot.set(SlotState::Running(since));
        child.slot.note(NoteEvent::Started { attempt, cause });
        self.by_actor.insert(actor, index);
    }

    /// The child stays down.
    pub(super) fn leave(&mut self, index: usize, failure: Option<String>) {
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
    pub(super) fn plan(
        &mut self,
        index: usize,
        cause: RestartCause,
        failure: String,
    ) -> Result<(), Escalation> {
        let now = now();
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
        let random = child.slot.options.random.any();
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
        child.not_before = now() + delay;
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
    pub(super) fn reconcile(&mut self, index: usize) -> Result<(), Escalation> {
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
        let pausing = due.is_some_and(|due| due > now());
        let first = scope.into_iter().find(|at| self.children[*at].want.is_some());
        if let (Some(first), false, false) = (first, starting, pausing) {
            self.begin_start(first);
        }
        Ok(())
    }

    /// Starts a child in a task that then tells this supervisor.
    pub(super) fn begin_start(&mut self, index: usize) {
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
    fn wait_until_gone(&mut self, index: usize, how: Ending, left_behind: Option<BoxedState>) {
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
                let _ = tasks::spawn(async move { drop(left_behind) }).await;
            }
            slot.clear(how).await;
            let _ = myself.cast(SupervisorMessage::Gone { index });
        });
    }

    pub(super) fn look_later(&mut self) {
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
        tasks::spawn_in(&mut self.tasks, task);
    }

    fn any_starting(&self) -> bool {
        self.children.iter().any(|child| matches!(child.phase, Phase::Starting { .. }))
    }
}

impl Child {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        let ChildSpec { budget, dependency_budget, .. } = &slot.spec;
        let (budget, dependency_budget) =
            (budget.map(SpentBudget::new), dependency_budget.map(SpentBudget::new));
        Self {
            slot,
            phase: Phase::Down,
            want: None,
            not_before: now(),
            budget,
            dependency_budget,
            failures_in_row: 0,
            seen: None,
        }
    }
}
