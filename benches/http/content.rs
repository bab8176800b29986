//! Seeded content: who is there, who follows whom, what is written and favored.

use crate::random::{Random, Zipf};

/// Tags in use.
pub const TAGS: usize = 600;
/// Tags of one post.
const TAGS_PER_POST: usize = 3;
/// Bytes of the body of a post.
const BODY_BYTES: usize = 5 * 1024;
/// How uneven authors are: some write and are followed much more than others.
const AUTHORS_ZIPF: f64 = 0.6;

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Users.
    pub users: usize,
    /// Posts.
    pub posts: usize,
    /// Edges between users.
    pub follows: usize,
    /// Edges between users and posts.
    pub favorites: usize,
}

impl Sizes {
    /// The set of the table.
    pub const TABLE: Self =
        Self { users: 10_000, posts: 50_000, follows: 200_000, favorites: 500_000 };
    /// A set for a quick look.
    pub const QUICK: Self =
        Self { users: 2_000, posts: 10_000, follows: 40_000, favorites: 50_000 };
    /// The set of the table with twenty times the posts.
    pub const SCALE: Self = Self { posts: 1_000_000, ..Self::TABLE };

    /// What [`Self::folder`] says.
    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<usize>> = text.split('-').map(|part| part.parse().ok()).collect();
        let [users, posts, follows, favorites] = numbers?[..] else { return None };
        Some(Self { users, posts, follows, favorites })
    }

    /// Name of the folder of such a set.
    pub fn folder(&self) -> String {
        let Self { users, posts, follows, favorites } = self;
        format!("{users}-{posts}-{follows}-{favorites}")
    }
}

/// A post before it exists.
pub struct NewPost {
    /// Title.
    pub title: String,
    /// Description.
    pub description: String,
    /// Markdown.
    pub body: String,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Draws what there is, in the order in which it is made.
pub struct Content {
    sizes: Sizes,
    random: Random,
    authors: Zipf,
    tags: Zipf,
    favored: Zipf,
}

impl Content {
    /// The content of a seed.
    pub fn new(sizes: Sizes, seed: u64) -> Self {
        Self {
            sizes,
            random: Random::new(seed),
            authors: Zipf::new(sizes.users, AUTHORS_ZIPF, seed ^ 1),
            tags: Zipf::new(TAGS, AUTHORS_ZIPF, seed ^ 2),
            favored: Zipf::new(sizes.posts, AUTHORS_ZIPF, seed ^ 3),
        }
    }

    /// Who follows whom: everybody the same number, of whom some are followed much more.
    pub fn follow(&mut self, number: usize) -> (usize, usize) {
        let user = number % self.sizes.users;
        let target = self.authors.draw(&mut self.random);
        (user, if target == user { (user + 1) % self.sizes.users } else { target })
    }

    /// Who writes what.
    pub fn post(&mut self) -> (usize, NewPost) {
        let author = self.authors.draw(&mut self.random);
        let mut tags: Vec<String> = Vec::new();
        while tags.len() < TAGS_PER_POST {
            let tag = tag(self.tags.draw(&mut self.random));
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        (author, NewPost { tags, ..new_post(&mut self.random) })
    }

    /// Who favors what.
    pub fn favorite(&mut self) -> (usize, usize) {
        (self.random.below(self.sizes.users), self.favored.draw(&mut self.random))
    }
}

/// Name of a user.
pub fn user_name(number: usize) -> String {
    format!("reader-{number}")
}

/// Name of a tag.
pub fn tag(number: usize) -> String {
    format!("{}-{number}", WORDS[number % WORDS.len()])
}

/// A new article as a client sends it.
pub fn article_json(random: &mut Random) -> String {
    let NewPost { title, description, body, .. } = new_post(random);
    let tags: Vec<String> =
        (0..TAGS_PER_POST).map(|place| tag(place * 200 + random.below(200))).collect();
    serde_json::json!({
        "article": { "title": title, "description": description, "body": body, "tagList": tags }
    })
    .to_string()
}

fn new_post(random: &mut Random) -> NewPost {
    let mut body = String::with_capacity(BODY_BYTES + 16);
    while body.len() < BODY_BYTES {
        let word = WORDS[random.below(WORDS.len())];
        body.push_str(word);
        match random.below(60) {
            0 => body.push_str(".\n\n"),
            1 => body.push_str(" \"quoted\" "),
            2..6 => body.push_str(". "),
            _ => body.push(' '),
        }
    }
    body.truncate(BODY_BYTES);
    NewPost { title: words(random, 6), description: words(random, 15), body, tags: Vec::new() }
}

fn words(random: &mut Random, count: usize) -> String {
    let words: Vec<&str> = (0..count).map(|_| WORDS[random.below(WORDS.len())]).collect();
    words.join(" ")
}

const WORDS: [&str; 48] = [
    "actor",
    "bridge",
    "canvas",
    "delta",
    "engine",
    "forest",
    "garden",
    "harbor",
    "island",
    "journal",
    "kernel",
    "letter",
    "mirror",
    "notion",
    "orchard",
    "pattern",
    "quiet",
    "river",
    "signal",
    "thread",
    "umbrella",
    "valley",
    "window",
    "yellow",
    "and",
    "the",
    "of",
    "with",
    "from",
    "over",
    "under",
    "never",
    "always",
    "often",
    "because",
    "while",
    "until",
    "measure",
    "repair",
    "restart",
    "supervise",
    "publish",
    "replicate",
    "commit",
    "apply",
    "answer",
    "question",
    "wander",
];
