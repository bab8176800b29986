//! What must hold of the whole engine.

use proptest::prelude::*;

use crate::actors::recommendation::engine::event::{Event, Feedback, Interaction};
use crate::actors::recommendation::engine::item::{Method, Reason, Recommendations, Source};
use crate::actors::recommendation::engine::learner::{Learner, LearnerSettings};
use crate::actors::recommendation::engine::settings::Settings;
use crate::actors::recommendation::engine::weights::Weights;
use crate::actors::recommendation::engine::{Engine, Options, Scratch};
use crate::actors::signature::Signature;
use crate::actors::signature::mix;
use crate::ids::{PostId, Stamp, UserId};

mod bounds;
mod kept;
mod lists;

/// Ids of authors begin here.
const AUTHORS: u64 = 1_000_000;
const BEGAN_MS: u64 = 1_700_000_000_000;

fn at(seconds: u64) -> Stamp {
    Stamp((BEGAN_MS + seconds * 1000) * 1000)
}

fn post(post: u64, author: u64, seconds: u64, tags: &[&str]) -> Event {
    changed(post, author, 1, true, seconds, tags)
}

fn changed(
    post: u64,
    author: u64,
    version: u64,
    is_listed: bool,
    seconds: u64,
    tags: &[&str],
) -> Event {
    Event::PostChanged {
        post: PostId(post),
        author: Some(UserId(AUTHORS + author)),
        version,
        is_listed,
        published_at: at(seconds),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        signature: Signature::of(&format!("title number{post}"), ""),
    }
}

fn read(reader: u64, post: u64, seconds: u64) -> Event {
    let (reader, post) = (UserId(reader), PostId(post));
    Event::Interacted { reader, post, how: Interaction::Read, at: at(seconds) }
}

fn engine(events: &[Event]) -> Engine {
    let mut engine = Engine::new(Settings::default());
    events.iter().for_each(|event| engine.apply(event));
    engine
}

fn plain() -> Options<'static> {
    Options { is_diverse: false, explore: 0, ..Options::default() }
}

fn list(engine: &Engine, reader: u64, seconds: u64, options: &Options<'_>) -> Vec<u64> {
    let answer = engine.recommend(UserId(reader), at(seconds), options, &mut Scratch::default());
    ids(&answer)
}

fn ids(answer: &Recommendations) -> Vec<u64> {
    answer.items.iter().map(|item| item.post.0).collect()
}

fn trending(engine: &Engine, tag: Option<&str>, window: Option<usize>) -> Vec<u64> {
    ids(&engine.trending(tag, window, None, &plain(), &mut Scratch::default()))
}

fn following(engine: &Engine, reader: UserId) -> Recommendations {
    engine.following(reader, &plain(), &mut Scratch::default())
}

/// A made-up stream: `count` events of 60 readers on posts that come one by one.
fn stream(seed: u64, count: u64) -> Vec<Event> {
    let mut events = Vec::new();
    for n in 0..count {
        let random = |salt: u64| mix(seed ^ mix(n * 16 + salt));
        let seconds = n * 20;
        if n % 10 == 0 {
            let tags: &[&str] = if random(1) % 2 == 0 { &["red", "big"] } else { &["blue"] };
            events.push(post(n / 10, random(2) % 9, seconds, tags));
        }
        let newest = n / 10 + 1;
        events.push(read(random(3) % 60, newest - 1 - random(4) % newest.min(12), seconds));
    }
    events
}

#[test]
fn the_same_events_give_the_same_state_in_every_process() {
    let events = stream(1, 5_000);
    let digest = engine(&events).digest();
    assert_eq!(engine(&events).digest(), digest);
    // Fixed: another process, another machine, another day. A change of the rules changes it.
    assert_eq!(format!("{digest:016x}"), GOLDEN);
    assert_ne!(engine(&events[..events.len() - 1]).digest(), digest);
}

const GOLDEN: &str = "2e15b6fccb77eb0a";

#[test]
fn a_new_post_is_there_at_once_and_a_read_one_is_gone() {
    let mut engine = engine(&[post(1, 1, 0, &["a"]), post(2, 2, 10, &["a"]), read(7, 1, 20)]);
    assert_eq!(list(&engine, 7, 30, &plain()), [2]);
    engine.apply(&post(3, 3, 40, &[]));
    let mut both = list(&engine, 7, 40, &plain());
    both.sort_unstable();
    assert_eq!(both, [2, 3]);
    for method in [Method::Trend, Method::Latest, Method::Together] {
        let options = Options { method, ..plain() };
        assert!(!list(&engine, 7, 50, &options).contains(&1), "{method:?}");
    }
}

