//! What a handler may ask of a request's head: who asks, and which page.
//!
//! Extractors run in the order of a handler's arguments. The reader stands first, so that a bad
//! token is 401 before anything else is looked at.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::actors::call::CallError;
use crate::actors::router::Call;
use crate::actors::user::message::{Answer, Error, Hidden, Query as UserQuery, Viewer};
use crate::error::ErrorCode;
use crate::http::App;
use crate::http::error::{Answered, Failure};
use crate::http::limits::{OFFSET_MAX, PAGE_DEFAULT, PAGE_MAX};
use crate::http::people;
use crate::http::query::{Query, hex};
use crate::http::tokens::Bearer;

/// Who reads: somebody signed in, or nobody. A token that is not valid is a failure, never nobody.
pub struct Reader(pub Option<Arc<Viewer>>);

/// Somebody who is signed in.
pub struct SignedIn(pub Arc<Viewer>);

impl FromRequestParts<App> for Reader {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answered<Self> {
        viewer_of(parts, app).await.map(Self)
    }
}

/// For whom a list that recommends is, and what that reader wants in none.
#[derive(Debug, Clone)]
pub struct ListReader {
    viewer: Option<Arc<Viewer>>,
    hidden: Arc<Hidden>,
}

impl ListReader {
    /// Somebody signed in.
    pub fn new(viewer: Arc<Viewer>, hidden: Arc<Hidden>) -> Self {
        Self { viewer: Some(viewer), hidden }
    }

    /// Who is not signed in, and hides nothing.
    pub fn nobody() -> Self {
        Self { viewer: None, hidden: Arc::default() }
    }

    /// Who reads.
    pub fn viewer(&self) -> Option<&Arc<Viewer>> {
        self.viewer.as_ref()
    }

    /// What is kept from that reader.
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }
}

impl FromRequestParts<App> for ListReader {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answered<Self> {
        let (viewer, hidden) = match parts.extensions.get() {
            Some(SignIn(Err(failure))) => return Err(failure.clone()),
            Some(SignIn(Ok((viewer, Some(hidden))))) => (viewer.clone(), hidden.clone()),
            Some(SignIn(Ok((_, None)))) | None => match bearer_of(app, &parts.headers)? {
                Some(bearer) => reader(app, bearer).await?,
                None => return Ok(Self::nobody()),
            },
        };
        Ok(Self::new(viewer, hidden))
    }
}

impl FromRequestParts<App> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Answered<Self> {
        match viewer_of(parts, app).await? {
            Some(viewer) => Ok(Self(viewer)),
            None => Err(Failure::field(ErrorCode::Unauthenticated, "token", "is missing")),
        }
    }
}

/// Who a request is from, found out by a layer around its handler: it is not asked again.
#[derive(Clone)]
pub(crate) struct SignIn(Answered<(Arc<Viewer>, Option<Arc<Hidden>>)>);

impl SignIn {
    /// Who a request with this bearer's token is from.
    pub(crate) async fn of(app: &App, bearer: Bearer) -> Self {
        Self(viewer(app, bearer).await.map(|viewer| (viewer, None)))
    }

    /// The same of a request for a list that recommends, with what is in none for its reader.
    pub(crate) async fn of_list_reader(app: &App, bearer: Bearer) -> Self {
        Self(reader(app, bearer).await.map(|(viewer, hidden)| (viewer, Some(hidden))))
    }

    /// Whether the token is nobody's, or nobody's any more.
    pub(crate) fn is_void(&self) -> bool {
        matches!(&self.0, Err(failure) if failure.code() == ErrorCode::Unauthenticated)
    }
}

async fn viewer_of(parts: &Parts, app: &App) -> Answered<Option<Arc<Viewer>>> {
    match parts.extensions.get() {
        Some(SignIn(known)) => known.clone().map(|(viewer, _)| Some(viewer)),
        None => match bearer_of(app, &parts.headers)? {
            Some(bearer) => viewer(app, bearer).await.map(Some),
            None => Ok(None),
        },
    }
}

fn bearer_of(app: &App, headers: &HeaderMap) -> Answered<Option<Bearer>> {
    let Some(header) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = token_of(header.as_bytes()).ok_or_else(invalid)?;
    app.tokens.verify(token).map(Some).map_err(|_| invalid())
}

fn invalid() -> Failure {
    Failure::field(ErrorCode::Unauthenticated, "token", "is invalid")
}

/// The user of a token, if there is such a user and the token was not withdrawn.
async fn viewer(app: &App, bearer: Bearer) -> Answered<Arc<Viewer>> {
    let (user, viewers) = (bearer.user, &app.shared().viewers);
    let viewer = match people::reuse(app, viewers, user) {
        Ok(viewer) => viewer,
        Err(version) => match ask(app, bearer, UserQuery::GetViewer { user }).await? {
            Answer::Viewer(viewer) => {
                viewers.keep(user, version, viewer.clone(), viewer.bytes());
                viewer
            }
            _ => return Err(wrong_answer()),
        },
    };
    match viewer.token_generation == bearer.generation {
        true => Ok(viewer),
        false => Err(invalid()),
    }
}

