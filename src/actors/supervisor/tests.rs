//! What a supervisor promises, one test each. Time is paused: it moves only when every task waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::{Instant, sleep, timeout};

use crate::actors::supervisor::*;
use crate::seams::Random;

mod background;
mod escalation;
mod lifecycle;
mod restarts;
mod watching;

/// Longer than any pause in the specs of these tests.
const PATIENCE: Duration = Duration::from_secs(600);

enum Order {
    Panic,
    Fail,
    FailByDependency,
    StopCleanly,
    Hang,
    Answer(RpcReplyPort<u64>),
}

/// What the tests tell children and see of them. Lives outside the tree.
#[derive(Clone, Default)]
struct Stage(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    actors: HashMap<String, ActorRef<Order>>,
    /// `+path` for a start, `-path` when a state is dropped, and what tests add.
    log: Vec<String>,
    alive: HashMap<String, usize>,
    most_alive: usize,
    starts_to_fail: HashMap<String, usize>,
    stop_takes: HashMap<String, Duration>,
    start_takes: HashMap<String, Duration>,
    notes: Vec<(String, NoteEvent)>,
}

impl Stage {
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn options(&self) -> TreeOptions {
        let stage = self.clone();
        TreeOptions {
            random: Random::seeded(1),
            observer: Arc::new(move |note: &SupervisionNote<'_>| {
                let noted = (note.path.to_owned(), note.event.clone());
                stage.with(|s| s.notes.push(noted));
            }),
            ..TreeOptions::default()
        }
    }

    fn child(&self, id: impl Into<String>) -> ChildSpec {
        let stage = self.clone();
        ChildSpec::actor(id.into(), move |ctx| (Puppet, (stage.clone(), ctx.clone())))
            .backoff(exact_backoff())
    }

    fn tree(&self, spec: SupervisorSpec) -> Tree {
        Tree::new(spec, self.options()).unwrap()
    }

    async fn start(&self, spec: SupervisorSpec) -> (Tree, RootHandle) {
        let tree = self.tree(spec);
        let root = tree.start().await.unwrap();
        (tree, root)
    }

    fn tell(&self, path: &str, order: Order) {
        let actor = self.with(|s| s.actors.get(path).cloned());
        actor.unwrap_or_else(|| panic!("`{path}` never started")).cast(order).unwrap();
    }

    fn kill(&self, path: &str) {
        self.with(|s| s.actors[path].clone()).kill();
    }

    /// Which start of the child answers.
    async fn attempt(&self, path: &str) -> u64 {
        let actor = self.with(|s| s.actors[path].clone());
        ractor::call_t!(actor, Order::Answer, 1_000).unwrap()
    }

    fn log(&self) -> String {
        self.with(|s| std::mem::take(&mut s.log).join(" "))
    }

    fn notes(&self) -> Vec<(String, NoteEvent)> {
        self.with(|s| s.notes.clone())
    }

    /// The pauses before the restarts of one child, in milliseconds.
    fn pauses(&self, path: &str) -> Vec<u128> {
        let of = |note: (String, NoteEvent)| match note {
            (at, NoteEvent::Restarting { delay, .. }) if at == path => Some(delay.as_millis()),
            _ => None,
        };
        self.notes().into_iter().filter_map(of).collect()
    }

    fn alive(&self) -> usize {
        self.with(|s| s.alive.values().sum())
    }
}

struct Puppet;

struct PuppetState {
    stage: Stage,
    ctx: StartContext,
}

impl Drop for PuppetState {
    fn drop(&mut self) {
        let path = self.ctx.path.to_string();
        self.stage.with(|s| {
            s.log.push(format!("-{}", short(&path)));
            *s.alive.get_mut(&path).unwrap() -= 1;
        });
    }
}

impl Actor for Puppet {
    type Msg = Order;
    type State = PuppetState;
    type Arguments = (Stage, StartContext);

    async fn pre_start(
        &self,
        myself: ActorRef<Order>,
        (stage, ctx): (Stage, StartContext),
    ) -> Result<PuppetState, ActorProcessingErr> {
        let path = ctx.path.to_string();
        if let Some(span) = stage.with(|s| s.start_takes.get(&path).copied()) {
            sleep(span).await;
        }
        let refuse = stage.with(|s| {
            let left = s.starts_to_fail.entry(path.clone()).or_default();
            let refuse = *left > 0;
            *left -= usize::from(refuse);
            refuse
        });
        if refuse {
            return Err("no start today".into());
        }
        stage.with(|s| {
            s.actors.insert(path.clone(), myself);
            s.log.push(format!("+{}", short(&path)));
            let alive = s.alive.entry(path).or_default();
            *alive += 1;
            s.most_alive = s.most_alive.max(*alive);
        });
        Ok(PuppetState { stage, ctx })
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        state: &mut PuppetState,
    ) -> Result<(), ActorProcessingErr> {
        let _busy = state.ctx.heartbeat.busy();
        match order {
            Order::Panic => panic!("told to panic"),
            Order::Fail => return Err("told to fail".into()),
            Order::FailByDependency => {
                return Err(Box::new(DependencyFailed { on: "lane".to_owned() }));
            }
            Order::StopCleanly => myself.stop(None),
            Order::Hang => std::future::pending().await,
            Order::Answer(reply) => drop(reply.send(state.ctx.attempt)),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Order>,
        state: &mut PuppetState,
    ) -> Result<(), ActorProcessingErr> {
        let takes = state.stage.with(|s| s.stop_takes.get(state.ctx.path.as_ref()).copied());
        if let Some(takes) = takes {
            sleep(takes).await;
        }
        Ok(())
    }
}

/// The last part of a path.
fn short(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn exact_backoff() -> Backoff {
    Backoff {
        initial: Duration::from_millis(100),
        max: Duration::from_millis(1_000),
        jitter: 0.0,
        healthy_after: Duration::from_secs(20),
    }
}

/// A budget that no test spends by accident.
fn ample() -> RestartBudget {
    RestartBudget::new(1_000, Duration::from_secs(1))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn root(strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec::new("root", strategy).budget(ample())
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Lets everything happen that needs no time to pass.
async fn settled() {
    sleep(Duration::from_millis(1)).await;
}

fn node(tree: &Tree, path: &str) -> TreeNode {
    tree.snapshot().find(path).cloned().unwrap()
}
