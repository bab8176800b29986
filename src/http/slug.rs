//! Addresses of posts: the slugified title and the id (`why-actors-fail-0h8x2k9v3m1qz`). Only the
//! id counts when one is read, so that old addresses keep working when a title changes.

use crate::ids::{ID_CHARS, PostId, id_text};

/// Longest part of a slug that comes from the title.
const TITLE_CHARS_MAX: usize = 80;
/// Characters of a title that are looked at; a title may be longer than any slug of it.
const TITLE_CHARS_READ: usize = 160;

/// The slug of a post.
pub fn slug(title: &str, post: PostId) -> String {
    // What is neither letter nor number would be spelled out (an emoji by its name).
    let readable = |c: char| if c.is_alphanumeric() { c } else { ' ' };
    let read: String = title.chars().take(TITLE_CHARS_READ).map(readable).collect();
    let mut slug = slug::slugify(read);
    if slug.len() > TITLE_CHARS_MAX {
        let words = slug[..TITLE_CHARS_MAX].rfind('-').unwrap_or(TITLE_CHARS_MAX);
        slug.truncate(words);
    }
    if !slug.is_empty() {
        slug.push('-');
    }
    slug.push_str(id_text(post.0, &mut [0; ID_CHARS]));
    slug
}

/// The post that a slug, or an id alone, names.
pub fn post_of(slug: &str) -> Option<PostId> {
    let (title, id) = slug.split_at_checked(slug.len().checked_sub(ID_CHARS)?)?;
    let is_separate = title.is_empty() || title.ends_with('-');
    if is_separate { id.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: PostId = PostId(0x0123_4567_89ab_cdef);

    #[test]
    fn a_slug_is_readable_and_ends_with_the_id() {
        let id = ID.to_string();
        for (title, expected) in [
            ("Why Actors Fail!", format!("why-actors-fail-{id}")),
            ("🎉🎉", id.clone()),
            ("--", id.clone()),
            ("Ünïcødé 名", format!("unicode-ming-{id}")),
        ] {
            assert_eq!(slug(title, ID), expected);
        }
        let long = slug(&"word ".repeat(60), ID);
        assert!(long.len() <= TITLE_CHARS_MAX + 1 + ID_CHARS, "{long}");
        assert!(long.starts_with("word-word") && !long.contains("wor-"), "{long}");
        assert!(slug(&"名".repeat(300), ID).len() <= TITLE_CHARS_MAX + 1 + ID_CHARS);
    }

    #[test]
    fn only_the_id_counts() {
        assert_eq!(post_of(&format!("an-old-title-{ID}")), Some(ID));
        assert_eq!(post_of(&ID.to_string()), Some(ID));
        for bad in ["", "title", &format!("x{ID}"), &ID.to_string()[1..], "é00000000000é", "-"] {
            assert_eq!(post_of(bad), None, "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn every_slug_leads_back(title: String, id: u64) {
            let slug = slug(&title, PostId(id));
            prop_assert!(slug.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
            prop_assert!(!slug.starts_with('-'));
            prop_assert_eq!(post_of(&slug), Some(PostId(id)));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = post_of(&text);
        }
    }
}
