//! One line of the format `quire`: what it may hold, and how posts are named in it.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::actors::post::message::{ImportKey, Visibility};
use crate::actors::user::message as user;
use crate::ids::{PostId, STAMP_MAX, Stamp};

/// Longest key of a post, in bytes.
const KEY_BYTES_MAX: usize = 512;
/// First half of the key of a post that came from a Quire: the second half is its id there.
const NATIVE: [u8; 8] = *b"quirepst";
/// What the text of a key starts with that is known only by its hash.
const HASHED: char = '~';

/// A record of the format `quire`; one line of JSON each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// An account. Its identity is its name.
    User(User),
    /// Somebody follows somebody.
    Follow(Follow),
    /// A post. Its identity is its key.
    Post(Post),
    /// Somebody favors a post.
    Favorite(Favorite),
    /// Somebody comments on a post. Its identity is its file and line.
    Comment(Comment),
    /// Somebody has read a post.
    Read(Read),
    /// Somebody follows a tag.
    TagFollow(TagChoice),
    /// Somebody mutes a tag.
    TagMute(TagChoice),
    /// Somebody wishes something about a post in recommendations.
    Feedback(Feedback),
}

impl Record {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line)
            .map_err(|error| format!("broken UTF-8 after {} bytes", error.valid_up_to()))?;
        serde_json::from_str(text).map_err(|error| explain(&error))
    }
}

/// The text of a JSON error without its line, which is always the first: the caller has a better
/// number.
pub(super) fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    match error.column() {
        0 => text.to_owned(),
        column => format!("{text} (column {column})"),
    }
}

/// An account. Its debug form shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Shown name.
    pub username: String,
    /// Address.
    pub email: String,
    /// About the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bio: Option<String>,
    /// Address of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The password itself; not together with a hash. Neither: nobody can sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// PHC string of argon2id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// When the account was made; none: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Somebody follows somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// Name of who follows.
    pub follower: String,
    /// Name of who is followed.
    pub followed: String,
}

/// A post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Post {
    /// What later lines and later imports call it by.
    pub key: String,
    /// Name of who wrote it.
    pub author: String,
    /// Title.
    pub title: String,
    /// Description.
    pub description: String,
    /// Markdown.
    pub body: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Who may see it.
    #[serde(default, skip_serializing_if = "PostVisibility::is_public")]
    pub visibility: PostVisibility,
    /// When a scheduled post is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_at: Option<Time>,
    /// Its time, which decides its place in lists; none: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
}

/// Somebody favors a post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Favorite {
    /// Name of who favors it.
    pub user: String,
    /// Key of the post.
    pub post: String,
}

/// Somebody comments on a post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    /// Name of who comments.
    pub user: String,
    /// Key of the post.
    pub post: String,
    /// Text.
    pub body: String,
    /// When; none: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
}

/// Somebody has read a post.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Name of the reader.
    pub user: String,
    /// Key of the post.
    pub post: String,
    /// When.
    pub at: Time,
    /// How much of it, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u8>,
}

/// Somebody follows or mutes a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagChoice {
    /// Name of the reader.
    pub user: String,
    /// The tag.
    pub tag: String,
}

/// Somebody wishes something about a post in recommendations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// Name of the reader.
    pub user: String,
    /// Key of the post.
    pub post: String,
    /// What the reader wishes.
    pub what: Wish,
}

/// [`user::Feedback`] as it is written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "see `user::Feedback`")]
pub enum Wish {
    Less,
    Hide,
}

impl From<Wish> for user::Feedback {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Less => Self::Less,
            Wish::Hide => Self::Hide,
        }
    }
}

impl From<user::Feedback> for Wish {
    fn from(feedback: user::Feedback) -> Self {
        match feedback {
            user::Feedback::Less => Self::Less,
            user::Feedback::Hide => Self::Hide,
        }
    }
}

/// [`Visibility`] as it is written in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "see `Visibility`")]
pub enum PostVisibility {
    #[default]
    Public,
    Followers,
    Unlisted,
    Scheduled,
    Draft,
}

impl PostVisibility {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
    fn is_public(&self) -> bool {
        *self == Self::Public
    }
}

impl From<PostVisibility> for Visibility {
    fn from(visibility: PostVisibility) -> Self {
        match visibility {
            PostVisibility::Public => Self::Public,
            PostVisibility::Followers => Self::Followers,
            PostVisibility::Unlisted => Self::Unlisted,
            PostVisibility::Scheduled => Self::Scheduled,
            PostVisibility::Draft => Self::Draft,
        }
    }
}

