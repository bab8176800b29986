//! What the operating system knows: cores, CPU time, memory, and the machine's description.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Ticks of `/proc/PID/stat` per second; fixed by Linux for all it shows to programs.
const TICKS_PER_SECOND: f64 = 100.0;
/// Syncs from which the median is taken.
const SYNCS: usize = 100;
/// Memory that is looked at, and its pages.
const LOOKED_AT_BYTES: usize = 64 << 20;
const PAGE_BYTES: usize = 4096;
/// How long it is left alone.
const IDLE: Duration = Duration::from_secs(1);

/// Binds this thread, and all that it starts, to one core.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        println!("not pinned to core {core}: {error}");
    }
}

/// The core of the servers and that of the load generator. On a machine with one core they are
/// the same, and the figures mean little. Read once, before this thread is bound to one of them.
pub static CORES: LazyLock<(usize, usize)> = LazyLock::new(|| {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let mut usable = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
    let server = usable.next().unwrap_or(0);
    (server, usable.next().unwrap_or(server))
});

/// CPU time that a process has used so far, in user and kernel, threads that ended included.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program stands in brackets and may hold anything.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND)
}

/// Resident memory of a process in bytes: now, and the most it ever was.
pub fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// What the figures were measured on, one fact a line.
pub fn facts(folder: &Path) -> Vec<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    vec![
        format!("CPU: {}, {threads} cores", model.map_or("unknown", |(_, name)| name)),
        format!("memory: {:.0} GiB", total.unwrap_or(0) as f64 / 1024.0 / 1024.0),
        format!("kernel: Linux {}", kernel.trim()),
        format!("disk: fdatasync of 4 KiB takes {:.2} ms (median of {SYNCS})", sync_ms(folder)),
        idle_memory(),
        format!("compiler: {}", output("rustc", &["--version"])),
        format!("revision: {}", output("git", &["describe", "--always", "--dirty"])),
        format!("load before: {}", load()),
    ]
}

/// What it costs to look at a page of memory that is in use, and when nobody has looked for a while. The host of a
/// virtual machine may take away what its guest leaves alone: then a server is slower the more it has in memory, and
/// ratios to one that has little are too low.
pub fn idle_memory() -> String {
    let bytes = vec![1_u8; LOOKED_AT_BYTES];
    let look = || {
        let began = Instant::now();
        let sum: u64 = bytes.iter().step_by(PAGE_BYTES).map(|byte| u64::from(*byte)).sum();
        std::hint::black_box(sum);
        began.elapsed().as_nanos() as usize / (LOOKED_AT_BYTES / PAGE_BYTES)
    };
    let (_, used) = (look(), look());
    // The rest whose price is asked for.
    std::thread::sleep(IDLE);
    let idle = look();
    format!(
        "idle memory: a page in use takes {used} ns, left alone for {} s {idle} ns",
        IDLE.as_secs()
    )
}

/// The load average, which tells whether the machine did anything else.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn sync_ms(folder: &Path) -> f64 {
    use std::io::Write;
    let path = folder.join("sync-probe");
    let Ok(mut file) = std::fs::File::create(&path) else { return f64::NAN };
    let mut times: Vec<Duration> = (0..SYNCS)
        .map(|_| {
            let began = Instant::now();
            let _ = file.write_all(&[7; 4096]).and_then(|()| file.sync_data());
            began.elapsed()
        })
        .collect();
    let _ = std::fs::remove_file(&path);
    times.sort_unstable();
    times[SYNCS / 2].as_secs_f64() * 1e3
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
