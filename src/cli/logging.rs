//! Logs: on standard error, readable on a terminal, JSON otherwise. And panics, as logs.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is put before every filter: the replica library informs of each of its timers.
const LIBRARIES: &str = "openraft=warn";

/// Starts to log what passes the filter, which was checked with the configuration.
pub(super) fn start(filter: &str) {
    // Of two directives for the same target the later one counts: the operator's.
    let filter = EnvFilter::try_new(format!("{LIBRARIES},{filter}")).unwrap_or_default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let stderr = std::io::stderr();
    // A second start, as tests in one process do, keeps the first.
    let _ = if stderr.is_terminal() {
        let has_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(has_color).with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    log_panics();
}

/// For commands that are not nodes: what an operator must know. The replica library tells of every
/// start and stop, and what really fails reaches an actor.
pub(super) fn start_quiet(config: &crate::config::Config) {
    let is_default = config.log == crate::config::Config::default().log;
    start(if is_default { "warn,openraft=off" } else { &config.log });
}

/// A panic of an actor is caught and repaired; the log must tell where it was.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("not a text");
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        tracing::error!(location, thread, message, "panic");
    }));
}
