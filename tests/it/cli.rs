//! The program as an operator uses it: commands, exit codes, and the one line that says what to do.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use quire::ids::{GroupId, LogIndex};
use quire::store::log::{LaneOptions, LogLane};
use tempfile::TempDir;

use crate::support::client::HttpClient;
use crate::support::node::signal;
use crate::support::{Connection, TestNode, eventually};

const RECORDS: &str = r#"{"kind":"user","username":"ann","email":"ann@example.com","password":"correct horse"}
{"kind":"user","username":"bob","email":"bob@example.com"}
{"kind":"follow","follower":"ann","followed":"bob"}
{"kind":"post","key":"k","author":"bob","title":"Title","description":"d","body":"b","tags":["t"],"created_at":1500000000000}
{"kind":"favorite","user":"ann","post":"k"}
{"kind":"comment","user":"ann","post":"k","body":"first","created_at":1500000000001}
{"kind":"read","user":"ann","post":"k","at":1500000000001}
"#;

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quire"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("QUIRE_")) {
        command.env_remove(key);
    }
    command.args(words).stdin(Stdio::null());
    command
}

fn quire(words: &[&str]) -> Output {
    command(words).output().unwrap()
}

/// Runs a command that must end with this code and one line that holds `told`.
#[track_caller]
pub(crate) fn fails(words: &[&str], code: i32, told: &str) {
    let output = quire(words);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with('{')).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("quire: "), "{words:?}: {stderr}");
    assert!(lines[0].contains(told), "{words:?}: {stderr}");
}

