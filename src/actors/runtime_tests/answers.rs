//! Answers that callers keep, while the shard that gave them changes and crashes.

use super::*;
use crate::actors::answers::{Answers, Version};
use crate::ids::UserId;

type Kept = Answers<UserId, u64>;

fn reuse(router: &Router<Counter>, answers: &Kept, key: u64) -> Result<u64, Version> {
    let version = router.version(0, Slot::of(&key));
    let count = answers.of(&UserId(key), version).ok_or(version)?;
    router.spared(0);
    Ok(count)
}

/// What a caller who keeps answers finds.
async fn look(router: &Router<Counter>, answers: &Kept, key: u64) -> u64 {
    let version = match reuse(router, answers, key) {
        Ok(count) => return count,
        Err(version) => version,
    };
    let count = router.query_shard(Call::new(), 0, Query::Get { key }).await.unwrap();
    answers.keep(UserId(key), version, count, 16);
    count
}

#[tokio::test]
async fn an_answer_is_used_again_until_a_command_changes_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let answers = Answers::new(10_000);
    let (router, metrics) = (&world.router, &world.router.cell(0).metrics);
    let looks = [(0, 0), (0, 1), (1, 1), (1, 2), (1, 3)];
    for (count, reused) in looks {
        if count == 1 && reused == 1 {
            assert_eq!(world.send(Command::Add { key: 7 }).await, Ok(1));
        }
        assert_eq!(look(router, &answers, 7).await, count);
        assert_eq!(metrics.times_spared(), reused);
    }
    world.send(Command::Add { key: 8 }).await.unwrap();
    assert!(reuse(router, &answers, 7).is_ok(), "another slot");
    world.send(Command::Refuse).await.unwrap_err();
    world.send(Command::Poison { key: 7 }).await.unwrap_err();
    assert!(reuse(router, &answers, 7).is_ok(), "nothing was changed");
    world.send(Command::Crash { key: 8 }).await.unwrap();
    assert!(reuse(router, &answers, 7).is_err(), "the command may have changed anything");
    assert_eq!(look(router, &answers, 7).await, 1);
    assert!(reuse(router, &answers, 7).is_ok());
    world.router.crash(0);
    eventually("the successor serves", || async { reuse(router, &answers, 7).is_err() }).await;
    world.end().await;
}

/// Whoever was told of a change finds it, and what somebody found once nobody misses who looks later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_finds_an_answer_from_before_what_he_knows() {
    const KEYS: u64 = 4;
    const ADDS: u64 = 100;
    let folder = tempfile::tempdir().unwrap();
    let world = World::start(folder.path()).await;
    let answers = Arc::new(Kept::new(10_000));
    let (stop, stopped) = watch::channel(false);
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (router, answers) = (world.router.clone(), answers.clone());
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let mut seen = [0; KEYS as usize];
                while !*stopped.borrow() {
                    for key in 0..KEYS {
                        let count = look(&router, &answers, key).await;
                        assert!(count >= seen[key as usize], "{key}: {count} after {seen:?}");
                        seen[key as usize] = count;
                    }
                    // What is reused makes nobody wait: others must get their turn.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..KEYS)
        .map(|key| {
            let (router, answers) = (world.router.clone(), answers.clone());
            tokio::spawn(async move {
                for added in 1..=ADDS {
                    let command = match added % 25 {
                        0 => Command::Crash { key },
                        _ => Command::Add { key },
                    };
                    let reply = router.command(Call::new(), command).await;
                    assert_eq!(reply, Ok(Count(added)));
                    assert_eq!(look(&router, &answers, key).await, added);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    stop.send(true).unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(world.router.cell(0).metrics.times_spared() > 0);
    assert!(world.restarts(SHARD, RestartCause::Crash) > 0);
    world.end().await;
}
