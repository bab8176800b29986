//! Posts and their authors as lists show them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::post::message::{PostView, Summary, Visibility};
use crate::actors::user::message::{Card, Viewer};
use crate::http::conduit::render;
use crate::http::people::Cards;
use crate::http::v1::values::{Audience, Id, LinkToken, Time};
use crate::ids::UserId;

/// An author, beside what he wrote.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuthorCard<'a> {
    /// Who.
    id: Id,
    /// Shown name; `deleted` for who is no more.
    username: &'a str,
    /// Address of a picture.
    #[schema(required)]
    image: Option<&'a str>,
    /// Whether the viewer follows.
    following: bool,
    /// Name and picture as they are rendered.
    #[serde(skip)]
    face: &'a str,
}

impl<'a> AuthorCard<'a> {
    /// The card of a user, as this viewer sees it.
    pub fn new(user: UserId, card: Option<&'a Card>, viewer: Option<&Viewer>) -> Self {
        Self {
            id: user.into(),
            username: card.map_or("deleted", |card| &card.username),
            image: card.and_then(|card| card.image.as_deref()),
            following: viewer.is_some_and(|viewer| viewer.follows(user)),
            face: render::face_of(card),
        }
    }
}

/// A post without its body.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostCard<'a> {
    /// Which.
    id: Id,
    /// Readable part of its address; changes with the title, while older ones keep working.
    slug: &'a str,
    /// Title.
    title: &'a str,
    /// Description.
    description: &'a str,
    /// In the order sent.
    tags: &'a [String],
    /// Who may see it.
    visibility: Audience,
    /// When it was made.
    created_at: Time,
    /// Last change of the text.
    updated_at: Time,
    /// First publication, if any.
    #[schema(required)]
    published_at: Option<Time>,
    /// When a scheduled post will be published.
    #[schema(required)]
    publish_at: Option<Time>,
    /// For the author of an unlisted post: `?link=` with this shows it to anybody.
    #[schema(required)]
    link_token: Option<LinkToken>,
    /// How many favor it.
    favorites: u64,
    /// Whether the viewer does.
    favorited: bool,
    /// Who wrote it.
    author: AuthorCard<'a>,
    /// Slug, title and description as they are rendered.
    #[serde(skip)]
    rendered_text: &'a str,
    /// The same of the tags.
    #[serde(skip)]
    rendered_tags: &'a str,
}

impl<'a> PostCard<'a> {
    /// The card of a post, as this viewer sees it.
    pub fn new(view: &'a PostView, author: Option<&'a Card>, viewer: Option<&Viewer>) -> Self {
        let summary: &Summary = &view.summary;
        let own = viewer.is_some_and(|viewer| viewer.id == summary.author);
        let shows_link = own && summary.visibility == Visibility::Unlisted;
        Self {
            id: summary.id.into(),
            slug: render::slug_of(summary),
            title: &summary.title,
            description: &summary.description,
            tags: &summary.tags,
            visibility: summary.visibility.into(),
            created_at: Time(summary.created_at),
            updated_at: Time(summary.updated_at),
            published_at: summary.published_at.map(Time),
            publish_at: summary.publish_at.map(Time),
            link_token: shows_link.then_some(LinkToken(summary.link_token)),
            favorites: view.favorites,
            favorited: view.favorited,
            author: AuthorCard::new(summary.author, author, viewer),
            rendered_text: render::text_of(summary),
            rendered_tags: render::tags_of(summary),
        }
    }