/// The same of a command that would rather wait for ever than fail.
async fn fails_in_time(words: &[&str], code: i32, told: &str) {
    let running = command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut running = Running(running.unwrap());
    let status = eventually(Duration::from_secs(30), "the command ends", async || {
        running.0.try_wait().unwrap()
    })
    .await;
    let mut stderr = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{words:?}: {stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with('{')).collect();
    assert!(lines.len() == 1 && lines[0].contains(told), "{words:?}: {stderr}");
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn succeeds(words: &[&str]) -> String {
    let output = quire(words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder with a file of records in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("records"), RECORDS).unwrap();
    folder
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn what_is_wrong_with_the_command_line_or_the_configuration_ends_with_2() {
    let folder = folder();
    let file = folder.path().join("quire.toml");
    std::fs::write(&file, "shrads = 1\n").unwrap();
    let file = text(&file);
    fails(&["serve", "--no-such-flag"], 2, "--no-such-flag");
    fails(&["import", "x"], 2, "--format");
    fails(&["serve", "--shards", "0"], 2, "`shards`");
    fails(&["serve", "--listen", "nowhere"], 2, "socket address");
    fails(&["serve", "--config", file], 2, "shrads");
    fails(&["config", "check", "--config", file], 2, "shrads");
    fails(&["config", "check", "--config", "/no/such/file"], 2, "/no/such/file");
    let missing = folder.path().join("missing");
    fails(&["export", "--data-dir", text(&missing)], 2, "--data-dir");
    fails(&["token", "--user", "ann", "--data-dir", text(&missing)], 2, "--data-dir");
    fails(&["tree", "--once", "--data-dir", text(&missing)], 2, "--ops");
    fails(&["import", "--format", "quire", text(&missing)], 2, "missing");
    fails(&["demo", "--listen", "0.0.0.0:0"], 2, "127.0.0.1");
    assert!(!missing.exists(), "asking makes nothing");
    assert_eq!(quire(&[]).status.code(), Some(2));
    assert!(succeeds(&["--help"]).contains("Exit codes"));
    assert!(succeeds(&["--version"]).starts_with("quire "));
    assert!(succeeds(&["config", "show"]).contains("listen = \"127.0.0.1:8080\""));
}

#[test]
fn data_that_cannot_be_used_ends_with_3() {
    let folder = folder();
    for (about, told) in [("{\"format\":99}", "newer"), ("{", "damaged")] {
        let data = folder.path().join(told);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("quire.json"), about).unwrap();
        for words in [
            &["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"][..],
            &["export"],
            &["token", "--user", "ann"],
            &["import", "--format", "quire", text(&folder.path().join("records"))],
        ] {
            fails(&[words, &["--data-dir", text(&data)]].concat(), 3, told);
        }
    }
}

#[tokio::test]
async fn a_directory_that_is_held_ends_with_3_and_an_address_that_is_taken_with_4() {
    let node = TestNode::builder().start().await;
    let data = text(node.data_dir());
    let free = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    fails(&[&["serve", "--data-dir", data][..], &free].concat(), 3, "in use");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = text(&data);
    for flag in ["--listen", "--ops-listen"] {
        let other = if flag == "--listen" { "--ops-listen" } else { "--listen" };
        let words = ["serve", "--data-dir", data, flag, &taken, other, "127.0.0.1:0"];
        fails(&words, 4, "--listen");
    }
}

#[tokio::test]
async fn a_node_that_is_asked_to_stop_ends_with_0() {
    for name in ["TERM", "INT"] {
        let mut node = TestNode::builder().start().await;
        node.signal(name);
        assert_eq!(node.ended().await.code(), Some(0), "{}", node.stderr_text());
        assert_eq!(quire::node::data_dir::ops_address(node.data_dir()), None);
    }
}

#[tokio::test]
async fn a_running_node_takes_and_gives_what_a_stopped_one_does() {
    let mut node = TestNode::builder().start().await;
    let folder = folder();
    let (data, records) = (text(node.data_dir()).to_owned(), folder.path().join("records"));
    let (data, records) = (data.as_str(), text(&records));
    for expected in ["users 2\n", "users 2 (2 were there already)\n"] {
        let summary = succeeds(&["import", "--format", "quire", records, "--data-dir", data]);
        assert!(summary.starts_with(expected), "{summary}");
    }
    let running = succeeds(&["export", "--data-dir", data]);
    let other = folder.path().join("other");
    succeeds(&["import", "--format", "quire", records, "--data-dir", text(&other)]);
    let stopped = succeeds(&["export", "--data-dir", text(&other)]);
    let untimed = |line: &&str| !line.contains("\"user\",\"username\"");
    let (left, right) = (sorted(&running), sorted(&stopped));
    assert_eq!(left.len(), 7);
    assert_eq!(
        left.into_iter().filter(untimed).collect::<Vec<_>>(),
        right.into_iter().filter(untimed).collect::<Vec<_>>()
    );
    assert!(!running.contains("argon2id"));
    assert!(succeeds(&["export", "--with-credentials", "--data-dir", data]).contains("argon2id"));

    let token = succeeds(&["token", "--user", "ANN", "--data-dir", data]);
    let mut client = node.client();
    client.set_token(token.trim());
    let me = client.get("/api/user").await;
    assert_eq!(me.status, 200);
    fails(&["token", "--user", "nobody", "--data-dir", data], 1, "user");
    // A user's token opens nothing on the operations listener.
    let mut ops = HttpClient::new(node.ops().address());
    ops.set_token(token.trim());
    assert_eq!(ops.send("POST", "/export", None).await.unwrap().status, 401);

    let tree = succeeds(&["tree", "--once", "--data-dir", data]);
    assert!(tree.starts_with("quire") && tree.contains("shard") && tree.contains("running"));
    assert_eq!(node.terminate().await.code(), Some(0));
    assert_eq!(succeeds(&["export", "--data-dir", data]), running);
    assert_eq!(succeeds(&["token", "--user", "bob", "--data-dir", data]).matches('.').count(), 2);
}

#[test]
fn bad_lines_are_told_by_number_and_end_with_1() {
    let folder = folder();
    let (data, bad) = (folder.path().join("data"), folder.path().join("bad"));
    let mut file = RECORDS.to_owned();
    file.push_str("\nnonsense\n{\"kind\":\"favorite\",\"user\":\"ann\",\"post\":\"other\"}\n");
    for _ in 0..150 {
        file.push_str("{\"kind\":\"clap\"}\n");
    }
    std::fs::write(&bad, file).unwrap();
    let output = quire(&["import", "--format", "quire", text(&bad), "--data-dir", text(&data)]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("users 2\n") && stdout.contains("posts 1\n"), "{stdout}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let told = stderr.lines().filter(|line| line.starts_with(text(&bad))).count();
    assert_eq!(told, 100);
    assert!(stderr.contains("bad:9: ") && stderr.contains("`other`"), "{stderr}");
    assert!(stderr.contains("52 more"), "{stderr}");
    assert!(stderr.trim_end().lines().next_back().unwrap().starts_with("quire: 152 bad lines"));
}

#[tokio::test]
async fn an_import_that_is_killed_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("many"));
    let mut lines = RECORDS.to_owned();
    for number in 0..3000 {
        lines.push_str(&format!(
            "{{\"kind\":\"comment\",\"user\":\"ann\",\"post\":\"k\",\"body\":\"{number}\",\"created_at\":1500000000002}}\n"
        ));
    }
    std::fs::write(&file, lines).unwrap();
    let words = ["import", "--format", "quire", text(&file), "--data-dir", text(&data)];
    for wait_ms in [150, 400] {
        let mut import =
            command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Any moment will do: what must hold does not depend on which it is.
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        import.kill().unwrap();
        import.wait().unwrap();
    }
    succeeds(&words);
    let exported = succeeds(&["export", "--data-dir", text(&data)]);
    let comments: Vec<&str> =
        exported.lines().filter(|line| line.contains("\"comment\"")).collect();
    assert_eq!(comments.len(), 3001);
    let bodies = comments.iter().skip(1).enumerate();
    for (number, line) in bodies {
        assert!(line.contains(&format!("\"body\":\"{number}\"")), "{number}: {line}");
    }
}

