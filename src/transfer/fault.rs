//! Why a record has no effect, and how long an import waits for better times.

use std::fmt::Display;
use std::time::Duration;

use crate::actors::call::CallError;
use crate::config::STAMP_AHEAD_MAX;
use crate::ids::Stamp;
use crate::seams::Clock;
use crate::seams::time::{self, Instant};
use crate::transfer::record::Time;

/// How long a record is tried while the node does not answer. Longer than any restart that
/// succeeds; an import that ends is continued by giving the same command again.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Why a record has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is wrong; the others go on.
    Line(String),
    /// The import cannot go on.
    Halt(String),
}

impl Fault {
    pub(super) fn wrong_answer() -> Self {
        Self::Halt("a shard gave an answer to another question".to_owned())
    }
}

/// A line whose field is wrong.
pub(super) fn wrong<E: Display>(field: &'static str) -> impl FnOnce(E) -> Fault {
    move |error| Fault::Line(format!("{field} {error}"))
}

/// The stamp of an original time, which cannot lie ahead: what comes from the future would stay on
/// top of every list.
pub(super) fn past(clock: &Clock, time: Option<Time>) -> Result<Option<Stamp>, Fault> {
    let latest = clock.now().plus_ms(STAMP_AHEAD_MAX.as_millis() as u64);
    match time {
        Some(time) if time.0 > latest => {
            Err(Fault::Line(format!("the time {time} lies in the future")))
        }
        time => Ok(time.map(|time| time.0)),
    }
}

/// Waits between the tries of one record.
pub(super) struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { until: time::now() + PATIENCE, pause: PAUSE_MIN }
    }

    /// Waits before the next try, if one makes sense. All commands of an import may be repeated.
    pub(super) async fn wait<R: Display>(&mut self, error: CallError<R>) -> Result<(), Fault> {
        let reason = match &error {
            CallError::Refused(refusal) => return Err(Fault::Line(refusal.to_string())),
            CallError::Internal | CallError::KeyReused => {
                return Err(Fault::Line("an internal fault, see the log of the node".to_owned()));
            }
            CallError::DiskFull => "the disk is full",
            CallError::Overloaded
            | CallError::Unavailable
            | CallError::DeadlineExceeded
            | CallError::UnknownOutcome => "the node does not answer",
        };
        if time::now() >= self.until {
            return Err(Fault::Halt(reason.to_owned()));
        }
        time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}
