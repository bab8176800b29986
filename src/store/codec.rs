//! The only file that names bincode.
//!
//! Every record that is stored or sent starts with two bytes: the kind of record and the version
//! of its schema. bincode itself cannot evolve a schema (an appended field breaks old bytes), so
//! a changed record gets a new version and a `From` of the old one.
//!
//! **Invariants**: C1 decoding never panics and never allocates beyond `DECODE_BYTES_MAX`;
//! C2 all bytes are consumed, or decoding fails.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Upper limit of one decoded record. The largest legal record is a batch of commands
/// ([`crate::config::BATCH_BYTES_MAX`]); without a limit, 14 bytes of input can ask for 2^45.
pub const DECODE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A record that is stored or sent: its kind and the version that this program writes.
pub trait Record: Serialize + DeserializeOwned {
    /// Distinguishes records that could otherwise be taken for one another.
    const KIND: u8;
    /// Schema version written by this program.
    const VERSION: u8 = 1;

    /// Decodes the payload of an older version. Overridden by records that have one.
    ///
    /// # Errors
    /// [`CodecError::Version`] when `version` is unknown to this program.
    fn decode_version(version: u8, payload: &[u8]) -> Result<Self, CodecError> {
        if version != Self::VERSION {
            return Err(CodecError::Version { kind: Self::KIND, found: version });
        }
        decode_payload(payload)
    }
}

/// Why bytes are not the record that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The first byte names another kind of record.
    #[error("record of kind {expected} expected")]
    Kind {
        /// The kind that was asked for.
        expected: u8,
    },
    /// The record was written by a newer program.
    #[error("record of kind {kind} has version {found}, which this program does not know")]
    Version {
        /// Kind of the record.
        kind: u8,
        /// The version found.
        found: u8,
    },
    /// The payload is not what the version promises.
    #[error("malformed record: {0}")]
    Malformed(String),
}

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODE_BYTES_MAX>()
}

/// Encodes a record with its two-byte header.
pub fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    encode_into(record, &mut bytes);
    bytes
}

/// Appends what [`encode`] returns.
pub fn encode_into<R: Record>(record: &R, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&[R::KIND, R::VERSION]);
    bincode::serde::encode_into_std_write(record, bytes, configuration())
        .expect("records hold no type that bincode refuses, and a Vec accepts every write");
}

/// Decodes a record written by [`encode`].
///
/// # Errors
/// When kind, version or payload are not those of `R`, or bytes are left over.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, CodecError> {
    let (version, payload) = split_header::<R>(bytes)?;
    R::decode_version(version, payload)
}

/// Decodes a record `R` of the version that this program writes into a view `V` of it, which may borrow from
/// `bytes`: what is encoded alike, with slices where the record has bytes of its own.
///
/// # Errors
/// As [`decode`], and when it is of another version.
pub fn decode_view<'a, R: Record, V: Deserialize<'a>>(bytes: &'a [u8]) -> Result<V, CodecError> {
    match split_header::<R>(bytes)? {
        (version, payload) if version == R::VERSION => decode_payload(payload),
        (found, _) => Err(CodecError::Version { kind: R::KIND, found }),
    }
}

/// The version of a record, and its payload.
fn split_header<R: Record>(bytes: &[u8]) -> Result<(u8, &[u8]), CodecError> {
    match bytes {
        [kind, version, payload @ ..] if *kind == R::KIND => Ok((*version, payload)),
        [_, _, ..] => Err(CodecError::Kind { expected: R::KIND }),
        _ => Err(CodecError::Malformed("shorter than its header".into())),
    }
}

/// Decodes a payload (without header) and checks that all bytes were consumed.
///
/// # Errors
/// [`CodecError::Malformed`] when they are not.
pub fn decode_payload<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, CodecError> {
    let (value, read) = bincode::serde::borrow_decode_from_slice(payload, configuration())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if read != payload.len() {
        return Err(CodecError::Malformed(format!("{} bytes left over", payload.len() - read)));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u64,
        text: String,
        list: Vec<(u32, Option<String>)>,
    }
    impl Record for Sample {
        const KIND: u8 = 250;
    }

    fn sample() -> Sample {
        Sample { number: 300, text: "é".into(), list: vec![(1, None), (2, Some("x".into()))] }
    }

    #[test]
    fn golden_bytes_stay() {
        let golden = [250, 1, 251, 44, 1, 2, 195, 169, 2, 1, 0, 2, 1, 1, 120];
        assert_eq!(encode(&sample()), golden);
        assert_eq!(decode::<Sample>(&golden).unwrap(), sample());
    }

    #[test]
    fn header_and_length_are_checked() {
        let mut bytes = encode(&sample());
        bytes.push(0);
        assert!(matches!(decode::<Sample>(&bytes), Err(CodecError::Malformed(_))));
        bytes.pop();
        bytes[1] = 9;
        assert_eq!(decode::<Sample>(&bytes), Err(CodecError::Version { kind: 250, found: 9 }));
        bytes[0] = 1;
        assert_eq!(decode::<Sample>(&bytes), Err(CodecError::Kind { expected: 250 }));
        assert!(decode::<Sample>(&[]).is_err());
    }

    #[test]
    fn a_length_that_lies_is_refused_before_it_is_allocated() {
        let bytes = [250, 1, 0, 253, 0, 0, 0, 0, 0, 32, 0, 0];
        assert!(matches!(decode::<Sample>(&bytes), Err(CodecError::Malformed(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode::<Sample>(&bytes);
        }

        #[test]
        fn arbitrary_payloads_never_panic(payload: Vec<u8>) {
            let _ = decode_payload::<Sample>(&payload);
            let _ = decode_payload::<Vec<Vec<String>>>(&payload);
        }

        #[test]
        fn what_goes_in_comes_out(number: u64, text: String) {
            let sample = Sample { number, text, list: vec![] };
            prop_assert_eq!(decode::<Sample>(&encode(&sample)).unwrap(), sample);
        }
    }
}