/// The same, with what the user hides from himself.
async fn reader(app: &App, bearer: Bearer) -> Answered<(Arc<Viewer>, Arc<Hidden>)> {
    let (user, readers) = (bearer.user, &app.shared().readers);
    let (viewer, hidden) = match people::reuse(app, readers, user) {
        Ok(reader) => reader,
        Err(version) => match ask(app, bearer, UserQuery::GetReader { user }).await? {
            Answer::Reader(viewer, hidden) => {
                let bytes = viewer.bytes() + hidden.bytes();
                readers.keep(user, version, (viewer.clone(), hidden.clone()), bytes);
                (viewer, hidden)
            }
            _ => return Err(wrong_answer()),
        },
    };
    match viewer.token_generation == bearer.generation {
        true => Ok((viewer, hidden)),
        false => Err(invalid()),
    }
}

async fn ask(app: &App, bearer: Bearer, query: UserQuery) -> Answered<Answer> {
    match app.users.query(Call::new(), bearer.user.bucket(), query).await {
        Err(CallError::Refused(Error::NotFound)) => Err(invalid()),
        answer => Ok(answer?),
    }
}

/// The token of an `Authorization` header: `Token …` or `Bearer …`, in any case.
pub(crate) fn token_of(header: &[u8]) -> Option<&str> {
    let header = std::str::from_utf8(header).ok()?;
    let (scheme, token) = header.split_once(' ')?;
    let is_known = scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer");
    let token = token.trim();
    (is_known && !token.is_empty()).then_some(token)
}

/// A service that answers another question than was asked has a fault.
pub(crate) fn wrong_answer() -> Failure {
    Failure::internal("a service gave an answer of another kind than was asked for")
}

/// A page by offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page {
    /// How many to pass over.
    pub offset: usize,
    /// How many.
    pub limit: usize,
}

impl Page {
    /// The page that `limit` and `offset` name.
    ///
    /// # Errors
    /// 422 with what is wrong with either.
    pub fn of(query: Query<'_>) -> Answered<Self> {
        let limit = number(query, "limit", PAGE_DEFAULT, 1..=PAGE_MAX)?;
        let offset = number(query, "offset", 0, 0..=OFFSET_MAX)?;
        Ok(Self { offset, limit })
    }
}

pub(crate) fn number(
    query: Query<'_>,
    name: &'static str,
    default: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Answered<usize> {
    let Some(text) = query.get(name)? else { return Ok(default) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && range.contains(&number) => Ok(number),
        Ok(_) | Err(_) => {
            let (least, most) = range.into_inner();
            Err(Failure::invalid(name, format!("must be a number from {least} to {most}")))
        }
    }
}

/// The secret part of an unlisted post's link, `?link=` with 32 hexadecimal digits. Anything else
/// opens nothing, and so is none.
pub fn link_token(query: Query<'_>) -> Option<[u8; 16]> {
    let text = query.get("link").ok().flatten()?;
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut token = [0; 16];
    for (byte, pair) in token.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex(pair[0])? << 4 | hex(pair[1])?;
    }
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(raw: &str) -> Answered<Page> {
        Page::of(Query::new(Some(raw)))
    }

    #[test]
    fn both_schemes_are_understood() {
        assert_eq!(token_of(b"Token abc"), Some("abc"));
        assert_eq!(token_of(b"bearer abc"), Some("abc"));
        for bad in [&b"abc"[..], b"Token", b"Token ", b"Basic abc", b"", b"Token \xff"] {
            assert_eq!(token_of(bad), None);
        }
    }

    #[test]
    fn pages_have_bounds() {
        assert_eq!(page("").unwrap(), Page { offset: 0, limit: 20 });
        assert_eq!(page("limit=100&offset=10000").unwrap(), Page { offset: 10_000, limit: 100 });
        assert_eq!(page("limit=&offset=").unwrap(), Page { offset: 0, limit: 20 });
        for bad in [
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=x",
            "limit=+5",
            "limit=%2B5",
            "limit=1.5",
            "limit=99999999999999999999999",
            "offset=10001",
            "offset=-1",
            "offset=x",
        ] {
            assert_eq!(page(bad).unwrap_err().status().as_u16(), 422, "{bad}");
        }
    }

    #[test]
    fn a_link_has_32_digits() {
        let of = |raw| link_token(Query::new(Some(raw)));
        assert_eq!(of("link=000102030405060708090a0B0c0d0e0f").unwrap()[11], 11);
        for bad in ["", "link=00", "link=zz0102030405060708090a0b0c0d0e0f", "link=é"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_header_is_read_without_panic(bytes: Vec<u8>, text in "(Token|Bearer|x) \\PC{0,9}") {
            let _ = token_of(&bytes);
            let _ = token_of(text.as_bytes());
        }

        #[test]
        fn any_page_is_read_without_panic(raw in "(limit|offset|link)=[0-9a-f%+-]{0,40}") {
            let _ = page(&raw);
            let _ = link_token(Query::new(Some(&raw)));
        }
    }
}