#[test]
fn hidden_posts_are_nowhere_and_old_news_do_not_bring_them_back() {
    let mut engine =
        engine(&[post(1, 1, 0, &["a"]), post(2, 2, 0, &["a"]), read(7, 1, 20), read(7, 2, 30)]);
    engine.apply(&changed(1, 1, 5, false, 0, &["a"]));
    engine.apply(&changed(1, 1, 4, true, 0, &["a"]));
    assert_eq!(list(&engine, 8, 40, &plain()), [2]);
    assert_eq!(trending(&engine, None, None).len(), 1);
    assert_eq!(trending(&engine, Some("a"), Some(0)).len(), 1);
    engine.apply(&changed(1, 1, 6, true, 0, &["a"]));
    assert_eq!(list(&engine, 8, 40, &plain()).len(), 2);
    engine.apply(&Event::PostDeleted { post: PostId(1) });
    engine.apply(&changed(1, 1, 99, true, 0, &["a"]));
    engine.apply(&read(8, 1, 50));
    assert_eq!(list(&engine, 9, 60, &plain()), [2]);
    let mut scratch = Scratch::default();
    assert!(engine.related(PostId(2), None, at(60), &plain(), &mut scratch).items.is_empty());
}

#[test]
fn a_reason_does_not_name_what_is_hidden() {
    let mut events = vec![post(1, 1, 0, &[]), post(2, 2, 0, &[]), post(3, 3, 0, &[])];
    for reader in 0..5 {
        events.push(read(reader, 1, 10 + reader));
        events.push(read(reader, 2, 20 + reader));
    }
    events.push(read(9, 1, 60));
    // Others read other things.
    events.extend((10..60).flat_map(|n| [post(n, n, 0, &[]), read(n, n, 30), read(n, 3, 31)]));
    let mut engine = engine(&events);
    let reason = |engine: &Engine| {
        let mut scratch = Scratch::default();
        let answer = engine.recommend(UserId(9), at(70), &plain(), &mut scratch);
        answer.items.into_iter().find(|item| item.post == PostId(2)).unwrap().reason
    };
    assert_eq!(reason(&engine), Some(Reason::BecauseRead(PostId(1))));
    engine.apply(&changed(1, 1, 2, false, 0, &[]));
    assert_eq!(reason(&engine), Some(Reason::Trending));
}

#[test]
fn readers_control_what_they_see() {
    let mut events: Vec<Event> =
        (1..=6).map(|n| post(n, n, n, if n == 3 { &["dull"] } else { &[] })).collect();
    let reader = UserId(AUTHORS + 1);
    let (author, tag) = (UserId(AUTHORS + 2), "dull".to_owned());
    events.push(Event::AuthorMuted { reader, author, is_on: true });
    events.push(Event::TagMuted { reader, tag: tag.clone(), is_on: true });
    events.push(Event::Feedback { reader, post: PostId(4), what: Feedback::Less });
    let mut engine = engine(&events);
    let exclude = [PostId(5)];
    let options = Options { exclude: &exclude, ..plain() };
    assert_eq!(list(&engine, reader.0, 10, &options), [6]);
    engine.apply(&Event::AuthorMuted { reader, author, is_on: false });
    engine.apply(&Event::TagMuted { reader, tag, is_on: false });
    let mut seen = list(&engine, reader.0, 10, &options);
    seen.sort_unstable();
    assert_eq!(seen, [2, 3, 6]);
}

#[test]
fn following_shows_what_is_followed_and_nothing_else() {
    let reader = UserId(7);
    let (author, tag) = (UserId(AUTHORS + 1), "a".to_owned());
    let mut engine = engine(&[
        post(1, 1, 1, &[]),
        post(2, 2, 2, &["a"]),
        post(3, 3, 3, &[]),
        post(4, 1, 4, &["a"]),
        Event::AuthorFollowed { reader, author, is_on: true },
        Event::TagFollowed { reader, tag, is_on: true },
    ]);
    let posts = |engine: &Engine| -> Vec<u64> { ids(&following(engine, reader)) };
    assert_eq!(posts(&engine), [4, 2, 1]);
    assert_eq!(following(&engine, reader).items[0].reason, Some(Reason::Follows(author)));
    engine.apply(&Event::AuthorFollowed { reader, author, is_on: false });
    assert_eq!(posts(&engine), [4, 2]);
    assert!(following(&engine, UserId(8)).items.is_empty());
    let answer = engine.recommend(reader, at(9), &plain(), &mut Scratch::default());
    let followed = answer.items.iter().find(|item| item.post == PostId(2)).unwrap();
    assert_eq!(followed.reason, Some(Reason::FollowsTag("a".to_owned())));
    assert_eq!(followed.source, Source::FollowedTag);
}

