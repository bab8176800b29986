//! A million posts: what requests cost among them, and how long a node with them takes to start.

use std::time::{Duration, Instant};

use crate::load::{self, Plan};
use crate::process::Server;
use crate::report::{self, Figures, verdict};
use crate::table::{READS, WRITES, is_left_out};
use crate::target::{PATIENCE, Target, role};
use crate::workload::{Mix, Operation};
use crate::{Failed, Options};

/// CPU per request with many more posts.
pub fn scale(options: &Options) -> Result<(), Failed> {
    let (few, many) = (options.sizes(), options.scaled());
    println!("\n## {} posts instead of {}\n", many.posts, few.posts);
    println!(
        "| operation | CPU µs, {} posts | CPU µs, {} posts | times | bar |",
        few.posts, many.posts
    );
    println!("|---|--:|--:|--:|---|");
    let targets = [Target::start(few, 1, true)?, Target::start(many, 1, true)?];
    for target in &targets {
        target.read_all_once(options)?;
    }
    for (operation, _) in READS.into_iter().chain(WRITES) {
        if is_left_out(options, operation) {
            continue;
        }
        let mut figures = [const { Vec::new() }; 2];
        for run in 0..options.runs() as u64 {
            for (outcomes, target) in figures.iter_mut().zip(&targets) {
                let mut mix = Mix::new(&target.keys, operation, run);
                outcomes.push(target.run_warm(&target.plan(options), &mut mix)?);
            }
        }
        let times = report::paired(&figures[1], &figures[0], |many, few| many.cpu_us / few.cpu_us);
        let [few, many] = figures.map(|outcomes| Figures::medians(&outcomes).cpu_us);
        let name = operation.name();
        let reached = verdict(times <= 1.3);
        println!("| {name} | {few:.1} | {many:.1} | {times:.2} | ≤ 1.3: {reached} |");
    }
    Ok(())
}

/// From the start of the process to its first article, after a SIGKILL under load; and to its first
/// recommendations.
pub fn startup(options: &Options) -> Result<(), Failed> {
    let sizes = options.scaled();
    println!("\n## Start-up after SIGKILL with {} posts\n", sizes.posts);
    let mut target = Target::start(sizes, 1, true)?;
    let (mut firsts, mut alls) = (Vec::new(), Vec::new());
    for run in 0..options.runs() as u64 {
        let mut mix = Mix::new(&target.keys, Operation::Create, run);
        target.run_warm(&Plan { connections: 512, ..target.plan(options) }, &mut mix)?;
        let one = |operation| Mix::new(&target.keys, operation, 1).one();
        let article = one(Operation::Article { signed_in: false });
        let recommendations = one(Operation::Recommendations);
        target.server.kill();
        let began = Instant::now();
        let arguments = [role("quire", &target.folder), vec!["--at-once".into()]].concat();
        target.server = Server::start(&arguments, PATIENCE)?;
        // Without recommendations, readers are answered with what is newest, and told so.
        let is_whole = |answer: (u16, Vec<u8>)| {
            answer.0 == 200 && load::find(&answer.1, b"\"method\":\"latest\"").is_none()
        };
        let seconds_to = |request: &[u8]| -> Result<f64, Failed> {
            while !is_whole(load::ask(target.server.address, request)?) {
                if began.elapsed() > PATIENCE {
                    return Err("the node does not come back".into());
                }
                // A question at once would take the time that is measured from the node.
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(began.elapsed().as_secs_f64())
        };
        let (first, all) = (seconds_to(&article)?, seconds_to(&recommendations)?);
        println!("- first article after {first:.2} s, first recommendations after {all:.2} s");
        firsts.push(first);
        alls.push(all);
    }
    let median = |seconds: Vec<f64>| report::median(seconds.into_iter());
    let (first, all) = (median(firsts), median(alls));
    let reached = verdict(first <= 2.0);
    println!("- medians {first:.2} s, at most 2 s: {reached}; {all:.2} s");
    Ok(())
}
