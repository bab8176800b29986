//! Commands under an idempotency key: one effect and one answer, whatever dies in between.

use super::*;
use crate::actors::call::IdempotencyKey;

const HOUR: u64 = 60 * 60 * 1_000_000;

fn key(number: u8, request: u8, sending: u64) -> IdempotencyKey {
    IdempotencyKey {
        owner: 7,
        command: CommandId([number; 16]),
        fingerprint: [request; 16],
        sending,
    }
}

impl World {
    async fn once(
        &self,
        key: IdempotencyKey,
        command: Command,
    ) -> (Result<u64, CallError<No>>, bool) {
        let outcome = self.router.command_once(Call::new(), key, command).await;
        (outcome.result.map(|Count(count)| count), outcome.replayed)
    }
}

#[tokio::test]
async fn a_key_has_one_effect_and_one_answer() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let add = || Command::Add { key: 1 };
    assert_eq!(world.once(key(1, 1, 1), add()).await, (Ok(1), false));
    assert_eq!(world.once(key(1, 1, 2), add()).await, (Ok(1), true));
    // The router sends the same sending again when a shard dies on the way.
    assert_eq!(world.once(key(1, 1, 1), add()).await, (Ok(1), false));
    assert_eq!(world.once(key(1, 2, 3), add()).await, (Err(CallError::KeyReused), false));
    assert_eq!(world.once(key(2, 1, 4), add()).await, (Ok(2), false));
    let other = IdempotencyKey { owner: 8, ..key(1, 1, 5) };
    assert_eq!(world.once(other, add()).await, (Ok(3), false), "each owner has his own");
    let no = Err(CallError::Refused(No));
    assert_eq!(world.once(key(3, 1, 6), Command::Refuse).await, (no.clone(), false));
    assert_eq!(world.once(key(3, 1, 7), Command::Refuse).await, (no, true));
    let poison = || Command::Poison { key: 1 };
    assert_eq!(world.once(key(4, 1, 8), poison()).await, (Err(CallError::Internal), false));
    assert_eq!(world.once(key(4, 1, 9), poison()).await, (Err(CallError::Internal), true));
    assert_eq!(world.get(1).await, 3);
    let poisoned = "quire_poisoned_total{service=\"counter\",shard=\"0\"} 1";
    assert!(world.metrics.encode().contains(poisoned), "the repetition was not tried");
    world.end().await;
}

#[tokio::test]
async fn keys_sent_together_have_one_effect() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let send = |sending| world.once(key(1, 1, sending), Command::Add { key: 1 });
    let together = futures_util::future::join_all((0..50).map(send)).await;
    assert!(together.iter().all(|(result, _)| *result == Ok(1)));
    assert_eq!(together.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert_eq!(world.get(1).await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_key_outlives_crashes_checkpoints_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    // The actor dies right after the effect: the router sends the same again to its successor.
    assert_eq!(world.once(key(1, 1, 1), Command::Crash { key: 1 }).await, (Ok(1), false));
    assert_eq!(world.restarts(SHARD, RestartCause::Crash), 1);
    assert_eq!(world.once(key(1, 1, 2), Command::Crash { key: 1 }).await, (Ok(1), true));
    let crashed = files_as_a_crash_leaves_them(folder.path());
    world.end().await;
    // From the log, and from the checkpoint that ending writes.
    for folder in [crashed.path(), folder.path()] {
        let world = World::start(folder).await;
        assert_eq!(world.once(key(1, 1, 3), Command::Crash { key: 1 }).await, (Ok(1), true));
        assert_eq!(world.get(1).await, 1);
        world.end().await;
    }
}

#[tokio::test]
async fn a_key_is_free_again_after_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let hours = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let clock = Clock::from_fn({
        let (system, hours) = (Clock::system(), hours.clone());
        move || Stamp(system.now().0 + HOUR * hours.load(std::sync::atomic::Ordering::Relaxed))
    });
    let world = World::start_at(folder.path(), clock).await;
    let send = |sending| world.once(key(1, 1, sending), Command::Add { key: 1 });
    assert_eq!(send(1).await, (Ok(1), false));
    hours.store(23, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(send(2).await, (Ok(1), true));
    hours.store(25, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(send(3).await, (Ok(2), false));
    assert_eq!(send(4).await, (Ok(2), true));
    world.end().await;
}
