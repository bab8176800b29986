//! File systems of a test's own: in a mount namespace that ends with the test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process that holds a mount namespace open. Needs to be root, or lucky.
pub struct Mounts {
    holder: Child,
}

impl Mounts {
    /// Runs `script` in a new mount namespace, with `$1` as `directory`. `None`, and a printed
    /// reason, where that is not allowed.
    pub fn new(script: &str, directory: &Path) -> Option<Self> {
        let script = format!("({script}) && echo mounted && exec sleep 3600");
        let holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut mounts = match holder {
            Ok(holder) => Self { holder },
            Err(error) => {
                println!("skipped: `unshare` cannot be run: {error}");
                return None;
            }
        };
        let mut line = String::new();
        let stdout = mounts.holder.stdout.take().expect("it is piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        if read.is_ok() && line == "mounted\n" {
            return Some(mounts);
        }
        let mut reason = String::new();
        let stderr = mounts.holder.stderr.take().expect("it is piped");
        let _ = BufReader::new(stderr).read_line(&mut reason);
        println!("skipped: no mount namespace here: {}", reason.trim());
        None
    }

    /// The words that run a program inside.
    pub fn launcher(&self) -> Vec<String> {
        let holder = self.holder.id().to_string();
        ["nsenter", "--mount", "--target", &holder].map(str::to_owned).to_vec()
    }

    /// Runs a shell script inside, with `$1` as `directory`.
    pub fn run(&self, script: &str, directory: &Path) {
        let launcher = self.launcher();
        let status = Command::new(&launcher[0])
            .args(&launcher[1..])
            .args(["sh", "-c", script, "sh"])
            .arg(directory)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{script}");
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
