//! Text as a JSON string, appended to a buffer.
//!
//! A body has several kilobytes and is escaped when it comes into memory. Byte by byte, as the JSON library
//! does it, that would cost as much as reading it. So many bytes are looked at together, and runs without
//! escapes are copied whole.

use bytes::Bytes;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// `head`, and behind it `text` as a JSON string, in memory of that size.
pub fn string_after(head: &[u8], text: &str) -> Bytes {
    // Prose has a line break in a few dozen characters, and seldom more to escape.
    let mut out = Vec::with_capacity(head.len() + text.len() + text.len() / 32 + 32);
    out.extend_from_slice(head);
    put_string(&mut out, text.as_bytes());
    // Where it grew further, half of it may be empty, and an allocator that shrinks it in place keeps that.
    match out.capacity() > out.len() + out.len() / 8 + 64 {
        true => Bytes::copy_from_slice(&out),
        false => out.into(),
    }
}

/// Appends `text`, which is UTF-8, as a JSON string, quotes included.
pub fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, escaped) = rest.split_at(plain_bytes(rest));
        out.extend_from_slice(plain);
        let Some((byte, behind)) = escaped.split_first() else { break };
        put_escape(out, *byte);
        rest = behind;
    }
    out.push(b'"');
}

/// Bytes of which is asked at once whether all stand for themselves: whole vector registers, which the
/// compiler uses where nothing ends the loop early.
const LOOKED_AT: usize = 32;

fn is_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// How many of the first bytes stand for themselves.
fn plain_bytes(text: &[u8]) -> usize {
    let (groups, _) = text.as_chunks::<LOOKED_AT>();
    let is_plain = |group: &&[u8; LOOKED_AT]| {
        !group.iter().fold(false, |found, byte| found | is_escaped(*byte))
    };
    let plain = LOOKED_AT * groups.iter().take_while(is_plain).count();
    plain + plain_words(&text[plain..])
}

/// The same, by words of eight bytes: the highest bit of each byte of `found` says whether that byte is to
/// be escaped. A borrow can mark a byte wrongly, but only behind one that is marked rightly, and the first
/// mark is what counts ("Bit Twiddling Hacks", haszero and hasless).
fn plain_words(text: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let marked = |eight: u64, below: u8| eight.wrapping_sub(EACH * u64::from(below)) & !eight;
    let (groups, _) = text.as_chunks::<8>();
    for (number, group) in groups.iter().enumerate() {
        let eight = u64::from_le_bytes(*group);
        let quotes = marked(eight ^ (EACH * u64::from(b'"')), 1);
        let backslashes = marked(eight ^ (EACH * u64::from(b'\\')), 1);
        let found = (marked(eight, 0x20) | quotes | backslashes) & (EACH << 7);
        if found != 0 {
            return 8 * number + (found.trailing_zeros() / 8) as usize;
        }
    }
    let rest = &text[8 * groups.len()..];
    let first = rest.iter().position(|byte| is_escaped(*byte));
    8 * groups.len() + first.unwrap_or(rest.len())
}

fn put_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        put_string(&mut out, text.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_byte_is_escaped_as_the_library_does() {
        let every: String = (0..=0x2ff_u32).filter_map(char::from_u32).collect();
        for text in ["", "\"", &every, &every.repeat(3), &"x".repeat(64), "\u{10ffff}"] {
            assert_eq!(escaped(text), serde_json::to_string(text).unwrap());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_text_is_escaped_as_the_library_does(text in "([ -~]{0,40}|\\PC{0,9}|\\s|\"|\\\\){0,9}") {
            prop_assert_eq!(escaped(&text), serde_json::to_string(&text).unwrap());
        }
    }
}
