//! Recommendations over HTTP: what they cost, and how soon they follow what happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::content::user_name;
use crate::load::{self, Plan};
use crate::machine;
use crate::process::Server;
use crate::report::{self, Figures, Ratio, verdict};
use crate::table::record;
use crate::target::{CONNECTIONS, PATIENCE, Target, plan, role, run_checked};
use crate::workload::{Batches, Mix, Operation, request};
use crate::{Failed, Options, folder};

/// Least share of a bare handler's speed, by CPU.
const BAR: f64 = 0.15;
/// Posts published, and read, while the node is loaded.
const PROBES: usize = 200;
/// Requests of the load, as a share of what the node can do.
const LOAD: f64 = 0.5;
/// Longest time until a list shows what happened, 99 of 100 times.
const FRESH_MS: f64 = 100.0;
/// An idle node uses less than this share of a core, over this time.
const IDLE: f64 = 0.05;
const LOOK: Duration = Duration::from_millis(500);
/// A list that does not show it for so long never will.
const STALE: Duration = Duration::from_secs(5);

/// What a page of recommendations costs, with and without writes beside it.
pub fn speed(options: &Options) -> Result<(), Failed> {
    println!("\n## Recommendations\n");
    let target = Target::start(options.sizes(), 1, true)?;
    read_much(options, &target)?;
    let limits = folder().join("limits");
    record(&target)?.write(&limits)?;
    let bare = Server::start(&role("bare", &limits), PATIENCE)?;
    let operation = Operation::Recommendations;
    report::head();
    for writes in [false, true] {
        let mix = |run: usize| {
            let mix = Mix::new(&target.keys, operation, run as u64);
            if writes { mix } else { mix.only_reads() }
        };
        let (mut own, mut limit) = (Vec::new(), Vec::new());
        for run in 0..options.runs() {
            own.push(run_checked(&target.plan(options), &mut mix(run))?);
            limit.push(run_checked(&plan(&bare, options), &mut mix(run))?);
        }
        let (own, limit) = (Figures::medians(&own), Figures::medians(&limit));
        let value = limit.cpu_us / own.cpu_us;
        let ratio = Ratio { value, bar: Some(BAR), with_commits: None, from_memory: None };
        let name = format!("{}{}", operation.name(), if writes { ", 5 % writes" } else { "" });
        report::row(&name, CONNECTIONS, "Quire, shards 1", &own, Some(ratio));
        report::row(&name, CONNECTIONS, "bare axum", &limit, None);
    }
    Ok(())
}

/// So that readers have histories and the ranker has something to rank. Ends when the node is idle:
/// until then it takes in and learns from what was read, which is not what is measured.
pub fn read_much(options: &Options, target: &Target) -> Result<(), Failed> {
    let plan = Plan { connections: 4, warm_up: Duration::ZERO, ..target.plan(options) };
    run_checked(&plan, &mut Batches::new(&target.keys, 7, 0))?;
    let used = || machine::cpu_time(target.server.pid);
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let before = used();
        // The span over which the processor time is taken.
        std::thread::sleep(LOOK);
        if used().saturating_sub(before) < LOOK.mul_f64(IDLE) {
            println!("- idle {:.1} s after the reads", began.elapsed().as_secs_f64());
            return Ok(());
        }
    }
    Err("the node does not become idle".into())
}

/// From the answer to a publication, or a read, to the first list that shows it.
pub fn freshness(options: &Options) -> Result<(), Failed> {
    println!("\n## How soon recommendations follow, under load\n");
    let target = Target::start(options.sizes(), 1, true)?;
    read_much(options, &target)?;
    let operation = Operation::List { signed_in: true };
    let most = run_checked(&target.plan(options), &mut Mix::new(&target.keys, operation, 1))?;
    let rate = most.rate() * LOAD;
    for probe in 0..PROBES {
        // New followers of authors who have none of these.
        let path = format!("PUT /v1/users/{}/follow", user_name(author(probe)));
        expect(&target, &request(&path, target.keys.token(follower(probe)), None), 204)?;
    }
    let is_over = AtomicBool::new(false);
    let probed = std::thread::scope(|scope| -> Result<_, Failed> {
        let probing = scope.spawn(|| {
            let probed = probe(&target).map_err(|error| error.to_string());
            is_over.store(true, Ordering::Relaxed);
            probed
        });
        let plan = Plan { rate: Some(rate), ..target.plan(options) };
        let mut run = 2;
        while !is_over.load(Ordering::Relaxed) {
            run_checked(&plan, &mut Mix::new(&target.keys, operation, run))?;
            run += 1;
        }
        Ok(probing.join().map_err(|_panic| "a probe panicked")??)
    })?;
    println!(
        "- beside {rate:.0} requests/s ({}, 5 % writes): half of what it can",
        operation.name()
    );
    for (what, mut times) in
        ["published, then listed to a follower", "read, then not listed"].into_iter().zip(probed)
    {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        let (median, p99, most) = (at(0.5), at(0.99), at(1.0));
        println!(
            "- {what}: median {median:.1} ms, p99 {p99:.1}, longest {most:.1}; at most {FRESH_MS:.0}: {}",
            verdict(p99 <= FRESH_MS)
        );
    }
    Ok(())
}

fn author(probe: usize) -> usize {
    2 * probe
}

fn follower(probe: usize) -> usize {
    2 * probe + 1
}

/// Milliseconds from each publication, and each read, to a list that shows it.
fn probe(target: &Target) -> Result<[Vec<f64>; 2], Failed> {
    let mut times = [const { Vec::new() }; 2];
    for probe in 0..PROBES {
        let [writer, reader] = [author(probe), follower(probe)].map(|user| target.keys.token(user));
        let body = format!(
            "{{\"title\":\"Fresh {probe}\",\"body\":\"Just written.\",\"visibility\":\"public\",\"tags\":[\"fresh\"]}}"
        );
        let written = expect(target, &request("POST /v1/posts", writer, Some(&body)), 201)?;
        let written: serde_json::Value = serde_json::from_slice(&written)?;
        let id = written["id"].as_str().ok_or("no id")?.to_owned();
        times[0].push(until(target, reader, |list| list.contains(&id))?);
        let now = jiff::Timestamp::now();
        let body = format!("{{\"reads\":[{{\"post\":\"{id}\",\"at\":\"{now}\"}}]}}");
        expect(target, &request("POST /v1/reads", reader, Some(&body)), 200)?;
        times[1].push(until(target, reader, |list| !list.contains(&id))?);
    }
    Ok(times)
}

fn until(target: &Target, reader: &str, holds: impl Fn(&str) -> bool) -> Result<f64, Failed> {
    let began = Instant::now();
    loop {
        let asked = request("GET /v1/recommendations?limit=50", reader, None);
        let list = String::from_utf8(expect(target, &asked, 200)?)?;
        let passed = began.elapsed();
        // Without the ranker there are only the newest posts, which would show it too.
        if list.contains("\"method\":\"ranker\"") && holds(&list) {
            return Ok(passed.as_secs_f64() * 1e3);
        }
        if passed > STALE {
            return Err(format!("not within {STALE:?}").into());
        }
    }
}

fn expect(target: &Target, request: &[u8], expected: u16) -> Result<Vec<u8>, Failed> {
    let (status, body) = load::ask(target.server.address, request)?;
    if status != expected {
        return Err(format!("status {status}: {}", String::from_utf8_lossy(&body)).into());
    }
    Ok(body)
}
