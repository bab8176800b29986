//! Files of earlier programs become what this one would have written.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::support::*;
use crate::actors::post::message::{Answer, Query, Visibility};
use crate::actors::post::progress::Progress;
use crate::actors::post::service::Service;
use crate::actors::post::tables::{COUNTS, LISTS, NAMES, OLD_COUNTS};
use crate::actors::post::upgrade::upgrade_in_chunks;
use crate::actors::state_machine::{Count, ReadTables, StateMachine, Step, Table};
use crate::actors::user::message::Viewer;
use crate::ids::{LogIndex, UserId};
use crate::store::codec::encode;
use crate::store::file::Storage;
use crate::store::shard_file::ShardStore;
use crate::store::upgrade::{Layout, Upgrade};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn rows(tables: &ReadTables<'_>, table: Table) -> Rows {
    let rows = tables.range(table, &[], None).unwrap();
    rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

/// Posts of every kind, with what hangs on them.
fn world() -> Shard {
    let mut shard = Shard::new();
    let mut public = Vec::new();
    for (number, author) in [ANN, BOB, ANN, ANN, CID].into_iter().enumerate() {
        let tags = [&["rust", "\u{c4}rger"][..], &["rust"], &[]][number % 3];
        for visibility in [
            Visibility::Public,
            Visibility::Followers,
            Visibility::Draft,
            Visibility::Unlisted,
            Visibility::Scheduled,
        ] {
            // One author has nothing for his followers alone, another nothing public.
            let is_left_out = author == BOB && visibility == Visibility::Followers
                || author == CID && visibility == Visibility::Public;
            if is_left_out {
                continue;
            }
            let post = shard.post(create(author, visibility, tags));
            if visibility == Visibility::Public {
                public.push(post);
            }
        }
    }
    for post in &public {
        shard.apply(favorite(*post, CID, true));
    }
    shard.apply(favorite(public[0], BOB, true));
    // Drafts of his own that one favors, and what was public when it was favored.
    shard.apply(publish(public[1], BOB, Visibility::Draft));
    shard.tables.checkpoint();
    shard
}

/// The lists as an earlier program kept them: whatever is public is in feeds by a row of its own.
fn old_lists(lists: &Rows) -> Rows {
    let public = lists.iter().filter(|(key, _)| key[0] == 2 && key[9] == 0);
    let fed = public.map(|(key, value)| ([&[4], &key[1..]].concat(), value.clone()));
    lists.iter().map(|(key, value)| (key.clone(), value.clone())).chain(fed).collect()
}

/// The counts as an earlier program kept them: by what the keys of a list begin with.
fn old_counts(lists: &Rows) -> Rows {
    let mut counts = BTreeMap::<Vec<u8>, u64>::new();
    for (key, value) in lists {
        let list = &key[..key.len() - 16];
        let (is_tag, is_public) = (list[0] == 1, list[list.len() - 1] == 0 && list.len() < 18);
        if is_public && matches!(list[0], 1 | 3) {
            let author = value[2..].to_vec();
            assert_eq!(author.len(), 1, "small numbers are a byte");
            let share = [&list[..list.len() - 1], &[2, 0, 0, 0, 0, 0, 0, 0], &author[..]].concat();
            *counts.entry(share).or_default() += 1;
        }
        if !(is_tag && is_public) {
            *counts.entry(list.to_vec()).or_default() += 1;
        }
    }
    counts.into_iter().map(|(key, count)| (key, encode(&Count(count)))).collect()
}

#[test]
fn a_file_with_counts_list_by_list_becomes_one_of_this_program() {
    let shard = world();
    let (lists, counts) = shard.tables.read(|tables| (rows(tables, LISTS), rows(tables, COUNTS)));
    assert!(lists.keys().any(|key| key[0] == 4) && lists.keys().any(|key| key[0] == 2));
    let (old_lists, old_counts) = (old_lists(&lists), old_counts(&old_lists(&lists)));
    assert!(old_counts.len() > 12 && old_lists.len() > lists.len());
    let upgrades: [Upgrade; 3] =
        [Service::upgrade, |file| upgrade_in_chunks(file, 1), |file| upgrade_in_chunks(file, 3)];
    for upgrade in upgrades {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("post-0.redb");
        let open = |layout| ShardStore::open(&Storage::files(), &path, layout, 1 << 20).unwrap();
        {
            let store = open(Layout::from(&NAMES[..14]));
            let mut state = store.lock();
            state.change(|tables| {
                for (table, rows) in [(LISTS, &old_lists), (OLD_COUNTS, &old_counts)] {
                    rows.iter().for_each(|(key, value)| tables.put(table, key, value.clone()));
                }
            });
            state.progress.applied.index = LogIndex(7);
            drop(state);
            store.checkpoint().unwrap();
        }
        for again in [false, true] {
            let store = open(Layout { tables: NAMES, upgrade });
            assert_eq!(store.durable().index, LogIndex(7));
            let state = store.lock();
            let tables = state.read();
            assert_eq!(rows(&tables, LISTS), lists, "{again}");
            assert_eq!(rows(&tables, COUNTS), counts, "{again}");
            assert!(rows(&tables, OLD_COUNTS).is_empty());
            // Who goes on over it finds the lists.
            let mut service = Service::load(&tables).unwrap();
            let mut query = Query::FeedKeys {
                viewer: viewer_of_all(),
                window: 0..100,
                progress: Progress::default(),
            };
            let answer = loop {
                if let Step::Done(answer) = service.query(&tables, &mut query).unwrap() {
                    break answer;
                }
            };
            let Answer::Keys { keys, total } = answer else { panic!("another answer") };
            assert_eq!((keys.len(), total), (7, 7), "three public posts, four for followers");
        }
    }
}

fn viewer_of_all() -> Arc<Viewer> {
    Arc::new(Viewer { follows: [ANN, BOB, CID].into_iter().collect(), ..viewer(UserId(9)) })
}

#[test]
fn a_damaged_file_is_told_and_stays_as_it_is() {
    let count = |count| encode(&Count(count));
    for damaged in [
        &[(&[9][..], count(1))][..],
        &[(&[0, 0, 0], count(1))],
        &[(&[1, 255, 255, 255, 255, 0], count(1))],
        &[(&[2, 0, 0, 0, 0, 0, 0, 0, 1, 3], count(1))],
        &[(&[0, 0], b"no count".to_vec())],
        // A feed that is shorter than its part.
        &[(&[2, 0, 0, 0, 0, 0, 0, 0, 1, 0], count(2)), (&[4, 0, 0, 0, 0, 0, 0, 0, 1, 0], count(1))],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("post-0.redb");
        let open = |layout| ShardStore::open(&Storage::files(), &path, layout, 1 << 20);
        let put = |store: &ShardStore| {
            store.lock().change(|tables| {
                damaged.iter().for_each(|(key, value)| tables.put(OLD_COUNTS, key, value.clone()));
            });
            store.lock().progress.applied.index = LogIndex(7);
            store.checkpoint().unwrap();
        };
        put(&open(Layout::from(&NAMES[..14])).unwrap());
        let layout = Layout { tables: NAMES, upgrade: Service::upgrade };
        open(layout).map(drop).unwrap_err();
        open(layout).map(drop).unwrap_err();
        // The program that wrote it still reads it.
        let store = open(Layout::from(&NAMES[..14])).unwrap();
        assert_eq!(rows(&store.lock().read(), OLD_COUNTS).len(), damaged.len());
    }
}
