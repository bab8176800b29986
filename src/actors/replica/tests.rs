use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::actors::replica::actor::{Arguments, ReplicaActor, ReplicaMessage, ReplicaStatus};
use crate::actors::replica::port::{
    AppliedState, Applier, CommittedEntry, CommittedLog, ProposeError, Replica,
};
use crate::actors::supervisor::DependencyFailed;
use crate::ids::{GroupId, LogIndex, NodeId, ShardId};
use crate::seams::Random;
use crate::store::error::StoreError;
use crate::store::fault::FaultDisk;
use crate::store::log::{LaneOptions, LogLane};

const PATIENCE: Duration = Duration::from_secs(20);

/// A shard's cell that keeps what it is given.
pub(super) struct FakeShard {
    state: Mutex<FakeState>,
    /// While false, apply waits.
    open: watch::Sender<bool>,
    applied: watch::Sender<LogIndex>,
    log: Mutex<Option<(u64, Arc<dyn CommittedLog>)>>,
    checked: bool,
}

#[derive(Default)]
struct FakeState {
    entries: Vec<CommittedEntry>,
    applied: AppliedState,
    durable: AppliedState,
    newest: u64,
    waiters: std::collections::HashMap<Bytes, oneshot::Sender<()>>,
}

impl FakeShard {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            open: watch::Sender::new(true),
            applied: watch::Sender::new(LogIndex(0)),
            log: Mutex::default(),
            checked: true,
        }
    }

    /// Takes entries with gaps, and calls everything durable.
    pub(super) fn without_checks() -> Self {
        Self { checked: false, ..Self::new() }
    }

    /// What is left of the shard when the process dies.
    fn after_crash(&self) -> Self {
        let old = self.state.lock().unwrap();
        let survivor = Self::new();
        let mut state = survivor.state.lock().unwrap();
        state.durable = old.durable.clone();
        state.applied = old.durable.clone();
        let durable = old.durable.index.0 as usize;
        state.entries = old.entries.iter().take(durable).cloned().collect();
        drop(state);
        survivor.applied.send_replace(old.durable.index);
        survivor
    }

    fn log(&self) -> Arc<dyn CommittedLog> {
        self.log.lock().unwrap().as_ref().expect("a replica runs").1.clone()
    }

    fn checkpoint(&self) -> AppliedState {
        let mut state = self.state.lock().unwrap();
        state.durable = state.applied.clone();
        state.durable.clone()
    }

    fn batches(&self) -> Vec<Bytes> {
        let state = self.state.lock().unwrap();
        state.entries.iter().filter_map(|entry| entry.batch.clone()).collect()
    }

    fn take(&self, state: &mut FakeState, entries: Vec<CommittedEntry>) {
        for entry in entries {
            if self.checked && entry.index <= state.applied.index {
                continue;
            }
            assert!(!self.checked || entry.index == state.applied.index.next(), "a gap");
            state.applied = AppliedState { index: entry.index, position: entry.position.clone() };
            if !self.checked {
                state.durable = state.applied.clone();
            }
            let waiter = entry.batch.as_ref().and_then(|batch| state.waiters.remove(batch));
            state.entries.push(entry);
            waiter.map(|waiter| waiter.send(()));
        }
    }

    async fn wait_batches(&self, count: usize) -> Vec<Bytes> {
        let mut applied = self.applied.subscribe();
        let wait = applied.wait_for(|_| self.batches().len() >= count);
        timeout(PATIENCE, wait).await.expect("batches are applied in time").unwrap();
        self.batches()
    }
}

impl Applier for FakeShard {
    fn opened(&self, incarnation: u64, log: Arc<dyn CommittedLog>) {
        *self.log.lock().unwrap() = Some((incarnation, log));
    }

    fn closed(&self, incarnation: u64) {
        self.log.lock().unwrap().take_if(|(known, _)| *known == incarnation);
    }

    fn apply(&self, incarnation: u64, entries: Vec<CommittedEntry>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
            let late = {
                let mut state = self.state.lock().unwrap();
                state.newest = state.newest.max(incarnation);
                state.newest > incarnation
            };
            if late {
                std::future::pending::<()>().await;
            }
            let applied = {
                let mut state = self.state.lock().unwrap();
                self.take(&mut state, entries);
                state.applied.index
            };
            // Who waits looks at the state while it holds the watch: never both the other way.
            self.applied.send_replace(applied);
        })
    }

    fn applied(&self) -> AppliedState {
        self.state.lock().unwrap().applied.clone()
    }

    fn durable(&self) -> AppliedState {
        self.state.lock().unwrap().durable.clone()
    }

    fn file(&self) -> &Path {
        Path::new("fake-0.redb")
    }
}

