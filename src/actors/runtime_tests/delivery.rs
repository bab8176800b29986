//! Events between services: a source, and sinks that check what they get.

mod figures;
mod once;
mod paths;
mod power_cuts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;

use super::*;
use crate::actors::relay::message::{Ingest, Part, RuntimeReply};
use crate::actors::relay::{
    Delivered, Feed, FeedState, FeedStatus, OutboxLimits, Port, SubscriberPort, Subscribes,
    Subscription,
};
use crate::ids::{EventPosition, LogIndex, ShardId, ShardName};
use crate::seams::tasks;
use crate::store::outbox::OutboxEvent;

const SOURCE_FILE: &str = "source-0.redb";
const RELAY: &str = "test/services/source/0/relay";
/// A sink panics over these.
const POISON: u64 = 666;
/// Mapping these panics.
const UNMAPPABLE: u64 = 667;
/// These become more commands than an entry holds.
const HUGE: u64 = 669;
/// These crash a sink's actor in the middle of a delivery.
const FATAL: u64 = 670;
/// These concern no sink.
const DULL: u64 = 668;

/// Counts by key, and tells every count.
struct Source;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Emit {
    key: u64,
    times: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    key: u64,
    count: u64,
}

impl Record for Emit {
    const KIND: u8 = 210;
}
impl Record for Counted {
    const KIND: u8 = 211;
}

impl StateMachine for Source {
    const NAME: &'static str = "source";
    const TABLES: &'static [&'static str] = &["counts"];
    type Command = Emit;
    type Query = u64;
    type Reply = Count;
    type Answer = u64;
    type Refusal = No;
    type Event = Counted;

    fn bucket(_command: &Emit) -> Bucket {
        Bucket::new(0)
    }

    fn load(_tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        Ok(Self)
    }

    fn apply(
        &mut self,
        tables: &mut Tables<'_>,
        _stamp: Stamp,
        Emit { key, times }: Emit,
    ) -> Result<Outcome<Count, Counted>, Stop<No>> {
        let before = count(&tables.view(), key)?;
        let last = before + times;
        put_count(tables, key, last);
        let events = (before + 1..=last).map(|count| Counted { key, count }).collect();
        match times {
            0 => refuse(No),
            _ => Ok(Outcome { reply: Count(last), events }),
        }
    }

    fn query(&mut self, tables: &ReadTables<'_>, key: &mut u64) -> Result<Step<u64>, Stop<No>> {
        Ok(Step::Done(count(tables, *key)?))
    }
}

/// Keeps the last count of every key, and refuses what is not the next: a gap, a double or another
/// order would stay visible as a count that stands still. The other one keeps them in memory.
struct Sink<const N: u8> {
    crash: bool,
    /// Empty of a table-kept one.
    counts: BTreeMap<u64, u64>,
    unsaved: BTreeSet<u64>,
}

