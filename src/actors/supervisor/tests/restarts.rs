//! Who is restarted, when, and at whose cost.

use super::*;

async fn three(strategy: Strategy) -> (Stage, Tree, RootHandle) {
    let stage = Stage::default();
    let spec = root(strategy).children(["a", "b", "c"].map(|id| stage.child(id)));
    let (tree, handle) = stage.start(spec).await;
    assert_eq!(stage.log(), "+a +b +c");
    (stage, tree, handle)
}

#[tokio::test(start_paused = true)]
async fn one_for_one_restarts_only_the_failed_child() {
    let (stage, tree, _root) = three(Strategy::OneForOne).await;
    for order in [Order::Panic, Order::Fail] {
        stage.tell("root/b", order);
        settled().await;
        eventually("b is back", || tree.all_running()).await;
        assert_eq!(stage.log(), "-b +b");
    }
    assert_eq!(node(&tree, "root/b").restarts.crash, 2);
    assert_eq!(tree.snapshot().children.iter().map(|c| c.restarts.total()).sum::<u64>(), 2);
    assert_eq!(stage.attempt("root/b").await, 3);
}

#[tokio::test(start_paused = true)]
async fn one_for_all_stops_all_in_reverse_and_starts_all_in_order() {
    let (stage, tree, _root) = three(Strategy::OneForAll).await;
    stage.tell("root/b", Order::Panic);
    settled().await;
    assert_eq!(stage.log(), "-b -c -a +a +b +c");
    assert!(tree.all_running());
    assert_eq!(node(&tree, "root/b").restarts.crash, 1);
    assert_eq!(node(&tree, "root/a").restarts.dependency, 1);
    assert_eq!(node(&tree, "root/c").restarts.dependency, 1);
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_restarts_the_failed_child_and_those_after_it() {
    let (stage, tree, _root) = three(Strategy::RestForOne).await;
    stage.tell("root/b", Order::Panic);
    settled().await;
    assert_eq!(stage.log(), "-b -c +b +c");
    stage.tell("root/a", Order::Panic);
    settled().await;
    assert_eq!(stage.log(), "-a -c -b +a +b +c");
    stage.tell("root/c", Order::Panic);
    settled().await;
    assert_eq!(stage.log(), "-c +c");
    assert!(tree.all_running());
}

#[tokio::test(start_paused = true)]
async fn an_earlier_sibling_that_fails_during_a_group_restart_joins_it() {
    let stage = Stage::default();
    let spec = root(Strategy::RestForOne).children(["a", "b", "c"].map(|id| stage.child(id)));
    let (tree, _root) = stage.start(spec).await;
    stage.log();
    stage.with(|s| s.start_takes.insert("root/b".to_owned(), secs(5)));
    stage.tell("root/b", Order::Panic);
    sleep(secs(1)).await;
    assert_eq!(node(&tree, "root/b").state, NodeState::Starting);
    stage.tell("root/a", Order::Panic);
    sleep(secs(1)).await;
    // The start of b that was under way is given up, for it may have used the old a.
    assert_eq!(stage.log(), "-b -c -a +a");
    eventually("all are back", || tree.all_running()).await;
    assert_eq!(stage.log(), "+b +c");
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_restarts_a_permanent_child_but_not_a_transient_one() {
    let stage = Stage::default();
    let spec = root(Strategy::OneForOne)
        .child(stage.child("permanent"))
        .child(stage.child("transient").restart(RestartType::Transient));
    let (tree, _root) = stage.start(spec).await;
    stage.log();
    stage.tell("root/permanent", Order::StopCleanly);
    stage.tell("root/transient", Order::StopCleanly);
    settled().await;
    assert_eq!(node(&tree, "root/permanent").state, NodeState::Running);
    assert_eq!(node(&tree, "root/permanent").restarts.crash, 1);
    assert_eq!(node(&tree, "root/transient").state, NodeState::Stopped);
    assert_eq!(node(&tree, "root/transient").restarts.total(), 0);
    assert!(tree.all_running(), "a transient child that is done is no reason to be unready");
}

#[tokio::test(start_paused = true)]
async fn a_crash_restarts_a_transient_child() {
    let stage = Stage::default();
    let child = stage.child("transient").restart(RestartType::Transient);
    let (tree, _root) = stage.start(root(Strategy::OneForOne).child(child)).await;
    stage.kill("root/transient");
    settled().await;
    stage.tell("root/transient", Order::Fail);
    eventually("it is back", || node(&tree, "root/transient").restarts.crash == 2).await;
    eventually("it runs", || tree.all_running()).await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_childs_failure_restarts_nothing() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let stage = Stage::default();
        let spec = root(strategy)
            .budget(RestartBudget::new(0, secs(1)))
            .child(stage.child("telemetry").restart(RestartType::Temporary))
            .child(stage.child("node"));
        let (tree, _root) = stage.start(spec).await;
        stage.log();
        stage.tell("root/telemetry", Order::Panic);
        sleep(secs(60)).await;
        assert_eq!(stage.log(), "-telemetry");
        assert_eq!(node(&tree, "root/telemetry").state, NodeState::Failed);
        assert!(tree.all_running(), "a temporary child does not count");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_restart_is_immediate_and_later_ones_wait_twice_as_long_each() {
    let stage = Stage::default();
    let (tree, _root) = stage.start(root(Strategy::OneForOne).child(stage.child("a"))).await;
    for restarts in 1..=7 {
        let before = Instant::now();
        stage.tell("root/a", Order::Panic);
        eventually("it restarts", || node(&tree, "root/a").restarts.crash == restarts).await;
        if restarts == 3 {
            let NodeState::BackingOff { until_ms } = node(&tree, "root/a").state else { panic!() };
            assert!((190..=200).contains(&until_ms), "{until_ms}");
            assert!(!tree.all_running());
        }
        eventually("it runs", || tree.all_running()).await;
        let pause = *stage.pauses("root/a").last().unwrap();
        let took = before.elapsed().as_millis();
        assert!((pause..pause + 10).contains(&took), "{took} ms for a pause of {pause} ms");
    }
    assert_eq!(stage.pauses("root/a"), [0, 100, 200, 400, 800, 1_000, 1_000]);
}

#[tokio::test(start_paused = true)]
async fn a_healthy_while_resets_the_back_off() {
    let stage = Stage::default();
    let (tree, _root) = stage.start(root(Strategy::OneForOne).child(stage.child("a"))).await;
    for healthy in [0, 0, 19, 20, 0] {
        sleep(secs(healthy)).await;
        stage.tell("root/a", Order::Panic);
        settled().await;
        eventually("it runs", || tree.all_running()).await;
    }
    assert_eq!(stage.pauses("root/a"), [0, 100, 200, 0, 100]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_waits_to_be_restarted_does_not_hold_up_its_siblings() {
    let stage = Stage::default();
    let spec = root(Strategy::OneForOne).children(["a", "b"].map(|id| stage.child(id)));
    let (tree, _root) = stage.start(spec).await;
    stage.with(|s| s.start_takes.insert("root/a".to_owned(), secs(300)));
    stage.tell("root/a", Order::Panic);
    settled().await;
    stage.tell("root/b", Order::Panic);
    settled().await;
    assert_eq!(node(&tree, "root/a").state, NodeState::Starting);
    assert_eq!(node(&tree, "root/b").state, NodeState::Running);
}

#[tokio::test(start_paused = true)]
async fn an_operators_or_dependencys_restart_spends_no_budget_of_the_child() {
    let stage = Stage::default();
    let none = RestartBudget::new(0, secs(60));
    let spec = root(Strategy::OneForOne).budget(none).child(stage.child("a").budget(none));
    let (tree, _root) = stage.start(spec).await;
    for _ in 0..20 {
        tree.restart_child("root/a", RestartCause::Dependency).unwrap();
        settled().await;
        tree.restart_child("root/a", RestartCause::Operator).unwrap();
        settled().await;
    }
    let a = node(&tree, "root/a");
    assert_eq!((a.restarts.dependency, a.restarts.operator, a.restarts.total()), (20, 20, 40));
    assert_eq!(a.last_failure, None, "nothing has failed");
    assert!(tree.all_running());
    assert_eq!(stage.attempt("root/a").await, 41);
}

#[tokio::test(start_paused = true)]
async fn several_requests_for_a_restart_that_has_not_happened_make_one() {
    let stage = Stage::default();
    let (tree, _root) = stage.start(root(Strategy::OneForOne).child(stage.child("a"))).await;
    stage.with(|s| s.stop_takes.insert("root/a".to_owned(), secs(1)));
    for _ in 0..5 {
        tree.restart_child("root/a", RestartCause::Dependency).unwrap();
    }
    sleep(secs(5)).await;
    assert_eq!(node(&tree, "root/a").restarts.dependency, 1);
    assert_eq!(stage.attempt("root/a").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_requested_restart_ends_the_back_off() {
    let stage = Stage::default();
    let slow = Backoff { initial: secs(100), max: secs(100), ..exact_backoff() };
    let spec = root(Strategy::OneForOne).child(stage.child("a").backoff(slow));
    let (tree, _root) = stage.start(spec).await;
    for _ in 0..2 {
        stage.tell("root/a", Order::Panic);
        settled().await;
    }
    assert!(matches!(node(&tree, "root/a").state, NodeState::BackingOff { .. }));
    tree.restart_child("root/a", RestartCause::Operator).unwrap();
    settled().await;
    assert!(tree.all_running());
    sleep(secs(200)).await;
    assert_eq!(stage.attempt("root/a").await, 3, "the old timer starts nothing more");
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_start_a_child_that_is_not_restarted_by_itself() {
    let stage = Stage::default();
    let child = stage.child("a").restart(RestartType::Temporary);
    let (tree, _root) = stage.start(root(Strategy::OneForOne).child(child)).await;
    stage.tell("root/a", Order::Panic);
    settled().await;
    assert_eq!(node(&tree, "root/a").state, NodeState::Failed);
    tree.restart_child("root/a", RestartCause::Operator).unwrap();
    settled().await;
    assert_eq!(node(&tree, "root/a").state, NodeState::Running);
}

#[tokio::test(start_paused = true)]
async fn only_children_that_exist_can_be_restarted() {
    let stage = Stage::default();
    let below = SupervisorSpec::new("below", Strategy::OneForOne).child(stage.child("a"));
    let (tree, handle) =
        stage.start(root(Strategy::OneForOne).child(ChildSpec::supervisor(below))).await;
    for path in ["", "root", "a", "root/a", "root/below/a/x", "root/below/"] {
        let refused = tree.restart_child(path, RestartCause::Operator);
        assert_eq!(refused, Err(RestartError::UnknownChild(path.to_owned())));
    }
    tree.restart_child("root/below/a", RestartCause::Operator).unwrap();
    settled().await;
    assert_eq!(stage.attempt("root/below/a").await, 2);
    handle.stop().await.unwrap();
    let path = "root/below/a".to_owned();
    let refused = tree.restart_child(&path, RestartCause::Operator);
    assert_eq!(refused, Err(RestartError::SupervisorDown(path)));
}

#[tokio::test(start_paused = true)]
async fn a_failure_by_dependency_spends_its_own_budget_only() {
    let stage = Stage::default();
    let child = stage
        .child("group")
        .budget(RestartBudget::new(0, secs(600)))
        .dependency_budget(RestartBudget::new(2, secs(600)));
    let spec = root(Strategy::OneForOne).budget(RestartBudget::new(0, secs(600))).child(child);
    let (tree, handle) = stage.start(spec).await;
    for _ in 0..2 {
        stage.tell("root/group", Order::FailByDependency);
        settled().await;
        eventually("it runs", || tree.all_running()).await;
    }
    assert_eq!(node(&tree, "root/group").restarts.dependency, 2);
    stage.tell("root/group", Order::FailByDependency);
    assert!(handle.wait().await.unwrap_err().reason.contains("2 restarts in 600 s"));
}

#[tokio::test(start_paused = true)]
async fn a_lane_failure_restarts_its_groups_once_and_spends_only_the_lanes_budget() {
    let stage = Stage::default();
    let one = RestartBudget::new(1, secs(600));
    let asking = stage.clone();
    // The lane asks for its groups when it comes back.
    let lane = ChildSpec::worker("lane", move |ctx: StartContext| {
        let stage = asking.clone();
        async move {
            if ctx.cause.is_some() {
                for group in ["root/g0", "root/g1"] {
                    ctx.tree.restart_child(group, RestartCause::Dependency).unwrap();
                }
            }
            let arguments = (stage, ctx.clone());
            Ok(Puppet::spawn_linked(None, Puppet, arguments, ctx.supervisor).await?.into())
        }
    });
    let group = |id| stage.child(id).budget(RestartBudget::new(0, secs(600)));
    let spec = root(Strategy::OneForOne)
        .budget(one)
        .child(lane.budget(one))
        .children(["g0", "g1", "g2"].map(group));
    let (tree, handle) = stage.start(spec).await;
    stage.log();
    stage.tell("root/lane", Order::Panic);
    settled().await;
    assert!(tree.all_running());
    let restarts = |id: &str| node(&tree, &format!("root/{id}")).restarts;
    assert_eq!((restarts("lane").crash, restarts("lane").total()), (1, 1));
    assert_eq!((restarts("g0").dependency, restarts("g0").total()), (1, 1));
    assert_eq!((restarts("g1").dependency, restarts("g1").total()), (1, 1));
    assert_eq!(restarts("g2").total(), 0);
    stage.tell("root/lane", Order::Panic);
    assert!(handle.wait().await.unwrap_err().reason.contains("`lane` has spent its own budget"));
}

#[tokio::test(start_paused = true)]
async fn one_crash_among_a_thousand_children_restarts_only_that_one() {
    let stage = Stage::default();
    let spec = root(Strategy::OneForOne).children((0..1_000).map(|n| stage.child(format!("c{n}"))));
    let (tree, handle) = stage.start(spec).await;
    stage.log();
    stage.tell("root/c617", Order::Panic);
    settled().await;
    assert_eq!(stage.log(), "-c617 +c617");
    assert!(tree.all_running());
    assert_eq!(tree.snapshot().children.iter().map(|c| c.restarts.total()).sum::<u64>(), 1);
    handle.stop().await.unwrap();
    assert_eq!(stage.alive(), 0);
    let stopped = stage.log();
    let order: Vec<String> = (0..1_000).rev().map(|n| format!("-c{n}")).collect();
    assert_eq!(stopped, order.join(" "));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_crashes_at_once_are_all_repaired() {
    let stage = Stage::default();
    let spec = root(Strategy::OneForOne).children((0..1_000).map(|n| stage.child(format!("c{n}"))));
    let (tree, _root) = stage.start(spec).await;
    for n in 0..1_000 {
        stage.tell(&format!("root/c{n}"), Order::Panic);
    }
    settled().await;
    assert!(tree.all_running());
    assert_eq!(stage.with(|s| s.most_alive), 1);
    assert!(tree.snapshot().children.iter().all(|c| c.restarts.crash == 1));
}
