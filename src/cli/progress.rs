//! How far a long piece of work is: a bar on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::tell;
use crate::seams::time;

/// Pause between plain lines: the first comes only when work takes longer than this.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Progress of a piece of work.
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Progress {
    /// Work of `total` steps, or bytes.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3}% {eta}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.with_message(what)
        });
        Self { what, total, bar, told: time::mark() }
    }

    /// So much is done.
    pub(super) fn set(&mut self, done: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.told.elapsed() >= LINE_EVERY => {
                self.told = time::mark();
                let percent = (done * 100).checked_div(self.total).unwrap_or(100);
                tell(&format!("{}: {percent} %", self.what));
            }
            None => {}
        }
    }

    /// Prints a line without disturbing the bar.
    pub(super) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(text)),
            None => tell(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
