//! The real program as a process of its own, over a directory of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::HttpClient;
use super::wait::eventually;

/// Longest time for a node to become ready, and to stop; a debug build on a busy machine is slow.
const START_TIME: Duration = Duration::from_secs(60);
const STOP_TIME: Duration = Duration::from_secs(60);

/// How to run a node.
#[derive(Clone, Default)]
pub struct Builder {
    shards: Option<u16>,
    variables: Vec<(String, String)>,
    /// Where the data is; a fresh temporary directory when nothing is said.
    data_dir: Option<PathBuf>,
    /// A program that runs the node, such as `nsenter`, with its arguments.
    launcher: Vec<String>,
}

impl Builder {
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Sets `QUIRE_<key>`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.variables.push((format!("QUIRE_{}", key.to_ascii_uppercase()), value.to_string()));
        self
    }

    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    pub fn launcher(mut self, words: Vec<String>) -> Self {
        self.launcher = words;
        self
    }

    /// Starts a node and waits until it is ready.
    pub async fn start(self) -> TestNode {
        let mut node = self.spawn();
        node.wait_ready().await;
        node
    }

    /// Starts the process and waits for nothing. How many requests it takes in a minute is set by the
    /// tests of just that: others register, write and poll as fast as they can.
    pub fn spawn(mut self) -> TestNode {
        let unlimited = ["USER", "ANONYMOUS"].map(|who| format!("QUIRE_{who}_REQUESTS_MAX"));
        // What a test set itself comes later, and so counts.
        self.variables.splice(0..0, unlimited.map(|key| (key, "0".to_owned())));
        let folder = tempfile::tempdir().expect("there is a temporary directory");
        let data_dir = self.data_dir.clone().unwrap_or_else(|| folder.path().join("data"));
        let process = Process::spawn(&self, &data_dir, folder.path());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        TestNode { builder: self, folder, data_dir, process, api: nowhere, ops: nowhere }
    }

    /// Runs a node that must not start, to its end.
    pub async fn run_to_end(self) -> Ended {
        let ended = self.run_to_end_within(STOP_TIME).await;
        ended.expect("a node that cannot start ends")
    }

    /// The same; `None` when it has not ended in time.
    pub async fn run_to_end_within(self, time: Duration) -> Option<Ended> {
        self.spawn().end_within(time).await
    }
}

/// How a node ended that did not start.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stderr: String,
}

impl Ended {
    /// The one line that tells an operator what to do; log lines are JSON.
    #[track_caller]
    pub fn advice(&self) -> &str {
        let mut lines = self.stderr.lines().filter(|line| !line.starts_with('{'));
        let advice = lines.next().unwrap_or_default();
        assert!(!advice.is_empty() && lines.next().is_none(), "not one line: {}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        advice
    }
}

/// A running node. The process ends with this value.
pub struct TestNode {
    builder: Builder,
    // Dropped before the folder, from which it shows its log.
    process: Process,
    folder: TempDir,
    data_dir: PathBuf,
    api: SocketAddr,
    ops: SocketAddr,
}

impl TestNode {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Address of the API.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// A client of the API.
    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.api)
    }

    /// A client of the operations listener.
    pub fn ops(&self) -> HttpClient {
        HttpClient::new(self.ops)
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Everything written to standard error so far.
    pub fn stderr_text(&self) -> String {
        self.process.stderr_text()
    }

    /// Learns the addresses and waits until the node says that it is ready.
    pub async fn wait_ready(&mut self) {
        self.wait_addresses().await;
        let mut ops = self.ops();
        eventually(START_TIME, "the node is ready", async || {
            self.process.assert_running();
            let ready = ops.send("GET", "/readyz", None).await;
            ready.is_ok_and(|response| response.status == 200).then_some(())
        })
        .await;
    }

    /// Learns the addresses.
    pub async fn wait_addresses(&mut self) {
        (self.api, self.ops) = eventually(START_TIME, "the node listens", async || {
            self.process.assert_running();
            self.process.addresses(&self.data_dir)
        })
        .await;
    }

    /// How the process ended; `None` when it has not in time.
    pub async fn end_within(&mut self, time: Duration) -> Option<Ended> {
        let began = Instant::now();
        let status = eventually(time + STOP_TIME, "the time is over", async || {
            let status = self.process.child.try_wait().expect("the process is ours");
            (status.is_some() || began.elapsed() > time).then_some(status)
        })
        .await;
        status.map(|status| Ended { code: status.code(), stderr: self.stderr_text() })
    }

    /// Waits until the node is ready; how it ended, if it did instead.
    pub async fn ready_or_ended(&mut self) -> Result<(), Ended> {
        let data_dir = self.data_dir.clone();
        let ended = eventually(START_TIME, "the node is ready or ends", async || {
            if let Some(status) = self.process.child.try_wait().expect("the process is ours") {
                return Some(Some(status));
            }
            let (_, ops) = self.process.addresses(&data_dir)?;
            let ready = HttpClient::new(ops).send("GET", "/readyz", None).await.ok()?;
            (ready.status == 200).then_some(None)
        })
        .await;
        match ended {
            Some(status) => Err(Ended { code: status.code(), stderr: self.stderr_text() }),
            None => {
                self.wait_addresses().await;
                Ok(())
            }
        }
    }

    /// Ends the process with SIGKILL, as a power cut would.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// Sends a signal, by name.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Asks the node to stop and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually(STOP_TIME, "the node ends", async || {
            self.process.child.try_wait().expect("the process is ours")
        })
        .await
    }

    /// Starts the process again over the same directory, and waits for nothing.
    pub fn respawn(&mut self) {
        self.process.kill();
        // What a killed process left is not the address of the next one.
        let _ = std::fs::remove_file(self.data_dir.join("ops.addr"));
        self.process = Process::spawn(&self.builder, &self.data_dir, self.folder.path());
    }

    /// Starts the process again over the same directory, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.respawn();
        self.wait_ready().await;
    }
}

