//! One client that writes until the server is gone, and remembers what was acknowledged.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::model::{Article, Known, Person, Square, article_of, registration_of};
use crate::support::people::slug;
use crate::support::{HttpClient, TestNode};

/// What became of a write.
enum Outcome {
    Acknowledged(Value),
    /// Certainly no effect.
    Refused,
    /// Nobody knows: no answer, or one that says so.
    Unknown,
}

pub struct Writer {
    person: Person,
    square: Arc<Square>,
    client: HttpClient,
    random: StdRng,
    /// The server is gone.
    is_over: bool,
}

impl Writer {
    pub fn new(node: &TestNode, person: Person, square: Arc<Square>, random: StdRng) -> Self {
        let mut client = node.client();
        client.set_token(person.token.as_str());
        Self { person, square, client, random, is_over: false }
    }

    pub async fn write_until_the_end(mut self) -> Person {
        while !self.is_over {
            match self.random.random_range(0..100) {
                0..30 => self.create().await,
                30..50 => self.edit().await,
                50..60 => self.delete().await,
                60..78 => self.favor().await,
                78..90 => self.comment().await,
                90..94 => self.delete_comment().await,
                94..97 => self.change_account().await,
                _ => self.register().await,
            }
        }
        self.person
    }

    async fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> Outcome {
        match self.client.send(method, path, body).await {
            Ok(answer) if answer.status == 204 => Outcome::Acknowledged(Value::Null),
            Ok(answer) if (200..300).contains(&answer.status) => {
                Outcome::Acknowledged(answer.json())
            }
            Ok(answer) if answer.status >= 500 => {
                self.is_over = true;
                Outcome::Unknown
            }
            Ok(answer) => panic!("{method} {path}: {} {}", answer.status, answer.text()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                self.is_over = true;
                Outcome::Refused
            }
            Err(_) => {
                self.is_over = true;
                Outcome::Unknown
            }
        }
    }

    async fn create(&mut self) {
        let revision = self.person.take_next();
        let title = self.person.title(revision);
        let body = article_of(&title, self.person.number);
        match self.send("POST", "/api/articles", Some(&body)).await {
            Outcome::Acknowledged(created) => self.person.articles.push(Article {
                slug: slug(&created["article"]),
                revision: Known::new(Some(revision)),
                touched: true,
            }),
            Outcome::Refused => {}
            Outcome::Unknown => self.person.unanswered_article = Some(title),
        }
    }

    /// One of the person's own articles that is there.
    fn own(&mut self) -> Option<usize> {
        let count = self.person.articles.len();
        let at = self.random.random_range(0..count.max(1));
        let article = self.person.articles.get(at)?;
        article.revision.value().map(|_| at)
    }

    async fn edit(&mut self) {
        let Some(at) = self.own() else { return };
        let revision = self.person.take_next();
        let body = article_of(&self.person.title(revision), self.person.number);
        self.write_article(at, "PUT", Some(revision), Some(&body)).await;
    }

    async fn delete(&mut self) {
        let Some(at) = self.own() else { return };
        self.write_article(at, "DELETE", None, None).await;
    }

    async fn write_article(
        &mut self,
        at: usize,
        method: &str,
        revision: Option<u32>,
        body: Option<&Value>,
    ) {
        let article = &mut self.person.articles[at];
        article.touched = true;
        article.revision.attempt(revision);
        let path = format!("/api/articles/{}", article.slug);
        let outcome = self.send(method, &path, body).await;
        settle(&mut self.person.articles[at].revision, &outcome);
    }

    async fn favor(&mut self) {
        let place = self.random.random_range(0..self.square.slugs.len());
        let favored = self.person.favorites.entry(place).or_insert(Known::new(false));
        let on = !*favored.value();
        favored.attempt(on);
        let path = format!("/api/articles/{}/favorite", self.square.slugs[place]);
        let outcome = self.send(if on { "POST" } else { "DELETE" }, &path, None).await;
        if let Some(favored) = self.person.favorites.get_mut(&place) {
            settle(favored, &outcome);
        }
    }

    async fn comment(&mut self) {
        let place = self.random.random_range(0..self.square.slugs.len());
        let number = self.person.take_next();
        let text = self.person.title(number);
        let path = format!("/api/articles/{}/comments", self.square.slugs[place]);
        let body = json!({"comment": {"body": text}});
        match self.send("POST", &path, Some(&body)).await {
            Outcome::Acknowledged(created) => {
                let id = created["comment"]["id"].as_u64().unwrap();
                let before = self.person.comments.insert((place, id), (text, Known::new(true)));
                assert!(before.is_none(), "a comment's number came twice");
            }
            Outcome::Refused => {}
            Outcome::Unknown => self.person.unanswered_comment = Some((place, text)),
        }
    }

    async fn delete_comment(&mut self) {
        let there: Vec<_> =
            self.person.comments.iter().filter(|(_, (_, there))| *there.value()).collect();
        if there.is_empty() {
            return;
        }
        let key = *there[self.random.random_range(0..there.len())].0;
        let (place, id) = key;
        let path = format!("/api/articles/{}/comments/{id}", self.square.slugs[place]);
        if let Some((_, there)) = self.person.comments.get_mut(&key) {
            there.attempt(false);
        }
        let outcome = self.send("DELETE", &path, None).await;
        if let Some((_, there)) = self.person.comments.get_mut(&key) {
            settle(there, &outcome);
        }
    }

    async fn change_account(&mut self) {
        let number = self.person.take_next();
        self.person.bio.attempt(number);
        let body = json!({"user": {"bio": number.to_string()}});
        let outcome = self.send("PUT", "/api/user", Some(&body)).await;
        settle(&mut self.person.bio, &outcome);
    }

    async fn register(&mut self) {
        let number = self.person.take_next();
        let name = format!("{}-{number}", Person::name(self.person.number));
        let mut known = Known::new(false);
        known.attempt(true);
        let outcome = self.send("POST", "/api/users", Some(&registration_of(&name))).await;
        settle(&mut known, &outcome);
        self.person.registered.push((name, known));
    }
}

fn settle<T: Clone + PartialEq + std::fmt::Debug>(known: &mut Known<T>, outcome: &Outcome) {
    match outcome {
        Outcome::Acknowledged(_) => known.acknowledge(),
        Outcome::Refused => known.refused(),
        Outcome::Unknown => {}
    }
}
