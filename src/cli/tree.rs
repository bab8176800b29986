//! `quire tree`: the supervision tree of a running node, drawn in plain text.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::cli::client::OpsClient;
use crate::cli::failure::{Failure, one_line};
use crate::cli::options::DataOptions;
use crate::cli::signals::Signals;
use crate::node::data_dir::ops_address;
use crate::seams::time;

const EVERY: Duration = Duration::from_secs(1);
/// Moves to the upper left corner and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Options of `quire tree`.
#[derive(Debug, Args)]
pub(super) struct Tree {
    /// Address of the operations listener [default: as the data directory says]
    #[arg(long, value_name = "ADDR")]
    ops: Option<SocketAddr>,
    /// Print once and end, as is done when standard output is not a terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    data: DataOptions,
}

/// What is drawn of a node of the tree.
#[derive(Debug, Deserialize)]
struct Shown {
    id: String,
    strategy: Option<String>,
    state: String,
    until_ms: Option<u64>,
    restarts: std::collections::BTreeMap<String, u64>,
    last_failure: Option<String>,
    running_for_ms: Option<u64>,
    children: Vec<Shown>,
}

impl Tree {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.data.load()?;
        let address = || self.ops.or_else(|| ops_address(&config.data_dir));
        let first = address().ok_or_else(|| {
            Failure::usage(format!(
                "no node runs on `{}`: name another with --data-dir, or an address with --ops",
                config.data_dir.display()
            ))
        })?;
        let drawn = draw_tree(first).await?;
        if self.once || !std::io::stdout().is_terminal() {
            return print(&drawn);
        }
        // From now on it is there to be watched, also while it is killed and started again, wherever it
        // listens then.
        let mut signals = Signals::listen()?;
        let mut ticks = time::interval(EVERY);
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return Ok(()),
                _ = ticks.tick() => {
                    let address = address().unwrap_or(first);
                    let drawn = draw_tree(address).await.unwrap_or_else(Failure::into_line);
                    print(&format!("{CLEAR}{drawn}\n{address}, every second; ctrl-c ends\n"))?;
                }
            }
        }
    }
}

async fn draw_tree(address: SocketAddr) -> Result<String, Failure> {
    let client = OpsClient::new(address);
    let body = client.get("/tree").await?;
    let root: Shown = serde_json::from_slice(&body).map_err(|error| client.failed(&error))?;
    Ok(draw(&root))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::runtime(format!("standard output: {error}")))
}

/// One line for each node, indented, with columns for state, restarts and time.
fn draw(root: &Shown) -> String {
    let mut rows = Vec::new();
    add_rows(root, "", "", &mut rows);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, rest) in rows {
        let _ = writeln!(text, "{name:width$}  {rest}");
    }
    text
}

fn add_rows(node: &Shown, first: &str, next: &str, rows: &mut Vec<(String, String)>) {
    let mut name = format!("{first}{}", one_line(&node.id));
    if let Some(strategy) = &node.strategy {
        let _ = write!(name, " ({})", strategy.replace('_', "-"));
    }
    rows.push((name, describe(node)));
    for (index, child) in node.children.iter().enumerate() {
        let is_last = index + 1 == node.children.len();
        let (branch, trunk) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        add_rows(child, &format!("{next}{branch}"), &format!("{next}{trunk}"), rows);
    }
}

fn describe(node: &Shown) -> String {
    let mut text = node.state.replace('_', " ");
    if let Some(ms) = node.until_ms {
        let _ = write!(text, " for {ms} ms");
    }
    if let Some(ms) = node.running_for_ms {
        let _ = write!(text, " for {}", duration(ms / 1000));
    }
    let restarts: u64 = node.restarts.values().sum();
    if restarts > 0 {
        let causes = node.restarts.iter().filter(|(_, count)| **count > 0);
        let causes: Vec<String> =
            causes.map(|(cause, count)| format!("{count} {}", cause.replace('_', " "))).collect();
        let _ = write!(text, ", restarted {restarts}× ({})", causes.join(", "));
    }
    if let Some(failure) = &node.last_failure {
        let failure: String = one_line(failure).chars().take(100).collect();
        let _ = write!(text, ", last failure: {failure}");
    }
    text
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tree_is_drawn_with_states_and_restarts() {
        let none = json!({"crash": 0, "start_failure": 0});
        let root = json!({
            "id": "quire", "strategy": "one_for_one", "state": "running", "restarts": none,
            "running_for_ms": 61_000, "last_failure": null,
            "children": [
                {"id": "a", "state": "backing_off", "until_ms": 5, "strategy": null,
                 "restarts": {"crash": 2, "start_failure": 1}, "running_for_ms": null,
                 "last_failure": "boom\nbang", "children": []},
                {"id": "b", "state": "stopped", "restarts": none, "strategy": null,
                 "running_for_ms": null, "last_failure": null, "children": []},
            ],
        });
        let root: Shown = serde_json::from_value(root).unwrap();
        let expected = "\
quire (one-for-one)  running for 1 min
├─ a                 backing off for 5 ms, restarted 3× (2 crash, 1 start failure), last failure: boom bang
└─ b                 stopped
";
        assert_eq!(draw(&root), expected);
    }
}
