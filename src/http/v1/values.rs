//! Values as every answer of `/v1` writes them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::actors::post::message::Visibility;
use crate::http::conduit::render;
use crate::http::fields::Checked;
use crate::http::scratch;
use crate::ids::{ID_CHARS, PostId, Stamp, UserId, id_text};

/// Room for most answers, so that a buffer grows once.
const BODY_BYTES: usize = 4096;

/// An id: 13 characters of lower-case Crockford base 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-hjkmnp-tv-z]{13}$", example = "0h8x2k9v3m1qz")]
pub struct Id(u64);

impl From<PostId> for Id {
    fn from(id: PostId) -> Self {
        Self(id.0)
    }
}

impl From<UserId> for Id {
    fn from(id: UserId) -> Self {
        Self(id.0)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(id_text(self.0, &mut [0; ID_CHARS]))
    }
}

/// A time: RFC 3339, UTC, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-02-18T03:22:56.637104Z")]
pub struct Time(pub Stamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = i64::try_from(self.0.0).unwrap_or(i64::MAX);
        let time = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX);
        serializer.collect_str(&format_args!("{time:.6}"))
    }
}

/// The secret part of the link of an unlisted post: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
pub struct LinkToken(pub [u8; 16]);

impl Serialize for LinkToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

/// Who may see a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Everybody, in every list.
    Public,
    /// Followers of the author, in their feed and by its address.
    Followers,
    /// Everybody who has the link with its token; in no list.
    Unlisted,
    /// The author, until its time comes.
    Scheduled,
    /// The author.
    Draft,
}

impl From<Visibility> for Audience {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Public => Self::Public,
            Visibility::Followers => Self::Followers,
            Visibility::Unlisted => Self::Unlisted,
            Visibility::Scheduled => Self::Scheduled,
            Visibility::Draft => Self::Draft,
        }
    }
}

impl From<Audience> for Visibility {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Public => Self::Public,
            Audience::Followers => Self::Followers,
            Audience::Unlisted => Self::Unlisted,
            Audience::Scheduled => Self::Scheduled,
            Audience::Draft => Self::Draft,
        }
    }
}

impl Audience {
    /// What a client calls it.
    ///
    /// # Errors
    /// What is wrong with any other text.
    pub fn of(sent: &str) -> Checked<Self> {
        match sent {
            "public" => Ok(Self::Public),
            "followers" => Ok(Self::Followers),
            "unlisted" => Ok(Self::Unlisted),
            "scheduled" => Ok(Self::Scheduled),
            "draft" => Ok(Self::Draft),
            _ => Err("is none that a post can have".into()),
        }
    }
}

/// An answer of JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut body = scratch::buffer(BODY_BYTES);
    serde_json::to_writer(&mut body, value).expect("answers have text keys and no failing parts");
    let mut response = render::json(scratch::into_bytes(body));
    *response.status_mut() = status;
    response
}

/// The same for what may differ by reader and moment: a cache must ask again.
pub fn private_json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = json(status, value);
    mark_private(&mut response);
    response
}

/// Lets no cache answer without asking again.
pub fn mark_private(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("authorization"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, to_value};

    #[test]
    fn values_look_the_same_everywhere() {
        assert_eq!(to_value(Id(0)).unwrap(), json!("0000000000000"));
        assert_eq!(
            to_value(Time(Stamp(1_455_765_776_637_104))).unwrap(),
            json!("2016-02-18T03:22:56.637104Z")
        );
        assert_eq!(to_value(Time(Stamp(0))).unwrap(), json!("1970-01-01T00:00:00.000000Z"));
        assert_eq!(to_value(LinkToken([1; 16])).unwrap(), json!("01".repeat(16)));
        assert_eq!(to_value(Audience::from(Visibility::Unlisted)).unwrap(), json!("unlisted"));
    }
}
