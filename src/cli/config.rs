//! `quire config`: what the configuration is, and whether it is right.

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;
use crate::cli::options::{ConfigFile, load};

/// Options of `quire config`.
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether file and variables are right
    Check(ConfigFile),
    /// Print the whole configuration as TOML, defaults included
    Show(ConfigFile),
}

impl Config {
    pub(super) fn run(self) -> Result<(), Failure> {
        use std::io::Write;
        let text = match self.action {
            Action::Check(file) => {
                load(file, Vec::new())?;
                "the configuration is right\n".to_owned()
            }
            Action::Show(file) => load(file, Vec::new())?.to_toml(),
        };
        std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| Failure::runtime(format!("standard output: {error}")))
    }
}
