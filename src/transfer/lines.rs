//! Lines of a file, bounded: a line that is too long is passed over without holding it in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Longest line. The largest post with every character escaped is shorter.
pub const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What is read from a file at a time.
const READ_BYTES: usize = 128 * 1024;

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes without the line end; `None` when it is too long.
    pub bytes: Option<Vec<u8>>,
}

/// The lines of a file. Empty lines are passed over, but counted.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    number: u64,
    offset: u64,
}

impl Lines<BufReader<File>> {
    /// The lines of a file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(BufReader::with_capacity(READ_BYTES, File::open(path)?)))
    }
}

impl<R: BufRead> Lines<R> {
    /// The lines of a reader.
    pub fn new(reader: R) -> Self {
        Self { reader, number: 0, offset: 0 }
    }

    /// Where the next line begins: how much was read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line that is not empty.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let offset = self.offset;
            let Some(bytes) = self.read_one()? else { return Ok(None) };
            self.number += 1;
            let is_empty = bytes.as_ref().is_some_and(|bytes| bytes.trim_ascii().is_empty());
            if !is_empty {
                return Ok(Some(Line { number: self.number, offset, bytes }));
            }
        }
    }

    /// `None`: the end. `Some(None)`: a line that is too long.
    fn read_one(&mut self) -> io::Result<Option<Option<Vec<u8>>>> {
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
        self.offset += read as u64;
        if read == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > LINE_BYTES_MAX {
            self.skip_line()?;
            return Ok(Some(None));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(Some(line)))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.reader.consume(used);
            self.offset += used as u64;
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

/// SHA-256 and size of a file.
///
/// # Errors
/// When it cannot be read.
pub fn digest(path: &Path) -> io::Result<([u8; 32], u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hash.finalize().into(), size)),
            read => {
                hash.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines = Lines::new(BufReader::with_capacity(7, bytes));
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push((line.number, line.bytes));
        }
        assert_eq!(lines.offset(), bytes.len() as u64);
        found
    }

    #[test]
    fn lines_have_the_numbers_of_an_editor() {
        let text = b"a\n\n  \nb\r\nc";
        let line = |number, text: &str| (number, Some(text.as_bytes().to_vec()));
        assert_eq!(all(text), [line(1, "a"), line(4, "b"), line(5, "c")]);
        assert_eq!(all(b""), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        for extra in [0, 1, 100_000] {
            let mut text = vec![b'x'; LINE_BYTES_MAX + extra];
            text.extend_from_slice(b"\nnext\n");
            let found = all(&text);
            assert_eq!(found[0].1.is_some(), extra == 0, "{extra}");
            assert_eq!(found[1], (2, Some(b"next".to_vec())));
        }
        assert_eq!(all(&vec![b'x'; LINE_BYTES_MAX + 1]), [(1, None)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_bytes_are_split_like_text(bytes in prop::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..60,
        )) {
            let expected = bytes.split(|byte| *byte == b'\n').enumerate().filter_map(|(n, line)| {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                (!line.trim_ascii().is_empty()).then(|| (n as u64 + 1, Some(line.to_vec())))
            });
            prop_assert_eq!(all(&bytes), expected.collect::<Vec<_>>());
        }
    }
}
