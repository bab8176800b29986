//! A plain thread that watches the log lane: a sync that hangs can neither be interrupted nor seen
//! from inside the runtime, whose tasks only wait longer.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::watch;

use crate::seams::tasks;
use crate::store::log::LogLane;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(250);

/// The thread; dropping it ends it at its next look.
#[derive(Debug)]
pub(super) struct LaneWatch {
    _stop: mpsc::Sender<()>,
}

impl LaneWatch {
    /// Calls `on_stuck` once when a commit takes longer than `limit`, and ends.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        lane: watch::Receiver<Option<Arc<LogLane>>>,
        limit: Duration,
        on_stuck: impl FnOnce(Duration) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let watch = move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(POLL) {
                let committing = lane.borrow().as_ref().and_then(|lane| lane.committing_for());
                if let Some(time) = committing.filter(|time| *time > limit) {
                    return on_stuck(time);
                }
            }
        };
        tasks::thread("lane-watch", watch)?;
        Ok(Self { _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, LogIndex};
    use crate::store::fault::FaultDisk;
    use crate::store::log::LaneOptions;

    #[test]
    fn a_sync_that_hangs_is_noticed_and_a_slow_one_is_not() {
        let disk = FaultDisk::new();
        let name = std::path::Path::new("log-0.redb");
        let options = LaneOptions::default();
        let lane = LogLane::open_with_backend(name, disk.backend(), options).unwrap();
        let group = lane.group(GroupId(1)).unwrap();
        let published = watch::Sender::new(Some(lane));
        let (stuck, told) = mpsc::channel();
        let limit = Duration::from_secs(1);
        let _watch =
            LaneWatch::start(published.subscribe(), limit, move |time| stuck.send(time).unwrap());
        let append = |index| {
            let (done, durable) = mpsc::channel();
            let entry = (LogIndex(index), bytes::Bytes::from_static(b"entry"));
            group.append(vec![entry], Box::new(move |result| done.send(result).unwrap()));
            durable.recv().unwrap().unwrap();
        };
        disk.set_sync_delay(Duration::from_millis(400));
        append(1);
        assert!(told.try_recv().is_err(), "slow is not stuck");
        disk.set_sync_delay(Duration::from_millis(2_500));
        append(2);
        assert!(told.try_recv().unwrap() > limit);
    }
}
