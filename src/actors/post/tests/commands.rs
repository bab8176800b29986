//! Each command: what it answers, what it refuses, what it tells others.

use std::sync::Arc;

use super::support::*;
use crate::actors::post::apply::{COMMENTS_BYTES_MAX, COMMENTS_MAX, DUE_POSTS_MAX};
use crate::actors::post::cache::Limits;
use crate::actors::post::event::Event;
use crate::actors::post::message::{
    Answer, Command, Comment, Error, Filter, ImportKey, Query, Reader, Reply, Visibility,
};
use crate::actors::post::progress::Progress;
use crate::actors::post::tables::{self, CommentNumberRow, TombstoneRow};
use crate::actors::signature::Signature;
use crate::actors::state_machine::StateMachine;
use crate::ids::{Bucket, PostId, Stamp};
use crate::store::codec;

fn comments(shard: &mut Shard, post: PostId) -> Vec<Comment> {
    let progress = Progress::default();
    let query = Query::ListComments { post, viewer: None, link_token: None, progress };
    match shard.query(query) {
        Ok(Answer::Comments(comments)) => comments,
        other => panic!("{other:?}"),
    }
}

fn numbers(shard: &mut Shard, post: PostId) -> Vec<u32> {
    comments(shard, post).iter().map(|comment| comment.number).collect()
}

#[test]
fn a_post_is_created_as_it_was_sent() {
    let mut shard = Shard::new();
    let (reply, events) =
        shard.try_apply(create(ANN, Visibility::Public, &["B", "a", "b"])).unwrap();
    let id = PostId::new(shard.now, Bucket::new(5));
    assert_eq!(reply, Reply::Post { id, version: 1 });
    let (view, body) = shard.get(id, None, None).unwrap();
    assert_eq!(body, "Body");
    assert_eq!((view.favorites, view.favorited), (0, false));
    assert_eq!(view.summary.tags, ["B", "a", "b"], "as sent");
    assert_eq!(view.summary.created_at, shard.now);
    assert_eq!(view.summary.updated_at, shard.now);
    assert_eq!(view.summary.published_at, Some(shard.now));
    assert_eq!(shard.tags().0, [("a".into(), 1), ("B".into(), 1)], "counted once");
    let tags = view.summary.tags.clone();
    let (visibility, published_at) = (Visibility::Public, Some(shard.now));
    let signature = Signature::of("Title", "Body");
    let event = Event::PostChanged {
        post: id,
        author: ANN,
        version: 1,
        visibility,
        published_at,
        tags,
        signature,
    };
    assert_eq!(events, [event]);
}

#[test]
fn an_imported_post_keeps_its_time_and_place() {
    let mut shard = Shard::new();
    let new = shard.post(create(ANN, Visibility::Public, &[]));
    let mut command = create(ANN, Visibility::Public, &[]);
    let Command::CreatePost { created_at, import, .. } = &mut command else { unreachable!() };
    (*created_at, *import) = (Some(Stamp(1_000)), Some(ImportKey([1; 16])));
    let old = shard.post(command.clone());
    assert_eq!(shard.list(&[], None), [new, old]);
    let (view, _) = shard.get(old, None, None).unwrap();
    assert_eq!(view.summary.published_at, Some(Stamp(1_000)));
    assert_eq!(view.summary.updated_at, Stamp(1_000));

    let (reply, events) = shard.try_apply(command.clone()).unwrap();
    assert_eq!(reply, Reply::Post { id: old, version: 1 }, "once only");
    assert_eq!(events, []);
    shard.apply(delete(old, ANN));
    assert_eq!(shard.apply(command), Reply::Post { id: old, version: 2 }, "and not again");
    assert_eq!(shard.list(&[], None), [new]);
}

