//! A first start that nobody waits for.

use super::*;

/// A child in the background between two others; each start of it takes ten seconds.
fn with_slow_child(stage: &Stage) -> SupervisorSpec {
    stage.with(|s| s.start_takes.insert("root/slow/b".to_owned(), secs(10)));
    let slow = SupervisorSpec::new("slow", Strategy::OneForOne)
        .budget(RestartBudget::new(0, secs(600)))
        .child(stage.child("b"));
    let slow = ChildSpec::supervisor(slow).backoff(exact_backoff()).in_background(true);
    root(Strategy::OneForOne).child(stage.child("a")).child(slow).child(stage.child("c"))
}

#[tokio::test(start_paused = true)]
async fn siblings_do_not_wait_for_a_child_in_the_background_which_runs_once_it_has_started() {
    let stage = Stage::default();
    let began = Instant::now();
    let (tree, handle) = stage.start(with_slow_child(&stage)).await;
    assert_eq!((began.elapsed(), stage.log().as_str()), (Duration::ZERO, "+a +c"));
    assert_eq!(node(&tree, "root/slow").state, NodeState::Starting);
    assert!(!tree.all_running(), "not before everything runs");
    eventually("it runs", || tree.all_running()).await;
    assert_eq!((began.elapsed().as_secs(), stage.log().as_str()), (10, "+b"));
    assert_eq!(node(&tree, "root/slow").restarts.total(), 0);
    handle.stop().await.unwrap();
    assert_eq!((stage.log().as_str(), stage.alive()), ("-c -b -a", 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_start_in_the_background_and_leaves_nothing_of_it() {
    let stage = Stage::default();
    let (tree, handle) = stage.start(with_slow_child(&stage)).await;
    // Paused time: halfway through the start.
    sleep(secs(5)).await;
    let began = Instant::now();
    handle.stop().await.unwrap();
    assert_eq!((began.elapsed(), stage.log().as_str()), (Duration::ZERO, "+a +c -c -a"));
    // Far longer than the start would have taken.
    sleep(secs(60)).await;
    assert_eq!((stage.log().as_str(), stage.alive()), ("", 0));
    assert_eq!(node(&tree, "root/slow").state, NodeState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_background_that_fails_is_tried_again_within_the_budget() {
    let stage = Stage::default();
    stage.with(|s| s.starts_to_fail.insert("root/slow/b".to_owned(), 3));
    let spec = with_slow_child(&stage).budget(RestartBudget::new(3, secs(600)));
    let began = Instant::now();
    let (tree, _root) = stage.start(spec).await;
    eventually("it runs", || tree.all_running()).await;
    assert_eq!(stage.pauses("root/slow"), [0, 100, 200]);
    assert_eq!(began.elapsed().as_secs(), 40);
    assert_eq!(node(&tree, "root/slow").restarts.start_failure, 3);
    assert_eq!(stage.log(), "+a +c +b", "nobody else noticed");
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_background_that_fails_once_too_often_ends_its_supervisor() {
    let stage = Stage::default();
    stage.with(|s| s.starts_to_fail.insert("root/slow/b".to_owned(), 4));
    let spec = with_slow_child(&stage).budget(RestartBudget::new(3, secs(600)));
    let (_tree, handle) = stage.start(spec).await;
    let reason = handle.wait().await.unwrap_err().reason;
    assert!(reason.contains("(3 restarts in 600 s)"), "{reason}");
    assert!(reason.ends_with("no start today"), "{reason}");
    assert_eq!((stage.log().as_str(), stage.alive()), ("+a +c -c -a", 0));
}

#[tokio::test(start_paused = true)]
async fn a_child_in_the_background_that_ends_while_others_start_is_started_again() {
    let stage = Stage::default();
    stage.with(|s| s.start_takes.insert("root/c".to_owned(), secs(5)));
    let spec = root(Strategy::OneForOne)
        .child(stage.child("b").in_background(true))
        .child(stage.child("c"));
    let tree = stage.tree(spec);
    let (root, ()) = tokio::join!(tree.start(), async {
        // While the other one still starts.
        sleep(secs(1)).await;
        stage.tell("root/b", Order::Panic);
    });
    let _root = root.unwrap();
    eventually("all run", || tree.all_running()).await;
    assert_eq!(stage.log(), "+b -b +c +b");
    assert_eq!(node(&tree, "root/b").restarts.crash, 1);
}

#[test]
fn a_child_whose_siblings_are_restarted_with_it_cannot_start_in_the_background() {
    let stage = Stage::default();
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let spec = root(strategy).child(stage.child("a").in_background(true));
        let error = Tree::new(spec, TreeOptions::default()).err();
        let (supervisor, id) = ("root".to_owned(), "a".to_owned());
        assert_eq!(error, Some(SpecError::Background { supervisor, id }));
    }
}
