//! Streams of events to measure recommendations with: a file of clicks, or a Stack Exchange folder.

use std::path::Path;

use crate::transfer::csv;
use crate::transfer::lines::Lines;
use crate::transfer::source::{Unreadable, too_long};
use crate::transfer::stackexchange;

/// Columns of a file of clicks.
const CLICK_COLUMNS: [&str; 3] = ["user", "item", "ts"];

/// What somebody did with a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Read it.
    Click,
    /// Wrote it.
    Author,
    /// Answered or commented on it.
    Comment,
    /// Favored it.
    Favorite,
}

/// An event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEvent {
    /// Who.
    pub user: u64,
    /// Which post.
    pub item: u64,
    /// When, in Unix milliseconds.
    pub ts: u64,
    /// What.
    pub deed: Deed,
}

/// A post of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPost {
    /// Its number.
    pub id: u64,
    /// Who wrote it, where that is known.
    pub author: Option<u64>,
    /// When it was published, in Unix milliseconds.
    pub ts: u64,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
}

/// A stream, ordered by time; what happened at the same time is in the order of the file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The name of the file or folder, without an ending.
    pub name: String,
    /// The posts; `None` where they are not known, so that a post exists from its first event.
    pub posts: Option<Vec<StreamPost>>,
    /// What happened.
    pub events: Vec<StreamEvent>,
    /// Lines that were passed over: file name, number from 1, reason.
    pub problems: Vec<(String, u64, String)>,
}

impl Stream {
    /// Reads a CSV file with the columns `user,item,ts`, or a folder with `posts.jsonl` and
    /// `events.csv`. Bad lines are passed over and reported.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(path: &Path) -> Result<Self, Unreadable> {
        let mut stream = if path.is_dir() { read_folder(path)? } else { read_clicks(path)? };
        stream.name = name_of(path);
        stream.events.sort_by_key(|event| event.ts);
        if let Some(posts) = &mut stream.posts {
            posts.sort_by_key(|post| post.ts);
        }
        Ok(stream)
    }
}

/// A generic file name says less than its folder.
fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let own = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().and_then(Path::file_name);
    match (own.as_str(), folder) {
        ("clicks" | "events", Some(folder)) => folder.to_string_lossy().into_owned(),
        _ => own,
    }
}

fn read_clicks(path: &Path) -> Result<Stream, Unreadable> {
    let mut stream = Stream::default();
    each_row(path, &CLICK_COLUMNS, &mut stream, |stream, row| {
        let [user, item, ts] = row else {
            return Err(format!("{} columns and not 3", row.len()));
        };
        let (user, item, ts) = (number(user)?, number(item)?, time(ts)?);
        stream.events.push(StreamEvent { user, item, ts, deed: Deed::Click });
        Ok(())
    })?;
    Ok(stream)
}

fn read_folder(folder: &Path) -> Result<Stream, Unreadable> {
    let [posts_path, events_path] = stackexchange::files(folder);
    let mut stream = Stream::default();
    let mut posts = Vec::new();
    let file = file_name(&posts_path);
    let mut lines = Lines::open(&posts_path).map_err(Unreadable::at(&posts_path))?;
    while let Some(line) = lines.next_line().map_err(Unreadable::at(&posts_path))? {
        let entry = line.bytes.ok_or_else(too_long);
        match entry.and_then(|bytes| stackexchange::post_of(&bytes)) {
            Ok(Some(post)) => posts.push(post),
            Ok(None) => {}
            Err(reason) => stream.problems.push((file.clone(), line.number, reason)),
        }
    }
    stream.posts = Some(posts);
    each_row(&events_path, &stackexchange::EVENT_COLUMNS, &mut stream, |stream, row| {
        let [user, item, ts, event] = row else {
            return Err(format!("{} columns and not 4", row.len()));
        };
        let deed = match event.as_str() {
            "author" => Deed::Author,
            "answer" | "comment" => Deed::Comment,
            "favorite" => Deed::Favorite,
            other => return Err(format!("`{other}` is not an event")),
        };
        let (item, ts) = (number(item)?, time(ts)?);
        // Somebody whose account is gone cannot be told from others of whom that is true.
        if !user.is_empty() {
            stream.events.push(StreamEvent { user: number(user)?, item, ts, deed });
        }
        Ok(())
    })?;
    Ok(stream)
}

/// Hands on each row after the first, which names the columns.
fn each_row(
    path: &Path,
    columns: &[&str],
    stream: &mut Stream,
    mut take: impl FnMut(&mut Stream, &[String]) -> Result<(), String>,
) -> Result<(), Unreadable> {
    let file = file_name(path);
    let mut lines = Lines::open(path).map_err(Unreadable::at(path))?;
    let mut is_first = true;
    while let Some(line) = lines.next_line().map_err(Unreadable::at(path))? {
        let row = line.bytes.ok_or_else(too_long).and_then(|bytes| csv::parse_line(&bytes));
        let taken = if std::mem::take(&mut is_first) {
            match row {
                Ok(row) if row == columns => Ok(()),
                Ok(_) | Err(_) => Err(format!("the columns must be {}", columns.join(","))),
            }
        } else {
            row.and_then(|row| take(stream, &row))
        };
        if let Err(reason) = taken {
            stream.problems.push((file.clone(), line.number, reason));
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// Unix milliseconds up to the year 2112, as everywhere.
fn time(text: &str) -> Result<u64, String> {
    let ts = number(text)?;
    match crate::transfer::record::Time::of_millis(ts) {
        Some(_) => Ok(ts),
        None => Err(format!("`{ts}` is no time from 1970 to 2112")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clicks_are_read_in_order_of_time_and_bad_lines_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.csv");
        std::fs::write(&path, "user,item,ts\n1,5,30\nx,5,10\n2,6,20\n1,2\n3,7,30\n").unwrap();
        let stream = Stream::read(&path).unwrap();
        let told: Vec<_> = stream.events.iter().map(|event| (event.user, event.ts)).collect();
        assert_eq!(told, [(2, 20), (1, 30), (3, 30)]);
        assert_eq!(stream.name, "mine");
        assert_eq!(stream.posts, None);
        let lines: Vec<_> = stream.problems.iter().map(|(_, line, _)| *line).collect();
        assert_eq!(lines, [3, 5]);
        assert!(Stream::read(&folder.path().join("none.csv")).is_err());
    }

    #[test]
    fn a_folder_has_posts_and_deeds() {
        let folder = tempfile::tempdir().unwrap();
        let posts = r#"{"id":1,"kind":"post","parent":null,"author":7,"ts":1000,"title":"T","tags":["a"],"text":"one"}
{"id":2,"kind":"response","parent":1,"author":null,"ts":3000,"title":null,"tags":[],"text":"two"}
broken
"#;
        let events = "user,item,ts,event\n7,1,1000,author\n8,1,3000,answer\n,1,2000,comment\n9,1,2000,favorite\n9,1,5,clap\n";
        std::fs::write(folder.path().join("posts.jsonl"), posts).unwrap();
        std::fs::write(folder.path().join("events.csv"), events).unwrap();
        let stream = Stream::read(folder.path()).unwrap();
        let posts = stream.posts.unwrap();
        assert_eq!((posts.len(), posts[0].author, posts[0].tags.len()), (1, Some(7), 1));
        let deeds: Vec<_> = stream.events.iter().map(|event| event.deed).collect();
        assert_eq!(deeds, [Deed::Author, Deed::Favorite, Deed::Comment]);
        let problems: Vec<_> = stream.problems.iter().map(|(_, line, _)| *line).collect();
        assert_eq!(problems, [3, 6]);
    }
}
