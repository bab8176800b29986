//! No reader decides for everybody, and repairs take effect.

use super::*;
use crate::actors::recommendation::message::Known;

#[test]
fn one_readers_flood_teaches_little() {
    let mut shard = Shard::leader();
    for (stamp, command) in lessons(100) {
        shard.apply(stamp, command);
    }
    let now = 101 * 60;
    let before = shard.service.learning.lessons();
    // Every post, again and again, by one who has a history; deleted between, for good measure.
    shard.observe(at(now), interacted(3, 1, now));
    for round in 0..20 {
        for post in (0..200).rev() {
            let (reader, seconds) = (UserId(3), now + round);
            shard.observe(at(seconds), interacted(reader.0, post, seconds));
            shard.observe(at(seconds), Fact::ReadForgotten { reader, post: PostId(post) });
        }
    }
    let learned = shard.service.learning.lessons() - before;
    assert!((1..=4).contains(&learned), "{learned} lessons in a minute");
    // And what does not count is no lesson at all, such as what the reader wrote or has read.
    let at_once = now + 90;
    let before = shard.service.learning.lessons();
    let read = |shard: &mut Shard, post: u64| {
        shard.observe(at(at_once), interacted(1_000_098, post, at_once));
    };
    [197, 199, 197, 198, 199].into_iter().for_each(|post| read(&mut shard, post));
    assert!(shard.service.learning.lessons() - before <= 2, "own: 198; the first has no history");
}

#[test]
fn a_denied_post_that_its_owner_shows_is_repaired() {
    let mut shard = Shard::new();
    shard.deliver(at(1), changed(9, 4, Visibility::Public, 1));
    shard.observe(at(2), Fact::Denied { post: PostId(9), version: 4 });
    assert!(shard.recommend(1, 3).is_empty());
    let Command::Observe { fact } =
        delivered(at(1), changed(9, 4, Visibility::Public, 1)).remove(0)
    else {
        unreachable!()
    };
    shard.observe(at(3), fact.clone());
    assert!(shard.recommend(1, 3).is_empty(), "old news do not bring it back");
    shard.apply(at(4), Command::Repair { fact });
    assert_eq!(shard.recommend(1, 5), [9]);
    let Shard { tables, service } = &mut shard;
    let mut query = Query::GetKnown { posts: vec![PostId(9)] };
    let step = tables.read(|tables| service.query(tables, &mut query)).unwrap();
    let Step::Done(Answer::Known(known)) = step else { panic!() };
    assert_eq!(known, [Known { post: PostId(9), place: 0, version: 4, is_listed: true }]);
}

#[test]
fn only_many_signed_in_readers_end_an_exploration_and_only_where_it_is_one() {
    let mut shard = Shard::new();
    (0..10).for_each(|post| shard.deliver(at(1), changed(post, 1, Visibility::Public, 1)));
    let mut show = |reader: Option<u64>, is_explored| {
        let propensity = if is_explored { 0.5 } else { 1.0 };
        let place = |n| ShownPost { post: PostId(n), position: 9, propensity, is_explored };
        let exposure = Exposure {
            request: "r".into(),
            reader: reader.map(UserId),
            surface: "home".into(),
            variant: String::new(),
            weights_version: 0,
            posts: (0..10).map(place).collect(),
        };
        shard.apply(at(2), Command::LogExposures { exposures: vec![exposure] });
        let ranking = Ranking { explore: 1, ..plain() };
        let asked = Query::Recommend { reader: UserId(1_000), wanted: wanted(10, 3), ranking };
        let found = shard.ask(asked);
        found.items[9].source == Source::Exploration
    };
    assert!(show(None, true) && show(None, false) && show(Some(7), false));
    assert!((0..1_000).all(|_| show(Some(7), true)), "one account alone ends nothing");
    let ended = (0..1_000).find(|reader| !show(Some(*reader), true));
    assert!((6..15).contains(&ended.unwrap()), "{ended:?}");
    assert!(!show(None, false), "and it stays so");
}
