//! What the answers of this service stand on: who keeps one looks whether these slots have moved
//! ([`crate::actors::answers`]).

use crate::actors::answers::{Changed, Slot};
use crate::actors::post::cache::{PostChange, Stash};
use crate::actors::post::lists::{ListId, Scope, Shelf};
use crate::actors::post::message::Filter;
use crate::ids::{PostId, UserId};

/// What answers are about. A list and what a reader has of his own are of all shards: each has its part.
#[derive(Hash)]
enum Subject<'a> {
    Post(PostId),
    Public(&'a Shelf),
    Personal(UserId),
    Tags,
}

/// A post of [`Query::GetPost`](super::message::Query::GetPost) and
/// [`Query::GetPosts`](super::message::Query::GetPosts), the number of its favorites, and so whose they are.
pub fn of_post(post: PostId) -> Slot {
    Slot::of(&Subject::Post(post))
}

/// The keys that [`Query::ListKeys`](super::message::Query::ListKeys) answers to strangers.
pub fn of_list(filter: &Filter) -> Slot {
    Slot::of(&Subject::Public(&Shelf::from(filter)))
}

/// The same of [`Query::FeedKeys`](super::message::Query::FeedKeys), of each author that the viewer follows.
pub fn of_feed(author: UserId) -> Slot {
    Slot::of(&Subject::Public(&Shelf::Feed(author)))
}

/// The answer to [`Query::GetPersonal`](super::message::Query::GetPersonal).
pub fn of_personal(user: UserId) -> Slot {
    Slot::of(&Subject::Personal(user))
}

/// The answer to [`Query::ListTags`](super::message::Query::ListTags).
pub fn of_tags() -> Slot {
    Slot::of(&Subject::Tags)
}

/// What a command changes of all these.
pub(super) fn changed(stash: &Stash) -> Changed {
    let posts = stash.posts.iter().map(|change| match change {
        PostChange::Created(summary, _) | PostChange::Changed(summary, _) => summary.id,
        PostChange::Deleted(post) => *post,
    });
    let counted = stash.favorites.iter().map(|(post, _)| *post);
    let lists = stash.rows.iter().map(|(ListId { shelf, scope }, ..)| match scope {
        Scope::Public | Scope::PublicOf(_) => Slot::of(&Subject::Public(shelf)),
        Scope::Own(author) => of_personal(*author),
    });
    let feeds = stash.rows.iter().filter_map(|(list, ..)| list.feed());
    let feeds = feeds.map(|feed| Slot::of(&Subject::Public(&feed.shelf)));
    let readers = stash.favored.iter().map(|(user, ..)| of_personal(*user));
    let tags = stash.tags_version.map(|_| of_tags());
    Changed::Slots(
        posts
            .chain(counted)
            .map(of_post)
            .chain(lists)
            .chain(feeds)
            .chain(readers)
            .chain(tags)
            .collect(),
    )
}
