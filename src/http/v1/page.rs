//! Pages of a list, by cursor: `?limit=20&cursor=…`, answered as `{data, next_cursor, prev_cursor}`
//! with a `Link` header.
//!
//! A list is in the order of a number, and of an id among equals, both descending: a cursor names a
//! place in that order and not an item, so it survives the deletion of its item, and a page deep
//! down costs what the first one does. A cursor is good for the list and filters that it came from;
//! it opens nothing that its bearer may not see, and so is no secret.

use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::{Answered, Failure};
use crate::http::extract::number;
use crate::http::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::http::query::{Query, hex};
use crate::http::v1::values::{json, mark_private};

/// First byte of a cursor: what follows may change with a release.
const VERSION: u8 = 1;
const CHECK_BYTES: usize = 8;
const CURSOR_BYTES: usize = 1 + 1 + 8 + 8 + CHECK_BYTES;

/// A place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number that the list is ordered by, descending.
    pub sort: u64,
    /// Orders equals, descending.
    pub id: u64,
}

/// Where a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Right behind a place, in the order of the list.
    After(Place),
    /// Right before it; the page is in the order of the list all the same.
    Before(Place),
}

/// The page that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most so many items, 1–100.
    pub limit: usize,
    /// Where it lies; none is the beginning of the list.
    pub side: Option<Side>,
    list: Vec<u8>,
}

/// The parameters of every list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what `Page::of` reads")]
pub struct PageParameters {
    /// At most so many items.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u16>,
    /// `next_cursor` or `prev_cursor` of another page of the same list with the same filters.
    cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageBody<T> {
    /// The items, in the order of the list.
    pub data: Vec<T>,
    /// Leads to the page behind this one, if there is one.
    #[schema(required)]
    pub next_cursor: Option<String>,
    /// Leads to the page before this one; none on the first page.
    #[schema(required)]
    pub prev_cursor: Option<String>,
}

impl Page {
    /// The page that `limit` and `cursor` name of a list. `list` tells this list from every other:
    /// its name, and its filters as they were sent.
    ///
    /// # Errors
    /// 422 for a limit that is none; 400 for a cursor that is none, or another list's.
    pub fn of(query: Query<'_>, list: &[&str]) -> Answered<Self> {
        let limit = number(query, "limit", PAGE_DEFAULT, 1..=PAGE_MAX)?;
        let mut identity = Vec::new();
        for part in list {
            identity.extend_from_slice(&(part.len() as u64).to_be_bytes());
            identity.extend_from_slice(part.as_bytes());
        }
        let mut page = Self { limit, side: None, list: identity };
        if let Some(cursor) = query.get("cursor")? {
            let side = page.side_of(&cursor);
            page.side = Some(
                side.ok_or_else(|| Failure::malformed_at("cursor", "is not one of this list"))?,
            );
        }
        Ok(page)
    }

    /// Answers with the page. `items` and `places` are in the order of the list (`places` of
    /// everything that was found, which may be more than what is still there), and `more` says
    /// whether the list goes on beyond them, seen from where the page was read.
    pub fn answer<T: Serialize>(
        &self,
        uri: &Uri,
        items: Vec<T>,
        places: &[Place],
        more: bool,
    ) -> Response {
        let (next, prev) = self.neighbours(places, more);
        let next_cursor = next.map(|side| self.cursor(side));
        let prev_cursor = prev.map(|side| self.cursor(side));
        let links = [("next", &next_cursor), ("prev", &prev_cursor)];
        let links = links.into_iter().filter_map(|(name, cursor)| {
            Some(format!("<{}>; rel=\"{name}\"", self.link(uri, cursor.as_deref()?)))
        });
        let links = links.collect::<Vec<_>>().join(", ");
        let mut response =
            json(StatusCode::OK, &PageBody { data: items, next_cursor, prev_cursor });
        mark_private(&mut response);
        if let Ok(links) = HeaderValue::from_str(&links)
            && !links.is_empty()
        {
            response.headers_mut().insert(header::LINK, links);
        }
        response
    }

    /// The pages behind and before this one.
    fn neighbours(&self, places: &[Place], more: bool) -> (Option<Side>, Option<Side>) {
        let (first, last) = (places.first().copied(), places.last().copied());
        match self.side {
            None => (last.filter(|_| more).map(Side::After), None),
            Some(Side::After(place)) => {
                // Of an empty page: so that what stood at the place itself is before it.
                let first = first.unwrap_or(Place { id: place.id.saturating_sub(1), ..place });
                (last.filter(|_| more).map(Side::After), Some(Side::Before(first)))
            }
            Some(Side::Before(place)) => {
                let last = last.unwrap_or(Place { id: place.id.saturating_add(1), ..place });
                (Some(Side::After(last)), first.filter(|_| more).map(Side::Before))
            }
        }
    }

