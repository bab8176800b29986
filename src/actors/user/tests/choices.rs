//! Tags, feedback and edges against a model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::actors::user::message::{Edges, Error, Feedback, Hidden, Interests, Place, Said, Tag};
use crate::actors::user::tables::{FEEDBACK, FeedbackRow, TAG_FOLLOWS, TagRow};
use crate::store::codec::encode;

fn world() -> World {
    let mut world = World::new();
    world.run(create(DAVE, "Dave", 1)).unwrap();
    world
}

fn tag(shown: &str) -> Tag {
    Tag { shown: shown.to_owned(), normal: shown.to_lowercase() }
}

fn interests(world: &mut World) -> Interests {
    match world.ask(Query::GetInterests { user: DAVE }).unwrap() {
        Answer::Interests(interests) => interests,
        other => panic!("{other:?}"),
    }
}

fn said(world: &mut World) -> Vec<Said> {
    match world.ask(Query::ListFeedback { user: DAVE }).unwrap() {
        Answer::Feedback(said) => said,
        other => panic!("{other:?}"),
    }
}

fn hidden(world: &mut World) -> Arc<Hidden> {
    match world.ask(Query::GetReader { user: DAVE }).unwrap() {
        Answer::Reader(_, hidden) => hidden,
        other => panic!("{other:?}"),
    }
}

