//! The format `stackexchange`: a folder with `posts.jsonl` and `events.csv`, turned into records of
//! the format `quire`.
//!
//! The folder is read twice: once for an index of what lies where, once in the order in which the
//! records must take effect (users, posts, responses by time, favorites). So only the index is held
//! in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::sync::mpsc;

use crate::transfer::chunk::{Chunk, Filler, Gone};
use crate::transfer::csv;
use crate::transfer::lines::{self, LINE_BYTES_MAX, Lines};
use crate::transfer::record::{
    Comment, Favorite, Post, PostVisibility, Record, Time, User, explain,
};
use crate::transfer::source::{Passed, Unreadable, too_long};
use crate::transfer::stream::StreamPost;

/// Longest description, in characters.
const DESCRIPTION_CHARS: usize = 200;
/// Who wrote what has no author any more. Nobody can register this name.
pub const DELETED: &str = "deleted";

const POSTS: &str = "posts.jsonl";
const EVENTS: &str = "events.csv";
pub(super) const EVENT_COLUMNS: [&str; 4] = ["user", "item", "ts", "event"];

/// The files of a folder.
pub(super) fn files(folder: &Path) -> [PathBuf; 2] {
    [folder.join(POSTS), folder.join(EVENTS)]
}

/// A line of `posts.jsonl`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: u64,
    kind: EntryKind,
    parent: Option<u64>,
    author: Option<u64>,
    ts: u64,
    #[serde(rename = "score")]
    _score: Option<i64>,
    #[serde(rename = "views")]
    _views: Option<u64>,
    title: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EntryKind {
    Post,
    Response,
}

/// Where an entry lies, and what decides its turn.
struct Place {
    kind: EntryKind,
    ts: u64,
    line: u64,
    offset: u64,
    length: usize,
}

/// What the first reading found.
#[derive(Default)]
struct Index {
    entries: Vec<Place>,
    /// Users by number with the line and time of their first deed; `None` has no author any more.
    users: BTreeMap<Option<u64>, (u64, u64)>,
    problems: Vec<(u64, String)>,
}

impl Index {
    fn saw(&mut self, user: Option<u64>, line: u64, ts: u64) {
        let first = self.users.entry(user).or_insert((line, ts));
        first.1 = first.1.min(ts);
    }
}

/// An event that becomes a record.
struct Favored {
    line: u64,
    user: Option<u64>,
    item: u64,
    ts: u64,
}

