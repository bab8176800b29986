//! What became of records.

use serde::{Deserialize, Serialize};

use crate::transfer::chunk::Problem;
use crate::transfer::record::Record;

/// What a record did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is so now. (For edges and comments also: it was so before.)
    Done,
    /// The user or post was there already, and was left alone.
    Existed,
    /// It is or belongs to a post that has been deleted since, or it is a comment on one that was
    /// not imported but written here, together with its comments.
    Skipped,
}

/// How many records had which effect.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// See [`Effect::Done`].
    pub done: u64,
    /// See [`Effect::Existed`].
    pub existed: u64,
    /// See [`Effect::Skipped`].
    pub skipped: u64,
}

/// Tallies by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they are the kinds of `Record`")]
pub struct Counts {
    pub users: Tally,
    pub follows: Tally,
    pub posts: Tally,
    pub favorites: Tally,
    pub comments: Tally,
    pub reads: Tally,
    pub tag_follows: Tally,
    pub tag_mutes: Tally,
    pub feedback: Tally,
}

impl Counts {
    /// Counts the effect of a record.
    pub fn add(&mut self, record: &Record, effect: Effect) {
        let tally = match record {
            Record::User(_) => &mut self.users,
            Record::Follow(_) => &mut self.follows,
            Record::Post(_) => &mut self.posts,
            Record::Favorite(_) => &mut self.favorites,
            Record::Comment(_) => &mut self.comments,
            Record::Read(_) => &mut self.reads,
            Record::TagFollow(_) => &mut self.tag_follows,
            Record::TagMute(_) => &mut self.tag_mutes,
            Record::Feedback(_) => &mut self.feedback,
        };
        match effect {
            Effect::Done => tally.done += 1,
            Effect::Existed => tally.existed += 1,
            Effect::Skipped => tally.skipped += 1,
        }
    }

    /// Adds what another chunk did.
    pub fn merge(&mut self, other: &Self) {
        for (sum, (_, more)) in [
            &mut self.users,
            &mut self.follows,
            &mut self.posts,
            &mut self.favorites,
            &mut self.comments,
            &mut self.reads,
            &mut self.tag_follows,
            &mut self.tag_mutes,
            &mut self.feedback,
        ]
        .into_iter()
        .zip(other.by_kind())
        {
            sum.done += more.done;
            sum.existed += more.existed;
            sum.skipped += more.skipped;
        }
    }

    /// The tallies with their names.
    pub fn by_kind(&self) -> [(&'static str, Tally); 9] {
        [
            ("users", self.users),
            ("follows", self.follows),
            ("posts", self.posts),
            ("favorites", self.favorites),
            ("comments", self.comments),
            ("reads", self.reads),
            ("tag follows", self.tag_follows),
            ("tag mutes", self.tag_mutes),
            ("feedback", self.feedback),
        ]
    }
}

/// What became of a chunk.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// What had an effect.
    pub counts: Counts,
    /// What had none, by line.
    pub problems: Vec<Problem>,
}
