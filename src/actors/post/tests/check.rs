//! Asks a shard everything, and compares with the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::Model;
use super::support::*;
use crate::actors::post::message::{
    Answer, Filter, Personal, Place, PostView, Query, SortKey, is_listed, lists_as_stranger,
    sees_as_stranger,
};
use crate::actors::post::progress::Progress;
use crate::actors::post::slots;
use crate::actors::state_machine::Slot;
use crate::actors::user::message::Viewer;
use crate::ids::{PostId, Stamp, UserId};

/// Nobody is signed in.
pub(super) const NOBODY: UserId = UserId(0);
pub(super) const USERS: [UserId; 4] = [ANN, BOB, CID, UserId(4)];
pub(super) fn every_filter() -> Vec<Vec<Filter>> {
    let tags = ["RUST", "ärger"].map(|tag| Filter::Tag(tag.into()));
    let authors = USERS.map(Filter::Author);
    let favored = USERS.map(Filter::FavoritedBy);
    let mut all = vec![vec![], vec![Filter::All], vec![Filter::Tag("nothing".into())]];
    for filter in tags.iter().chain(&authors).chain(&favored) {
        all.push(vec![filter.clone()]);
    }
    for (number, author) in authors.iter().enumerate() {
        all.push(vec![tags[number % 2].clone(), author.clone()]);
        all.push(vec![favored[(number + 1) % 4].clone(), author.clone(), Filter::All]);
        all.push(vec![tags[0].clone(), tags[1].clone(), favored[number].clone()]);
    }
    all.push(vec![authors[0].clone(), authors[1].clone()]);
    all
}

pub(super) fn ids(posts: &[PostView]) -> Vec<PostId> {
    posts.iter().map(|view| view.summary.id).collect()
}

pub(super) fn cut<T: Clone>(all: &[T], offset: usize, limit: usize) -> Vec<T> {
    all.iter().skip(offset).take(limit).cloned().collect()
}

/// Everything that can be asked, by everybody.
pub(super) fn check(shard: &mut Shard, model: &Model) {
    for user in USERS.into_iter().chain([NOBODY]) {
        let viewer = (user != NOBODY).then(|| model.viewer(user));
        let viewer = viewer.as_ref();
        for filters in every_filter() {
            check_list(shard, model, &filters, user, viewer);
        }
        if let Some(viewer) = viewer {
            let expected: Vec<_> = model.feed(user).iter().map(|post| post.id).collect();
            for (offset, limit) in [(0, 100), (1, 2)] {
                let (found, total) = shard.feed(viewer, offset, limit);
                assert_eq!(found, cut(&expected, offset, limit), "feed of {user}");
                assert_eq!(total, expected.len() as u64);
            }
        }
        check_posts(shard, model, user, viewer);
    }
    assert_eq!(shard.tags().0, model.tags());
    check_export(shard, model);
}

fn check_list(
    shard: &mut Shard,
    model: &Model,
    filters: &[Filter],
    user: UserId,
    viewer: Option<&Arc<Viewer>>,
) {
    let expected = model.list(filters, user);
    for (offset, limit) in [(0, 2), (1, 3), (0, 100)] {
        let (found, total) = shard.page(filters, viewer, offset, limit);
        assert_eq!(total, expected.len() as u64, "total of {filters:?} for {user}");
        let wanted = cut(&expected, offset, limit);
        let wanted_ids: Vec<_> = wanted.iter().map(|post| post.id).collect();
        assert_eq!(ids(&found), wanted_ids, "{filters:?} for {user}");
        for (view, post) in found.iter().zip(wanted) {
            assert_eq!(view.favorites, post.favorites.len() as u64);
            assert_eq!(view.favorited, post.favorites.contains(&user), "{} {user}", post.id);
            assert_eq!(view.summary.version, post.version);
        }
    }
    if let Some(viewer) = viewer {
        check_kept_list(shard, filters, viewer);
    }

    // From one end to the other and back, two at a time.
    let all: Vec<_> = expected.iter().map(|post| post.key()).collect();
    let (mut found, mut place) = (Vec::new(), None);
    loop {
        let keys = shard.keys_from(filters, viewer, place, 2);
        let Some(last) = keys.last() else { break };
        place = Some(Place::After(*last));
        found.extend(keys);
    }
    assert_eq!(found, all, "{filters:?} for {user}, by cursor");
    // The place of a post that is not in the list, or no more, is a place all the same.
    let end = SortKey { at: Stamp(0), post: PostId(0) };
    let (mut found, mut place) = (Vec::new(), Place::Before(end));
    loop {
        let keys = shard.keys_from(filters, viewer, Some(place), 2);
        let Some(last) = keys.last() else { break };
        place = Place::Before(*last);
        found.extend(keys);
    }
    found.reverse();
    assert_eq!(found, all, "{filters:?} for {user}, backwards");
}

