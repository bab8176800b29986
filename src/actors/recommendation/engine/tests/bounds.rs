//! What must stay small whatever one reader or author does.

use super::*;
use crate::actors::recommendation::engine::reader::CHOICES_MAX;

#[test]
fn a_flood_by_one_reader_moves_little() {
    let mut events: Vec<Event> = (0..2_000).map(|n| post(n, n, 0, &[])).collect();
    // Three readers on one post, and one who reads everything, again and again.
    (0..3).for_each(|reader| events.push(read(reader, 1_999, 10)));
    for round in 0..3 {
        for n in 0..1_900 {
            events.push(read(99, n, 20 + round));
        }
    }
    let engine = engine(&events);
    let counted = engine.posts.iter().map(|post| u64::from(post.readers)).sum::<u64>();
    assert_eq!(counted, 3 + u64::from(Settings::default().burst_max));
    assert!(engine.posts.iter().all(|post| post.readers <= 3));
    assert_eq!(trending(&engine, None, Some(2))[0], 1_999);
    let pairs = engine.posts.iter().map(|post| post.neighbours.all().len()).sum::<usize>();
    assert!(pairs <= 2 * 20 * usize::from(Settings::default().burst_max));
}

/// Reads of the last post, counted.
fn counted(engine: &Engine, post: u64) -> u32 {
    engine.posts[engine.find_post(PostId(post)).unwrap() as usize].readers
}

#[test]
fn a_read_that_is_deleted_and_repeated_counts_once() {
    let mut engine = engine(&[post(1, 1, 0, &[])]);
    for n in 0..1_000 {
        engine.apply_live(&read(7, 1, n), at(n * 300));
        engine.apply(&Event::ReadForgotten { reader: UserId(7), post: PostId(1) });
    }
    assert_eq!(counted(&engine, 1), 1, "in three days and a half");
    engine.apply_live(&read(7, 1, 20), at(15 * 24 * 3_600));
    assert_eq!(counted(&engine, 1), 2, "but not for ever");
    engine.apply_live(&read(8, 1, 20), at(20));
    assert_eq!(counted(&engine, 1), 3, "and not of anybody else");
}

#[test]
fn claimed_times_bring_no_tokens() {
    let burst = u32::from(Settings::default().burst_max);
    let mut engine = engine(&(0..2_000).map(|n| post(n, n, 0, &[])).collect::<Vec<_>>());
    // A read an hour, as it says, for a quarter of a year; all of them now.
    let now = at(2_000 * 3_600);
    (0..2_000).for_each(|n| engine.apply_live(&read(7, n, n * 3_600), now));
    let all: u32 = (0..2_000).map(|n| counted(&engine, n)).sum();
    assert_eq!(all, burst);
    // Nor do those that are not so far off, but for ten minutes.
    (0..600).for_each(|n| {
        let Event::Interacted { reader, post, how, .. } = read(7, 100 + n, 0) else { return };
        let at = Stamp(now.0 - 600_000_000 + n * 1_000_000);
        engine.apply_live(&Event::Interacted { reader, post, how, at }, now);
    });
    let all: u32 = (0..2_000).map(|n| counted(&engine, n)).sum();
    assert!(all <= burst + 10, "{all}");
    let later = now.plus_ms(3_600_000);
    assert!(engine.would_count(UserId(7), PostId(1_500), at(0), later));
}

#[test]
fn a_rebuild_believes_the_times_of_reads_but_counts_each_post_once() {
    let mut engine = engine(&(0..200).map(|n| post(n, n, 0, &[])).collect::<Vec<_>>());
    // As the owner has them: a read an hour, as it was said, whenever that was.
    (0..2).for_each(|_| (0..200).for_each(|n| engine.apply(&read(7, n, n * 3_600))));
    assert!((0..200).all(|n| counted(&engine, n) == 1));
}

#[test]
fn reads_that_do_not_count_do_not_make_others_count_again() {
    let Settings { reads_max, burst_max, .. } = Settings::default();
    let posts: Vec<Event> = (0..1_000).map(|n| post(n, n, 0, &[])).collect();
    let mut engine = engine(&posts);
    for _ in 0..5 {
        (0..1_000).for_each(|n| engine.apply_live(&read(7, n, 10), at(10)));
    }
    let all: u32 = (0..1_000).map(|n| counted(&engine, n)).sum();
    assert_eq!(all, u32::from(burst_max));
    let slot = engine.find_reader(UserId(7)).unwrap();
    let reads = engine.readers[slot as usize].reads();
    assert_eq!(reads.len(), reads_max);
    for post in 0..u64::from(burst_max) {
        assert!(!engine.would_count(UserId(7), PostId(post), at(9), at(100_000)), "{post}");
    }
    assert!(engine.would_count(UserId(7), PostId(500), at(9), at(100_000)));
}

