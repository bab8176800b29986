//! Questions.

use crate::actors::recommendation::engine::Engine;
use crate::actors::recommendation::features::extract;
use crate::actors::recommendation::gather::{Asker, gather};
use crate::actors::recommendation::scratch::Scratch;
use crate::ids::{PostId, Stamp, UserId};

impl Engine {
    pub(super) fn asker<'a>(&'a self, user: Option<u32>, recent: &'a [(u32, u32)], now_s: u64) -> Asker<'a> {
        let reader = user.map(|slot| &self.readers[slot as usize]);
        Asker {
            user,
            reads: reader.map_or(&[], |reader| reader.reads()),
            recent,
            interests: reader.map_or(&[], |reader| &reader.tags),
            authors: reader.map_or(&[], |reader| &reader.authors),
            now_s,
            choices: reader.and_then(|reader| reader.choices.as_deref()),
        }
    }

    /// experiment
    pub fn prepare(&self, reader: UserId, now: Stamp, scratch: &mut Scratch) {
        let slot = self.reader_slots.get(&reader).copied();
        let mut recent = [(0, 0); 20];
        let mut n = 0;
        if let Some(slot) = slot {
            for r in self.readers[slot as usize].recent() {
                recent[n] = r;
                n += 1;
            }
        }
        let asker = self.asker(slot, &recent[..n], now.as_millis() / 1000);
        gather(self, asker, &[], scratch);
        extract(self, asker, now.as_millis(), scratch);
    }

    /// experiment
    pub fn ranked(&self, scratch: &mut Scratch, weights: &crate::actors::recommendation::weights::Weights) -> Vec<PostId> {
        weights.normalise(&scratch.features, &mut scratch.normal);
        weights.score(&scratch.normal, &mut scratch.scores);
        let mut idx: Vec<u16> = (0..scratch.scores.len() as u16).collect();
        let s = &scratch.scores;
        idx.sort_unstable_by(|a, b| s[*b as usize].total_cmp(&s[*a as usize]).then(a.cmp(b)));
        idx.truncate(10);
        idx.into_iter().map(|i| self.posts[scratch.candidates[i as usize].post as usize].id).collect()
    }

    /// experiment
    pub fn index_of(&self, scratch: &Scratch, post: PostId) -> Option<usize> {
        let slot = *self.post_slots.get(&post)?;
        scratch.candidates.iter().position(|c| c.post == slot)
    }
    /// experiment
    pub fn trend_list(&self, w: usize, scratch: &Scratch) -> Vec<PostId> {
        let w = if w == 99 { self.pace.best() } else { w };
        self.trends[w].posts().filter(|p| scratch.map.find(*p) != Some(u16::MAX)).take(10).map(|p| self.posts[p as usize].id).collect()
    }
    /// experiment
    pub fn trend_list_n(&self, w: usize, scratch: &Scratch, n: usize) -> Vec<PostId> {
        self.trends[w].posts().filter(|p| scratch.map.find(*p) != Some(u16::MAX)).take(n).map(|p| self.posts[p as usize].id).collect()
    }
    /// experiment
    pub fn newest_list(&self, scratch: &Scratch) -> Vec<PostId> {
        self.newest.posts().filter(|p| scratch.map.find(*p) != Some(u16::MAX)).take(10).map(|p| self.posts[p as usize].id).collect()
    }
    /// experiment
    pub fn n_candidates(&self, scratch: &Scratch) -> usize { scratch.candidates.len() }
    /// experiment
    pub fn co_list(&self, scratch: &Scratch) -> Vec<PostId> {
        let mut c: Vec<_> = scratch.candidates.iter().filter(|c| c.pairs[1].together > 0.0).collect();
        c.sort_by(|a, b| b.pairs[1].together.total_cmp(&a.pairs[1].together));
        c.into_iter().take(10).map(|c| self.posts[c.post as usize].id).collect()
    }
    /// experiment
    pub fn memory_is_read(&self, reader: UserId, post: PostId) -> bool {
        let Some((r, p)) = self.reader_slots.get(&reader).zip(self.post_slots.get(&post)) else { return false };
        self.readers[*r as usize].has_read(*p)
    }
}