/// What callers make for a reader of what they keep is what he would be answered.
fn check_kept_list(shard: &mut Shard, filters: &[Filter], viewer: &Arc<Viewer>) {
    let own = shard.personal(viewer.id);
    if own.favored.is_none() || !lists_as_stranger(viewer, &own) {
        return;
    }
    let shown = |posts: &[PostView]| posts.iter().map(|view| format!("{view:?}")).collect();
    let (kept, kept_total) = shard.page(filters, None, 0, 100);
    let kept = kept.into_iter().map(|view| {
        let favorited = own.favors(view.summary.id);
        PostView { favorited, ..view }
    });
    let (kept, (fresh, total)) =
        (kept.collect::<Vec<_>>(), shard.page(filters, Some(viewer), 0, 100));
    let (kept, fresh): (Vec<String>, Vec<String>) = (shown(&kept), shown(&fresh));
    assert_eq!((kept, kept_total), (fresh, total), "{filters:?} for {}", viewer.id);
}

/// The same of one post.
fn check_kept_post(shard: &mut Shard, post: PostId, viewer: &Arc<Viewer>, link: Option<[u8; 16]>) {
    let Ok((kept, _)) = shard.get(post, None, None) else { return };
    let own = shard.personal(viewer.id);
    if own.favored.is_some()
        && is_listed(kept.summary.visibility)
        && sees_as_stranger(viewer, kept.summary.author)
    {
        let (fresh, _) = shard.get(post, Some(viewer), link).expect("strangers see it");
        let kept = PostView { favorited: own.favors(post), ..kept };
        assert_eq!(format!("{kept:?}"), format!("{fresh:?}"));
    }
}

/// Every answer that callers keep, and the slot that it stands on.
pub(super) fn kept_answers(shard: &mut Shard, model: &Model) -> Vec<(Slot, String)> {
    let mut answers = Vec::new();
    let posts = model.posts.iter().map(|post| post.id).chain(model.dead.iter().copied());
    let posts: Vec<PostId> = posts.collect();
    let authors: Vec<_> = model.posts.iter().map(|post| (post.id, post.author)).collect();
    let of_users = |post: &PostId| USERS.map(|user| (*post, user));
    let posts_and_users: Vec<_> = posts.iter().flat_map(of_users).collect();
    for post in posts {
        let found = shard.get(post, None, None).ok();
        answers.push((slots::of_post(post), format!("{found:?}")));
    }
    for (post, user) in posts_and_users {
        let found = shard.get(post, Some(&Arc::new(viewer(user))), None).ok();
        let favored = found.map(|(view, _)| view.favorited);
        answers.push((slots::of_post(post), format!("{favored:?}")));
    }
    // Feeds show posts that strangers do not see.
    for (post, author) in authors {
        let reader = Arc::new(Viewer { follows: vec![author], ..viewer(UserId(98)) });
        let found = shard.get(post, Some(&reader), None).ok();
        answers.push((slots::of_post(post), format!("{found:?}")));
    }
    for filters in every_filter() {
        if let [filter] = &filters[..] {
            let found = shard.keys(&filters, None, 0..100);
            answers.push((slots::of_list(filter), format!("{found:?}")));
        }
    }
    let follower = UserId(99);
    for user in USERS {
        let reader = Arc::new(Viewer { follows: vec![user], ..viewer(follower) });
        let found = shard.feed(&reader, 0, 100);
        answers.push((slots::of_feed(user), format!("{found:?}")));
        let Personal { favored, has_hidden } = shard.personal(user);
        answers.push((slots::of_personal(user), format!("{favored:?} {has_hidden}")));
    }
    answers.push((slots::of_tags(), format!("{:?}", shard.tags())));
    answers
}

