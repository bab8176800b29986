//! The table and the JSON of an evaluation.

use serde_json::{Map, Value, json};

use crate::cli::rec::prequential::{Evaluation, METHODS};
use crate::cli::rec::tally::{Mean, Tally};
use crate::transfer::stream::Stream;

/// The table of a stream, for people.
pub(super) fn table(stream: &Stream, evaluation: &Evaluation) -> String {
    let predictions = evaluation.tallies[0].predictions();
    let mut lines = vec![
        format!(
            "{}: {} events, {} posts, {predictions} predictions",
            stream.name,
            stream.events.len(),
            evaluation.posts
        ),
        format!(
            "{:<16}{:>18}{:>18}{:>13}{:>15}",
            "", "hit rate@10", "NDCG@10", "coverage@10", "author share"
        ),
    ];
    for (name, tally) in METHODS.iter().zip(&evaluation.tallies) {
        let share =
            tally.author_share().map_or_else(|| "-".to_owned(), |share| format!("{share:.3}"));
        lines.push(format!(
            "{name:<16}{:>18}{:>18}{:>13.3}{share:>15}",
            interval(tally.hit_rate()),
            interval(tally.ndcg()),
            tally.coverage(evaluation.posts),
        ));
    }
    if let Some([going_on, frozen]) = &evaluation.split {
        lines.push(format!(
            "last fifth of the events, hit rate@10 / NDCG@10 ({} predictions)",
            going_on[0].predictions()
        ));
        lines.push(format!("{:<16}{:>24}{:>24}", "", "learning goes on", "frozen at four fifths"));
        for (nth, name) in METHODS.iter().enumerate() {
            let pair = |tally: &Tally| {
                format!("{:.3} / {:.3}", tally.hit_rate().value, tally.ndcg().value)
            };
            lines.push(format!("{name:<16}{:>24}{:>24}", pair(&going_on[nth]), pair(&frozen[nth])));
        }
    }
    lines.push(format!(
        "µs per event {:.2}, per learning step {:.1}, per recommendation {:.1} (p99 {:.1}), with \
         diversity {:.1} (p99 {:.1}); {:.1} MB; digest {:016x}",
        evaluation.event_times.mean_us(),
        evaluation.lesson_times.mean_us(),
        evaluation.recommendation_times.mean_us(),
        evaluation.recommendation_times.p99_us(),
        evaluation.diverse_times.mean_us(),
        evaluation.diverse_times.p99_us(),
        evaluation.memory_bytes as f64 / 1e6,
        evaluation.digest,
    ));
    lines.push(String::new());
    lines.join("\n")
}

/// The same for programs, on one line.
pub(super) fn json(stream: &Stream, evaluation: &Evaluation) -> String {
    let mut value = json!({
        "stream": stream.name,
        "predictions": evaluation.tallies[0].predictions(),
        "methods": methods(&evaluation.tallies, evaluation.posts),
        "events": stream.events.len(),
        "posts": evaluation.posts,
        "event_us": evaluation.event_times.mean_us(),
        "lesson_us": evaluation.lesson_times.mean_us(),
        "recommendation_us": evaluation.recommendation_times.mean_us(),
        "recommendation_p99_us": evaluation.recommendation_times.p99_us(),
        "recommendation_diverse_us": evaluation.diverse_times.mean_us(),
        "recommendation_diverse_p99_us": evaluation.diverse_times.p99_us(),
        "memory_bytes": evaluation.memory_bytes,
        "digest": format!("{:016x}", evaluation.digest),
    });
    if let Some([going_on, frozen]) = &evaluation.split {
        value["last_fifth"] = json!({
            "predictions": going_on[0].predictions(),
            "learning": methods(going_on, evaluation.posts),
            "frozen": methods(frozen, evaluation.posts),
        });
    }
    value.to_string()
}

fn methods(tallies: &[Tally; METHODS.len()], posts: usize) -> Value {
    let method = |tally: &Tally| {
        let (hit_rate, ndcg) = (tally.hit_rate(), tally.ndcg());
        json!({
            "hit_rate_10": hit_rate.value,
            "hit_rate_10_margin": hit_rate.margin,
            "ndcg_10": ndcg.value,
            "ndcg_10_margin": ndcg.margin,
            "coverage_10": tally.coverage(posts),
            "author_share_10": tally.author_share(),
        })
    };
    let pairs = METHODS.iter().zip(tallies);
    let map: Map<String, Value> =
        pairs.map(|(name, tally)| ((*name).to_owned(), method(tally))).collect();
    Value::Object(map)
}

fn interval(mean: Mean) -> String {
    format!("{:.4} ±{:.4}", mean.value, mean.margin)
}
