//! What a text is about, in 128 bits: small enough to travel in an event in place of the text.

use serde::{Deserialize, Serialize};

/// A similarity hash of a text (SimHash; Charikar, STOC 2002): the share of equal bits of two
/// signatures grows with the number of words that their texts share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature(pub [u64; 2]);

/// Characters of a word that tell it apart: what follows is mostly inflection.
const STEM_CHARS: usize = 7;
/// Shorter words are mostly grammar.
const WORD_CHARS_MIN: usize = 4;
/// Words of a text that are looked at; a bound on the time for a long text.
const WORDS_MAX: usize = 400;

impl Signature {
    /// The signature of a title and a text; a word in the title counts three times. Without any
    /// word it is the default, which is similar to nothing.
    pub fn of(title: &str, text: &str) -> Self {
        let mut balance = [0_i32; 128];
        let mut words = 0;
        for (part, weight) in [(title, 3), (text, 1)] {
            for word in part.split(|c: char| !c.is_alphanumeric()) {
                let chars = word.chars().count();
                if chars < WORD_CHARS_MIN {
                    continue;
                }
                words += 1;
                if words > WORDS_MAX {
                    break;
                }
                // Long words are rare in every language that has them.
                let weight = weight * chars.min(12) as i32;
                let hash = hash_of(word);
                for (bit, balance) in balance.iter_mut().enumerate() {
                    let is_set = hash[bit / 64] >> (bit % 64) & 1 == 1;
                    *balance += if is_set { weight } else { -weight };
                }
            }
        }
        let mut bits = [0; 2];
        for (bit, balance) in balance.iter().enumerate() {
            bits[bit / 64] |= u64::from(*balance > 0) << (bit % 64);
        }
        Self(bits)
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

fn hash_of(word: &str) -> [u64; 2] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for c in word.chars().take(STEM_CHARS) {
        for c in c.to_lowercase() {
            hash = (hash ^ u64::from(u32::from(c))).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    [mix(hash), mix(!hash)]
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
    use super::*;

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
