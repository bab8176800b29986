//! Cursors of lists that have no order of their own: a recommendation depends on the moment. Such a
//! cursor names what earlier pages showed, so that nothing is shown twice, and keeps nothing here.

use sha2::{Digest, Sha256};

use crate::actors::recommendation::message::EARLIER_MAX;
use crate::http::error::{Answered, Failure};
use crate::http::query::Query;
use crate::ids::{ID_CHARS, PostId, id_text};

/// First byte of a cursor: what follows may change with a release.
const VERSION: &str = "1";
const CHECK_CHARS: usize = 16;
/// Posts that a cursor names; who has seen so many is at the end.
const POSTS_MAX: usize = EARLIER_MAX;

/// What earlier pages of a list showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    posts: Vec<PostId>,
    list: Vec<u8>,
}

impl Seen {
    /// What the `cursor` of a query names; nothing on the first page. `list` tells this list from
    /// every other: its name, and its filters as they were sent.
    ///
    /// # Errors
    /// 400 for a cursor that is none, or another list's.
    pub fn of(query: Query<'_>, list: &[&str]) -> Answered<Self> {
        let cursor = query.get("cursor")?;
        Self::of_cursor(cursor.as_deref(), list)
    }

    /// The same for a cursor from elsewhere.
    ///
    /// # Errors
    /// As [`Seen::of`].
    pub fn of_cursor(cursor: Option<&str>, list: &[&str]) -> Answered<Self> {
        let mut identity = Vec::new();
        for part in list {
            identity.extend_from_slice(&(part.len() as u64).to_be_bytes());
            identity.extend_from_slice(part.as_bytes());
        }
        let mut seen = Self { posts: Vec::new(), list: identity };
        if let Some(cursor) = cursor {
            let posts = seen.posts_of(cursor);
            seen.posts =
                posts.ok_or_else(|| Failure::malformed_at("cursor", "is not one of this list"))?;
        }
        Ok(seen)
    }

    /// The posts.
    pub fn posts(&self) -> &[PostId] {
        &self.posts
    }

    /// The cursor that leads behind a page of these posts; none when there can be no further one.
    pub fn cursor_after(&self, page: &[PostId]) -> Option<String> {
        if page.is_empty() || self.posts.len() + page.len() > POSTS_MAX {
            return None;
        }
        let length = self.posts.len() + page.len();
        let mut ids = String::with_capacity(length * ID_CHARS);
        for post in self.posts.iter().chain(page) {
            ids.push_str(id_text(post.0, &mut [0; ID_CHARS]));
        }
        Some([VERSION, &self.check(&ids), &ids].concat())
    }

    fn posts_of(&self, cursor: &str) -> Option<Vec<PostId>> {
        let told = cursor.strip_prefix(VERSION)?;
        let (check, ids) = told.split_at_checked(CHECK_CHARS)?;
        let is_long = ids.len() > POSTS_MAX * ID_CHARS;
        if !ids.is_ascii() || is_long || self.check(ids) != check {
            return None;
        }
        let chunks = ids.as_bytes().chunks(ID_CHARS);
        chunks.map(|id| std::str::from_utf8(id).ok()?.parse().ok()).collect()
    }

    /// Ties a cursor to its list. Not a signature: who makes one up only sees less.
    fn check(&self, ids: &str) -> String {
        let hash = Sha256::new().chain_update(ids).chain_update(&self.list).finalize();
        let first = hash.first_chunk().expect("32 bytes");
        format!("{:0CHECK_CHARS$x}", u64::from_be_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_names_what_was_seen_and_belongs_to_its_list() {
        let first = Seen::of_cursor(None, &["a", "x"]).unwrap();
        let page: Vec<PostId> = (1..=20).map(PostId).collect();
        let cursor = first.cursor_after(&page).unwrap();
        let second = Seen::of_cursor(Some(&cursor), &["a", "x"]).unwrap();
        assert_eq!(second.posts(), page);
        let more: Vec<PostId> = (21..=240).map(PostId).collect();
        let last = second.cursor_after(&more).unwrap();
        let last = Seen::of_cursor(Some(&last), &["a", "x"]).unwrap();
        assert_eq!(last.posts().len(), POSTS_MAX);
        assert_eq!(last.cursor_after(&[PostId(241)]), None, "the end");
        assert_eq!(first.cursor_after(&[]), None);
        let turned = cursor.replacen("01", "02", 1);
        let (long, short) = (format!("{cursor}0"), &cursor[..cursor.len() - 1]);
        for bad in ["", "1", "x", &turned, &long, short, &cursor.replace('1', "é")] {
            let status = Seen::of_cursor(Some(bad), &["a", "x"]).unwrap_err().status();
            assert_eq!(status.as_u16(), 400, "{bad}");
        }
        for other in [&["a", "y"][..], &["ax"], &["a", "x", ""]] {
            assert!(Seen::of_cursor(Some(&cursor), other).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_cursor_is_read_without_panic(cursor: String, ids in "1[0-9a-f]{16}[0-9a-z]{0,60}") {
            let _ = Seen::of_cursor(Some(&cursor), &[]);
            let _ = Seen::of_cursor(Some(&ids), &[]);
        }
    }
}
