//! What a supervision tree is made of, as data: nothing here runs.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::task::JoinHandle;

use crate::actors::supervisor::budget::{Backoff, RestartBudget};
use crate::actors::supervisor::heartbeat::Heartbeat;
use crate::actors::supervisor::tree::Tree;

/// Time a worker gets to stop before it is killed: a shard's last commit and checkpoint take well
/// under a second, a slow disk a few.
const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);

/// Time a killed child gets to be gone before a *stopping* supervisor goes on without it. A kill
/// works at the next await; only a blocked thread takes longer, and waiting for that would hang
/// the shutdown of the whole process. A restart waits without limit instead (S1).
pub(super) const KILL_WAIT: Duration = Duration::from_secs(2);

/// When a child that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartType {
    /// Always, also after a clean stop.
    Permanent,
    /// Only after a failure; a clean stop means that it is done.
    Transient,
    /// Never. Its failures touch nobody else either.
    Temporary,
}

/// Which siblings are restarted together with a failed child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// None.
    OneForOne,
    /// All.
    OneForAll,
    /// Those after it in the order of the spec.
    RestForOne,
}

/// Why a child is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartCause {
    /// It ended by itself: panic, `Err`, kill from outside, or an unexpected clean stop.
    Crash,
    /// Something it needs was restarted: a sibling by strategy, or what
    /// [`Tree::restart_child`] was told.
    Dependency,
    /// Its handler ran longer than [`ChildSpec::stuck_after`].
    Watchdog,
    /// A person asked for it.
    Operator,
    /// It could not be started.
    StartFailure,
}

impl RestartCause {
    /// All causes, in the order of their counters.
    pub const ALL: [Self; 5] =
        [Self::Crash, Self::Dependency, Self::Watchdog, Self::Operator, Self::StartFailure];

    /// The value of the `cause` field in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Dependency => "dependency",
            Self::Watchdog => "watchdog",
            Self::Operator => "operator",
            Self::StartFailure => "start_failure",
        }
    }

    /// Whether the child itself is to blame, so that its budget and its supervisor's pay.
    pub(super) fn spends_budget(self) -> bool {
        match self {
            Self::Crash | Self::Watchdog | Self::StartFailure => true,
            Self::Dependency | Self::Operator => false,
        }
    }
}

/// The error with which an actor says that not itself but something it needs has failed, so that
/// the restart has the cause `dependency` and spends [`ChildSpec::dependency_budget`] instead of
/// the child's budget. Found anywhere in the source chain of what `handle` or `pre_start` returns.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{on}`, which it depends on, failed")]
pub struct DependencyFailed {
    /// What failed, by path or name.
    pub on: String,
}

/// Why a child did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// It said no, or panicked in `pre_start`.
    #[error("{0}")]
    Failed(String),
    /// Something it needs is not there ([`DependencyFailed`]).
    #[error("{0}")]
    Dependency(String),
    /// It took longer than [`ChildSpec::start_timeout`].
    #[error("did not start within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The start closure itself panicked or was cancelled.
    #[error("the start function ended without a result: {0}")]
    Lost(String),
    /// The closure returned an actor that is not linked to [`StartContext::supervisor`], of which
    /// the supervisor would never hear again.
    #[error("the started actor is not linked to its supervisor")]
    NotLinked,
}

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        match error {
            SpawnErr::StartupFailed(inner) if depends(&inner) => Self::Dependency(text_of(&inner)),
            SpawnErr::StartupFailed(inner) => Self::Failed(text_of(&inner)),
            SpawnErr::ActorAlreadyStarted | SpawnErr::ActorAlreadyRegistered(_) => {
                Self::Failed(error.to_string())
            }
        }
    }
}

