//! The limit of reads: a bare axum handler for each route that returns one recorded answer, always the same.

use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::routing::{get, post};

/// Answers, as a server of Quire gave them.
#[derive(Clone)]
pub struct Answers {
    /// One article.
    pub article: Bytes,
    /// A page of articles.
    pub list: Bytes,
    /// The feed.
    pub feed: Bytes,
    /// All tags.
    pub tags: Bytes,
    /// A page of recommendations.
    pub recommendations: Bytes,
}

impl Answers {
    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(folder: &Path) -> std::io::Result<Self> {
        let read = |name| std::fs::read(folder.join(name)).map(Bytes::from);
        Ok(Self {
            article: read("article")?,
            list: read("list")?,
            feed: read("feed")?,
            tags: read("tags")?,
            recommendations: read("recommendations")?,
        })
    }

    /// Writes the answers for a server process to read.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let Self { article, list, feed, tags, recommendations } = self;
        for (name, bytes) in [
            ("article", article),
            ("list", list),
            ("feed", feed),
            ("tags", tags),
            ("recommendations", recommendations),
        ] {
            std::fs::write(folder.join(name), bytes)?;
        }
        Ok(())
    }
}

/// Headers of an answer.
pub type Headers = [(HeaderName, HeaderValue); 4];

/// The headers that Quire sends with every answer.
pub const HEADERS: Headers = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("x-request-id"), HeaderValue::from_static("0123456789abcdef")),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
];

/// All routes: writes are answered, too, and nothing is done.
pub fn routes(answers: Answers) -> Router {
    let created = answers.article.clone();
    let favored = answers.article.clone();
    let write = move |_read: Bytes| {
        let body = favored.clone();
        async move { (HEADERS, body) }
    };
    let create = move |_read: Bytes| {
        let body = created.clone();
        async move { (StatusCode::CREATED, HEADERS, body) }
    };
    reads(answers)
        .route("/api/articles", post(create))
        .route("/api/articles/{slug}/favorite", post(write.clone()).delete(write))
}

/// The routes that return the answers to reads.
pub fn reads(answers: Answers) -> Router {
    let Answers { article, list, feed, tags, recommendations } = answers;
    let bytes = |body: Bytes| {
        move || {
            let body = body.clone();
            async move { (HEADERS, body) }
        }
    };
    Router::new()
        .route("/api/articles", get(bytes(list)))
        .route("/api/articles/feed", get(bytes(feed)))
        .route("/api/articles/{slug}", get(bytes(article)))
        .route("/api/tags", get(bytes(tags)))
        .route("/v1/recommendations", get(bytes(recommendations)))
}