/// The replica of a shard meets it after the node has started: nobody may wait for it for ever.
#[tokio::test]
async fn an_entry_that_cannot_be_read_ends_every_command_with_3() {
    let folder = folder();
    let (data, records) = (folder.path().join("data"), folder.path().join("records"));
    let import = ["import", "--format", "quire", text(&records), "--data-dir", text(&data)];
    succeeds(&import);
    // The first group of the user service.
    let lane = LogLane::open(&data.join("log-0.redb"), LaneOptions::default()).unwrap();
    let log = lane.group(GroupId(1024)).unwrap();
    assert!(log.state().last > LogIndex(0), "this group has a log");
    let (done, durable) = std::sync::mpsc::channel();
    let entry = (log.state().last.next(), bytes::Bytes::from_static(b"rubbish"));
    log.append(vec![entry], Box::new(move |written| done.send(written).unwrap()));
    durable.recv().unwrap().unwrap();
    lane.close();
    let on_data = ["--data-dir", text(&data)];
    let listens = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    for words in [
        &["export"][..],
        &["token", "--user", "ann"],
        &import[..4],
        &[&["serve"][..], &listens].concat(),
        &[&["demo"][..], &listens].concat(),
    ] {
        fails_in_time(&[words, &on_data].concat(), 3, "log-0.redb").await;
    }
}

