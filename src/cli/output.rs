//! Lines for people. A closed pipe is no reason to panic: who does not listen is told nothing.

use std::io::Write;

/// A line on standard output: what the command was asked for.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A line on standard error: everything else.
pub(super) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
