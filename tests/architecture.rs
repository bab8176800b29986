//! Rules that the compiler cannot see: who may know whom, and which library belongs where.
//!
//! `http → actors → store → (ids, error, config, memory, seams)`; `node`, `cli` and what stands beside them
//! may use everything, for they put the parts together. Only code counts: tests below the code are free.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and says where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file of the program, in lines without tests.
const LINES_MAX: usize = 500;
/// Files that are longer, with the length they must not pass: to be cut when next touched.
const LONG_FILES: &[(&str, usize)] = &[];

/// Layer, and what it must not name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("src/store/", &["actors", "http", "node", "cli", "telemetry", "transfer", "demo"]),
    ("src/actors/", &["http", "node", "cli", "transfer", "demo"]),
    ("src/http/", &["node", "cli", "transfer", "demo"]),
    ("src/seams/", &["actors", "store", "http", "node", "cli", "config", "telemetry", "transfer"]),
    ("src/ids.rs", &["actors", "store", "http", "node", "cli", "config", "telemetry"]),
    ("src/error.rs", &["actors", "store", "http", "node", "cli", "config", "telemetry"]),
    ("src/memory.rs", &["actors", "store", "http", "node", "cli", "config", "telemetry"]),
    ("src/config.rs", &["actors", "http", "node", "cli", "telemetry"]),
    ("src/telemetry.rs", &["actors", "store", "http", "node", "cli"]),
];

/// What one spot needs of another, each for a reason.
const ALLOWED: &[(&str, &str, &str)] =
    &[("src/http/operator.rs", "transfer", "imports into and exports from a running node")];

/// Library, and where alone it may be named.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("bincode", &["src/store/codec.rs"]),
    ("redb", &["src/store/"]),
    ("openraft", &["src/actors/replica/"]),
    ("axum", &["src/http/", "src/node/"]),
    ("hyper", &["src/http/", "src/cli/client.rs"]),
    ("ractor", &["src/actors/", "src/http/listener.rs"]),
    ("jsonwebtoken", &["src/http/"]),
    ("argon2", &["src/http/"]),
];

struct Source {
    /// Relative to the package, with `/`.
    path: String,
    /// Without tests and comments; line numbers are kept.
    lines: Vec<String>,
}