#[test]
fn reads_may_overtake_their_post_but_not_without_end() {
    let mut engine = engine(&[read(1, 5, 10), read(2, 5, 11)]);
    assert!(list(&engine, 3, 20, &plain()).is_empty());
    engine.apply(&post(5, 1, 5, &[]));
    assert_eq!(trending(&engine, None, None)[0], 5);
    let settings = Settings { unknown_posts_max: 3, ..Settings::default() };
    let mut engine = Engine::new(settings);
    (0..100).for_each(|n| engine.apply(&read(n, n, n)));
    assert_eq!(engine.posts.len(), 3);
}

#[test]
fn an_erased_reader_and_a_forgotten_read_leave_the_profile() {
    let mut engine =
        engine(&[post(1, 1, 0, &["a"]), post(2, 1, 0, &["a"]), read(7, 1, 5), read(7, 2, 6)]);
    assert!(list(&engine, 7, 9, &plain()).is_empty());
    engine.apply(&Event::ReadForgotten { reader: UserId(7), post: PostId(1) });
    assert_eq!(list(&engine, 7, 9, &plain()), [1]);
    engine.apply(&Event::ReaderErased { reader: UserId(7) });
    assert_eq!(list(&engine, 7, 9, &plain()).len(), 2);
}

#[test]
fn ten_posts_hold_at_most_two_of_an_author_and_one_to_explore() {
    let engine = engine(&stream(3, 3_000));
    let mut propensities = 0;
    for reader in 0..60 {
        let options = Options { random: reader, limit: 20, ..Options::default() };
        let mut scratch = Scratch::default();
        let answer = engine.recommend(UserId(reader), at(60_000), &options, &mut scratch);
        let author = |post: PostId| {
            let slot = engine.find_post(post).unwrap();
            engine.posts[slot as usize].author
        };
        for window in answer.items.windows(10) {
            for item in window {
                let same = window.iter().filter(|other| author(other.post) == author(item.post));
                assert!(same.count() <= 2);
            }
        }
        for (place, item) in answer.items.iter().enumerate() {
            assert_eq!(item.source == Source::Exploration, item.propensity < 1.0);
            propensities += usize::from(item.propensity < 1.0);
            assert!(item.propensity == 1.0 || place % 10 == 9);
        }
        let mut posts: Vec<PostId> = answer.items.iter().map(|item| item.post).collect();
        posts.sort_unstable();
        posts.dedup();
        assert_eq!(posts.len(), answer.items.len());
    }
    assert!(propensities > 0);
}

#[test]
fn explored_posts_are_drawn_as_often_as_is_logged() {
    let mut events: Vec<Event> = (0..40).map(|n| post(n, n, n, &[])).collect();
    (0..30).for_each(|n| (0..5).for_each(|reader| events.push(read(reader, n, 100 + n))));
    let engine = engine(&events);
    let mut drawn = std::collections::BTreeMap::<PostId, (u32, f32)>::new();
    for random in 0..2_000 {
        let options = Options { random, ..Options::default() };
        let answer = engine.recommend(UserId(50), at(200), &options, &mut Scratch::default());
        let item = answer.items.last().unwrap();
        let entry = drawn.entry(item.post).or_default();
        *entry = (entry.0 + 1, item.propensity);
    }
    for (post, (times, propensity)) in drawn {
        let share = times as f32 / 2_000.0;
        assert!((share / propensity - 1.0).abs() < 0.35, "{post}: {share} {propensity}");
    }
}

#[test]
fn weights_of_another_layout_are_not_taken_for_ours() {
    let ours = Weights::default().map(|value| value + 1.0);
    let mut values = ours.values().to_vec();
    assert_eq!(Weights::restored(0, &values), Some(ours));
    values[0] = f32::NAN;
    assert_eq!(Weights::restored(7, &values), None, "damage");
    values[0] = 0.0;
    let old = &values[..values.len() - 1];
    let mut other = values.clone();
    *other.last_mut().unwrap() -= 1.0;
    for values in [old, &other] {
        assert_eq!(Weights::from_values(7, values), None);
        assert_eq!(Weights::restored(7, values), Some(Weights::default()));
    }
}

