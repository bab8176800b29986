//! What a text is about, in 128 bits: small enough to travel in an event in place of the text.

use serde::{Deserialize, Serialize};

/// A similarity hash of a text (SimHash; Charikar, STOC 2002): the share of equal bits of two
/// signatures grows with the number of words that their texts share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature(pub [u64; 2]);

/// Characters of a word that tell it apart: what follows is mostly inflection.
const STEM_CHARS: u64 = 7;
/// Shorter words are mostly grammar.
const WORD_CHARS_MIN: u64 = 4;
/// Words of a text that are looked at; a bound on the time for a long text.
const WORDS_MAX: usize = 400;

/// Letters and digits that count towards the weight of a word.
const WEIGHT_CHARS_MAX: u64 = 12;

impl Signature {
    /// The signature of a title and a text; a word in the title counts three times. Without any
    /// word it is the default, which is similar to nothing.
    pub fn of(title: &str, text: &str) -> Self {
        let mut words = Words::default();
        for (part, times) in [(title, 3), (text, 1)] {
            // The first way is faster, the second right for all.
            match part.is_ascii() {
                true => words.read_ascii(part.as_bytes(), times),
                false => words.read(part, times),
            }
        }
        words.votes.majority()
    }

    /// Whether there was a text.
    pub fn is_empty(&self) -> bool {
        self.0 == [0, 0]
    }

    /// From 0 (nothing in common, or no text) to 1 (the same words).
    pub fn similarity(&self, other: &Self) -> f32 {
        if self.is_empty() || other.is_empty() {
            return 0.0;
        }
        let differing =
            (self.0[0] ^ other.0[0]).count_ones() + (self.0[1] ^ other.0[1]).count_ones();
        (1.0 - differing as f32 / 64.0).max(0.0)
    }
}

/// The words of a text, as far as it was read.
#[derive(Default)]
struct Words {
    votes: Votes,
    /// How many have voted.
    count: usize,
}

impl Words {
    fn read(&mut self, part: &str, times: u64) {
        let mut word = Word::default();
        // Something that is no word ends the last one.
        for c in part.chars().chain([' ']) {
            if c.is_alphanumeric() {
                word.add(c);
                continue;
            }
            let Word { hash, chars } = std::mem::take(&mut word);
            if chars >= WORD_CHARS_MIN && !self.add(hash, chars, times) {
                return;
            }
        }
    }

    /// The same for ASCII: 64 characters at a time, of which a number says which belong to words.
    fn read_ascii(&mut self, part: &[u8], times: u64) {
        let (mut before, mut here) = (0, of_words(part, 0));
        for start in (0..part.len()).step_by(64) {
            let next = of_words(part, start + 64);
            let from_here = u128::from(next) << 64 | u128::from(here);
            let is_long = (1..WORD_CHARS_MIN).fold(here, |long, n| long & (from_here >> n) as u64);
            let mut words = is_long & !(here << 1 | before >> 63);
            while words != 0 {
                let first = words.trailing_zeros();
                words &= words - 1;
                let chars = u64::from((from_here >> first).trailing_ones());
                let hash = hash_ascii(&part[start + first as usize..], chars);
                if !self.add(hash, chars, times) {
                    return;
                }
            }
            (before, here) = (here, next);
        }
    }

    /// Adds a word that is long enough, with as many characters as count at least. Whether there was room.
    fn add(&mut self, hash: u64, chars: u64, times: u64) -> bool {
        if self.count == WORDS_MAX {
            return false;
        }
        self.count += 1;
        // Long words are rare in every language that has them.
        self.votes.add([mix(hash), mix(!hash)], times * chars.min(WEIGHT_CHARS_MAX));
        true
    }
}

/// A byte in all eight places of a number.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The first bytes of a text, zeros behind its end.
fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    text.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; N];
        padded[..text.len()].copy_from_slice(text);
        padded
    })
}

