use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ids::CommandId;
use crate::store::memtable::Table;

const TABLES: &[&str] = &["a", "b"];
const A: Table = Table(0);
/// Of counts.
const B: Table = Table(1);

fn write(store: &ShardStore, index: u64, rows: &[(&[u8], Option<&[u8]>)]) {
    let mut state = store.lock();
    let mut staged = state.take_staged();
    for (key, value) in rows {
        let mut tables = state.tables(&mut staged);
        match value {
            Some(value) => tables.put(A, key, Bytes::copy_from_slice(value)),
            None => tables.delete(A, key),
        }
    }
    state.put_staged(staged, true);
    state.progress.applied = AppliedState { index: LogIndex(index), position: Bytes::new() };
}

fn all(store: &ShardStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let state = store.lock();
    let rows = state.read().range(A, &[], None).unwrap();
    rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

#[test]
fn all_layers_are_one_ordered_table() {
    let store = ShardStore::in_memory(redb::backends::InMemoryBackend::new(), TABLES);
    write(&store, 1, &[(b"a", Some(b"file")), (b"b", Some(b"file")), (b"c", Some(b"file"))]);
    assert_eq!(store.checkpoint().unwrap().unwrap().index, LogIndex(1));
    write(&store, 2, &[(b"b", None), (b"bb", Some(b"sealed")), (b"c", Some(b"sealed"))]);
    let sealed = store.lock().seal().unwrap();
    write(&store, 3, &[(b"bb", Some(b"active")), (b"d", Some(b"active"))]);
    let expected = [("a", "file"), ("bb", "active"), ("c", "sealed"), ("d", "active")]
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()));
    assert_eq!(all(&store), expected);
    store.write(store.db.lock().unwrap().as_ref().unwrap(), &sealed).unwrap();
    assert_eq!(all(&store), expected);
    // A checkpoint that failed half-way is finished before anything newer is sealed.
    assert_eq!(store.checkpoint().unwrap().unwrap().index, LogIndex(2));
    assert_eq!(store.checkpoint().unwrap().unwrap().index, LogIndex(3));
    assert_eq!(store.checkpoint().unwrap(), None);
    assert_eq!(all(&store), expected);
}

/// Adds to the count of `key`, as entry `index`.
fn add(store: &ShardStore, index: u64, key: &[u8], more: i64) {
    let mut state = store.lock();
    state.change(|tables| tables.add(B, key, more));
    state.progress.applied.index = LogIndex(index);
}

fn count(store: &ShardStore, key: &[u8]) -> u64 {
    store.lock().read().count(B, key).unwrap()
}

#[test]
fn a_count_is_the_sum_of_all_layers_and_added_to_the_file_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("post-0.redb");
    let open = || ShardStore::open(&Storage::files(), &path, TABLES, 1 << 20).unwrap();
    let store = open();
    let index = |store: &ShardStore| store.checkpoint().unwrap().unwrap().index;
    add(&store, 1, b"a", 3);
    assert_eq!((count(&store, b"a"), count(&store, b"b")), (3, 0));
    assert_eq!(index(&store), LogIndex(1));
    add(&store, 2, b"a", 1);
    add(&store, 3, b"a", -2);
    let sealed = store.lock().seal().unwrap();
    add(&store, 4, b"a", 5);
    assert_eq!(count(&store, b"a"), 7);
    // What a command stages it sees itself, and nobody else if it is refused.
    let mut state = store.lock();
    let mut staged = state.take_staged();
    let mut tables = state.tables(&mut staged);
    tables.add(B, b"a", 10);
    assert_eq!(tables.view().count(B, b"a").unwrap(), 17);
    state.put_staged(staged, false);
    drop(state);
    assert_eq!(count(&store, b"a"), 7);
    // Written, but the checkpoint failed then: it is neither read twice nor written again.
    store.write(store.db.lock().unwrap().as_ref().unwrap(), &sealed).unwrap();
    store.write(store.db.lock().unwrap().as_ref().unwrap(), &sealed).unwrap();
    assert_eq!(count(&store, b"a"), 7, "the view is older");
    store.open_again(&mut store.db.lock().unwrap()).unwrap();
    assert_eq!((count(&store, b"a"), store.durable().index), (7, LogIndex(1)));
    assert_eq!(index(&store), LogIndex(3), "who waits for it is told");
    assert_eq!(count(&store, b"a"), 7);
    assert_eq!(index(&store), LogIndex(4));
    assert_eq!(count(&store, b"a"), 7);
    // The same without opening it again.
    add(&store, 5, b"a", -1);
    let sealed = store.lock().seal().unwrap();
    store.write(store.db.lock().unwrap().as_ref().unwrap(), &sealed).unwrap();
    assert_eq!(index(&store), LogIndex(5));
    add(&store, 6, b"a", -6);
    assert_eq!(index(&store), LogIndex(6));
    store.close();
    let store = open();
    assert_eq!(count(&store, b"a"), 0);
    assert_eq!(store.lock().read().get(B, b"a").unwrap(), None, "no row says 0");
}

