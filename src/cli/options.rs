//! Options that several commands share.

use std::path::PathBuf;

use clap::Args;

use crate::cli::failure::Failure;
use crate::config::{Config, Sources};

/// Where the configuration comes from.
#[derive(Debug, Default, Args)]
pub(super) struct ConfigFile {
    /// TOML file with configuration keys
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// Where the data is.
#[derive(Debug, Default, Args)]
pub(super) struct DataOptions {
    /// Where everything durable is [default: quire-data]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<String>,
    #[command(flatten)]
    pub(super) file: ConfigFile,
}

impl DataOptions {
    /// The configuration with these options.
    pub(super) fn load(self) -> Result<Config, Failure> {
        let flags = self.data_dir.map(|dir| ("data_dir", dir)).into_iter().collect();
        load(self.file, flags)
    }
}

/// Every key of the configuration as a flag.
#[derive(Debug, Default, Args)]
pub(super) struct NodeOptions {
    #[command(flatten)]
    data: DataOptions,
    /// Address of the API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<String>,
    /// Address of the operations listener; keep it private [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR")]
    pub(super) ops_listen: Option<String>,
    /// Shards per service of a new data directory [default: 1]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Requests in progress at a time
    #[arg(long, value_name = "N", hide_short_help = true)]
    requests_max: Option<String>,
    /// Open connections at a time
    #[arg(long, value_name = "N", hide_short_help = true)]
    connections_max: Option<String>,
    /// Time for the head of a request
    #[arg(long, value_name = "MS", hide_short_help = true)]
    header_timeout_ms: Option<String>,
    /// Time for the body of a request
    #[arg(long, value_name = "MS", hide_short_help = true)]
    body_timeout_ms: Option<String>,
    /// Time for a whole request
    #[arg(long, value_name = "MS", hide_short_help = true)]
    request_timeout_ms: Option<String>,
    /// Time for what is in flight when the node stops
    #[arg(long, value_name = "MS", hide_short_help = true)]
    shutdown_timeout_ms: Option<String>,
    /// Unwritten bytes of a shard at which a checkpoint is written; 0: chosen at the start, by the length of its file
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    checkpoint_bytes: Option<String>,
    /// Age of unwritten state at which a checkpoint is written
    #[arg(long, value_name = "SECONDS", hide_short_help = true)]
    checkpoint_age_s: Option<String>,
    /// Page cache of each shard file; 0: chosen at the start, by its length
    #[arg(long, value_name = "BYTES", hide_short_help = true)]
    cache_bytes: Option<String>,
    /// How long a token is valid
    #[arg(long, value_name = "DAYS", hide_short_help = true)]
    token_days: Option<String>,
    /// Failed sign-ins of an account in 15 minutes; 0: any number
    #[arg(long, value_name = "N", hide_short_help = true)]
    signin_failures_max: Option<String>,
    /// Requests to `/v1`, and writes to `/api`, that a user may make in a minute; 0: any number
    #[arg(long, value_name = "N", hide_short_help = true)]
    user_requests_max: Option<String>,
    /// The same of an address that is nobody's
    #[arg(long, value_name = "N", hide_short_help = true)]
    anonymous_requests_max: Option<String>,
    /// Threads that hash passwords
    #[arg(long, value_name = "N", hide_short_help = true)]
    password_threads: Option<String>,
    /// TOML file with experiments to set at the start
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    experiments: Option<String>,
    /// Filter of the log, as `level` or `target=level,…` [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl NodeOptions {
    /// Whether the data directory is given as a flag.
    pub(super) fn data_dir(&self) -> Option<&str> {
        self.data.data_dir.as_deref()
    }

    /// The same with another data directory.
    pub(super) fn in_data_dir(mut self, data_dir: String) -> Self {
        self.data.data_dir = Some(data_dir);
        self
    }

    /// The configuration with these options.
    pub(super) fn load(self) -> Result<Config, Failure> {
        let flags = [
            ("data_dir", self.data.data_dir),
            ("listen", self.listen),
            ("ops_listen", self.ops_listen),
            ("shards", self.shards),
            ("requests_max", self.requests_max),
            ("connections_max", self.connections_max),
            ("header_timeout_ms", self.header_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("request_timeout_ms", self.request_timeout_ms),
            ("shutdown_timeout_ms", self.shutdown_timeout_ms),
            ("checkpoint_bytes", self.checkpoint_bytes),
            ("checkpoint_age_s", self.checkpoint_age_s),
            ("cache_bytes", self.cache_bytes),
            ("token_days", self.token_days),
            ("signin_failures_max", self.signin_failures_max),
            ("user_requests_max", self.user_requests_max),
            ("anonymous_requests_max", self.anonymous_requests_max),
            ("password_threads", self.password_threads),
            ("experiments", self.experiments),
            ("log", self.log),
        ];
        let flags = flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        load(self.data.file, flags)
    }
}

/// The configuration of flags, variables and file.
pub(super) fn load(
    file: ConfigFile,
    flags: Vec<(&'static str, String)>,
) -> Result<Config, Failure> {
    let variables = Sources::variables_of_process()?;
    Ok(Config::load(&Sources { file: file.config, variables, flags })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        node: NodeOptions,
    }

    #[test]
    fn every_key_of_the_configuration_is_a_flag() {
        let keys = Config::default().to_toml();
        let keys = keys.lines().filter_map(|line| line.split_once(" = "));
        let mut line = vec!["quire".to_owned()];
        for (key, value) in keys {
            line.push(format!("--{}={}", key.replace('_', "-"), value.trim_matches('"')));
        }
        let parsed = Line::try_parse_from(&line).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.node.load().unwrap(), Config::default());
        let wrong = Line::try_parse_from(["quire", "--shards=many"]).unwrap();
        assert!(wrong.node.load().is_err());
    }
}