/// Which of the 64 characters of an ASCII text from a place on belong to words, the first in the lowest bit.
fn of_words(text: &[u8], start: usize) -> u64 {
    let block: [u8; 64] = padded(text.get(start..).unwrap_or_default());
    let (eights, _) = block.as_chunks();
    let mut mask = 0;
    for (number, bytes) in eights.iter().enumerate() {
        let bytes = u64::from_le_bytes(*bytes);
        // The highest bit of a byte below 128 plus (128 - n) says whether it is at least n.
        let digits = (bytes + eight(0x80 - b'0')) & !(bytes + eight(0x80 - b'9' - 1));
        let lower = bytes | eight(0x20);
        let letters = (lower + eight(0x80 - b'a')) & !(lower + eight(0x80 - b'z' - 1));
        let highest = (digits | letters) & eight(0x80);
        // Brings the eight bits together.
        mask |= ((highest >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * number);
    }
    mask
}

/// The hash of the word of at least [`WORD_CHARS_MIN`] characters with which an ASCII text begins: as [`Word`] has it.
fn hash_ascii(text: &[u8], chars: u64) -> u64 {
    // Makes letters lower case, and leaves digits.
    let bytes = (u64::from_le_bytes(padded(text)) | eight(0x20)).to_le_bytes();
    let step = |hash, place: usize| hash_step(hash, u32::from(bytes[place]));
    let four = step(step(step(step(HASH_START, 0), 1), 2), 3);
    let five = step(four, 4);
    let six = step(five, 5);
    // Without a branch, for nobody can foresee how long the next word is.
    [four, five, six, step(six, 6)]
        [(chars - WORD_CHARS_MIN).min(STEM_CHARS - WORD_CHARS_MIN) as usize]
}

/// Most weight of a word, three times in the title.
const WEIGHT_MAX: u64 = 3 * WEIGHT_CHARS_MAX;

/// Each bit of a byte as a byte of its own, the lowest first.
const SPREAD: [u64; 256] = {
    let mut spread = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            spread[byte] |= ((byte as u64 >> bit) & 1) << (8 * bit);
            bit += 1;
        }
        byte += 1;
    }
    spread
};

/// How much weight of words each bit has, eight bits at a time.
#[derive(Default)]
struct Votes {
    /// Of all words but those in `latest`.
    set: [[u32; 8]; 16],
    /// Of the latest ones, a byte for each bit.
    latest: [u64; 16],
    /// What a byte of `latest` may have come to.
    latest_max: u64,
    /// Weight of all words.
    all: u32,
}

impl Votes {
    fn add(&mut self, hash: [u64; 2], weight: u64) {
        if self.latest_max + WEIGHT_MAX > u64::from(u8::MAX) {
            self.carry();
        }
        for (half, latest) in hash.iter().zip(self.latest.as_chunks_mut::<8>().0) {
            for (latest, byte) in latest.iter_mut().zip(half.to_le_bytes()) {
                *latest += SPREAD[usize::from(byte)] * weight;
            }
        }
        self.latest_max += weight;
        self.all += weight as u32;
    }

    fn carry(&mut self) {
        for (set, latest) in self.set.iter_mut().zip(std::mem::take(&mut self.latest)) {
            for (set, latest) in set.iter_mut().zip(latest.to_le_bytes()) {
                *set += u32::from(latest);
            }
        }
        self.latest_max = 0;
    }

    /// The bits that more than half of the weight has.
    fn majority(mut self) -> Signature {
        self.carry();
        let mut bits = [0; 2];
        for (bit, set) in self.set.iter().flatten().enumerate() {
            bits[bit / 64] |= u64::from(2 * set > self.all) << (bit % 64);
        }
        Signature(bits)
    }
}

/// A word as far as it was read.
struct Word {
    /// Of its first characters, in lower case.
    hash: u64,
    chars: u64,
}

/// FNV-1a (Fowler, Noll, Vo), over characters.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

fn hash_step(hash: u64, c: u32) -> u64 {
    (hash ^ u64::from(c)).wrapping_mul(0x0000_0100_0000_01b3)
}

impl Default for Word {
    fn default() -> Self {
        Self { hash: HASH_START, chars: 0 }
    }
}

