//! What is kept of tags.

use std::collections::BTreeSet;
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

/// A tag as it is written; a free slot has no name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedTag {
    name: String,
    tag: Tag,
}

impl Record for SavedTag {
    const KIND: u8 = 70;
}

/// The tags that something refers to, by name and by slot: a listed post, or a reader's choice or
/// interest, each of which has a bound. So the tags have one, whatever one account does; a slot to
/// which nothing refers any more is given to the next new tag.
#[derive(Debug, Clone, Default)]
pub(super) struct Tags {
    slots: FxHashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    all: Rows<Tag>,
    /// How often each slot is referred to. Follows from posts and readers, so it is not written.
    held: Vec<u32>,
    /// Slots of no tag. The lowest is given first, so that the order in which they became free,
    /// which is not written, does not matter.
    free: BTreeSet<u32>,
}

impl Tags {
    /// Refers to a tag by its name; returns its slot, a new one if there is none.
    pub(super) fn hold(&mut self, name: &str) -> u32 {
        let slot = self.find(name).unwrap_or_else(|| self.new_slot(name));
        self.held[slot as usize] += 1;
        slot
    }

    /// Refers to a tag that something refers to already.
    pub(super) fn hold_again(&mut self, slot: u32) {
        self.held[slot as usize] += 1;
    }

    /// Refers to a tag once less. After the last time there is no such tag.
    pub(super) fn release(&mut self, slot: u32) {
        let held = &mut self.held[slot as usize];
        debug_assert!(*held > 0, "a tag was released more often than held");
        *held = held.saturating_sub(1);
        if *held == 0 {
            let name = std::mem::take(&mut self.names[slot as usize]);
            self.slots.remove(&name);
            self.all[slot as usize] = Tag::default();
            self.free.insert(slot);
        }
    }

    fn new_slot(&mut self, name: &str) -> u32 {
        let name: Arc<str> = name.into();
        let slot = match self.free.pop_first() {
            Some(slot) => {
                // Marked as changed, for its row has the name.
                self.all[slot as usize] = Tag::default();
                self.names[slot as usize] = Arc::clone(&name);
                slot
            }
            None => {
                self.names.push(Arc::clone(&name));
                self.held.push(0);
                self.all.push(Tag::default())
            }
        };
        self.slots.insert(name, slot);
        slot
    }

    /// The tags as they were written, in the order of their slots, and what refers to them.
    pub(super) fn of_saved(saved: Vec<SavedTag>, references: impl Iterator<Item = u32>) -> Self {
        let names: Vec<Arc<str>> = saved.iter().map(|saved| saved.name.as_str().into()).collect();
        let all = saved.into_iter().map(|saved| saved.tag).collect();
        let mut held = vec![0; names.len()];
        for slot in references {
            if let Some(held) = held.get_mut(slot as usize) {
                *held += 1;
            }
        }
        let slots = || (0_u32..).zip(&held);
        let free = slots().filter(|(_, held)| **held == 0).map(|(slot, _)| slot).collect();
        let named = slots().filter(|(_, held)| **held > 0);
        let slots = named.map(|(slot, _)| (Arc::clone(&names[slot as usize]), slot)).collect();
        Self { slots, names, all: Rows::written(all), held, free }
    }

    /// Slots that there are, free ones included.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.names.len()
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
            + self.names.capacity() * (size_of::<Arc<str>>() + size_of::<u32>())
            + self.free.len() * size_of::<u32>()
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
