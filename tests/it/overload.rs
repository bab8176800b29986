//! Ten times as many clients as the node grants places: who is refused learns it at once and in
//! the right form, and who is served loses little.
//!
//! `QUIRE_OVERLOAD_SECONDS` makes the runs longer, for figures; they mean something only in an
//! optimised build on a quiet machine. Clients take the same cores as the node, and 640 of them more
//! than 64: how much the node itself loses, its own time on a core tells.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::people::article;
use crate::support::{HttpClient, TestNode, register};

/// Requests that the node works on at the same time.
const PLACES: usize = 64;
const CROWD: usize = 10 * PLACES;
/// A list that is not kept: what needs no shard is answered at once, however many ask, and refuses nobody.
const ASKED: &str = "/api/articles?limit=20&tag=tag&author=jake";

/// What one run has measured.
#[derive(Default)]
struct Figures {
    served: u64,
    refused: u64,
    /// Of the refusals, in microseconds; sorted in the end.
    refusal_times: Vec<u32>,
    seconds: f64,
    /// What the node had of the cores meanwhile.
    node_seconds: f64,
}

impl Figures {
    fn goodput(&self) -> f64 {
        self.served as f64 / self.seconds
    }

    /// The node's time on a core for each request served, with all that it refused meanwhile.
    fn node_us(&self) -> f64 {
        self.node_seconds * 1e6 / self.served as f64
    }

    fn refusal_ms(&self, quantile: f64) -> f64 {
        let last = self.refusal_times.len().saturating_sub(1) as f64;
        let at = self.refusal_times.get((last * quantile) as usize);
        at.map_or(0.0, |time| f64::from(*time) / 1000.0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_refused_and_costs_little() {
    let given = std::env::var("QUIRE_OVERLOAD_SECONDS").ok();
    let seconds = given.as_ref().map_or(1, |text| text.parse().expect("seconds are a number"));
    let time = Duration::from_secs(seconds);
    let node = TestNode::builder().set("requests_max", PLACES).start().await;
    let mut jake = register(&node, "jake").await;
    for n in 0..40 {
        jake.post("/api/articles", &article(&format!("Number {n}"), &["tag"])).await.expect(201);
    }
    closed_loop(&node, PLACES, Duration::from_millis(300)).await;
    let idle = resident_kib(&node);
    let peak = closed_loop(&node, PLACES, time).await;
    let at_peak = resident_kib(&node);
    let crowd = closed_loop(&node, CROWD, time).await;
    let at_crowd = resident_kib(&node);

    let ratio = crowd.goodput() / peak.goodput();
    let memory = at_crowd as f64 / at_peak as f64;
    println!(
        "peak: {PLACES} connections, {:.0} requests/s; crowd: {CROWD} connections, {:.0} served/s \
         ({ratio:.2} of peak), {} refused, refusals p50 {:.1} ms, p99 {:.1} ms; \
         memory {idle} KiB before, {at_peak} KiB at peak, {at_crowd} KiB with the crowd ({memory:.2})",
        peak.goodput(),
        crowd.goodput(),
        crowd.refused,
        crowd.refusal_ms(0.5),
        crowd.refusal_ms(0.99),
    );
    assert!(peak.served > 0 && peak.refused == 0, "{} were refused at peak", peak.refused);
    assert!(crowd.refused > 0, "nobody was refused: this was no overload");
    // Figures need an optimised build on a quiet machine; in the short form other tests, and the
    // crowd itself, take the same cores.
    let has_figures = given.is_some() && !cfg!(debug_assertions);
    let (least, most) = if has_figures { (0.8, 1.5) } else { (0.02, 2.0) };
    assert!(ratio > least, "goodput fell to {ratio:.2} of peak");
    assert!(memory < most, "memory grew {memory:.2} times");

    // Afterwards everything is as before.
    node.ops().get("/readyz").await.expect(200);
    jake.create("After", &[]).await;
    let metrics = node.ops().get("/metrics").await.expect(200).text();
    let (all, quick) = refusals(&metrics);
    let share = quick as f64 / all as f64;
    println!(
        "the node needs {:.1} µs for each request served at peak, {:.1} µs with the crowd",
        peak.node_us(),
        crowd.node_us()
    );
    println!("inside the server: {all} refusals, {:.2} % within 4.1 ms", share * 100.0);
    assert!(all >= crowd.refused, "{all} of {}", crowd.refused);
    // Not optimised it was 0.96 to 0.98.
    assert!(share >= if has_figures { 0.99 } else { 0.75 }, "{share:.3} within 4.1 ms");
    let counted = metrics.lines().find_map(|line| {
        line.strip_prefix("quire_http_requests_refused_total ")?.parse::<u64>().ok()
    });
    assert!(counted.is_some_and(|counted| counted >= crowd.refused), "{counted:?}");
}

/// Clients that send the next request as soon as the last one is answered.
async fn closed_loop(node: &TestNode, clients: usize, time: Duration) -> Figures {
    let mut tasks = JoinSet::new();
    let (began, node_began) = (Instant::now(), on_cores(node));
    for _ in 0..clients {
        tasks.spawn(one_client(node.client(), began + time));
    }
    let all = tasks.join_all().await;
    let node_seconds = on_cores(node) - node_began;
    let seconds = began.elapsed().as_secs_f64();
    let mut figures = Figures { seconds, node_seconds, ..Figures::default() };
    for one in all {
        figures.served += one.served;
        figures.refused += one.refused;
        figures.refusal_times.extend(one.refusal_times);
    }
    figures.refusal_times.sort_unstable();
    figures
}

async fn one_client(mut client: HttpClient, end: Instant) -> Figures {
    let mut figures = Figures::default();
    while Instant::now() < end {
        let began = Instant::now();
        let answer = client.get(ASKED).await;
        match answer.status {
            200 => figures.served += 1,
            503 => {
                let is_told = answer
                    .header("retry-after")
                    .is_some_and(|wait| wait.parse::<u32>().is_ok_and(|seconds| seconds > 0));
                assert!(is_told, "{answer:?}");
                assert!(answer.json()["errors"].is_object(), "{}", answer.text());
                figures.refused += 1;
                figures.refusal_times.push(began.elapsed().as_micros() as u32);
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    figures
}

/// Refusals that the server counts, and those of them that took it at most 4.1 ms: the bucket next
/// below the 5 ms that are promised.
fn refusals(metrics: &str) -> (u64, u64) {
    let of_list = |series: &str, le: Option<&str>| -> u64 {
        let lines = metrics.lines().filter(|line| {
            line.starts_with(series)
                && line.contains(r#"status="503""#)
                && le.is_none_or(|le| line.contains(&format!(r#"le="{le}"#)))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    let all = of_list("quire_http_request_seconds_count", None);
    (all, of_list("quire_http_request_seconds_bucket", Some("0.00409")))
}

/// Seconds that the threads of the node were on a core.
fn on_cores(node: &TestNode) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", node.pid())).expect("it runs");
    let times = threads.map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    times.map(Option::unwrap_or_default).sum::<u64>() as f64 / 1e9
}

/// Memory of the process, from the kernel.
fn resident_kib(node: &TestNode) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
