//! What to read next: recommendations, related posts, what is much read, what is followed.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::actors::recommendation::engine::settings::WINDOWS;
use crate::actors::recommendation::message::{Method, Reason, Source};
use crate::http::App;
use crate::http::conduit::render;
use crate::http::error::{Answered, Failure, PROBLEM, Problem};
use crate::http::extract::{ListReader, SignedIn, number};
use crate::http::json::Json;
use crate::http::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::http::people::Cards;
use crate::http::query::Query;
use crate::http::recommendations::{Asked, List, POSTS_NAMED_MAX, Question, Recommended, fetch};
use crate::http::request::RequestId;
use crate::http::v1::cards::{PostCard, put_value};
use crate::http::v1::seen::Seen;
use crate::http::v1::values::{Id, mark_private, private_json};
use crate::http::{fields, posts, scratch};
use crate::ids::PostId;

/// Characters of the name of a surface.
const SURFACE_CHARS_MAX: usize = 32;
/// The surface when none is named.
const SURFACE: &str = "home";

/// Room for a post with its author.
const POST_BYTES: usize = 768;

/// A recommended post.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecommendedPost<'a> {
    /// The post.
    post: PostCard<'a>,
    /// Why it stands here; only with `explain=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
}

/// Why a post was recommended.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// What to tell the reader; none where the reason must not be named.
    #[schema(required)]
    reason: Option<Why>,
    /// The list that it came from first.
    source: Origin,
    /// Score of the ranker, comparable within one answer.
    score: f32,
    /// Probability of standing in this place: below 1 where a post was tried.
    propensity: f32,
}

/// A reason.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Why {
    /// You follow the author.
    FollowsAuthor {
        /// Who that is.
        author: Id,
    },
    /// You follow the tag.
    FollowsTag {
        /// Which.
        tag: String,
    },
    /// Readers of a post that you have read have read this one, too.
    BecauseRead {
        /// That post.
        post: Id,
    },
    /// You read about this tag.
    Interest {
        /// Which.
        tag: String,
    },
    /// It is much read at the moment.
    Trending,
    /// It is new.
    New,
    /// Few have seen it so far.
    Exploring,
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Follows(author) => Self::FollowsAuthor { author: author.into() },
            Reason::FollowsTag(tag) => Self::FollowsTag { tag },
            Reason::BecauseRead(post) => Self::BecauseRead { post: post.into() },
            Reason::Interest(tag) => Self::Interest { tag },
            Reason::Trending => Self::Trending,
            Reason::New => Self::New,
            Reason::Exploring => Self::Exploring,
        }
    }
}

/// Which list a recommendation came from first.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Newest posts of a followed author.
    FollowedAuthor,
    /// Newest posts with a followed tag.
    FollowedTag,
    /// Much read of late.
    Trend,
    /// Much read of late, with a tag that the reader likes.
    TagTrend,
    /// Newest posts.
    Newest,
    /// Newest posts with a tag that the reader likes.
    TagNewest,
    /// Read by those who read what the reader read.
    Together,
    /// Shown to few so far.
    Exploration,
}

impl From<Source> for Origin {
    fn from(source: Source) -> Self {
        match source {
            Source::FollowedAuthor => Self::FollowedAuthor,
            Source::FollowedTag => Self::FollowedTag,
            Source::Trend => Self::Trend,
            Source::TagTrend => Self::TagTrend,
            Source::Newest => Self::Newest,
            Source::TagNewest => Self::TagNewest,
            Source::Together => Self::Together,
            Source::Exploration => Self::Exploration,
        }
    }
}

/// How a list was made.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// By the ranker.
    Ranker,
    /// What is much read: asked for, or in place of a ranker that could not.
    Trend,
    /// What is new: asked for, or in place of anything else that could not.
    Latest,
    /// By what is read together.
    Together,
}

impl From<Method> for Way {
    fn from(method: Method) -> Self {
        match method {
            Method::Ranker => Self::Ranker,
            Method::Trend => Self::Trend,
            Method::Latest => Self::Latest,
            Method::Together => Self::Together,
        }
    }
}

/// A page of recommended posts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recommendations<'a> {
    /// The posts, best first.
    data: Vec<RecommendedPost<'a>>,
    /// How they were found, and so what was fallen back to.
    method: Way,
    /// Leads to further posts, none of them shown before; none at the end.
    #[schema(required)]
    next_cursor: Option<String>,
    /// Always none: such a list has no way back.
    #[schema(required)]
    prev_cursor: Option<String>,
}

/// What all these lists take.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what `Parameters::of` reads")]
pub struct ListParameters {
    /// At most so many posts.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Ids of posts to leave out, with commas between them; at most 1,000.
    exclude: Option<String>,
    /// Where the list is shown: 1–32 lower-case letters, digits, `_` or `-`.
    #[param(default = "home")]
    surface: Option<String>,
    /// Says with every post why it is there.
    #[param(default = false)]
    explain: Option<bool>,
}