#[test]
fn a_schedule_needs_a_time_to_come() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Draft, &[]));
    let later = shard.now.plus_ms(5);
    for at in [None, Some(Stamp(1)), Some(Stamp(shard.now.0 + 1))] {
        let mut command = create(ANN, Visibility::Scheduled, &[]);
        let Command::CreatePost { publish_at, .. } = &mut command else { unreachable!() };
        *publish_at = at;
        assert_eq!(shard.refusal(command), Error::ScheduleInvalid);
        let (visibility, link_token) = (Visibility::Scheduled, TOKEN);
        let editor = reader(ANN);
        let command = Command::PublishPost { post: id, editor, visibility, at, link_token };
        assert_eq!(shard.refusal(command), Error::ScheduleInvalid);
    }
    let (visibility, link_token, at) = (Visibility::Scheduled, TOKEN, Some(later));
    let editor = reader(ANN);
    let version =
        match shard.apply(Command::PublishPost { post: id, editor, visibility, at, link_token }) {
            Reply::Post { version, .. } => version,
            other => panic!("{other:?}"),
        };
    assert_eq!(version, 2);
    assert_eq!(shard.service.next_wake(), Some(later));
}

#[test]
fn edits_keep_what_they_do_not_name() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Public, &["x"]));
    let before = shard.get(id, None, None).unwrap().0.summary;
    assert_eq!(shard.apply(edit(id, ANN)), Reply::Post { id, version: 2 });
    let (view, body) = shard.get(id, None, None).unwrap();
    let after = view.summary;
    assert_eq!(
        (&after.title[..], &after.description[..], &body[..]),
        ("New", "Description", "Body")
    );
    assert_eq!(after.tags, ["x"]);
    assert_eq!((after.created_at, after.published_at), (before.created_at, before.published_at));
    assert!(after.updated_at.as_millis() > before.updated_at.as_millis(), "shown in milliseconds");
    for _ in 0..3 {
        let before = shard.get(id, None, None).unwrap().0.summary.updated_at;
        shard.apply(retag(id, ANN, &[]));
        let after = shard.get(id, None, None).unwrap().0.summary;
        assert!(after.updated_at.as_millis() > before.as_millis());
        assert_eq!(after.tags, [""; 0]);
    }
}

#[test]
fn an_edit_of_nothing_changes_nothing() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Public, &["x"]));
    let mut command = edit(id, ANN);
    let Command::EditPost { title, .. } = &mut command else { unreachable!() };
    *title = None;
    let (reply, events) = shard.try_apply(command).unwrap();
    assert_eq!((reply, events.len()), (Reply::Post { id, version: 1 }, 0));
}

#[test]
fn of_two_editors_the_later_wins_unless_one_names_the_version() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Public, &[]));
    let with = |text: &str, version: Option<u64>| {
        let mut command = edit(id, ANN);
        let Command::EditPost { title, if_version, .. } = &mut command else { unreachable!() };
        (*title, *if_version) = (Some(text.into()), version);
        command
    };
    shard.apply(with("first", None));
    shard.apply(with("second", None));
    assert_eq!(shard.get(id, None, None).unwrap().0.summary.title, "second");
    assert_eq!(shard.refusal(with("third", Some(2))), Error::VersionMismatch { current: 3 });
    shard.apply(with("third", Some(3)));
    let editor = reader(ANN);
    let stale = Command::DeletePost { post: id, editor, if_version: Some(3) };
    assert_eq!(shard.refusal(stale), Error::VersionMismatch { current: 4 });
    shard.apply(Command::DeletePost { post: id, editor, if_version: Some(4) });
}

#[test]
fn the_first_publication_counts() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Draft, &["x"]));
    let other = shard.post(create(BOB, Visibility::Public, &[]));
    assert_eq!(shard.get(id, None, None).unwrap_err(), Error::NotFound);
    shard.apply(publish(id, ANN, Visibility::Public));
    let first = shard.now;
    assert_eq!(shard.list(&[], None), [id, other], "newest is what was published last");
    shard.apply(Command::UnpublishPost { post: id, editor: reader(ANN) });
    assert_eq!(shard.list(&[], None), [other]);
    assert_eq!(shard.tags().0, []);
    shard.apply(publish(id, ANN, Visibility::Public));
    let summary = shard.get(id, None, None).unwrap().0.summary;
    assert_eq!((summary.published_at, summary.version), (Some(first), 4));
    assert_eq!(summary.updated_at, summary.created_at, "the text is the same");
}

