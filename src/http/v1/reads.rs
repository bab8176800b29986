//! Reads that a client reports of the signed-in reader.
//!
//! A read is told apart by post and time, so that a batch may be sent again. What the reader may not
//! see is refused in the same words whether it is hidden, deleted, or never was: the list says what
//! `GET` of the post would. A post that opens only by its link is not recorded.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use futures_util::future::try_join_all;
use rustc_hash::FxHashSet;
use serde::de::SeqAccess;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::post::message::{Answer as PostAnswer, Query as PostQuery};
use crate::actors::router::Call;
use crate::actors::user::message::{Command, Depth, READS_MAX, Read, Reply, Viewer};
use crate::http::App;
use crate::http::error::{Answered, Failure, PROBLEM, Problem};
use crate::http::extract::{SignedIn, wrong_answer};
use crate::http::json::{Field, Object, Shape};
use crate::http::v1::once::{KEY, Sent};
use crate::http::v1::values::{Time, private_json};
use crate::http::{fields, slug};
use crate::ids::{PostId, Stamp};

/// Posts asked of a shard at a time: others wait while it answers.
const POSTS_ASKED_MAX: usize = 250;
/// Members of reads that are named when they are wrong; the rest is looked at once those are right.
const WRONG_TOLD_MAX: usize = 20;
/// Reads that count as one request. What follows each of them is as much work as another request.
const READS_PER_REQUEST: usize = 100;

/// Reads of the signed-in reader.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reads {
    /// In any order. A read of the same post and time counts once, however often it is sent.
    #[serde(default)]
    #[schema(value_type = Vec<SentRead>, required, max_items = 1000)]
    reads: Field<Items>,
}

/// A read.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SentRead {
    /// Id or slug of the post.
    #[serde(default)]
    #[schema(value_type = String, required)]
    post: Field<Name>,
    /// When it was read; at most 10 seconds ahead.
    #[serde(default)]
    #[schema(value_type = Time, required)]
    at: Field<Moment>,
    /// How much of it, in per cent.
    #[serde(default)]
    #[schema(value_type = u8, maximum = 100)]
    depth: Field<Depth>,
}

/// What became of a batch of reads.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recorded {
    /// How many are recorded, those included that were so before.
    recorded: usize,
    /// The others.
    refused: Vec<Refused>,
}

/// A read that is not recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refused {
    /// Its place in the list that was sent, from 0.
    index: u16,
    /// Why.
    code: Reason,
}

/// Why a read is not recorded.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is no such post that the reader may see.
    NotFound,
    /// Its time lies ahead.
    InTheFuture,
}

/// Records reads.
///
/// Sent again, a batch changes nothing. The history keeps the newest 10,000 reads. A batch counts as
/// one request for every 100 reads.
#[utoipa::path(
    post, path = "/v1/reads", operation_id = "record_reads", tag = "reader", request_body = Reads,
    params(("idempotency-key" = Option<String>, Header, description = KEY)),
    responses(
        (status = 200, description = "What became of them.", body = Recorded),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn record(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Sent { body, key }: Sent<Reads>,
) -> Answered {
    let sent = check(body.reads)?;
    let further = sent.len().saturating_sub(1) / READS_PER_REQUEST;
    app.shared().rate_limit.charge(viewer.id, further as u32);
    let mut once = key.begin(&app, &viewer)?;
    let seen = seen(&app, &viewer, sent.iter().filter_map(|told| told.post)).await?;
    let read = |told: &Told| {
        let post = told.post.filter(|post| seen.contains(post))?;
        Some(Read { post, at: told.at, depth: told.depth })
    };
    let command = Command::RecordReads { user: viewer.id, reads: sent.iter().map(read).collect() };
    let reply = once.command(&app.users, command).await?;
    Ok(once.answer(private_json(StatusCode::OK, &answer(sent.len(), reply)?)))
}

fn answer(sent: usize, reply: Reply) -> Answered<Recorded> {
    let Reply::Recorded { new: _, unseen, ahead } = reply else { return Err(wrong_answer()) };
    let refused = |code| move |index| Refused { index, code };
    let mut refused: Vec<Refused> = unseen
        .into_iter()
        .map(refused(Reason::NotFound))
        .chain(ahead.into_iter().map(refused(Reason::InTheFuture)))
        .collect();
    refused.sort_unstable_by_key(|refused| refused.index);
    Ok(Recorded { recorded: sent - refused.len(), refused })
}

/// Which of the posts the viewer may see, asked of their shards in parallel.
async fn seen(
    app: &App,
    viewer: &Arc<Viewer>,
    posts: impl Iterator<Item = PostId>,
) -> Answered<FxHashSet<PostId>> {
    let mut shards: Vec<Vec<PostId>> = vec![Vec::new(); usize::from(app.posts.shards())];
    let mut asked = FxHashSet::default();
    for post in posts.filter(|post| asked.insert(*post)) {
        shards[usize::from(app.posts.shard_of(post.bucket()))].push(post);
    }
    let calls = shards.iter().enumerate().flat_map(|(shard, posts)| {
        posts.chunks(POSTS_ASKED_MAX).map(move |posts| (shard as u16, posts.to_vec()))
    });
    let answers = try_join_all(calls.map(|(shard, posts)| async move {
        let query = PostQuery::GetPosts { posts, viewer: Some(viewer.clone()), favorited: false };
        match app.posts.query_shard(Call::new(), shard, query).await? {
            PostAnswer::Posts(posts) => Ok(posts),
            _ => Err(wrong_answer()),
        }
    }));
    Ok(answers.await?.into_iter().flatten().map(|view| view.summary.id).collect())
}

/// A read as it was sent.
struct Told {
    /// None for a name that no post has.
    post: Option<PostId>,
    at: Stamp,
    depth: Option<Depth>,
}

fn check(sent: Field<Items>) -> Answered<Vec<Told>> {
    let items = match sent {
        Field::Value(Items(items)) => items,
        Field::Absent | Field::Null => return Err(Failure::invalid("reads", "is missing")),
        Field::Wrong => return Err(Failure::invalid("reads", "must be a list of objects")),
    };
    if items.len() > READS_MAX {
        let wrong = format!("has too many items (maximum is {READS_MAX})");
        return Err(Failure::invalid("reads", wrong));
    }
    let mut reads = Vec::with_capacity(items.len());
    let mut wrong: Vec<(Cow<'static, str>, Cow<'static, str>)> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let Field::Value(Object(SentRead { post, at, depth })) = item else {
            wrong.push((format!("reads/{index}").into(), "must be an object".into()));
            continue;
        };
        let mut note = |member: &str, told: &'static str| {
            wrong.push((format!("reads/{index}/{member}").into(), told.into()));
        };
        let post = match post {
            Field::Value(Name(post)) => post,
            Field::Absent | Field::Null => {
                note("post", "is missing");
                None
            }
            Field::Wrong => {
                note("post", "must be a string");
                None
            }
        };
        let at = match at {
            Field::Value(Moment(at)) => at,
            Field::Absent | Field::Null => {
                note("at", "is missing");
                Stamp(0)
            }
            Field::Wrong => {
                note("at", "must be a time as in RFC 3339");
                Stamp(0)
            }
        };
        let depth = match depth {
            Field::Value(depth) => Some(depth),
            Field::Absent | Field::Null => None,
            Field::Wrong => {
                note("depth", "must be a whole number from 0 to 100");
                None
            }
        };
        reads.push(Told { post, at, depth });
        if wrong.len() >= WRONG_TOLD_MAX {
            break;
        }
    }
    if wrong.is_empty() { Ok(reads) } else { Err(Failure::invalid_fields(wrong)) }
}

