//! How long text becomes as JSON: what the edge renders of a cached row is kept beside it, and must
//! be weighed before it is there.

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
