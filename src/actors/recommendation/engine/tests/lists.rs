//! What must hold of the lists that questions are answered with.

use super::*;
use crate::actors::user::EDGES_MAX;

#[test]
fn memory_of_one_question_says_nothing_in_the_next() {
    let (reader, author) = (UserId(7), UserId(AUTHORS + 1));
    let engine = engine(&[
        post(1, 1, 1, &["a"]),
        post(2, 2, 2, &["a"]),
        read(8, 1, 3),
        read(8, 2, 4),
        Event::AuthorFollowed { reader, author, is_on: true },
        Event::TagFollowed { reader, tag: "a".to_owned(), is_on: true },
    ]);
    let mut scratch = Scratch::default();
    let followed = engine.recommend(reader, at(5), &plain(), &mut scratch);
    assert!(followed.items.iter().any(|item| item.reason == Some(Reason::Follows(author))));
    let anonymous = engine.recommend_session(&[], at(5), &plain(), &mut scratch);
    let related = engine.related(PostId(1), None, at(5), &plain(), &mut scratch);
    assert_eq!((anonymous.items.len(), ids(&related)), (2, vec![2]));
    for item in anonymous.items.iter().chain(&related.items) {
        let reason = item.reason.as_ref().unwrap();
        assert!(!matches!(reason, Reason::Follows(_) | Reason::FollowsTag(_)));
    }
}

#[test]
fn a_blog_of_one_author_fills_its_list() {
    let events: Vec<Event> = (0..30).map(|n| post(n, 1, n, &[])).collect();
    let engine = engine(&events);
    for explore in [0, 1] {
        let options = Options { explore, ..Options::default() };
        assert_eq!(list(&engine, 7, 60, &options).len(), 10);
    }
    let all = Options { limit: 30, ..Options::default() };
    assert_eq!(list(&engine, 7, 60, &all).len(), 20, "as many as there are candidates");
}

#[test]
fn one_author_who_publishes_much_keeps_nobody_out() {
    for flood in [50, 1_000] {
        let mut events: Vec<Event> = (0..40).map(|n| post(n, n, n, &[])).collect();
        events.extend((0..flood).map(|n| post(100 + n, 99, 100 + n, &[])));
        let engine = engine(&events);
        for explore in [0, 1] {
            let options = Options { explore, ..Options::default() };
            let found = list(&engine, 7, 2_000, &options);
            assert_eq!(found.len(), 10, "{flood}");
            let of_flood = found.iter().filter(|post| **post >= 100).count();
            assert!(of_flood <= 2, "{found:?}");
        }
    }
}

#[test]
fn posts_to_explore_are_not_all_of_one_author() {
    let mut events: Vec<Event> = (0..20).map(|n| post(n, n % 4, n, &[])).collect();
    events.extend((20..40).map(|n| post(n, 9, n, &[])));
    let engine = engine(&events);
    let mut scratch = Scratch::default();
    engine.ask(UserId(1), at(60), &[], &mut scratch);
    let candidate = |index: &u16| scratch.candidates[usize::from(*index)].post as usize;
    let authors = scratch.fresh.iter().map(|index| engine.posts[candidate(index)].author);
    let mut authors: Vec<u32> = authors.collect();
    authors.sort_unstable();
    assert_eq!(authors.len(), 5 * 2);
    assert!(authors.chunks(2).all(|two| two[0] == two[1]));
}

#[test]
fn an_interest_is_named_by_the_tag_that_brought_the_post() {
    let mut events: Vec<Event> =
        (0..3).map(|n| post(n, n, n, &["rust"])).chain([post(3, 3, 3, &["art", "rust"])]).collect();
    // Newer ones, so that the post comes by its tag alone.
    events.extend((4..40).map(|n| post(n, n, n, &["other"])));
    events.extend((0..3).map(|n| read(7, n, 50 + n)));
    let engine = engine(&events);
    let options = Options { limit: 60, ..plain() };
    let answer = engine.recommend(UserId(7), at(60), &options, &mut Scratch::default());
    let found = answer.items.iter().find(|item| item.post == PostId(3)).unwrap();
    assert_eq!(found.source, Source::TagNewest);
    assert_eq!(found.reason, Some(Reason::Interest("rust".to_owned())));
}