    fn cursor(&self, side: Side) -> String {
        let (direction, Place { sort, id }) = match side {
            Side::After(place) => (0, place),
            Side::Before(place) => (1, place),
        };
        let mut bytes = vec![VERSION, direction];
        bytes.extend_from_slice(&sort.to_be_bytes());
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&self.check(&bytes));
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn side_of(&self, cursor: &str) -> Option<Side> {
        let digits = cursor.as_bytes();
        if digits.len() != 2 * CURSOR_BYTES {
            return None;
        }
        let mut bytes = [0; CURSOR_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex(pair[0])? << 4 | hex(pair[1])?;
        }
        let (told, check) = bytes.split_at(CURSOR_BYTES - CHECK_BYTES);
        let [VERSION, direction, places @ ..] = told else { return None };
        let (sort, id) = places.split_first_chunk::<8>()?;
        let place =
            Place { sort: u64::from_be_bytes(*sort), id: u64::from_be_bytes(id.try_into().ok()?) };
        match direction {
            _ if check != self.check(told) => None,
            0 => Some(Side::After(place)),
            1 => Some(Side::Before(place)),
            _ => None,
        }
    }

    /// Ties a cursor to its list. Not a signature: who makes one up sees no more than with a filter.
    fn check(&self, told: &[u8]) -> [u8; CHECK_BYTES] {
        let hash = Sha256::new().chain_update(told).chain_update(&self.list).finalize();
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&hash[..CHECK_BYTES]);
        check
    }

    /// The address of the same list at another cursor.
    fn link(&self, uri: &Uri, cursor: &str) -> String {
        let pairs = uri.query().unwrap_or_default().split('&');
        let kept =
            pairs.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor"));
        let query: String = kept.flat_map(|pair| [pair, "&"]).collect();
        format!("{}?{query}cursor={cursor}", uri.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(raw: &str, list: &[&str]) -> Answered<Page> {
        Page::of(Query::new(Some(raw)), list)
    }

    fn at(sort: u64, id: u64) -> Place {
        Place { sort, id }
    }

    #[test]
    fn a_wrong_limit_or_cursor_is_refused() {
        let list = ["posts", "rust"];
        let whole = page("", &list).unwrap();
        assert_eq!((whole.limit, whole.side), (20, None));
        let cursor = whole.cursor(Side::After(at(7, 9)));
        let again = page(&format!("limit=100&cursor={cursor}"), &list).unwrap();
        assert_eq!((again.limit, again.side), (100, Some(Side::After(at(7, 9)))));

        let of_another = page("", &["posts", "go"]).unwrap().cursor(Side::After(at(7, 9)));
        let upper = cursor.to_uppercase();
        let turned = format!("0101{}", &cursor[4..]);
        let newer = format!("02{}", &cursor[2..]);
        for (raw, status) in [
            ("limit=0".to_owned(), 422),
            ("limit=101".to_owned(), 422),
            ("limit=x".to_owned(), 422),
            ("cursor=x".to_owned(), 400),
            (format!("cursor={of_another}"), 400),
            (format!("cursor={turned}"), 400),
            (format!("cursor={newer}"), 400),
            (format!("cursor={}", &cursor[2..]), 400),
            (format!("cursor={cursor}00"), 400),
            (format!("cursor={}", "é".repeat(26)), 400),
        ] {
            assert_eq!(page(&raw, &list).unwrap_err().status().as_u16(), status, "{raw}");
        }
        assert!(page(&format!("cursor={upper}"), &list).is_ok());
        assert!(page("", &["a", "bc"]).unwrap().list != page("", &["ab", "c"]).unwrap().list);
    }

    #[test]
    fn pages_lead_to_their_neighbours() {
        let places = [at(9, 1), at(8, 1)];
        let of = |side, places: &[Place], more| {
            Page { limit: 2, side, list: Vec::new() }.neighbours(places, more)
        };
        let (before, after) = (|place| Some(Side::Before(place)), |place| Some(Side::After(place)));
        assert_eq!(of(None, &[], false), (None, None));
        assert_eq!(of(None, &places, true), (after(at(8, 1)), None));
        assert_eq!(of(after(at(10, 1)), &places, false), (None, before(at(9, 1))));
        assert_eq!(of(after(at(8, 1)), &[], false), (None, before(at(8, 0))));
        assert_eq!(of(before(at(7, 1)), &places, true), (after(at(8, 1)), before(at(9, 1))));
        assert_eq!(of(before(at(9, 1)), &[], false), (after(at(9, 2)), None));
    }

    #[test]
    fn links_keep_the_filters() {
        let page = page("", &["posts"]).unwrap();
        let link = |uri: &str| page.link(&uri.parse().unwrap(), "c");
        assert_eq!(link("/v1/posts"), "/v1/posts?cursor=c");
        assert_eq!(
            link("/v1/posts?tag=a%20b&cursor=x&limit=3"),
            "/v1/posts?tag=a%20b&limit=3&cursor=c"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn a_cursor_leads_back(sort: u64, id: u64, after: bool, tag in ".{0,9}") {
            let list = ["posts", tag.as_str()];
            let side = if after { Side::After(at(sort, id)) } else { Side::Before(at(sort, id)) };
            let cursor = page("", &list).unwrap().cursor(side);
            prop_assert_eq!(page(&format!("cursor={cursor}"), &list).unwrap().side, Some(side));
        }

        #[test]
        fn any_cursor_is_read_without_panic(cursor in "([0-9a-f]{52}|\\PC{0,60})") {
            let _ = page(&format!("cursor={cursor}"), &["posts"]);
        }
    }
}