/// Around these a row takes more bytes: 1, 3 and 5.
const COUNTS_AROUND: [i64; 6] = [1, 3, 249, 250, 251, 65_534];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn counts_of_the_file_grow_shrink_come_and_go(
        // Of each checkpoint: which counts, and by how much; enough for rows that do not fit beside their neighbours.
        checkpoints in proptest::collection::vec(
            proptest::collection::vec((0..600_u16, 0..COUNTS_AROUND.len(), any::<bool>()), 0..400),
            1..5,
        ),
    ) {
        let backend = redb::backends::InMemoryBackend::new();
        let store = ShardStore::in_memory(backend, TABLES);
        let mut expected = std::collections::BTreeMap::<u16, i64>::new();
        for (index, additions) in checkpoints.iter().enumerate() {
            let mut state = store.lock();
            for (key, more, takes_all) in additions {
                let known = expected.entry(*key).or_default();
                let more = if *takes_all { -*known } else { COUNTS_AROUND[*more] };
                *known += more;
                state.change(|tables| tables.add(B, key.to_be_bytes(), more));
            }
            state.progress.applied.index = LogIndex(index as u64 + 1);
            drop(state);
            store.checkpoint().unwrap();
            let state = store.lock();
            for (key, expected) in &expected {
                let row = state.read().get(B, &key.to_be_bytes()).unwrap();
                prop_assert_eq!(row.is_some(), *expected > 0);
                let found = state.read().count(B, &key.to_be_bytes()).unwrap();
                prop_assert_eq!(found, *expected as u64);
            }
        }
    }
}

#[test]
fn an_older_generation_is_refused() {
    let store = ShardStore::in_memory(redb::backends::InMemoryBackend::new(), TABLES);
    let old = store.claim().unwrap();
    let new = store.claim().unwrap();
    assert!(matches!(store.owned(old), Err(StoreError::Fenced)));
    assert!(store.owned(new).is_ok());
}

#[test]
fn a_checkpointed_shard_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("post-0.redb");
    let id = CommandId([7; 16]);
    {
        let store = ShardStore::open(&Storage::files(), &path, TABLES, 1 << 20).unwrap();
        write(&store, 9, &[(b"k", Some(b"v"))]);
        store.lock().progress.last_stamp = Stamp(1);
        store.lock().remembered.insert(Stamp(1), id, Stamp(50), b"done");
        store.checkpoint().unwrap();
        write(&store, 10, &[(b"lost", Some(b"the log has it"))]);
    }
    let store = ShardStore::open(&Storage::files(), &path, TABLES, 1 << 20).unwrap();
    assert_eq!(all(&store), [(b"k".to_vec(), b"v".to_vec())]);
    assert_eq!(store.applied().index, LogIndex(9));
    assert_eq!(store.lock().remembered.get(&id).unwrap(), &b"done"[..]);
}

