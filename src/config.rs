//! Limits and deadlines, with units. What an operator may change is in [`Config`]; what would
//! break a promise when changed is a constant.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most commands in one log entry.
pub const BATCH_COMMANDS_MAX: usize = 1024;
/// Most bytes of commands in one log entry. A larger batch holds readers up during apply and gains
/// nothing: the sync is shared by enough commands already.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest time that a command may take from the edge to its reply; a command id is remembered for
/// as long.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// A stamp further ahead of the local clock is refused: somebody's clock is wrong.
pub const STAMP_AHEAD_MAX: Duration = Duration::from_secs(10);
/// A claim older than this may be taken over, after it was settled with its owner. Far longer than
/// the command deadline and the largest accepted clock difference together.
pub const CLAIM_EXPIRY: Duration = Duration::from_secs(60);
/// Largest offset of a list; deeper pages are for cursors.
pub const OFFSET_MAX: usize = 10_000;
/// Largest page of a list.
pub const PAGE_MAX: usize = 100;
/// Most tags in one answer.
pub const TAGS_PAGE_MAX: usize = 10_000;
/// Calls that may wait in or before one shard's mailbox.
pub const SHARD_PERMITS: usize = 4096;

/// How long the outcome of a command with an idempotency key is kept.
pub const KEY_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Most idempotency keys of one user in one shard; the oldest go first.
pub const KEYS_PER_OWNER_MAX: u32 = 1_000;
/// Most bytes that they take.
pub const KEYS_BYTES_PER_OWNER_MAX: u64 = 512 * 1024;

const _: () = assert!(
    CLAIM_EXPIRY.as_secs() > COMMAND_DEADLINE.as_secs() + STAMP_AHEAD_MAX.as_secs(),
    "a late creation must be refused before its claim can be taken over"
);
const _: () = assert!(
    BATCH_BYTES_MAX * 2 < crate::store::codec::DECODE_BYTES_MAX,
    "a batch must be decodable"
);

/// What an operator may set: by flag, then `QUIRE_<KEY>`, then the TOML file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything durable is.
    pub data_dir: PathBuf,
    /// Address of the API.
    pub listen: SocketAddr,
    /// Address of the operations listener. It shows the inside: keep it private.
    pub ops_listen: SocketAddr,
    /// Shards per service in a new data directory; an existing one keeps its own. 1–64.
    pub shards: u16,
    /// Requests in progress at a time; more are refused with 503. 1–65,536.
    pub requests_max: usize,
    /// Open connections at a time; more wait in the kernel's queue. 1–65,536.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request, in milliseconds.
    pub header_timeout_ms: u64,
    /// How long a client may take to send a body, in milliseconds.
    pub body_timeout_ms: u64,
    /// How long a request may take in all, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long what is in flight may take to finish when the node stops, in milliseconds.
    pub shutdown_timeout_ms: u64,
    /// Unwritten state of a shard, in bytes, at which a checkpoint is written. 0: chosen when the node starts, half as
    /// much again as the page cache of the shard's file, at least 32 MiB and at most 64 MiB; of recommendations 16.
    pub checkpoint_bytes: usize,
    /// Age of unwritten state, in seconds, at which a checkpoint is written.
    pub checkpoint_age_s: u64,
    /// Page cache of each shard file, in bytes. 0: chosen when the node starts, a 128th of the file, at
    /// least 4 MiB, and at most 512 MiB for all shards of a service. Files that are read only when an actor
    /// starts get 4 MiB.
    pub cache_bytes: usize,
    /// How long a token is valid, in days.
    pub token_days: u32,
    /// Times that signing in may fail in a quarter of an hour: so often for an account, three times
    /// as often for the address of a client. 0: any number.
    pub signin_failures_max: u32,
    /// Requests to `/v1`, and writes to `/api`, that a user may make in a minute. 0: any number.
    pub user_requests_max: u32,
    /// The same of an address that is nobody's. Behind a proxy, which is one address for everybody,
    /// let the proxy count and set this to 0: any number.
    pub anonymous_requests_max: u32,
    /// Threads that hash passwords.
    pub password_threads: usize,
    /// TOML file with experiments, which are set when the node starts; empty: those that were set
    /// last go on.
    pub experiments: PathBuf,
    /// Filter of the log, as `level` or `target=level,…`.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "quire-data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ops_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            shards: 1,
            requests_max: 1024,
            connections_max: 4096,
            header_timeout_ms: 10_000,
            body_timeout_ms: 10_000,
            request_timeout_ms: 15_000,
            shutdown_timeout_ms: 10_000,
            checkpoint_bytes: 0,
            checkpoint_age_s: 60,
            cache_bytes: 0,
            token_days: 30,
            signin_failures_max: 10,
            user_requests_max: 600,
            anonymous_requests_max: 120,
            password_threads: 2,
            experiments: PathBuf::new(),
            log: "info".into(),
        }
    }
}

