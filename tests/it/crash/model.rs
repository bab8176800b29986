//! What the server must have: known where it was acknowledged, one of several where it was not.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde_json::json;

use crate::support::people::{article, registration, slug};
use crate::support::{TestNode, register};

/// A value that a client wrote: exactly one is possible once the last write was answered.
#[derive(Debug, Clone)]
pub struct Known<T> {
    possible: Vec<T>,
}

impl<T: Clone + PartialEq + Debug> Known<T> {
    pub fn new(value: T) -> Self {
        Self { possible: vec![value] }
    }

    /// A write was sent: until it is answered, the new value is possible too.
    pub fn attempt(&mut self, value: T) {
        self.possible.push(value);
    }

    /// The last attempt was acknowledged: nothing else is possible any more.
    pub fn acknowledge(&mut self) {
        let last = self.possible.pop().expect("something is always possible");
        self.possible = vec![last];
    }

    /// The last attempt was refused.
    pub fn refused(&mut self) {
        self.possible.pop();
    }

    /// What the server has is possible, and from now on known.
    #[track_caller]
    pub fn settle(&mut self, found: T, what: &str) {
        assert!(
            self.possible.contains(&found),
            "{what}: found {found:?} instead of one of {:?}",
            self.possible
        );
        self.possible = vec![found];
    }

    pub fn is_settled(&self) -> bool {
        self.possible.len() == 1
    }

    /// The value, when it is known.
    pub fn value(&self) -> &T {
        assert!(self.is_settled(), "{:?}", self.possible);
        &self.possible[0]
    }
}

/// An article of one person, who alone changes it.
#[derive(Debug)]
pub struct Article {
    pub slug: String,
    /// Number of the text, the same in title, description and body; none: deleted.
    pub revision: Known<Option<u32>>,
    /// Whether it was written to since the last check.
    pub touched: bool,
}

/// A client, with everything it has written.
pub struct Person {
    pub number: usize,
    pub token: String,
    pub bio: Known<u32>,
    pub articles: Vec<Article>,
    /// Title of an article whose creation was not answered.
    pub unanswered_article: Option<String>,
    /// Number of what is written next.
    pub next: u32,
    /// Shared articles that this person favors, by their place in the square.
    pub favorites: BTreeMap<usize, Known<bool>>,
    /// Comments by (place, id): the text, and whether it is there.
    pub comments: BTreeMap<(usize, u64), (String, Known<bool>)>,
    /// Place and text of a comment that was not answered.
    pub unanswered_comment: Option<(usize, String)>,
    /// Names that this person registered besides the own, and whether that was answered.
    pub registered: Vec<(String, Known<bool>)>,
}

impl Person {
    pub fn name(number: usize) -> String {
        format!("writer-{number}")
    }

    pub async fn register(node: &TestNode, number: usize) -> Self {
        let user = register(node, &Self::name(number)).await;
        let mut person = Self {
            number,
            token: user.token().to_owned(),
            bio: Known::new(0),
            articles: Vec::new(),
            unanswered_article: None,
            next: 1,
            favorites: BTreeMap::new(),
            comments: BTreeMap::new(),
            unanswered_comment: None,
            registered: Vec::new(),
        };
        let mut client = node.client();
        client.set_token(person.token.as_str());
        let body = json!({"user": {"bio": "0"}});
        client.put("/api/user", &body).await.expect(200);
        person.next = 1;
        person
    }

    /// An article that everybody favors and comments on, and nobody deletes.
    pub async fn publish_shared(&mut self, node: &TestNode) -> String {
        let mut client = node.client();
        client.set_token(self.token.as_str());
        let body = article(&format!("shared {}", self.number), &["shared"]);
        let created = client.post("/api/articles", &body).await.expect(201).json();
        slug(&created["article"])
    }

    /// Title of a text; the description is the same, the body longer.
    pub fn title(&self, revision: u32) -> String {
        format!("{} {revision}", Self::name(self.number))
    }

    pub fn take_next(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }
}

/// The body of an article of this title: long enough to fill checkpoints.
pub fn body_of(title: &str) -> String {
    format!("{title}\n{}", "words and more words\n".repeat(40))
}

/// The body of an article request.
pub fn article_of(title: &str, number: usize) -> serde_json::Value {
    json!({"article": {
        "title": title, "description": title, "body": body_of(title),
        "tagList": [format!("of-{number}"), "own"],
    }})
}

pub fn registration_of(name: &str) -> serde_json::Value {
    registration(name)
}

/// What all clients share: articles that are never deleted.
#[derive(Debug, Default)]
pub struct Square {
    pub slugs: Vec<String>,
}