    /// Appends the card as JSON: what serde writes, in a fraction of the time, for lists that are asked for
    /// most. What is rendered is copied: it lies in one place, where each text of a post has its own.
    pub fn put(&self, out: &mut Vec<u8>) {
        put(out, r#"{"id":"#);
        put_value(out, &self.id);
        put(out, ",");
        put(out, self.rendered_text);
        put(out, r#","tags":"#);
        put(out, self.rendered_tags);
        put(out, r#","visibility":"#);
        put_value(out, &self.visibility);
        self.put_times(out);
        put(out, r#","link_token":"#);
        put_value(out, &self.link_token);
        put(out, r#","favorites":"#);
        put_value(out, &self.favorites);
        put(out, r#","favorited":"#);
        put_value(out, &self.favorited);
        put(out, r#","author":{"id":"#);
        let AuthorCard { id, face, following, .. } = &self.author;
        put_value(out, id);
        put(out, ",");
        put(out, face);
        put(out, r#","following":"#);
        put_value(out, following);
        put(out, "}}");
    }

    /// Most posts were published when they were made and not changed since: then one time is written
    /// once and copied.
    fn put_times(&self, out: &mut Vec<u8>) {
        let Self { created_at, updated_at, published_at, publish_at, .. } = self;
        put(out, r#","created_at":"#);
        let begin = out.len();
        put_value(out, created_at);
        let created = begin..out.len();
        put(out, r#","updated_at":"#);
        match updated_at == created_at {
            true => out.extend_from_within(created.clone()),
            false => put_value(out, updated_at),
        }
        put(out, r#","published_at":"#);
        match published_at.is_some_and(|at| at == *created_at) {
            true => out.extend_from_within(created),
            false => put_value(out, published_at),
        }
        put(out, r#","publish_at":"#);
        put_value(out, publish_at);
    }

    /// The cards of several posts; `authors` holds all their authors.
    pub fn of_all(posts: &'a [PostView], authors: &'a Cards, viewer: Option<&Viewer>) -> Vec<Self> {
        let card = |view: &'a PostView| Self::new(view, authors.get(view.summary.author), viewer);
        posts.iter().map(card).collect()
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends a value as JSON.
pub fn put_value(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("a Vec accepts every write");
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, OnceLock};

    use proptest::prelude::*;

    use super::*;
    use crate::ids::{PostId, Stamp};

    pub(crate) fn summary(title: &str) -> Summary {
        Summary {
            id: PostId(7),
            author: UserId(8),
            title: title.to_owned(),
            description: title.chars().rev().collect(),
            tags: Vec::new(),
            visibility: Visibility::Public,
            created_at: Stamp(1),
            updated_at: Stamp(1),
            published_at: None,
            publish_at: None,
            link_token: [9; 16],
            version: 1,
            rendered: OnceLock::new(),
        }
    }

    proptest! {
        #[test]
        fn a_card_is_written_as_serde_writes_it(
            texts in ".{0,40}", tags in proptest::collection::vec("\\PC{0,9}|\"|\\\\", 0..4),
            times in any::<[u32; 4]>(), visibility in 0..5_usize, options in any::<[bool; 6]>(),
        ) {
            let [created_at, updated_at, published_at, publish_at] =
                times.map(|time| Stamp(u64::from(time % 3)));
            let visibility = [
                Visibility::Public,
                Visibility::Followers,
                Visibility::Unlisted,
                Visibility::Scheduled,
                Visibility::Draft,
            ][visibility];
            let [published, planned, own, favorited, known, pictured] = options;
            let summary = Summary {
                tags,
                visibility,
                created_at,
                updated_at,
                published_at: published.then_some(published_at),
                publish_at: planned.then_some(publish_at),
                ..summary(&texts)
            };
            let view = PostView { summary: Arc::new(summary), favorites: 9, favorited };
            let image = pictured.then(|| texts.clone());
            let card = Card { username: texts, image, ..Card::default() };
            let viewer = Viewer {
                id: UserId(if own { 8 } else { 9 }),
                token_generation: 0,
                follows: if known { vec![UserId(8)] } else { Vec::new() },
                mutes: Vec::new(),
                blocked_by: Vec::new(),
            };
            let card = PostCard::new(&view, known.then_some(&card), Some(&viewer));
            let mut out = Vec::new();
            card.put(&mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&card).unwrap());
        }
    }
}