#[test]
fn a_ranker_that_cannot_score_falls_back() {
    let mut engine = engine(&stream(4, 500));
    let mut huge = Weights::default().map(|_| f32::MAX);
    huge.raise_version();
    engine.set_weights(huge);
    let mut scratch = Scratch::default();
    let answer = engine.recommend(UserId(1), at(20_000), &plain(), &mut scratch);
    assert_eq!((answer.method, answer.items.len()), (Method::Trend, 10));
    let empty = Engine::new(Settings::default());
    let options = Options { method: Method::Trend, ..plain() };
    assert_eq!(empty.recommend(UserId(1), at(0), &options, &mut scratch).method, Method::Latest);
    assert!(Weights::from_values(1, &[f32::NAN]).is_none());
    engine.set_weights(Weights::default());
    assert_eq!(engine.weights().version(), 1, "older weights are ignored");
}

#[test]
fn a_session_is_served_like_a_reader_with_these_reads() {
    let engine = engine(&stream(5, 3_000));
    let mut scratch = Scratch::default();
    let reads = [PostId(290), PostId(289)];
    let answer = engine.recommend_session(&reads, at(60_000), &plain(), &mut scratch);
    assert_eq!(answer.items.len(), 10);
    assert!(answer.items.iter().all(|item| !reads.contains(&item.post)));
    let related = engine.related(PostId(290), None, at(60_000), &plain(), &mut scratch);
    assert!(related.items.iter().all(|item| item.post != PostId(290)));
    assert!(!related.items.is_empty());
    let none = engine.recommend_session(&[PostId(9_999)], at(60_000), &plain(), &mut scratch);
    assert_eq!(none.items.len(), 10);
}

/// Readers who only ever read one of two tags: the ranker finds that out.
#[test]
fn the_ranker_learns_what_readers_choose() {
    let mut engine = Engine::new(Settings::default());
    let mut learner = Learner::new(LearnerSettings::default(), Weights::default());
    let mut scratch = Scratch::default();
    let (mut early, mut late) = (0, 0);
    for n in 0..3_000_u64 {
        let (red, blue) = (2 * n, 2 * n + 1);
        engine.apply(&post(red, n % 50, n * 60, &["red"]));
        engine.apply(&post(blue, n % 50 + 50, n * 60, &["blue"]));
        let reader = mix(n) % 40;
        let chosen = PostId(if reader.is_multiple_of(2) { red } else { blue });
        engine.set_weights(learner.weights().clone());
        engine.ask(UserId(reader), at(n * 60 + 1), &[], &mut scratch);
        let first = engine.answer(&plain(), &mut scratch).items[0].post;
        let hit = u32::from(first == chosen);
        if n < 300 {
            early += hit
        } else if n >= 2_700 {
            late += hit
        }
        let index = engine.candidate_of(chosen, &scratch).unwrap();
        learner.learn(&mut scratch, index);
        engine.apply(&read(reader, chosen.0, n * 60 + 1));
    }
    assert!(late > early && late > 270, "{early} {late} of 300");
    assert!(learner.weights().values().iter().all(|value| value.is_finite()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_events_are_taken_without_panic_and_alike(
        steps in prop::collection::vec((0_u8..12, 0_u64..6, 0_u64..6, 0_u64..50_000, any::<bool>()), 0..200),
    ) {
        let events: Vec<Event> = steps
            .into_iter()
            .map(|(kind, one, two, seconds, is_on)| {
                let (reader, author, of) = (UserId(one), UserId(AUTHORS + two), PostId(two));
                let tag = ["a", "b", "c"][(two % 3) as usize].to_owned();
                match kind {
                    0..=2 => read(one, two, seconds),
                    3 => changed(two, one, seconds, is_on, seconds, &["a", "b"]),
                    4 => post(two, one, seconds, &["c"]),
                    5 => Event::PostDeleted { post: PostId(two + 4) },
                    6 => Event::AuthorFollowed { reader, author, is_on },
                    7 => Event::AuthorMuted { reader, author, is_on },
                    8 => Event::TagFollowed { reader, tag, is_on },
                    9 => Event::TagMuted { reader, tag, is_on },
                    10 => Event::Feedback { reader, post: of, what: Feedback::Hide },
                    _ => match is_on {
                        true => Event::ReadForgotten { reader, post: of },
                        false => Event::ReaderErased { reader },
                    },
                }
            })
            .collect();
        let one = engine(&events);
        prop_assert_eq!(one.digest(), engine(&events).digest());
        for reader in 0..6 {
            for post in list(&one, reader, 60_000, &Options::default()) {
                let slot = one.find_post(PostId(post)).unwrap();
                prop_assert!(one.posts[slot as usize].is_listed());
            }
            following(&one, UserId(reader));
        }
    }
}
