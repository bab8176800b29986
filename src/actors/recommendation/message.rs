//! The contract of the recommendation service: what it is told and asked, and what it answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::event::Event as Fact;
pub use crate::actors::recommendation::engine::item::{
    Item, Method, Reason, Recommendations, Source,
};
use crate::actors::recommendation::split::{Experiment, Logged, SplitError, VariantOutcome};
use crate::actors::state_machine::Refusal;
use crate::error::ErrorCode;
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::store::codec::Record;

/// Posts that one answer may hold: half as many again as a page, so that enough are left when the owner
/// of the posts has had its say.
pub const LIMIT_MAX: usize = crate::config::PAGE_MAX + crate::config::PAGE_MAX / 2;
/// Posts that one question may exclude, or name as read.
pub const EXCLUDE_MAX: usize = 1_000;
/// Posts of earlier pages that one question may exclude beside these: what a cursor can name. An
/// address of 3 kB still passes every proxy.
pub const EARLIER_MAX: usize = 240;
/// Both together.
pub const EXCLUDED_MAX: usize = EXCLUDE_MAX + EARLIER_MAX;
/// Posts on one page of what is known.
pub const KNOWN_MAX: usize = 1_000;
/// Answers on one page of what was shown.
pub const EXPOSURES_ASKED_MAX: usize = 1_000;

/// Commands of the recommendation service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Takes a fact of another service in. Times in the future count as now. What is late, repeated
    /// or makes no sense has no effect. Replies [`Reply::Done`].
    Observe {
        /// What happened.
        fact: Fact,
    },
    /// Sets the ranker's weights; proposed by the leader. An older version has no effect. Replies
    /// [`Reply::Done`]; refuses `UnsoundWeights`.
    SetWeights {
        /// Grows with every change.
        version: u64,
        /// The values, as the engine orders them.
        values: Vec<f32>,
    },
    /// Notes what was shown to readers. Replies [`Reply::Done`].
    LogExposures {
        /// In order of time.
        exposures: Vec<Exposure>,
    },
    /// Begins a new copy of everything beside the one that serves; one that was begun before is
    /// given up. Replies [`Reply::Rebuild`].
    BeginRebuild,
    /// Adds facts that were read from their owners to the new copy. Replies [`Reply::Done`]; refuses
    /// `NoRebuild`.
    CopyFacts {
        /// Its number.
        rebuild: u32,
        /// In the order in which they are to be taken in.
        facts: Vec<Fact>,
    },
    /// Everything was read: the new copy takes in a part of what happened meanwhile, and when nothing
    /// is left, it serves. Replies [`Reply::Left`]; refuses `NoRebuild`.
    FinishRebuild {
        /// Its number.
        rebuild: u32,
    },
    /// These experiments and no others, from now on. What is known of variants that are no more is
    /// forgotten. Replies [`Reply::Done`]; refuses `Experiments`.
    SetExperiments {
        /// In the order in which readers are looked for in them.
        experiments: Vec<Experiment>,
    },
    /// What the owner of a post says of it now: as `Observe`, but it counts even where its version is
    /// known, as of a post that was denied. Replies [`Reply::Done`].
    Repair {
        /// What the owner says.
        fact: Fact,
    },
}

impl Record for Command {
    const KIND: u8 = 64;
}

impl Command {
    /// The bucket whose shard applies this command: there is one shard.
    pub fn bucket(&self) -> Bucket {
        Bucket::new(0)
    }
}

/// What was shown in answer to one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// The id of the request, at most 64 characters.
    pub request: String,
    /// To whom; nobody knows who an anonymous reader is.
    pub reader: Option<UserId>,
    /// Where: a page, a mail.
    pub surface: String,
    /// Which variant of which experiment, as `experiment/variant`; empty outside of one.
    pub variant: String,
    /// Version of the weights that ranked them.
    pub weights_version: u64,
    /// What was shown, first place first.
    pub posts: Vec<ShownPost>,
}

/// A post in its place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ShownPost {
    /// Which.
    pub post: PostId,
    /// Its place, from 0: what the owner of a post denied left a gap.
    pub position: u16,
    /// Probability of standing there, in (0, 1].
    pub propensity: f32,
    /// Whether it is a place of exploration: its propensity is 1 where there was nothing to choose
    /// from.
    pub is_explored: bool,
}

/// Answers to commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is so now.
    Done,
    /// The number of the copy that was begun.
    Rebuild(u32),
    /// So many facts wait for the new copy; 0: it serves now.
    Left(u64),
}

impl Record for Reply {
    const KIND: u8 = 65;
}

/// What is wanted, of any list.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Posts, at most; no more than [`LIMIT_MAX`] anyhow.
    pub limit: usize,
    /// Posts that must not be in the answer: those of earlier pages, and others. Beyond
    /// [`EXCLUDED_MAX`], the last ones count.
    pub exclude: Arc<[PostId]>,
    /// The time of the question.
    pub now: Stamp,
    /// Whether reasons are wanted.
    pub explain: bool,
}

