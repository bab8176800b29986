//! JSON bodies: read with a limit in size and time, then taken apart without ever failing over a
//! value of the wrong type, so that every field that is wrong can be named at once.

use std::fmt;
use std::marker::PhantomData;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::ErrorCode;
use crate::http::App;
use crate::http::error::{Answered, Failure};
use crate::http::fields::TAGS_SENT_MAX;
use crate::http::limits::BODY_BYTES_MAX;
use crate::seams::time;

/// Items of a list that are kept: one more than any list may have.
const LIST_ITEMS_MAX: usize = TAGS_SENT_MAX + 1;
/// Characters that are repeated of the name of a member that is not known.
const MEMBER_CHARS_SHOWN: usize = 64;

/// A body of JSON.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Answered<Self> {
        parse(&bytes(request, app).await?).map(Self)
    }
}

/// The bytes of a body that says it is JSON.
///
/// # Errors
/// 415 for one that says something else; 413 and 408 for one too large or too slow.
pub async fn bytes(request: Request, app: &App) -> Answered<Bytes> {
    if !is_json(request.headers()) {
        return Err(Failure::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let reading = read(request.into_body());
    match time::timeout(app.limits.body_time, reading).await {
        Ok(bytes) => bytes,
        Err(_elapsed) => Err(Failure::of_status(StatusCode::REQUEST_TIMEOUT)),
    }
}

/// `application/json`, with or without parameters, or a `+json` type.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let Some(kind) = kind else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

async fn read(body: Body) -> Answered<Bytes> {
    // What is announced as too large is refused without reading it.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(Failure::field(ErrorCode::TooLarge, "body", "is larger than 1 MiB"));
    }
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Failure::field(ErrorCode::TooLarge, "body", "is larger than 1 MiB"))
        }
        Err(_broken) => Err(Failure::malformed("ended early")),
    }
}

/// Takes a body apart.
///
/// # Errors
/// 400 for what is not JSON, 422 for JSON that cannot be this type.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answered<T> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(Failure::malformed("is not valid UTF-8"));
    };
    // Not `T` itself: a list would pass for an object whose members stand in order.
    let body: Field<Object<T>> = serde_json::from_str(text).map_err(|error| {
        let message = format!("is not valid JSON: {error}");
        match error.classify() {
            serde_json::error::Category::Data => match unknown_member(&error.to_string()) {
                Some(member) => Failure::invalid(member, "is not known"),
                None => Failure::invalid("body", error.to_string()),
            },
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => Failure::malformed(message),
        }
    })?;
    body.unwrapped("body")
}

/// The member that a type which denies unknown ones did not know. The library tells its name only
/// within its message.
fn unknown_member(message: &str) -> Option<String> {
    let (name, _) = message.strip_prefix("unknown field `")?.split_once("`, ")?;
    Some(name.chars().take(MEMBER_CHARS_SHOWN).collect())
}

/// One member of an object: there or not, and of the right type or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field<T> {
    /// Not there.
    Absent,
    /// There, and `null`.
    Null,
    /// There, of another type.
    Wrong,
    /// There.
    Value(T),
}

/// By hand, because the derived one would ask the same of `T`.
impl<T> Default for Field<T> {
    fn default() -> Self {
        Self::Absent
    }
}

/// What JSON a type is made from. Each kind that is not overridden is the wrong one.
pub trait Shape: Sized {
    /// From a string.
    fn of_text(_text: &str) -> Option<Self> {
        None
    }

    /// From a whole number that is not negative.
    fn of_number(_number: u64) -> Option<Self> {
        None
    }

    /// From an object.
    ///
    /// # Errors
    /// Those of the bytes, and duplicate members.
    fn of_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// From a list.
    ///
    /// # Errors
    /// Those of the bytes.
    fn of_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl Shape for String {
    fn of_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Shape for Vec<Field<String>> {
    fn of_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut items = Self::new();
        while items.len() < LIST_ITEMS_MAX
            && let Some(item) = list.next_element()?
        {
            items.push(item);
        }
        // The rest is only passed over; one item too many is enough to refuse the list.
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(items))
    }
}

/// An object with its own members.
#[derive(Debug, Default)]
pub struct Object<T>(pub T);

impl<T: DeserializeOwned> Shape for Object<T> {
    fn of_object<'de, A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|members| Some(Self(members)))
    }
}

