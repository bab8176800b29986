//! Bodies as HTML: CommonMark with tables, strikethrough and bare links; raw HTML is shown as the
//! text that it is, and links lead nowhere but to pages, pictures and mail.
//!
//! The cost is in the client's hands, so it is bounded: bodies are, so is what comes of them, and
//! what is more than a moment's work is done beside the threads that serve everybody, a few at a
//! time.

use std::fmt;

use comrak::{Arena, Options, format_html, parse_document};
use tokio::sync::Semaphore;

use crate::actors::post::message::Body;
use crate::error::ErrorCode;
use crate::http::error::{Answered, Failure};
use crate::seams::{tasks, time};

/// Moves whenever the same text gives other HTML: it is part of the entity tags.
pub const RENDERING: u8 = 2;
/// A body up to here is rendered at once: a fraction of a millisecond, and two at the worst.
const AT_ONCE_BYTES: usize = 8 * 1024;
/// Large bodies that are rendered at the same time.
const AT_A_TIME: usize = 2;
/// How long a large body waits for its turn.
const WAIT: std::time::Duration = std::time::Duration::from_secs(2);
/// Cells that tables may need beside those that are written: short rows are filled up to the width of
/// their table, so that a thousand columns make a row of two bytes cost as much as one of kilobytes.
/// So many take a millisecond, as does a table of [`AT_ONCE_BYTES`] that is all written out; tables that
/// people write need hardly any.
const PADDED_CELLS_MAX: usize = 10_000;
/// Largest HTML of a body: many times what prose gives, so that it only meets who aims for it.
const HTML_BYTES_MAX: usize = 2 * 1024 * 1024;

static PLACES: Semaphore = Semaphore::const_new(AT_A_TIME);

/// The text of a body, and the same as HTML. Who waits holds neither.
///
/// # Errors
/// 503 when too many large ones are being rendered; 500 for what cannot be shown as HTML.
pub async fn html(body: &Body) -> Answered<(String, String)> {
    if body.json().len() <= AT_ONCE_BYTES {
        return rendered(body);
    }
    let place = time::timeout(WAIT, PLACES.acquire()).await;
    let Ok(Ok(_place)) = place else { return Err(Failure::new(ErrorCode::Overloaded)) };
    let body = body.clone();
    let rendered = tasks::blocking(move || rendered(&body)).await;
    rendered.map_err(|error| Failure::internal(format!("a body was not rendered: {error}")))?
}

fn rendered(body: &Body) -> Answered<(String, String)> {
    let text = body.text().ok_or_else(|| Failure::internal("a body is no text"))?;
    let html = render(&text);
    Ok((text, html))
}

fn render(text: &str) -> String {
    let mut options = Options::default();
    options.extension.strikethrough = true;
    options.extension.table = padded_cells(text) <= PADDED_CELLS_MAX;
    options.extension.autolink = true;
    options.render.escape = true;
    let arena = Arena::new();
    let document = parse_document(&arena, text, &options);
    let mut html = Bounded(String::with_capacity(text.len() + text.len() / 4));
    match format_html(document, &options, &mut html) {
        Ok(()) => html.0,
        Err(fmt::Error) => "<p>This text is too large to be shown.</p>\n".to_owned(),
    }
}

/// How many cells short rows would be filled up with, at most: as if every stretch of lines were a
/// table as wide as its widest line. No table goes on beyond a blank line.
fn padded_cells(text: &str) -> usize {
    let (mut cells, mut rows, mut written, mut widest) = (0_usize, 0, 0, 0);
    let lines =
        text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'));
    for line in lines.chain([""]) {
        if line.bytes().all(|byte| matches!(byte, b' ' | b'\t')) {
            cells += rows * widest - written;
            (rows, written, widest) = (0, 0, 0);
            continue;
        }
        let pipes = line.bytes().filter(|byte| *byte == b'|').count();
        (rows, written, widest) = (rows + 1, written + pipes, widest.max(pipes));
    }
    cells
}