/// Tells what became of the replica.
struct Observer(mpsc::UnboundedSender<Option<String>>);

impl Actor for Observer {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => {
                let known = error.is::<StoreError>() || error.is::<DependencyFailed>();
                assert!(known, "{error}");
                let _ = self.0.send(Some(error.to_string()));
            }
            SupervisionEvent::ActorTerminated(..) => drop(self.0.send(None)),
            _ => {}
        }
        Ok(())
    }
}

/// A shard and its replica on a lane.
struct Node {
    disk: FaultDisk,
    lane: watch::Sender<Option<Arc<LogLane>>>,
    shard: Arc<FakeShard>,
    arguments: Arguments,
    exits: mpsc::UnboundedReceiver<Option<String>>,
    observer: ActorRef<()>,
}

impl Node {
    async fn new(disk: FaultDisk, shard: FakeShard) -> Self {
        let lane =
            LogLane::open_with_backend(Path::new("lane"), disk.backend(), LaneOptions::default());
        Self::with_lane(disk, lane.unwrap(), shard).await
    }

    async fn with_lane(disk: FaultDisk, lane: Arc<LogLane>, shard: FakeShard) -> Self {
        let lane = watch::Sender::new(Some(lane));
        let shard = Arc::new(shard);
        let arguments = Arguments {
            shard: ShardId { service: "test", index: 0 },
            node: NodeId(1),
            group: GroupId(3),
            lane: lane.subscribe(),
            applier: shard.clone(),
            published: watch::Sender::new(None),
            status: watch::Sender::new(ReplicaStatus::default()),
            random: Random::system(),
        };
        let (sender, exits) = mpsc::unbounded_channel();
        let (observer, _) = Actor::spawn(None, Observer(sender), ()).await.unwrap();
        Self { disk, lane, shard, arguments, exits, observer }
    }

    async fn spawn(&self) -> Result<ActorRef<ReplicaMessage>, SpawnErr> {
        let (arguments, observer) = (self.arguments.clone(), self.observer.get_cell());
        Ok(Actor::spawn_linked(None, ReplicaActor, arguments, observer).await?.0)
    }

    async fn start(&self) -> (ActorRef<ReplicaMessage>, Arc<dyn Replica>) {
        let actor = self.spawn().await.unwrap();
        (actor, self.replica().await)
    }

    async fn replica(&self) -> Arc<dyn Replica> {
        let mut published = self.arguments.published.subscribe();
        let replica = timeout(PATIENCE, published.wait_for(Option::is_some)).await;
        replica.expect("a replica is published").unwrap().clone().unwrap()
    }

    async fn status(&self, condition: impl FnMut(&ReplicaStatus) -> bool) -> ReplicaStatus {
        let mut status = self.arguments.status.subscribe();
        *timeout(PATIENCE, status.wait_for(condition)).await.expect("the status changes").unwrap()
    }

    /// The whole process dies; what the disk has not synced may be lost.
    async fn crash(mut self, actor: ActorRef<ReplicaMessage>) -> (FaultDisk, FakeShard) {
        self.disk.cut(&mut rand::rng());
        actor.kill();
        timeout(PATIENCE, self.exits.recv()).await.unwrap();
        self.lane.borrow().as_ref().unwrap().close();
        (self.disk.clone(), self.shard.after_crash())
    }
}

fn batch(number: usize) -> Bytes {
    Bytes::from(format!("batch {number}"))
}

fn propose(replica: &dyn Replica, numbers: std::ops::Range<usize>) -> Arc<AtomicUsize> {
    let failed = Arc::new(AtomicUsize::new(0));
    for number in numbers {
        let failed = failed.clone();
        let count = move |_: ProposeError| {
            failed.fetch_add(1, Ordering::SeqCst);
        };
        replica.propose(batch(number), Box::new(count));
    }
    failed
}