fn edges(
    world: &mut World,
    edges: Edges,
    place: Option<Place<UserId>>,
    limit: usize,
) -> Vec<UserId> {
    match world.ask(Query::ListEdges { user: DAVE, edges, place, limit }).unwrap() {
        Answer::Edges(users) => users,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tag_is_the_same_in_any_case_and_shown_as_first_written() {
    let mut world = world();
    let follow = |shown, on| Command::SetTagFollow { user: DAVE, tag: tag(shown), on };
    assert_eq!(
        world.run(follow("Rust", true)).unwrap().events,
        [Event::TagFollowChanged { user: DAVE, tag: "rust".into(), on: true }]
    );
    assert!(world.run(follow("RUST", true)).unwrap().events.is_empty());
    assert_eq!(interests(&mut world).tag_follows, [tag("Rust")]);
    assert_eq!(world.run(follow("rust", false)).unwrap().events.len(), 1);
    assert!(world.run(follow("rust", false)).unwrap().events.is_empty());
    assert_eq!(interests(&mut world), Interests::default());
}

#[test]
fn what_a_reader_wishes_needs_a_reader() {
    let mut world = World::new();
    let (user, post, on) = (EVE, PostId(1), true);
    for command in [
        Command::SetTagFollow { user, tag: tag("a"), on },
        Command::SetTagMute { user, tag: tag("a"), on },
        Command::GiveFeedback { user, post, what: Feedback::Less },
    ] {
        assert_eq!(world.run(command).unwrap_err(), Error::NotFound);
    }
    assert!(world.run(Command::WithdrawFeedback { user, post }).unwrap().events.is_empty());
}

#[test]
fn a_reader_follows_only_so_many_tags() {
    let mut world = world();
    world
        .tables
        .apply(|tables| {
            for n in 0..TAGS_MAX {
                let row = TagRow { shown: format!("t{n}") };
                let key = tables::tag_key(DAVE, &row.shown);
                tables.put(TAG_FOLLOWS, key, encode(&row));
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    let follow = |shown, on| Command::SetTagFollow { user: DAVE, tag: tag(shown), on };
    assert_eq!(world.run(follow("x", true)).unwrap_err(), Error::TooManyTags(TAGS_MAX));
    world.done(follow("t0", true));
    world.done(Command::SetTagMute { user: DAVE, tag: tag("x"), on: true });
    world.done(follow("t0", false));
    world.done(follow("x", true));
    assert_eq!(interests(&mut world).tag_follows.len(), TAGS_MAX as usize);
}

#[test]
fn the_oldest_feedback_makes_room() {
    let mut world = world();
    world
        .tables
        .apply(|tables| {
            for n in 0..u64::from(FEEDBACK_MAX) {
                // The oldest is neither the first nor the last by id.
                let at = Stamp((n + 500) % u64::from(FEEDBACK_MAX));
                let row = FeedbackRow { what: Feedback::Hide, at };
                tables.put(FEEDBACK, tables::feedback_key(DAVE, PostId(n)), encode(&row));
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    let give = |post| Command::GiveFeedback { user: DAVE, post, what: Feedback::Less };
    let changed = world.run(give(PostId(3))).unwrap().events;
    assert_eq!(changed.len(), 1, "one that is there needs no room");
    let events = world.run(give(PostId(5_000))).unwrap().events;
    let post = PostId(500);
    assert_eq!(events[0], Event::FeedbackWithdrawn { user: DAVE, post });
    let given = Event::FeedbackGiven { user: DAVE, post: PostId(5_000), what: Feedback::Less };
    assert_eq!(events[1..], [given]);
    let kept = said(&mut world);
    assert_eq!(kept.len(), FEEDBACK_MAX as usize);
    assert_eq!((kept[0].post, kept[1].post), (PostId(5_000), PostId(3)), "newest first");
}

#[derive(Debug, Clone)]
enum Act {
    Follow(&'static str, bool),
    Mute(&'static str, bool),
    Give(u64, Feedback),
    Withdraw(u64),
    Edge(Edges, u64, bool),
    Checkpoint,
}

fn acts() -> impl Strategy<Value = Act> {
    let shown = || prop::sample::select(vec!["a", "A", "b", "ab", "é", "É"]);
    let what = prop::sample::select(vec![Feedback::Less, Feedback::Hide]);
    let kind = prop::sample::select(vec![Edges::Follows, Edges::Mutes, Edges::Blocks]);
    prop_oneof![
        (shown(), any::<bool>()).prop_map(|(tag, on)| Act::Follow(tag, on)),
        (shown(), any::<bool>()).prop_map(|(tag, on)| Act::Mute(tag, on)),
        (0_u64..5, what).prop_map(|(post, what)| Act::Give(post, what)),
        (0_u64..5).prop_map(Act::Withdraw),
        (kind, 0_u64..12, any::<bool>()).prop_map(|(kind, end, on)| Act::Edge(kind, end, on)),
        Just(Act::Checkpoint),
    ]
}

/// Changes a tag of the model; true when that changed something.
fn set(tags: &mut BTreeMap<String, String>, shown: &str, on: bool) -> bool {
    let normal = shown.to_lowercase();
    if tags.contains_key(&normal) == on {
        return false;
    }
    match on {
        true => drop(tags.insert(normal, shown.to_owned())),
        false => drop(tags.remove(&normal)),
    }
    true
}

fn shown(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    let tag =
        |(normal, shown): (&String, &String)| Tag { shown: shown.clone(), normal: normal.clone() };
    tags.iter().map(tag).collect()
}

#[test]
fn what_is_hidden_is_found() {
    let (blocks, posts) = (vec![DAVE, EVE], vec![PostId(2), PostId(4)]);
    let hidden = Hidden { blocks, tags: vec!["rust".into(), "é".into()], posts };
    assert!(hidden.blocks(EVE) && !hidden.blocks(UserId(1)));
    assert!(hidden.hides(PostId(2)) && !hidden.hides(PostId(3)));
    assert!(hidden.mutes_tag("RUST") && hidden.mutes_tag("É") && !hidden.mutes_tag("e"));
    assert_eq!(*self::hidden(&mut world()), Hidden::default(), "who has chosen nothing");
    let nobody = World::new().ask(Query::GetReader { user: DAVE });
    assert_eq!(nobody.unwrap_err(), Error::NotFound);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_sequence_of_choices_is_as_the_model_says(
        acts in prop::collection::vec(acts(), 1..40),
        end in 0_u64..12,
        limit in 1_usize..6,
    ) {
        let mut world = world();
        let (mut follows, mut mutes) = (BTreeMap::new(), BTreeMap::new());
        let mut wishes: BTreeMap<PostId, (Stamp, Feedback)> = BTreeMap::new();
        let mut ends: [BTreeSet<UserId>; 3] = Default::default();
        for act in acts {
            let stamp = Stamp(world.now + 1);
            let (command, told) = match act {
                Act::Follow(shown, on) => {
                    let tag = tag(shown);
                    let normal = tag.normal.clone();
                    let event = Event::TagFollowChanged { user: DAVE, tag: normal, on };
                    let told = set(&mut follows, shown, on).then_some(event);
                    (Command::SetTagFollow { user: DAVE, tag, on }, told)
                }
                Act::Mute(shown, on) => {
                    let tag = tag(shown);
                    let normal = tag.normal.clone();
                    let event = Event::TagMuteChanged { user: DAVE, tag: normal, on };
                    let told = set(&mut mutes, shown, on).then_some(event);
                    (Command::SetTagMute { user: DAVE, tag, on }, told)
                }
                Act::Give(post, what) => {
                    let post = PostId(post);
                    let is_news = wishes.get(&post).is_none_or(|(_, before)| *before != what);
                    if is_news {
                        wishes.insert(post, (stamp, what));
                    }
                    let event = Event::FeedbackGiven { user: DAVE, post, what };
                    (Command::GiveFeedback { user: DAVE, post, what }, is_news.then_some(event))
                }
                Act::Withdraw(post) => {
                    let post = PostId(post);
                    let event = Event::FeedbackWithdrawn { user: DAVE, post };
                    let told = wishes.remove(&post).map(|_| event);
                    (Command::WithdrawFeedback { user: DAVE, post }, told)
                }
                Act::Edge(kind, end, on) => {
                    let (user, target) = (DAVE, UserId(end));
                    let (place, command, event) = match kind {
                        Edges::Follows => (
                            0,
                            Command::SetFollow { user, target, on },
                            Event::FollowChanged { user, target, on },
                        ),
                        Edges::Mutes => (
                            1,
                            Command::SetMute { user, target, on },
                            Event::MuteChanged { user, target, on },
                        ),
                        Edges::Blocks => (
                            2,
                            Command::SetBlock { user, target, on },
                            Event::BlockChanged { user, target, on },
                        ),
                    };
                    let changed = match on {
                        true => ends[place].insert(target),
                        false => ends[place].remove(&target),
                    };
                    (command, changed.then_some(event))
                }
                Act::Checkpoint => {
                    world.tables.checkpoint();
                    continue;
                }
            };
            let outcome = world.run(command).unwrap();
            prop_assert_eq!(outcome.events, told.into_iter().collect::<Vec<_>>());
            let expected = Interests {
                tag_follows: shown(&follows),
                tag_mutes: shown(&mutes),
                follows: ends[0].iter().copied().collect(),
                mutes: ends[1].iter().copied().collect(),
            };
            prop_assert_eq!(interests(&mut world), expected);
            let mut expected: Vec<Said> =
                wishes.iter().map(|(post, (at, what))| Said { post: *post, what: *what, at: *at }).collect();
            expected.sort_by_key(|said| std::cmp::Reverse(said.at));
            prop_assert_eq!(said(&mut world), expected);
            // Asked after each act, so that what is kept decoded is never older than the act.
            let is_hidden = |wish: &(Stamp, Feedback)| wish.1 == Feedback::Hide;
            let expected = Hidden {
                blocks: ends[2].iter().copied().collect(),
                tags: mutes.keys().cloned().collect(),
                posts: wishes.iter().filter(|(_, wish)| is_hidden(wish)).map(|(post, _)| *post).collect(),
            };
            prop_assert_eq!(&*hidden(&mut world), &expected);
        }
        let user = UserId(end);
        for (place, kind) in [Edges::Follows, Edges::Mutes, Edges::Blocks].into_iter().enumerate() {
            let ends = &ends[place];
            let below: Vec<UserId> = ends.range(..user).rev().take(limit).copied().collect();
            let above: Vec<UserId> =
                ends.iter().filter(|end| **end > user).take(limit).copied().collect();
            let highest: Vec<UserId> = ends.iter().rev().take(limit).copied().collect();
            prop_assert_eq!(edges(&mut world, kind, Some(Place::After(user)), limit), below);
            prop_assert_eq!(edges(&mut world, kind, Some(Place::Before(user)), limit), above);
            prop_assert_eq!(edges(&mut world, kind, None, limit), highest);
        }
    }
}
