//! Start and stop.

use super::*;

#[tokio::test(start_paused = true)]
async fn children_start_in_order_each_after_the_one_before_runs() {
    let stage = Stage::default();
    for (path, takes) in [("root/a", 3), ("root/below/b", 2), ("root/c", 1)] {
        stage.with(|s| s.start_takes.insert(path.to_owned(), secs(takes)));
    }
    let below = SupervisorSpec::new("below", Strategy::OneForOne).child(stage.child("b"));
    let spec = root(Strategy::OneForOne)
        .child(stage.child("a"))
        .child(ChildSpec::supervisor(below))
        .child(stage.child("c"));
    let tree = stage.tree(spec);
    assert_eq!(tree.snapshot().state, NodeState::Stopped);
    let began = Instant::now();
    let (root, ()) = tokio::join!(tree.start(), async {
        sleep(secs(4)).await;
        assert_eq!(stage.log(), "+a");
        assert_eq!(tree.snapshot().state, NodeState::Starting);
        assert_eq!(node(&tree, "root/below/b").state, NodeState::Starting);
        assert_eq!(node(&tree, "root/c").state, NodeState::Stopped);
        assert!(!tree.all_running());
    });
    root.unwrap();
    assert_eq!(began.elapsed().as_secs(), 6);
    assert_eq!(stage.log(), "+b +c");
    assert!(tree.all_running());
}

