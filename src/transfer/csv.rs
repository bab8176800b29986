//! One line of CSV (RFC 4180), without line ends inside of fields: the files that are read have
//! none, and a quote that is never closed must not swallow the rest of a file.

/// The fields of a line.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse_line(line: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("broken UTF-8 after {} bytes", error.valid_up_to()))?;
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => parse_quoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text after a closing quote".to_owned()),
        }
    }
}

/// The field up to its closing quote, and what follows that.
fn parse_quoted(mut rest: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    loop {
        let Some(end) = rest.find('"') else { return Err("a quote is not closed".to_owned()) };
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_split_and_unquoted() {
        for (line, fields) in [
            ("1,2,3", vec!["1", "2", "3"]),
            ("", vec![""]),
            (",", vec!["", ""]),
            (r#""a,b","c""d",e"#, vec!["a,b", "c\"d", "e"]),
            (r#"a"b"#, vec!["a\"b"]),
        ] {
            assert_eq!(parse_line(line.as_bytes()).unwrap(), fields, "{line}");
        }
        for bad in [&b"\"a"[..], b"\"a\"b,c", b"\xff"] {
            assert!(parse_line(bad).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = parse_line(&bytes);
        }

        #[test]
        fn what_is_quoted_comes_back(fields in prop::collection::vec("\\PC{0,8}", 1..5)) {
            let quoted: Vec<String> =
                fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            prop_assert_eq!(parse_line(quoted.join(",").as_bytes()).unwrap(), fields);
        }
    }
}
