//! The actor that samples the process.
//!
//! **Owns** nothing. **Receives** its own ticks. **Started by** the root, first.
//! **When it fails** it stays away (temporary): measuring must never cost the measured. What it
//! sampled stays at its last value, and `process_sampled` says when that was.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::seams::Clock;
use crate::telemetry::Metrics;

/// Time between samples.
const PERIOD: Duration = Duration::from_secs(5);
/// Size of a page of memory in `/proc`, in bytes, on every machine that we build for.
const PAGE_BYTES: i64 = 4096;

/// What the actor receives.
pub(crate) enum TelemetryMessage {
    /// Time for a sample.
    Sample,
}

/// All that it needs.
#[derive(Clone)]
pub(crate) struct Arguments {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// Where the system tells about this process.
    pub(crate) proc: &'static str,
}

/// The actor.
pub(crate) struct TelemetryActor;

impl Actor for TelemetryActor {
    type Msg = TelemetryMessage;
    type State = Arguments;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<TelemetryMessage>,
        arguments: Arguments,
    ) -> Result<Arguments, ActorProcessingErr> {
        let _ = myself.cast(TelemetryMessage::Sample);
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<TelemetryMessage>,
        message: TelemetryMessage,
        state: &mut Arguments,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TelemetryMessage::Sample => sample(state)?,
        }
        myself.send_after(PERIOD, || TelemetryMessage::Sample);
        Ok(())
    }
}

fn sample(state: &Arguments) -> Result<(), ActorProcessingErr> {
    let read = |name: &str| std::fs::read_to_string(format!("{}/{name}", state.proc));
    let pages = read("statm")?;
    let resident = pages.split(' ').nth(1).ok_or("statm has no resident pages")?;
    let files = std::fs::read_dir(format!("{}/fd", state.proc))?.count();
    state.metrics.process_resident.set(resident.parse::<i64>()? * PAGE_BYTES);
    state.metrics.process_files.set(files as i64);
    state.metrics.process_sampled.set((state.clock.now().as_millis() / 1000) as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::supervisor::{
        ChildSpec, NodeState, RestartType, Strategy, SupervisorSpec, Tree, TreeOptions,
    };

    fn telemetry(metrics: &Arc<Metrics>, proc: &'static str) -> ChildSpec {
        let metrics = metrics.clone();
        ChildSpec::actor("telemetry", move |_| {
            let clock = Clock::system();
            (TelemetryActor, Arguments { metrics: metrics.clone(), clock, proc })
        })
        .restart(RestartType::Temporary)
    }

    #[tokio::test]
    async fn a_sampler_that_fails_restarts_nothing() {
        let metrics = Arc::new(Metrics::new());
        let root = SupervisorSpec::new("root", Strategy::OneForAll)
            .child(telemetry(&metrics, "/no/such/place"))
            .child(ChildSpec::supervisor(SupervisorSpec::new("node", Strategy::OneForOne)));
        let tree = Tree::new(root, TreeOptions::default()).unwrap();
        let root = tree.start().await.unwrap();
        let ended = async {
            while tree.snapshot().find("root/telemetry").unwrap().last_failure.is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
        let snapshot = tree.snapshot();
        let node = snapshot.find("root/node").unwrap();
        assert_eq!((node.restarts.total(), &node.state), (0, &NodeState::Running));
        assert_eq!(snapshot.find("root/telemetry").unwrap().restarts.total(), 0);
        root.stop().await.unwrap();
    }

    #[tokio::test]
    async fn the_process_is_sampled() {
        let metrics = Arc::new(Metrics::new());
        let state = Arguments { metrics: metrics.clone(), clock: Clock::system(), proc: PROC };
        sample(&state).unwrap();
        assert!(metrics.process_resident.get() > 1_000_000);
        assert!(metrics.process_files.get() > 2);
    }

    const PROC: &str = "/proc/self";
}