/// The items of a list: one more than there may be is enough to refuse it.
#[derive(Debug, Default)]
struct Items(Vec<Field<Object<SentRead>>>);

impl Shape for Items {
    fn of_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut items = Vec::with_capacity(list.size_hint().unwrap_or_default().min(READS_MAX));
        while items.len() <= READS_MAX
            && let Some(item) = list.next_element()?
        {
            items.push(item);
        }
        while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(Some(Self(items)))
    }
}

/// The post that an id or slug names; none for what is neither.
#[derive(Debug)]
struct Name(Option<PostId>);

impl Shape for Name {
    fn of_text(text: &str) -> Option<Self> {
        Some(Self(slug::post_of(text)))
    }
}

#[derive(Debug)]
struct Moment(Stamp);

impl Shape for Moment {
    fn of_text(text: &str) -> Option<Self> {
        fields::time(text.to_owned()).ok().map(Self)
    }
}

impl Shape for Depth {
    fn of_number(number: u64) -> Option<Self> {
        Self::new(u8::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json::parse;
    use proptest::prelude::*;

    fn read(text: &str) -> Answered<usize> {
        check(parse::<Reads>(text.as_bytes())?.reads).map(|reads| reads.len())
    }

    #[test]
    fn more_than_a_batch_is_refused_and_so_is_a_list_that_goes_on() {
        let item = r#"{"post":"0000000000001","at":"2026-01-01T00:00:00Z"}"#;
        let of = |count: usize| format!(r#"{{"reads":[{}]}}"#, vec![item; count].join(","));
        assert_eq!(read(&of(0)).unwrap(), 0);
        assert_eq!(read(&of(READS_MAX)).unwrap(), READS_MAX);
        for count in [READS_MAX + 1, READS_MAX + 500] {
            assert_eq!(read(&of(count)).unwrap_err().status(), StatusCode::UNPROCESSABLE_ENTITY);
        }
    }

    #[test]
    fn the_answer_names_each_read_that_is_refused() {
        let reply = Reply::Recorded { new: 1, unseen: vec![0, 4], ahead: vec![2] };
        let told = serde_json::to_value(answer(5, reply).unwrap()).unwrap();
        let refused = serde_json::json!([
            { "index": 0, "code": "not_found" },
            { "index": 2, "code": "in_the_future" },
            { "index": 4, "code": "not_found" },
        ]);
        assert_eq!(told, serde_json::json!({ "recorded": 2, "refused": refused }));
        assert!(answer(5, Reply::Done).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_body_is_read_without_panic(
            values in prop::collection::vec(
                "(null|true|-1|0|100|101|1.5|\"[0-9a-zT:-]{0,20}\"|\\[\\]|\\{\\})", 3),
            list in "\\{\"reads\":(\\[[0-9,\"{}]{0,20}|null|7|\"\")\\}?",
        ) {
            let [post, at, depth] = &values[..] else { unreachable!("three") };
            let item = format!(r#"{{"post":{post},"at":{at},"depth":{depth}}}"#);
            let _ = read(&format!(r#"{{"reads":[{item},{at}]}}"#));
            let _ = read(&list);
        }
    }
}
