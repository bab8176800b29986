//! The life of the tree outside its actors.
//!
//! **Owns** for every child a slot: its spec, its status for the live view, and the list of its
//! generations that are not gone yet. A supervisor that fails loses its state and kills its children
//! without waiting for them; the slot outlives it, so that whoever comes next can wait (S1).
//!
//! The locks here are std locks: the live view must be readable without asking an actor (S5), and
//! no lock is held across an await.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use ractor::{ActorCell, ActorRef, ActorStatus};
use tokio::task::AbortHandle;

use crate::actors::supervisor::actor::{self, SupervisorMessage};
use crate::actors::supervisor::budget::RestartBudget;
use crate::actors::supervisor::heartbeat::{Heartbeat, Observation};
use crate::actors::supervisor::spec::{
    ChildKind, ChildSpec, RestartCause, RestartType, StartContext, StartError, Started, Strategy,
};
use crate::actors::supervisor::tree::{
    KillReason, NodeKind, NodeState, NoteEvent, Restarts, Tree, TreeNode, TreeOptions,
};
use crate::seams::tasks;
use crate::seams::time::{Instant, timeout};

/// Longest failure text kept, in characters: a view of thousands of children must stay small.
const FAILURE_CHARS_MAX: usize = 300;

/// One child of the tree, or its root.
pub(super) struct Slot {
    pub(super) path: Arc<str>,
    pub(super) spec: ChildSpec,
    /// What is below, when it is a supervisor.
    pub(super) branch: Option<Branch>,
    pub(super) options: TreeOptions,
    status: Mutex<Status>,
    /// Every generation that may still be alive; more than one only after a failed clean-up.
    generations: Mutex<Vec<Generation>>,
    attempts: AtomicU64,
}

/// The part of a slot that only supervisors have.
pub(super) struct Branch {
    pub(super) strategy: Strategy,
    pub(super) budget: RestartBudget,
    pub(super) children: Vec<Arc<Slot>>,
    /// The supervisor of the present generation, to send it requests.
    pub(super) actor: Mutex<Option<ActorRef<SupervisorMessage>>>,
    /// How the present generation ended, if it could say so.
    pub(super) outcome: Mutex<Option<Result<(), String>>>,
}

type SharedStart = Shared<BoxFuture<'static, Result<ActorCell, StartError>>>;

#[derive(Clone)]
struct Generation {
    attempt: u64,
    heartbeat: Heartbeat,
    /// The task that starts it; `None` for the root, which its owner starts.
    start: Option<(AbortHandle, SharedStart)>,
    running: Option<Running>,
}

#[derive(Clone)]
struct Running {
    cell: ActorCell,
    /// Resolves when the actor's task is over and its state dropped.
    gone: Shared<BoxFuture<'static, ()>>,
}

struct Status {
    state: SlotState,
    restarts: Restarts,
    last_failure: Option<String>,
}

/// [`NodeState`], with instants instead of spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    Starting,
    Running(Instant),
    BackingOff(Instant),
    Stopping,
    Stopped,
    Failed,
}

/// How a generation is to end.
#[derive(Clone)]
pub(super) enum Ending {
    /// Stop, and kill when the shutdown timeout has passed. It is unlinked from the given
    /// supervisor first, so that its state is dropped by its own task rather than travel in an
    /// event that is read later or never.
    Stop(Option<ActorCell>),
    /// Kill now, unlinked likewise. Harmless when it is dead already.
    Kill(Option<ActorCell>),
}

impl Slot {
    pub(super) fn new(parent: Option<&str>, spec: ChildSpec, options: &TreeOptions) -> Arc<Self> {
        let path: Arc<str> = match parent {
            Some(parent) => format!("{parent}/{}", spec.id).into(),
            None => spec.id.as_ref().into(),
        };
        let branch = match &spec.kind {
            ChildKind::Worker(_) => None,
            ChildKind::Supervisor(below) => Some(Branch {
                strategy: below.strategy,
                budget: below.budget,
                children: below
                    .children
                    .iter()
                    .map(|child| Self::new(Some(&path), child.clone(), options))
                    .collect(),
                actor: Mutex::new(None),
                outcome: Mutex::new(None),
            }),
        };
        let status =
            Status { state: SlotState::Stopped, restarts: Restarts::default(), last_failure: None };
        Arc::new(Self {
            path,
            spec,
            branch,
            options: options.clone(),
            status: Mutex::new(status),
            generations: Mutex::new(Vec::new()),
            attempts: AtomicU64::new(0),
        })
    }