/// Epochs of remembered commands are written once, and go when they are over.
#[test]
fn remembered_commands_are_what_they_are_whenever_the_file_is_written() {
    let backend = redb::backends::InMemoryBackend::new();
    let store = ShardStore::in_memory(backend, TABLES);
    let id = |n: u64| CommandId(u128::from(n).to_be_bytes());
    let remember = |n: u64| {
        write(&store, n + 1, &[(b"k", Some(&n.to_be_bytes()))]);
        let deadline = Stamp(100 * n + 950);
        let mut shard = store.lock();
        shard.progress.last_stamp = Stamp(100 * n);
        shard.remembered.insert(Stamp(100 * n), id(n), deadline, &n.to_be_bytes());
    };
    for last in (0..100).step_by(4) {
        (last..last + 2).for_each(remember);
        if last % 8 == 0 {
            // An attempt that failed, and is made again when more has come.
            store.lock().seal().unwrap();
        }
        (last + 2..last + 4).for_each(remember);
        store.checkpoint().unwrap();
        store.checkpoint().unwrap();
        let slot = store.db.lock().unwrap();
        // All of it is in the file: nothing is written twice.
        let transaction = slot.as_ref().unwrap().begin_write().unwrap();
        let sealed = store.lock().remembered.seal();
        let again = write_epochs(&mut transaction.open_table(EPOCHS).unwrap(), &sealed);
        assert_eq!(again.unwrap(), 0);
        transaction.abort().unwrap();
        let file = read_remembered(slot.as_ref().unwrap(), SHARD_FORMAT, STAMP_MAX).unwrap();
        let state = store.lock();
        let known = |n: &u64| state.remembered.get(&id(*n)).is_some();
        assert!((0..last + 4).rev().take(9).all(|n| known(&n)), "until their deadline");
        assert!(last < 20 || !known(&0), "and hardly longer");
        for n in 0..last + 4 {
            assert_eq!(file.get(&id(n)), state.remembered.get(&id(n)), "{n} of {last}");
        }
    }
}

/// Makes a file of the first format, which remembers this command.
fn write_format_1(path: &Path, id: &CommandId) {
    drop(ShardStore::open(&Storage::files(), path, TABLES, 1 << 20).unwrap());
    let row = [&50_u64.to_be_bytes()[..], b"done"].concat();
    {
        let db = Database::open(path).unwrap();
        let transaction = db.begin_write().unwrap();
        assert!(transaction.delete_table(EPOCHS).unwrap());
        transaction.open_table(REMEMBERED).unwrap().insert(&id.0[..], &row[..]).unwrap();
        let meta =
            Meta { format: 1, index: 9, position: Vec::new(), last_stamp: Stamp(1), digest: 0 };
        let mut table = transaction.open_table(META).unwrap();
        table.insert(META_KEY, &codec::encode(&meta)[..]).unwrap();
        drop(table);
        transaction.commit().unwrap();
    }
}

#[test]
fn a_file_of_format_1_is_read_and_becomes_one_of_this_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("post-0.redb");
    let open = || ShardStore::open(&Storage::files(), &path, TABLES, 1 << 20).unwrap();
    let id = CommandId([7; 16]);
    write_format_1(&path, &id);
    for index in [10, 11] {
        let store = open();
        assert_eq!(store.lock().remembered.get(&id).unwrap(), &b"done"[..]);
        write(&store, index, &[]);
        store.checkpoint().unwrap();
    }
    let db = Database::open(&path).unwrap();
    assert_eq!(read_meta(&path, &db).unwrap().format, SHARD_FORMAT);
    let old = db.begin_read().unwrap().open_table(REMEMBERED);
    assert!(matches!(old, Err(redb::TableError::TableDoesNotExist(_))));
}

/// An older program would miss what the service wrote anew, so it must refuse the file at once, and not from the next
/// checkpoint on (U3).
#[test]
fn a_file_that_was_brought_up_to_date_is_of_this_format_and_remembers_what_it_did() {
    const MORE: &[&str] = &["a", "b", "c"];
    assert_eq!(MORE[..2], *TABLES);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("post-0.redb");
    let id = CommandId([7; 16]);
    write_format_1(&path, &id);
    let more = Layout {
        tables: MORE,
        upgrade: |file| {
            assert_eq!([0, 1, 2].map(|table| file.lacked(Table(table))), [false, false, true]);
            file.write(Table(2), [(b"key".to_vec(), Some(b"value".to_vec()))])
        },
    };
    let failing = Layout { upgrade: |_| Err(StoreError::Stopped), ..more };
    assert!(ShardStore::open(&Storage::files(), &path, failing, 1 << 20).is_err());
    assert_eq!(read_meta(&path, &Database::open(&path).unwrap()).unwrap().format, 1, "U1");
    for layout in [more, failing] {
        let store = ShardStore::open(&Storage::files(), &path, layout, 1 << 20).unwrap();
        let state = store.lock();
        assert_eq!(state.remembered.get(&id).unwrap(), &b"done"[..]);
        assert_eq!(state.read().get(Table(2), b"key").unwrap().unwrap(), &b"value"[..]);
        assert_eq!((state.durable.index, state.progress.last_stamp), (LogIndex(9), Stamp(1)));
        drop(state);
        drop(store);
        let meta = read_meta(&path, &Database::open(&path).unwrap()).unwrap();
        assert_eq!((meta.format, meta.index), (SHARD_FORMAT, 9));
    }
    // A new file has nothing to bring up to date.
    let new = folder.path().join("post-1.redb");
    ShardStore::open(&Storage::files(), &new, failing, 1 << 20).unwrap();
}

