//! Who sees what where: every kind of reader, every visibility, every surface.

use std::sync::Arc;

use super::support::*;
use crate::actors::post::message::{Command, Error, Filter, Reader, Visibility};
use crate::actors::user::message::Viewer;
use crate::ids::{PostId, UserId};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Nobody,
    Stranger,
    Author,
    Follower,
    Muting,
    Blocked,
}

/// Per visibility: who sees the post [at its address, with its token, in lists, in the feed].
const TABLE: &[(Visibility, Who, [bool; 4])] = {
    use Visibility::{Draft, Followers, Public, Scheduled, Unlisted};
    use Who::{Author, Blocked, Follower, Muting, Nobody, Stranger};
    const YES: bool = true;
    const NO: bool = false;
    &[
        (Public, Nobody, [YES, YES, YES, NO]),
        (Public, Stranger, [YES, YES, YES, NO]),
        (Public, Author, [YES, YES, YES, NO]),
        (Public, Follower, [YES, YES, YES, YES]),
        (Public, Muting, [YES, YES, YES, NO]),
        (Public, Blocked, [NO, NO, NO, NO]),
        (Followers, Nobody, [NO, NO, NO, NO]),
        (Followers, Stranger, [NO, NO, NO, NO]),
        (Followers, Author, [YES, YES, YES, NO]),
        (Followers, Follower, [YES, YES, NO, YES]),
        (Followers, Muting, [YES, YES, NO, NO]),
        (Followers, Blocked, [NO, NO, NO, NO]),
        (Unlisted, Nobody, [NO, YES, NO, NO]),
        (Unlisted, Stranger, [NO, YES, NO, NO]),
        (Unlisted, Author, [YES, YES, YES, NO]),
        (Unlisted, Follower, [NO, YES, NO, NO]),
        (Unlisted, Muting, [NO, YES, NO, NO]),
        (Unlisted, Blocked, [NO, NO, NO, NO]),
        (Scheduled, Nobody, [NO, NO, NO, NO]),
        (Scheduled, Stranger, [NO, NO, NO, NO]),
        (Scheduled, Author, [YES, YES, YES, NO]),
        (Scheduled, Follower, [NO, NO, NO, NO]),
        (Scheduled, Muting, [NO, NO, NO, NO]),
        (Scheduled, Blocked, [NO, NO, NO, NO]),
        (Draft, Nobody, [NO, NO, NO, NO]),
        (Draft, Stranger, [NO, NO, NO, NO]),
        (Draft, Author, [YES, YES, YES, NO]),
        (Draft, Follower, [NO, NO, NO, NO]),
        (Draft, Muting, [NO, NO, NO, NO]),
        (Draft, Blocked, [NO, NO, NO, NO]),
    ]
};

fn viewer_of(who: Who) -> Option<Arc<Viewer>> {
    let edges = |follows: bool, mutes: bool, blocked: bool| {
        let ann = |on: bool| if on { vec![ANN] } else { vec![] };
        let (follows, mutes, blocked_by) = (ann(follows), ann(mutes), ann(blocked));
        Some(Arc::new(Viewer { follows, mutes, blocked_by, ..viewer(BOB) }))
    };
    match who {
        Who::Nobody => None,
        Who::Stranger => edges(false, false, false),
        Who::Author => Some(Arc::new(viewer(ANN))),
        Who::Follower => edges(true, false, false),
        Who::Muting => edges(true, true, false),
        Who::Blocked => edges(true, false, true),
    }
}

fn shard_with(visibility: Visibility) -> (Shard, PostId) {
    let mut shard = Shard::new();
    let post = shard.post(create(ANN, Visibility::Public, &["tag"]));
    // Favored while everybody could see it; it stays in that list for whoever still can.
    shard.apply(favorite(post, CID, true));
    if visibility != Visibility::Public {
        shard.apply(publish_as(post, visibility));
    }
    (shard, post)
}

