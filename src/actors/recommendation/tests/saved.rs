//! What is written down is what is read again.

use super::*;

/// Writes everything down in steps of so many rows, with commands between them, and reads it again.
pub(super) fn reload(
    shard: &mut Shard,
    rows: usize,
    between: &mut dyn Iterator<Item = (Stamp, Command)>,
) {
    loop {
        let Shard { tables, service } = shard;
        let step = tables.apply(|tables| service.checkpoint(tables, rows)).unwrap();
        if let Step::Done(()) = step {
            break;
        }
        if let Some((stamp, command)) = between.next() {
            shard.apply(stamp, command);
        }
    }
    shard.tables.checkpoint();
    shard.service = shard.tables.read(Service::load).unwrap();
}

#[test]
fn what_was_written_and_replayed_is_what_was_never_interrupted() {
    let mut whole = Shard::leader();
    let mut log = lead(&mut whole, lessons(400));
    let reader = UserId(5);
    for (n, event) in [
        UserEvent::FollowChanged { user: reader, target: UserId(1_000_001), on: true },
        UserEvent::TagMuteChanged { user: reader, tag: "green".into(), on: true },
        UserEvent::BlockChanged { user: reader, target: UserId(6), on: true },
    ]
    .into_iter()
    .enumerate()
    {
        let at = log.len() / 2 + n;
        let stamp = log[at].0;
        for command in delivered(stamp, event) {
            log.insert(at, (stamp, command));
        }
    }
    let mut whole = Shard::new();
    log.iter().for_each(|(stamp, command)| whole.apply(*stamp, command.clone()));
    for parts in [1, 3, 10] {
        let mut shard = Shard::new();
        let mut rest = log.clone().into_iter();
        let length = log.len() / (parts + 1);
        for part in 1..=parts {
            rest.by_ref().take(length).for_each(|(stamp, command)| shard.apply(stamp, command));
            reload(&mut shard, 40 * part, &mut rest);
        }
        rest.for_each(|(stamp, command)| shard.apply(stamp, command));
        let (found, expected) = (&shard.service.copies.engine, &whole.service.copies.engine);
        assert_eq!(found.digest(), expected.digest(), "{parts} parts");
        assert_eq!(found.weights(), expected.weights());
        for reader in 0..40 {
            let question = || Query::Recommend {
                reader: UserId(reader),
                wanted: wanted(20, 401 * 60),
                ranking: Ranking { is_diverse: true, explore: 1, ..plain() },
            };
            assert_eq!(shard.ask(question()), whole.ask(question()));
        }
    }
}

#[test]
fn a_checkpoint_writes_what_changed_and_no_more() {
    let mut shard = Shard::new();
    lessons(400).into_iter().for_each(|(stamp, command)| shard.apply(stamp, command));
    let count = |shard: &mut Shard| {
        let mut steps = 1;
        loop {
            let Shard { tables, service } = shard;
            match tables.apply(|tables| service.checkpoint(tables, 10)).unwrap() {
                Step::Done(()) => return steps,
                Step::Again => steps += 1,
            }
        }
    };
    assert!(count(&mut shard) > 80, "posts, readers, authors and tags, ten at a time");
    assert_eq!(count(&mut shard), 1, "nothing but what there is one of");
    shard.observe(at(401 * 60), interacted(7, 3, 401 * 60));
    let touched = count(&mut shard);
    assert!((2..=6).contains(&touched), "a read touches about 41 rows: {touched}");
}
