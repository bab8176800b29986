//! What is recommended, and why.

use serde::{Deserialize, Serialize};

use crate::ids::{PostId, UserId};

/// Which list a recommendation came from first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Newest posts of a followed author.
    FollowedAuthor,
    /// Newest posts with a followed tag.
    FollowedTag,
    /// Much read of late.
    Trend,
    /// Much read of late, with a tag that the reader likes.
    TagTrend,
    /// Newest posts.
    Newest,
    /// Newest posts with a tag that the reader likes.
    TagNewest,
    /// Read by those who read what the reader read.
    Together,
    /// Shown to few so far.
    Exploration,
}

/// Why a post is recommended. Ids, not names: whoever shows it asks the owners whether it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// By an author whom the reader follows.
    Follows(UserId),
    /// With a tag that the reader follows.
    FollowsTag(String),
    /// Readers of this post, which the reader read, read it too.
    BecauseRead(PostId),
    /// With a tag that the reader reads about.
    Interest(String),
    /// Much read of late.
    Trending,
    /// Published just now.
    New,
    /// Few have seen it yet.
    Exploring,
}

impl Reason {
    /// The post that it names.
    pub fn named_post(&self) -> Option<PostId> {
        match self {
            Self::BecauseRead(post) => Some(*post),
            Self::Follows(_)
            | Self::FollowsTag(_)
            | Self::Interest(_)
            | Self::Trending
            | Self::New
            | Self::Exploring => None,
        }
    }
}

/// A recommended post.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Which.
    pub post: PostId,
    /// The version of it that is known here.
    pub version: u64,
    /// Why; none where it was not asked.
    pub reason: Option<Reason>,
    /// Score of the ranker, or of the list that stood in for it; comparable within one answer.
    pub score: f32,
    /// Where it came from.
    pub source: Source,
    /// Probability of being in this place, over the random number: 1 but for exploration.
    pub propensity: f32,
}

/// How an answer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By the ranker.
    Ranker,
    /// What is much read of late: also in place of a ranker without sound weights.
    Trend,
    /// What is new: also in place of a trend where nothing was read.
    Latest,
    /// What is read together with the recent reads, and nothing else.
    Together,
}

/// Recommended posts, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendations {
    /// The posts.
    pub items: Vec<Item>,
    /// How they were found.
    pub method: Method,
    /// Version of the weights that ranked them.
    pub weights_version: u64,
}

impl Recommendations {
    /// No posts.
    pub fn none(method: Method) -> Self {
        Self { items: Vec::new(), method, weights_version: 0 }
    }
}
