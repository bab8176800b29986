//! What commands do: one function each, in the order of [`Command`].

use crate::actors::recommendation::engine::event::Event as Fact;
use crate::actors::recommendation::engine::weights::Weights;
use crate::actors::recommendation::message::{Command, Error, Exposure, Reply};
use crate::actors::recommendation::service::Service;
use crate::actors::recommendation::split::Splits;
use crate::actors::state_machine::{Stop, refuse};
use crate::ids::{PostId, Stamp};

type Outcome = Result<Reply, Stop<Error>>;

impl Service {
    /// Applies one command.
    pub(super) fn take(&mut self, stamp: Stamp, command: Command) -> Outcome {
        match command {
            Command::Observe { fact } => self.observe(stamp, fact),
            Command::SetWeights { version, values } => self.set_weights(stamp, version, &values),
            Command::LogExposures { exposures } => self.log_exposures(stamp, exposures),
            Command::BeginRebuild => Ok(Reply::Rebuild(self.copies.begin())),
            Command::CopyFacts { rebuild, facts } => self.copy_facts(stamp, rebuild, facts),
            Command::FinishRebuild { rebuild } => match self.copies.finish(rebuild) {
                Some(left) => Ok(Reply::Left(left)),
                None => refuse(Error::NoRebuild),
            },
            Command::SetExperiments { experiments } => match Splits::new(experiments) {
                Ok(splits) => {
                    self.traffic.set(splits);
                    Ok(Reply::Done)
                }
                Err(error) => refuse(Error::Experiments(error)),
            },
            Command::Repair { fact } => self.repair(stamp, fact),
        }
    }

    fn observe(&mut self, stamp: Stamp, mut fact: Fact) -> Outcome {
        clamp(&mut fact, stamp);
        self.learning.watch(&self.copies.engine, &mut self.scratch, stamp, &fact);
        match &fact {
            Fact::Interacted { reader, post, at, .. } => self.traffic.read(*reader, *post, *at),
            Fact::ReaderErased { reader } => self.traffic.forget_reader(*reader),
            _ => {}
        }
        self.copies.observe(stamp, fact);
        Ok(Reply::Done)
    }

    fn set_weights(&mut self, stamp: Stamp, version: u64, values: &[f32]) -> Outcome {
        let Some(weights) = Weights::from_values(version, values) else {
            return refuse(Error::UnsoundWeights);
        };
        self.learning.proposed(stamp, &weights);
        self.copies.engine.set_weights(weights);
        Ok(Reply::Done)
    }

    fn log_exposures(&mut self, stamp: Stamp, exposures: Vec<Exposure>) -> Outcome {
        for exposure in exposures {
            // What this ends is exploration, so it counts where it came from: see `SHOWN_ENOUGH`.
            let explored = exposure.posts.iter().filter(|shown| shown.is_explored);
            let posts: Vec<PostId> = explored.map(|shown| shown.post).collect();
            if let Some(reader) = exposure.reader.filter(|_| !posts.is_empty()) {
                self.copies.observe(stamp, Fact::Shown { reader, posts });
            }
            self.traffic.show(stamp, &exposure);
            self.learning.shown(stamp, exposure);
        }
        Ok(Reply::Done)
    }

    fn repair(&mut self, stamp: Stamp, mut fact: Fact) -> Outcome {
        clamp(&mut fact, stamp);
        self.copies.repair(&fact);
        Ok(Reply::Done)
    }

    fn copy_facts(&mut self, stamp: Stamp, rebuild: u32, mut facts: Vec<Fact>) -> Outcome {
        facts.iter_mut().for_each(|fact| clamp(fact, stamp));
        match self.copies.copy(rebuild, &facts) {
            Some(()) => Ok(Reply::Done),
            None => refuse(Error::NoRebuild),
        }
    }
}

/// Nothing has happened later than now (R7).
fn clamp(fact: &mut Fact, stamp: Stamp) {
    match fact {
        Fact::PostChanged { published_at: at, .. } | Fact::Interacted { at, .. } => {
            *at = (*at).min(stamp);
        }
        Fact::PostDeleted { .. }
        | Fact::ReadForgotten { .. }
        | Fact::ReaderErased { .. }
        | Fact::AuthorFollowed { .. }
        | Fact::AuthorMuted { .. }
        | Fact::TagFollowed { .. }
        | Fact::TagMuted { .. }
        | Fact::Feedback { .. }
        | Fact::Shown { .. }
        | Fact::Blocked { .. }
        | Fact::Denied { .. }
        | Fact::FeedbackWithdrawn { .. } => {}
    }
}
