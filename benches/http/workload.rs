//! Operations, and the mixes of requests that measure them.

use std::io::{self, Write};
use std::path::Path;

use crate::content;
use crate::load::{Class, Source};
use crate::random::{Random, Zipf};

/// How uneven keys are: the exponent that YCSB uses.
const ZIPF: f64 = 0.99;
/// Writes in a read test, per thousand requests.
const WRITES: usize = 50;
/// Creates among those writes, per thousand requests; the others set and clear favorites.
const CREATES: usize = 10;
/// Different new articles; the id makes each creation another one.
const ARTICLES: usize = 256;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// One article by its slug.
    Article {
        /// With a token.
        signed_in: bool,
    },
    /// 20 articles and the true total: half of everything, half of a tag.
    List {
        /// With a token.
        signed_in: bool,
    },
    /// 20 articles of followed authors, and the true total.
    Feed,
    /// All tags.
    Tags,
    /// 10 recommended posts with the cards of their authors.
    Recommendations,
    /// A new article.
    Create,
    /// A reader favors an article.
    Favorite,
}

impl Operation {
    /// As tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Article { signed_in: false } => "article",
            Self::Article { signed_in: true } => "article, signed in",
            Self::List { signed_in: false } => "list of 20",
            Self::List { signed_in: true } => "list of 20, signed in",
            Self::Feed => "feed",
            Self::Tags => "tags",
            Self::Recommendations => "recommendations",
            Self::Create => "create",
            Self::Favorite => "favorite",
        }
    }
}

/// What requests name.
pub struct Keys {
    slugs: Vec<String>,
    tokens: Vec<String>,
    posts_zipf: Zipf,
    users_zipf: Zipf,
    tags_zipf: Zipf,
}

impl Keys {
    /// Reads what a server with the data wrote: `slugs` and `tokens`, one a line.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let lines = |name: &str| -> io::Result<Vec<String>> {
            let text = std::fs::read_to_string(folder.join(name))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        let (slugs, tokens) = (lines("slugs")?, lines("tokens")?);
        Ok(Self {
            posts_zipf: Zipf::new(slugs.len(), ZIPF, 11),
            users_zipf: Zipf::new(tokens.len(), ZIPF, 12),
            tags_zipf: Zipf::new(content::TAGS, ZIPF, 13),
            slugs,
            tokens,
        })
    }
}

/// Requests of one operation and what is mixed in.
pub struct Mix<'a> {
    keys: &'a Keys,
    operation: Operation,
    /// Writes mixed in, per thousand.
    writes: usize,
    /// Pages at offset 10,000 mixed in, per thousand.
    deep: usize,
    random: Random,
    articles: Vec<String>,
}

impl<'a> Mix<'a> {
    /// The operation with its writes mixed in, as the table measures it.
    pub fn new(keys: &'a Keys, operation: Operation, seed: u64) -> Self {
        let writes = match operation {
            Operation::Create | Operation::Favorite => 0,
            Operation::Article { .. }
            | Operation::List { .. }
            | Operation::Feed
            | Operation::Tags
            | Operation::Recommendations => WRITES,
        };
        let mut random = Random::new(seed);
        let articles = (0..ARTICLES).map(|_| content::article_json(&mut random)).collect();
        Self { keys, operation, writes, deep: 0, random, articles }
    }

    /// The same without writes.
    pub fn only_reads(mut self) -> Self {
        self.writes = 0;
        self
    }

    /// The same with pages at offset 10,000 mixed in, so many of a thousand.
    pub fn with_deep_pages(mut self, per_mille: usize) -> Self {
        self.deep = per_mille;
        self
    }

    /// One request of the operation itself, to look at its answer.
    pub fn one(&mut self) -> Vec<u8> {
        let mut request = Vec::new();
        self.write(self.operation, &mut request);
        request
    }

    fn write(&mut self, operation: Operation, request: &mut Vec<u8>) {
        let Self { keys, random, .. } = self;
        match operation {
            Operation::Article { signed_in } => {
                head(request, &["GET /api/articles/", slug(keys, random)]);
                token(request, signed_in.then(|| reader(keys, random)));
            }
            Operation::List { signed_in } => {
                if random.below(2) == 0 {
                    head(request, &["GET /api/articles"]);
                } else {
                    let tag = content::tag(keys.tags_zipf.draw(random));
                    head(request, &["GET /api/articles?tag=", &tag]);
                }
                token(request, signed_in.then(|| reader(keys, random)));
            }
            Operation::Feed => {
                head(request, &["GET /api/articles/feed"]);
                token(request, Some(reader(keys, random)));
            }
            Operation::Tags => {
                head(request, &["GET /api/tags"]);
                token(request, None);
            }
            Operation::Recommendations => {
                head(request, &["GET /v1/recommendations?limit=10"]);
                token(request, Some(reader(keys, random)));
            }
            Operation::Create => {
                let body = &self.articles[random.below(ARTICLES)];
                head(request, &["POST /api/articles"]);
                let length = body.len().to_string();
                for part in ["content-type: application/json\r\ncontent-length: ", &length, "\r\n"]
                {
                    request.extend_from_slice(part.as_bytes());
                }
                token(request, Some(reader(keys, random)));
                request.extend_from_slice(body.as_bytes());
            }
            Operation::Favorite => {
                let slug = slug(keys, random);
                head(request, &["POST /api/articles/", slug, "/favorite"]);
                // Evenly, or most favorites would be there already.
                let reader = &keys.tokens[random.below(keys.tokens.len())];
                request.extend_from_slice(b"content-length: 0\r\n");
                token(request, Some(reader));
            }
        }
    }

