//! A second copy from what the owners keep, while events go on.

use super::saved::reload;
use super::*;

/// What a rebuild of `copied` does while `meanwhile` happens, written and read again now and then.
fn rebuild(
    shard: &mut Shard,
    copied: &[Fact],
    meanwhile: Vec<(Stamp, Command)>,
    now: Stamp,
) -> u32 {
    let reply = shard.try_apply(now, Command::BeginRebuild).unwrap();
    let Reply::Rebuild(rebuild) = reply else { panic!("{reply:?}") };
    let mut meanwhile = meanwhile.into_iter();
    for (n, facts) in copied.chunks(50).enumerate() {
        let facts = facts.to_vec();
        shard.apply(now, Command::CopyFacts { rebuild, facts });
        meanwhile.by_ref().take(60).for_each(|(stamp, command)| shard.apply(stamp, command));
        if n % 3 == 0 {
            reload(shard, 64, &mut std::iter::empty());
        }
    }
    meanwhile.for_each(|(stamp, command)| shard.apply(stamp, command));
    loop {
        reload(shard, 64, &mut std::iter::empty());
        let reply = shard.try_apply(now, Command::FinishRebuild { rebuild });
        let Ok(Reply::Left(left)) = reply else { panic!("{reply:?}") };
        if left == 0 {
            return rebuild;
        }
    }
}

fn facts_of(log: &[(Stamp, Command)]) -> Vec<Fact> {
    let fact = |command: &Command| match command {
        Command::Observe { fact } => Some(fact.clone()),
        _ => None,
    };
    log.iter().filter_map(|(_, command)| fact(command)).collect()
}

#[test]
fn a_rebuild_is_a_fold_over_what_was_copied_and_what_happened_since() {
    let log = lessons(400);
    let (before, since) = log.split_at(log.len() / 2);
    let now = at(500 * 60);
    let mut whole = Shard::new();
    log.iter().for_each(|(stamp, command)| whole.apply(*stamp, command.clone()));
    let mut shard = Shard::leader();
    // What it has is wrong: it missed much, and knows what is gone.
    shard.observe(at(0), interacted(77, 7_777, 0));
    before.iter().step_by(3).for_each(|(stamp, command)| shard.apply(*stamp, command.clone()));
    let shown = |shard: &mut Shard, post| {
        shard.observe(now, Fact::Shown { reader: UserId(1), posts: vec![PostId(post)] });
    };
    shown(&mut shard, 0);
    let wrong = shard.service.copies.engine.digest();
    let number = rebuild(&mut shard, &facts_of(before), since.to_vec(), now);
    assert_ne!(shard.service.copies.engine.digest(), wrong);
    shown(&mut whole, 0);
    assert_eq!(shard.service.copies.engine.digest(), whole.service.copies.engine.digest());
    assert_eq!(shard.service.copies.engine.known_post(PostId(7_777)), None, "no trace of it");
    reload(&mut shard, 1_000, &mut std::iter::empty());
    assert_eq!(shard.service.copies.engine.digest(), whole.service.copies.engine.digest());
    let rows = |prefix: u32| -> usize {
        let prefix = prefix.to_be_bytes();
        let count = |table| {
            shard
                .tables
                .read(|tables| tables.prefix(Table(table), &prefix, &prefix).unwrap().count())
        };
        [0, 1, 2, 3, 5].into_iter().map(count).sum()
    };
    assert_eq!(rows(0), 0, "the rows of the old copy are gone");
    assert!(rows(number) > 400);
    let again = shard.try_apply(now, Command::FinishRebuild { rebuild: number });
    assert_eq!(again, Ok(Reply::Left(0)), "the answer may have been lost");
    let again = shard.try_apply(now, Command::FinishRebuild { rebuild: number + 1 });
    assert_eq!(again, Err(Error::NoRebuild));
}

#[test]
fn a_rebuild_knows_to_whom_a_post_was_shown_whose_read_it_heard_of_first() {
    let (mut shard, now) = (Shard::new(), at(100));
    let show = |shard: &mut Shard, reader| {
        let fact = Fact::Shown { reader: UserId(reader), posts: vec![PostId(1), PostId(2)] };
        shard.observe(now, fact);
    };
    let shown = |shard: &Shard| [1, 2].map(|post| shard.service.copies.engine.shown(PostId(post)));
    [1, 2].into_iter().for_each(|n| shard.deliver(at(1), changed(n, 1, Visibility::Public, 1)));
    (0..4).for_each(|reader| show(&mut shard, reader));
    let reply = shard.try_apply(now, Command::BeginRebuild).unwrap();
    let Reply::Rebuild(rebuild) = reply else { panic!("{reply:?}") };
    // The owner's page of posts was read before one of them was there, that of reads afterwards.
    let copied = delivered(at(1), changed(2, 1, Visibility::Public, 1)).into_iter();
    let mut facts = facts_of(&copied.map(|command| (now, command)).collect::<Vec<_>>());
    facts.extend([interacted(9, 1, 50), interacted(9, 2, 50)]);
    shard.apply(now, Command::CopyFacts { rebuild, facts });
    (4..8).for_each(|reader| show(&mut shard, reader));
    shard.deliver(at(2), changed(1, 2, Visibility::Public, 1));
    shard.deliver(at(2), changed(2, 2, Visibility::Public, 1));
    let before = shown(&shard);
    assert!(before[0].count_ones() > 4 && before[0] == before[1]);
    let done = shard.try_apply(now, Command::FinishRebuild { rebuild });
    assert_eq!(done, Ok(Reply::Left(0)));
    assert_eq!(shown(&shard), before);
}

#[test]
fn a_second_rebuild_replaces_the_first() {
    let mut shard = Shard::new();
    lessons(20).into_iter().for_each(|(stamp, command)| shard.apply(stamp, command));
    let now = at(30 * 60);
    let begin = |shard: &mut Shard| match shard.try_apply(now, Command::BeginRebuild) {
        Ok(Reply::Rebuild(number)) => number,
        other => panic!("{other:?}"),
    };
    let (first, second) = (begin(&mut shard), begin(&mut shard));
    assert!(second > first);
    let facts = || facts_of(&lessons(20));
    let late = shard.try_apply(now, Command::CopyFacts { rebuild: first, facts: facts() });
    assert_eq!(late, Err(Error::NoRebuild));
    shard.apply(now, Command::CopyFacts { rebuild: second, facts: facts() });
    let digest = shard.service.copies.engine.digest();
    let done = shard.try_apply(now, Command::FinishRebuild { rebuild: second });
    assert_eq!(done, Ok(Reply::Left(0)));
    assert_eq!(shard.service.copies.engine.digest(), digest);
}