#[test]
fn tags_are_bounded_whatever_one_account_does() {
    let mut engine = engine(&[post(1, 1, 0, &["kept"]), read(8, 1, 1)]);
    let reader = UserId(7);
    for n in 0..12_000 {
        let tag = |salt: &str| format!("{salt}{n}");
        let six: Vec<String> = (0..6).map(|nth| tag(&format!("t{nth}-"))).collect();
        let six: Vec<&str> = six.iter().map(String::as_str).collect();
        engine.apply(&changed(2, 2, n + 1, true, n, &six));
        engine.apply(&changed(3, 2, n + 1, false, n, &[&tag("hidden")]));
        engine.apply(&Event::TagFollowed { reader, tag: tag("off"), is_on: false });
        engine.apply(&Event::TagMuted { reader: UserId(n), tag: tag("off"), is_on: false });
        engine.apply(&Event::TagFollowed { reader, tag: tag("f"), is_on: true });
        engine.apply(&Event::TagMuted { reader, tag: tag("m"), is_on: true });
        if n % 100 == 0 {
            engine.apply(&Event::FeedbackWithdrawn { reader, post: PostId(2) });
            engine.apply(&read(9, 2, n));
            engine.apply(&Event::ReadForgotten { reader: UserId(9), post: PostId(2) });
        }
    }
    // So many of each choice, 24 interests of two readers and the author, a post's five, one on its way.
    let most = 2 * CHOICES_MAX + 3 * 24 + 2 * 5 + 1;
    assert!(engine.tags.slots() <= most, "{}", engine.tags.slots());
    assert_eq!(engine.readers_known(), 5, "who takes back what was never chosen is nobody");
    assert_eq!(trending(&engine, Some("kept"), None), [1]);
    assert_eq!(trending(&engine, Some("t0-0"), None), [0; 0]);
    engine.apply(&Event::ReaderErased { reader });
    let before = engine.tags.slots();
    (0..8_000).for_each(|n| engine.apply(&post(10 + n, 3, n, &[&format!("new{n}")])));
    assert_eq!(engine.tags.slots(), before, "what nobody refers to is given to others");
    assert_eq!(trending(&engine, Some("kept"), None), [1]);
}

#[test]
fn what_nobody_ever_saw_leaves_nothing_when_it_is_deleted() {
    let mut engine = engine(&[post(1, 1, 0, &["a"]), read(7, 2, 1)]);
    let digest = engine.digest();
    (100..10_100).for_each(|n| engine.apply(&Event::PostDeleted { post: PostId(n) }));
    assert_eq!((engine.posts_known(), engine.digest()), (2, digest));
    // What was heard of is gone for ever, be it by a read alone.
    for n in [1, 2] {
        engine.apply(&Event::PostDeleted { post: PostId(n) });
        engine.apply(&post(n, 1, 9, &["a"]));
        engine.apply(&read(8, n, 10));
    }
    assert!(list(&engine, 9, 20, &plain()).is_empty() && trending(&engine, None, None).is_empty());
    // A read that comes after the deletion of a draft brings nothing to light, and takes one of the
    // places of those that overtake their posts.
    engine.apply(&Event::PostDeleted { post: PostId(3) });
    engine.apply(&read(8, 3, 11));
    assert_eq!(engine.known_post(PostId(3)), Some((0, false)));
    assert!(list(&engine, 9, 20, &plain()).is_empty());
}

#[test]
fn reads_of_what_nobody_published_are_bounded_for_each_reader() {
    let mut engine = Engine::new(Settings::default());
    (0..10_000).for_each(|n| engine.apply_live(&read(7, n, 10), at(10)));
    assert_eq!(engine.posts_known(), usize::from(Settings::default().burst_max));
    engine.apply_live(&read(8, 20_000, 10), at(10));
    assert!(engine.known_post(PostId(20_000)).is_some(), "others may go on");
}

#[test]
fn the_owner_is_right_about_a_version_that_is_known() {
    let mut engine = engine(&[changed(1, 1, 3, true, 0, &["a"])]);
    engine.apply(&Event::Denied { post: PostId(1), version: 3 });
    let listed = |engine: &Engine| engine.known_post(PostId(1)).unwrap().1;
    engine.apply(&changed(1, 1, 3, true, 0, &["a"]));
    assert!(!listed(&engine), "the same news again are no news");
    engine.repair(&changed(1, 1, 2, true, 0, &["a"]));
    assert!(!listed(&engine), "an older answer");
    engine.repair(&changed(1, 1, 3, true, 0, &["a"]));
    assert!(listed(&engine));
    assert_eq!(list(&engine, 7, 9, &plain()), [1]);
    engine.repair(&changed(1, 1, 3, false, 0, &["a"]));
    assert!(!listed(&engine));
    engine.apply(&Event::PostDeleted { post: PostId(1) });
    engine.repair(&changed(1, 1, 4, true, 0, &["a"]));
    assert!(!listed(&engine), "what is gone is gone");
}
