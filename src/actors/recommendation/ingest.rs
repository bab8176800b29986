//! What the events of other services are to this one.

use crate::actors::post::event::Event as PostEvent;
use crate::actors::post::message::{Visibility, is_listed};
use crate::actors::recommendation::engine::event::{Event as Fact, Feedback, Interaction};
use crate::actors::recommendation::message::Command;
use crate::actors::recommendation::service::Service;
use crate::actors::relay::{Delivered, Subscribes};
use crate::actors::signature::Signature;
use crate::actors::user::event::Event as UserEvent;
use crate::actors::user::message::Feedback as Wish;
use crate::ids::{PostId, Stamp, UserId};

impl Subscribes<PostEvent> for Service {
    fn ingest(event: Delivered<PostEvent>, commands: &mut Vec<Command>) {
        let Delivered { event, stamp, .. } = event;
        let interacted = |reader, post, how| Fact::Interacted { reader, post, how, at: stamp };
        let fact = match event {
            // What was never published has not been listed either.
            PostEvent::PostChanged { published_at: None, .. } => return,
            PostEvent::PostChanged {
                post,
                author,
                version,
                visibility,
                published_at: Some(published_at),
                tags,
                signature,
            } => fact_of_post(post, author, version, visibility, published_at, &tags, signature),
            PostEvent::PostDeleted { post, author: _, version: _ } => Fact::PostDeleted { post },
            PostEvent::FavoriteChanged { post, user, on: true } => {
                interacted(user, post, Interaction::Favorite)
            }
            // It was read nevertheless.
            PostEvent::FavoriteChanged { on: false, .. } => return,
            PostEvent::CommentAdded { post, user, number: _ } => {
                interacted(user, post, Interaction::Comment)
            }
        };
        commands.push(Command::Observe { fact });
    }
}

/// What a post that was published once is to this service.
pub(super) fn fact_of_post(
    post: PostId,
    author: UserId,
    version: u64,
    visibility: Visibility,
    published_at: Stamp,
    tags: &[String],
    signature: Signature,
) -> Fact {
    Fact::PostChanged {
        post,
        author: Some(author),
        version,
        is_listed: is_listed(visibility),
        published_at,
        tags: lower(tags),
        signature,
    }
}

/// Tags as they are compared, each once.
fn lower(tags: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::with_capacity(tags.len());
    for tag in tags.iter().map(|tag| tag.to_lowercase()) {
        if !all.contains(&tag) {
            all.push(tag);
        }
    }
    all
}

impl Subscribes<UserEvent> for Service {
    fn ingest(event: Delivered<UserEvent>, commands: &mut Vec<Command>) {
        let fact = match event.event {
            UserEvent::UserCreated { user: _ } => return,
            UserEvent::FollowChanged { user: reader, target: author, on: is_on } => {
                Fact::AuthorFollowed { reader, author, is_on }
            }
            UserEvent::MuteChanged { user: reader, target: author, on: is_on } => {
                Fact::AuthorMuted { reader, author, is_on }
            }
            UserEvent::BlockChanged { user, target, on: is_on } => {
                Fact::Blocked { user, target, is_on }
            }
            UserEvent::PostRead { user: reader, post, at } => {
                let at = at.min(event.stamp);
                Fact::Interacted { reader, post, how: Interaction::Read, at }
            }
            UserEvent::TagFollowChanged { user: reader, tag, on: is_on } => {
                Fact::TagFollowed { reader, tag, is_on }
            }
            UserEvent::TagMuteChanged { user: reader, tag, on: is_on } => {
                Fact::TagMuted { reader, tag, is_on }
            }
            UserEvent::FeedbackGiven { user: reader, post, what } => {
                let what = match what {
                    Wish::Less => Feedback::Less,
                    Wish::Hide => Feedback::Hide,
                };
                Fact::Feedback { reader, post, what }
            }
            UserEvent::ReadForgotten { user: reader, post } => Fact::ReadForgotten { reader, post },
            UserEvent::FeedbackWithdrawn { user: reader, post } => {
                Fact::FeedbackWithdrawn { reader, post }
            }
        };
        commands.push(Command::Observe { fact });
    }
}
