//! One number for the whole state, and how much memory it takes.

use crate::actors::recommendation::engine::post::Post;
use crate::actors::recommendation::engine::reader::Reader;
use crate::actors::recommendation::engine::state::Engine;
use crate::actors::recommendation::engine::top_list::TopList;
use crate::actors::signature::mix;

impl Engine {
    /// A digest of all that follows from the events: two replicas that took the same ones have the
    /// same. The weights, which do not, are left out.
    pub fn digest(&self) -> u64 {
        let posts = self.posts.iter().flat_map(Post::words);
        let readers = self.readers.iter().flat_map(Reader::words);
        let lists = std::iter::once(&self.newest).chain(&self.trends);
        let places = lists.flat_map(TopList::words);
        let words = posts.chain(readers).chain(self.tags.words()).chain(places);
        let words = words.chain(self.pace.words()).chain(self.pairs_words());
        words.fold(0, |digest, word| mix(digest ^ word))
    }

    /// Bytes of memory, the hash tables included; of the allocator's rounding, nothing.
    pub fn memory_bytes(&self) -> usize {
        let posts = self.posts.heap_bytes()
            + self.posts.iter().map(|post| post.neighbours.heap_bytes()).sum::<usize>();
        let readers =
            self.readers.heap_bytes() + self.readers.iter().map(Reader::heap_bytes).sum::<usize>();
        let lists = std::iter::once(&self.newest).chain(&self.trends);
        let maps = self.post_slots.heap_bytes() + self.reader_slots.heap_bytes();
        posts
            + readers
            + maps
            + lists.map(TopList::heap_bytes).sum::<usize>()
            + self.tags.heap_bytes()
    }
}
