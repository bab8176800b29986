//! The id of a request: for tracing only. It is echoed, and stands in log lines, spans and bodies
//! of problems; the id that makes a write happen once is another one, and is ours.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::seams::Random;

/// Where a request carries its id, and its response too.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from a client.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// The id of a request. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own id where it is one that may stand in a log line, else a made one.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(REQUEST_ID) {
            Some(id) if is_acceptable(id.as_bytes()) => Self(id.clone()),
            Some(_) | None => Self::make(),
        }
    }

    fn make() -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // For tracing only: nothing depends on it, in a simulation either.
        let random: u64 = Random::system().any();
        let mut text = [0_u8; 16];
        for (position, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[((random >> (60 - 4 * position)) & 15) as usize];
        }
        Self(HeaderValue::from_bytes(&text).expect("hexadecimal digits are visible ASCII"))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As a header of the response.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_acceptable(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    !id.is_empty() && id.len() <= REQUEST_ID_CHARS_MAX && id.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(sent: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_str(sent).unwrap());
        RequestId::of(&headers).as_str().to_owned()
    }

    #[test]
    fn a_plain_id_is_kept_and_anything_else_is_replaced() {
        assert_eq!(id_of("a.B-c_9"), "a.B-c_9");
        assert_eq!(id_of(&"x".repeat(64)), "x".repeat(64));
        for bad in ["", "a b", "<script>", &"x".repeat(65)] {
            let made = id_of(bad);
            assert_eq!(made.len(), 16, "{bad:?}");
            assert!(made.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        assert_eq!(RequestId::of(&HeaderMap::new()).as_str().len(), 16);
    }
}
