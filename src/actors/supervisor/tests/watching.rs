//! Watchdogs, the live view, notes and the table.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_stuck_async_handler_is_killed_and_replaced_by_the_watchdog() {
    let stage = Stage::default();
    let spec = root(Strategy::OneForOne)
        .child(stage.child("a").stuck_after(secs(4)))
        .child(stage.child("unwatched"));
    let (tree, _root) = stage.start(spec).await;
    stage.log();
    stage.tell("root/a", Order::Hang);
    stage.tell("root/unwatched", Order::Hang);
    sleep(Duration::from_millis(3_900)).await;
    assert_eq!(stage.log(), "");
    sleep(Duration::from_millis(2_200)).await;
    assert_eq!(stage.log(), "-a +a");
    let a = node(&tree, "root/a");
    assert_eq!((a.restarts.watchdog, a.restarts.total()), (1, 1));
    assert_eq!(a.last_failure.as_deref(), Some("a handler ran longer than 4 s"));
    let killed = NoteEvent::Killed { why: KillReason::Stuck };
    assert!(stage.notes().contains(&("root/a".to_owned(), killed)));
    sleep(secs(60)).await;
    assert_eq!(stage.log(), "", "an idle child is never stuck");
}

#[tokio::test(start_paused = true)]
async fn a_watchdogs_restart_spends_budget_and_takes_the_strategy_along() {
    let stage = Stage::default();
    let spec = root(Strategy::RestForOne)
        .child(stage.child("a").stuck_after(secs(4)).budget(RestartBudget::new(1, secs(600))))
        .child(stage.child("b"));
    let (_tree, handle) = stage.start(spec).await;
    stage.log();
    stage.tell("root/a", Order::Hang);
    sleep(secs(10)).await;
    assert_eq!(stage.log(), "-a -b +a +b");
    stage.tell("root/a", Order::Hang);
    assert!(handle.wait().await.unwrap_err().reason.contains("(1 restarts in 600 s)"));
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn many_short_handlers_are_not_one_long_one() {
    let stage = Stage::default();
    let (tree, _root) =
        stage.start(root(Strategy::OneForOne).child(stage.child("a").stuck_after(secs(1)))).await;
    for _ in 0..1_000 {
        stage.attempt("root/a").await;
        sleep(Duration::from_millis(7)).await;
    }
    assert_eq!(node(&tree, "root/a").restarts.total(), 0);
}

/// An actor that blocks its thread until the test lets it go.
struct Blocker;

impl Actor for Blocker {
    type Msg = std::sync::mpsc::Receiver<()>;
    type State = Heartbeat;
    type Arguments = Heartbeat;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        heartbeat: Heartbeat,
    ) -> Result<Heartbeat, ActorProcessingErr> {
        Ok(heartbeat)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        blocked: Self::Msg,
        heartbeat: &mut Heartbeat,
    ) -> Result<(), ActorProcessingErr> {
        let _busy = heartbeat.busy();
        // Whoever this poll has woken, such as the supervisor by the news of the start, may be next
        // on this very thread and could not be taken over by another.
        tokio::task::yield_now().await;
        let _ = blocked.recv();
        Ok(())
    }
}

/// A blocked worker can take the runtime's timers with it, until another worker is woken: that is
/// why the watchdog has a thread of its own, and why this does not sleep.
async fn eventually_without_timers(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        tokio::spawn(async {}).await.unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("never happened: {what}");
}