impl<T> Field<Object<T>> {
    /// The members of the object that wraps everything.
    ///
    /// # Errors
    /// 422 with the name of the wrapper.
    pub fn unwrapped(self, name: &'static str) -> Answered<T> {
        match self {
            Self::Value(Object(members)) => Ok(members),
            Self::Absent | Self::Null => Err(Failure::invalid(name, "is missing")),
            Self::Wrong => Err(Failure::invalid(name, "must be an object")),
        }
    }
}

impl<'de, T: Shape> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Shape> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(T::of_text(text).map_or(Field::Wrong, Field::Value))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Field::Wrong)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Field::Wrong)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(T::of_number(number).map_or(Field::Wrong, Field::Value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Field::Wrong)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok(T::of_object(map)?.map_or(Field::Wrong, Field::Value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Ok(T::of_list(list)?.map_or(Field::Wrong, Field::Value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Members {
        title: Field<String>,
        tags: Field<Vec<Field<String>>>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Wrapper {
        article: Field<Object<Members>>,
    }

    fn members(text: &str) -> Members {
        parse::<Wrapper>(text.as_bytes()).unwrap().article.unwrapped("article").unwrap()
    }

    #[test]
    fn a_field_knows_whether_it_is_there() {
        let none = members(r#"{"article":{"other":[1,{"deep":null}]}}"#);
        assert_eq!((none.title, none.tags), (Field::Absent, Field::Absent));
        let null = members(r#"{"article":{"title":null,"tags":null}}"#);
        assert_eq!((null.title, null.tags), (Field::Null, Field::Null));
        for wrong in ["1", "-1", "1.5", "true", "{\"a\":[{}]}", "123456789012345678901234567890"] {
            let body = format!(r#"{{"article":{{"title":{wrong},"tags":{wrong}}}}}"#);
            let wrong = members(&body);
            assert_eq!((wrong.title, wrong.tags), (Field::Wrong, Field::Wrong));
        }
        let there = members(r#"{"article":{"tags":["a",1,"b"],"title":"t"}}"#);
        assert_eq!(there.title, Field::Value("t".to_owned()));
        let a_and_b = |text: &str| Field::Value(text.to_owned());
        assert_eq!(there.tags, Field::Value(vec![a_and_b("a"), Field::Wrong, a_and_b("b")]));
    }

    #[test]
    fn of_a_list_that_is_too_long_only_a_part_is_kept() {
        let list = vec!["1"; 100_000].join(",");
        let long = members(&format!(r#"{{"article":{{"tags":[{list}],"title":"t"}}}}"#));
        let Field::Value(tags) = long.tags else { panic!("a list") };
        assert_eq!(tags.len(), LIST_ITEMS_MAX);
        assert_eq!(long.title, Field::Value("t".to_owned()));
    }

    #[test]
    fn a_wrapper_is_an_object() {
        for (text, status) in [
            ("{}", 422),
            (r#"{"article":null}"#, 422),
            (r#"{"article":[]}"#, 422),
            (r#"{"article":{"title":"a","title":"b"}}"#, 422),
            ("1", 422),
            ("null", 422),
            (r#"[{"title":"a"}]"#, 422),
            ("{", 400),
            ("{} x", 400),
            ("", 400),
            (r#"{"article":{"title":"\ud800"}}"#, 400),
        ] {
            let parsed = parse::<Wrapper>(text.as_bytes());
            let failure = parsed.and_then(|body| body.article.unwrapped("article")).unwrap_err();
            assert_eq!(failure.status().as_u16(), status, "{text}");
        }
        assert_eq!(parse::<Wrapper>(b"\xff").unwrap_err().status().as_u16(), 400);
        let deep = "[".repeat(100_000);
        assert_eq!(parse::<Wrapper>(deep.as_bytes()).unwrap_err().status().as_u16(), 400);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse::<Wrapper>(&bytes);
        }

        #[test]
        fn any_near_json_is_parsed_without_panic(
            text in r#"\{"article":\{"title":("[^"]{0,5}"|[0-9eE.+-]{1,30}|null|\[\]),?"tags":.{0,8}\}{0,2}"#
        ) {
            let _ = parse::<Wrapper>(text.as_bytes());
        }
    }
}