/// A program, until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_demo(folder: &Path) -> (Running, Vec<String>) {
    let mut demo = command(&["demo", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
    demo.env("TMPDIR", folder).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut demo = Running(demo.spawn().unwrap());
    let mut told = Vec::new();
    let out = BufReader::new(demo.0.stdout.take().unwrap());
    for line in out.lines() {
        let line = line.unwrap();
        let is_last = line.starts_with("ctrl-c");
        told.push(line);
        if is_last {
            break;
        }
    }
    (demo, told)
}

/// Where the API of the demo is.
fn api_of(told: &[String]) -> SocketAddr {
    told.iter().find_map(|line| line.strip_prefix("api http://")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_demo_fills_a_node_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (mut demo, told) = start_demo(folder.path());
    let curls = told.iter().filter(|line| line.trim_start().starts_with("curl")).count();
    assert_eq!(curls, 3, "{told:?}");
    let mut client = HttpClient::new(api_of(&told));
    let page = client.get("/api/articles?limit=1").await;
    assert_eq!(page.json()["articlesCount"], 1000);
    let body = serde_json::json!({"user": {"email": "demo@example.com", "password": "quire-demo"}});
    assert_eq!(client.post("/api/users/login", &body).await.status, 200);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    signal(demo.0.id(), "INT");
    let status = tokio::task::spawn_blocking(move || demo.0.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_second_signal_leaves_nothing_of_the_demo_behind_either() {
    let folder = tempfile::tempdir().unwrap();
    let (mut demo, told) = start_demo(folder.path());
    // A request that never ends keeps the node from stopping.
    let mut slow = Connection::open(api_of(&told)).await.unwrap();
    let head = "POST /api/users HTTP/1.1\r\nhost: quire\r\ncontent-type: application/json\r\n\
        content-length: 100\r\n\r\n{";
    slow.write(head.as_bytes()).await.unwrap();
    HttpClient::new(api_of(&told)).get("/api/tags").await.expect(200);
    signal(demo.0.id(), "INT");
    tokio::time::sleep(Duration::from_secs(1)).await;
    signal(demo.0.id(), "INT");
    let status = tokio::task::spawn_blocking(move || demo.0.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(1), "it was not waited for");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_keeps_out_of_the_data_of_others() {
    let folder = folder();
    let (data, records) = (folder.path().join("data"), folder.path().join("records"));
    let data = text(&data);
    succeeds(&["import", "--format", "quire", text(&records), "--data-dir", data]);
    let before = succeeds(&["export", "--data-dir", data]);
    let words = ["demo", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    fails(&[&words[..], &["--data-dir", data]].concat(), 2, "not a demo's");
    assert_eq!(succeeds(&["export", "--data-dir", data]), before);
}

#[test]
fn a_variable_that_is_not_text_ends_with_2_when_it_is_ours() {
    use std::os::unix::ffi::OsStrExt;
    let bad = std::ffi::OsStr::from_bytes(b"\xff");
    let other = command(&["config", "check"]).env("OTHER", bad).output().unwrap();
    assert_eq!(other.status.code(), Some(0));
    let ours = command(&["config", "check"]).env("QUIRE_LOG", bad).output().unwrap();
    assert_eq!(ours.status.code(), Some(2));
    assert!(String::from_utf8(ours.stderr).unwrap().contains("QUIRE_LOG"));
}

#[tokio::test]
async fn an_export_that_nobody_reads_ends_with_a_signal() {
    let folder = folder();
    let (data, file) = (folder.path().join("data"), folder.path().join("large"));
    // More than a pipe takes, less than what waits before it: all is sent, and not written.
    let mut records = RECORDS.to_owned();
    for number in 0..4 {
        let body = "x".repeat(30_000);
        records.push_str(&format!(
            "{{\"kind\":\"post\",\"key\":\"{number}\",\"author\":\"bob\",\"title\":\"t\",\"description\":\"d\",\"body\":\"{body}\"}}\n"
        ));
    }
    std::fs::write(&file, records).unwrap();
    succeeds(&["import", "--format", "quire", text(&file), "--data-dir", text(&data)]);
    let mut export = command(&["export", "--data-dir", text(&data)]);
    let mut export = Running(export.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(export.0.try_wait().unwrap().is_none(), "it waits for a reader");
    signal(export.0.id(), "TERM");
    let status =
        eventually(Duration::from_secs(20), "it ends", async || export.0.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(1));
}