fn publish_as(post: PostId, visibility: Visibility) -> Command {
    match visibility {
        Visibility::Draft => Command::UnpublishPost { post, editor: reader(ANN) },
        _ => publish(post, ANN, visibility),
    }
}

#[test]
fn reads_obey_the_table() {
    for (visibility, who, [direct, linked, listed, fed]) in TABLE {
        let (mut shard, post) = shard_with(*visibility);
        let viewer = viewer_of(*who);
        let viewer = viewer.as_ref();
        let case = format!("{visibility:?} {who:?}");
        assert_eq!(shard.get(post, viewer, None).is_ok(), *direct, "{case}");
        assert_eq!(shard.get(post, viewer, Some([8; 16])).is_ok(), *direct, "{case}");
        assert_eq!(shard.get(post, viewer, Some(TOKEN)).is_ok(), *linked, "{case}");
        for filters in [
            vec![],
            vec![Filter::Tag("TAG".into())],
            vec![Filter::Author(ANN)],
            vec![Filter::FavoritedBy(CID)],
            vec![Filter::Author(ANN), Filter::Tag("tag".into())],
            vec![Filter::FavoritedBy(CID), Filter::Tag("tag".into())],
        ] {
            let found = shard.list(&filters, viewer);
            assert_eq!(found, if *listed { vec![post] } else { vec![] }, "{case} {filters:?}");
        }
        if let Some(viewer) = viewer {
            assert_eq!(shard.feed(viewer, 0, 10).1, u64::from(*fed), "{case}");
        }
        let tags = if *visibility == Visibility::Public { 1 } else { 0 };
        assert_eq!(shard.tags().0.len(), tags, "{case}");
    }
}

#[test]
fn writes_obey_the_table() {
    for (visibility, who, [direct, linked, ..]) in TABLE {
        let Some(viewer) = viewer_of(*who).filter(|_| *who != Who::Author) else { continue };
        for (link_token, sees) in [(None, *direct), (Some(TOKEN), *linked)] {
            let (mut shard, post) = shard_with(*visibility);
            let reader = Reader::new(&viewer, ANN, link_token);
            let number = match shard.apply(comment(post, ANN)) {
                crate::actors::post::message::Reply::Comment { number, .. } => number,
                other => panic!("{other:?}"),
            };
            let case = format!("{visibility:?} {who:?} {link_token:?}");
            let seen = |error: Error| if sees { error } else { Error::NotFound };
            let writes = [
                (Command::Favor { post, reader, on: true }, None),
                (reader_comments(post, reader), None),
                (reader_edits(post, reader), Some(Error::Forbidden)),
                (reader_publishes(post, reader), Some(Error::Forbidden)),
                (Command::UnpublishPost { post, editor: reader }, Some(Error::Forbidden)),
                (
                    Command::DeletePost { post, editor: reader, if_version: None },
                    Some(Error::Forbidden),
                ),
                (Command::DeleteComment { post, number, reader }, Some(Error::CommentForbidden)),
            ];
            for (command, refusal) in writes {
                let result = shard.try_apply(command.clone());
                match refusal {
                    None if sees => assert!(result.is_ok(), "{case} {command:?}"),
                    None => assert_eq!(result.unwrap_err(), Error::NotFound, "{case} {command:?}"),
                    Some(error) => assert_eq!(result.unwrap_err(), seen(error), "{case}"),
                }
            }
        }
    }
}

fn reader_comments(post: PostId, reader: Reader) -> Command {
    Command::AddComment { post, reader, body: "Me too".into(), created_at: None, import: None }
}

fn reader_edits(post: PostId, editor: Reader) -> Command {
    let mut command = edit(post, UserId(0));
    if let Command::EditPost { editor: asking, .. } = &mut command {
        *asking = editor;
    }
    command
}

fn reader_publishes(post: PostId, editor: Reader) -> Command {
    let visibility = Visibility::Public;
    Command::PublishPost { post, editor, visibility, at: None, link_token: TOKEN }
}