/// What of a trend is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "documents what the handler reads")]
pub struct TrendParameters {
    /// Only posts with this tag, in any case.
    tag: Option<String>,
    /// How fast reads fade, from 0 (four minutes) to 6 (eleven days), each four times the one
    /// before; without it, the one that has foreseen best what is read.
    #[param(minimum = 0, maximum = 6)]
    window: Option<u8>,
}

/// Reads of somebody who is not signed in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Ids of posts that were read, newest first; at most 1,000.
    reads: Vec<String>,
}

/// The parameters of a request.
struct Parameters {
    limit: usize,
    seen: Seen,
    exclude: Vec<PostId>,
    surface: String,
    explain: bool,
}

impl Parameters {
    fn of(query: Query<'_>, list: &[&str]) -> Answered<Self> {
        let limit = number(query, "limit", PAGE_DEFAULT, 1..=PAGE_MAX)?;
        let seen = Seen::of(query, list)?;
        let named = query.get("exclude")?;
        let named = named.iter().flat_map(|named| named.split(','));
        let exclude = posts_named("exclude", named)?;
        let surface = query.get("surface")?.unwrap_or(SURFACE.into()).into_owned();
        let is_plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if surface.len() > SURFACE_CHARS_MAX || !surface.chars().all(is_plain) {
            let message = "must be 1 to 32 lower-case letters, digits, `_` or `-`";
            return Err(Failure::invalid("surface", message));
        }
        let explain = match query.get("explain")?.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Failure::invalid("explain", "must be `true` or `false`")),
        };
        Ok(Self { limit, seen, exclude, surface, explain })
    }
}

/// The posts that some ids name.
fn posts_named<'a>(
    field: &'static str,
    ids: impl Iterator<Item = &'a str>,
) -> Answered<Vec<PostId>> {
    let mut posts = Vec::new();
    for id in ids {
        let Ok(post) = id.parse() else {
            return Err(Failure::invalid(field, "must hold ids of posts"));
        };
        if posts.len() >= POSTS_NAMED_MAX {
            return Err(Failure::invalid(
                field,
                format!("must hold at most {POSTS_NAMED_MAX} ids"),
            ));
        }
        posts.push(post);
    }
    Ok(posts)
}