#[test]
fn an_open_file_is_locked_and_rubbish_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("post-0.redb");
    let store = ShardStore::open(&Storage::files(), &path, TABLES, 1 << 20).unwrap();
    assert!(matches!(
        ShardStore::open(&Storage::files(), &path, TABLES, 1 << 20),
        Err(StoreError::Locked { .. })
    ));
    drop(store);
    std::fs::write(&path, vec![7; 4096]).unwrap();
    let Err(StoreError::Damaged { path: named, .. }) =
        ShardStore::open(&Storage::files(), &path, TABLES, 1 << 20)
    else {
        panic!("rubbish was opened")
    };
    assert_eq!(named, path);
    assert_eq!(std::fs::read(&path).unwrap(), vec![7; 4096], "damage is not touched");
}

/// The seed of a random test, from `QUIRE_SEED` or fresh; printed, so that a failure repeats.
fn seed() -> u64 {
    let seed = std::env::var("QUIRE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("QUIRE_SEED={seed}");
    seed
}

/// Power cuts: 100 in short, `QUIRE_POWER_CUTS=1000` in long.
fn cuts() -> u32 {
    let cuts = std::env::var("QUIRE_POWER_CUTS").ok().and_then(|text| text.parse().ok());
    cuts.unwrap_or(100)
}

/// What the file must hold once the entries up to `index` are in it: each key the last index that
/// wrote it.
fn expected(index: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = std::collections::BTreeMap::new();
    for index in 1..=index {
        for key in keys_of(index) {
            rows.insert(key.to_be_bytes().to_vec(), vec![index as u8; 300]);
        }
    }
    rows.into_iter().collect()
}

fn keys_of(index: u64) -> impl Iterator<Item = u64> {
    (0..8).map(move |n| index.wrapping_mul(0x9e37_79b9).wrapping_add(n * 0x85eb_ca6b) % 500)
}

#[test]
fn a_power_cut_leaves_the_last_checkpoint_or_the_one_that_was_being_written() {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(seed());
    for cut in 0..cuts() {
        let disk = crate::store::fault::FaultDisk::new();
        let mut acknowledged = 0;
        let mut index = 0;
        for _boot in 0..2 {
            let store = ShardStore::with_backend(disk.backend(), TABLES).unwrap();
            let found = store.applied().index.0;
            assert!(found == acknowledged || found == index, "{found} of {acknowledged}..{index}");
            assert_eq!(all(&store), expected(found), "cut {cut}");
            (acknowledged, index) = (found, found);
            for checkpoint in 0..random.random_range(1..4) {
                for _ in 0..random.random_range(1..40) {
                    index += 1;
                    let value = vec![index as u8; 300];
                    for key in keys_of(index) {
                        write(&store, index, &[(&key.to_be_bytes(), Some(&value))]);
                    }
                }
                if checkpoint > 0 {
                    let after = random.random_range(0..60);
                    disk.fail_after(after, std::io::ErrorKind::Other);
                }
                match store.checkpoint() {
                    Ok(_) => acknowledged = index,
                    Err(_) => break,
                }
            }
            disk.cut(&mut random);
        }
        let store = ShardStore::with_backend(disk.backend(), TABLES).unwrap();
        let found = store.applied().index.0;
        assert!(found == acknowledged || found == index, "{found} of {acknowledged}..{index}");
        assert_eq!(all(&store), expected(found), "cut {cut}");
    }
}

#[test]
fn only_the_newest_dead_letters_are_kept() {
    let store = ShardStore::in_memory(redb::backends::InMemoryBackend::new(), TABLES);
    for index in 1..=3 {
        for number in 0..DEAD_LETTERS_MAX {
            store.lock().bury(LogIndex(index), [number as u32], b"poison");
        }
        write(&store, index, &[]);
        store.checkpoint().unwrap();
    }
    let slot = store.db.lock().unwrap();
    let table = slot.as_ref().unwrap().begin_read().unwrap().open_table(DEAD_LETTERS).unwrap();
    assert_eq!(table.len().unwrap(), DEAD_LETTERS_MAX as u64);
    let (oldest, _) = table.first().unwrap().unwrap();
    assert_eq!(oldest.value()[..8], 3_u64.to_be_bytes());
}

#[test]
fn a_file_that_vanished_is_not_replaced_by_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("post-0.redb");
    let store = ShardStore::open(&Storage::files(), &path, TABLES, 1 << 20).unwrap();
    write(&store, 1, &[(b"k", Some(b"v"))]);
    store.checkpoint().unwrap();
    let other = folder.path().join("other.redb");
    drop(ShardStore::open(&Storage::files(), &other, TABLES, 1 << 20).unwrap());
    std::fs::remove_file(&path).unwrap();
    let mut slot = store.db.lock().unwrap();
    assert!(store.open_again(&mut slot).is_err());
    assert!(!path.exists());
    std::fs::rename(&other, &path).unwrap();
    assert!(matches!(store.open_again(&mut slot), Err(StoreError::Damaged { .. })));
}

