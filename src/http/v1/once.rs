//! Writes that a client may send again: `Idempotency-Key` on every POST.
//!
//! ```text
//! Sent<T>  the body, and the key if there is one        (extractor)
//!   └ begin(app, viewer) → Once                          409 while the same request is at work
//!       ├ command(router, command) → reply               at most once a day per user, path and key
//!       └ answer(response)                               `Idempotency-Replayed: true` on a repetition
//! ```
//! What is kept is the reply of the service, with the effect and in the same shard. So the answer of
//! a POST is made from the request and that reply alone, and a repetition gets the same bytes.

use std::sync::{Mutex, PoisonError};

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use rustc_hash::FxHashSet;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::actors::call::{CallError, IdempotencyKey};
use crate::actors::router::{Call, Router};
use crate::actors::state_machine::StateMachine;
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::error::{Answered, Failure, REPLAYED};
use crate::http::json;
use crate::ids::{Bucket, CommandId, UserId};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What the documentation says of the header.
pub const KEY: &str = "At most 255 characters. For 24 hours, the same request under the same key has \
                       no further effect and the same answer.";
/// Longest key.
const KEY_CHARS_MAX: usize = 255;

/// The body of a POST, and its key. No body at all is an object without members. The type of the
/// body denies unknown members (`#[serde(deny_unknown_fields)]`), and its members are
/// [`Field`](json::Field)s, so that all that is wrong can be told at once, each
/// `#[serde(default)]`.
pub struct Sent<T> {
    /// The body.
    pub body: T,
    /// The key that came with it, if any.
    pub key: Key,
}

/// A key as it was sent, or none.
pub struct Key(Option<SentKey>);

struct SentKey {
    /// Hash of path and key; the user comes to it later.
    named: Sha256,
    fingerprint: [u8; 16],
}

impl<T: DeserializeOwned> FromRequest<App> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Answered<Self> {
        let named = match key_of(request.headers())? {
            Some(key) => {
                let path = request.uri().path().as_bytes();
                let length = (path.len() as u64).to_be_bytes();
                Some(Sha256::new().chain_update(length).chain_update(path).chain_update(key))
            }
            None => None,
        };
        let bytes = match has_body(&request) {
            true => json::bytes(request, app).await?,
            false => "{}".into(),
        };
        let key =
            named.map(|named| SentKey { named, fingerprint: half(Sha256::digest(&bytes).into()) });
        Ok(Self { body: json::parse(&bytes)?, key: Key(key) })
    }
}

fn has_body(request: &Request) -> bool {
    let headers = request.headers();
    let length = headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != b"0")
}

fn key_of(headers: &HeaderMap) -> Answered<Option<&[u8]>> {
    let mut sent = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = sent.next().map(HeaderValue::as_bytes) else { return Ok(None) };
    let is_key = (1..=KEY_CHARS_MAX).contains(&key.len())
        && key.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    match is_key && sent.next().is_none() {
        true => Ok(Some(key)),
        false => Err(Failure::malformed_at(
            "idempotency-key",
            "must be one of 1 to 255 visible ASCII characters",
        )),
    }
}

fn half(hash: [u8; 32]) -> [u8; 16] {
    std::array::from_fn(|place| hash[place])
}

impl Key {
    /// Begins what the request does.
    ///
    /// # Errors
    /// 409 while another request with this key is at work.
    pub fn begin<'a>(self, app: &'a App, viewer: &Viewer) -> Answered<Once<'a>> {
        let Some(SentKey { named, fingerprint }) = self.0 else {
            return Ok(Once { app, key: None, replayed: false });
        };
        let UserId(owner) = viewer.id;
        let command = CommandId(half(named.chain_update(owner.to_be_bytes()).finalize().into()));
        if !app.shared().running.begin(command) {
            return Err(Failure::still_running());
        }
        let key = IdempotencyKey { owner, command, fingerprint, sending: app.seams.random.any() };
        Ok(Once { app, key: Some(key), replayed: false })
    }
}

/// A request at work, with or without a key.
pub struct Once<'a> {
    app: &'a App,
    key: Option<IdempotencyKey>,
    replayed: bool,
}

impl Once<'_> {
    /// A bucket for what the command makes: the same for every sending, so that each meets the shard
    /// that knows of the others.
    pub fn bucket(&self) -> Bucket {
        match &self.key {
            Some(key) => Bucket::of_key(&key.command.0),
            None => Bucket::new(self.app.seams.random.any()),
        }
    }

    /// Sends the command of this request: one, for a key names one effect.
    ///
    /// # Errors
    /// Those of the service, and 422 for a key that was used with another request.
    pub async fn command<S: StateMachine>(
        &mut self,
        router: &Router<S>,
        command: S::Command,
    ) -> Answered<S::Reply>
    where
        Failure: From<CallError<S::Refusal>>,
    {
        let Some(key) = self.key else { return Ok(router.command(Call::new(), command).await?) };
        let outcome = router.command_once(Call::new(), key, command).await;
        self.replayed = outcome.replayed;
        outcome.result.map_err(|error| Failure::from(error).replayed(outcome.replayed))
    }

    /// Marks the answer.
    pub fn answer(&self, mut response: Response) -> Response {
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

impl Drop for Once<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.app.shared().running.end(key.command);
        }
    }
}

/// Requests with a key that are at work on this node: those in flight, and those that go on for a
/// moment without their callers.
#[derive(Debug, Default)]
pub struct Running(Mutex<FxHashSet<CommandId>>);

impl Running {
    /// Whether no request with this key is at work; now one is.
    fn begin(&self, command: CommandId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(command)
    }

    fn end(&self, command: CommandId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_visible() {
        let of = |values: &[&[u8]]| {
            let values = values.iter().map(|value| HeaderValue::from_bytes(value).unwrap());
            let headers: HeaderMap = values.map(|value| (IDEMPOTENCY_KEY, value)).fold(
                HeaderMap::new(),
                |mut headers, (name, value)| {
                    headers.append(name, value);
                    headers
                },
            );
            key_of(&headers)
                .map(|key| key.map(<[u8]>::to_vec))
                .map_err(|wrong| wrong.status().as_u16())
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[b"a-1"]), Ok(Some(b"a-1".to_vec())));
        assert!(of(&[&[b'x'; 255]]).is_ok());
        for bad in [&[&[b'x'; 256][..]][..], &[b""], &[b"a\xff"], &[b"a", b"a"]] {
            assert_eq!(of(bad), Err(400), "{bad:?}");
        }
    }

    #[test]
    fn one_request_of_a_key_is_at_work() {
        let running = Running::default();
        let (one, other) = (CommandId([1; 16]), CommandId([2; 16]));
        assert!(running.begin(one) && running.begin(other) && !running.begin(one));
        running.end(one);
        assert!(running.begin(one));
    }
}