/// How to rank.
#[derive(Debug, Clone, Copy)]
pub struct Ranking {
    /// What cannot be done falls back: ranker, then trend, then latest.
    pub method: Method,
    /// At most two posts of an author in ten, and variety of tags.
    pub is_diverse: bool,
    /// Places in ten for posts that few have seen; at most 2.
    pub explore: usize,
    /// Decides what is explored: any random number, fresh for each question.
    pub random: u64,
}

/// Questions to the recommendation service. Every replica may answer. What a reader has read, hidden
/// or muted, and the reader's own posts, are in no answer.
#[derive(Debug, Clone)]
pub enum Query {
    /// What to read next.
    Recommend {
        /// Who reads; need not be known.
        reader: UserId,
        /// What is wanted.
        wanted: Wanted,
        /// How to rank.
        ranking: Ranking,
    },
    /// The same for somebody of whom only some reads are known.
    RecommendSession {
        /// Posts read, newest first; the first [`EXCLUDE_MAX`] count.
        reads: Arc<[PostId]>,
        /// What is wanted.
        wanted: Wanted,
        /// How to rank.
        ranking: Ranking,
    },
    /// Posts like this one.
    Related {
        /// Like which.
        post: PostId,
        /// Who reads, if anybody.
        reader: Option<UserId>,
        /// What is wanted.
        wanted: Wanted,
    },
    /// What is much read of late.
    Trending {
        /// With this tag only, in lower case.
        tag: Option<String>,
        /// Which half-life, from 0; none: that which foresees best what is read.
        window: Option<usize>,
        /// Who reads, if anybody.
        reader: Option<UserId>,
        /// What is wanted.
        wanted: Wanted,
    },
    /// The newest posts of followed authors and tags, newest first, and nothing else.
    Following {
        /// Who reads.
        reader: UserId,
        /// What is wanted.
        wanted: Wanted,
    },
    /// What is known of posts, in the order asked. [`Answer::Known`].
    GetKnown {
        /// Which.
        posts: Vec<PostId>,
    },
    /// A page of all posts that were heard of, by their places. [`Answer::Known`]; an empty one is
    /// the end.
    ListKnown {
        /// The first place.
        from: u32,
        /// At most so many, of at most [`KNOWN_MAX`].
        limit: usize,
    },
    /// The experiments and what came of them. [`Answer::Experiments`].
    GetExperiments,
    /// The latest of what was shown, by number. [`Answer::Exposures`].
    ListExposures {
        /// The first number.
        from: u64,
        /// At most so many, of at most [`EXPOSURES_ASKED_MAX`].
        limit: usize,
    },
    /// How the service is doing.
    Status,
    /// One number for everything that follows from events. It takes long.
    #[cfg(test)]
    Digest,
}

/// Answers to queries.
#[derive(Debug)]
pub enum Answer {
    /// Posts, best first, with what they are there for.
    Recommendations(Recommendations),
    /// The same for a reader who is in an experiment, whose variant decided the ranking.
    Experiment {
        /// The posts.
        found: Recommendations,
        /// As [`Exposure::variant`].
        variant: String,
    },
    /// See [`Query::GetExperiments`].
    Experiments {
        /// In order.
        experiments: Vec<Experiment>,
        /// By name.
        outcomes: Vec<VariantOutcome>,
    },
    /// See [`Query::ListExposures`].
    Exposures(Vec<(u64, Logged)>),
    /// See [`Query::GetKnown`] and [`Query::ListKnown`].
    Known(Vec<Known>),
    /// See [`Query::Status`].
    Status(Status),
    /// See [`Query::Digest`].
    #[cfg(test)]
    Digest(u64),
}

/// What is known of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub post: PostId,
    /// Its place among all, of [`Query::ListKnown`].
    pub place: u32,
    /// Version of the last news; 0: none.
    pub version: u64,
    /// Whether everybody may see it.
    pub is_listed: bool,
}

/// How the service is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Status {
    /// Posts that were heard of.
    pub posts: u64,
    /// Readers and authors that were heard of.
    pub readers: u64,
    /// Version of the ranker's weights.
    pub weights_version: u64,
    /// Whether a new copy is being made.
    pub is_rebuilding: bool,
    /// How often this replica took weights back since it leads.
    pub taken_back: u64,
}

/// Why the recommendation service says no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// Too few weights, too many, or one that is no number.
    #[error("these are no weights of this ranker")]
    UnsoundWeights,
    /// This copy is not being made (any more).
    #[error("there is no such rebuild")]
    NoRebuild,
    /// Experiments that make no sense.
    #[error("{0}")]
    Experiments(SplitError),
}

impl Record for Error {
    const KIND: u8 = 66;
}

impl Refusal for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnsoundWeights | Self::Experiments(_) => ErrorCode::Invalid,
            Self::NoRebuild => ErrorCode::Conflict,
        }
    }
}