/// Real threads and real time, because blocking is what paused time cannot show; nothing waits
/// for a fixed span.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_thread_calls_the_exit_closure_and_gets_no_second_generation_beside_it() {
    let blocker = Arc::new(Mutex::new(None));
    let (seen, limit) = (Arc::clone(&blocker), Duration::from_millis(20));
    let child = ChildSpec::worker("a", move |ctx: StartContext| {
        let seen = Arc::clone(&seen);
        async move {
            let started =
                Blocker::spawn_linked(None, Blocker, ctx.heartbeat, ctx.supervisor).await?;
            *seen.lock().unwrap() = Some(started.0.clone());
            Ok(started.into())
        }
    });
    let stage = Stage::default();
    let (tree, handle) =
        stage.start(root(Strategy::OneForOne).child(child.stuck_after(limit))).await;
    let (told, exit) = tokio::sync::oneshot::channel();
    let poll = Duration::from_millis(5);
    let _watchdog = ThreadWatchdog::start_polling(tree.clone(), limit * 5, poll, |stuck| {
        let _ = told.send(stuck);
    })
    .unwrap();
    let (release, blocked) = std::sync::mpsc::channel();
    let first = blocker.lock().unwrap().clone().unwrap();
    first.cast(blocked).unwrap();
    let stuck = exit.await.unwrap();
    assert_eq!(stuck.path.as_ref(), "root/a");
    assert!(stuck.running_for > limit * 6);
    // The kill was tried, and the replacement waits for it.
    eventually_without_timers("the kill", || node(&tree, "root/a").restarts.watchdog == 1).await;
    assert_eq!(node(&tree, "root/a").state, NodeState::Stopping);
    assert!(!tree.all_running());
    assert_eq!(blocker.lock().unwrap().as_ref().unwrap().get_id(), first.get_id());
    release.send(()).unwrap();
    eventually_without_timers("the replacement", || tree.all_running()).await;
    assert_ne!(blocker.lock().unwrap().as_ref().unwrap().get_id(), first.get_id());
    handle.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_view_shows_the_tree_as_json_even_when_a_child_hangs() {
    let stage = Stage::default();
    let below = SupervisorSpec::new("below", Strategy::RestForOne)
        .child(stage.child("a").restart(RestartType::Transient));
    let (tree, _root) =
        stage.start(root(Strategy::OneForOne).child(ChildSpec::supervisor(below))).await;
    stage.tell("root/below/a", Order::Fail);
    settled().await;
    stage.tell("root/below/a", Order::Hang);
    sleep(secs(9)).await;
    let json = serde_json::to_value(tree.snapshot()).unwrap();
    assert_eq!(json["path"], "root");
    let below = &json["children"][0];
    assert_eq!(
        (&below["kind"], &below["strategy"]),
        (&"supervisor".into(), &"rest_for_one".into())
    );
    let mut a = below["children"][0].clone();
    let running_for_ms = a["running_for_ms"].take().as_u64().unwrap();
    assert!((9_000..9_010).contains(&running_for_ms), "{running_for_ms}");
    assert_eq!(
        a,
        serde_json::json!({
            "id": "a", "path": "root/below/a", "kind": "worker", "strategy": null,
            "restart": "transient", "state": "running", "last_failure": "told to fail",
            "restarts": {
                "crash": 1, "dependency": 0, "watchdog": 0, "operator": 0, "start_failure": 0
            },
            "running_for_ms": null, "children": [],
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_text_is_bounded() {
    let stage = Stage::default();
    let child = ChildSpec::worker("a", |_| async {
        Err::<Started, _>(StartError::Failed("ü".repeat(10_000)))
    });
    let (tree, _root) =
        stage.start(root(Strategy::OneForOne).child(child.restart(RestartType::Temporary))).await;
    assert_eq!(node(&tree, "root/a").last_failure.unwrap().chars().count(), 300);
}

#[tokio::test(start_paused = true)]
async fn the_observer_hears_of_everything_in_order() {
    let stage = Stage::default();
    let spec =
        root(Strategy::OneForOne).budget(RestartBudget::new(1, secs(600))).child(stage.child("a"));
    let (_tree, handle) = stage.start(spec).await;
    stage.tell("root/a", Order::Panic);
    settled().await;
    stage.tell("root/a", Order::Panic);
    handle.wait().await.unwrap_err();
    let (cause, delay) = (RestartCause::Crash, Duration::ZERO);
    let failure = "told to panic".to_owned();
    let reason = "`a` has spent the budget of its supervisor (1 restarts in 600 s): told to panic"
        .to_owned();
    let heard: Vec<(String, NoteEvent)> = stage.notes();
    let expected = [
        ("root/a", NoteEvent::Started { attempt: 1, cause: None }),
        ("root/a", NoteEvent::Restarting { cause, delay, failure }),
        ("root/a", NoteEvent::Started { attempt: 2, cause: Some(cause) }),
        ("root", NoteEvent::Escalated { reason }),
        ("root/a", NoteEvent::Stopped),
    ];
    assert_eq!(heard, expected.map(|(path, event)| (path.to_owned(), event)));
}

#[test]
fn the_table_of_specs_lists_every_child_in_order() {
    let stage = Stage::default();
    let below = SupervisorSpec::new("services", Strategy::RestForOne)
        .child(stage.child("post").budget(RestartBudget::new(3, secs(60))).shutdown(secs(2)));
    let spec = SupervisorSpec::new("quire", Strategy::OneForOne)
        .child(stage.child("telemetry").restart(RestartType::Temporary))
        .child(ChildSpec::supervisor(below));
    assert_eq!(
        spec_table(&spec),
        "\
| path | restart | strategy | budget | back-off | shutdown |
|---|---|---|---|---|---|
| `quire` | – | one-for-one | 5 in 30 s for its children | – | 23 s |
| `quire/telemetry` | temporary | – | its supervisor's | – | 5 s |
| `quire/services` | permanent | rest-for-one | 5 in 30 s for its children | 0, then 100 ms to 5 s | 8 s |
| `quire/services/post` | permanent | – | 3 in 60 s itself | 0, then 100 ms to 1 s | 2 s |
"
    );
}
