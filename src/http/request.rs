//! The id of a request: for tracing only. It is echoed, and stands in log lines, spans and bodies
//! of problems; the id that makes a write happen once is another one, and is ours.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::seams::Random;

/// Where a request carries its id, and its response too.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The trace that a request belongs to.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest id that is taken over from a client.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// The id of a request. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own id where it is one that may stand in a log line, else that of the trace it
    /// belongs to, else a made one.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(REQUEST_ID) {
            Some(id) if is_acceptable(id.as_bytes()) => Self(id.clone()),
            Some(_) | None => trace_id(headers).map_or_else(Self::make, Self),
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

/// The id of the trace that a W3C `traceparent` names.
fn trace_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let parent = headers.get(TRACEPARENT)?.as_bytes();
    let is_hex = |part: &[u8], length: usize| {
        part.len() == length
            && part.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
    };
    let mut parts = parent.split(|byte| *byte == b'-');
    let [version, trace, span, flags] =
        [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_known = is_hex(version, 2) && version != b"ff";
    // A later version may add parts, this one has none.
    let is_whole = version != b"00" || parts.next().is_none();
    let is_set = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    let is_valid = is_hex(trace, 32) && is_set(trace) && is_hex(span, 16) && is_set(span);
    if !(is_known && is_whole && is_valid && is_hex(flags, 2)) {
        return None;
    }
    HeaderValue::from_bytes(trace).ok()
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
    fn a_trace_names_its_requests() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let of = |parent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
            RequestId::of(&headers).as_str().to_owned()
        };
        assert_eq!(of(&format!("00-{trace}-{span}-01")), trace);
        assert_eq!(of(&format!("cc-{trace}-{span}-01-more")), trace);
        for bad in [
            "",
            "00",
            &format!("00-{trace}-{span}"),
            &format!("00-{trace}-{span}-01-more"),
            &format!("ff-{trace}-{span}-01"),
            &format!("00-{}-{span}-01", trace.to_uppercase()),
            &format!("00-{}-{span}-01", "0".repeat(32)),
            &format!("00-{trace}-{}-01", "0".repeat(16)),
            &format!("00-{trace}x-{span}-01"),
        ] {
            assert_eq!(of(bad).len(), 16, "{bad}");
        }
        let mut both = HeaderMap::new();
        both.insert(TRACEPARENT, HeaderValue::from_str(&format!("00-{trace}-{span}-01")).unwrap());
        both.insert(REQUEST_ID, HeaderValue::from_static("mine"));
        assert_eq!(RequestId::of(&both).as_str(), "mine");
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