impl From<Visibility> for PostVisibility {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Public => Self::Public,
            Visibility::Followers => Self::Followers,
            Visibility::Unlisted => Self::Unlisted,
            Visibility::Scheduled => Self::Scheduled,
            Visibility::Draft => Self::Draft,
        }
    }
}

/// A moment: read as RFC 3339 or Unix milliseconds, written as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Stamp);

impl Time {
    /// The moment of Unix milliseconds, if a stamp can hold it.
    pub fn of_millis(ms: u64) -> Option<Self> {
        let stamp = Stamp(ms.checked_mul(1000)?);
        (stamp <= STAMP_MAX).then_some(Self(stamp))
    }

    fn of_text(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        let stamp = Stamp(u64::try_from(time.as_microsecond()).ok()?);
        (stamp <= STAMP_MAX).then_some(Self(stamp))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = i64::try_from(self.0.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_microsecond(micros) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{micros} µs"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;
        impl Visitor<'_> for TimeVisitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time from 1970 to 2112, RFC 3339 or Unix milliseconds")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                let wrong = || E::invalid_value(de::Unexpected::Str(text), &self);
                Time::of_text(text).ok_or_else(wrong)
            }

            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Time, E> {
                let wrong = || E::invalid_value(de::Unexpected::Unsigned(ms), &self);
                Time::of_millis(ms).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_any(TimeVisitor)
    }
}

/// The key of a post, as files call it.
///
/// Three forms: the id of a post that came from a Quire, `~` and the hash of a key as an export
/// writes it, and any other text. The first two survive any number of exports and imports.
///
/// # Errors
/// What is wrong with it.
pub fn post_key(text: &str) -> Result<ImportKey, String> {
    if text.is_empty() || text.len() > KEY_BYTES_MAX {
        return Err(format!("a key has 1 to {KEY_BYTES_MAX} bytes"));
    }
    if let Ok(id) = text.parse::<PostId>() {
        return Ok(native_key(id));
    }
    if let Some(hashed) = text.strip_prefix(HASHED) {
        return unhex(hashed)
            .map(ImportKey)
            .ok_or_else(|| format!("a key with `{HASHED}` has 32 hexadecimal digits after it"));
    }
    Ok(ImportKey(hash(b"quire import post\0", &[text.as_bytes()])))
}

/// The key of a post of this or another Quire that was not imported there.
pub fn native_key(post: PostId) -> ImportKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&NATIVE);
    key[8..].copy_from_slice(&post.0.to_be_bytes());
    ImportKey(key)
}

/// The post of a [`native_key`].
pub fn native_post(key: ImportKey) -> Option<PostId> {
    let id = key.0.strip_prefix(&NATIVE)?;
    Some(PostId(u64::from_be_bytes(id.try_into().ok()?)))
}

/// How an export writes a key; [`post_key`] reads it back.
pub fn key_text(key: ImportKey) -> String {
    match native_post(key) {
        Some(post) => post.to_string(),
        None => format!("{HASHED}{}", hex(&key.0)),
    }
}

/// Identity of an imported comment: the digest of its file, and its line there.
pub fn comment_key(file: &[u8; 32], line: u64) -> ImportKey {
    ImportKey(hash(b"quire import comment\0", &[file, &line.to_be_bytes()]))
}