fn check_posts(shard: &mut Shard, model: &Model, user: UserId, viewer: Option<&Arc<Viewer>>) {
    for post in &model.posts {
        for link_token in [None, Some(post.link_token), Some([99; 16])] {
            let found = shard.get(post.id, viewer, link_token);
            let sees = model.sees(user, post, link_token);
            assert_eq!(found.is_ok(), sees, "{post:?} for {user}");
            if let Some(viewer) = viewer {
                check_kept_post(shard, post.id, viewer, link_token);
            }
            let Ok((view, body)) = found else { continue };
            assert_eq!(body, post.body);
            assert_eq!(view.favorites, post.favorites.len() as u64);
            assert_eq!(view.favorited, post.favorites.contains(&user));
            let summary = &view.summary;
            assert_eq!((&summary.title, &summary.tags), (&post.title, &post.tags));
            assert_eq!(
                (summary.created_at, summary.updated_at),
                (post.created_at, post.updated_at)
            );
            assert_eq!(
                (summary.published_at, summary.publish_at),
                (post.published_at, post.publish_at)
            );
            assert_eq!((summary.visibility, summary.version), (post.visibility, post.version));
        }
        let progress = Progress::default();
        let (viewer, id) = (viewer.cloned(), post.id);
        let asked = Query::ListComments { post: id, viewer, link_token: None, progress };
        match shard.query(asked) {
            Ok(Answer::Comments(comments)) => {
                let found = comments.into_iter().map(|one| (one.number, (one.author, one.body)));
                assert_eq!(found.collect::<BTreeMap<_, _>>(), post.comments);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => assert!(!model.sees(user, post, None)),
        }
    }
    for post in &model.dead {
        assert!(shard.get(*post, viewer, Some(TOKEN)).is_err(), "{post} is dead");
    }
    let dead = model.dead.iter().copied();
    let posts: Vec<_> = model.posts.iter().rev().map(|post| post.id).chain(dead).collect();
    let seen: Vec<_> =
        model.posts.iter().rev().filter(|post| model.sees(user, post, None)).collect();
    match shard.query(Query::GetPosts { posts, viewer: viewer.cloned(), favorited: true }) {
        Ok(Answer::Posts(found)) => {
            assert_eq!(ids(&found), seen.iter().map(|post| post.id).collect::<Vec<_>>());
        }
        other => panic!("{other:?}"),
    }
}

fn check_export(shard: &mut Shard, model: &Model) {
    let mut after = PostId(0);
    let mut exported = Vec::new();
    while let Ok(Answer::Exported(page)) = shard.query(Query::Export { after, limit: 2 }) {
        let Some(last) = page.last() else { break };
        after = last.summary.id;
        exported.extend(page);
    }
    let mut posts = model.posts.clone();
    posts.sort_by_key(|post| post.id);
    assert_eq!(exported.len(), posts.len());
    for (exported, post) in exported.iter().zip(posts) {
        assert_eq!(exported.summary.id, post.id);
        assert_eq!(exported.body, post.body);
        assert!(exported.favorites.iter().eq(&post.favorites));
        let numbers = exported.comments.iter().map(|comment| comment.number);
        assert!(numbers.eq(post.comments.keys().copied()));
    }
}