/// Text that does not grow past [`HTML_BYTES_MAX`].
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.0.len() + more.len() > HTML_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(more);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::http::fields::BODY_MAX;

    #[test]
    fn markdown_becomes_html_and_html_stays_text() {
        for (text, expected) in [
            ("# A *b*", "<h1>A <em>b</em></h1>\n"),
            (
                "~~a~~ https://a.example",
                "<p><del>a</del> <a href=\"https://a.example\">https://a.example</a></p>\n",
            ),
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;\n"),
            (
                "a <b onclick=\"x()\">b</b>",
                "<p>a &lt;b onclick=&quot;x()&quot;&gt;b&lt;/b&gt;</p>\n",
            ),
            ("[a](javascript:alert(1))", "<p><a href=\"\">a</a></p>\n"),
            ("[a](JaVaScRiPt:alert(1))", "<p><a href=\"\">a</a></p>\n"),
            ("![a](data:text/html,x)", "<p><img src=\"\" alt=\"a\" /></p>\n"),
            ("<javascript:alert(1)>", "<p><a href=\"\">javascript:alert(1)</a></p>\n"),
        ] {
            assert_eq!(render(text), expected, "{text}");
        }
    }

    #[test]
    fn no_text_makes_it_slow_or_large() {
        let of = |part: &str| part.repeat(BODY_MAX / part.len());
        let table =
            format!("{}\n{}\n{}", "|a".repeat(9_000), "|-".repeat(9_000), "|\n".repeat(90_000));
        let hard = [
            "> ", ">", "- ", "* a\n ", "[", "![", "[a](", "*a_ ", "**a *", "`", "` `` ", "<!--",
            "<a ", "&#x", "\\", "a@", "http://a", "~~a ~", "[a]: b\n", "|", "1. ", "\t", "a**b",
            "]", "_a__b",
        ];
        for text in hard.map(of).iter().chain([&table]) {
            let began = Instant::now();
            let html = render(text);
            let start: String = text.chars().take(20).collect();
            assert!(html.len() <= HTML_BYTES_MAX, "{start:?}");
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{start:?} took {:?}",
                began.elapsed()
            );
        }
    }

    #[test]
    fn short_rows_do_not_make_a_small_body_much_work() {
        let table = |columns: usize, row: &str, rows: usize| {
            let (head, line) = ("|a".repeat(columns), "|-".repeat(columns));
            format!("{head}|\n{line}|\n{}", row.repeat(rows))
        };
        let ends = table(1_000, "a\n", 500);
        for text in [
            ends.clone(),
            table(1_000, "|a\n", 500),
            table(60, "a\n", 4_000),
            table(99, "a\n", 100).repeat(30),
            ends.lines().map(|line| format!("> {line}\n")).collect(),
            ends.replace('\n', "\r\n"),
            ends.replace('\n', "\r"),
            format!("x\n{ends}"),
            (0..30).map(|_| format!("\n{}", table(99, "a\n", 90))).collect(),
        ] {
            let cells = render(&text).matches("<td").count();
            assert!(
                cells <= PADDED_CELLS_MAX + text.len(),
                "{cells} cells of {} bytes",
                text.len()
            );
        }
        // What people write is a table, however long, and rows may be short.
        for text in [table(5, "|a|b|c|d|e|\n", 5_000), table(8, "a|b\n", 1_000)] {
            assert!(render(&text).starts_with("<table>"), "{} bytes", text.len());
        }
    }

    #[tokio::test]
    async fn a_large_body_is_rendered_beside_the_others() {
        let large = "a *b* ".repeat(AT_ONCE_BYTES);
        let (text, html) = html(&Body::of_text(&large)).await.unwrap();
        assert!(html.contains("<em>b</em>") && html.len() > large.len());
        assert_eq!(text, large);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn no_text_brings_a_tag_or_a_script(
            text in "(<script>|</p>|<img onerror=|javascript:|\\[|\\]|\\(|\\)|!|\"|'|`|\\*|\\PC|\n){0,40}"
        ) {
            let html = render(&text).to_lowercase();
            prop_assert!(!html.contains("<script"));
            prop_assert!(!html.contains("<img onerror"));
            prop_assert!(!html.contains("href=\"javascript:") && !html.contains("src=\"javascript:"));
        }
    }
}
