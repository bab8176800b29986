//! Subscribers that are stuck, come late, vanish, or know what cannot be; and what is kept for them.

use super::*;
use crate::store::tables::TestTables;

#[tokio::test]
async fn a_stuck_subscriber_holds_up_nobody_and_must_be_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let world = Delivery::start(folder.path(), LIMITS).await;
    world.emit(0, 10).await;
    world.wait_equal(0..1).await;
    let cell = world.other.cell(0);
    let replica = cell.replica_slot().send_replace(None);
    for _ in 0..40 {
        world.emit(0, 100).await;
    }
    // The one that works has everything; what the stuck one lacks waits, and memory does not grow by
    // trying.
    eventually("the others go on", async || world.taken(0).await == 4_010).await;
    assert!(world.waiting() >= 4_000);
    assert_eq!(world.taken_by_other(0).await, 10);
    assert_ne!(world.feed("other/0").status().state, FeedState::MustRebuild);
    for _ in 0..40 {
        world.emit(0, 100).await;
    }
    // Beyond the bound it is given up; that is seen as soon as it answers at all.
    eventually("the outbox is trimmed past it", async || {
        world.emit(2, 1).await;
        world.waiting() <= 1_000
    })
    .await;
    cell.replica_slot().send_replace(replica);
    world.wait_state("other/0", FeedState::MustRebuild).await;
    assert_eq!(world.metric("feed_must_rebuild", "other/0"), 1.0);
    world.end().await;

    // The mark survives a restart, and so does what the subscriber had.
    let world = Delivery::start(folder.path(), LIMITS).await;
    world.wait_state("other/0", FeedState::MustRebuild).await;
    world.emit(0, 1).await;
    let counted = world.counted(0).await;
    world.rebuild_other(0).await;
    assert_eq!(world.emit(0, 7).await, counted + 7);
    world.wait_equal(0..1).await;
    let status = world.wait_state("other/0", FeedState::Following).await;
    assert_eq!(status.epoch, 1);
    assert_eq!(world.metric("feed_must_rebuild", "other/0"), 0.0);
    assert_eq!(
        world.feed("other/0").resume().await.map(|_| ()),
        Ok(()),
        "harmless when it follows"
    );
    world.emit(0, 1).await;
    world.wait_equal(0..1).await;
    world.end().await;
}

#[tokio::test]
async fn the_outbox_is_trimmed_behind_the_slowest_and_not_when_idle() {
    let folder = tempfile::tempdir().unwrap();
    let world = Delivery::start(folder.path(), LIMITS).await;
    for _ in 0..100 {
        world.emit(0, 50).await;
        world.emit(DULL, 50).await;
    }
    world.wait_equal(0..1).await;
    eventually("it is trimmed", async || world.waiting() <= 2 * PASSED_OVER).await;
    let applied = || world.source.cell(0).store.applied().index;
    time::sleep(Duration::from_millis(50)).await;
    let before = applied();
    // Time in which nothing may happen.
    time::sleep(Duration::from_millis(500)).await;
    assert_eq!(applied(), before, "an idle shard writes nothing to its log");
    // 200 commands; settling them took a few entries, not one for each event.
    assert!(before.0 < 500, "{before:?}");
    world.end().await;
}

/// What may stay in the outbox because it concerns a subscriber in nothing.
const PASSED_OVER: usize = 4096;

#[tokio::test]
async fn a_service_without_subscribers_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    world.send(Command::Add { key: 1 }).await.unwrap();
    let cell = world.router.cell(0);
    for table in [crate::store::memtable::OUTBOX, crate::store::memtable::FEEDS] {
        let state = cell.store.lock();
        assert_eq!(state.read().range(table, &[], None).unwrap().count(), 0);
    }
    assert!(!world.metrics.encode().contains("quire_outbox_events{"));
    assert!(world.tree.snapshot().find("test/services/counter/0/relay").is_none());
    world.end().await;
    // The mechanism in tables is the same without any shard.
    let tables = TestTables::new(&["counts"]);
    tables.read(|read| assert!(!crate::store::outbox::Outbox::load(read).unwrap().is_in_use()));
}

