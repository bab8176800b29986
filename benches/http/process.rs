//! Server processes: this program started again in another role, bound to the server's core.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::{Failed, machine};

/// What a child says when it serves, before its address.
pub const READY: &str = "ready ";

/// A server process, killed when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    child: Child,
    /// A child ends when this is closed, so that it never outlives its parent.
    _stdin: ChildStdin,
}

impl Server {
    /// Starts a role and waits until it is ready.
    ///
    /// # Errors
    /// When it ends first or takes longer than `patience`.
    pub fn start(arguments: &[String], patience: Duration) -> Result<Self, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .args(["--core", &machine::CORES.0.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no pipe")?;
        let stdout = child.stdout.take().ok_or("no pipe")?;
        let (ready, waits) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match line.strip_prefix(READY).and_then(|address| address.parse().ok()) {
                    Some(address) => drop(ready.send(address)),
                    None => println!("{line}"),
                }
            }
        });
        let pid = child.id();
        match waits.recv_timeout(patience) {
            Ok(address) => Ok(Self { address, pid, child, _stdin: stdin }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("`{}` did not become ready", arguments.join(" ")).into())
            }
        }
    }

    /// SIGKILL, and wait.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a role that ends by itself.
///
/// # Errors
/// When it fails or takes longer than `patience`.
pub fn run(arguments: &[String], patience: Duration) -> Result<(), Failed> {
    let mut child =
        Command::new(std::env::current_exe()?).args(arguments).stdin(Stdio::piped()).spawn()?;
    let _stdin = child.stdin.take();
    let began = std::time::Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("`{}`: {status}", arguments.join(" ")).into()),
            None if began.elapsed() > patience => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("`{}` took too long", arguments.join(" ")).into());
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// In a child: ends the process when the parent is gone.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// A fresh copy of a folder, of which nothing is in the page cache afterwards, nor of the folder: a large set and its
/// copy together would put other servers' files out of it, and what the system keeps of a file that was copied is in
/// pieces as large as those that were written; see [`warm`].
///
/// # Errors
/// When it cannot be copied.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    let copied = Command::new("cp").arg("-r").arg("--reflink=auto").arg(from).arg(to).status()?;
    if !copied.success() {
        return Err(format!("`{}` could not be copied", from.display()).into());
    }
    forget(from)?;
    forget(to)
}

/// Reads every file of a folder, so that all of it is in the page cache: systems that give back memory which nobody
/// has used for a while put parts of a large file out of it within a minute.
///
/// Without reading ahead, as servers read: where the system reads ahead by MiB, or a copy wrote as much at once, it
/// keeps that in pieces as large, and ext4 looks at each block of a piece for each write into it, which then takes ten
/// times as long.
///
/// # Errors
/// When a file cannot be read.
pub fn warm(folder: &Path) -> Result<(), Failed> {
    let mut buffer = vec![0; 1024 * 1024];
    each_file(folder, &mut |mut file| {
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
        while file.read(&mut buffer)? > 0 {}
        Ok(())
    })
}

fn forget(folder: &Path) -> Result<(), Failed> {
    each_file(folder, &mut |file| {
        // What is not on the disk yet would stay.
        file.sync_data()?;
        Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
    })
}

fn each_file(
    folder: &Path,
    visit: &mut impl FnMut(File) -> std::io::Result<()>,
) -> Result<(), Failed> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => each_file(&path, visit)?,
            false => visit(File::open(path)?)?,
        }
    }
    Ok(())
}
