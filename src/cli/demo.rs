//! `quire demo`: a node full of generated content, on this machine only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use crate::actors::router::Call;
use crate::actors::user::message::{Answer, ExportPart, Query};
use crate::cli::failure::Failure;
use crate::cli::logging;
use crate::cli::options::NodeOptions;
use crate::cli::output::{say, tell};
use crate::cli::progress::Progress;
use crate::cli::serve::{ended, print_addresses, stop, until_stopped};
use crate::cli::signals::Signals;
use crate::config::Config;
use crate::demo::{DEMO_EMAIL, DEMO_USER, Site};
use crate::ids::UserId;
use crate::node::{Node, NodeError};
use crate::seams::{Random, Seams, time};
use crate::transfer::chunk::{CHUNK_RECORDS_MAX, Item};
use crate::transfer::engine::Engine;
use crate::transfer::record::Record;

const USERS: usize = 200;
const POSTS: usize = 1000;
const SEED: u64 = 1;
/// Everybody can read it here, and it opens a door on this machine only.
const PASSWORD: &str = "quire-demo";

/// Options of `quire demo`.
///
/// The data is in a fresh temporary directory, which is removed at the end, unless a directory is
/// given.
#[derive(Debug, Args)]
pub(super) struct Demo {
    #[command(flatten)]
    node: NodeOptions,
}

impl Demo {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let chosen = (self.node.listen.is_some(), self.node.ops_listen.is_some());
        let (folder, options) = match self.node.data_dir() {
            Some(_) => (None, self.node),
            None => {
                let folder = TemporaryFolder::new()?;
                let path = folder.0.to_string_lossy().into_owned();
                (Some(folder), self.node.in_data_dir(path))
            }
        };
        let config = options.load()?;
        for address in [config.listen, config.ops_listen] {
            if !address.ip().is_loopback() {
                return Err(Failure::usage(format!(
                    "the password of the demo is public, so {address} is refused: choose an address of this machine, like 127.0.0.1:8080"
                )));
            }
        }
        logging::start_quiet(&config);
        let mut signals = Signals::listen()?;
        let starting = async {
            if folder.is_none() {
                claim(&config).await?;
            }
            start(config, chosen).await
        };
        let node = signals.unless(starting).await?;
        let filled = tokio::select! {
            biased;
            () = signals.next() => None,
            failure = ended(&node) => return Err(failure),
            filled = fill(&node) => Some(filled?),
        };
        if filled.is_some() {
            greet(&node);
            until_stopped(node, &mut signals).await?;
        } else {
            stop(node, &mut signals).await?;
        }
        drop(folder);
        Ok(())
    }
}

/// Makes the directory a demo's, unless somebody else's data is in it: a user with a public
/// password would be added to it.
async fn claim(config: &Config) -> Result<(), Failure> {
    let node = Node::start_offline(config, Seams::system()).await?;
    node.wait_ready().await?;
    let is_refused = !node.data_dir().is_demo() && has_users(&node).await?;
    if !is_refused {
        node.data_dir().mark_demo()?;
    }
    node.stop().await?;
    match is_refused {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "`{}` holds users that are not a demo's: choose an empty directory with --data-dir",
            config.data_dir.display()
        ))),
    }
}

async fn has_users(node: &Node) -> Result<bool, Failure> {
    let users = &node.app.users;
    for shard in 0..users.shards() {
        let query = Query::Export { after: UserId(0), limit: 1, part: ExportPart::Accounts };
        match users.query_shard(Call::new(), shard, query).await {
            Ok(Answer::Exported(page)) if page.is_empty() => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(Failure::runtime(format!("{error}: start again"))),
        }
    }
    Ok(false)
}

/// Starts the node; where a usual port is taken, on a free one.
async fn start(mut config: Config, chosen: (bool, bool)) -> Result<Node, Failure> {
    loop {
        match Node::start(&config, Seams::system()).await {
            Err(NodeError::Bind { address, error }) => {
                let free = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
                if !chosen.0 && address == config.listen && address.port() != 0 {
                    config.listen = free;
                } else if !chosen.1 && address == config.ops_listen && address.port() != 0 {
                    config.ops_listen = free;
                } else {
                    return Err(NodeError::Bind { address, error }.into());
                }
            }
            outcome => {
                let node = outcome?;
                node.wait_ready().await?;
                return Ok(node);
            }
        }
    }
}

async fn fill(node: &Node) -> Result<(), Failure> {
    let began = time::mark();
    let app = &node.app;
    // One hash for all: hashing is slow on purpose.
    let hash = app.passwords.hash(PASSWORD.to_owned()).await;
    let hash = hash.map_err(|_| Failure::runtime("a password could not be hashed"))?;
    let now = app.seams.clock.now();
    let site = Site { seed: SEED, users: USERS, posts: POSTS, now, password_hash: Some(hash) };
    let records: Vec<Record> = site.records().collect();
    let engine = Engine::new(app.users.clone(), app.posts.clone(), app.seams.clone(), 1);
    let mut progress = Progress::new("filling", records.len() as u64);
    let mut line = 0;
    for records in records.chunks(CHUNK_RECORDS_MAX) {
        let items: Vec<Item> = records
            .iter()
            .map(|record| {
                line += 1;
                Item { line, record: record.clone() }
            })
            .collect();
        let applied = engine
            .apply(&[0; 32], &items)
            .await
            .map_err(|halted| Failure::runtime(halted.to_string()))?;
        if let Some(problem) = applied.problems.first() {
            return Err(Failure::runtime(format!("generated content: {}", problem.reason)));
        }
        progress.set(line);
    }
    drop(progress);
    let seconds = began.elapsed().as_secs_f32();
    say(&format!("{USERS} users, {POSTS} posts, {line} records in {seconds:.1} s"));
    Ok(())
}

fn greet(node: &Node) {
    print_addresses(node);
    let Some(api) = node.address else { return };
    say(&format!(
        "
Sign in as {DEMO_USER}: email {DEMO_EMAIL}, password {PASSWORD}

  curl 'http://{api}/api/articles?limit=3'
  curl http://{api}/api/tags
  curl -H 'Content-Type: application/json' -d '{{\"user\":{{\"email\":\"{DEMO_EMAIL}\",\"password\":\"{PASSWORD}\"}}}}' http://{api}/api/users/login

ctrl-c stops it"
    ));
}

/// A folder that is removed with all that is in it.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("quire-demo-{:016x}", Random::system().any::<u64>());
        let path = std::env::temp_dir().join(name);
        let created = std::fs::DirBuilder::new().mode(0o700).create(&path);
        created.map_err(|error| {
            Failure::runtime(format!("`{}`: {error}: set TMPDIR or --data-dir", path.display()))
        })?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tell(&format!("`{}` was not removed: {error}", self.0.display()));
        }
    }
}
