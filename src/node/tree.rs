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
use crate::telemetry::{Metrics, RestartLabels};

/// A supervisor of supervisors gives up when what stands below it gave up so often.
const UPPER_BUDGET: RestartBudget = RestartBudget::new(3, Duration::from_secs(60));
/// The init system does the rest.
const ROOT_BUDGET: RestartBudget = RestartBudget::new(1, Duration::from_secs(60));

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
            reasons.push("an actor is being restarted".to_owned());
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
    services: [SupervisorSpec; 2],
    listeners: Option<ChildSpec>,
) -> SupervisorSpec {
    let services = SupervisorSpec::new("services", Strategy::OneForOne)
        .budget(UPPER_BUDGET)
        .children(services.map(ChildSpec::supervisor));
    let node = SupervisorSpec::new("node", Strategy::RestForOne)
        .budget(UPPER_BUDGET)
        .child(ChildSpec::supervisor(store_spec(ground, lane)))
        .child(ChildSpec::supervisor(services))
        .children(listeners);
    SupervisorSpec::new("quire", Strategy::OneForOne)
        .budget(ROOT_BUDGET)
        .child(telemetry_spec(ground))
        .child(ChildSpec::supervisor(node))
}

/// The listeners: last to start, first to stop.
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
    let routes = ops::routes(state, limits).merge(operator::routes(app, key, limits));
    let ops = listener_spec("ops", ops, routes, limits, &app.metrics);
    // Stopped in reverse: operations goes on answering while the API drains.
    let spec =
        SupervisorSpec::new("http", Strategy::OneForOne).budget(UPPER_BUDGET).child(ops).child(api);
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
        clock: ground.clock.clone(),
        proc: "/proc/self",
    };
    ChildSpec::actor("telemetry", move |_| (TelemetryActor, arguments.clone()))
        .restart(RestartType::Temporary)
}

/// Counts restarts; the tree itself logs them.
pub(super) fn tree_options(metrics: &Arc<Metrics>) -> TreeOptions {
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
        ..TreeOptions::default()
    }
}
