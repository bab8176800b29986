//! The tree as its owner sees it: start, stop, look, ask for a restart, be told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use ractor::ActorProcessingErr;

use crate::actors::supervisor::actor::{self, SupervisorMessage};
use crate::actors::supervisor::heartbeat::Observation;
use crate::actors::supervisor::slot::{Ending, Slot, SlotState, lock};
use crate::actors::supervisor::spec::{
    ChildSpec, KILL_WAIT, RestartCause, RestartType, SpecError, StartError, Strategy,
    SupervisorSpec,
};
use crate::seams::time::{now, timeout};
use crate::seams::{Random, tasks};

/// Hears of everything that happens in a tree, for metrics. It is called inside supervisors: it
/// must be quick, and must not panic.
pub type Observer = Arc<dyn Fn(&SupervisionNote<'_>) + Send + Sync>;

/// Sees the error of every actor that fails, or fails to start, before budgets are asked: what no
/// restart repairs can be told from here to whoever ends the process. As quick as an [`Observer`].
pub type FailureObserver = Arc<dyn Fn(&(dyn std::error::Error + 'static)) + Send + Sync>;

/// What a tree gets from outside.
#[derive(Clone)]
pub struct TreeOptions {
    /// Where jitter comes from.
    pub random: Random,
    /// Who is told.
    pub observer: Observer,
    /// Who sees the errors.
    pub failures: FailureObserver,
}

impl Default for TreeOptions {
    /// The system's randomness, no observers.
    fn default() -> Self {
        let failures = Arc::new(|_: &(dyn std::error::Error + 'static)| ());
        Self { random: Random::system(), observer: Arc::new(|_| ()), failures }
    }
}

impl TreeOptions {
    /// Logs once, here, and tells the observer.
    pub(super) fn note(&self, path: &str, event: NoteEvent) {
        match &event {
            NoteEvent::Started { attempt, .. } => tracing::debug!(path, attempt, "child started"),
            NoteEvent::Restarting { cause, delay, failure } => {
                let (cause, delay_ms) = (cause.as_str(), delay.as_millis());
                tracing::warn!(path, cause, delay_ms, failure, "child is being restarted");
            }
            NoteEvent::Killed { why } => tracing::warn!(path, ?why, "child killed"),
            NoteEvent::Ended { failure } => {
                tracing::info!(path, failure, "child ended and is not restarted");
            }
            NoteEvent::Stopped => tracing::debug!(path, "child stopped"),
            NoteEvent::Abandoned => {
                tracing::error!(path, "child is not gone after its kill; stopping without it");
            }
            NoteEvent::Escalated { reason } => {
                tracing::error!(path, reason, "supervisor gives up");
            }
        }
        (self.observer)(&SupervisionNote { path, event });
    }
}

/// Something happened in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisionNote<'a> {
    /// To whom.
    pub path: &'a str,
    /// What.
    pub event: NoteEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoteEvent {
    /// The child runs.
    Started {
        /// See [`StartContext::attempt`](crate::actors::supervisor::StartContext::attempt).
        attempt: u64,
        /// `None` at the first start under its supervisor.
        cause: Option<RestartCause>,
    },
    /// The child will be started again. One of these for each restart, counted in
    /// [`TreeNode::restarts`].
    Restarting {
        /// Why.
        cause: RestartCause,
        /// The pause before it.
        delay: Duration,
        /// What went wrong.
        failure: String,
    },
    /// The child did not end by itself.
    Killed {
        /// Why.
        why: KillReason,
    },
    /// The child ended by itself and its restart type leaves it so.
    Ended {
        /// `None` for a clean stop.
        failure: Option<String>,
    },
    /// The child was stopped with its supervisor, and is gone.
    Stopped,
    /// The child survived its kill, and its supervisor stopped without waiting any longer.
    Abandoned,
    /// The supervisor at this path has spent a budget. It stops its children and fails.
    Escalated {
        /// Which budget, and the last failure.
        reason: String,
    },
}

/// Why a child was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// Its stop took longer than its shutdown timeout.
    ShutdownTimeout,
    /// Its handler ran longer than its `stuck_after`.
    Stuck,
}

/// A supervision tree: what it should be, and how it is. Cheap to clone.
#[derive(Clone)]
pub struct Tree {
    root: Arc<Slot>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("root", &self.root.path).finish_non_exhaustive()
    }
}

impl Tree {
    /// A tree that does not run yet, but can be looked at.
    ///
    /// # Errors
    /// When the ids in the spec do not make unambiguous paths.
    pub fn new(spec: SupervisorSpec, options: TreeOptions) -> Result<Self, SpecError> {
        spec.check()?;
        Ok(Self { root: Slot::new(None, ChildSpec::supervisor(spec), &options) })
    }

    /// Starts all children in order and returns when all run but those in the background. Ends a root
    /// of this tree that still runs.
    ///
    /// # Errors
    /// When a child cannot be started and the budget for trying again is spent. What had started
    /// is stopped by then.
    pub async fn start(&self) -> Result<RootHandle, StartError> {
        self.root.clear(Ending::Kill(None)).await;
        self.root.set(SlotState::Starting);
        let started = match actor::start_root(self.clone(), Arc::clone(&self.root)).await {
            Ok(started) => started,
            Err(error) => {
                self.root.failed_with(&error.to_string());
                self.root.set(SlotState::Failed);
                return Err(error);
            }
        };
        let gone = self.root.adopt(started);
        self.root.set(SlotState::Running(now()));
        let guard = tasks::spawn(guard(Arc::clone(&self.root), gone));
        let path = Arc::clone(&self.root.path);
        let outcome = guard.map(move |end| {
            end.unwrap_or_else(|lost| Err(GaveUp { path, reason: lost.to_string() }))
        });
        Ok(RootHandle { root: Arc::clone(&self.root), outcome: outcome.boxed().shared() })
    }

    /// How the tree is now. Reads shared memory only, so it answers whatever hangs (S5).
    pub fn snapshot(&self) -> TreeNode {
        self.root.snapshot(now())
    }

    /// Readiness: every permanent child runs, and every transient one runs or is done. Temporary
    /// children do not count.
    pub fn all_running(&self) -> bool {
        self.root.all_running()
    }

    /// Asks for the replacement of a child, by path. It is stopped in order and started at once;
    /// siblings follow as the strategy says. Returns before that has happened.
    ///
    /// `Operator` and `Dependency` spend no budget; the other causes spend as if the child had
    /// failed by itself. A child that waits to be restarted anyway is restarted now, once.
    ///
    /// # Errors
    /// When there is no such child, or its supervisor does not run.
    pub fn restart_child(&self, path: &str, cause: RestartCause) -> Result<(), RestartError> {
        let unknown = || RestartError::UnknownChild(path.to_owned());
        let (mut ids, mut at) = (path.split('/'), &self.root);
        if ids.next() != Some(at.spec.id.as_ref()) {
            return Err(unknown());
        }
        let mut last = None;
        for id in ids {
            let branch = at.branch.as_ref().ok_or_else(unknown)?;
            let found = branch.children.iter().enumerate().find(|(_, child)| child.spec.id == id);
            let (index, child) = found.ok_or_else(unknown)?;
            last = Some((branch, index));
            at = child;
        }
        // The root is its owner's to restart.
        let (branch, index) = last.ok_or_else(unknown)?;
        let supervisor = lock(&branch.actor).clone();
        supervisor
            .and_then(|actor| actor.cast(SupervisorMessage::Restart { index, cause }).ok())
            .ok_or_else(|| RestartError::SupervisorDown(path.to_owned()))
    }

    /// An actor failed with this error.
    pub(super) fn failed(&self, error: &ActorProcessingErr) {
        (self.root.options.failures)(error.as_ref());
    }

    pub(super) fn running_handlers(&self) -> Vec<Observation> {
        let mut running = Vec::new();
        self.root.running_handlers(&mut running);
        running
    }
}

/// Waits for the end of the root and cleans up after it. A task of its own, because the owner may
/// wait late or never.
async fn guard(root: Arc<Slot>, gone: Shared<BoxFuture<'static, ()>>) -> Result<(), GaveUp> {
    gone.await;
    // Bounded: a blocked thread must not keep the owner from ending the process.
    if timeout(KILL_WAIT, root.clear(Ending::Kill(None))).await.is_err() {
        root.note(NoteEvent::Abandoned);
    }
    let said = root.branch.as_ref().and_then(|branch| lock(&branch.outcome).take());
    match said.unwrap_or_else(|| Err("it crashed or was killed".to_owned())) {
        Ok(()) => {
            root.set(SlotState::Stopped);
            Ok(())
        }
        Err(reason) => {
            root.failed_with(&reason);
            root.set(SlotState::Failed);
            Err(GaveUp { path: Arc::clone(&root.path), reason })
        }
    }
}

/// The running root of a tree. Dropping it stops nothing.
#[derive(Clone)]
pub struct RootHandle {
    root: Arc<Slot>,
    outcome: Shared<BoxFuture<'static, Result<(), GaveUp>>>,
}

impl RootHandle {
    /// Waits until the root and all below it are gone.
    ///
    /// # Errors
    /// When it gave up or crashed; the process should then exit non-zero.
    pub async fn wait(&self) -> Result<(), GaveUp> {
        self.outcome.clone().await
    }

    /// Stops the tree in reverse order and waits for it.
    ///
    /// # Errors
    /// When it gave up or crashed before, or did not stop in the time that its spec allows.
    pub async fn stop(&self) -> Result<(), GaveUp> {
        self.root.set(SlotState::Stopping);
        let limit = self.root.spec.shutdown_timeout() + KILL_WAIT;
        // The outcome tells what happened.
        let _ = timeout(limit, self.root.clear(Ending::Stop(None))).await;
        self.wait().await
    }
}

/// The root has spent its budget, or crashed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("supervisor `{path}` gave up: {reason}")]
pub struct GaveUp {
    /// The root.
    pub path: Arc<str>,
    /// The chain of failures that led there.
    pub reason: String,
}

/// Why a restart cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    /// No child has this path. The root is nobody's child.
    #[error("no child has the path `{0}`")]
    UnknownChild(String),
    /// Its supervisor is not running, so it will be started anew, if at all, with its supervisor.
    #[error("the supervisor of `{0}` does not run")]
    SupervisorDown(String),
}

/// One node of the live view.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TreeNode {
    /// Its name among its siblings.
    pub id: String,
    /// From the root, joined by slashes.
    pub path: String,
    /// What it is.
    pub kind: NodeKind,
    /// Of a supervisor.
    pub strategy: Option<Strategy>,
    /// When it is started again.
    pub restart: RestartType,
    /// How it is.
    #[serde(flatten)]
    pub state: NodeState,
    /// Restarts since the tree was made, by cause.
    pub restarts: Restarts,
    /// At most 300 characters; stays when it runs again.
    pub last_failure: Option<String>,
    /// Milliseconds since it was started, while it runs.
    pub running_for_ms: Option<u64>,
    /// In the order of the spec.
    pub children: Vec<TreeNode>,
}

impl TreeNode {
    /// The node at `path`, this one included.
    pub fn find(&self, path: &str) -> Option<&TreeNode> {
        if self.path == path {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(path))
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Has children.
    Supervisor,
    /// Does work.
    Worker,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum NodeState {
    /// Its start is under way.
    Starting,
    /// It serves.
    Running,
    /// It failed and waits for its next start.
    BackingOff {
        /// Milliseconds from now until then.
        until_ms: u64,
    },
    /// It was told to end, or it failed, and is not gone yet.
    Stopping,
    /// It does not run, and that is as it should be.
    Stopped,
    /// It does not run, because it failed and nobody restarts it.
    Failed,
}

/// Restarts by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Restarts {
    /// See [`RestartCause::Crash`].
    pub crash: u64,
    /// See [`RestartCause::Dependency`].
    pub dependency: u64,
    /// See [`RestartCause::Watchdog`].
    pub watchdog: u64,
    /// See [`RestartCause::Operator`].
    pub operator: u64,
    /// See [`RestartCause::StartFailure`].
    pub start_failure: u64,
}

impl Restarts {
    pub(super) fn add(&mut self, cause: RestartCause) {
        match cause {
            RestartCause::Crash => self.crash += 1,
            RestartCause::Dependency => self.dependency += 1,
            RestartCause::Watchdog => self.watchdog += 1,
            RestartCause::Operator => self.operator += 1,
            RestartCause::StartFailure => self.start_failure += 1,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.crash + self.dependency + self.watchdog + self.operator + self.start_failure
    }
}