#[tokio::test(start_paused = true)]
async fn a_stop_goes_in_reverse_order_and_waits_for_each_child() {
    let stage = Stage::default();
    for path in ["root/a", "root/below/b", "root/below/c", "root/d"] {
        stage.with(|s| s.stop_takes.insert(path.to_owned(), secs(2)));
    }
    let below = SupervisorSpec::new("below", Strategy::OneForOne)
        .children(["b", "c"].map(|id| stage.child(id)));
    let spec = root(Strategy::OneForOne)
        .child(stage.child("a"))
        .child(ChildSpec::supervisor(below))
        .child(stage.child("d"));
    let (tree, handle) = stage.start(spec).await;
    stage.log();
    let began = Instant::now();
    let (stopped, ()) = tokio::join!(handle.stop(), async {
        sleep(secs(3)).await;
        assert_eq!(stage.log(), "-d");
        assert_eq!(node(&tree, "root/d").state, NodeState::Stopped);
        assert_eq!(node(&tree, "root/below").state, NodeState::Stopping);
        assert!(!tree.all_running());
    });
    stopped.unwrap();
    assert_eq!(began.elapsed().as_secs(), 8);
    assert_eq!(stage.log(), "-c -b -a");
    assert_eq!(stage.alive(), 0);
    assert!(!stage.notes().iter().any(|(_, event)| matches!(event, NoteEvent::Killed { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_hangs_on_stop_is_killed_after_its_timeout() {
    let stage = Stage::default();
    stage.with(|s| s.stop_takes.insert("root/b".to_owned(), secs(3_600)));
    let spec = root(Strategy::OneForOne)
        .child(stage.child("a"))
        .child(stage.child("b").shutdown(secs(7)))
        .child(stage.child("c"));
    let (_tree, handle) = stage.start(spec).await;
    stage.log();
    let began = Instant::now();
    handle.stop().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 7);
    assert_eq!(stage.log(), "-c -b -a");
    let killed = NoteEvent::Killed { why: KillReason::ShutdownTimeout };
    assert!(stage.notes().contains(&("root/b".to_owned(), killed)));
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_handler_hangs_is_killed_when_it_must_be_restarted() {
    let stage = Stage::default();
    let spec = root(Strategy::OneForOne).child(stage.child("a").shutdown(secs(7)));
    let (tree, _root) = stage.start(spec).await;
    stage.tell("root/a", Order::Hang);
    settled().await;
    tree.restart_child("root/a", RestartCause::Operator).unwrap();
    sleep(secs(6)).await;
    assert_eq!(node(&tree, "root/a").state, NodeState::Stopping);
    sleep(secs(2)).await;
    assert_eq!(stage.attempt("root/a").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_first_start_is_tried_again_within_the_budget() {
    let stage = Stage::default();
    stage.with(|s| s.starts_to_fail.insert("root/b".to_owned(), 3));
    let spec = root(Strategy::RestForOne)
        .budget(RestartBudget::new(3, secs(600)))
        .children(["a", "b", "c"].map(|id| stage.child(id)));
    let began = Instant::now();
    let (tree, _root) = stage.start(spec).await;
    assert_eq!(stage.log(), "+a +b +c");
    assert_eq!(began.elapsed().as_millis(), 100 + 200);
    let b = node(&tree, "root/b");
    assert_eq!((b.restarts.start_failure, b.restarts.total()), (3, 3));
    assert_eq!(b.last_failure.as_deref(), Some("no start today"));
    assert_eq!(stage.attempt("root/b").await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_fails_once_too_often_fails_the_tree_and_stops_what_had_started() {
    let stage = Stage::default();
    stage.with(|s| s.starts_to_fail.insert("root/c".to_owned(), 4));
    let spec = root(Strategy::OneForOne)
        .children(["a", "b"].map(|id| stage.child(id)))
        .child(stage.child("c").budget(RestartBudget::new(3, secs(600))))
        .child(stage.child("d"));
    let tree = stage.tree(spec);
    let error = tree.start().await.err().unwrap().to_string();
    assert_eq!(error, "`c` has spent its own budget (3 restarts in 600 s): no start today");
    assert_eq!(stage.log(), "+a +b -b -a");
    assert_eq!(tree.snapshot().state, NodeState::Failed);
    assert_eq!(node(&tree, "root/c").state, NodeState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_below_that_cannot_start_counts_as_one_failure_above() {
    let stage = Stage::default();
    stage.with(|s| s.starts_to_fail.insert("root/below/a".to_owned(), 4));
    let below = SupervisorSpec::new("below", Strategy::OneForOne)
        .budget(RestartBudget::new(1, secs(600)))
        .child(stage.child("a"));
    let spec =
        root(Strategy::OneForOne).child(ChildSpec::supervisor(below).backoff(exact_backoff()));
    let (tree, _root) = stage.start(spec).await;
    assert_eq!(node(&tree, "root/below").restarts.start_failure, 2);
    // The attempt that ends a budget is no restart.
    assert_eq!(node(&tree, "root/below/a").restarts.start_failure, 2);
    assert!(tree.all_running());
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_to_start_is_tried_again_and_holds_up_only_those_after_it() {
    let stage = Stage::default();
    let spec = root(Strategy::RestForOne).children(["a", "b", "c"].map(|id| stage.child(id)));
    let (tree, _root) = stage.start(spec).await;
    stage.log();
    stage.with(|s| s.starts_to_fail.insert("root/b".to_owned(), 2));
    stage.tell("root/a", Order::Panic);
    settled().await;
    assert_eq!(stage.log(), "-a -c -b +a");
    // The first failure to start is repaired at once, the second after a pause.
    assert!(matches!(node(&tree, "root/b").state, NodeState::BackingOff { .. }));
    eventually("all run", || tree.all_running()).await;
    assert_eq!(stage.log(), "+b +c");
    assert_eq!(node(&tree, "root/b").restarts.start_failure, 2);
    assert_eq!(node(&tree, "root/b").restarts.dependency, 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_cannot_start_spends_the_budget() {
    let stage = Stage::default();
    let spec =
        root(Strategy::OneForOne).budget(RestartBudget::new(4, secs(600))).child(stage.child("a"));
    let (_tree, handle) = stage.start(spec).await;
    stage.with(|s| s.starts_to_fail.insert("root/a".to_owned(), 100));
    stage.tell("root/a", Order::Panic);
    let reason = handle.wait().await.unwrap_err().reason;
    assert!(reason.ends_with("(4 restarts in 600 s): no start today"), "{reason}");
    // One crash and three failed starts were allowed; the fourth failed start escalated.
    assert_eq!(stage.with(|s| s.starts_to_fail["root/a"]), 96);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_too_long_is_a_failed_start() {
    let stage = Stage::default();
    stage.with(|s| s.start_takes.insert("root/a".to_owned(), secs(60)));
    let child = stage.child("a").start_timeout(secs(5)).budget(RestartBudget::new(1, secs(600)));
    let tree = stage.tree(root(Strategy::OneForOne).child(child));
    let began = Instant::now();
    let error = tree.start().await.err().unwrap().to_string();
    assert!(error.ends_with("did not start within 5000 ms"), "{error}");
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_whose_start_takes_too_long_leaves_nothing_behind() {
    let stage = Stage::default();
    stage.with(|s| s.start_takes.insert("root/below/slow".to_owned(), secs(7)));
    let below = SupervisorSpec::new("below", Strategy::OneForOne)
        .children(["a", "slow", "b"].map(|id| stage.child(id)));
    let child = ChildSpec::supervisor(below).start_timeout(secs(5)).backoff(exact_backoff());
    let tree = stage.tree(root(Strategy::OneForOne).child(child));
    let (root, ()) = tokio::join!(tree.start(), async {
        sleep(secs(6)).await;
        stage.with(|s| s.start_takes.clear());
    });
    root.unwrap();
    sleep(secs(60)).await;
    assert_eq!(stage.log(), "+a -a +a -a +a +slow +b");
    assert_eq!(stage.with(|s| s.most_alive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_restart_gives_up_the_start() {
    let stage = Stage::default();
    let spec = root(Strategy::OneForOne).children(["a", "b"].map(|id| stage.child(id)));
    let (_tree, handle) = stage.start(spec).await;
    stage.with(|s| s.start_takes.insert("root/a".to_owned(), secs(3_600)));
    stage.tell("root/a", Order::Panic);
    sleep(secs(5)).await;
    let began = Instant::now();
    handle.stop().await.unwrap();
    assert!(began.elapsed() < secs(1));
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_that_cannot_start_is_left_out() {
    let stage = Stage::default();
    stage.with(|s| s.starts_to_fail.insert("root/telemetry".to_owned(), 1));
    let spec = root(Strategy::OneForOne)
        .child(stage.child("telemetry").restart(RestartType::Temporary))
        .child(stage.child("node"));
    let (tree, _root) = stage.start(spec).await;
    assert_eq!(stage.log(), "+node");
    assert_eq!(node(&tree, "root/telemetry").state, NodeState::Failed);
    assert!(tree.all_running());
}

#[tokio::test(start_paused = true)]
async fn a_start_function_that_panics_or_does_not_link_has_failed() {
    let stage = Stage::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, inner) = (Arc::clone(&calls), stage.clone());
    let child = ChildSpec::worker("a", move |ctx: StartContext| {
        let (call, stage) = (counted.fetch_add(1, Ordering::Relaxed), inner.clone());
        async move {
            let arguments = (stage, ctx.clone());
            match call {
                0 => panic!("a bug in the closure"),
                1 => Ok(Puppet::spawn(None, Puppet, arguments).await?.into()),
                _ => {
                    Ok(Puppet::spawn_linked(None, Puppet, arguments, ctx.supervisor).await?.into())
                }
            }
        }
    });
    let (tree, handle) = stage.start(root(Strategy::OneForOne).child(child)).await;
    assert_eq!(stage.log(), "+a -a +a", "the actor that is not linked is ended");
    let a = node(&tree, "root/a");
    assert_eq!(a.restarts.start_failure, 2);
    assert_eq!(a.last_failure.unwrap(), "the started actor is not linked to its supervisor");
    handle.stop().await.unwrap();
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_fails_while_its_later_sibling_starts_is_restarted() {
    let stage = Stage::default();
    stage.with(|s| s.start_takes.insert("root/b".to_owned(), secs(5)));
    let spec = root(Strategy::OneForOne).children(["a", "b"].map(|id| stage.child(id)));
    let tree = stage.tree(spec);
    let (root, ()) = tokio::join!(tree.start(), async {
        sleep(secs(1)).await;
        stage.tell("root/a", Order::Panic);
        sleep(secs(1)).await;
        assert!(!tree.all_running());
        assert_eq!(node(&tree, "root/a").state, NodeState::Stopped, "the view does not lie");
    });
    root.unwrap();
    settled().await;
    assert!(tree.all_running());
}

/// Ends as soon as it runs, so that the news of its end overtakes the news of its start.
struct Mayfly;

impl Actor for Mayfly {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_start(&self, _: ActorRef<()>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        Err("gone again".into())
    }
}

async fn mayflies() {
    for _ in 0..50 {
        let at_once = Backoff { initial: Duration::ZERO, ..exact_backoff() };
        let spec = root(Strategy::OneForOne)
            .budget(RestartBudget::new(20, secs(600)))
            .child(ChildSpec::actor("mayfly", |_| (Mayfly, ())).backoff(at_once));
        let tree = Stage::default().tree(spec);
        let handle = tree.start().await.unwrap();
        let end = timeout(PATIENCE, handle.wait()).await.unwrap();
        assert!(end.unwrap_err().reason.ends_with("(20 restarts in 600 s): gone again"));
        assert_eq!(node(&tree, "root/mayfly").restarts.crash, 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_ends_right_after_its_start_is_noticed_each_time() {
    mayflies().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_ends_right_after_its_start_is_noticed_each_time_on_threads() {
    mayflies().await;
}

#[test]
fn paths_are_unambiguous() {
    let stage = Stage::default();
    let check = |spec| Tree::new(spec, TreeOptions::default()).err();
    let twice = root(Strategy::OneForOne).children(["a", "a"].map(|id| stage.child(id)));
    let (supervisor, id) = ("root".to_owned(), "a".to_owned());
    assert_eq!(check(twice), Some(SpecError::DuplicateId { supervisor, id }));
    let below = SupervisorSpec::new("b", Strategy::OneForOne).child(stage.child("x/y"));
    let nested = root(Strategy::OneForOne).child(ChildSpec::supervisor(below));
    assert_eq!(check(nested), Some(SpecError::BadId("x/y".to_owned())));
}
