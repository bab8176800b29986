//! What is kept of tags.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::actors::recommendation::engine::fixed::{self, ONE};
use crate::actors::recommendation::engine::post::Post;
use crate::actors::recommendation::engine::rows::Rows;
use crate::actors::recommendation::engine::settings::Settings;
use crate::actors::recommendation::engine::top_list::TopList;
use crate::store::codec::Record;

/// Places in each list of a tag.
const PLACES: usize = 24;
/// The windows of a tag's trends: an hour and some days. One of them is near enough for a tag.
pub(super) const TAG_WINDOWS: [usize; 2] = [2, 5];

/// A tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tag {
    pub(super) newest: TopList,
    pub(super) trends: [TopList; TAG_WINDOWS.len()],
    /// Reads of its posts, fading with the half-life of the slow window.
    readers: u32,
    touched_ms: u64,
}

impl Tag {
    /// The trend whose window is nearest to this one.
    pub(super) fn trend(&self, window: usize) -> &TopList {
        let is_slow = window.abs_diff(TAG_WINDOWS[1]) < window.abs_diff(TAG_WINDOWS[0]);
        &self.trends[usize::from(is_slow)]
    }

    /// Reads of its posts in the slow window.
    pub(super) fn readers(&self, settings: &Settings, now_ms: u64) -> f32 {
        let half_life_ms = settings.half_lives_ms[TAG_WINDOWS[1]];
        fixed::value(self.readers, self.touched_ms, now_ms, half_life_ms)
    }
}

/// A tag as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedTag {
    name: String,
    tag: Tag,
}

impl Record for SavedTag {
    const KIND: u8 = 70;
}

/// All tags, by name and by slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Tags {
    slots: FxHashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    all: Rows<Tag>,
}

impl Tags {
    /// The slot of a name, a new one if there is none.
    pub(super) fn slot(&mut self, name: &str) -> u32 {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        let slot = self.all.push(Tag::default());
        let name: Arc<str> = name.into();
        self.slots.insert(Arc::clone(&name), slot);
        self.names.push(name);
        slot
    }

    /// The tags as they were written, in the order of their slots.
    pub(super) fn of_saved(saved: Vec<SavedTag>) -> Self {
        let names: Vec<Arc<str>> = saved.iter().map(|saved| saved.name.as_str().into()).collect();
        let slots = names.iter().cloned().zip(0..).collect();
        let all = saved.into_iter().map(|saved| saved.tag).collect();
        Self { slots, names, all: Rows::written(all) }
    }

    /// A tag that has changed; counts as written from now on.
    pub(super) fn next_changed(&mut self) -> Option<(u32, SavedTag)> {
        let (slot, tag) = self.all.next_changed()?;
        let name = self.names[slot as usize].to_string();
        Some((slot, SavedTag { name, tag: tag.clone() }))
    }

    /// The slot of a name, if it has one.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.slots.get(name).copied()
    }

    /// The name of a tag.
    pub(super) fn name(&self, slot: u32) -> &str {
        &self.names[slot as usize]
    }

    pub(super) fn get(&self, slot: u32) -> &Tag {
        &self.all[slot as usize]
    }

    pub(super) fn count(&mut self, slot: u32, settings: &Settings, now_ms: u64) {
        let tag = &mut self.all[slot as usize];
        let half_life_ms = settings.half_lives_ms[TAG_WINDOWS[1]];
        tag.readers = fixed::add(tag.readers, tag.touched_ms, now_ms, half_life_ms, ONE);
        tag.touched_ms = tag.touched_ms.max(now_ms);
    }

    pub(super) fn list(&mut self, slot: u32, post: u32, born_ms: u64) {
        self.all[slot as usize].newest.set(post, born_ms, PLACES);
    }

    pub(super) fn list_trend(
        &mut self,
        slot: u32,
        post_slot: u32,
        post: &Post,
        settings: &Settings,
    ) {
        let tag = &mut self.all[slot as usize];
        for (trend, window) in tag.trends.iter_mut().zip(TAG_WINDOWS) {
            trend.set(post_slot, post.trend_order(settings, window), PLACES);
        }
    }

    pub(super) fn unlist(&mut self, slot: u32, post: u32) {
        let tag = &mut self.all[slot as usize];
        tag.newest.remove(post);
        tag.trends.iter_mut().for_each(|trend| trend.remove(post));
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let lists = self.all.iter().flat_map(|tag| std::iter::once(&tag.newest).chain(&tag.trends));
        self.all.heap_bytes()
            + self.slots.capacity() * (size_of::<(Arc<str>, u32)>() + 1)
            + self.names.capacity() * size_of::<Arc<str>>()
            + self.slots.keys().map(|name| name.len()).sum::<usize>()
            + lists.map(TopList::heap_bytes).sum::<usize>()
    }

    /// The state in words, for a digest.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.all.iter().flat_map(|tag| {
            let lists = std::iter::once(&tag.newest).chain(&tag.trends).flat_map(TopList::words);
            [u64::from(tag.readers), tag.touched_ms].into_iter().chain(lists)
        })
    }
}
