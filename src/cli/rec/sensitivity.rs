//! What half and twice of each constant does to the hit rate of the ranker.

use crate::cli::output::tell;
use crate::cli::rec::prequential::{METHODS, Setup, evaluate};
use crate::transfer::stream::Stream;

const RANKER: usize = METHODS.len() - 2;

/// Changes a constant by a factor.
type Vary = fn(&mut Setup, f64);

const CONSTANTS: [(&str, Vary); 9] = [
    ("half-lives of readers", |setup, factor| {
        setup.settings.half_lives_ms.iter_mut().for_each(|ms| *ms = times(*ms, factor));
    }),
    ("short half-life of pairs", |setup, factor| {
        let ms = &mut setup.settings.pair_half_lives_ms[0];
        *ms = times(*ms, factor);
    }),
    ("long half-life of pairs", |setup, factor| {
        let ms = &mut setup.settings.pair_half_lives_ms[1];
        *ms = times(*ms, factor);
    }),
    ("neighbours per post", |setup, factor| {
        let most = &mut setup.settings.neighbours_max;
        *most = times(*most as u64, factor) as usize;
    }),
    ("candidates per list", |setup, factor| {
        let most = &mut setup.settings.candidates_per_list;
        *most = times(*most as u64, factor) as usize;
    }),
    ("recent reads", |setup, factor| {
        // More than 20 are never looked at.
        let most = &mut setup.settings.recent_max;
        *most = times(*most as u64, factor).min(20) as usize;
    }),
    ("reads of a reader at once", |setup, factor| {
        let most = &mut setup.settings.burst_max;
        *most = times((*most).into(), factor) as u16;
    }),
    ("learning rate, linear", |setup, factor| setup.learner.linear_rate *= factor as f32),
    ("learning rate, hidden", |setup, factor| setup.learner.hidden_rate *= factor as f32),
];

fn times(value: u64, factor: f64) -> u64 {
    (value as f64 * factor) as u64
}

/// A table in Markdown.
pub(super) fn table(streams: &[Stream]) -> String {
    let mut head = "| constant | factor |".to_owned();
    let mut rule = "|---|---|".to_owned();
    for stream in streams {
        head.push_str(&format!(" {} |", stream.name));
        rule.push_str("---|");
    }
    let base: Vec<f64> = streams.iter().map(|stream| hit_rate(stream, &Setup::default())).collect();
    let rates = base.iter().map(|rate| format!(" {rate:.4} |"));
    let mut lines =
        vec![head, rule, format!("| all as they are | 1 |{}", rates.collect::<String>())];
    for (name, vary) in CONSTANTS {
        for factor in [0.5, 2.0] {
            tell(&format!("measuring: {name} × {factor}"));
            let mut setup = Setup::default();
            vary(&mut setup, factor);
            let mut line = format!("| {name} | {factor} |");
            for (stream, base) in streams.iter().zip(&base) {
                line.push_str(&format!(" {:+.4} |", hit_rate(stream, &setup) - base));
            }
            lines.push(line);
        }
    }
    lines.join("\n")
}

fn hit_rate(stream: &Stream, setup: &Setup) -> f64 {
    let setup = Setup { is_quick: true, ..setup.clone() };
    evaluate(stream, &setup, |_| {}).tallies[RANKER].hit_rate().value
}
