//! What a reader wishes: tags that are followed or muted, feedback on posts.

use crate::actors::state_machine::{Outcome, ReadTables, Table, Tables, refuse};
use crate::actors::user::apply::{Applied, row};
use crate::actors::user::event::Event;
use crate::actors::user::message::{Error, Feedback, Reply, Said, Tag};
use crate::actors::user::tables::{
    FEEDBACK, FeedbackRow, TagRow, feedback_key, feedback_post, tag_key, tag_of_key, user_key,
};
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::{decode, encode};
use crate::store::error::StoreError;

/// Most tags that one reader can follow, and most that one can mute: they are sent as a whole.
pub const TAGS_MAX: u32 = 500;
/// Most posts about which a reader's feedback is kept; the oldest is forgotten first. They are sent
/// as a whole.
pub const FEEDBACK_MAX: u32 = 1_000;

pub(super) fn set_tag(
    tables: &mut Tables<'_>,
    table: Table,
    user: UserId,
    tag: Tag,
    on: bool,
    event: Event,
) -> Applied {
    if row(&tables.view(), user)?.is_none() {
        return refuse(Error::NotFound);
    }
    let key = tag_key(user, &tag.normal);
    if tables.get(table, &key)?.is_some() == on {
        return Ok(Outcome::reply(Reply::Done));
    }
    if on {
        // The walk is bounded by what it enforces, and tags are set far less often than read.
        let known = tables.view().prefix(table, &user_key(user), &user_key(user))?;
        if known.take(TAGS_MAX as usize).count() >= TAGS_MAX as usize {
            return refuse(Error::TooManyTags(TAGS_MAX));
        }
        tables.put(table, key, encode(&TagRow { shown: tag.shown }));
    } else {
        tables.delete(table, key);
    }
    Ok(Outcome { reply: Reply::Done, events: vec![event] })
}

pub(super) fn give_feedback(
    tables: &mut Tables<'_>,
    stamp: Stamp,
    user: UserId,
    post: PostId,
    what: Feedback,
) -> Applied {
    if row(&tables.view(), user)?.is_none() {
        return refuse(Error::NotFound);
    }
    let key = feedback_key(user, post);
    let before = match tables.get(FEEDBACK, &key)? {
        Some(bytes) => Some(decode::<FeedbackRow>(&bytes)?),
        None => None,
    };
    if before.as_ref().is_some_and(|before| before.what == what) {
        return Ok(Outcome::reply(Reply::Done));
    }
    let mut events = Vec::new();
    if before.is_none() {
        let said = said(&tables.view(), user)?;
        let excess = (said.len() + 1).saturating_sub(FEEDBACK_MAX as usize);
        for oldest in said.into_iter().take(excess) {
            tables.delete(FEEDBACK, feedback_key(user, oldest.post));
            events.push(Event::FeedbackWithdrawn { user, post: oldest.post });
        }
    }
    tables.put(FEEDBACK, key, encode(&FeedbackRow { what, at: stamp }));
    events.push(Event::FeedbackGiven { user, post, what });
    Ok(Outcome { reply: Reply::Done, events })
}

pub(super) fn withdraw_feedback(tables: &mut Tables<'_>, user: UserId, post: PostId) -> Applied {
    let key = feedback_key(user, post);
    if tables.get(FEEDBACK, &key)?.is_none() {
        return Ok(Outcome::reply(Reply::Done));
    }
    tables.delete(FEEDBACK, key);
    Ok(Outcome { reply: Reply::Done, events: vec![Event::FeedbackWithdrawn { user, post }] })
}

/// The tags of a table that a reader has there, by their lower-case form.
pub(super) fn tags(
    tables: &ReadTables<'_>,
    table: Table,
    user: UserId,
) -> Result<Vec<Tag>, StoreError> {
    let mut tags = Vec::new();
    for row in tables.prefix(table, &user_key(user), &user_key(user))? {
        let (key, value) = row?;
        let Some(normal) = tag_of_key(&key) else { continue };
        let TagRow { shown } = decode(&value)?;
        tags.push(Tag { shown, normal: normal.to_owned() });
    }
    Ok(tags)
}

/// All that a reader said about posts, oldest first.
pub(super) fn said(tables: &ReadTables<'_>, user: UserId) -> Result<Vec<Said>, StoreError> {
    let mut said = Vec::new();
    for row in tables.prefix(FEEDBACK, &user_key(user), &user_key(user))? {
        let (key, value) = row?;
        let Some(post) = feedback_post(&key) else { continue };
        let FeedbackRow { what, at } = decode(&value)?;
        said.push(Said { post, what, at });
    }
    said.sort_unstable_by_key(|said| (said.at, said.post));
    Ok(said)
}

/// The posts that a reader wants to see never again, ascending by id.
pub(super) fn hidden_posts(
    tables: &ReadTables<'_>,
    user: UserId,
) -> Result<Vec<PostId>, StoreError> {
    let mut said = said(tables, user)?;
    said.retain(|said| said.what == Feedback::Hide);
    let mut posts: Vec<PostId> = said.into_iter().map(|said| said.post).collect();
    posts.sort_unstable();
    Ok(posts)
}