#[test]
fn to_publish_again_as_before_changes_nothing() {
    let mut shard = Shard::new();
    for visibility in [Visibility::Public, Visibility::Unlisted, Visibility::Scheduled] {
        let id = shard.post(create(ANN, visibility, &[]));
        let (reply, events) = shard.try_apply(publish(id, ANN, visibility)).unwrap();
        assert_eq!((reply, events.len()), (Reply::Post { id, version: 1 }, 0), "{visibility:?}");
    }
    let id = shard.post(create(ANN, Visibility::Unlisted, &[]));
    let (editor, link_token) = (reader(ANN), [9; 16]);
    let visibility = Visibility::Unlisted;
    shard.apply(Command::PublishPost { post: id, editor, visibility, at: None, link_token });
    assert!(shard.get(id, None, Some(TOKEN)).is_err(), "the old link is void");
    assert!(shard.get(id, None, Some(link_token)).is_ok());
}

#[test]
fn a_deleted_post_leaves_nothing_but_a_tombstone() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Public, &["x"]));
    shard.apply(favorite(id, BOB, true));
    shard.apply(comment(id, BOB));
    let events = shard.events(delete(id, ANN));
    assert_eq!(events, [Event::PostDeleted { post: id, author: ANN, version: 2 }]);
    for command in [
        edit(id, ANN),
        delete(id, ANN),
        favorite(id, BOB, true),
        comment(id, BOB),
        publish(id, ANN, Visibility::Public),
    ] {
        assert_eq!(shard.refusal(command), Error::NotFound);
    }
    assert_eq!(shard.list(&[Filter::FavoritedBy(BOB)], None), []);
    assert_eq!(shard.tags().0, []);
    let tombstone: Option<TombstoneRow> = shard
        .tables
        .read(|tables| tables::read(tables, tables::TOMBSTONES, &tables::post_key(id)).unwrap());
    assert_eq!(tombstone.unwrap().version, 2);
}

#[test]
fn favorites_are_counted_once_per_user() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Public, &[]));
    let bob = Arc::new(viewer(BOB));
    for on in [true, true, false, false, true] {
        let (reply, events) = shard.try_apply(favorite(id, BOB, on)).unwrap();
        assert_eq!(reply, Reply::Favorites(u64::from(on)));
        let view = shard.get(id, Some(&bob), None).unwrap().0;
        assert_eq!((view.favorites, view.favorited), (u64::from(on), on));
        assert!(
            events.iter().all(|event| *event == Event::FavoriteChanged { post: id, user: BOB, on })
        );
    }
    assert_eq!(shard.events(favorite(id, BOB, true)), []);
    // As older programs sent it, and as their logs have it.
    let old = Command::SetFavorite { post: id, reader: reader(ANN), on: true };
    let (reply, events) = shard.try_apply(old).unwrap();
    assert_eq!((reply, events.len()), (Reply::Done, 1));
    assert_eq!(shard.apply(favorite(id, ANN, true)), Reply::Favorites(2));
    assert_eq!(shard.list(&[Filter::FavoritedBy(BOB)], None), [id]);
    assert!(!shard.get(id, None, None).unwrap().0.favorited);
}

#[test]
fn comments_are_numbered_and_numbers_are_not_used_again() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Public, &[]));
    for expected in 1..=3 {
        let reply = shard.apply(comment(id, BOB));
        assert_eq!(reply, Reply::Comment { number: expected, created_at: shard.now });
    }
    let remove = |number, user| Command::DeleteComment { post: id, number, reader: reader(user) };
    assert_eq!(shard.refusal(remove(3, CID)), Error::CommentForbidden);
    assert_eq!(shard.refusal(remove(3, ANN)), Error::CommentForbidden, "nor the post's author");
    assert_eq!(shard.apply(remove(3, BOB)), Reply::Done);
    assert_eq!(shard.refusal(remove(3, BOB)), Error::CommentNotFound);
    let events = shard.events(comment(id, CID));
    assert_eq!(events, [Event::CommentAdded { post: id, user: CID, number: 4 }]);
    assert_eq!(numbers(&mut shard, id), [1, 2, 4]);
    let other = shard.post(create(ANN, Visibility::Public, &[]));
    shard.apply(comment(other, BOB));
    assert_eq!(numbers(&mut shard, other), [1]);
}

