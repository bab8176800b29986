//! What queries answer: one function each, in the order of [`Query`].

use crate::actors::recommendation::copies::Copies;
use crate::actors::recommendation::engine::{Engine, Options};
use crate::actors::recommendation::message::{
    Answer, EXCLUDE_MAX, EXCLUDED_MAX, EXPOSURES_ASKED_MAX, KNOWN_MAX, Known, LIMIT_MAX, Query,
    Ranking, Status, Wanted,
};
use crate::actors::recommendation::service::Service;
use crate::ids::PostId;

impl Service {
    /// Answers a query.
    pub(super) fn answer(&mut self, query: &Query) -> Answer {
        let Self { copies, traffic, scratch, .. } = self;
        let Copies { engine, kept, .. } = copies;
        let engine = &*engine;
        let found = match query {
            Query::Recommend { reader, wanted, ranking } => {
                let placed = traffic.splits().variant_of(*reader);
                let ranking = placed.map_or(*ranking, |(_, variant)| Ranking {
                    method: variant.method,
                    is_diverse: variant.is_diverse,
                    explore: usize::from(variant.explore),
                    random: ranking.random,
                });
                let options = options(wanted, Some(&ranking));
                let found = engine.recommend_again(*reader, wanted.now, &options, scratch, kept);
                if let Some((experiment, variant)) = placed {
                    let variant = format!("{}/{}", experiment.name, variant.name);
                    return Answer::Experiment { found, variant };
                }
                found
            }
            Query::RecommendSession { reads, wanted, ranking } => {
                let reads = &reads[..reads.len().min(EXCLUDE_MAX)];
                let options = options(wanted, Some(ranking));
                engine.recommend_session(reads, wanted.now, &options, scratch)
            }
            Query::Related { post, reader, wanted } => {
                engine.related(*post, *reader, wanted.now, &options(wanted, None), scratch)
            }
            Query::Trending { tag, window, reader, wanted } => {
                engine.trending(tag.as_deref(), *window, *reader, &options(wanted, None), scratch)
            }
            Query::Following { reader, wanted } => {
                engine.following(*reader, &options(wanted, None), scratch)
            }
            Query::GetKnown { posts } => {
                let posts = posts.iter().take(KNOWN_MAX);
                return Answer::Known(posts.map(|post| known(engine, 0, *post)).collect());
            }
            Query::ListKnown { from, limit } => {
                let places = (*from..).take((*limit).min(KNOWN_MAX));
                let posts = places.map_while(|place| Some((place, engine.post_at(place)?)));
                let known = posts.map(|(place, post)| known(engine, place, post));
                return Answer::Known(known.collect());
            }
            Query::GetExperiments => {
                let experiments = traffic.splits().experiments().to_vec();
                let outcomes = traffic.outcomes().report();
                return Answer::Experiments { experiments, outcomes };
            }
            Query::ListExposures { from, limit } => {
                let limit = (*limit).min(EXPOSURES_ASKED_MAX);
                return Answer::Exposures(traffic.exposures().page(*from, limit));
            }
            Query::Status => return Answer::Status(self.status()),
            #[cfg(test)]
            Query::Digest => return Answer::Digest(engine.digest()),
        };
        Answer::Recommendations(found)
    }

    fn status(&self) -> Status {
        let engine = &self.copies.engine;
        Status {
            posts: engine.posts_known() as u64,
            readers: engine.readers_known() as u64,
            weights_version: engine.weights().version(),
            is_rebuilding: self.copies.is_rebuilding(),
            taken_back: self.learning.taken_back(),
        }
    }
}

fn known(engine: &Engine, place: u32, post: PostId) -> Known {
    let (version, is_listed) = engine.known_post(post).unwrap_or((0, false));
    Known { post, place, version, is_listed }
}

/// What the engine is asked for, within bounds.
fn options<'a>(wanted: &'a Wanted, ranking: Option<&Ranking>) -> Options<'a> {
    let exclude = &wanted.exclude[wanted.exclude.len().saturating_sub(EXCLUDED_MAX)..];
    let limit = wanted.limit.min(LIMIT_MAX);
    let lists = Options { limit, exclude, explain: wanted.explain, ..Options::default() };
    match ranking {
        None => lists,
        Some(Ranking { method, is_diverse, explore, random }) => Options {
            method: *method,
            is_diverse: *is_diverse,
            explore: *explore,
            random: *random,
            ..lists
        },
    }
}
