//! The comparison as a picture.

use crate::cli::rec::prequential::{Evaluation, METHODS};
use crate::cli::rec::tally::Mean;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 140.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 66.0;
/// Height of a stream's title, of a method, and of a bar.
const TITLE: f64 = 52.0;
const ROW: f64 = 40.0;
const BAR: f64 = 13.0;
const BLUE: &str = "#2f6db5";
const ORANGE: &str = "#d98032";

/// Draws the hit rate and NDCG of each method, with 95 % intervals.
pub(super) fn draw(streams: &[(&str, &Evaluation)]) -> String {
    let height = TOP + streams.len() as f64 * (TITLE + METHODS.len() as f64 * ROW) + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\" \
         fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    svg.push_str(&text(
        20.0,
        28.0,
        "start",
        "font-size=\"17\"",
        "Ten recommendations: was the next read among them?",
    ));
    svg.push_str(&key(20.0, BLUE, "hit rate@10"));
    svg.push_str(&key(140.0, ORANGE, "NDCG@10"));
    svg.push_str(&text(245.0, 52.0, "start", "fill=\"#666\"", "whiskers: 95 % intervals"));
    let mut y = TOP;
    for (name, evaluation) in streams {
        let predictions = evaluation.tallies[0].predictions();
        let title = format!("{} ({predictions} predictions)", escaped(name));
        svg.push_str(&text(20.0, y + 26.0, "start", "font-weight=\"bold\"", &title));
        y += TITLE;
        svg.push_str(&grid(y, METHODS.len() as f64 * ROW));
        for (method, tally) in METHODS.iter().zip(&evaluation.tallies) {
            svg.push_str(&text(LEFT - 10.0, y + ROW / 2.0 + 4.0, "end", "", method));
            svg.push_str(&bar(y + ROW / 2.0 - BAR - 1.0, BLUE, tally.hit_rate()));
            svg.push_str(&bar(y + ROW / 2.0 + 1.0, ORANGE, tally.ndcg()));
            y += ROW;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn at(value: f64) -> f64 {
    LEFT + value.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn grid(y: f64, height: f64) -> String {
    let mut svg = String::new();
    for step in 0..=5 {
        let value = f64::from(step) / 5.0;
        let (x, end) = (at(value), y + height);
        svg.push_str(&format!(
            "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{end:.1}\" stroke=\"#ddd\"/>\n"
        ));
        let label = format!("{value:.1}");
        svg.push_str(&text(x, y - 4.0, "middle", "font-size=\"11\" fill=\"#666\"", &label));
    }
    svg
}

fn bar(y: f64, color: &str, mean: Mean) -> String {
    let (zero, end, middle) = (at(0.0), at(mean.value), y + BAR / 2.0);
    let (low, high) = (at(mean.value - mean.margin), at(mean.value + mean.margin));
    let width = end - zero;
    let label = format!("{:.3}", mean.value);
    format!(
        "<rect x=\"{zero:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\n\
         <path d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v6M{high:.1} {:.1}v6\" \
         stroke=\"#111\" fill=\"none\"/>\n{}",
        middle - 3.0,
        middle - 3.0,
        text(high + 6.0, y + BAR - 2.0, "start", "font-size=\"12\"", &label)
    )
}

fn key(x: f64, color: &str, label: &str) -> String {
    format!(
        "<rect x=\"{x}\" y=\"42\" width=\"12\" height=\"12\" fill=\"{color}\"/>\n{}",
        text(x + 18.0, 52.0, "start", "", label)
    )
}

fn text(x: f64, y: f64, anchor: &str, more: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{text}</text>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_names_every_method_and_quotes_the_stream() {
        let evaluation = Evaluation::default();
        let svg = draw(&[("a<b", &evaluation)]);
        assert!(METHODS.iter().all(|method| svg.contains(method)));
        assert!(svg.contains("a&lt;b") && svg.trim_end().ends_with("</svg>"));
    }
}
