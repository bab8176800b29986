//! Which lists a post stands in.

use crate::actors::recommendation::engine::post::{NONE, Post};
use crate::actors::recommendation::engine::state::Engine;

/// Places in the list of a trend.
const TREND_PLACES: usize = 96;
/// Places in the list of the newest posts.
const NEWEST_PLACES: usize = 256;
/// Places in the list of an author's newest posts.
const AUTHOR_PLACES: usize = 16;

impl Engine {
    /// Puts a post into the lists it belongs to.
    pub(super) fn list(&mut self, slot: u32) {
        let Post { author, born_ms, .. } = self.posts[slot as usize];
        if !self.posts[slot as usize].is_listed() {
            return;
        }
        if self.make_room(author, born_ms) {
            self.newest.set(slot, born_ms, NEWEST_PLACES);
        }
        let post = &self.posts[slot as usize];
        if post.author != NONE {
            self.readers[post.author as usize].newest_mut().set(slot, born_ms, AUTHOR_PLACES);
        }
        for tag in post.tags() {
            self.tags.list(*tag, slot, born_ms);
        }
        self.list_trends(slot);
    }

    /// Whether the list of the newest has room for a post of an author. Half of it is enough for one
    /// author: then the oldest of theirs makes room, if this one is younger.
    fn make_room(&mut self, author: u32, born_ms: u64) -> bool {
        if author == NONE {
            return true;
        }
        let places = self.newest.places().iter();
        let own = places.filter(|place| self.posts[place.post as usize].author == author);
        let (own, oldest) = own.fold((0, None), |(count, _), place| (count + 1, Some(*place)));
        let Some(oldest) = oldest.filter(|_| own >= NEWEST_PLACES / 2) else { return true };
        let is_younger = oldest.order < born_ms;
        if is_younger {
            self.newest.remove(oldest.post);
        }
        is_younger
    }

    pub(super) fn list_trends(&mut self, slot: u32) {
        let post = &self.posts[slot as usize];
        if !post.is_listed() || post.readers == 0 {
            return;
        }
        for (window, trend) in self.trends.iter_mut().enumerate() {
            trend.set(slot, post.trend_order(&self.settings, window), TREND_PLACES);
        }
        for tag in post.tags() {
            self.tags.list_trend(*tag, slot, post, &self.settings);
        }
    }

    pub(super) fn unlist(&mut self, slot: u32) {
        let post = &self.posts[slot as usize];
        if !post.is_listed() {
            return;
        }
        self.newest.remove(slot);
        self.trends.iter_mut().for_each(|trend| trend.remove(slot));
        if post.author != NONE {
            self.readers[post.author as usize].newest_mut().remove(slot);
        }
        for tag in post.tags() {
            self.tags.unlist(*tag, slot);
        }
    }
}