/// How much of its log a node shows when a test fails.
const LOG_BYTES_SHOWN: usize = 16 * 1024;

struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    fn spawn(builder: &Builder, data_dir: &Path, folder: &Path) -> Self {
        let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
        let program = env!("CARGO_BIN_EXE_quire").to_owned();
        let mut words = builder.launcher.iter().chain(std::iter::once(&program));
        let mut command = Command::new(words.next().expect("there is the program itself"));
        command.args(words);
        command.args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(data_dir);
        if let Some(shards) = builder.shards {
            command.args(["--shards", &shards.to_string()]);
        }
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("QUIRE_")) {
            command.env_remove(key);
        }
        command.envs(builder.variables.iter().map(|(key, value)| (key, value)));
        let create = |path| File::create(path).expect("the temporary directory is ours");
        command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr));
        let child = command.spawn().expect("the program was built");
        Self { child, stdout, stderr }
    }

    fn stderr_text(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The API's and the operations listener's address, once both are known.
    fn addresses(&self, data_dir: &Path) -> Option<(SocketAddr, SocketAddr)> {
        // The process may see the directory in a mount namespace of its own.
        let seen = Path::new("/proc").join(self.child.id().to_string()).join("root");
        let seen = seen.join(data_dir.strip_prefix("/").unwrap_or(data_dir));
        let ops = quire::node::data_dir::ops_address(&seen)?;
        let printed = std::fs::read_to_string(&self.stdout).unwrap_or_default();
        let printed = printed + &self.stderr_text();
        let api = addresses_in(&printed).find(|address| *address != ops)?;
        Some((api, ops))
    }

    fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("the process is ours");
        assert!(ended.is_none(), "the node ended ({ended:?}): {}", self.stderr_text());
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        self.kill();
        if std::thread::panicking() {
            let log = self.stderr_text();
            let tail = log.len().saturating_sub(LOG_BYTES_SHOWN);
            let tail = log.char_indices().find(|(at, _)| *at >= tail).map_or(0, |(at, _)| at);
            let signal = ended.and_then(|status| status.signal());
            eprintln!("node: ended {ended:?}, signal {signal:?}, log:\n{}", &log[tail..]);
        }
    }
}

/// Sends a signal, by name, to a process that a test started.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -s {name} {pid}");
}

/// Every `127.0.0.1:<port>` in a text.
fn addresses_in(text: &str) -> impl Iterator<Item = SocketAddr> {
    const HOST: &str = "127.0.0.1:";
    text.match_indices(HOST).filter_map(|(at, _)| {
        let digits = text[at + HOST.len()..].split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok().filter(|port| *port != 0).map(|port| ([127, 0, 0, 1], port).into())
    })
}
