//! Entity tags of posts: `"<version>-<digest>"`.
//!
//! The version moves with every change of the text or its audience, and is what `If-Match` is about:
//! somebody's favorite must not stand in the way of an edit. The digest covers what else an answer
//! shows, so that `If-None-Match` never hides a change: the whole tag is strong.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::http::error::{Answered, Failure, STALE};
use crate::http::v1::values::mark_private;

/// What the documentation says of the header.
pub const IF_MATCH: &str = "Entity tag or `\"<version>\"` of the version that is meant, or `*`.";

/// The entity tag of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// The tag of a version and of everything that is shown beside it.
    pub fn new(version: u64, shown: &[u8]) -> Self {
        let digest = Sha256::digest(shown);
        let digest: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("\"{version}-{digest}\""))
    }

    /// Marks an answer with it.
    pub fn mark(&self, response: &mut Response) {
        let value = HeaderValue::from_str(&self.0).expect("digits and hyphens are visible ASCII");
        response.headers_mut().insert(header::ETAG, value);
    }

    /// 304 if the client has this very answer already.
    pub fn not_modified(&self, headers: &HeaderMap) -> Option<Response> {
        let known = tags_of(headers, &header::IF_NONE_MATCH)?;
        // A proxy that changes the encoding of an answer makes its tag a weak one.
        let same = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.0;
        if !known.split(',').map(str::trim).any(same) {
            return None;
        }
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        mark_private(&mut response);
        self.mark(&mut response);
        Some(response)
    }
}

/// The versions that `If-Match` admits; none is any.
///
/// # Errors
/// 428 without the header, 412 if no tag in it can be one of ours.
pub fn if_match(headers: &HeaderMap) -> Answered<Option<u64>> {
    if !headers.contains_key(header::IF_MATCH) {
        let detail = "say with If-Match which version you change";
        return Err(Failure::condition(StatusCode::PRECONDITION_REQUIRED, detail));
    }
    let stale = || Failure::condition(StatusCode::PRECONDITION_FAILED, STALE);
    let tags = tags_of(headers, &header::IF_MATCH).ok_or_else(stale)?;
    if tags.trim() == "*" {
        return Ok(None);
    }
    // Of several versions only the newest can be the one that the post has.
    tags.split(',').filter_map(version_of).max().map(Some).ok_or_else(stale)
}

fn version_of(tag: &str) -> Option<u64> {
    let inner = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
    inner.split('-').next()?.parse().ok()
}

fn tags_of<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn who_has_the_answer_is_told_so() {
        let tag = ETag::new(3, b"a");
        let ETag(text) = tag.clone();
        assert!(text.starts_with("\"3-") && text.ends_with('"'), "{text}");
        assert_ne!(tag, ETag::new(3, b"b"));
        assert_ne!(tag, ETag::new(4, b"a"));
        for (sent, status) in [
            (text.clone(), Some(304)),
            (format!("W/{text}"), Some(304)),
            (format!("\"x\", {text}"), Some(304)),
            ("*".to_owned(), Some(304)),
            ("\"3\"".to_owned(), None),
            (String::new(), None),
        ] {
            let answer = tag.not_modified(&with(header::IF_NONE_MATCH, &sent));
            assert_eq!(answer.map(|answer| answer.status().as_u16()), status, "{sent}");
        }
        assert!(tag.not_modified(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_change_says_what_it_changes() {
        for (sent, expected) in [
            ("\"3-abc\"", Ok(Some(3))),
            ("\"3\"", Ok(Some(3))),
            ("\"2-a\", \"3-b\"", Ok(Some(3))),
            ("*", Ok(None)),
            ("W/\"3-abc\"", Err(412)),
            ("3-abc", Err(412)),
            ("\"x\"", Err(412)),
            ("", Err(412)),
        ] {
            let found = if_match(&with(header::IF_MATCH, sent));
            assert_eq!(found.map_err(|failure| failure.status().as_u16()), expected, "{sent}");
        }
        assert_eq!(if_match(&HeaderMap::new()).unwrap_err().status().as_u16(), 428);
    }
}
