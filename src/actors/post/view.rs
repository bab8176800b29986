//! Posts and comments as queries answer them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::actors::escape;
use crate::actors::post::message::{ImportKey, Visibility};
use crate::actors::rendered::{Rendered, escaped_bytes};
use crate::actors::signature::Signature;
use crate::ids::{PostId, Stamp, UserId};

/// The body of a post as a JSON string, shared with the cache: so most readers are sent it, and it is what is
/// longest in an answer. Who needs the text makes it again. It is the one thing that a service holds in the form in
/// which the edge sends it: both would halve how many bodies fit into memory.
#[derive(Debug, Clone)]
pub struct Body(Bytes);

impl Body {
    /// The body with this text.
    pub fn of_text(text: &str) -> Self {
        Self(escape::string_after(&[], text))
    }

    /// The body whose JSON this is, if it has quotes around it: a row that is damaged within them is sent as it
    /// is, and has no text.
    pub(super) fn of_json(json: Bytes) -> Option<Self> {
        let is_quoted = json.len() >= 2 && json.starts_with(b"\"") && json.ends_with(b"\"");
        is_quoted.then_some(Self(json))
    }

    /// As JSON, quotes included.
    pub fn json(&self) -> &Bytes {
        &self.0
    }

    /// What it takes in memory, its place in a cache included.
    pub(crate) fn bytes(&self) -> usize {
        100 + self.0.len()
    }

    /// The text; none if its row is damaged.
    pub fn text(&self) -> Option<String> {
        serde_json::from_slice(&self.0).ok()
    }
}

/// A post without its body, decoded once and shared.
#[derive(Debug)]
pub struct Summary {
    /// Which.
    pub id: PostId,
    /// Who wrote it.
    pub author: UserId,
    /// Title.
    pub title: String,
    /// Description.
    pub description: String,
    /// In the order sent.
    pub tags: Vec<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// When it was made.
    pub created_at: Stamp,
    /// Last change of what a reader sees of the text; later than any earlier value by at least a
    /// millisecond, because the edge shows milliseconds.
    pub updated_at: Stamp,
    /// First publication, if any.
    pub published_at: Option<Stamp>,
    /// Time of publication of a scheduled post.
    pub publish_at: Option<Stamp>,
    /// Secret part of the link of an unlisted post.
    pub link_token: [u8; 16],
    /// Moves with every change of the text or visibility; the entity tag.
    pub version: u64,
    /// The summary as the edge renders it: slug and text; tags; times.
    pub rendered: OnceLock<Rendered<3>>,
}

impl Summary {
    /// What it takes in memory, rendered, its place in a cache included.
    pub(crate) fn bytes(&self) -> usize {
        let kept = |text: &str| text.len() + escaped_bytes(text.as_bytes());
        let tags: usize = self.tags.iter().map(|tag| 24 + kept(tag)).sum();
        // The title stands in the slug, too.
        600 + 2 * kept(&self.title) + kept(&self.description) + tags
    }
}

/// A post as one viewer sees it.
#[derive(Debug, Clone)]
pub struct PostView {
    /// What all see alike.
    pub summary: Arc<Summary>,
    /// How many favor it.
    pub favorites: u64,
    /// Whether the viewer does.
    pub favorited: bool,
}

/// What in a shard one reader sees otherwise than strangers do.
#[derive(Debug, Clone)]
pub struct Personal {
    /// What he favors, ascending by id; none if that is too much to be told.
    pub favored: Option<Arc<[PostId]>>,
    /// Whether he has posts that lists show to nobody else.
    pub has_hidden: bool,
}

impl Personal {
    /// Whether he favors a post of this shard, as far as he can be told.
    pub fn favors(&self, post: PostId) -> bool {
        self.favored.as_ref().is_some_and(|favored| favored.binary_search(&post).is_ok())
    }

    /// What it takes in memory, its place in a cache included.
    pub(crate) fn bytes(&self) -> usize {
        150 + self.favored.as_ref().map_or(0, |favored| size_of_val(&favored[..]))
    }
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Within the post, from 1.
    pub number: u32,
    /// Who.
    pub author: UserId,
    /// Text.
    pub body: String,
    /// When.
    pub created_at: Stamp,
    /// Last change.
    pub updated_at: Stamp,
}

/// What a copy keeps of a post: what [`Event::PostChanged`](crate::actors::post::Event) says, and who
/// did something with it.
#[derive(Debug)]
pub struct CopiedPost {
    /// Which.
    pub post: PostId,
    /// Whose.
    pub author: UserId,
    /// Its version.
    pub version: u64,
    /// Who may see it.
    pub visibility: Visibility,
    /// First publication, if any.
    pub published_at: Option<Stamp>,
    /// Its tags.
    pub tags: Vec<String>,
    /// What its text is about, if it is public.
    pub signature: Signature,
    /// Who favors it, and since when.
    pub favorites: Vec<(UserId, Stamp)>,
    /// Who commented on it, and when.
    pub comments: Vec<(UserId, Stamp)>,
}

/// A post with everything on it, for export.
#[derive(Debug)]
pub struct ExportedPost {
    /// The post.
    pub summary: Arc<Summary>,
    /// Its identity, if it was imported.
    pub import: Option<ImportKey>,
    /// The text of its body.
    pub body: String,
    /// Who favors it.
    pub favorites: Vec<UserId>,
    /// Its comments.
    pub comments: Vec<Comment>,
}

/// Where a post came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was imported under this identity.
    Imported(ImportKey),
    /// It was written here.
    Own,
    /// It was here, and is gone for ever.
    Deleted,
    /// There never was such a post here.
    Unknown,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_body_is_json_and_gives_its_text_back(text in "\\PC{0,200}|[\"\\\\\n\u{1}]{0,200}") {
            let body = Body::of_text(&text);
            prop_assert_eq!(body.json(), &serde_json::to_string(&text).unwrap());
            prop_assert_eq!(body.text(), Some(text));
        }
    }
}
