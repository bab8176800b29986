//! Long reads in steps, deep pages, and what caches must not remember.

use std::sync::Arc;

use super::support::*;
use crate::actors::post::cache::{CachedPost, Caches, Limits, Room, Stash};
use crate::actors::post::lists::{Entry, ListId, Scope, Shelf};
use crate::actors::post::message::{Answer, Body, Command, Filter, Query, SortKey, Visibility};
use crate::actors::post::progress::Progress;
use crate::actors::state_machine::Step;
use crate::actors::user::message::Viewer;
use crate::ids::{PostId, Stamp, UserId};
use crate::s3_fifo::Weigh;

fn filled(limits: Limits, posts: usize) -> (Shard, Vec<PostId>) {
    let mut shard = Shard::with(limits);
    let authors = [ANN, BOB];
    let mut ids: Vec<_> = (0..posts)
        .map(|number| shard.post(create(authors[number % 2], Visibility::Public, &["x"])))
        .collect();
    ids.reverse();
    shard.reload();
    (shard, ids)
}

#[test]
fn a_deep_page_is_read_in_steps_and_the_next_one_is_not() {
    let limits = Limits { step_rows: 16, ..Limits::default() };
    let (mut shard, ids) = filled(limits, 300);
    let page = shard.page(&[], None, 250, 20).0;
    assert_eq!(page.iter().map(|view| view.summary.id).collect::<Vec<_>>(), ids[250..270]);
    assert!(shard.steps >= 16, "{}", shard.steps);
    shard.page(&[], None, 200, 20);
    assert_eq!(shard.steps, 1);
}

#[test]
fn a_page_of_a_list_costs_the_same_whatever_is_held() {
    let (mut shard, _) = filled(Limits { step_rows: 40, ..Limits::default() }, 300);
    assert_eq!(shard.page(&[], None, 0, 20).1, 300);
    assert_eq!(shard.steps, 1);
}

#[test]
fn a_walk_goes_on_where_it_stopped_and_starts_anew_when_its_lists_change() {
    let (mut shard, ids) = filled(Limits { step_rows: 16, ..Limits::default() }, 100);
    let filters = vec![Filter::Author(ANN), Filter::Tag("X".into())];
    let ask = || {
        let (filters, progress) = (filters.clone(), Progress::default());
        Query::ListKeys { filters, viewer: None, window: 0..100, progress }
    };
    let mut query = ask();
    assert!(matches!(shard.step(&mut query), Ok(Step::Again)));
    // One that was passed, and one that is still to come.
    for post in [ids[1], ids[99]] {
        shard.apply(delete(post, ANN));
    }
    let answer = loop {
        if let Step::Done(answer) = shard.step(&mut query).unwrap() {
            break answer;
        }
    };
    let Answer::Keys { keys, total } = answer else { panic!("{answer:?}") };
    assert_eq!((keys.len(), total), (48, 48));
}

#[test]
fn a_busy_list_does_not_keep_a_walk_from_its_end() {
    let (mut shard, _) = filled(Limits { step_rows: 16, ..Limits::default() }, 100);
    let filters = vec![Filter::Author(ANN), Filter::Tag("X".into())];
    let progress = Progress::default();
    let mut query = Query::ListKeys { filters, viewer: None, window: 0..1, progress };
    let mut steps = 0;
    while let Step::Again = shard.step(&mut query).unwrap() {
        shard.post(create(ANN, Visibility::Public, &["x"]));
        steps += 1;
        assert!(steps < 10, "it starts anew for ever");
    }
}

#[test]
fn a_feed_of_many_authors_is_merged_in_steps_and_then_kept() {
    let mut shard = Shard::with(Limits { step_rows: 16, ..Limits::default() });
    let authors: Vec<_> = (10..60).map(UserId).collect();
    let mut ids = Vec::new();
    for round in 0..5 {
        for author in authors.iter().filter(|author| author.0 % 5 >= round) {
            let visibility = [Visibility::Public, Visibility::Followers][(author.0 % 2) as usize];
            ids.push(shard.post(create(*author, visibility, &[])));
        }
    }
    ids.reverse();
    shard.reload();
    let reader = Arc::new(Viewer { follows: authors, ..viewer(ANN) });
    assert_eq!(shard.feed(&reader, 0, 20), (ids[..20].to_vec(), ids.len() as u64));
    assert!(shard.steps > 10);
    let newest = shard.post(create(UserId(12), Visibility::Public, &[]));
    let gone = shard.get(ids[3], Some(&reader), None).unwrap().0.summary;
    shard.apply(delete(gone.id, gone.author));
    ids.remove(3);
    ids.insert(0, newest);
    assert_eq!(shard.feed(&reader, 0, 20), (ids[..20].to_vec(), ids.len() as u64));
    assert_eq!(shard.steps, 1, "brought up to date");
    assert_eq!(shard.feed(&reader, 70, 20), (ids[70..90].to_vec(), ids.len() as u64));
}

