//! Posts and their authors as lists show them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::post::message::{PostView, Summary, Visibility};
use crate::actors::user::message::{Card, Viewer};
use crate::http::people::Cards;
use crate::http::slug::slug;
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
}

impl<'a> AuthorCard<'a> {
    /// The card of a user, as this viewer sees it.
    pub fn new(user: UserId, card: Option<&'a Card>, viewer: Option<&Viewer>) -> Self {
        Self {
            id: user.into(),
            username: card.map_or("deleted", |card| &card.username),
            image: card.and_then(|card| card.image.as_deref()),
            following: viewer.is_some_and(|viewer| viewer.follows(user)),
        }
    }
}

/// A post without its body.
#[derive(Debug, Serialize, ToSchema)]
pub struct PostCard<'a> {
    /// Which.
    id: Id,
    /// Readable part of its address; changes with the title, while older ones keep working.
    slug: String,
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
}

impl<'a> PostCard<'a> {
    /// The card of a post, as this viewer sees it.
    pub fn new(view: &'a PostView, author: Option<&'a Card>, viewer: Option<&Viewer>) -> Self {
        let summary: &Summary = &view.summary;
        let own = viewer.is_some_and(|viewer| viewer.id == summary.author);
        let shows_link = own && summary.visibility == Visibility::Unlisted;
        Self {
            id: summary.id.into(),
            slug: slug(&summary.title, summary.id),
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
        }
    }

    /// The cards of several posts; `authors` holds all their authors.
    pub fn of_all(posts: &'a [PostView], authors: &'a Cards, viewer: Option<&Viewer>) -> Vec<Self> {
        let card = |view: &'a PostView| Self::new(view, authors.get(view.summary.author), viewer);
        posts.iter().map(card).collect()
    }
}