impl<const N: u8> Sink<N> {
    fn last(&self, tables: &ReadTables<'_>, key: u64) -> Result<u64, StoreError> {
        match Self::KEPT {
            Kept::Tables => count(tables, key),
            Kept::Memory => Ok(self.counts.get(&key).copied().unwrap_or(0)),
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Take(Counted);

impl Record for Take {
    const KIND: u8 = 212;
}

impl<const N: u8> StateMachine for Sink<N> {
    const NAME: &'static str = match N {
        0 => "sink",
        _ => "other",
    };
    const TABLES: &'static [&'static str] = &["counts"];
    const KEPT: Kept = match N {
        0 => Kept::Tables,
        _ => Kept::Memory,
    };
    type Command = Take;
    type Query = u64;
    type Reply = Count;
    type Answer = u64;
    type Refusal = No;
    type Event = Count;

    fn bucket(Take(event): &Take) -> Bucket {
        Bucket::new(event.key)
    }

    fn load(tables: &ReadTables<'_>) -> Result<Self, StoreError> {
        let counts = match Self::KEPT {
            Kept::Tables => BTreeMap::new(),
            Kept::Memory => all_counts(tables)?,
        };
        Ok(Self { crash: false, counts, unsaved: BTreeSet::new() })
    }

    fn apply(
        &mut self,
        tables: &mut Tables<'_>,
        _stamp: Stamp,
        Take(Counted { key, count: taken }): Take,
    ) -> Result<Outcome<Count, Count>, Stop<No>> {
        if taken != self.last(&tables.view(), key)? + 1 {
            return refuse(No);
        }
        match Self::KEPT {
            Kept::Tables => put_count(tables, key, taken),
            Kept::Memory => {
                self.counts.insert(key, taken);
                self.unsaved.insert(key);
            }
        }
        // What is in memory is applied again after a crash, and would crash for ever.
        static CRASHED: AtomicU64 = AtomicU64::new(0);
        let is_first = || CRASHED.fetch_max(taken, Ordering::SeqCst) < taken;
        self.crash = key == FATAL && (Self::KEPT == Kept::Tables || is_first());
        assert_ne!(key, POISON, "poison, on purpose");
        Ok(Outcome::reply(Count(taken)))
    }

    fn checkpoint(
        &mut self,
        tables: &mut Tables<'_>,
        _rows: usize,
    ) -> Result<Step<()>, StoreError> {
        for key in std::mem::take(&mut self.unsaved) {
            put_count(tables, key, self.counts[&key]);
        }
        Ok(Step::Done(()))
    }

    fn committed(&mut self) {
        assert!(!std::mem::take(&mut self.crash), "a crash of the actor, on purpose");
    }

    fn query(&mut self, tables: &ReadTables<'_>, key: &mut u64) -> Result<Step<u64>, Stop<No>> {
        Ok(Step::Done(self.last(tables, *key)?))
    }
}

impl<const N: u8> Subscribes<Counted> for Sink<N> {
    fn ingest(delivered: Delivered<Counted>, commands: &mut Vec<Take>) {
        assert_ne!(delivered.event.key, UNMAPPABLE, "a mapping, on purpose");
        let times = match delivered.event.key {
            DULL => 0,
            HUGE => 1_000_000,
            _ => 1,
        };
        commands.extend((0..times).map(|_| Take(delivered.event)));
    }
}

/// A source with one shard; a sink with two, and another with one.
struct Delivery {
    source: Router<Source>,
    sink: Router<Sink<0>>,
    other: Router<Sink<1>>,
    tree: Tree,
    root: RootHandle,
    checkpoints: Arc<Checkpoints>,
    metrics: Arc<Metrics>,
}

/// Small ones, so that a test gets there.
const LIMITS: OutboxLimits = OutboxLimits {
    events_max: 5_000,
    bytes_max: 1 << 20,
    acknowledge_events: 64,
    acknowledge_bytes: 1 << 16,
};
const FILES: [&str; 5] = [LANE_FILE, SOURCE_FILE, "sink-0.redb", "sink-1.redb", "other-0.redb"];

impl Delivery {
    async fn start(folder: &Path, limits: OutboxLimits) -> Self {
        Self::start_with(folder, limits, both).await
    }

    async fn start_with(folder: &Path, limits: OutboxLimits, subscribe: impl Subscribe) -> Self {
        let seams = Seams { clock: Clock::system(), random: Random::system() };
        let options = CheckpointOptions { bytes: 1 << 20, age: Duration::from_secs(3600) };
        let ground = Ground { outbox: limits, ..ground(seams, LaneOptions::default(), options) };
        Self::start_on(folder, ground, subscribe).await
    }

    async fn start_on(folder: &Path, ground: Ground, subscribe: impl Subscribe) -> Self {
        let storage = ground.lanes.storage.clone();
        let paths = FILES.map(|name| folder.join(name));
        let sinks = open_stores::<Sink<0>>(&storage, &paths[2..4], 1 << 20).unwrap();
        let others = open_stores::<Sink<1>>(&storage, &paths[4..], 1 << 20).unwrap();
        let sources = open_stores::<Source>(&storage, &paths[1..2], 1 << 20).unwrap();
        let sink = host::<Sink<0>>(&ground, sinks, 100, &[]);
        let other = host::<Sink<1>>(&ground, others, 200, &[]);
        let subscriptions = subscribe(&sink.router, &other.router);
        let source = host::<Source>(&ground, sources, 1, &subscriptions);
        let options = TreeOptions { random: ground.seams.random.clone(), ..TreeOptions::default() };
        let services = [source.child, sink.child, other.child];
        let (tree, root) = start_tree(&ground, folder, services, options).await;
        let (checkpoints, metrics) = (ground.checkpoints, ground.metrics);
        let (source, sink, other) = (source.router, sink.router, other.router);
        Self { source, sink, other, tree, root, checkpoints, metrics }
    }

    async fn emit(&self, key: u64, times: u64) -> u64 {
        self.source.command(Call::new(), Emit { key, times }).await.unwrap().0
    }

    async fn counted(&self, key: u64) -> u64 {
        self.source.query_shard(Call::new(), 0, key).await.unwrap()
    }

    async fn taken(&self, key: u64) -> u64 {
        self.sink.query(Call::new(), Bucket::new(key), key).await.unwrap()
    }

    async fn taken_by_other(&self, key: u64) -> u64 {
        self.other.query(Call::new(), Bucket::new(key), key).await.unwrap()
    }

