//! The program: one file per command.
//!
//! A command ends with an exit code (see [`failure`]) and, if that is not 0, one line on standard
//! error that says what to do. What a command is asked for goes to standard output, everything else
//! (logs, progress, reports) to standard error.

mod client;
mod config;
mod data;
mod demo;
mod export;
pub mod failure;
mod import;
mod logging;
mod options;
mod output;
mod progress;
mod rebuild;
mod rec;
mod serve;
mod signals;
mod token;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// The back end of a publishing platform.
#[derive(Debug, Parser)]
#[command(name = "quire", version, about, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 fine, 1 runtime, 2 usage or configuration, 3 data damaged, \
    locked, read-only, full or newer than the program, 4 cannot bind.\n\
    Every configuration key can also be a QUIRE_<KEY> variable or stand in the file of --config; \
    QUIRE_LOG filters the log.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node: the API and the operations listener
    Serve(serve::Serve),
    /// Run a node full of generated content, for a look around
    Demo(demo::Demo),
    /// Import users, posts and what belongs to them
    Import(import::Import),
    /// Write everything to standard output, to be imported again
    Export(export::Export),
    /// Print a token of a user, for scripts
    Token(token::Token),
    /// Check or show the configuration
    Config(config::Config),
    /// Measure recommendations
    Rec(rec::Rec),
    /// Make what a service derived from others anew, while the old copy serves
    Rebuild(rebuild::Rebuild),
    /// Show the supervision tree of a running node
    Tree(tree::Tree),
}

/// Reads the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return Failure::of_usage(&error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::runtime(format!("no runtime: {error}")).report(),
    };
    let outcome = runtime.block_on(run(cli.command));
    // Reading a file may hang for ever (a pipe, a dead disk): nobody waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The runtime of the program, in a process that is set up for it. With one core, a second worker
/// would only take turns with the first.
///
/// # Errors
/// When the system gives no threads or no descriptors.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    crate::memory::spare_huge_pages();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match cores {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve.run().await,
        Command::Demo(demo) => demo.run().await,
        Command::Import(import) => import.run().await,
        Command::Export(export) => export.run().await,
        Command::Token(token) => token.run().await,
        Command::Config(config) => config.run(),
        Command::Rec(rec) => rec.run().await,
        Command::Rebuild(rebuild) => rebuild.run().await,
        Command::Tree(tree) => tree.run().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
