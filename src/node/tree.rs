//! The supervision tree of a node, and what is seen of it. `supervision.md` explains it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::actors::hosting::{Ground, store_spec};
use crate::actors::lane::Disk;
use crate::actors::replica::actor::ReplicaStatus;
use crate::actors::supervisor::{
    ChildSpec, NoteEvent, RestartBudget, RestartType, Strategy, SupervisorSpec, Tree, TreeOptions,
};
use crate::actors::telemetry::{self, TelemetryActor};
use crate::http::limits::Limits;
use crate::http::listener::{self, ListenerActor, Socket};
use crate::http::operator::{self, OperatorKey};
use crate::http::ops::{self, OpsState, Readiness};
use crate::http::{self, App};
use crate::ids::ShardId;
use crate::seams::Random;
use crate::store::error::StoreError;
use crate::telemetry::{Metrics, RestartLabels};

/// What gave up below gets one more try at each level, and the windows grow upwards: each must
/// outlast what the level below takes to give up again, or a failure that stays would never reach
/// the root. A shard that cannot start ends the process after about a minute and a half.
const SERVICES_BUDGET: RestartBudget = RestartBudget::new(1, Duration::from_secs(120));
const NODE_BUDGET: RestartBudget = RestartBudget::new(1, Duration::from_secs(300));
/// The init system does the rest.
const ROOT_BUDGET: RestartBudget = RestartBudget::new(1, Duration::from_secs(900));
/// Listeners depend on nothing that could fail for long.
const HTTP_BUDGET: RestartBudget = RestartBudget::new(3, Duration::from_secs(60));

/// What readiness is made of; shared with the operations listener.
#[derive(Clone)]
pub(super) struct View {
    pub(super) replicas: Arc<Vec<(ShardId, watch::Receiver<ReplicaStatus>)>>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) disk: Disk,
    /// Set once the tree is made, which holds the listener that asks.
    pub(super) tree: Arc<OnceLock<Tree>>,
}

impl View {
    pub(super) fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push("the node is draining".to_owned());
        }
        if self.disk.is_full() {
            reasons.push("the disk is full".to_owned());
        }
        if !self.tree.get().is_some_and(Tree::all_running) {
            reasons.push("an actor is being started or restarted".to_owned());
        }
        for (shard, status) in self.replicas.iter() {
            if !status.borrow().leads {
                reasons.push(format!("shard {shard} has no leader"));
            }
        }
        Readiness { ready: reasons.is_empty(), reasons }
    }
}

/// The whole tree: telemetry, and the node with everything that stands on its store.
pub(super) fn root_spec(
    ground: &Ground,
    lane: PathBuf,
    services: [ChildSpec; 3],
    listeners: Option<ChildSpec>,
) -> SupervisorSpec {
    let services = SupervisorSpec::new("services", Strategy::OneForOne)
        .budget(SERVICES_BUDGET)
        .children(services);
    let node = SupervisorSpec::new("node", Strategy::RestForOne)
        .budget(NODE_BUDGET)
        .child(ChildSpec::supervisor(store_spec(ground, lane)))
        .child(ChildSpec::supervisor(services))
        .children(listeners);
    SupervisorSpec::new("quire", Strategy::OneForOne)
        .budget(ROOT_BUDGET)
        .child(telemetry_spec(ground))
        .child(ChildSpec::supervisor(node))
}

/// The listeners: the first to stop, and the last to start of those that somebody waits for.
pub(super) fn http_spec(
    api: Socket,
    ops: Socket,
    app: &App,
    key: OperatorKey,
    view: &View,
) -> ChildSpec {
    let limits = &app.limits;
    let (asked, shown) = (view.clone(), view.clone());
    let state = OpsState {
        ready: Arc::new(move || asked.readiness()),
        tree: Arc::new(move || {
            let tree = shown.tree.get().map(Tree::snapshot);
            serde_json::to_value(tree).unwrap_or_default()
        }),
        metrics: app.metrics.clone(),
    };
    let api = listener_spec("api", api, http::routes(app.clone()), limits, &app.metrics);
    let limits = &limits.for_operations();
    let routes = ops::routes(state, limits).merge(operator::routes(app, key, limits));
    let routes = match ops.is_loopback() {
        true => ops::only_local_names(routes),
        false => routes,
    };
    let ops = listener_spec("ops", ops, routes, limits, &app.metrics);
    // Stopped in reverse: operations goes on answering while the API drains.
    let spec =
        SupervisorSpec::new("http", Strategy::OneForOne).budget(HTTP_BUDGET).child(ops).child(api);
    ChildSpec::supervisor(spec)
}