    /// Begins a start and returns its number and what becomes of it. The start goes on when the
    /// returned future is dropped; [`Slot::clear`] ends it.
    pub(super) fn start(
        self: &Arc<Self>,
        tree: Tree,
        supervisor: ActorCell,
        cause: Option<RestartCause>,
    ) -> (u64, impl Future<Output = Result<ActorCell, StartError>> + Send + 'static) {
        self.set(SlotState::Starting);
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let heartbeat = Heartbeat::default();
        let ctx = StartContext {
            supervisor,
            tree,
            path: Arc::clone(&self.path),
            cause,
            attempt,
            heartbeat: heartbeat.clone(),
        };
        // Held until the generation is listed, so that the task cannot look for it before.
        let mut generations = lock(&self.generations);
        let task = tasks::spawn(Arc::clone(self).run_start(ctx));
        let abort = task.abort_handle();
        let flat =
            task.map(|end| end.unwrap_or_else(|lost| Err(StartError::Lost(lost.to_string()))));
        let start: SharedStart = flat.boxed().shared();
        generations.push(Generation {
            attempt,
            heartbeat,
            start: Some((abort, start.clone())),
            running: None,
        });
        (attempt, start)
    }

    async fn run_start(self: Arc<Self>, ctx: StartContext) -> Result<ActorCell, StartError> {
        let (attempt, supervisor) = (ctx.attempt, ctx.supervisor.clone());
        let starting = match &self.spec.kind {
            ChildKind::Worker(start) => start(ctx),
            ChildKind::Supervisor(_) => actor::start_linked(Arc::clone(&self), ctx).boxed(),
        };
        let started = match self.spec.start_timeout {
            Some(limit) => {
                timeout(limit, starting).await.map_err(|_| StartError::TimedOut(limit))??
            }
            None => starting.await?,
        };
        // No await from here on: an abort must find the actor either listed or never spawned.
        let cell = started.cell.clone();
        let by = cell.try_get_supervisor();
        // One that ended already was unlinked by its own end; its event is on the way.
        let linked = by == Some(supervisor) || cell.get_status() >= ActorStatus::Stopping;
        self.list(attempt, started);
        match linked {
            true => Ok(cell),
            false => Err(StartError::NotLinked),
        }
    }

