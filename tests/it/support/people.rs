//! Users of the RealWorld API, and what they write.

use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};

use super::client::HttpClient;
use super::node::TestNode;

/// The password of every registered user of the tests.
pub const PASSWORD: &str = "correct horse";

/// A user who is signed in, and the user's client.
pub struct User {
    pub name: String,
    client: HttpClient,
}

impl Deref for User {
    type Target = HttpClient;

    fn deref(&self) -> &HttpClient {
        &self.client
    }
}

impl DerefMut for User {
    fn deref_mut(&mut self) -> &mut HttpClient {
        &mut self.client
    }
}

/// Registers a user whose address is `<name>@example.org`.
pub async fn register(node: &TestNode, name: &str) -> User {
    let mut client = node.client();
    let body = registration(name);
    let answer = client.post("/api/users", &body).await.expect(201).json();
    client.set_token(answer["user"]["token"].as_str().expect("a token is text"));
    User { name: name.to_owned(), client }
}

/// The body that registers a user.
pub fn registration(name: &str) -> Value {
    json!({"user": {
        "username": name, "email": format!("{name}@example.org"), "password": PASSWORD,
    }})
}

/// The body that creates an article.
pub fn article(title: &str, tags: &[&str]) -> Value {
    json!({"article": {
        "title": title, "description": format!("about {title}"), "body": format!("# {title}"),
        "tagList": tags,
    }})
}

/// The profile of someone who has set nothing.
pub fn profile(name: &str, following: bool) -> Value {
    json!({"username": name, "bio": null, "image": null, "following": following})
}

impl User {
    /// The user behind a client that is signed in.
    pub fn of(name: &str, client: HttpClient) -> Self {
        Self { name: name.to_owned(), client }
    }

    /// Creates an article and returns it as it was answered.
    pub async fn create(&mut self, title: &str, tags: &[&str]) -> Value {
        let created = self.post("/api/articles", &article(title, tags)).await.expect(201);
        created.json()["article"].clone()
    }

    /// Creates an article and returns its slug.
    pub async fn create_slug(&mut self, title: &str, tags: &[&str]) -> String {
        slug(&self.create(title, tags).await)
    }

    /// Comments, and returns the comment as it was answered.
    pub async fn comment(&mut self, slug: &str, text: &str) -> Value {
        let path = format!("/api/articles/{slug}/comments");
        let created = self.post(&path, &json!({"comment": {"body": text}})).await.expect(201);
        created.json()["comment"].clone()
    }
}

/// The slug of an article.
pub fn slug(article: &Value) -> String {
    article["slug"].as_str().expect("a slug is text").to_owned()
}

/// The titles of a page, and the total it names.
#[track_caller]
pub fn page(answer: &Value) -> (Vec<&str>, u64) {
    let articles = answer["articles"].as_array().expect("a page has a list of articles");
    let titles = articles.iter().map(|article| article["title"].as_str().expect("it is text"));
    (titles.collect(), answer["articlesCount"].as_u64().expect("a page has a total"))
}

/// Percent-encodes everything that is not plainly allowed in a path or query.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