impl Word {
    fn add(&mut self, c: char) {
        self.chars += 1;
        if self.chars > STEM_CHARS {
            return;
        }
        let mut add = |c: char| self.hash = hash_step(self.hash, u32::from(c));
        // Many times as fast as the other way, which is right for all.
        match c.is_ascii() {
            true => add(c.to_ascii_lowercase()),
            false => c.to_lowercase().for_each(&mut add),
        }
    }
}

/// A good mixing of bits (the finish of SplitMix64; Steele et al., OOPSLA 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, bit by bit and word by word.
    fn by_definition(title: &str, text: &str) -> Signature {
        let all = [(title, 3), (text, 1)].into_iter().flat_map(|(part, weight)| {
            part.split(|c: char| !c.is_alphanumeric()).map(move |word| (word, weight))
        });
        let long = all.filter(|(word, _)| word.chars().count() >= 4).take(400);
        let mut balance = [0_i64; 128];
        for (word, weight) in long {
            let stem: String = word.chars().take(7).flat_map(char::to_lowercase).collect();
            let hash = stem.chars().fold(0xcbf2_9ce4_8422_2325_u64, |hash, c| {
                (hash ^ u64::from(u32::from(c))).wrapping_mul(0x0000_0100_0000_01b3)
            });
            let hash = u128::from(mix(!hash)) << 64 | u128::from(mix(hash));
            let weight = weight * word.chars().count().min(12) as i64;
            for (bit, balance) in balance.iter_mut().enumerate() {
                *balance += if hash >> bit & 1 == 1 { weight } else { -weight };
            }
        }
        let bits = balance.iter().enumerate();
        let bits = bits.fold(0_u128, |bits, (bit, sum)| bits | u128::from(*sum > 0) << bit);
        Signature([bits as u64, (bits >> 64) as u64])
    }

    #[test]
    fn signatures_are_what_they_are_by_definition() {
        let text = include_str!("signature.rs").repeat(3);
        for (title, text) in [
            ("", ""),
            ("Growing tomatoes", "Tomatoes need water, light and patience"),
            (
                "\u{130}stanbul'da STRASSE stra\u{df}e",
                "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{1e9e}\u{1e9e}\u{1e9e}\u{1e9e} 12345678",
            ),
            ("extraordinarily long words", &text),
            ("", &text[1_000..]),
            (&text, "more than enough words"),
            (&text, "\u{e9}t\u{e9}s more than enough"),
            ("ASCII before others", &format!("\u{e9} {text}")),
            (&format!("{text} \u{e9}"), "others before ASCII"),
            (&"words ".repeat(399), "which is nearly enough"),
            (&"words ".repeat(400), "which is just enough"),
            (&"word\u{e9}s ".repeat(399), "which is nearly enough"),
            (&"word\u{e9}s ".repeat(401), "which is more than enough"),
        ] {
            assert_eq!(Signature::of(title, text), by_definition(title, text), "{title}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn ascii_is_read_as_all_else(
            text in "([a-zA-Z0-9]{0,20}[ -~\\n]{1,3}){0,30}",
            cut: proptest::sample::Index,
        ) {
            let text = &text[cut.index(text.len() + 1)..];
            let slow = |title: &str, text: &str| {
                let mut words = Words::default();
                words.read(title, 3);
                words.read(text, 1);
                words.votes.majority()
            };
            prop_assert_eq!(Signature::of("", text), slow("", text));
            prop_assert_eq!(Signature::of(text, text), slow(text, text));
        }
    }

    #[test]
    fn texts_that_share_words_are_similar() {
        let one = Signature::of("Growing tomatoes", "Tomatoes need water, light and patience");
        let two =
            Signature::of("Watering tomatoes", "How much water tomatoes need in summer light");
        let other = Signature::of("Interest rates", "Central banks raised theirs again yesterday");
        assert!(one.similarity(&two) > one.similarity(&other) + 0.15);
        assert!((one.similarity(&one) - 1.0).abs() < f32::EPSILON);
        assert!(Signature::of("a", "!").is_empty());
        assert_eq!(Signature::default().similarity(&Signature::default()), 0.0);
        // Fixed for ever: signatures are kept and compared with those of other nodes.
        assert_eq!(Signature::of("Growing tomatoes", ""), Signature::of("GROWING, tomatoes", ""));
    }
}
