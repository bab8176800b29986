//! Tables in Markdown, ready for the README.

use crate::load::Outcome;

/// The medians of some runs.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Requests per second, whatever is mixed in included.
    pub rate: f64,
    /// Of the measured operation, in milliseconds.
    pub p50_ms: f64,
    /// Of the measured operation, in milliseconds.
    pub p99_ms: f64,
    /// Of the measured operation, in milliseconds.
    pub p999_ms: f64,
    /// CPU time of the server per request, in microseconds.
    pub cpu_us: f64,
}

impl Figures {
    /// The median of each figure by itself.
    pub fn medians(outcomes: &[Outcome]) -> Self {
        let of = |figure: fn(&Outcome) -> f64| median(outcomes.iter().map(figure));
        Self {
            rate: of(Outcome::rate),
            p50_ms: of(|outcome| outcome.measured.quantile_ms(0.5)),
            p99_ms: of(|outcome| outcome.measured.quantile_ms(0.99)),
            p999_ms: of(|outcome| outcome.measured.quantile_ms(0.999)),
            cpu_us: of(Outcome::cpu_us),
        }
    }
}

/// The median of the ratios of runs that came one after the other: whatever makes the whole machine slower for
/// a while then meets both.
pub fn paired(
    own: &[Outcome],
    other: &[Outcome],
    ratio: impl Fn(&Figures, &Figures) -> f64,
) -> f64 {
    let figures = |outcome| Figures::medians(std::slice::from_ref(outcome));
    median(own.iter().zip(other).map(|(own, other)| ratio(&figures(own), &figures(other))))
}

/// The middle value; of an even number of them the higher of the two.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The head of the main table.
pub fn head() {
    println!();
    println!(
        "| operation | connections | server | requests/s | p50 ms | p99 ms | CPU µs | ratio | bar | with commits | and own bytes |"
    );
    println!("|---|--:|---|--:|--:|--:|--:|--:|---|--:|--:|");
}

/// A ratio and the least that it should be.
#[derive(Debug, Clone)]
pub struct Ratio {
    /// What it is.
    pub value: f64,
    /// What it should be at least, if anything is asked.
    pub bar: Option<f64>,
    /// The same to limits that do more of what is done: the writes among the requests, and then sending to each
    /// request bytes of its own.
    pub to_others: [Option<f64>; 2],
}

/// One row of the main table.
pub fn row(
    operation: &str,
    connections: usize,
    server: &str,
    figures: &Figures,
    ratio: Option<Ratio>,
) {
    let Figures { rate, p50_ms, p99_ms, cpu_us, .. } = figures;
    let cells = ratio.map(|Ratio { value, bar, to_others }| {
        let bar = bar.map(|bar| format!("≥ {bar:.2}: {}", verdict(value >= bar)));
        let [commits, bytes] = to_others.map(|value| value.map(|value| format!("{value:.2}")));
        [Some(format!("{value:.2}")), bar, commits, bytes].map(Option::unwrap_or_default)
    });
    let [ratio, bar, commits, bytes] = cells.unwrap_or_default();
    println!(
        "| {operation} | {connections} | {server} | {rate:.0} | {p50_ms:.2} | {p99_ms:.2} | {cpu_us:.1} | {ratio} | {bar} | {commits} | {bytes} |"
    );
}

/// Whether a bar is reached.
pub fn verdict(reached: bool) -> &'static str {
    if reached { "yes" } else { "**no**" }
}
