//! The history against a model: a map of the newest reads.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::actors::user::message::{Depth, Error, Place, READS_MAX, Read};
use crate::actors::user::tables::{HISTORY, HISTORY_SIZES, HistorySizeRow, empty, history_key};
use crate::store::codec::decode;
use crate::store::file::Storage;
use crate::store::shard_file::ShardStore;

type Moment = (Stamp, PostId);

/// What one command forgets at most.
const STEP: usize = 2 * READS_MAX;

fn read(at: u64, post: u64, depth: u8) -> Read {
    Read { post: PostId(post), at: Stamp(at), depth: Depth::new(depth) }
}

fn record(reads: Vec<Read>) -> Command {
    Command::RecordReads { user: DAVE, reads: reads.into_iter().map(Some).collect() }
}

fn recorded(new: u32, ahead: Vec<u16>) -> Reply {
    Reply::Recorded { new, unseen: Vec::new(), ahead }
}

fn all(world: &mut World) -> Vec<Read> {
    exported(world, UserId(0), ExportPart::Reads).swap_remove(0).reads
}

fn page(world: &mut World, place: Option<Place<Moment>>, limit: usize) -> Vec<Read> {
    match world.ask(Query::ListHistory { user: DAVE, place, limit }).unwrap() {
        Answer::History(reads) => reads,
        other => panic!("{other:?}"),
    }
}

