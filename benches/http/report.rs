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

/// The median of how runs compare that came one after the other: whatever makes the whole machine slower for
/// a while then meets both.
pub fn paired(
    own: &[Outcome],
    other: &[Outcome],
    compare: impl Fn(&Figures, &Figures) -> f64,
) -> f64 {
    let figures = |outcome| Figures::medians(std::slice::from_ref(outcome));
    median(own.iter().zip(other).map(|(own, other)| compare(&figures(own), &figures(other))))
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
        "| operation | connections | server | requests/s | p50 ms | p99 ms | CPU µs | ratio | bar | with commits | from memory |"
    );
    println!("|---|--:|---|--:|--:|--:|--:|--:|---|--:|--:|");
}

/// A ratio and the least that it should be.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    /// What it is.
    pub value: f64,
    /// What it should be at least, if anything is asked.
    pub bar: Option<f64>,
    /// The same to a limit that does the writes among the requests, if there is one.
    pub with_commits: Option<f64>,
    /// The same to one that does them and sends what Quire sends, from memory.
    pub from_memory: Option<f64>,
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
    let shown = |value: Option<f64>| value.map(|value| format!("{value:.2}")).unwrap_or_default();
    let cells = ratio.map(|Ratio { value, bar, with_commits, from_memory }| {
        let bar = bar.map(|bar| format!("≥ {bar:.2}: {}", verdict(value >= bar)));
        [shown(Some(value)), bar.unwrap_or_default(), shown(with_commits), shown(from_memory)]
    });
    let [ratio, bar, with_commits, from_memory] = cells.unwrap_or_default();
    println!(
        "| {operation} | {connections} | {server} | {rate:.0} | {p50_ms:.2} | {p99_ms:.2} | {cpu_us:.1} | {ratio} | {bar} | {with_commits} | {from_memory} |"
    );
}

/// Whether a bar is reached.
pub fn verdict(reached: bool) -> &'static str {
    if reached { "yes" } else { "**no**" }
}
