//! Lists that are part of the contract: a change of one must show up in review.

use std::path::Path;

/// Compares lines with a file in `tests/snapshots`.
#[track_caller]
pub fn assert_snapshot<'a>(name: &str, lines: impl Iterator<Item = &'a str>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    let found: String = lines.flat_map(|line| [line, "\n"]).collect();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &found).expect("the snapshots can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let missing: Vec<&str> = expected.lines().filter(|line| !has(&found, line)).collect();
    let new: Vec<&str> = found.lines().filter(|line| !has(&expected, line)).collect();
    assert!(
        expected == found,
        "tests/snapshots/{name} differs: missing now {missing:?}, new {new:?}.\n\
         If this change of the contract is meant, run the test with UPDATE_SNAPSHOTS=1, \
         commit the file, and say so in the change log."
    );
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|known| known == line)
}