/// A world whose reader has so many reads that no program of today has counted.
fn filled(reads: u64) -> World {
    let mut world = World::new();
    world.run(create(DAVE, "Dave", 1)).unwrap();
    world
        .tables
        .apply(|tables| {
            for n in 0..reads {
                tables.put(HISTORY, history_key(DAVE, Stamp(100 + n), PostId(n % 7)), empty());
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    world
}

fn size(world: &World) -> Option<HistorySizeRow> {
    let bytes = world.tables.read(|tables| tables.get(HISTORY_SIZES, &tables::user_key(DAVE)));
    bytes.unwrap().map(|bytes| decode(&bytes).unwrap())
}

#[test]
fn a_batch_is_recorded_once_and_what_lies_ahead_is_refused() {
    let mut world = filled(0);
    let limit = crate::config::STAMP_AHEAD_MAX.as_micros() as u64;
    // The command is stamped one microsecond later.
    let latest = world.now + 1 + limit;
    let sent = vec![read(5, 7, 40), read(latest + 1, 8, 0), read(5, 7, 90), read(latest, 9, 101)];
    let outcome = world.run(record(sent.clone())).unwrap();
    assert_eq!(outcome.reply, recorded(2, vec![1]));
    let event = |at, post| Event::PostRead { user: DAVE, post: PostId(post), at: Stamp(at) };
    assert_eq!(outcome.events, [event(5, 7), event(latest, 9)]);
    let kept = [read(5, 7, 40), read(latest, 9, 101)];
    assert_eq!(all(&mut world), kept);
    let again = world.run(record(vec![sent[0], sent[3]])).unwrap();
    assert_eq!(again.reply, recorded(0, vec![]));
    assert!(again.events.is_empty());
    assert_eq!(all(&mut world), kept);
}

#[test]
fn a_batch_of_nobody_or_without_bound_is_refused() {
    let mut world = filled(0);
    let many = vec![read(1, 1, 1); READS_MAX + 1];
    assert_eq!(world.run(record(many.clone())).unwrap_err(), Error::TooManyReads(1_000));
    let reads = vec![Some(read(1, 1, 1))];
    let strange = Command::RecordReads { user: EVE, reads };
    assert_eq!(world.run(strange).unwrap_err(), Error::NotFound);
    let reads = vec![None, Some(read(2, 1, 1)), None];
    let outcome = world.run(Command::RecordReads { user: DAVE, reads }).unwrap();
    assert_eq!(outcome.reply, Reply::Recorded { new: 1, unseen: vec![0, 2], ahead: vec![] });
    assert_eq!(world.run(record(many[1..].to_vec())).unwrap().events.len(), 1);
}

#[test]
fn a_history_from_before_the_bound_becomes_shorter_step_by_step() {
    let mut world = filled(15_000);
    for left in [13_000, 11_000, 10_000] {
        world.run(record(vec![])).unwrap();
        assert_eq!(all(&mut world).len(), left);
    }
    assert_eq!(size(&world).unwrap().reads, HISTORY_MAX);
    assert_eq!(page(&mut world, None, 1)[0].at, Stamp(100 + 14_999), "the newest stay");
}

#[test]
fn a_full_history_takes_no_older_read_and_forgets_the_oldest_for_a_newer_one() {
    let mut world = filled(u64::from(HISTORY_MAX));
    for _ in 0..2 {
        let outcome = world.run(record(vec![read(99, 1, 1)])).unwrap();
        assert_eq!(outcome.reply, recorded(0, vec![]));
        assert!(outcome.events.is_empty(), "a repetition of what was trimmed is no event");
    }
    assert_eq!(world.run(record(vec![read(90_000, 1, 1)])).unwrap().events.len(), 1);
    let kept = all(&mut world);
    assert_eq!((kept.len(), kept[0].at), (HISTORY_MAX as usize, Stamp(101)));
}

#[test]
fn what_is_forgotten_is_gone_and_told() {
    let mut world = filled(0);
    world.run(record(vec![read(5, 7, 1), read(6, 8, 1), read(9, 7, 1)])).unwrap();
    let forget = |post| Command::ForgetRead { user: DAVE, post: PostId(post) };
    let told = world.run(forget(7)).unwrap().events;
    assert_eq!(told, [Event::ReadForgotten { user: DAVE, post: PostId(7) }]);
    assert_eq!(all(&mut world), [read(6, 8, 1)]);
    assert!(world.run(forget(7)).unwrap().events.is_empty());
    let outcome = world.run(Command::ForgetHistory { user: DAVE }).unwrap();
    assert_eq!(outcome.reply, Reply::Forgotten { more: false });
    assert_eq!(outcome.events, [Event::ReadForgotten { user: DAVE, post: PostId(8) }]);
    assert!(all(&mut world).is_empty());
    let row = HistorySizeRow { reads: 0, oldest: tables::NOWHERE };
    assert_eq!(size(&world), Some(row), "no trace of what it was");
}

/// A shard file of a program that knew neither bounds nor depth.
#[test]
fn a_data_directory_of_an_older_program_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("user-0.redb");
    let open = |tables| ShardStore::open(&Storage::files(), &path, tables, 1 << 20).unwrap();
    {
        let store = open(&Service::TABLES[..8]);
        let mut state = store.lock();
        state.change(|tables| {
            tables.put(HISTORY, history_key(DAVE, Stamp(5), PostId(7)), empty());
        });
        state.progress.applied.index = state.progress.applied.index.next();
        drop(state);
        store.checkpoint().unwrap();
    }
    let store = open(Service::TABLES);
    let state = store.lock();
    let mut service = Service::load(&state.read()).unwrap();
    let mut query = Query::ListHistory { user: DAVE, place: None, limit: 9 };
    let answer = service.query(&state.read(), &mut query).unwrap();
    let Step::Done(Answer::History(reads)) = answer else { panic!("another answer") };
    assert_eq!(reads, [Read { post: PostId(7), at: Stamp(5), depth: None }]);
    let mut query = Query::GetInterests { user: DAVE };
    assert!(matches!(service.query(&state.read(), &mut query), Ok(Step::Done(_))));
}

#[derive(Debug, Clone)]
enum Act {
    Record(Vec<Read>),
    /// As older programs did.
    RecordOne(Read),
    ForgetPost(u64),
    ForgetAll,
    Checkpoint,
    Page(u64, usize),
}

fn reads() -> impl Strategy<Value = Read> {
    // Older than everything, in its midst, at its end; and some from the future.
    let at = prop_oneof![
        4 => 90_u64..130,
        4 => 10_000_u64..10_200,
        4 => 12_400_u64..12_700,
        1 => Just(u64::MAX / 2),
    ];
    (at, 0_u64..9, 0_u8..=101).prop_map(|(at, post, depth)| read(at, post, depth))
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => prop::collection::vec(reads(), 0..30).prop_map(Act::Record),
        2 => reads().prop_map(Act::RecordOne),
        2 => (0_u64..9).prop_map(Act::ForgetPost),
        1 => Just(Act::ForgetAll),
        2 => Just(Act::Checkpoint),
        4 => (90_u64..13_000, 1_usize..120).prop_map(|(at, limit)| Act::Page(at, limit)),
    ]
}

#[derive(Default)]
struct Model {
    reads: BTreeMap<Moment, Option<Depth>>,
}

impl Model {
    /// Answers what entered, in the order sent.
    fn record(&mut self, sent: &[Read]) -> Vec<Moment> {
        let max = HISTORY_MAX as usize;
        let mut counted = self.reads.len().min(max + STEP);
        let mut entered = Vec::new();
        for read in sent {
            let moment = (read.at, read.post);
            let oldest = self.reads.first_key_value().map(|(moment, _)| *moment);
            let is_too_old = counted >= max && oldest.is_some_and(|oldest| moment < oldest);
            if !is_too_old && !self.reads.contains_key(&moment) {
                self.reads.insert(moment, read.depth);
                counted += 1;
                entered.push(moment);
            }
        }
        for _ in 0..counted.saturating_sub(max).min(STEP) {
            self.reads.pop_first();
        }
        entered.retain(|moment| self.reads.contains_key(moment));
        entered
    }

    fn forget(&mut self, post: PostId) -> bool {
        let before = self.reads.len();
        self.reads.retain(|(_, of), _| *of != post);
        self.reads.len() < before
    }

    fn all(&self) -> Vec<Read> {
        let read = |((at, post), depth): (&Moment, &Option<Depth>)| Read {
            post: *post,
            at: *at,
            depth: *depth,
        };
        self.reads.iter().map(read).collect()
    }
}

fn read_events(moments: Vec<Moment>) -> Vec<Event> {
    let event = |(at, post)| Event::PostRead { user: DAVE, post, at };
    moments.into_iter().map(event).collect()
}

fn run(world: &mut World, model: &mut Model, act: Act) -> Result<(), TestCaseError> {
    let is_ahead = |read: &Read| read.at.0 > 1 << 60;
    match act {
        Act::Record(sent) => {
            let outcome = world.run(record(sent.clone())).unwrap();
            let places = sent.iter().enumerate().filter(|(_, read)| is_ahead(read));
            let ahead = places.map(|(place, _)| place as u16).collect();
            let valid: Vec<Read> = sent.into_iter().filter(|read| !is_ahead(read)).collect();
            let entered = model.record(&valid);
            let new = entered.len() as u32;
            prop_assert_eq!(outcome.reply, recorded(new, ahead));
            prop_assert_eq!(outcome.events, read_events(entered));
        }
        Act::RecordOne(read) => {
            let (post, at) = (read.post, read.at);
            let outcome = world.run(Command::RecordRead { user: DAVE, post, at });
            if is_ahead(&read) {
                prop_assert_eq!(outcome.unwrap_err(), Error::InTheFuture);
                return Ok(());
            }
            let is_new = !model.reads.contains_key(&(at, post));
            model.reads.entry((at, post)).or_insert(None);
            let told = if is_new { read_events(vec![(at, post)]) } else { Vec::new() };
            prop_assert_eq!(outcome.unwrap().events, told);
        }
        Act::ForgetPost(post) => {
            let post = PostId(post);
            let outcome = world.run(Command::ForgetRead { user: DAVE, post }).unwrap();
            let told = model.forget(post).then_some(Event::ReadForgotten { user: DAVE, post });
            prop_assert_eq!(outcome.events, told.into_iter().collect::<Vec<_>>());
        }
        Act::ForgetAll => {
            let mut told = BTreeSet::new();
            for _ in 0..=model.reads.len() / STEP {
                let outcome = world.run(Command::ForgetHistory { user: DAVE }).unwrap();
                for event in outcome.events {
                    let Event::ReadForgotten { post, .. } = event else { panic!("{event:?}") };
                    told.insert(post);
                }
                if outcome.reply == (Reply::Forgotten { more: false }) {
                    break;
                }
            }
            let posts: BTreeSet<PostId> = model.reads.keys().map(|(_, post)| *post).collect();
            prop_assert_eq!(told, posts);
            model.reads.clear();
        }
        Act::Checkpoint => world.tables.checkpoint(),
        Act::Page(at, limit) => {
            let place = (Stamp(at), PostId(4));
            let all = model.all();
            let limit_kept = limit.min(crate::config::PAGE_MAX + 1);
            let older = all.iter().rev().filter(|read| (read.at, read.post) < place).copied();
            let newer = all.iter().filter(|read| (read.at, read.post) > place).copied();
            let after: Vec<Read> = older.take(limit_kept).collect();
            let before: Vec<Read> = newer.take(limit_kept).collect();
            prop_assert_eq!(page(world, Some(Place::After(place)), limit), after);
            prop_assert_eq!(page(world, Some(Place::Before(place)), limit), before);
            let newest: Vec<Read> = all.iter().rev().take(limit_kept).copied().collect();
            prop_assert_eq!(page(world, None, limit), newest);
        }
    }
    prop_assert_eq!(all(world), model.all());
    if let Some(size) = size(world) {
        let oldest = model.reads.first_key_value().map_or(tables::NOWHERE, |(moment, _)| *moment);
        prop_assert_eq!(size, HistorySizeRow { reads: model.reads.len() as u32, oldest });
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_reads_is_as_the_model_says(
        before in prop_oneof![Just(0), Just(9_990), Just(10_000), Just(12_500)],
        acts in prop::collection::vec(acts(), 1..25),
    ) {
        let mut world = filled(before);
        let mut model = Model::default();
        for read in all(&mut world) {
            model.reads.insert((read.at, read.post), read.depth);
        }
        for act in acts {
            run(&mut world, &mut model, act)?;
        }
    }
}