    fn unfavorite(&mut self, request: &mut Vec<u8>) {
        let Self { keys, random, .. } = self;
        head(request, &["DELETE /api/articles/", slug(keys, random), "/favorite"]);
        token(request, Some(reader(keys, random)));
    }

    fn deep_page(&mut self, request: &mut Vec<u8>) {
        head(request, &["GET /api/articles?limit=20&offset=10000"]);
        token(request, None);
    }
}

impl Source for Mix<'_> {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Class> {
        let number = self.random.below(1000);
        if number < self.writes {
            match number {
                ..CREATES => self.write(Operation::Create, request),
                _ if number.is_multiple_of(4) => self.unfavorite(request),
                _ => self.write(Operation::Favorite, request),
            }
            return Some(Class::Other);
        }
        if number < self.writes + self.deep {
            self.deep_page(request);
            return Some(Class::Other);
        }
        self.write(self.operation, request);
        Some(Class::Measured)
    }
}

/// A read, and what names it among all: its address, or of a feed whoever asks.
pub struct Recordable {
    pub name: String,
    pub request: Vec<u8>,
}

impl Keys {
    /// The token of a user.
    pub fn token(&self, user: usize) -> &str {
        &self.tokens[user]
    }

    /// Every read of a mix, articles and lists as strangers send them.
    pub fn recordable(&self) -> impl Iterator<Item = Recordable> {
        let articles = self.slugs.iter().map(|slug| format!("/api/articles/{slug}"));
        let of_tags =
            (0..content::TAGS).map(|number| format!("/api/articles?tag={}", content::tag(number)));
        let others = ["/api/articles", "/api/tags"].map(String::from);
        let for_strangers = articles.chain(of_tags).chain(others).map(|name| {
            let mut request = Vec::new();
            head(&mut request, &["GET ", &name]);
            token(&mut request, None);
            Recordable { name, request }
        });
        let feeds = self.tokens.iter().map(|reader| {
            let mut request = Vec::new();
            head(&mut request, &["GET /api/articles/feed"]);
            token(&mut request, Some(reader));
            Recordable { name: format!("Token {reader}"), request }
        });
        for_strangers.chain(feeds)
    }
}

/// Any request.
pub fn request(line: &str, bearer: &str, body: Option<&str>) -> Vec<u8> {
    let mut request = Vec::new();
    head(&mut request, &[line]);
    if let Some(body) = body {
        let length = body.len().to_string();
        for part in ["content-type: application/json\r\ncontent-length: ", &length, "\r\n"] {
            request.extend_from_slice(part.as_bytes());
        }
    }
    token(&mut request, Some(bearer));
    request.extend_from_slice(body.unwrap_or_default().as_bytes());
    request
}

/// Every article in turn, once.
pub struct Walk<'a> {
    slugs: std::slice::Iter<'a, String>,
}

impl<'a> Walk<'a> {
    /// From the first one on.
    pub fn new(keys: &'a Keys) -> Self {
        Self { slugs: keys.slugs.iter() }
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.slugs.len()
    }
}

impl Source for Walk<'_> {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Class> {
        let slug = self.slugs.next()?;
        head(request, &["GET /api/articles/", slug]);
        token(request, None);
        Some(Class::Measured)
    }
}

/// Batches of reads, each of one reader, of many posts, of times that were never sent before.
pub struct Batches<'a> {
    keys: &'a Keys,
    random: Random,
    /// Microseconds, of which each read has its own.
    time: u64,
}

impl<'a> Batches<'a> {
    /// Reads in a batch.
    pub const READS: usize = 500;

    /// Batches of reads from this time on, Unix microseconds.
    pub fn new(keys: &'a Keys, seed: u64, time: u64) -> Self {
        Self { keys, random: Random::new(seed), time }
    }
}

impl Source for Batches<'_> {
    fn next(&mut self, request: &mut Vec<u8>) -> Option<Class> {
        let Self { keys, random, time } = self;
        let mut body = Vec::with_capacity(Self::READS * 90);
        body.extend_from_slice(b"{\"reads\":[");
        for number in 0..Self::READS {
            *time += 1;
            let post = slug(keys, random);
            // An id stands at the end of every slug.
            let post = &post[post.len() - 13..];
            let (day, rest) = (*time / 86_400_000_000 % 28 + 1, *time % 86_400_000_000);
            let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
            let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            let separator = if number == 0 { "" } else { "," };
            let depth = random.below(101);
            let written = write!(
                body,
                "{separator}{{\"post\":\"{post}\",\"at\":\"2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z\",\"depth\":{depth}}}"
            );
            written.expect("memory takes every write");
        }
        body.extend_from_slice(b"]}");
        head(request, &["POST /v1/reads"]);
        let length = body.len().to_string();
        for part in ["content-type: application/json\r\ncontent-length: ", &length, "\r\n"] {
            request.extend_from_slice(part.as_bytes());
        }
        token(request, Some(reader(keys, random)));
        request.extend_from_slice(&body);
        Some(Class::Measured)
    }
}

fn slug<'a>(keys: &'a Keys, random: &mut Random) -> &'a str {
    &keys.slugs[keys.posts_zipf.draw(random)]
}

fn reader<'a>(keys: &'a Keys, random: &mut Random) -> &'a str {
    &keys.tokens[keys.users_zipf.draw(random)]
}

fn head(request: &mut Vec<u8>, line: &[&str]) {
    for part in line {
        request.extend_from_slice(part.as_bytes());
    }
    request.extend_from_slice(b" HTTP/1.1\r\nhost: localhost\r\n");
}

/// The rest of the head.
fn token(request: &mut Vec<u8>, token: Option<&str>) {
    if let Some(token) = token {
        request.extend_from_slice(b"authorization: Token ");
        request.extend_from_slice(token.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
}
