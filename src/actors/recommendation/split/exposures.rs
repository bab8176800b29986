//! The latest of what was shown: a log that no owner could tell again.
//!
//! **Invariants**: E1 it is bounded, the oldest forgotten; E2 what is told of an erased reader
//! afterwards, and was on its way, is the only thing that names one.

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::message::Exposure;
use crate::actors::recommendation::split::ring::Ring;
use crate::ids::{Stamp, UserId};
use crate::store::codec::Record;

/// Answers that are kept: about ten megabytes with 20 posts in each, at most some 40.
pub(super) const EXPOSURES_MAX: usize = 16_384;
/// Posts of one answer that are kept.
const POSTS_MAX: usize = 100;

/// What was shown in answer to one request, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// When it came into the log, up to a second after it was shown.
    pub at: Stamp,
    /// What.
    pub exposure: Exposure,
}

impl Record for Logged {
    const KIND: u8 = 76;
}

/// The log. Every answer has a number, which only rises.
#[derive(Debug, Default, PartialEq)]
pub struct Exposures(pub(super) Ring<Logged>);

impl Exposures {
    /// Appends an answer.
    pub fn append(&mut self, at: Stamp, exposure: &Exposure) {
        let mut exposure = exposure.clone();
        exposure.posts.truncate(POSTS_MAX);
        self.0.push(Logged { at, exposure });
        if self.0.len() > EXPOSURES_MAX {
            self.0.pop();
        }
    }

    /// Up to so many answers from this number on, with their numbers.
    pub fn page(&self, from: u64, limit: usize) -> Vec<(u64, Logged)> {
        self.0.from(from).take(limit).map(|(number, logged)| (number, logged.clone())).collect()
    }

    /// Forgets to whom something was shown.
    pub fn forget_reader(&mut self, reader: UserId) {
        for number in self.0.which(|logged| logged.exposure.reader == Some(reader)) {
            if let Some(logged) = self.0.change(number) {
                logged.exposure.reader = None;
                // Other logs may tell whose request that was.
                logged.exposure.request.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposure(reader: u64) -> Exposure {
        Exposure {
            request: format!("request {reader}"),
            reader: Some(UserId(reader)),
            surface: "home".to_owned(),
            variant: String::new(),
            weights_version: 1,
            posts: Vec::new(),
        }
    }

    #[test]
    fn the_latest_are_kept_by_number_and_erased_readers_are_not_named() {
        let mut log = Exposures::default();
        let most = EXPOSURES_MAX as u64;
        for number in 0..most + 10 {
            log.append(Stamp(number), &exposure(number % 7));
        }
        let numbers = |from, limit| {
            let page = log.page(from, limit);
            page.into_iter().map(|(number, logged)| (number, logged.at.0)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(0, 2), [(10, 10), (11, 11)], "the oldest are forgotten");
        assert_eq!(numbers(most + 8, 9), [(most + 8, most + 8), (most + 9, most + 9)]);
        assert!(numbers(most + 10, 9).is_empty() && numbers(u64::MAX, 9).is_empty());
        log.forget_reader(UserId(3));
        let names = |logged: &Logged| logged.exposure.reader == Some(UserId(3));
        let left = log.page(0, EXPOSURES_MAX);
        assert!(!left.iter().any(|(_, logged)| names(logged)));
        assert!(!left.iter().any(|(_, logged)| logged.exposure.request == "request 3"));
        assert!(left.iter().any(|(_, logged)| logged.exposure.reader == Some(UserId(4))));
    }
}