#[test]
fn what_is_seldom_read_together_is_not_said_to_be_much_read() {
    let mut events: Vec<Event> = (0..400).map(|n| post(n, n, n, &[])).collect();
    events.extend([read(1, 0, 500), read(1, 1, 501)]);
    // Others are in every trend, and many pairs make this one weak.
    for reader in 10..60 {
        events.extend((100..200).map(|n| read(reader, n, 600 + n)));
    }
    events.push(read(2, 0, 1_000));
    let mut engine = engine(&events);
    let reason = |engine: &Engine| {
        let options = Options { limit: 400, ..plain() };
        let answer = engine.recommend(UserId(2), at(1_001), &options, &mut Scratch::default());
        let found = answer.items.into_iter().find(|item| item.post == PostId(1)).unwrap();
        assert_eq!(found.source, Source::Together);
        found.reason.unwrap()
    };
    assert_eq!(reason(&engine), Reason::BecauseRead(PostId(0)));
    engine.apply(&changed(0, 0, 2, false, 0, &[]));
    assert_eq!(reason(&engine), Reason::Exploring, "few have seen it: that is true");
}

#[test]
fn lists_of_thousands_are_obeyed_to_the_last() {
    let reader = UserId(7);
    let mut events: Vec<Event> = (0..40).map(|n| post(n, n, n, &["a"])).collect();
    for n in (50..3_000).chain(0..10) {
        let author = UserId(AUTHORS + n);
        events.push(Event::AuthorMuted { reader, author, is_on: true });
    }
    for n in (5_000..8_000).chain(10..20) {
        events.push(Event::Blocked { user: UserId(AUTHORS + n), target: reader, is_on: true });
    }
    let author = |n| UserId(AUTHORS + n);
    events.extend((0..40).map(|n| Event::AuthorFollowed {
        reader,
        author: author(n),
        is_on: true,
    }));
    events.push(read(8, 1, 50));
    events.push(read(8, 21, 51));
    let engine = engine(&events);
    let options = Options { limit: 100, ..plain() };
    let mut scratch = Scratch::default();
    let followed = engine.following(reader, &options, &mut scratch);
    assert_eq!(ids(&followed), (20..40).rev().collect::<Vec<_>>());
    let trend = engine.trending(None, None, Some(reader), &options, &mut scratch);
    assert_eq!(ids(&trend), [21]);
    let mut found = list(&engine, 7, 60, &options);
    found.sort_unstable();
    assert_eq!(found, (20..40).collect::<Vec<_>>());
    // And nothing of it is left for the next one.
    let next = engine.recommend(UserId(9), at(60), &options, &mut scratch);
    assert!(ids(&next).contains(&1), "in the trend, by an author whom one reader muted");
}

#[test]
fn all_that_a_reader_may_choose_is_obeyed() {
    let reader = UserId(7);
    let mut events: Vec<Event> = (0..30).map(|n| post(n, n, n, &[])).collect();
    // What was chosen first is by whom there is something to show.
    for n in 0..u64::from(EDGES_MAX) {
        let of = |first: u64| UserId(AUTHORS + if n < 10 { first + n } else { 1_000 + n });
        events.push(Event::AuthorMuted { reader, author: of(0), is_on: true });
        events.push(Event::Blocked { user: reader, target: of(10), is_on: true });
        events.push(Event::AuthorFollowed { reader, author: of(20), is_on: true });
    }
    let engine = engine(&events);
    let options = Options { limit: 100, ..plain() };
    let mut found = list(&engine, 7, 60, &options);
    found.sort_unstable();
    assert_eq!(found, (20..30).collect::<Vec<_>>());
    let followed = engine.following(reader, &options, &mut Scratch::default());
    assert_eq!(ids(&followed), (20..30).rev().collect::<Vec<_>>());
}

#[test]
fn a_part_of_what_is_followed_is_the_beginning_of_all_of_it() {
    let reader = UserId(7);
    let mut events = stream(6, 3_000);
    for n in 0..9 {
        events.push(Event::AuthorFollowed { reader, author: UserId(AUTHORS + n), is_on: true });
    }
    for tag in ["red", "big", "blue"] {
        events.push(Event::TagFollowed { reader, tag: tag.to_owned(), is_on: true });
    }
    let mut engine = engine(&events);
    for muted in [None, Some("big")] {
        if let Some(tag) = muted {
            engine.apply(&Event::TagMuted { reader, tag: tag.to_owned(), is_on: true });
        }
        let part = |limit, exclude: &[PostId]| -> Vec<PostId> {
            let options = Options { limit, exclude, ..plain() };
            let answer = engine.following(reader, &options, &mut Scratch::default());
            answer.items.iter().map(|item| item.post).collect()
        };
        let all = part(10_000, &[]);
        assert!(all.len() > 60 && all.is_sorted_by(|a, b| a > b), "as they came, each once");
        for limit in 0..=all.len() {
            assert_eq!(part(limit, &[]), all[..limit]);
            let (before, after) = all.split_at(limit);
            assert_eq!(part(10, before), after[..after.len().min(10)]);
        }
    }
}

