//! When a supervisor gives up, and what that does to those above and below.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_childs_budget_survives_exactly_its_limit_and_escalates_one_later() {
    let stage = Stage::default();
    let limit = RestartBudget::new(3, secs(600));
    let spec =
        root(Strategy::OneForOne).child(stage.child("a").budget(limit)).child(stage.child("b"));
    let (tree, handle) = stage.start(spec).await;
    for restarts in 1..=3 {
        stage.tell("root/a", Order::Panic);
        eventually("it restarts", || node(&tree, "root/a").restarts.crash == restarts).await;
        eventually("it runs", || tree.all_running()).await;
    }
    // The budget is the child's: failures of its sibling take nothing of it.
    stage.tell("root/b", Order::Panic);
    settled().await;
    assert!(tree.all_running());
    stage.log();
    stage.tell("root/a", Order::Panic);
    let gave_up = handle.wait().await.unwrap_err();
    assert_eq!(gave_up.path.as_ref(), "root");
    assert_eq!(gave_up.reason, "`a` has spent its own budget (3 restarts in 600 s): told to panic");
    assert_eq!(stage.log(), "-a -b");
    assert_eq!(node(&tree, "root/a").state, NodeState::Failed);
    assert_eq!(node(&tree, "root/b").state, NodeState::Stopped);
    assert_eq!(tree.snapshot().state, NodeState::Failed);
    assert!(!tree.all_running());
}

#[tokio::test(start_paused = true)]
async fn a_supervisors_budget_is_shared_by_its_children() {
    let stage = Stage::default();
    let spec = root(Strategy::OneForOne)
        .budget(RestartBudget::new(3, secs(600)))
        .children(["a", "b", "c", "d"].map(|id| stage.child(id)));
    let (tree, handle) = stage.start(spec).await;
    for path in ["root/a", "root/b", "root/c"] {
        stage.tell(path, Order::Panic);
        settled().await;
        assert!(tree.all_running());
    }
    stage.log();
    stage.tell("root/d", Order::Panic);
    let reason = handle.wait().await.unwrap_err().reason;
    assert!(reason.contains("`d` has spent the budget of its supervisor (3 restarts"), "{reason}");
    assert_eq!(stage.log(), "-d -c -b -a");
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_the_window_has_left_is_forgotten() {
    let stage = Stage::default();
    let limit = RestartBudget::new(2, secs(60));
    let spec = root(Strategy::OneForOne).budget(limit).child(stage.child("a").budget(limit));
    let (tree, handle) = stage.start(spec).await;
    for _ in 0..20 {
        sleep(secs(31)).await;
        stage.tell("root/a", Order::Panic);
        settled().await;
        eventually("it runs", || tree.all_running()).await;
    }
    stage.tell("root/a", Order::Panic);
    handle.wait().await.unwrap_err();
    assert_eq!(node(&tree, "root/a").restarts.crash, 20);
}

#[tokio::test(start_paused = true)]
async fn giving_up_counts_one_level_up_until_the_root_gives_up() {
    let stage = Stage::default();
    let spec = |id: &'static str| {
        SupervisorSpec::new(id, Strategy::OneForOne).budget(RestartBudget::new(1, secs(600)))
    };
    let below = spec("below").child(stage.child("worker"));
    let middle = spec("middle").child(ChildSpec::supervisor(below).backoff(exact_backoff()));
    let tree_spec = spec("root").child(ChildSpec::supervisor(middle).backoff(exact_backoff()));
    let (tree, handle) = stage.start(tree_spec).await;
    let worker = "root/middle/below/worker";
    // Each level allows one restart: 2 × 2 × 2 failures in all, the last of which ends the root.
    for failure in 1..8 {
        stage.tell(worker, Order::Panic);
        settled().await;
        eventually("all run", || tree.all_running()).await;
        assert_eq!(stage.attempt(worker).await, failure + 1);
    }
    assert_eq!(node(&tree, worker).restarts.crash, 4);
    assert_eq!(node(&tree, "root/middle/below").restarts.crash, 2);
    assert_eq!(node(&tree, "root/middle").restarts.crash, 1);
    stage.tell(worker, Order::Panic);
    let reason = handle.wait().await.unwrap_err().reason;
    assert!(reason.starts_with("`middle` has spent"), "{reason}");
    assert!(reason.ends_with("told to panic"), "{reason}");
    assert_eq!((stage.alive(), stage.with(|s| s.most_alive)), (0, 1));
    let escalated: Vec<String> = stage
        .notes()
        .into_iter()
        .filter(|(_, event)| matches!(event, NoteEvent::Escalated { .. }))
        .map(|(path, _)| short(&path).to_owned())
        .collect();
    let levels = ["below", "below", "middle", "below", "below", "middle", "root"];
    assert_eq!(escalated, levels);
}