/// Why a configuration is refused; one line that names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file `{path}`: {detail}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// Some key or value is wrong.
    #[error("configuration: {0}")]
    Value(String),
}

/// Overrides in the order of their weight: the last wins.
#[derive(Debug, Default)]
pub struct Sources {
    /// TOML file.
    pub file: Option<PathBuf>,
    /// `QUIRE_<KEY>` variables, already without prefix and in lower case.
    pub variables: Vec<(String, String)>,
    /// Flags, by key.
    pub flags: Vec<(&'static str, String)>,
}

/// Variables that begin with `QUIRE_` but are not configuration: they steer tests.
const NOT_CONFIGURATION: &[&str] = &[
    "crash_rounds",
    "overload_seconds",
    "power_cuts",
    "recovery_posts",
    "relay_events",
    "seed",
    "simulations",
    "update_docs",
];

impl Sources {
    /// The `QUIRE_*` variables of this process.
    ///
    /// # Errors
    /// When one of them is not UTF-8. Those of others may be what they like.
    pub fn variables_of_process() -> Result<Vec<(String, String)>, ConfigError> {
        variables(std::env::vars_os())
    }
}

fn variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut ours = Vec::new();
    for (name, value) in all {
        let Some(key) = name.as_encoded_bytes().strip_prefix(b"QUIRE_") else { continue };
        let key = String::from_utf8_lossy(key).to_ascii_lowercase();
        if NOT_CONFIGURATION.contains(&key.as_str()) {
            continue;
        }
        let Ok(value) = value.into_string() else {
            let name = name.to_string_lossy();
            return Err(ConfigError::Value(format!("the value of `{name}` is not UTF-8")));
        };
        // A key that is not UTF-8 is no known key, which will be told.
        ours.push((key, value));
    }
    Ok(ours)
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// For unknown keys, wrong types and values out of range; names the key.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut table = match &sources.file {
            Some(path) => read_file(path)?,
            None => toml::Table::new(),
        };
        let defaults = toml::Table::try_from(Self::default())
            .expect("the default configuration is representable");
        let flags = sources.flags.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        for (key, text) in sources.variables.iter().cloned().chain(flags) {
            let Some(default) = defaults.get(&key) else {
                let variable = key.to_ascii_uppercase();
                return Err(ConfigError::Value(format!("`QUIRE_{variable}` is not a known key")));
            };
            let value = match default {
                toml::Value::Integer(_) => toml::Value::Integer(text.parse().map_err(|_| {
                    ConfigError::Value(format!("`{key}` must be a number, not `{text}`"))
                })?),
                _ => toml::Value::String(text),
            };
            table.insert(key, value);
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            ConfigError::Value(error.message().replace('\n', " "))
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let day_ms = 24 * 60 * 60 * 1000;
        in_range("shards", u64::from(self.shards), 1, 64)?;
        in_range("requests_max", self.requests_max as u64, 1, 65_536)?;
        in_range("connections_max", self.connections_max as u64, 1, 65_536)?;
        in_range("header_timeout_ms", self.header_timeout_ms, 1, day_ms)?;
        in_range("body_timeout_ms", self.body_timeout_ms, 1, day_ms)?;
        in_range("request_timeout_ms", self.request_timeout_ms, 1, day_ms)?;
        in_range("shutdown_timeout_ms", self.shutdown_timeout_ms, 0, day_ms)?;
        if self.checkpoint_bytes != 0 {
            let bytes = self.checkpoint_bytes as u64;
            in_range("checkpoint_bytes, if not 0,", bytes, 64 * 1024, 1 << 32)?;
        }
        in_range("checkpoint_age_s", self.checkpoint_age_s, 1, 24 * 60 * 60)?;
        if self.cache_bytes != 0 {
            in_range("cache_bytes, if not 0,", self.cache_bytes as u64, 1024 * 1024, 1 << 40)?;
        }
        in_range("token_days", u64::from(self.token_days), 1, 3_650)?;
        in_range("signin_failures_max", u64::from(self.signin_failures_max), 0, 1_000_000)?;
        in_range("user_requests_max", u64::from(self.user_requests_max), 0, 1_000_000_000)?;
        let anonymous = u64::from(self.anonymous_requests_max);
        in_range("anonymous_requests_max", anonymous, 0, 1_000_000_000)?;
        in_range("password_threads", self.password_threads as u64, 1, 64)?;
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log) {
            return Err(ConfigError::Value(format!("`log` is not a filter: {error}")));
        }
        Ok(())
    }

    /// The whole configuration as TOML. It holds no secrets.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("the configuration is representable")
    }
}