/// redb refuses everything after a failed read; the shard actor's successor must not meet that.
#[test]
fn a_file_that_could_not_be_read_once_is_opened_again_for_the_next_owner() {
    let (storage, path) = (Storage::in_memory(), Path::new("post-0.redb"));
    let store = ShardStore::open(&storage, path, TABLES, 0).unwrap();
    let rows: Vec<[u8; 2]> = (0..2_000_u16).map(u16::to_be_bytes).collect();
    let value = [7_u8; 100];
    let rows: Vec<(&[u8], Option<&[u8]>)> =
        rows.iter().map(|key| (&key[..], Some(&value[..]))).collect();
    write(&store, 1, &rows);
    store.checkpoint().unwrap();
    write(&store, 2, &[(b"in memory", Some(b"stays"))]);
    let first = store.claim().unwrap();
    storage.disk(path).fail_a_read();
    let read = |generation| {
        let guard = store.owned(generation).unwrap();
        guard.read().get(A, &1_234_u16.to_be_bytes())
    };
    let failed = read(first);
    assert!(matches!(failed, Err(StoreError::Io(_))), "{failed:?}");
    assert!(read(first).is_err(), "redb remembers the failure");
    storage.disk(path).fail_a_read();
    assert!(store.claim().is_err(), "it cannot be opened");
    let second = store.claim().unwrap();
    assert_eq!(read(second).unwrap().as_deref(), Some(&value[..]));
    let found = store.owned(second).unwrap().read().get(A, b"in memory").unwrap();
    assert_eq!(found.as_deref(), Some(&b"stays"[..]));
    assert_eq!(store.applied().index, LogIndex(2));
    assert_eq!(store.checkpoint().unwrap().unwrap().index, LogIndex(2));
}

#[test]
fn a_checkpoint_counts_on_the_page_cache_of_a_file_that_is_read_between_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shard.redb");
    let open = || ShardStore::open(&Storage::files(), &path, TABLES, 8 << 20).unwrap();
    assert_eq!(open().checkpoint_cache(), 8 << 20);
    assert_eq!(open().kept(Kept::Memory).checkpoint_cache(), 0);
}

#[test]
fn the_state_is_read_as_a_whole_by_its_owner_for_as_long_as_somebody_waits() {
    let store = ShardStore::in_memory(redb::backends::InMemoryBackend::new(), TABLES);
    write(&store, 1, &[(b"a", Some(b"1")), (b"b", Some(b"2"))]);
    let (old, owner) = (store.claim().unwrap(), store.claim().unwrap());
    let abandoned = AtomicBool::new(false);
    let count = |tables: &ReadTables<'_>| {
        assert!(store.is_loading(), "checkpoints pass it over");
        tables.range(A, &[], None)?.try_fold(0, |count, row| row.map(|_| count + 1))
    };
    assert_eq!(store.load(owner, &abandoned, count).unwrap(), 2);
    assert!(!store.is_loading());
    assert!(matches!(store.load(old, &abandoned, count), Err(StoreError::Fenced)));

    let midway = store.load(owner, &abandoned, |tables| {
        let mut rows = tables.range(A, &[], None)?;
        rows.next().transpose()?;
        abandoned.store(true, Ordering::Relaxed);
        rows.next().transpose()
    });
    assert!(matches!(midway, Err(StoreError::Stopped)), "{midway:?}");
    let damaged = store.load(owner, &abandoned, |_| -> Result<(), _> { panic!("on purpose") });
    assert!(matches!(damaged, Err(StoreError::Damaged { .. })), "{damaged:?}");
    assert!(!store.is_loading());
}