#[test]
fn layers_point_one_way() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (layer, forbidden) in FORBIDDEN.iter().filter(|(at, _)| source.path.starts_with(at)) {
            for (number, line) in source.lines.iter().enumerate() {
                for module in named_modules(line) {
                    let is_allowed = ALLOWED
                        .iter()
                        .any(|(path, used, _)| *path == source.path && *used == module);
                    if forbidden.contains(&module.as_str()) && !is_allowed {
                        let at = number + 1;
                        wrong.push(format!("{}:{at}: {layer} names `{module}`", source.path));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_service_sees_only_the_contract_of_another() {
    let services = ["post", "recommendation", "user"];
    let mut wrong = Vec::new();
    for source in sources() {
        for service in services {
            let inside = source.path.starts_with(&format!("src/actors/{service}/"));
            for (number, line) in source.lines.iter().enumerate().filter(|_| !inside) {
                for private in ["apply", "tables", "query", "cache", "visibility"] {
                    if line.contains(&format!("actors::{service}::{private}")) {
                        wrong.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_foreign_type_stays_in_one_folder() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (library, homes) in LIBRARIES {
            if homes.iter().any(|home| source.path.starts_with(home)) {
                continue;
            }
            for (number, line) in source.lines.iter().enumerate() {
                if names_path(line, library) {
                    wrong.push(format!(
                        "{}:{}: {library}: {}",
                        source.path,
                        number + 1,
                        line.trim()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_long() {
    let mut wrong = Vec::new();
    for source in sources() {
        let length = source.lines.len();
        let known = LONG_FILES.iter().find(|(path, _)| *path == source.path);
        let most = known.map_or(LINES_MAX, |(_, most)| *most);
        if length > most {
            wrong.push(format!("{} has {length} lines, more than {most}", source.path));
        }
        if known.is_some() && length <= LINES_MAX {
            wrong.push(format!("{} is short now: take it off the list", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_to_do() {
    let marks = ["todo!(", "unimplemented!(", "dbg!("];
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.lines.iter().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Otherwise tokio draws which of several ready branches is taken, and no run could be repeated.
#[test]
fn a_select_says_what_comes_first() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.lines.iter().enumerate() {
            let next = source.lines.get(number + 1).map_or("", |next| next.trim());
            if line.contains("select! {") && next != "biased;" {
                wrong.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The path of somebody's machine in a file of the repository helps nobody else.
#[test]
fn no_tracked_file_names_a_machine() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        println!("skipped: this is not a checkout");
        return;
    };
    let places: Vec<String> =
        ["home", "work", "root", "Users"].into_iter().map(|place| format!("/{place}/")).collect();
    let mut wrong = Vec::new();
    for name in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let begins = |at: usize| {
                line[..at]
                    .chars()
                    .next_back()
                    .is_none_or(|before| !before.is_alphanumeric() && !"/._-}>:)]".contains(before))
            };
            let found =
                |place: &String| line.match_indices(place.as_str()).any(|(at, _)| begins(at));
            if places.iter().any(found) {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rules_see_what_they_forbid() {
    assert_eq!(named_modules("use crate::http::App;"), ["http"]);
    assert_eq!(
        named_modules("    x(crate::store::codec::decode(y), crate::ids::A)"),
        ["store", "ids"]
    );
    assert_eq!(named_modules("use crate::{actors, http::{a, b}};"), ["actors", "http"]);
    assert!(named_modules("let crates = 1;").is_empty());
    assert!(names_path("use redb::Database;", "redb"));
    assert!(names_path("fn f(x: &redb::Database)", "redb"));
    assert!(!names_path("a \"file.redb\" and ractor_redb::x", "redb"));
    let code = without_tests("a\n#[cfg(test)]\nuse b;\nc\n#[cfg(test)]\nmod tests {\n  d\n}\n");
    assert_eq!(code, ["a", "", "", "c"]);
    assert!(sources().iter().any(|source| source.path == "src/lib.rs"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the program, without tests.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join("src"), &mut paths);
    paths.sort();
    let source = |path: &PathBuf| Source {
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/"),
        lines: without_tests(&fs::read_to_string(path).unwrap()),
    };
    paths.iter().filter(|path| !is_test(path)).map(source).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, paths),
            false if path.extension().is_some_and(|kind| kind == "rs") => paths.push(path),
            false => {}
        }
    }
}

/// A file, or a file in a folder, that its parent names only under `cfg(test)`.
fn is_test(path: &Path) -> bool {
    let relative = path.strip_prefix(root().join("src")).unwrap();
    let mut parent = root().join("src");
    for part in relative.components() {
        let name = part.as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if name != "mod" && named_for_tests(&parent, name) {
            return true;
        }
        parent.push(part);
    }
    false
}

/// Whether a module of this name in this folder is declared under `cfg(test)`.
fn named_for_tests(folder: &Path, name: &str) -> bool {
    let beside = folder.with_extension("rs");
    let mut declaring = vec![folder.join("mod.rs"), folder.join("lib.rs"), beside];
    // `#[path = "x_tests.rs"] mod tests;` stands in the file that is tested.
    if let Some(tested) = name.strip_suffix("_tests") {
        declaring.push(folder.join(format!("{tested}.rs")));
    }
    declaring.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.iter().enumerate().any(|(at, line)| {
            let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let is_named = line == format!("mod {name};");
            let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with('#'));
            let attributes: Vec<&&str> = attributes.collect();
            let is_path = attributes.iter().any(|line| line.contains(&format!("\"{name}.rs\"")));
            let for_tests = attributes
                .iter()
                .any(|line| line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test"));
            (is_named || is_path) && for_tests
        })
    })
}

/// The lines of code: everything from the module of tests on is cut, other items for tests and
/// comments are blanked.
fn without_tests(text: &str) -> Vec<String> {
    let all: Vec<&str> = text.lines().collect();
    let mut lines = Vec::new();
    let mut at = 0;
    while at < all.len() {
        let line = all[at];
        let is_for_tests = line.trim_start().starts_with("#[cfg(test)]");
        let next = all[at + 1..].iter().find(|line| !line.trim_start().starts_with("#["));
        if is_for_tests && next.is_some_and(|next| next.trim_start().starts_with("mod tests")) {
            break;
        }
        if is_for_tests {
            // The item ends with a line that closes it at the same depth, or at once.
            let depth = line.len() - line.trim_start().len();
            let ends = |line: &&str| {
                let same = line.len() - line.trim_start().len() == depth;
                same && (line.trim_end().ends_with([';', '}', ',']))
            };
            let length = all[at + 1..].iter().position(ends).map_or(1, |length| length + 2);
            lines.extend(std::iter::repeat_n(String::new(), length));
            at += length;
            continue;
        }
        let code = line.split("//").next().unwrap_or_default();
        lines.push(code.to_owned());
        at += 1;
    }
    lines
}

/// Modules of this crate that a line names by their path from the root.
fn named_modules(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, root) in line.match_indices("crate::") {
        let rest = &line[at + root.len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(top_names(list)),
            None => found.push(identifier(rest).to_owned()),
        }
    }
    found.retain(|name| name.chars().next().is_some_and(char::is_lowercase));
    found
}

/// The first identifiers of a list in braces, not of the lists in it.
fn top_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut starts) = (0, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            c if starts && depth == 0 && c.is_alphanumeric() => {
                names.push(identifier(&list[at..]).to_owned());
                starts = false;
            }
            _ => {}
        }
        if depth < 0 {
            break;
        }
    }
    names
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Whether a line names this library as the root of a path.
fn names_path(line: &str, library: &str) -> bool {
    line.match_indices(&format!("{library}::")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && !"_:.".contains(before))
    })
}