fn in_range(key: &str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Value(format!("`{key}` must be from {min} to {max}, not {value}")))
}

fn read_file(path: &Path) -> Result<toml::Table, ConfigError> {
    let failed = |detail: String| ConfigError::File { path: path.into(), detail };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    text.parse::<toml::Table>().map_err(|error| failed(error.message().replace('\n', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(
        file: &str,
        variables: &[(&str, &str)],
        flags: &[(&'static str, &str)],
    ) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quire.toml");
        std::fs::write(&path, file).unwrap();
        let variables = variables.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let flags = flags.iter().map(|(k, v)| (*k, (*v).into())).collect();
        Config::load(&Sources { file: Some(path), variables, flags })
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
        let config = load(
            "shards = 2\nrequests_max = 5\ntoken_days = 3",
            &[("requests_max", "6"), ("token_days", "4")],
            &[("token_days", "5")],
        )
        .unwrap();
        assert_eq!((config.shards, config.requests_max, config.token_days), (2, 6, 5));
        assert_eq!(config.listen, Config::default().listen);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (file, variables, named) in [
            ("shard = 2", vec![], "shard"),
            ("shards = 0", vec![], "shards"),
            ("shards = \"two\"", vec![], "string"),
            ("listen = \"nowhere\"", vec![], "socket address"),
            ("", vec![("shards", "x")], "shards"),
            ("", vec![("shrads", "1")], "QUIRE_SHRADS"),
            ("log = \"=[\"", vec![], "log"),
            ("cache_bytes = 5", vec![], "cache_bytes, if not 0,"),
            ("a = = b", vec![], "quire.toml"),
        ] {
            let error = load(file, &variables, &[]).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains('\n'), "{file}: {error}");
        }
    }

    #[test]
    fn variables_that_are_not_text_matter_only_when_they_are_ours() {
        use std::os::unix::ffi::OsStringExt;
        let bad = || OsString::from_vec(vec![b'a', 0xff]);
        let of = |name: OsString, value| variables([(name, value)].into_iter());
        assert_eq!(of("PATH".into(), bad()), Ok(vec![]));
        assert_eq!(of(bad(), bad()), Ok(vec![]));
        assert_eq!(of("QUIRE_SEED".into(), bad()), Ok(vec![]));
        assert_eq!(of("QUIRE_LOG".into(), "x".into()), Ok(vec![("log".into(), "x".into())]));
        let error = of("QUIRE_LOG".into(), bad()).unwrap_err();
        assert!(error.to_string().contains("`QUIRE_LOG`"), "{error}");
    }

    #[test]
    fn every_key_and_its_default_is_documented() {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
        let document = std::fs::read_to_string(document).unwrap();
        for (key, value) in toml::Table::try_from(Config::default()).unwrap() {
            let row = format!("\n| `{key}` | `{value}` |");
            assert!(document.contains(&row), "no row {row}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        let shown = Config::default().to_toml();
        assert_eq!(load(&shown, &[], &[]).unwrap(), Config::default());
    }
}
