//! JSON of the RealWorld API, written by appending to one buffer; but the body of a post, which is long, is
//! sent from where it is kept.
//!
//! What all readers see alike is rendered once and kept beside the data it was made from; what
//! differs (favorites, follows) is put around it. Nothing is built up as a tree first.

use std::io::Write;

use axum::body::{Body as HttpBody, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;

use crate::actors::escape;
use crate::actors::post::message::{Body, Comment, PostView, Summary};
use crate::actors::rendered::Rendered;
use crate::actors::user::message::{Account, Card, Viewer};
use crate::http::conduit::template::{FALSE, Place, Template};
use crate::http::people::Cards;
use crate::http::pieces::in_pieces;
use crate::http::scratch;
use crate::http::slug::slug;
use crate::ids::{Stamp, UserId};

/// Room for what is put around the kept fragments of one article.
const AROUND_BYTES: usize = 160;
/// How a summary begins.
const SLUG: &str = r#""slug":"#;
/// How its tags begin.
const TAGS: &str = r#","tagList":"#;
/// The card of who is no more.
const DELETED: &str = r#""bio":null,"username":"deleted","image":null"#;
/// The face of the same.
const DELETED_FACE: &str = r#""username":"deleted","image":null"#;

/// An answer of JSON.
pub fn json(body: impl Into<Bytes>) -> Response {
    json_of(HttpBody::from(body.into()))
}

fn json_of(body: HttpBody) -> Response {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn json_with(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = json(body);
    *response.status_mut() = status;
    response
}

/// `user`: one's own account.
pub fn user(status: StatusCode, account: &Account, token: &str) -> Response {
    let mut out = Vec::with_capacity(token.len() + 512);
    put(&mut out, r#"{"user":{"email":"#);
    put_string(&mut out, &account.email);
    put(&mut out, r#","token":"#);
    put_string(&mut out, token);
    put(&mut out, ",");
    put_bio(&mut out, account.bio.as_deref());
    put_face(&mut out, &account.username, account.image.as_deref());
    put(&mut out, "}}");
    json_with(status, out)
}

/// `profile`.
pub fn profile(card: &Card, following: bool) -> Response {
    let mut out = Vec::with_capacity(512);
    put(&mut out, r#"{"profile":"#);
    put_profile(&mut out, Some(card), following);
    put(&mut out, "}");
    json(out)
}

/// `article`, with its body.
pub fn article(
    status: StatusCode,
    view: &PostView,
    body: &Body,
    author: Option<&Card>,
    viewer: Option<&Viewer>,
) -> Response {
    let is_followed = viewer.is_some_and(|viewer| viewer.follows(view.summary.author));
    let head = article_head(view, author).for_reader(|_| view.favorited, |_| is_followed);
    let mut response = article_of(head, body);
    *response.status_mut() = status;
    response
}

/// `article` of its head and body.
pub fn article_of(head: Bytes, body: &Body) -> Response {
    json_of(in_pieces([head, body.json().clone(), Bytes::from_static(b"}}")]))
}

/// `article`, up to its body.
pub fn article_head(view: &PostView, author: Option<&Card>) -> Template {
    let mut out = scratch::buffer(article_size(view, author));
    put(&mut out, r#"{"article":"#);
    let place = put_article(&mut out, view, author);
    put(&mut out, r#","body":"#);
    Template::new(out, vec![place])
}

/// `articles`, without bodies, and how many there are in all.
pub fn articles(posts: &[PostView], total: u64, cards: &Cards) -> Template {
    let sizes = posts.iter().map(|view| article_size(view, cards.get(view.summary.author)));
    let mut out = scratch::buffer(sizes.sum::<usize>() + AROUND_BYTES);
    put(&mut out, r#"{"articles":["#);
    let mut places = Vec::with_capacity(posts.len());
    for (number, view) in posts.iter().enumerate() {
        if number > 0 {
            put(&mut out, ",");
        }
        places.push(put_article(&mut out, view, cards.get(view.summary.author)));
        put(&mut out, "}");
    }
    put(&mut out, r#"],"articlesCount":"#);
    put_number(&mut out, total);
    put(&mut out, "}");
    Template::new(out, places)
}

/// `articles`: none.
pub fn no_articles() -> Response {
    json(Bytes::from_static(br#"{"articles":[],"articlesCount":0}"#))
}

/// `comments`.
pub fn comments(comments: &[Comment], cards: &Cards, viewer: Option<&Viewer>) -> Response {
    let sizes = comments.iter().map(|comment| comment.body.len() + 2 * AROUND_BYTES);
    let mut out = Vec::with_capacity(sizes.sum::<usize>() + AROUND_BYTES);
    put(&mut out, r#"{"comments":["#);
    for (place, comment) in comments.iter().enumerate() {
        if place > 0 {
            put(&mut out, ",");
        }
        put_comment(&mut out, comment, cards.get(comment.author), viewer);
    }
    put(&mut out, "]}");
    json(out)
}

/// `comment`: a new one.
pub fn comment(comment: &Comment, author: Option<&Card>, viewer: &Viewer) -> Response {
    let mut out = Vec::with_capacity(comment.body.len() + 2 * AROUND_BYTES);
    put(&mut out, r#"{"comment":"#);
    put_comment(&mut out, comment, author, Some(viewer));
    put(&mut out, "}");
    json_with(StatusCode::CREATED, out)
}

/// `tags`.
pub fn tags<'a>(tags: impl Iterator<Item = &'a str>) -> Bytes {
    let mut out = Vec::with_capacity(4096);
    put(&mut out, r#"{"tags":["#);
    for (place, tag) in tags.enumerate() {
        if place > 0 {
            put(&mut out, ",");
        }
        put_string(&mut out, tag);
    }
    put(&mut out, "]}");
    out.into()
}

/// An article without its body and without the closing brace, as strangers see it.
fn put_article(out: &mut Vec<u8>, view: &PostView, author: Option<&Card>) -> Place {
    put(out, "{");
    put(out, rendered(&view.summary).all());
    put(out, r#","favorited":"#);
    let favorited = out.len();
    put(out, FALSE);
    put(out, r#","favoritesCount":"#);
    put_number(out, view.favorites);
    put(out, r#","author":{"#);
    put(out, author.map_or(DELETED, card_fragment));
    put(out, r#","following":"#);
    let following = out.len();
    put(out, FALSE);
    put(out, "}");
    Place { post: view.summary.id, author: view.summary.author, favorited, following }
}

fn article_size(view: &PostView, author: Option<&Card>) -> usize {
    let author = author.map_or(DELETED, card_fragment);
    rendered(&view.summary).all().len() + author.len() + AROUND_BYTES
}

fn put_comment(
    out: &mut Vec<u8>,
    comment: &Comment,
    author: Option<&Card>,
    viewer: Option<&Viewer>,
) {
    let follows = |author: UserId| viewer.is_some_and(|viewer| viewer.follows(author));
    put(out, r#"{"id":"#);
    put_number(out, u64::from(comment.number));
    put(out, r#","createdAt":"#);
    put_time(out, comment.created_at);
    put(out, r#","updatedAt":"#);
    put_time(out, comment.updated_at);
    put(out, r#","body":"#);
    put_string(out, &comment.body);
    put(out, r#","author":"#);
    put_profile(out, author, follows(comment.author));
    put(out, "}");
}

fn put_profile(out: &mut Vec<u8>, card: Option<&Card>, following: bool) {
    put(out, "{");
    put(out, card.map_or(DELETED, card_fragment));
    put(out, if following { r#","following":true}"# } else { r#","following":false}"# });
}

/// What all see alike of an article, but for its body.
fn rendered(summary: &Summary) -> &Rendered<3> {
    summary.rendered.get_or_init(|| {
        let (mut text, mut tags, mut times) = (Vec::with_capacity(512), Vec::new(), Vec::new());
        put(&mut text, SLUG);
        put_string(&mut text, &slug(&summary.title, summary.id));
        put(&mut text, r#","title":"#);
        put_string(&mut text, &summary.title);
        put(&mut text, r#","description":"#);
        put_string(&mut text, &summary.description);
        put(&mut tags, TAGS);
        put(&mut tags, "[");
        for (place, tag) in summary.tags.iter().enumerate() {
            if place > 0 {
                put(&mut tags, ",");
            }
            put_string(&mut tags, tag);
        }
        put(&mut tags, "]");
        put(&mut times, r#","createdAt":"#);
        put_time(&mut times, summary.created_at);
        put(&mut times, r#","updatedAt":"#);
        put_time(&mut times, summary.updated_at);
        Rendered::new([as_text(&text), as_text(&tags), as_text(&times)])
    })
}

/// Slug, title and description of a post as members of an object, from the place where they are rendered.
pub fn text_of(summary: &Summary) -> &str {
    rendered(summary).part(0)
}

/// The tags of a post as an array, likewise.
pub fn tags_of(summary: &Summary) -> &str {
    &rendered(summary).part(1)[TAGS.len()..]
}

/// The slug of a post, likewise: making one takes longer than all else of a post in a list.
pub fn slug_of(summary: &Summary) -> &str {
    let slug = &text_of(summary)[SLUG.len() + 1..];
    // No slug has a character that is escaped, so it ends with the first quotation mark.
    slug.split('"').next().unwrap_or(slug)
}

/// Name and picture of a user as members of an object, likewise.
pub fn face_of(card: Option<&Card>) -> &str {
    card.map_or(DELETED_FACE, |card| rendered_card(card).part(1))
}

/// What all see alike of a user.
fn card_fragment(card: &Card) -> &str {
    rendered_card(card).all()
}

fn rendered_card(card: &Card) -> &Rendered<2> {
    card.rendered.get_or_init(|| {
        let (mut told, mut face) = (Vec::with_capacity(128), Vec::with_capacity(128));
        put_bio(&mut told, card.bio.as_deref());
        put_face(&mut face, &card.username, card.image.as_deref());
        Rendered::new([as_text(&told), as_text(&face)])
    })
}

fn as_text(out: &[u8]) -> &str {
    std::str::from_utf8(out).expect("strings were appended to strings")
}

fn put_bio(out: &mut Vec<u8>, bio: Option<&str>) {
    put(out, r#""bio":"#);
    put_optional(out, bio);
    put(out, ",");
}

fn put_face(out: &mut Vec<u8>, username: &str, image: Option<&str>) {
    put(out, r#""username":"#);
    put_string(out, username);
    put(out, r#","image":"#);
    put_optional(out, image);
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    escape::put_string(out, text.as_bytes());
}

fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => put(out, "null"),
    }
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("a Vec accepts every write");
}

/// Milliseconds and `Z`, as a string.
fn put_time(out: &mut Vec<u8>, at: Stamp) {
    let ms = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    write!(out, "\"{time:.3}\"").expect("a Vec accepts every write");
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