    /// Both sinks have everything that the source counted.
    async fn wait_equal(&self, keys: std::ops::Range<u64>) {
        for key in keys {
            let counted = self.counted(key).await;
            eventually("every event arrives once", async || {
                self.taken(key).await == counted && self.taken_by_other(key).await == counted
            })
            .await;
        }
    }

    /// Resumes the feed to the other sink and copies what that lacks of a key.
    async fn rebuild_other(&self, key: u64) {
        // The copy may hold more than the position says.
        let from = self.feed("other/0").resume().await.unwrap();
        assert!(from > Default::default());
        let missing = self.taken_by_other(key).await + 1..=self.counted(key).await;
        for counts in missing.collect::<Vec<_>>().chunks(1_000) {
            // Sent together, in order: they share commits.
            let copied = counts.iter().map(|count| {
                let take = Take(Counted { key, count: *count });
                self.other.command(Call::new(), take)
            });
            let copied = futures_util::future::join_all(copied).await;
            assert!(copied.iter().all(Result::is_ok));
        }
    }

    fn feed(&self, subscriber: &str) -> &Feed {
        let feeds = self.source.feeds().iter();
        feeds.into_iter().find(|feed| feed.subscriber().to_string() == subscriber).unwrap()
    }

    async fn wait_state(&self, subscriber: &str, state: FeedState) -> FeedStatus {
        let reached = self.feed(subscriber).wait_for(|status| status.state == state);
        let reached = time::timeout(Duration::from_secs(30), reached).await;
        reached.expect("the state is reached").expect("the node runs")
    }

    /// Events in the outbox, by the rows themselves.
    fn waiting(&self) -> usize {
        let state = self.source.cell(0).store.lock();
        let rows = state.read().range(crate::store::memtable::OUTBOX, &[], None).unwrap();
        rows.count()
    }

    /// The value of a metric of the feed to a sink.
    fn metric(&self, name: &str, subscriber: &str) -> f64 {
        let (service, shard) = subscriber.split_once('/').unwrap();
        let labels = format!("subscriber=\"{service}\",subscriber_shard=\"{shard}\"}} ");
        let text = self.metrics.encode();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("quire_{name}{{")) && line.contains(&labels));
        line.unwrap_or_else(|| panic!("{name}")).rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    async fn end(self) {
        self.root.stop().await.unwrap();
        self.checkpoints.close();
    }
}

/// Who subscribes.
trait Subscribe: FnOnce(&Router<Sink<0>>, &Router<Sink<1>>) -> Vec<Subscription<Source>> {}

impl<F: FnOnce(&Router<Sink<0>>, &Router<Sink<1>>) -> Vec<Subscription<Source>>> Subscribe for F {}

fn both(sink: &Router<Sink<0>>, other: &Router<Sink<1>>) -> Vec<Subscription<Source>> {
    vec![Subscription::of(sink), Subscription::of(other)]
}

fn crashed_copy(folder: &Path) -> tempfile::TempDir {
    copy_of(folder, &FILES)
}

/// What becomes of an answer to a delivery on its way to the relay.
#[derive(Clone, Copy)]
enum Fate {
    Arrives,
    /// The subscriber has applied it, and nobody knows.
    Lost,
    /// Nobody knows, even before it is applied.
    TooLate,
    /// The relay dies when the subscriber has applied it.
    Fatal,
}

/// A way to a subscriber on which things happen.
struct Rough {
    inner: Port<Source>,
    fates: Box<dyn Fn() -> Fate + Send + Sync>,
    /// What the subscriber says that it has, if that is not true.
    claim: Claim,
}

type Claim = Arc<Mutex<Option<crate::store::feed::Feed>>>;

impl SubscriberPort<Counted> for Rough {
    fn id(&self) -> ShardId {
        self.inner.id()
    }

    fn map(&self, source: ShardId, event: &OutboxEvent, parts: &mut Vec<Part>) {
        self.inner.map(source, event, parts);
    }

    fn feed(&self, source: ShardName) -> BoxFuture<'_, Option<crate::store::feed::Feed>> {
        match *self.claim.lock().unwrap() {
            Some(claim) => Box::pin(std::future::ready(Some(claim))),
            None => self.inner.feed(source),
        }
    }

    fn ingest(&self, ingest: &Ingest) -> BoxFuture<'_, Option<RuntimeReply>> {
        let (fate, inner, ingest) = ((self.fates)(), self.inner.clone(), ingest.clone());
        Box::pin(async move {
            let delivery = tasks::spawn(async move { inner.ingest(&ingest).await });
            match fate {
                Fate::Arrives => delivery.await.unwrap(),
                Fate::Lost => delivery.await.unwrap().and(None),
                Fate::TooLate => None,
                Fate::Fatal => {
                    delivery.await.unwrap();
                    panic!("the relay, on purpose")
                }
            }
        })
    }
}
