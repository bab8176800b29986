use super::*;
use crate::store::shard_file::ShardStore;

#[derive(Debug, Serialize, Deserialize)]
struct Event(u32);

impl Record for Event {
    const KIND: u8 = 251;
}

fn name(service: &str) -> ShardName {
    ShardName { service: service.into(), shard: 0 }
}

fn append(outbox: &mut Outbox, store: &ShardStore, index: u64, events: &[Event]) {
    let mut state = store.lock();
    let head = state.change(|tables| outbox.append(tables, LogIndex(index), Stamp(index), events));
    outbox.appended(head);
    state.progress.applied.index = LogIndex(index);
    state.progress.last_stamp = Stamp(index);
}

fn acknowledged(service: &str, mark: Mark) -> Acknowledged {
    Acknowledged { subscriber: name(service), epoch: 0, mark }
}

fn page(outbox: &Outbox, store: &ShardStore, after: EventPosition) -> Vec<OutboxEvent> {
    outbox.page(&store.lock().read(), after, 100, 1 << 20).unwrap()
}

#[test]
fn events_are_numbered_kept_and_trimmed_behind_the_slowest() {
    let store = ShardStore::in_memory(redb::backends::InMemoryBackend::new(), &["a"]);
    let mut outbox = Outbox::default();
    outbox.declare(&mut store.lock(), &[name("x"), name("y")]);
    append(&mut outbox, &store, 1, &[Event(1), Event(2)]);
    append(&mut outbox, &store, 1, &[Event(3)]);
    store.checkpoint().unwrap();
    append(&mut outbox, &store, 5, &[Event(4)]);
    let events = page(&outbox, &store, EventPosition::default());
    let places: Vec<_> =
        events.iter().map(|e| (e.mark.position.index.0, e.mark.position.number)).collect();
    assert_eq!(places, [(1, 0), (1, 1), (1, 2), (5, 0)]);
    assert_eq!(events[1].mark.count, 2);
    assert_eq!(&events[1].event[..], [251, 1, 2]);
    assert_eq!(page(&outbox, &store, events[2].mark.position), events[3..]);

    let mut state = store.lock();
    outbox.settle(&mut state, &[acknowledged("x", events[3].mark)], &[]).unwrap();
    assert_eq!(outbox.head().trimmed, Mark::default(), "`y` has nothing yet");
    outbox.settle(&mut state, &[acknowledged("y", events[1].mark)], &[]).unwrap();
    outbox.settle(&mut state, &[acknowledged("y", events[0].mark)], &[]).unwrap();
    assert_eq!(outbox.head().trimmed, events[1].mark, "never back");
    outbox.settle(&mut state, &[], &[(name("y"), 0)]).unwrap();
    assert_eq!(outbox.head().trimmed, events[3].mark, "who is given up holds nothing up");
    assert_eq!(Outbox::load(&state.read()).unwrap(), outbox);
    drop(state);
    assert!(page(&outbox, &store, EventPosition::default()).is_empty());
    store.checkpoint().unwrap();
    let state = store.lock();
    assert_eq!(state.read().range(OUTBOX, &[], None).unwrap().count(), 0);
}

#[test]
fn who_comes_late_or_was_given_up_follows_after_a_rebuild_only() {
    let store = ShardStore::in_memory(redb::backends::InMemoryBackend::new(), &["a"]);
    let mut outbox = Outbox::default();
    outbox.declare(&mut store.lock(), &[name("x")]);
    append(&mut outbox, &store, 1, &[Event(1)]);
    let mut state = store.lock();
    outbox.declare(&mut state, &[name("x"), name("late")]);
    assert!(!outbox.subscriber(&name("x")).unwrap().is_lost);
    assert!(outbox.subscriber(&name("late")).unwrap().is_lost);
    let row = outbox.resume(&mut state, &name("late")).unwrap();
    assert_eq!((row.epoch, row.is_lost, row.acknowledged), (1, false, outbox.head().last));
    assert_eq!(outbox.resume(&mut state, &name("late")), Some(row), "twice is once");
    outbox.settle(&mut state, &[], &[(name("late"), 0)]).unwrap();
    assert!(!outbox.subscriber(&name("late")).unwrap().is_lost, "that was before the rebuild");
    outbox.declare(&mut state, &[name("late")]);
    assert_eq!(outbox.names().count(), 1);
    assert_eq!(Outbox::load(&state.read()).unwrap(), outbox);
}
