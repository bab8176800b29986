//! The query part of an address: `key=value` pairs, decoded. It never fails as a whole: what one
//! parameter means, and whether it is valid, is said by whoever asks for it, with its name.

use std::borrow::Cow;

use crate::http::error::{Answered, Failure};

/// The parameters of a request.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The parameters of this raw query; none is an empty one.
    pub fn new(raw: Option<&'a str>) -> Self {
        Self(raw.unwrap_or_default())
    }

    /// The first parameter of this name; an empty value is none, for front ends send those.
    ///
    /// # Errors
    /// 422 when it is not UTF-8.
    pub fn get(&self, name: &'static str) -> Answered<Option<Cow<'a, str>>> {
        for pair in self.0.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key != name {
                continue;
            }
            let Some(value) = decode(value) else {
                return Err(Failure::invalid(name, "is not valid UTF-8"));
            };
            return Ok((!value.is_empty()).then_some(value));
        }
        Ok(None)
    }
}

/// Undoes percent and plus; a percent that begins nothing stands for itself.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None if *first == b'+' => bytes.push(b' '),
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// The value of a hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(raw: &str, name: &'static str) -> Option<String> {
        Query::new(Some(raw)).get(name).unwrap().map(Cow::into_owned)
    }

    #[test]
    fn parameters_are_found_and_decoded() {
        assert_eq!(get("tag=a+b%21&x=1", "tag").as_deref(), Some("a b!"));
        assert_eq!(get("tag=%E2%82%AC", "tag").as_deref(), Some("€"));
        assert_eq!(get("tag=100%&tag=2", "tag").as_deref(), Some("100%"));
        assert_eq!(get("tag=%zz", "tag").as_deref(), Some("%zz"));
        assert_eq!(get("tag=", "tag"), None);
        assert_eq!(get("tagx=1", "tag"), None);
        assert!(Query::new(Some("tag=%FF")).get("tag").is_err());
        assert!(Query::new(None).get("tag").unwrap().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_query_is_read_without_panic(raw in "(\\PC|[%&=+a-f0-9]){0,40}") {
            let _ = Query::new(Some(&raw)).get("a");
            let _ = decode(&raw);
        }

        #[test]
        fn what_was_encoded_comes_back(text: String) {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(&encoded).unwrap(), text);
        }
    }
}