fn numbered(range: std::ops::Range<usize>) -> Vec<Bytes> {
    range.map(batch).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_become_entries_in_order() {
    let node = Node::new(FaultDisk::new(), FakeShard::new()).await;
    let started = Instant::now();
    let (actor, replica) = node.start().await;
    println!("a fresh replica leads after {:?}", started.elapsed());
    let failed = propose(&*replica, 0..1000);
    assert_eq!(node.shard.wait_batches(1000).await, numbered(0..1000));
    assert_eq!(failed.load(Ordering::SeqCst), 0);
    let last = node.shard.applied().index;
    let status = node.status(|status| status.applied == last).await;
    assert!(status.leads && status.leader == Some(NodeId(1)) && status.term == 1, "{status:?}");

    // What a restarted shard pulls is what was fed.
    let mut pulled = Vec::new();
    let mut after = LogIndex(0);
    loop {
        let page = node.shard.log().committed_after(after, 3000).unwrap();
        let Some(last) = page.last() else { break };
        after = last.index;
        pulled.extend(page);
    }
    let fed = node.shard.state.lock().unwrap().entries.clone();
    assert_eq!(pulled.len(), fed.len());
    for (pulled, fed) in pulled.iter().zip(&fed) {
        assert_eq!((pulled.index, &pulled.batch), (fed.index, &fed.batch));
        assert_eq!(pulled.position, fed.position);
    }
    assert!(fed[0].batch.is_none(), "the membership is an entry without a batch");
    assert!(node.shard.log().committed_after(last, 1).unwrap().is_empty());
    actor.stop_and_wait(None, None).await.unwrap();
    assert!(node.arguments.published.borrow().is_none());
    let failed = propose(&*replica, 0..3);
    assert_eq!(failed.load(Ordering::SeqCst), 3, "a stopped replica says so at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_replica_goes_on() {
    let node = Node::new(FaultDisk::new(), FakeShard::new()).await;
    let mut count = 0;
    for round in 0..6u64 {
        let started = Instant::now();
        let (actor, replica) = node.start().await;
        println!("restart {round}: leads after {:?}", started.elapsed());
        propose(&*replica, count..count + 50);
        count += 50;
        assert_eq!(node.shard.wait_batches(count).await, numbered(0..count));
        let status = node.status(|status| status.leads).await;
        assert_eq!(status.term, round + 1, "one election per restart");
        if round % 2 == 0 {
            actor.kill_and_wait(None).await.unwrap();
        } else {
            actor.stop_and_wait(None, None).await.unwrap();
        }
        node.arguments.published.subscribe().wait_for(Option::is_none).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_process_replays_from_the_checkpoint() {
    let (mut disk, mut shard) = (FaultDisk::new(), FakeShard::new());
    let mut count = 0;
    for round in 0..5 {
        let node = Node::new(disk, shard).await;
        let (actor, replica) = node.start().await;
        assert_eq!(node.shard.batches(), numbered(0..count), "round {round}");
        propose(&*replica, count..count + 30);
        count += 30;
        node.shard.wait_batches(count).await;
        if round % 2 == 0 {
            replica.checkpointed(node.shard.checkpoint());
            propose(&*replica, count..count + 10);
            count += 10;
            node.shard.wait_batches(count).await;
        }
        (disk, shard) = node.crash(actor).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_purged_behind_the_checkpoint_and_no_further() {
    let node = Node::new(FaultDisk::new(), FakeShard::new()).await;
    let (actor, replica) = node.start().await;
    propose(&*replica, 0..100);
    node.shard.wait_batches(100).await;
    let checkpoint = node.shard.checkpoint();
    propose(&*replica, 100..120);
    node.shard.wait_batches(120).await;
    replica.checkpointed(checkpoint.clone());
    let status = node.status(|status| status.purged > LogIndex(0)).await;
    assert_eq!(status.purged, checkpoint.index);
    assert!(matches!(
        node.shard.log().committed_after(LogIndex(5), 1),
        Err(StoreError::Damaged { .. })
    ));
    assert_eq!(node.shard.log().committed_after(checkpoint.index, usize::MAX).unwrap().len(), 20);

    let (disk, shard) = node.crash(actor).await;
    let node = Node::new(disk, shard).await;
    let (actor, replica) = node.start().await;
    assert_eq!(node.shard.batches(), numbered(0..120));
    propose(&*replica, 120..130);
    node.shard.wait_batches(130).await;

    // A checkpoint that nobody was told of is found at the next start.
    actor.stop_and_wait(None, None).await.unwrap();
    let checkpoint = node.shard.checkpoint();
    let (actor, _replica) = node.start().await;
    node.status(|status| status.purged == checkpoint.index).await;

    // The shard's file is gone, or older than it was.
    let (disk, _) = node.crash(actor).await;
    let mut node = Node::new(disk, FakeShard::new()).await;
    let Err(SpawnErr::StartupFailed(error)) = node.spawn().await else {
        panic!("a state behind a purged log must be refused");
    };
    assert!(matches!(error.downcast_ref(), Some(StoreError::Damaged { .. })), "{error}");
    assert!(node.exits.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_without_its_log_is_refused() {
    let node = Node::new(FaultDisk::new(), FakeShard::new()).await;
    let (actor, replica) = node.start().await;
    propose(&*replica, 0..10);
    node.shard.wait_batches(10).await;
    node.shard.checkpoint();
    let (_, shard) = node.crash(actor).await;
    let node = Node::new(FaultDisk::new(), shard).await;
    let Err(SpawnErr::StartupFailed(error)) = node.spawn().await else {
        panic!("a state that is ahead of the log must be refused");
    };
    assert!(matches!(error.downcast_ref(), Some(StoreError::Damaged { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_away_loses_nothing() {
    let node = Node::new(FaultDisk::new(), FakeShard::new()).await;
    let (actor, replica) = node.start().await;
    propose(&*replica, 0..10);
    node.shard.wait_batches(10).await;
    let applied = node.shard.applied().index;
    node.shard.open.send_replace(false);
    propose(&*replica, 10..30);
    // The shard can pull what the replica waits to hand over.
    let pulled = async {
        while node.shard.log().committed_after(applied, usize::MAX).unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, pulled).await.unwrap();
    node.status(|status| status.last >= LogIndex(applied.0 + 20)).await;
    // The replica is replaced while it waits; the successor waits, too.
    actor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
    let actor = node.spawn().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(node.arguments.published.borrow().is_none(), "not served before it has recovered");
    // A third one, so that one is replaced while it opens.
    actor.kill_and_wait(None).await.unwrap();
    let (_actor, replica) = {
        let actor = node.spawn().await.unwrap();
        node.shard.open.send_replace(true);
        (actor, node.replica().await)
    };
    assert_eq!(node.shard.wait_batches(30).await, numbered(0..30));
    propose(&*replica, 30..40);
    assert_eq!(node.shard.wait_batches(40).await, numbered(0..40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_lane_stops_the_replica() {
    let mut node = Node::new(FaultDisk::new(), FakeShard::new()).await;
    let (_actor, replica) = node.start().await;
    propose(&*replica, 0..10);
    node.shard.wait_batches(10).await;
    node.disk.fail_after(0, io::ErrorKind::StorageFull);
    let failed = propose(&*replica, 10..15);
    let exit = timeout(PATIENCE, node.exits.recv()).await.unwrap().unwrap();
    assert!(exit.unwrap().contains("the log lane"), "the failure is the lane's, not its own");
    node.arguments.published.subscribe().wait_for(Option::is_none).await.unwrap();
    let told = async {
        while failed.load(Ordering::SeqCst) < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("every proposal in flight is told");

    // Nothing starts on the failed lane; on a reopened one it goes on.
    assert!(node.spawn().await.is_err());
    node.disk.cut(&mut rand::rng());
    let backend = node.disk.backend();
    let lane = LogLane::open_with_backend(Path::new("lane"), backend, LaneOptions::default());
    node.lane.send_replace(Some(lane.unwrap()));
    let (_actor, replica) = node.start().await;
    propose(&*replica, 10..20);
    let batches = node.shard.wait_batches(20).await;
    assert_eq!(batches[..10], numbered(0..10));
    assert_eq!(batches[batches.len() - 10..], numbered(10..20));
}

/// The shard may wait for another log to catch up from, and the group for the shard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_still_opening_ends_with_its_lane() {
    let mut node = Node::new(FaultDisk::new(), FakeShard::new()).await;
    node.shard.open.send_replace(false);
    node.spawn().await.unwrap();
    node.lane.send_replace(None);
    let exit = timeout(PATIENCE, node.exits.recv()).await.unwrap().unwrap();
    assert!(exit.unwrap().contains("the log lane"), "the failure is the lane's, not its own");
    assert!(node.arguments.published.borrow().is_none());
}

/// Not a test of speed: prints figures of this machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput_figures() {
    let directory = tempfile::tempdir().unwrap();
    let lane = LogLane::open(&directory.path().join("lane"), LaneOptions::default()).unwrap();
    let node = Node::with_lane(FaultDisk::new(), lane, FakeShard::new()).await;
    let (_actor, replica) = node.start().await;
    for proposers in [1, 64] {
        let started = Instant::now();
        let each = if proposers == 1 { 200 } else { 50 };
        let tasks: Vec<_> = (0..proposers)
            .map(|proposer| {
                let (replica, shard) = (replica.clone(), node.shard.clone());
                tokio::spawn(async move {
                    for number in 0..each {
                        let text = format!("{proposers} {proposer} {number} {:1000}", "");
                        let (done, applied) = oneshot::channel();
                        let batch = Bytes::from(text);
                        shard.state.lock().unwrap().waiters.insert(batch.clone(), done);
                        replica.propose(batch, Box::new(|error| panic!("{error}")));
                        timeout(PATIENCE, applied).await.unwrap().unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let total = proposers * each;
        let seconds = started.elapsed().as_secs_f64();
        println!("{proposers} proposers of 1 kB: {:.0} entries/s", total as f64 / seconds);
    }
}