#[test]
fn an_imported_comment_is_added_once() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Public, &[]));
    let command = Command::AddComment {
        post: id,
        reader: reader(BOB),
        body: "Old".into(),
        created_at: Some(Stamp(5)),
        import: Some(ImportKey([1; 16])),
    };
    let reply = Reply::Comment { number: 1, created_at: Stamp(5) };
    assert_eq!(shard.apply(command.clone()), reply);
    assert_eq!(shard.try_apply(command.clone()).unwrap(), (reply.clone(), vec![]));
    shard.apply(Command::DeleteComment { post: id, number: 1, reader: reader(BOB) });
    assert_eq!(shard.apply(command), reply);
    assert!(numbers(&mut shard, id).is_empty());
}

#[test]
fn the_numbers_of_comments_end() {
    let mut shard = Shard::new();
    let id = shard.post(create(ANN, Visibility::Public, &[]));
    let last = codec::encode(&CommentNumberRow { last: COMMENTS_MAX - 1, bytes: 0 });
    let _ = shard.tables.apply(|tables| {
        tables.put(tables::COMMENT_NUMBERS, tables::post_key(id), last);
        Ok::<(), ()>(())
    });
    shard.apply(comment(id, BOB));
    assert_eq!(shard.refusal(comment(id, BOB)), Error::TooManyComments(COMMENTS_MAX));
}

#[test]
fn the_bytes_of_comments_end_and_a_deletion_makes_room() {
    const BYTES: usize = 16 * 1024;
    let mut shard = Shard::with(Limits { step_rows: 64, ..Limits::default() });
    let id = shard.post(create(ANN, Visibility::Public, &[]));
    let large = || Command::AddComment {
        post: id,
        reader: reader(BOB),
        body: "x".repeat(BYTES),
        created_at: None,
        import: None,
    };
    let count = COMMENTS_BYTES_MAX as usize / BYTES;
    for _ in 0..count {
        shard.apply(large());
    }
    assert_eq!(shard.refusal(large()), Error::CommentsFull);
    assert_eq!(shard.refusal(comment(id, BOB)), Error::CommentsFull);
    shard.apply(Command::DeleteComment { post: id, number: 7, reader: reader(BOB) });
    shard.apply(large());
    assert_eq!(shard.refusal(large()), Error::CommentsFull);
    // A step ends after so many bytes, not after so many comments.
    assert_eq!(numbers(&mut shard, id).len(), count);
    assert!(shard.steps >= count * BYTES / (64 * 1024) / 2, "{}", shard.steps);
}

#[test]
fn scheduled_posts_come_out_in_their_time_a_bounded_number_at_once() {
    let mut shard = Shard::new();
    let posts: Vec<_> = (0..DUE_POSTS_MAX + 3)
        .map(|_| shard.post(create(ANN, Visibility::Scheduled, &["x"])))
        .collect();
    let at = START.plus_ms(3_600_000);
    assert_eq!(shard.service.next_wake(), Some(at));
    shard.apply(due());
    assert_eq!(shard.list(&[], None), [], "not yet");

    shard.reload();
    shard.now = at.plus_ms(60_000);
    let tick = shard.service.tick().unwrap();
    assert_eq!(tick.bucket(), Bucket::new(5));
    assert_eq!(shard.events(tick.clone()).len(), DUE_POSTS_MAX);
    assert_eq!(shard.service.next_wake(), Some(at), "the rest at once");
    assert_eq!(shard.events(tick.clone()).len(), 3);
    assert_eq!(shard.service.next_wake(), None);
    assert!(shard.service.tick().is_none());
    assert_eq!(shard.events(tick).len(), 0);
    let summary = shard.get(posts[0], None, None).unwrap().0.summary;
    assert_eq!((summary.published_at, summary.publish_at), (Some(at), None), "as it was meant");
    assert_eq!(shard.page(&[], None, 0, 1).1, posts.len() as u64);
}