/// Whether [`DependencyFailed`] is in the source chain.
pub(super) fn depends(error: &ActorProcessingErr) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = next {
        if error.is::<DependencyFailed>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error and its sources in one line.
pub(super) fn text_of(error: &ActorProcessingErr) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// What a start closure is told.
#[derive(Clone)]
pub struct StartContext {
    /// Whom to link with, through ractor's `spawn_linked`.
    pub supervisor: ActorCell,
    /// The whole tree, for a child that has to ask for the restart of others.
    pub tree: Tree,
    /// From the root, such as `quire/node/services/post/post-0/shard`.
    pub path: Arc<str>,
    /// Why there is a restart; `None` at the first start under this supervisor.
    pub cause: Option<RestartCause>,
    /// 1 for the first start of this child in the life of the tree, then counting up, failed
    /// attempts included. Never repeats, so it can fence off older generations.
    pub attempt: u64,
    /// To be marked busy while a handler runs; read only if [`ChildSpec::stuck_after`] is set.
    pub heartbeat: Heartbeat,
}

/// A child that runs.
pub struct Started {
    pub(super) cell: ActorCell,
    pub(super) join: Option<JoinHandle<()>>,
}

/// Without the join handle the supervisor can wait only until the actor says that it stopped; its
/// `State` may be dropped a little later. Prefer the pair that `spawn_linked` returns when the
/// state holds files or locks that the replacement needs.
impl From<ActorCell> for Started {
    fn from(cell: ActorCell) -> Self {
        Self { cell, join: None }
    }
}

impl<M> From<(ActorRef<M>, JoinHandle<()>)> for Started {
    fn from((actor, join): (ActorRef<M>, JoinHandle<()>)) -> Self {
        Self { cell: actor.get_cell(), join: Some(join) }
    }
}

/// Starts one generation of a child.
///
/// It must not await anything after `spawn_linked` returned: a supervisor that gives up on the
/// start drops the future, and would not know of an actor that already runs.
pub(super) type StartFn =
    Arc<dyn Fn(StartContext) -> BoxFuture<'static, Result<Started, StartError>> + Send + Sync>;

/// What a child is.
#[derive(Clone)]
pub(super) enum ChildKind {
    Worker(StartFn),
    Supervisor(Box<SupervisorSpec>),
}

/// One child, as data. Made by [`ChildSpec::actor`], [`ChildSpec::worker`] or
/// [`ChildSpec::supervisor`]; the fields are then set as needed.
#[derive(Clone)]
pub struct ChildSpec {
    /// Its name among its siblings; becomes a part of paths, metrics and logs.
    pub id: Cow<'static, str>,
    /// When it is started again. Default: permanent.
    pub restart: RestartType,
    /// How long a stop may take before it becomes a kill. `None`: 5 s for a worker; for a
    /// supervisor the sum of what its children may take, so that it is never cut short.
    pub shutdown: Option<Duration>,
    /// Its own budget, besides its supervisor's. `None`: only the supervisor's counts.
    pub budget: Option<RestartBudget>,
    /// What failures with the cause `dependency` spend. `None`: nothing; the back-off alone slows
    /// them down and the budget of what it depends on bounds them.
    pub dependency_budget: Option<RestartBudget>,
    /// The pause before its second and later restarts.
    pub backoff: Backoff,
    /// How long a handler may run before the child is killed and replaced. Noticed within a
    /// quarter of it. Needs a child that marks its [`Heartbeat`].
    pub stuck_after: Option<Duration>,
    /// How long a start may take.
    pub start_timeout: Option<Duration>,
    /// Its siblings do not wait for its first start: it takes long, and they do without it. A start that
    /// fails is tried again as after a crash. Only below a one-for-one supervisor.
    pub in_background: bool,
    pub(super) kind: ChildKind,
}

impl ChildSpec {
    /// A permanent child started by a closure of the caller's.
    ///
    /// The closure must link the actor to [`StartContext::supervisor`] and return right after.
    pub fn worker<F, Fut>(id: impl Into<Cow<'static, str>>, start: F) -> Self
    where
        F: Fn(StartContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Started, StartError>> + Send + 'static,
    {
        Self::new(id.into(), ChildKind::Worker(Arc::new(move |ctx| Box::pin(start(ctx)))))
    }

    /// A permanent child that is one actor: `make` gives its handler and its arguments.
    pub fn actor<A, F>(id: impl Into<Cow<'static, str>>, make: F) -> Self
    where
        A: Actor,
        F: Fn(&StartContext) -> (A, A::Arguments) + Send + Sync + 'static,
    {
        Self::worker(id, move |ctx| {
            let (handler, arguments) = make(&ctx);
            async move {
                let started = A::spawn_linked(None, handler, arguments, ctx.supervisor).await;
                if let Err(SpawnErr::StartupFailed(error)) = &started {
                    ctx.tree.failed(error);
                }
                Ok(started?.into())
            }
        })
    }

    /// A permanent child that is itself a supervisor, with the id of its spec.
    pub fn supervisor(spec: SupervisorSpec) -> Self {
        Self::new(spec.id.clone(), ChildKind::Supervisor(Box::new(spec)))
    }

    fn new(id: Cow<'static, str>, kind: ChildKind) -> Self {
        Self {
            id,
            restart: RestartType::Permanent,
            shutdown: None,
            budget: None,
            dependency_budget: None,
            backoff: Backoff::default(),
            stuck_after: None,
            start_timeout: None,
            in_background: false,
            kind,
        }
    }

    /// Sets [`ChildSpec::restart`].
    pub fn restart(mut self, restart: RestartType) -> Self {
        self.restart = restart;
        self
    }

    /// Sets [`ChildSpec::shutdown`].
    pub fn shutdown(mut self, timeout: Duration) -> Self {
        self.shutdown = Some(timeout);
        self
    }

    /// Sets [`ChildSpec::budget`].
    pub fn budget(mut self, budget: RestartBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets [`ChildSpec::dependency_budget`].
    pub fn dependency_budget(mut self, budget: RestartBudget) -> Self {
        self.dependency_budget = Some(budget);
        self
    }

    /// Sets [`ChildSpec::backoff`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets [`ChildSpec::stuck_after`].
    pub fn stuck_after(mut self, limit: Duration) -> Self {
        self.stuck_after = Some(limit);
        self
    }

    /// Sets [`ChildSpec::start_timeout`].
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// Sets [`ChildSpec::in_background`].
    pub fn in_background(mut self, in_background: bool) -> Self {
        self.in_background = in_background;
        self
    }

    /// How long a stop of this child may take before it is killed.
    pub fn shutdown_timeout(&self) -> Duration {
        match (&self.shutdown, &self.kind) {
            (Some(timeout), _) => *timeout,
            (None, ChildKind::Worker(_)) => SHUTDOWN_DEFAULT,
            (None, ChildKind::Supervisor(spec)) => spec.shutdown_timeout(),
        }
    }
}

/// A supervisor and its children, as data.
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Its name among its siblings; for the root, the first part of every path.
    pub id: Cow<'static, str>,
    /// Who is restarted with a failed child.
    pub strategy: Strategy,
    /// How many restarts of all children together it allows before it gives up.
    pub budget: RestartBudget,
    /// In the order in which they are started.
    pub children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// A supervisor without children and with the default budget.
    pub fn new(id: impl Into<Cow<'static, str>>, strategy: Strategy) -> Self {
        Self { id: id.into(), strategy, budget: RestartBudget::default(), children: Vec::new() }
    }

    /// Sets [`SupervisorSpec::budget`].
    pub fn budget(mut self, budget: RestartBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Adds a child after the others.
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Adds children after the others, in order.
    pub fn children(mut self, children: impl IntoIterator<Item = ChildSpec>) -> Self {
        self.children.extend(children);
        self
    }

    /// The longest that an orderly stop of all children can take, kills included, so that the
    /// deadlines of the inner levels fit in the outer one.
    pub fn shutdown_timeout(&self) -> Duration {
        let children = self.children.iter();
        let sum: Duration = children.map(|child| child.shutdown_timeout() + KILL_WAIT * 2).sum();
        sum + KILL_WAIT
    }

    /// # Errors
    /// When an id is empty, holds a `/`, or appears twice among siblings, or a child starts in the background
    /// whose siblings are restarted with it.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        check_id(&self.id)?;
        let mut seen = std::collections::HashSet::new();
        for child in &self.children {
            check_id(&child.id)?;
            if !seen.insert(&child.id) {
                return Err(SpecError::DuplicateId {
                    supervisor: self.id.to_string(),
                    id: child.id.to_string(),
                });
            }
            if child.in_background && self.strategy != Strategy::OneForOne {
                return Err(SpecError::Background {
                    supervisor: self.id.to_string(),
                    id: child.id.to_string(),
                });
            }
            if let ChildKind::Supervisor(spec) = &child.kind {
                spec.check()?;
            }
        }
        Ok(())
    }
}

fn check_id(id: &str) -> Result<(), SpecError> {
    match id.is_empty() || id.contains('/') {
        true => Err(SpecError::BadId(id.to_owned())),
        false => Ok(()),
    }
}

/// Why a spec is not a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Paths would be ambiguous.
    #[error("the id `{0}` is empty or holds a slash")]
    BadId(String),
    /// Paths would be ambiguous.
    #[error("`{supervisor}` has two children called `{id}`")]
    DuplicateId {
        /// Whose children.
        supervisor: String,
        /// The id they share.
        id: String,
    },
    /// Its siblings would have to wait for it after all.
    #[error("`{id}` cannot start in the background: `{supervisor}` is not one-for-one")]
    Background {
        /// Whose child.
        supervisor: String,
        /// Which.
        id: String,
    },
}