/// Why reading ends early.
enum Stop {
    Unreadable(Unreadable),
    Gone,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Unreadable> for Stop {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

/// Reads folders; `paths` are their files, two by two.
pub(super) fn read(paths: &[PathBuf], to: &mpsc::Sender<Chunk>) -> Result<Passed, Unreadable> {
    let mut passed = Passed::default();
    let mut before = 0;
    for pair in paths.chunks_exact(2) {
        match read_folder(&pair[0], &pair[1], before, to) {
            Ok((folder, size)) => {
                passed.comments_without_text += folder.comments_without_text;
                before += size;
            }
            Err(Stop::Gone) => break,
            Err(Stop::Unreadable(error)) => return Err(error),
        }
    }
    Ok(passed)
}

fn read_folder(
    posts: &Path,
    events: &Path,
    before: u64,
    to: &mpsc::Sender<Chunk>,
) -> Result<(Passed, u64), Stop> {
    let (digest, posts_size) = lines::digest(posts).map_err(Unreadable::at(posts))?;
    let (events_digest, events_size) = lines::digest(events).map_err(Unreadable::at(events))?;
    let mut index = index_posts(posts)?;
    let (favored, event_problems, passed) = read_events(events)?;
    favored.iter().for_each(|event| index.saw(event.user, 0, event.ts));

    let site = site_of(posts);
    let mut filler = Filler::new(posts.into(), digest, to);
    for (line, reason) in std::mem::take(&mut index.problems) {
        filler.add(line, 0, Err(reason), before)?;
    }
    for (user, (line, ts)) in &index.users {
        filler.add(*line, 0, user_record(*user, *ts), before)?;
    }
    // Responses after all posts, by time: the comments of a post are numbered as they come.
    index.entries.sort_by_key(|entry| match entry.kind {
        EntryKind::Post => (0, 0, entry.line),
        EntryKind::Response => (1, entry.ts, entry.line),
    });
    let mut file = File::open(posts).map_err(Unreadable::at(posts))?;
    let mut done = before;
    for place in &index.entries {
        let entry = read_entry(&mut file, place).map_err(Unreadable::at(posts))?;
        done += place.length as u64;
        let record = entry.and_then(|entry| entry_record(entry, &site));
        filler.add(place.line, place.length, record, done)?;
    }
    filler.flush()?;

    let done = before + posts_size;
    let mut filler = Filler::new(events.into(), events_digest, to);
    for (line, reason) in event_problems {
        filler.add(line, 0, Err(reason), done)?;
    }
    for event in favored {
        let post = post_key(&site, event.item);
        let record = Record::Favorite(Favorite { user: user_name(event.user), post });
        filler.add(event.line, 0, Ok(record), done)?;
    }
    filler.flush()?;
    Ok((passed, posts_size + events_size))
}

fn index_posts(path: &Path) -> Result<Index, Unreadable> {
    let mut index = Index::default();
    let mut lines = Lines::open(path).map_err(Unreadable::at(path))?;
    while let Some(line) = lines.next_line().map_err(Unreadable::at(path))? {
        let Some(bytes) = line.bytes else {
            index.problems.push((line.number, too_long()));
            continue;
        };
        match parse_entry(&bytes) {
            Ok(entry) => {
                index.saw(entry.author, line.number, entry.ts);
                index.entries.push(Place {
                    kind: entry.kind,
                    ts: entry.ts,
                    line: line.number,
                    offset: line.offset,
                    length: bytes.len(),
                });
            }
            Err(reason) => index.problems.push((line.number, reason)),
        }
    }
    Ok(index)
}

/// The post of a line of `posts.jsonl`; `None` for a response.
pub(super) fn post_of(bytes: &[u8]) -> Result<Option<StreamPost>, String> {
    let Entry { id, kind, author, ts, title, tags, text, .. } = parse_entry(bytes)?;
    time(ts)?;
    match kind {
        EntryKind::Response => Ok(None),
        EntryKind::Post => {
            let title = title.unwrap_or_default();
            Ok(Some(StreamPost { id, author, ts, tags, title, text }))
        }
    }
}

fn parse_entry(bytes: &[u8]) -> Result<Entry, String> {
    serde_json::from_slice(bytes).map_err(|error| explain(&error))
}

fn read_entry(file: &mut File, place: &Place) -> io::Result<Result<Entry, String>> {
    file.seek(SeekFrom::Start(place.offset))?;
    let mut bytes = vec![0; place.length.min(LINE_BYTES_MAX)];
    file.read_exact(&mut bytes)?;
    Ok(parse_entry(&bytes))
}

type Events = (Vec<Favored>, Vec<(u64, String)>, Passed);

/// Favorites become records; authors and answers are in the posts already, and a comment of which
/// only its time is known cannot be shown.
fn read_events(path: &Path) -> Result<Events, Unreadable> {
    let mut lines = Lines::open(path).map_err(Unreadable::at(path))?;
    let (mut favored, mut problems, mut passed) = (Vec::new(), Vec::new(), Passed::default());
    let mut is_first = true;
    while let Some(line) = lines.next_line().map_err(Unreadable::at(path))? {
        let row = line.bytes.ok_or_else(too_long).and_then(|bytes| csv::parse_line(&bytes));
        if std::mem::take(&mut is_first) {
            match row {
                Ok(row) if row == EVENT_COLUMNS => {}
                Ok(_) | Err(_) => {
                    problems.push((line.number, format!("the columns must be {EVENT_COLUMNS:?}")))
                }
            }
            continue;
        }
        match row.and_then(|row| parse_event(&row, line.number)) {
            Ok(Event::Favorite(event)) => favored.push(event),
            Ok(Event::Comment) => passed.comments_without_text += 1,
            Ok(Event::InPosts) => {}
            Err(reason) => problems.push((line.number, reason)),
        }
    }
    Ok((favored, problems, passed))
}

enum Event {
    Favorite(Favored),
    Comment,
    InPosts,
}

fn parse_event(row: &[String], line: u64) -> Result<Event, String> {
    let [user, item, ts, event] = row else {
        return Err(format!("{} columns and not 4", row.len()));
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
    let user = match user.as_str() {
        "" => None,
        user => Some(number(user)?),
    };
    let (item, ts) = (number(item)?, number(ts)?);
    match event.as_str() {
        "favorite" => Ok(Event::Favorite(Favored { line, user, item, ts })),
        "comment" => Ok(Event::Comment),
        "author" | "answer" => Ok(Event::InPosts),
        other => Err(format!("`{other}` is not an event")),
    }
}

/// The folder's name: posts of two sites have the same numbers.
fn site_of(posts: &Path) -> String {
    let folder = posts.parent().and_then(|folder| folder.canonicalize().ok());
    let name = folder.as_deref().and_then(Path::file_name);
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn post_key(site: &str, id: u64) -> String {
    format!("stackexchange/{site}/{id}")
}

fn user_name(user: Option<u64>) -> String {
    user.map_or_else(|| DELETED.to_owned(), |user| format!("user-{user}"))
}

/// An account without a password. Its address is one that can never exist.
fn user_record(user: Option<u64>, ts: u64) -> Result<Record, String> {
    let username = user_name(user);
    let email = format!("{username}@stackexchange.invalid");
    let created_at = Some(time(ts)?);
    let (bio, image, password, password_hash) = (None, None, None, None);
    Ok(Record::User(User { username, email, bio, image, password, password_hash, created_at }))
}

fn entry_record(entry: Entry, site: &str) -> Result<Record, String> {
    let author = user_name(entry.author);
    let created_at = Some(time(entry.ts)?);
    match entry.kind {
        EntryKind::Post => Ok(Record::Post(Post {
            key: post_key(site, entry.id),
            author,
            title: entry.title.ok_or("a post without a title")?,
            description: beginning(&entry.text, DESCRIPTION_CHARS),
            body: entry.text,
            tags: entry.tags,
            visibility: PostVisibility::Public,
            publish_at: None,
            created_at,
        })),
        EntryKind::Response => Ok(Record::Comment(Comment {
            user: author,
            post: post_key(site, entry.parent.ok_or("a response without a parent")?),
            body: entry.text,
            created_at,
        })),
    }
}

fn time(ts: u64) -> Result<Time, String> {
    Time::of_millis(ts).ok_or_else(|| format!("`{ts}` is no time from 1970 to 2112"))
}

/// The first words of a text, on one line, at most `max` characters.
pub(crate) fn beginning(text: &str, max: usize) -> String {
    let mut start = String::new();
    let mut chars = 0;
    for word in text.split_whitespace() {
        let space = usize::from(!start.is_empty());
        let length = word.chars().count();
        if chars + space + length > max {
            if start.is_empty() {
                start.extend(word.chars().take(max));
            }
            break;
        }
        if space == 1 {
            start.push(' ');
        }
        start.push_str(word);
        chars += space + length;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::source::{Format, Source};
    use proptest::prelude::*;

    const POSTS_TEXT: &str = r#"{"id":1,"kind":"post","parent":null,"author":7,"ts":1000,"score":5,"views":9,"title":"T","tags":["a"],"text":"one two"}
{"id":2,"kind":"response","parent":1,"author":null,"ts":3000,"score":5,"views":null,"title":null,"tags":[],"text":"late"}
{"id":3,"kind":"response","parent":1,"author":8,"ts":2000,"score":5,"views":null,"title":null,"tags":[],"text":"early"}
broken
"#;
    const EVENTS_TEXT: &str = "user,item,ts,event\n7,1,1000,author\n9,1,500,favorite\n8,1,1,comment\n,1,4,favorite\nx,1,1,favorite\n1,1,1,clap\n";

    async fn records(posts: &str, events: &str) -> (Vec<Record>, Vec<u64>, Passed) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(POSTS), posts).unwrap();
        std::fs::write(path.join(EVENTS), events).unwrap();
        let mut source = Source::open(Format::StackExchange, vec![path]).await.unwrap();
        let (mut records, mut problems) = (Vec::new(), Vec::new());
        while let Some(chunk) = source.chunks.recv().await {
            records.extend(chunk.items.into_iter().map(|item| item.record));
            problems.extend(chunk.problems.into_iter().map(|problem| problem.line));
        }
        (records, problems, source.finish().await.unwrap())
    }

    #[tokio::test]
    async fn users_come_first_then_posts_then_responses_by_time_then_favorites() {
        let (records, problems, passed) = records(POSTS_TEXT, EVENTS_TEXT).await;
        let told: Vec<String> = records
            .iter()
            .map(|record| match record {
                Record::User(user) => format!("{} {}", user.username, user.created_at.unwrap()),
                Record::Post(post) => format!("{} by {}", post.key, post.author),
                Record::Comment(comment) => format!("{}: {}", comment.user, comment.body),
                Record::Favorite(favorite) => format!("{} favors {}", favorite.user, favorite.post),
                Record::Follow(_)
                | Record::Read(_)
                | Record::TagFollow(_)
                | Record::TagMute(_)
                | Record::Feedback(_) => panic!("{record:?}"),
            })
            .collect();
        let expected = [
            "deleted 1970-01-01T00:00:00.004Z",
            "user-7 1970-01-01T00:00:01Z",
            "user-8 1970-01-01T00:00:02Z",
            "user-9 1970-01-01T00:00:00.5Z",
            "stackexchange/site/1 by user-7",
            "user-8: early",
            "deleted: late",
            "user-9 favors stackexchange/site/1",
            "deleted favors stackexchange/site/1",
        ];
        assert_eq!(told, expected);
        assert_eq!(problems, [4, 6, 7]);
        assert_eq!(passed, Passed { comments_without_text: 1 });
    }

    #[test]
    fn a_description_ends_with_a_word() {
        assert_eq!(beginning("one  two\nthree", 8), "one two");
        assert_eq!(beginning("one two", 7), "one two");
        assert_eq!(beginning("ééééé", 3), "ééé");
        assert_eq!(beginning(" ", 3), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_line_is_read_without_panic(bytes: Vec<u8>, text: String, max in 0_usize..50) {
            let _ = parse_entry(&bytes);
            if let Ok(row) = csv::parse_line(&bytes) {
                let _ = parse_event(&row, 1);
            }
            prop_assert!(beginning(&text, max).chars().count() <= max);
        }
    }
}