#[tokio::test(start_paused = true)]
async fn a_root_that_gave_up_can_be_started_again() {
    let stage = Stage::default();
    let none = RestartBudget::new(0, secs(1));
    let (tree, handle) =
        stage.start(root(Strategy::OneForOne).budget(none).child(stage.child("a"))).await;
    stage.tell("root/a", Order::Panic);
    handle.wait().await.unwrap_err();
    let handle = tree.start().await.unwrap();
    assert!(tree.all_running());
    handle.stop().await.unwrap();
    assert_eq!(tree.snapshot().state, NodeState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_failing_child_never_takes_its_supervisor_down() {
    let stage = Stage::default();
    let spec = root(Strategy::OneForOne).children(["a", "b"].map(|id| stage.child(id)));
    let (tree, _root) = stage.start(spec).await;
    for round in 0..50 {
        match round % 4 {
            0 => stage.tell("root/a", Order::Panic),
            1 => stage.tell("root/a", Order::Fail),
            2 => stage.tell("root/a", Order::StopCleanly),
            _ => stage.kill("root/a"),
        }
        settled().await;
        eventually("it runs", || tree.all_running()).await;
        assert_eq!(stage.attempt("root/b").await, 1);
    }
    assert_eq!(tree.snapshot().restarts.total(), 0);
    assert_eq!(stage.with(|s| s.most_alive), 1);
}

/// Ends supervisors in ways that give them no time to stop their children.
async fn crash_supervisors(rounds: u64) {
    let stage = Stage::default();
    let cells = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&cells);
    let inner = stage.clone();
    let spy = ChildSpec::worker("spy", move |ctx: StartContext| {
        *seen.lock().unwrap() = Some(ctx.supervisor.clone());
        let stage = inner.clone();
        async move {
            let arguments = (stage, ctx.clone());
            Ok(Puppet::spawn_linked(None, Puppet, arguments, ctx.supervisor).await?.into())
        }
    });
    let deep = SupervisorSpec::new("deep", Strategy::OneForOne)
        .children((0..20).map(|n| stage.child(format!("d{n}"))));
    let below = SupervisorSpec::new("below", Strategy::OneForOne)
        .child(spy)
        .child(ChildSpec::supervisor(deep))
        .children((0..20).map(|n| stage.child(format!("c{n}"))));
    let at_once = Backoff { initial: Duration::ZERO, ..exact_backoff() };
    let spec = root(Strategy::OneForOne)
        .budget(RestartBudget::new(u32::MAX, secs(1)))
        .child(ChildSpec::supervisor(below).backoff(at_once));
    let (tree, handle) = stage.start(spec).await;
    for round in 1..=rounds {
        let cell: ractor::ActorCell = cells.lock().unwrap().take().unwrap();
        cell.kill();
        eventually("it is replaced", || {
            node(&tree, "root/below").restarts.crash == round && tree.all_running()
        })
        .await;
        assert_eq!(stage.alive(), 41);
    }
    assert_eq!(stage.with(|s| s.most_alive), 1, "two generations of a child met");
    handle.stop().await.unwrap();
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_supervisors_children_are_gone_before_the_new_ones_start() {
    crash_supervisors(200).await;
}

/// The same where tasks really run in parallel.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crashed_supervisors_children_are_gone_before_the_new_ones_start_on_threads() {
    crash_supervisors(100).await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_root_leaves_nothing_behind() {
    for _ in 0..50 {
        let stage = Stage::default();
        let below = SupervisorSpec::new("below", Strategy::OneForOne)
            .children((0..5).map(|n| stage.child(format!("c{n}"))));
        let (cells, inner) = (Arc::new(Mutex::new(None)), stage.clone());
        let seen = Arc::clone(&cells);
        let spy = ChildSpec::actor("spy", move |ctx| {
            *seen.lock().unwrap() = Some(ctx.supervisor.clone());
            (Puppet, (inner.clone(), ctx.clone()))
        });
        let spec = root(Strategy::OneForOne).child(spy).child(ChildSpec::supervisor(below));
        let (tree, handle) = stage.start(spec).await;
        let cell: ractor::ActorCell = cells.lock().unwrap().take().unwrap();
        cell.kill();
        assert_eq!(handle.wait().await.unwrap_err().reason, "it crashed or was killed");
        assert_eq!(stage.alive(), 0);
        assert_eq!(tree.snapshot().state, NodeState::Failed);
    }
}
