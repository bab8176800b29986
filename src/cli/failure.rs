//! How a command fails: an exit code, and one line that says what to do.

use std::process::ExitCode;

use crate::cli::output::tell;
use crate::config::ConfigError;
use crate::node::NodeError;
use crate::store::error::StoreError;

/// Something went wrong while it ran.
pub const RUNTIME: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// The data is damaged, locked, read-only, or newer than the program, or there is no room for it.
pub const DATA: u8 = 3;
/// An address cannot be bound.
pub const BIND: u8 = 4;

/// Why a command fails.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    line: String,
}

impl Failure {
    /// Something went wrong while it ran.
    pub fn runtime(line: impl Into<String>) -> Self {
        Self { code: RUNTIME, line: line.into() }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(line: impl Into<String>) -> Self {
        Self { code: USAGE, line: line.into() }
    }

    /// What it says.
    pub fn into_line(self) -> String {
        let mut line = one_line(&self.line);
        line.push('\n');
        line
    }

    /// Prints the line.
    pub fn report(self) -> ExitCode {
        tell(&format!("quire: {}", one_line(&self.line)));
        ExitCode::from(self.code)
    }

    /// Prints what the reading of the command line gave instead of a command: help, a version, or
    /// what is wrong.
    pub fn of_usage(error: &clap::Error) -> ExitCode {
        use clap::error::ErrorKind;
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // A closed pipe is not worth a word.
                let _ = error.print();
                ExitCode::SUCCESS
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = error.print();
                ExitCode::from(USAGE)
            }
            _ => {
                let text = error.render().to_string();
                let text = text.split("\n\n").next().unwrap_or_default();
                let text = text.strip_prefix("error: ").unwrap_or(text);
                Self::usage(format!("{text}: see --help")).report()
            }
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let line = error.to_string();
        match error {
            StoreError::Locked { .. }
            | StoreError::Newer { .. }
            | StoreError::Damaged { .. }
            | StoreError::ReadOnly { .. } => Self { code: DATA, line },
            StoreError::Full => {
                Self { code: DATA, line: format!("{line}: make room and start again") }
            }
            StoreError::Io(_) | StoreError::Fenced | StoreError::Stopped => {
                Self::runtime(format!("{line}: look at the disk and the log, and start again"))
            }
        }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let line = error.to_string();
        match error {
            NodeError::Store(error) => error.into(),
            NodeError::Bind { .. } => Self { code: BIND, line },
            NodeError::Start(_) | NodeError::GaveUp(_) | NodeError::System(_) => {
                Self::runtime(format!("{line}: see the log, and start again"))
            }
        }
    }
}

/// The text without line ends or other control characters: it may quote a file.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_code() {
        let path = std::path::PathBuf::from("d");
        let of = |error: StoreError| Failure::from(NodeError::from(error)).code;
        assert_eq!(of(StoreError::Locked { path: path.clone() }), DATA);
        assert_eq!(of(StoreError::Newer { path: path.clone(), found: 2, known: 1 }), DATA);
        assert_eq!(of(StoreError::Damaged { path: path.clone(), detail: String::new() }), DATA);
        assert_eq!(of(StoreError::ReadOnly { path }), DATA);
        assert_eq!(of(StoreError::Full), DATA);
        assert_eq!(Failure::from(ConfigError::Value("x".into())).code, USAGE);
        let address = ([127, 0, 0, 1], 1).into();
        let error = std::io::ErrorKind::AddrInUse.into();
        assert_eq!(Failure::from(NodeError::Bind { address, error }).code, BIND);
    }

    #[test]
    fn a_report_is_one_line() {
        assert_eq!(one_line("a\n  b\tc\u{1b}[31m"), "a b c\u{fffd}[31m");
    }
}