fn hash(namespace: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(namespace);
    parts.iter().for_each(|part| hash.update(part));
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    // A hash must not pass for the key of a native post, however unlikely that is.
    if key.starts_with(&NATIVE) {
        key[0] ^= 0xff;
    }
    key
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of exactly as many lower-case hexadecimal digits as they need.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Bucket;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Record, String> {
        Record::parse(line.as_bytes())
    }

    #[test]
    fn lines_are_read_and_what_is_left_out_is_absent() {
        let user = parse(r#"{"kind":"user","username":"a","email":"a@b","created_at":1500}"#);
        let Ok(Record::User(user)) = user else { panic!("{user:?}") };
        assert_eq!(user.created_at, Some(Time(Stamp(1_500_000))));
        assert_eq!((user.bio, user.password), (None, None));
        let post = parse(
            r#"{"kind":"post","key":"k","author":"a","title":"t","description":"d","body":"b",
            "tags":["x"],"visibility":"followers","created_at":"2018-03-12T17:00:45.567Z"}"#,
        );
        let Ok(Record::Post(post)) = post else { panic!("{post:?}") };
        assert_eq!(post.visibility, PostVisibility::Followers);
        assert_eq!(post.created_at, Some(Time(Stamp(1_520_874_045_567_000))));
        let read = parse(r#"{"kind":"read","user":"a","post":"k","at":1}"#);
        let Ok(Record::Read(read)) = read else { panic!("{read:?}") };
        assert_eq!((read.at, read.depth), (Time(Stamp(1_000)), None));
    }

    #[test]
    fn what_is_written_is_read() {
        for line in [
            r#"{"kind":"read","user":"a","post":"k","at":"2026-02-18T03:22:56.637104Z"}"#,
            r#"{"kind":"read","user":"a","post":"k","at":"2026-02-18T03:22:56Z","depth":100}"#,
            r#"{"kind":"tag_follow","user":"a","tag":"Rust"}"#,
            r#"{"kind":"tag_mute","user":"a","tag":"é"}"#,
            r#"{"kind":"feedback","user":"a","post":"k","what":"less"}"#,
            r#"{"kind":"feedback","user":"a","post":"k","what":"hide"}"#,
        ] {
            assert_eq!(serde_json::to_string(&parse(line).unwrap()).unwrap(), line);
        }
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (line, named) in [
            ("", "EOF"),
            ("{}", "kind"),
            (r#"{"kind":"clap"}"#, "clap"),
            (r#"{"kind":"follow","follower":"a"}"#, "followed"),
            (r#"{"kind":"follow","follower":"a","followed":"b","x":1}"#, "x"),
            (r#"{"kind":"user","username":"a","email":"e","created_at":"soon"}"#, "RFC 3339"),
            (r#"{"kind":"user","username":"a","email":"e","created_at":-1}"#, "RFC 3339"),
            (r#"{"kind":"read","user":"a","post":"p","at":99999999999999999}"#, "2112"),
            (r#"{"kind":"read","user":"a","post":"p","at":1,"depth":-1}"#, "u8"),
            (r#"{"kind":"tag_follow","user":"a"}"#, "tag"),
            (r#"{"kind":"feedback","user":"a","post":"p","what":"more"}"#, "less"),
            (r#"{"kind":"favorite","user":"a","post":"p"} {}"#, "trailing"),
            (r#"{"kind":"favorite","user":"a","user":"a","post":"p"}"#, "duplicate"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
            assert!(!error.contains("line 1"), "{error}");
        }
        assert!(Record::parse(b"{\"kind\":\"\xff").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn times_survive_a_round_trip_to_the_microsecond() {
        for stamp in [0, 1, 999_999, 1_520_874_045_567_891, STAMP_MAX.0] {
            let text = serde_json::to_string(&Time(Stamp(stamp))).unwrap();
            assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), Time(Stamp(stamp)), "{text}");
        }
    }

    #[test]
    fn keys_survive_exports_and_their_forms_do_not_meet() {
        let id = PostId::new(Stamp(1_700_000_000_000_000), Bucket::new(77));
        let native = post_key(&id.to_string()).unwrap();
        assert_eq!(native_post(native), Some(id));
        assert_eq!(key_text(native), id.to_string());
        let foreign = post_key("blog/1").unwrap();
        assert_eq!(native_post(foreign), None);
        assert_eq!(post_key(&key_text(foreign)), Ok(foreign));
        assert_ne!(post_key("blog/2").unwrap(), foreign);
        for bad in ["", "~", "~12", "~XYZ", &"x".repeat(KEY_BYTES_MAX + 1)] {
            assert!(post_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_identity_of_a_comment_is_its_file_and_line() {
        let key = comment_key(&[1; 32], 7);
        assert_eq!(comment_key(&[1; 32], 7), key);
        assert_ne!(comment_key(&[1; 32], 8), key);
        assert_ne!(comment_key(&[2; 32], 7), key);
        // Fixed for ever: what was imported by an older program must be found again.
        assert_eq!(hex(&key.0), "908c31634782a2d3b9c85c8c33f6471c");
        assert_eq!(hex(&post_key("blog/1").unwrap().0), "72e92b5b3cd70e613b729433093956e2");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn anything_like_a_line_is_read_without_panic(
            kind in "user|follow|post|favorite|comment|read|tag_follow|tag_mute|feedback",
            fields in prop::collection::vec(("[a-z_]{1,12}", "\\PC{0,12}"), 0..6),
            number: i64,
        ) {
            let mut line = serde_json::json!({"kind": kind, "at": number, "created_at": number});
            for (name, value) in fields {
                line[name] = value.into();
            }
            let _ = Record::parse(line.to_string().as_bytes());
        }

        #[test]
        fn any_key_is_read_without_panic(text: String) {
            if let Ok(key) = post_key(&text) {
                prop_assert_eq!(post_key(&key_text(key)), Ok(key));
            }
        }
    }
}
