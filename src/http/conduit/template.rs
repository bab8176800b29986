//! JSON as strangers are sent it, with the places that differ for a reader: whether he favors a post, and
//! whether he follows its author. So one text serves everybody, and making it a reader's is a copy.

use axum::body::Bytes;

use crate::http::scratch;
use crate::ids::{PostId, UserId};

/// What stands in every place.
pub const FALSE: &str = "false";
const TRUE: &str = "true";

/// The places of one post.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Which.
    pub post: PostId,
    /// Whose.
    pub author: UserId,
    /// Where it says whether the reader favors the post, from the beginning of the text.
    pub favorited: usize,
    /// Behind that, where it says whether he follows the author.
    pub following: usize,
}

/// The text and its places, in order.
#[derive(Debug)]
pub struct Template {
    text: Bytes,
    places: Box<[Place]>,
}

impl Template {
    /// The text in a scratch buffer, with [`FALSE`] in every place.
    pub fn new(out: Vec<u8>, places: Vec<Place>) -> Self {
        // A copy has no more room than it needs: it may be kept for long.
        let text = Bytes::copy_from_slice(&out);
        drop(scratch::into_bytes(out));
        Self { text, places: places.into() }
    }

    /// For who favors nothing and follows nobody.
    pub fn text(&self) -> Bytes {
        self.text.clone()
    }

    /// For a reader.
    pub fn for_reader(
        &self,
        favors: impl Fn(PostId) -> bool,
        follows: impl Fn(UserId) -> bool,
    ) -> Bytes {
        let mut out = Vec::new();
        let mut copied = 0;
        for Place { post, author, favorited, following } in &self.places {
            for (place, is_so) in [(*favorited, favors(*post)), (*following, follows(*author))] {
                if !is_so {
                    continue;
                }
                if copied == 0 {
                    out = scratch::buffer(self.text.len());
                }
                out.extend_from_slice(&self.text[copied..place]);
                out.extend_from_slice(TRUE.as_bytes());
                copied = place + FALSE.len();
            }
        }
        if copied == 0 {
            return self.text();
        }
        out.extend_from_slice(&self.text[copied..]);
        scratch::into_bytes(out)
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        100 + self.text.len() + size_of_val(&self.places[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Template {
        let out = b"[false,false][false,false]".to_vec();
        let places = [(1, 1, 7), (2, 14, 20)].map(|(number, favorited, following)| Place {
            post: PostId(number),
            author: UserId(10 * number),
            favorited,
            following,
        });
        Template::new(out, places.into())
    }

    #[test]
    fn a_reader_finds_his_own_in_its_place() {
        let (of_all, nobody) = (|_: PostId| true, |_: UserId| false);
        assert_eq!(template().for_reader(of_all, nobody), "[true,false][true,false]");
        let all = |post: PostId| post == PostId(2);
        let some = |author: UserId| author == UserId(10);
        assert_eq!(template().for_reader(all, some), "[false,true][true,false]");
        let none = |_: PostId| false;
        assert_eq!(template().for_reader(none, nobody), template().text());
        assert_eq!(template().text(), "[false,false][false,false]");
    }
}
