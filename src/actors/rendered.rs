//! What the edge renders of a cached row: kept beside it, so that it lives exactly as long, and weighed
//! before it is there, by how long text becomes as JSON. No service looks at it.

/// Text in parts.
#[derive(Debug)]
pub struct Rendered<const PARTS: usize> {
    text: Box<str>,
    ends: [u32; PARTS],
}

impl<const PARTS: usize> Rendered<PARTS> {
    /// The text of these parts, one after the other.
    pub fn new(parts: [&str; PARTS]) -> Self {
        let mut end = 0;
        let ends = parts.map(|part| {
            end += part.len() as u32;
            end
        });
        Self { text: parts.concat().into_boxed_str(), ends }
    }

    /// All of it.
    pub fn all(&self) -> &str {
        &self.text
    }

    /// One part.
    pub fn part(&self, number: usize) -> &str {
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[begin as usize..self.ends[number] as usize]
    }
}

/// Bytes of the text as a JSON string, without its quotes.
pub(super) fn escaped_bytes(text: &[u8]) -> usize {
    // Without branches, so that many bytes are counted at once.
    let controls: usize = text.iter().map(|byte| usize::from(*byte < 0x20)).sum();
    let quoted: usize = text.iter().map(|byte| usize::from(matches!(byte, b'"' | b'\\'))).sum();
    text.len() + 5 * controls + quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_where_they_were_put() {
        let rendered = Rendered::new(["a", "", "é!"]);
        assert_eq!(rendered.all(), "aé!");
        assert_eq!([0, 1, 2].map(|number| rendered.part(number)), ["a", "", "é!"]);
    }

    #[test]
    fn no_text_is_longer_than_weighed() {
        let every: String = (0..=0x10_u8).map(char::from).chain("a\"\\é\u{7f}".chars()).collect();
        for text in ["", "plain", "\u{1}\u{2}", "\"\"\\", &every] {
            let rendered = serde_json::to_string(text).unwrap().len() - 2;
            let weighed = escaped_bytes(text.as_bytes());
            assert!((rendered..=rendered + 4 * text.len()).contains(&weighed), "{text:?}");
        }
        assert_eq!(escaped_bytes(b"\x01\"a"), 6 + 2 + 1);
    }
}