/// Recommends posts to the reader who is signed in.
///
/// Without those that were read, are muted or hidden, or are one's own. Nobody signed in gets what
/// anybody may like.
#[utoipa::path(
    get, path = "/v1/recommendations", operation_id = "list_recommendations", tag = "recommendations",
    params(ListParameters),
    responses(
        (status = 200, description = "Posts, best first.", body = Recommendations),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn list(
    State(app): State<App>,
    reader: ListReader,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let question = Question::Next([].into());
    answer(&app, reader, question, &uri, &headers, &["recommendations"]).await
}

/// Recommends posts to somebody who is not signed in.
///
/// By what was read, which the client keeps. It has no effect, so it needs no idempotency key.
#[utoipa::path(
    post, path = "/v1/session/recommendations", operation_id = "list_session_recommendations", tag = "recommendations",
    params(ListParameters), request_body = Session,
    responses(
        (status = 200, description = "Posts, best first.", body = Recommendations),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn session(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    Json(Session { reads }): Json<Session>,
) -> Answered {
    let reads = posts_named("reads", reads.iter().map(String::as_str))?;
    let question = Question::Next(reads.into());
    answer(&app, ListReader::nobody(), question, &uri, &headers, &["session"]).await
}

/// Lists posts like this one.
#[utoipa::path(
    get, path = "/v1/posts/{id}/related", operation_id = "list_related_posts", tag = "recommendations",
    params(("id" = String, Path, description = "Id or slug of the post."), ListParameters),
    responses(
        (status = 200, description = "Posts, nearest first.", body = Recommendations),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn related(
    State(app): State<App>,
    reader: ListReader,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let post = posts::named(&id)?;
    // What the viewer may not see is like nothing.
    posts::fetch_plain(&app, post, reader.viewer().cloned(), None).await?;
    let list = ["related", &post.to_string()];
    answer(&app, reader, Question::Related(post), &uri, &headers, &list).await
}

/// Lists what is much read at the moment.
#[utoipa::path(
    get, path = "/v1/trending", operation_id = "list_trending_posts", tag = "recommendations",
    params(TrendParameters, ListParameters),
    responses(
        (status = 200, description = "Posts, most read first.", body = Recommendations),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn trending(
    State(app): State<App>,
    reader: ListReader,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let query = Query::new(uri.query());
    let tag = query.get("tag")?.map(std::borrow::Cow::into_owned);
    let window = match query.get("window")? {
        Some(_) => Some(number(query, "window", 0, 0..=WINDOWS - 1)?),
        None => None,
    };
    let shown = window.map_or(String::new(), |window| window.to_string());
    let list = ["trending", tag.as_deref().unwrap_or(""), &shown];
    // What no post can have is not looked up, and is no trend of everything.
    if tag.as_deref().is_some_and(|tag| !fields::may_be_tag(tag)) {
        Parameters::of(query, &list)?;
        let method = Way::Trend;
        let none =
            Recommendations { data: Vec::new(), method, next_cursor: None, prev_cursor: None };
        return Ok(private_json(StatusCode::OK, &none));
    }
    let question = Question::Trending { tag: tag.clone(), window };
    answer(&app, reader, question, &uri, &headers, &list).await
}

/// Lists the newest posts of the authors and tags that one follows, and nothing else.
#[utoipa::path(
    get, path = "/v1/following", operation_id = "list_following", tag = "recommendations",
    params(ListParameters),
    responses(
        (status = 200, description = "Posts, newest first.", body = Recommendations),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn following(
    State(app): State<App>,
    SignedIn(_): SignedIn,
    reader: ListReader,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    answer(&app, reader, Question::Following, &uri, &headers, &["following"]).await
}

async fn answer(
    app: &App,
    reader: ListReader,
    question: Question,
    uri: &Uri,
    headers: &HeaderMap,
    list: &[&str],
) -> Answered {
    let parameters = Parameters::of(Query::new(uri.query()), list)?;
    let Parameters { limit, seen, exclude, surface, explain } = parameters;
    let exclude = seen.posts().iter().chain(&exclude).copied().collect();
    let request = RequestId::of(headers).as_str().to_owned();
    let viewer = reader.viewer().cloned();
    let asked = Asked { question, reader, limit, exclude, explain, surface, request };
    let List { posts, method, weights_version: _ } = fetch(app, asked).await?;
    let authors = posts.iter().map(|found| found.view.summary.author).collect();
    let authors = Cards::fetch(app, authors).await?;
    let ids: Vec<PostId> = posts.iter().map(|found| found.view.summary.id).collect();
    let next_cursor = seen.cursor_after(&ids);
    let link = next_cursor.as_deref().and_then(|cursor| link(uri, cursor));
    let data = posts.iter().map(|found| {
        let author = authors.get(found.view.summary.author);
        let post = PostCard::new(&found.view, author, viewer.as_deref());
        RecommendedPost { post, explanation: explain.then(|| explanation(found)) }
    });
    let mut body = scratch::buffer(POST_BYTES * posts.len());
    put_page(&mut body, data, method.into(), next_cursor.as_deref());
    let mut response = render::json(scratch::into_bytes(body));
    mark_private(&mut response);
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// Writes what [`Recommendations`] documents.
fn put_page<'a>(
    out: &mut Vec<u8>,
    data: impl Iterator<Item = RecommendedPost<'a>>,
    method: Way,
    next_cursor: Option<&str>,
) {
    out.extend_from_slice(br#"{"data":["#);
    for (place, RecommendedPost { post, explanation }) in data.enumerate() {
        out.extend_from_slice(if place > 0 { br#",{"post":"# } else { br#"{"post":"# });
        post.put(out);
        if let Some(explanation) = explanation {
            out.extend_from_slice(br#","explanation":"#);
            put_value(out, &explanation);
        }
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"method":"#);
    put_value(out, &method);
    out.extend_from_slice(br#","next_cursor":"#);
    put_value(out, &next_cursor);
    out.extend_from_slice(br#","prev_cursor":null}"#);
}

fn explanation(found: &Recommended) -> Explanation {
    let Recommended { view: _, reason, source, score, propensity } = found;
    Explanation {
        reason: reason.clone().map(Why::from),
        source: (*source).into(),
        score: *score,
        propensity: *propensity,
    }
}

/// Leads to the same list at another cursor.
fn link(uri: &Uri, cursor: &str) -> Option<HeaderValue> {
    let query = uri.query().unwrap_or_default();
    let pairs = query.split('&');
    let kept = pairs.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor"));
    let mut link = String::with_capacity(uri.path().len() + query.len() + cursor.len() + 32);
    link.extend(["<", uri.path(), "?"]);
    for pair in kept {
        link.push_str(pair);
        link.push('&');
    }
    link.extend(["cursor=", cursor, ">; rel=\"next\""]);
    HeaderValue::try_from(link).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::actors::post::message::PostView;
    use crate::http::v1::cards::tests::summary;

    #[test]
    fn a_page_is_written_as_it_is_documented() {
        let summary = Arc::new(summary("\"Why\""));
        let found = Recommended {
            view: PostView { summary, favorites: 1, favorited: true },
            reason: Some(Reason::BecauseRead(PostId(3))),
            source: Source::Together,
            score: 0.5,
            propensity: 1.0,
        };
        for (count, explain, next) in [(0, false, None), (1, true, Some("1ab")), (3, false, None)] {
            let post = |_| RecommendedPost {
                post: PostCard::new(&found.view, None, None),
                explanation: explain.then(|| explanation(&found)),
            };
            let mut out = Vec::new();
            put_page(&mut out, (0..count).map(post), Way::Ranker, next);
            let documented = Recommendations {
                data: (0..count).map(post).collect(),
                method: Way::Ranker,
                next_cursor: next.map(str::to_owned),
                prev_cursor: None,
            };
            let written = String::from_utf8(out).unwrap();
            assert_eq!(written, serde_json::to_string(&documented).unwrap());
        }
    }
}