fn listener_spec(
    id: &'static str,
    socket: Socket,
    routes: axum::Router,
    limits: &Limits,
    metrics: &Arc<Metrics>,
) -> ChildSpec {
    let arguments =
        listener::Arguments { socket, routes, limits: limits.clone(), metrics: metrics.clone() };
    ChildSpec::actor(id, move |_| (ListenerActor, arguments.clone()))
        .shutdown(limits.drain_time + Duration::from_secs(2))
}

/// Temporary: its failure restarts nothing.
fn telemetry_spec(ground: &Ground) -> ChildSpec {
    let arguments = telemetry::Arguments {
        metrics: ground.metrics.clone(),
        clock: ground.seams.clock.clone(),
        proc: "/proc/self",
    };
    ChildSpec::actor("telemetry", move |_| (TelemetryActor, arguments.clone()))
        .restart(RestartType::Temporary)
}

/// Counts restarts, which the tree itself logs, and tells `hopeless` of an error for which nothing is
/// worth another start.
pub(super) fn tree_options(
    metrics: &Arc<Metrics>,
    random: &Random,
    hopeless: watch::Sender<Option<StoreError>>,
) -> TreeOptions {
    let metrics = metrics.clone();
    TreeOptions {
        observer: Arc::new(move |note| {
            if let NoteEvent::Restarting { cause, .. } = &note.event {
                let path = note.path.to_owned();
                metrics
                    .restarts
                    .get_or_create(&RestartLabels { path, cause: cause.as_str() })
                    .inc();
            }
        }),
        random: random.clone(),
        failures: Arc::new(move |error| {
            let mut sources = std::iter::successors(Some(error), |error| error.source());
            if let Some(error) = sources.find_map(hopeless_error) {
                // The first one is the cause of the others.
                hopeless.send_if_modified(|known| {
                    let is_first = known.is_none();
                    known.get_or_insert_with(|| error.clone());
                    is_first
                });
            }
        }),
    }
}

/// An error for which nothing is worth another start.
fn hopeless_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a StoreError> {
    error.downcast_ref::<StoreError>().filter(|error| error.is_lasting())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::hosting::{SERVICE_BUDGET, SHARD_BUDGET, quick};
    use crate::actors::supervisor::{StartError, Started};

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_cannot_start_ends_the_node_before_long() {
        let broken = ChildSpec::worker("shard", |_| async {
            Err::<Started, _>(StartError::Failed("its state cannot be loaded".into()))
        });
        let level = |id: &'static str, budget, child: SupervisorSpec| {
            SupervisorSpec::new(id, Strategy::OneForOne)
                .budget(budget)
                .child(ChildSpec::supervisor(child))
        };
        let shard = SupervisorSpec::new("0", Strategy::OneForOne)
            .budget(SHARD_BUDGET)
            .child(broken.backoff(quick()));
        let services = level("services", SERVICES_BUDGET, level("post", SERVICE_BUDGET, shard));
        let root = level("quire", ROOT_BUDGET, level("node", NODE_BUDGET, services));
        let tree = Tree::new(root, TreeOptions::default()).unwrap();
        let began = tokio::time::Instant::now();
        let ended = tokio::time::timeout(Duration::from_secs(3600), tree.start()).await;
        assert!(ended.expect("the root gives up").is_err());
        assert!(began.elapsed() < Duration::from_secs(300), "{:?}", began.elapsed());
    }
}