    /// Lists the root, which has no supervisor and is started by its owner's own task.
    pub(super) fn adopt(&self, started: Started) -> Shared<BoxFuture<'static, ()>> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let running = Running::new(started);
        let gone = running.gone.clone();
        let heartbeat = Heartbeat::default();
        let running = Some(running);
        lock(&self.generations).push(Generation { attempt, heartbeat, start: None, running });
        gone
    }

    fn list(&self, attempt: u64, started: Started) {
        let mut generations = lock(&self.generations);
        let found = generations.iter_mut().find(|generation| generation.attempt == attempt);
        debug_assert!(found.is_some(), "S1: a start that runs is listed");
        if let Some(generation) = found {
            generation.running = Some(Running::new(started));
        }
    }

    /// Ends every generation and waits until all are gone, subtrees included. Never returns while
    /// one of them blocks its thread.
    pub(super) async fn clear(&self, how: Ending) {
        loop {
            let last = lock(&self.generations).last().cloned();
            let Some(generation) = last else { break };
            match (generation.running, generation.start) {
                (Some(running), _) => self.end(running, &how).await,
                (None, Some((abort, start))) => {
                    abort.abort();
                    // Its failure is reported by whoever asked for the start.
                    let _ = start.await;
                    if self.is_up(generation.attempt) {
                        // It came up before the abort; the next round ends it.
                        continue;
                    }
                }
                (None, None) => {}
            }
            lock(&self.generations).retain(|other| other.attempt != generation.attempt);
        }
        if let Some(branch) = &self.branch {
            branch.reap().await;
        }
    }

    fn is_up(&self, attempt: u64) -> bool {
        let generations = lock(&self.generations);
        let found = generations.iter().find(|generation| generation.attempt == attempt);
        found.is_some_and(|generation| generation.running.is_some())
    }

    async fn end(&self, running: Running, how: &Ending) {
        match how {
            Ending::Kill(supervisor) => running.kill(supervisor.as_ref()),
            Ending::Stop(supervisor) => {
                running.unlink(supervisor.as_ref());
                running.cell.stop(None);
                if timeout(self.spec.shutdown_timeout(), running.gone.clone()).await.is_err() {
                    self.note(NoteEvent::Killed { why: KillReason::ShutdownTimeout });
                    running.cell.kill();
                }
            }
        }
        running.gone.await;
    }

    fn kill_all(&self) {
        for generation in lock(&self.generations).iter() {
            match (&generation.running, &generation.start) {
                (Some(running), _) => running.kill(None),
                (None, Some((abort, _))) => abort.abort(),
                (None, None) => {}
            }
        }
    }

    pub(super) fn set(&self, state: SlotState) {
        lock(&self.status).state = state;
    }

    /// Like [`Slot::set`], but a failure stays visible.
    pub(super) fn set_unless_failed(&self, state: SlotState) {
        let mut status = lock(&self.status);
        if status.state != SlotState::Failed {
            status.state = state;
        }
    }

    pub(super) fn failed_with(&self, failure: &str) {
        lock(&self.status).last_failure = Some(bounded(failure));
    }

    pub(super) fn count(&self, cause: RestartCause) {
        lock(&self.status).restarts.add(cause);
    }

    pub(super) fn note(&self, event: NoteEvent) {
        self.options.note(&self.path, event);
    }

    /// The number that stands for the handler which `attempt` runs now, if it runs one.
    pub(super) fn running_handler(&self, attempt: u64) -> Option<u64> {
        let generations = lock(&self.generations);
        let generation = generations.iter().find(|generation| generation.attempt == attempt)?;
        generation.heartbeat.running()
    }

    pub(super) fn running_handlers(&self, into: &mut Vec<Observation>) {
        if let Some(stuck_after) = self.spec.stuck_after {
            for generation in lock(&self.generations).iter() {
                if let Some(running) = generation.heartbeat.running() {
                    let (path, attempt) = (Arc::clone(&self.path), generation.attempt);
                    into.push(Observation { path, attempt, running, stuck_after });
                }
            }
        }
        for child in self.branch.iter().flat_map(|branch| &branch.children) {
            child.running_handlers(into);
        }
    }

    /// The state, corrected by what the actor says of itself: its supervisor may not have heard of
    /// its end yet, or may be dead too.
    fn present_state(&self) -> SlotState {
        let state = lock(&self.status).state;
        let alive = || {
            lock(&self.generations).last().is_some_and(|last| {
                last.running
                    .as_ref()
                    .is_some_and(|running| running.cell.get_status() < ActorStatus::Stopping)
            })
        };
        match state {
            SlotState::Running(_) if !alive() => SlotState::Stopped,
            SlotState::Running(_)
            | SlotState::Starting
            | SlotState::BackingOff(_)
            | SlotState::Stopping
            | SlotState::Stopped
            | SlotState::Failed => state,
        }
    }

    /// Whether it and everything below it serve.
    pub(super) fn all_running(&self) -> bool {
        let state = self.present_state();
        let runs = matches!(state, SlotState::Running(_));
        match self.spec.restart {
            RestartType::Temporary => return true,
            RestartType::Transient if state == SlotState::Stopped => {
                return lock(&self.generations).is_empty();
            }
            RestartType::Transient | RestartType::Permanent => {}
        }
        runs && self.branch.iter().flat_map(|branch| &branch.children).all(|c| c.all_running())
    }

    pub(super) fn snapshot(&self, now: Instant) -> TreeNode {
        let state = self.present_state();
        let (restarts, last_failure) = {
            let status = lock(&self.status);
            (status.restarts, status.last_failure.clone())
        };
        let running_for = match state {
            SlotState::Running(since) => Some(now.duration_since(since)),
            _ => None,
        };
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        TreeNode {
            id: self.spec.id.to_string(),
            path: self.path.to_string(),
            kind: match self.branch {
                Some(_) => NodeKind::Supervisor,
                None => NodeKind::Worker,
            },
            strategy: self.branch.as_ref().map(|branch| branch.strategy),
            restart: self.spec.restart,
            state: match state {
                SlotState::Starting => NodeState::Starting,
                SlotState::Running(_) => NodeState::Running,
                SlotState::BackingOff(until) => {
                    NodeState::BackingOff { until_ms: millis(until.duration_since(now)) }
                }
                SlotState::Stopping => NodeState::Stopping,
                SlotState::Stopped => NodeState::Stopped,
                SlotState::Failed => NodeState::Failed,
            },
            restarts,
            last_failure,
            running_for_ms: running_for.map(millis),
            children: match &self.branch {
                Some(branch) => branch.children.iter().map(|c| c.snapshot(now)).collect(),
                None => Vec::new(),
            },
        }
    }
}

impl Branch {
    /// Kills whatever an earlier generation of this supervisor left behind and waits until it is
    /// gone. Boxed, because it goes down the tree.
    pub(super) fn reap(&self) -> BoxFuture<'_, ()> {
        async move {
            for child in &self.children {
                child.kill_all();
            }
            for child in self.children.iter().rev() {
                child.clear(Ending::Kill(None)).await;
                child.set_unless_failed(SlotState::Stopped);
            }
        }
        .boxed()
    }
}

impl Running {
    fn new(started: Started) -> Self {
        let cell = started.cell.clone();
        let gone = async move {
            match started.join {
                // A panic while the state is dropped ends the task like anything else.
                Some(join) => drop(join.await),
                // Without a timeout it cannot fail.
                None => drop(started.cell.wait(None).await),
            }
        };
        Self { cell, gone: gone.boxed().shared() }
    }

    fn unlink(&self, supervisor: Option<&ActorCell>) {
        if let Some(supervisor) = supervisor {
            self.cell.unlink(supervisor.clone());
        }
    }

    fn kill(&self, supervisor: Option<&ActorCell>) {
        self.unlink(supervisor);
        self.cell.kill();
    }
}

/// A panic elsewhere must not take the view or the clean-up with it: every value under these locks
/// is valid between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(FAILURE_CHARS_MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}
