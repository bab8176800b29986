//! The operator's view of what was shown: one line of JSON for each answer, oldest first.

use serde::{Deserialize, Serialize};

use crate::actors::recommendation::message::{Answer, EXPOSURES_ASKED_MAX, Query, ShownPost};
use crate::actors::recommendation::split::Logged;
use crate::actors::router::Call;
use crate::http::App;
use crate::http::error::Answered;
use crate::http::extract::wrong_answer;
use crate::http::v1::values::Time;

/// An answer with recommendations, as it is told. Ids are as in `/v1`.
#[derive(Serialize)]
struct Line {
    /// Rises by one from line to line.
    number: u64,
    at: Time,
    /// Id of the request, as in logs; empty where it must not be known any more.
    request: String,
    reader: Option<String>,
    surface: String,
    /// `experiment/variant`, or empty.
    variant: String,
    weights_version: u64,
    posts: Vec<Place>,
}

#[derive(Serialize)]
struct Place {
    post: String,
    position: u16,
    propensity: f32,
    explored: bool,
}

#[derive(Deserialize)]
struct Number {
    number: u64,
}

/// The lines from this number on, at most [`EXPOSURES_ASKED_MAX`]; empty when there are none yet.
///
/// # Errors
/// When the recommendation service has no answer.
pub async fn lines(app: &App, from: u64) -> Answered<String> {
    let query = Query::ListExposures { from, limit: EXPOSURES_ASKED_MAX };
    match app.recommendations.query_shard(Call::new(), 0, query).await? {
        Answer::Exposures(logged) => Ok(logged.into_iter().map(line).collect()),
        _ => Err(wrong_answer()),
    }
}

/// The number to ask from for what follows these lines; `None` when there are none.
pub fn next(lines: &str) -> Option<u64> {
    let last: Number = serde_json::from_str(lines.lines().next_back()?).ok()?;
    last.number.checked_add(1)
}

fn line((number, Logged { at, exposure }): (u64, Logged)) -> String {
    let place = |shown: &ShownPost| Place {
        post: shown.post.to_string(),
        position: shown.position,
        propensity: shown.propensity,
        explored: shown.is_explored,
    };
    let line = Line {
        number,
        at: Time(at),
        posts: exposure.posts.iter().map(place).collect(),
        request: exposure.request,
        reader: exposure.reader.map(|reader| reader.to_string()),
        surface: exposure.surface,
        variant: exposure.variant,
        weights_version: exposure.weights_version,
    };
    serde_json::to_string(&line).expect("it is plain data") + "\n"
}