/// Twenty posts that are the newest but for one author's share, and twenty older ones of others.
fn some_are_no_candidates() -> Vec<Event> {
    (0..40).map(|n| post(n, if n < 20 { 10 + n } else { n % 5 }, n, &[])).collect()
}

#[test]
fn what_the_ranker_picks_is_not_said_to_be_explored() {
    let engine = engine(&some_are_no_candidates());
    let options = Options { limit: 40, explore: 0, ..Options::default() };
    let answer = engine.recommend(UserId(7), at(60), &options, &mut Scratch::default());
    assert_eq!(answer.items.len(), 26, "the newest, and six that few have seen");
    for item in &answer.items {
        assert_eq!((item.source, &item.reason), (Source::Newest, &Some(Reason::New)));
    }
    let options = Options { explore: 1, ..options };
    let answer = engine.recommend(UserId(7), at(60), &options, &mut Scratch::default());
    for (place, item) in answer.items.iter().enumerate() {
        assert_eq!(item.source == Source::Exploration, place < 26 && place % 10 == 9, "{place}");
    }
}

#[test]
fn a_new_post_is_explored_by_whom_it_is_seldom_read_with() {
    // 60 posts that are read with two others, each once, and one less with them; this one neither first
    // nor last, so it is in no trend.
    let mut events: Vec<Event> = (0..120).map(|n| post(1_000 + n, 1_000 + n, 0, &[])).collect();
    events.extend([post(500, 500, 0, &[]), post(501, 501, 0, &[])]);
    events.extend(some_are_no_candidates());
    let seldom = 19;
    let mut seconds = 100;
    let mut read_next = |events: &mut Vec<Event>, reader: u64, post: u64| {
        seconds += 1;
        events.push(read(reader, post, seconds));
    };
    for batch in 0..6 {
        let first = 1_020 + 10 * batch;
        let posts = std::iter::once(500 + batch % 2).chain(first..first + 10);
        posts.for_each(|post| read_next(&mut events, 100 + batch, post));
        if batch == 2 {
            for (reader, first) in [(95, 1_080), (96, 1_089), (97, 1_000)] {
                let posts = std::iter::once(500).chain(first..first + 9);
                posts.for_each(|post| read_next(&mut events, reader, post));
            }
            let posts = std::iter::once(500).chain(1_009..1_017).chain([seldom]);
            posts.for_each(|post| read_next(&mut events, 98, post));
        }
    }
    [500, 501].into_iter().for_each(|post| read_next(&mut events, 7, post));
    let engine = engine(&events);
    let mut scratch = Scratch::default();
    for reader in [7, 8] {
        engine.ask(UserId(reader), at(1_000), &[], &mut scratch);
        let together = scratch.candidates.iter().filter(|it| it.source == Source::Together);
        assert_eq!(together.count(), if reader == 7 { 32 } else { 0 });
        let index = engine.candidate_of(PostId(seldom), &scratch);
        let index = index.expect("a candidate, for few have seen it");
        assert!(scratch.fresh.contains(&(index as u16)), "{reader}");
        assert_eq!(scratch.candidates[index].source, Source::Newest);
    }
}

#[test]
fn an_author_who_edits_or_comes_first_has_half_of_the_newest_at_most() {
    let others: Vec<Event> = (0..200).map(|n| post(n, n, n, &[])).collect();
    let version = |version, nth: u64| changed(1_000 + nth, 999, version, true, 300 + nth, &[]);
    let flood: Vec<Event> = (0..300).map(|nth| version(1, nth)).collect();
    let share = |engine: &Engine| {
        let author = engine.find_reader(UserId(AUTHORS + 999)).unwrap();
        let authors = engine.newest.posts().map(|post| engine.posts[post as usize].author);
        authors.fold((0, 0), |(own, all), by| (own + u32::from(by == author), all + 1))
    };
    // The older ones again, and those that stand in the list.
    let edits: Vec<Event> = (0..300).map(|nth| version(2, nth)).collect();
    let edited = engine(&[&others[..], &flood, &edits].concat());
    assert_eq!(share(&edited), (128, 256));
    assert!(edited.newest.posts().eq(engine(&[&others[..], &flood].concat()).newest.posts()));
    // As a rebuild reads them, shard after shard.
    let rebuilt = engine(&[&flood[..], &others].concat());
    assert_eq!(share(&rebuilt), (128, 256));
    let posts = |engine: &Engine| -> Vec<PostId> {
        engine.newest.posts().map(|post| engine.posts[post as usize].id).collect()
    };
    assert_eq!(posts(&rebuilt), posts(&edited));
}