#[test]
fn favorites_that_move_while_they_are_read_are_not_missed() {
    let mut shard = Shard::with(Limits { step_rows: 2, ..Limits::default() });
    let posts: Vec<_> = (0..6).map(|_| shard.post(create(ANN, Visibility::Public, &[]))).collect();
    let draft = shard.post(create(ANN, Visibility::Public, &[]));
    for post in posts.iter().chain([&draft]) {
        shard.apply(favorite(*post, BOB, true));
    }
    let ann_sees_bob = Arc::new(viewer(BOB));
    // A draft's row stands behind the public ones, where reading has not come yet.
    shard.apply(Command::UnpublishPost { post: draft, editor: reader(ANN) });
    assert!(shard.get(posts[5], Some(&ann_sees_bob), None).unwrap().0.favorited);
    // Now it moves to the front, which has been passed.
    shard.apply(publish(draft, ANN, Visibility::Public));
    for _ in 0..6 {
        assert!(shard.get(posts[0], Some(&ann_sees_bob), None).unwrap().0.favorited);
    }
    assert!(shard.get(draft, Some(&ann_sees_bob), None).unwrap().0.favorited);
}

#[test]
fn many_favorites_are_looked_up_one_by_one() {
    let mut shard = Shard::with(Limits { favored_posts: 4, ..Limits::default() });
    let bob = Arc::new(viewer(BOB));
    let posts: Vec<_> = (0..8).map(|_| shard.post(create(ANN, Visibility::Public, &[]))).collect();
    for (number, post) in posts.iter().enumerate() {
        shard.apply(favorite(*post, BOB, true));
        for (other, post) in posts.iter().enumerate() {
            let favorited = shard.get(*post, Some(&bob), None).unwrap().0.favorited;
            assert_eq!(favorited, other <= number);
        }
    }
}

#[test]
fn many_comments_are_listed_in_steps() {
    let mut shard = Shard::with(Limits { step_rows: 16, ..Limits::default() });
    let post = shard.post(create(ANN, Visibility::Public, &[]));
    for _ in 0..100 {
        shard.apply(comment(post, BOB));
    }
    let progress = Progress::default();
    let query = Query::ListComments { post, viewer: None, link_token: None, progress };
    let Ok(Answer::Comments(comments)) = shard.query(query) else { panic!() };
    assert!(comments.iter().map(|comment| comment.number).eq(1..=100));
    assert!(shard.steps > 5);
}

#[test]
fn a_command_that_is_lost_leaves_no_trace() {
    let (mut shard, ids) = filled(Limits::default(), 4);
    let bob = Arc::new(viewer(BOB));
    let before = (shard.page(&[], Some(&bob), 0, 10), shard.tags());
    let known = |shard: &mut Shard| {
        let ((posts, total), tags) = (shard.page(&[], Some(&bob), 0, 10), shard.tags());
        assert_eq!((total, &tags), (before.0.1, &before.1));
        for (now, before) in posts.iter().zip(&before.0.0) {
            assert_eq!(now.summary.version, before.summary.version);
            assert_eq!((now.favorites, now.favorited), (before.favorites, before.favorited));
        }
    };
    for command in [
        create(BOB, Visibility::Public, &["new"]),
        edit(ids[0], BOB),
        retag(ids[0], BOB, &["y"]),
        favorite(ids[0], BOB, true),
        delete(ids[0], BOB),
    ] {
        shard.lose(command);
        known(&mut shard);
        // A refusal behind it does not bring it in either.
        shard.refusal(edit(PostId(1), BOB));
        known(&mut shard);
        // Nor does another command.
        shard.apply(comment(ids[1], BOB));
        known(&mut shard);
    }
}

#[test]
fn a_post_weighs_what_its_rendering_can_become() {
    let mut shard = Shard::new();
    let mut weight = |text: &str| {
        let mut command = create(ANN, Visibility::Public, &[]);
        if let Command::CreatePost { description, .. } = &mut command {
            *description = text.repeat(1_000);
        }
        shard.post(command);
        let summary = shard.page(&[], None, 0, 1).0.remove(0).summary;
        CachedPost::new(summary, 0).weight()
    };
    assert!(weight("x") >= 2 * 1_000);
    assert!(weight("\u{1}") >= 7 * 1_000);
}

#[test]
fn the_page_of_tags_holds_as_many_as_the_edge_asks_for() {
    let mut shard = Shard::new();
    for post in 0..420 {
        let tags: Vec<_> = (0..10).map(|tag| format!("{post}-{tag}")).collect();
        let tags: Vec<_> = tags.iter().map(String::as_str).collect();
        shard.post(create(ANN, Visibility::Public, &tags));
    }
    let limit = crate::http::limits::TAGS_MAX;
    let Ok(Answer::Tags { tags, .. }) = shard.query(Query::ListTags { limit }) else {
        panic!("tags");
    };
    assert_eq!(tags.len(), 4_200);
}

#[test]
fn caches_grow_and_shrink_with_the_number_of_posts_up_to_a_bound() {
    let limits = Limits { bodies: Room { least: 0, each: 200, most: 10_000 }, ..Limits::default() };
    let mut caches = Caches::new(limits, Stamp(0), 0);
    let list = ListId::new(Shelf::All, Scope::Public);
    let mut held_with = |numbers: std::ops::Range<u64>, added: bool| {
        for number in numbers {
            let key = SortKey { at: Stamp(number), post: PostId(number) };
            let rows = vec![(list.clone(), Entry { key, author: ANN }, added)];
            caches.take_in(Stash { rows, ..Stash::default() });
        }
        for number in 0..100 {
            caches.bodies.insert(PostId(number), Body::of_text(&"x".repeat(898)));
        }
        caches.trim();
        (0..100).filter(|number| caches.bodies.get(&PostId(*number)).is_some()).count()
    };
    assert_eq!(held_with(0..20, true), 4, "a fifth of a body for each post");
    assert_eq!(held_with(20..100, true), 10, "no more than ten");
    assert_eq!(held_with(5..100, false), 1);
}