/// One of the two was set back: the source to a copy of older files, say, or to one with fewer
/// rebuilds.
#[tokio::test]
async fn a_subscriber_that_has_more_than_there_is_must_be_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let claim = Claim::default();
    let world =
        Delivery::start_with(folder.path(), LIMITS, |sink: &Router<_>, other: &Router<_>| {
            let rough = |inner| {
                let fates = Box::new(|| Fate::Arrives);
                Arc::new(Rough { inner, fates, claim: claim.clone() }) as Port<Source>
            };
            vec![Subscription::of(sink), Subscription::of(other).through(rough)]
        })
        .await;
    world.emit(0, 10).await;
    world.wait_equal(0..1).await;
    let far = EventPosition { index: LogIndex(u64::MAX), number: 0 };
    for (epoch, rebuilt) in [(0, 1), (1, 2), (7, 8)] {
        *claim.lock().unwrap() = Some(crate::store::feed::Feed::up_to(epoch, far));
        world.tree.restart_child(RELAY, RestartCause::Operator).unwrap();
        let status = world.wait_state("other/0", FeedState::MustRebuild).await;
        assert_eq!(status.epoch, epoch);
        let had = world.taken_by_other(0).await;
        world.emit(0, 3).await;
        eventually("the others go on", async || world.taken(0).await == had + 3).await;
        assert_eq!(world.taken_by_other(0).await, had);
        *claim.lock().unwrap() = None;
        world.rebuild_other(0).await;
        world.emit(0, 3).await;
        world.wait_equal(0..1).await;
        let status = world.wait_state("other/0", FeedState::Following).await;
        assert_eq!(status.epoch, rebuilt);
    }
    world.end().await;
}

#[tokio::test]
async fn a_subscriber_that_was_not_declared_for_a_while_must_be_rebuilt_once() {
    let folder = tempfile::tempdir().unwrap();
    let one = |sink: &Router<Sink<0>>, _: &Router<Sink<1>>| vec![Subscription::of(sink)];
    let mut epoch = 0;
    for _ in 0..2 {
        let world = Delivery::start_with(folder.path(), LIMITS, one).await;
        let had = world.taken_by_other(0).await;
        let counted = world.emit(0, 200).await;
        eventually("the one arrives", async || world.taken(0).await == counted).await;
        assert_eq!(world.taken_by_other(0).await, had);
        world.end().await;

        let world = Delivery::start(folder.path(), LIMITS).await;
        // Rebuilds of the time before count, though the source had forgotten it.
        let status = world.wait_state("other/0", FeedState::MustRebuild).await;
        eventually("it is asked", async || world.feed("other/0").status().epoch == epoch).await;
        assert!(status.epoch <= epoch);
        world.rebuild_other(0).await;
        epoch += 1;
        world.emit(0, 10).await;
        world.wait_equal(0..1).await;
        let status = world.wait_state("other/0", FeedState::Following).await;
        assert_eq!(status.epoch, epoch);
        world.end().await;
    }
    // When nobody subscribes any more, what waits for somebody who is stuck goes too.
    let world = Delivery::start(folder.path(), LIMITS).await;
    world.emit(0, 1).await;
    world.wait_equal(0..1).await;
    world.other.cell(0).replica_slot().send_replace(None);
    for _ in 0..10 {
        world.emit(0, 100).await;
    }
    assert!(world.waiting() >= 1_000);
    world.end().await;
    let nobody = |_: &Router<Sink<0>>, _: &Router<Sink<1>>| Vec::new();
    let world = Delivery::start_with(folder.path(), LIMITS, nobody).await;
    eventually("it is trimmed", async || world.waiting() < 100).await;
    world.end().await;
}