#[test]
fn the_schedule_follows_changes_of_mind() {
    let mut shard = Shard::new();
    let first = shard.post(create(ANN, Visibility::Scheduled, &[]));
    let at = |ms| Some(START.plus_ms(ms));
    let schedule = |post, at| {
        let (editor, visibility, link_token) = (reader(ANN), Visibility::Scheduled, TOKEN);
        Command::PublishPost { post, editor, visibility, at, link_token }
    };
    let second = shard.post(create(ANN, Visibility::Draft, &[]));
    shard.apply(schedule(second, at(1_000)));
    assert_eq!(shard.service.next_wake(), at(1_000));
    shard.apply(schedule(second, at(9_000_000)));
    assert_eq!(shard.service.next_wake(), at(3_600_000));
    shard.apply(delete(first, ANN));
    assert_eq!(shard.service.next_wake(), at(9_000_000));
    shard.lose(Command::UnpublishPost { post: second, editor: reader(ANN) });
    assert_eq!(shard.service.next_wake(), at(9_000_000), "what is lost is not noticed");
    shard.apply(Command::UnpublishPost { post: second, editor: reader(ANN) });
    assert_eq!(shard.service.next_wake(), None);
}

#[test]
fn tags_are_shown_as_their_first_public_post_wrote_them() {
    let mut shard = Shard::new();
    shard.post(create(ANN, Visibility::Draft, &["SECRET", "STRASSE"]));
    let first = shard.post(create(ANN, Visibility::Public, &["Ärger", "b"]));
    let (_, version) = shard.tags();
    shard.apply(favorite(first, BOB, true));
    shard.apply(comment(first, BOB));
    assert_eq!(shard.tags(), (vec![("b".into(), 1), ("Ärger".into(), 1)], version), "unrelated");
    shard.post(create(BOB, Visibility::Public, &["ÄRGER"]));
    let (tags, later) = shard.tags();
    assert_eq!(tags, [("Ärger".into(), 2), ("b".into(), 1)]);
    assert!(later > version);
    shard.reload();
    assert_eq!(shard.tags(), (tags, later), "the version outlives a restart");
    shard.apply(retag(first, ANN, &["ärger", "B"]));
    assert_eq!(shard.tags().0, [("Ärger".into(), 2), ("b".into(), 1)], "the first spelling stays");
    assert_eq!(shard.list(&[Filter::Tag("äRGER".into())], None).len(), 2);
}

#[test]
fn the_most_used_tags_come_first_whatever_their_number() {
    let mut shard = Shard::new();
    for count in 0..70_u32 {
        let tags: Vec<_> = (0..6).filter(|tag| count % (tag + 1) == 0).collect();
        let tags: Vec<_> = tags.iter().map(|tag| format!("t{tag}")).collect();
        let tags: Vec<_> = tags.iter().map(String::as_str).collect();
        shard.post(create(ANN, Visibility::Public, &tags));
    }
    let expected = [("t0", 70), ("t1", 35), ("t2", 24), ("t3", 18), ("t4", 14), ("t5", 12)];
    let expected = expected.map(|(tag, posts)| (tag.to_owned(), posts));
    assert_eq!(shard.tags().0, expected);
    for limit in [0, 1, 2, 5] {
        match shard.query(Query::ListTags { limit }) {
            Ok(Answer::Tags { tags, .. }) => assert_eq!(tags[..], expected[..limit]),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_reader_is_made_from_a_viewer() {
    let mut bob = viewer(BOB);
    bob.follows = vec![ANN];
    bob.blocked_by = vec![CID];
    let reader = Reader::new(&bob, ANN, Some(TOKEN));
    assert!(reader.follows_author && !reader.blocked_by_author);
    let reader = Reader::new(&bob, CID, None);
    assert!(!reader.follows_author && reader.blocked_by_author);
    assert_eq!((reader.id, reader.link_token), (BOB, None::<[u8; 16]>));
}
