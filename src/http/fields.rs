//! What the fields of users, posts and comments may hold. Pure: no request, no service.
//!
//! A function takes what was sent and gives back what may be stored, or what is wrong with it, to
//! be read after the field's name: "title can't be blank".

use std::borrow::Cow;

use jiff::Timestamp;
use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{UnicodeNormalization, is_nfkc};

use crate::actors::user::message::Tag;
use crate::ids::{STAMP_MAX, Stamp};

/// Largest body of a post, in bytes.
pub const BODY_MAX: usize = 256 * 1024;
/// Largest body of a comment, in bytes.
pub const COMMENT_MAX: usize = 16 * 1024;
/// Longest password, in characters.
pub const PASSWORD_MAX: usize = 256;
const PASSWORD_MIN: usize = 8;
const USERNAME_MAX: usize = 40;
const EMAIL_MAX: usize = 254;
const TITLE_MAX: usize = 300;
const DESCRIPTION_MAX: usize = 1000;
const TAGS_MAX: usize = 10;
const TAG_MAX: usize = 40;
const BIO_MAX: usize = 2000;
const LINK_MAX: usize = 2000;
/// Longest text that is read as a time; the longest that is one has 35 characters.
const TIME_CHARS_MAX: usize = 64;
/// Characters sent for one that counts. Normalisation makes text shorter, by this much in no name
/// that somebody has; what is longer is refused before any work is done on it.
const RAW_FACTOR: usize = 4;
/// Most elements of a list of tags; some may come twice.
pub const TAGS_SENT_MAX: usize = 100;

/// Names that would be mistaken for a part of the site, or for the site itself.
const RESERVED: [&str; 20] = [
    "about",
    "admin",
    "administrator",
    "api",
    "deleted",
    "docs",
    "editor",
    "feed",
    "help",
    "login",
    "me",
    "moderator",
    "quire",
    "register",
    "root",
    "search",
    "settings",
    "support",
    "system",
    "v1",
];

/// What is wrong with a field.
pub type Wrong = Cow<'static, str>;
/// The value, or what is wrong with it.
pub type Checked<T> = Result<T, Wrong>;

const BLANK: Wrong = Cow::Borrowed("can't be blank");

/// A name or address as it is shown, and as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// As it is shown.
    pub shown: String,
    /// As it is compared; see [`normal`].
    pub normal: String,
}

/// The form in which names and addresses are compared: NFKC and full case folding.
///
/// Folding by way of upper case brings together what has no single lower case (`ß` and `ss`).
/// Folding can undo the normalisation and the other way round, so both go on until nothing moves.
pub fn normal(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut text: String = text.nfkc().collect();
    // Two rounds are enough for all characters there are; the bound is for those to come.
    for _ in 0..4 {
        let folded = text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
        let next: String = folded.nfkc().collect();
        if next == text {
            break;
        }
        text = next;
    }
    text
}

/// 1–40 letters, digits, `_`, `-`, `.` after NFKC.
///
/// # Errors
/// What is wrong with it.
pub fn username(sent: &str) -> Checked<Shown> {
    if sent.trim().is_empty() {
        return Err(BLANK);
    }
    if !may_be_username(sent) {
        return Err(too_long(USERNAME_MAX));
    }
    let shown: Cow<'_, str> = match is_nfkc(sent) {
        true => Cow::Borrowed(sent),
        false => Cow::Owned(sent.nfkc().collect()),
    };
    length(&shown, USERNAME_MAX)?;
    let mut may_combine = false;
    for c in shown.chars() {
        let is_mark = is_combining_mark(c);
        if is_invisible(c) || !(c.is_alphanumeric() || "_-.".contains(c) || is_mark) {
            return Err("may only contain letters, digits, `_`, `-` and `.`".into());
        }
        if is_mark && !may_combine {
            return Err("must begin with a letter or digit before a mark".into());
        }
        may_combine = true;
    }
    if !shown.chars().any(char::is_alphanumeric) {
        return Err("must contain a letter or digit".into());
    }
    let normal = normal(&shown);
    if RESERVED.contains(&normal.as_str()) {
        return Err("is reserved".into());
    }
    Ok(Shown { shown: shown.into_owned(), normal })
}

/// Whether this is short enough to be the name of somebody, in any of its forms. Asked before a name
/// is normalised and looked up.
pub fn may_be_username(sent: &str) -> bool {
    !is_longer(sent, USERNAME_MAX * RAW_FACTOR)
}

/// Whether this is short enough to be a tag of a post, in any case: lower case has at most twice
/// the characters.
pub fn may_be_tag(sent: &str) -> bool {
    !is_longer(sent, TAG_MAX * 2)
}

/// Letters and marks that show nothing: two names would look the same.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{034F}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
            | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FFA0}'
            | '\u{1D159}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}'
    )
}

/// At most 254 characters around one `@`.
///
/// # Errors
/// What is wrong with it.
pub fn email(sent: &str) -> Checked<Shown> {
    if sent.trim().is_empty() {
        return Err(BLANK);
    }
    length(sent, EMAIL_MAX)?;
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || is_invisible(c) || is_bidi(c);
    let parts = sent.split_once('@');
    let valid = parts.is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !domain.contains('@')
    });
    if !valid || sent.chars().any(is_odd) {
        return Err("is invalid".into());
    }
    Ok(Shown { shown: sent.to_owned(), normal: normal(sent) })
}

/// Characters that turn the direction of text, or join without being seen.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// 8–256 characters, any.
///
/// # Errors
/// What is wrong with it.
pub fn password(sent: &str) -> Checked<()> {
    if sent.is_empty() {
        return Err(BLANK);
    }
    if sent.chars().count() < PASSWORD_MIN {
        return Err(format!("is too short (minimum is {PASSWORD_MIN} characters)").into());
    }
    length(sent, PASSWORD_MAX)
}

/// 1–300 characters.
///
/// # Errors
/// What is wrong with it.
pub fn title(sent: String) -> Checked<String> {
    text(sent, TITLE_MAX)
}

/// 1–1,000 characters.
///
/// # Errors
/// What is wrong with it.
pub fn description(sent: String) -> Checked<String> {
    text(sent, DESCRIPTION_MAX)
}

/// At most 1,000 characters, or nothing.
///
/// # Errors
/// What is wrong with it.
pub fn summary(sent: String) -> Checked<String> {
    no_nul(&sent)?;
    length(&sent, DESCRIPTION_MAX)?;
    Ok(sent)
}

/// A time: RFC 3339, with any offset, from 1970 to 2112.
///
/// # Errors
/// What is wrong with it.
pub fn time(sent: String) -> Checked<Stamp> {
    let wrong = || Wrong::Borrowed("must be a time as in RFC 3339");
    if sent.len() > TIME_CHARS_MAX {
        return Err(wrong());
    }
    let time: Timestamp = sent.parse().map_err(|_| wrong())?;
    let micros = u64::try_from(time.as_microsecond()).map_err(|_| wrong())?;
    if micros > STAMP_MAX.0 { Err(wrong()) } else { Ok(Stamp(micros)) }
}

/// 1 B–256 KiB.
///
/// # Errors
/// What is wrong with it.
pub fn body(sent: String) -> Checked<String> {
    bytes(sent, BODY_MAX)
}

/// 1 B–16 KiB.
///
/// # Errors
/// What is wrong with it.
pub fn comment(sent: String) -> Checked<String> {
    bytes(sent, COMMENT_MAX)
}

/// At most 10 of at most 40 characters, in the order sent; one that comes twice counts once.
///
/// # Errors
/// What is wrong with them.
pub fn tags(sent: Vec<String>) -> Checked<Vec<String>> {
    if sent.len() > TAGS_SENT_MAX {
        return Err(too_many_tags());
    }
    let mut tags: Vec<String> = Vec::with_capacity(sent.len().min(TAGS_MAX));
    for tag in sent {
        let tag = text(tag, TAG_MAX).map_err(|wrong| format!("has a tag that {wrong}"))?;
        if tags.iter().any(|known| known.to_lowercase() == tag.to_lowercase()) {
            continue;
        }
        if tags.len() == TAGS_MAX {
            return Err(too_many_tags());
        }
        tags.push(tag);
    }
    Ok(tags)
}

/// A tag by itself, as a post may bear it.
///
/// # Errors
/// What is wrong with it.
pub fn tag(sent: String) -> Checked<Tag> {
    let shown = text(sent, TAG_MAX)?;
    let normal = shown.to_lowercase();
    Ok(Tag { shown, normal })
}

/// What is wrong with more tags than allowed.
pub fn too_many_tags() -> Wrong {
    format!("has too many tags (maximum is {TAGS_MAX})").into()
}

/// At most 2,000 characters; empty is none.
///
/// # Errors
/// What is wrong with it.
pub fn bio(sent: String) -> Checked<Option<String>> {
    no_nul(&sent)?;
    length(&sent, BIO_MAX)?;
    Ok((!sent.is_empty()).then_some(sent))
}

/// An address of a picture: http or https, at most 2,000 characters; empty is none.
///
/// # Errors
/// What is wrong with it.
pub fn image(sent: String) -> Checked<Option<String>> {
    if sent.is_empty() {
        return Ok(None);
    }
    length(&sent, LINK_MAX)?;
    let has_scheme = |scheme: &str| {
        sent.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && sent.len() > scheme.len()
    };
    let is_link = has_scheme("http://") || has_scheme("https://");
    if !is_link || sent.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must be an http or https address".into());
    }
    Ok(Some(sent))
}

fn text(sent: String, max: usize) -> Checked<String> {
    if sent.trim().is_empty() {
        return Err(BLANK);
    }
    no_nul(&sent)?;
    length(&sent, max)?;
    Ok(sent)
}

fn bytes(sent: String, max: usize) -> Checked<String> {
    if sent.trim().is_empty() {
        return Err(BLANK);
    }
    no_nul(&sent)?;
    if sent.len() > max {
        return Err(format!("is too long (maximum is {} KiB)", max / 1024).into());
    }
    Ok(sent)
}

fn no_nul(sent: &str) -> Checked<()> {
    match sent.contains('\0') {
        true => Err("may not contain the character NUL".into()),
        false => Ok(()),
    }
}

fn length(sent: &str, max: usize) -> Checked<()> {
    if is_longer(sent, max) { Err(too_long(max)) } else { Ok(()) }
}

fn is_longer(sent: &str, max: usize) -> bool {
    // Most texts have fewer bytes than the limit has characters.
    sent.len() > max && sent.chars().nth(max).is_some()
}

fn too_long(max: usize) -> Wrong {
    format!("is too long (maximum is {max} characters)").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_look_the_same_compare_equal() {
        for (left, right) in [
            ("Straße", "STRASSE"),
            ("ﬁne", "FINE"),
            ("Ａｌｉｃｅ", "alice"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("e\u{301}mile", "Émile"),
        ] {
            assert_eq!(normal(left), normal(right), "{left} {right}");
        }
        assert_ne!(normal("jake"), normal("jakob"));
    }

    #[test]
    fn usernames() {
        for good in ["a", "Jake_1.x-y", "Ünïcødé", "名前", "नमस्ते", &"x".repeat(40)]
        {
            assert!(username(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "..",
            "-",
            "a b",
            "a/b",
            "a@b",
            "a\0",
            "a\u{202E}b",
            "a\u{200D}b",
            "a\u{AD}b",
            "a\u{3164}",
            "\u{301}a",
            "a\u{FE0F}",
            "😀",
            "admin",
            "ADMIN",
            "Deleted",
            "ａｐｉ",
            "a\n",
            &"x".repeat(41),
        ] {
            assert!(username(bad).is_err(), "{bad:?}");
        }
        assert_eq!(username("Ａbc").unwrap().shown, "Abc");
    }

    #[test]
    fn raw_length_is_looked_at_before_normalisation() {
        // Each pair composes to one character; more than 80 pairs are not composed at all.
        let composed = |count| "e\u{301}".repeat(count);
        assert!(username(&composed(40)).is_ok());
        assert!(may_be_username(&composed(80)) && !may_be_username(&composed(81)));
        assert!(username(&composed(81)).unwrap_err().contains("too long"));
        // One character that counts, made of very many.
        let many = format!("a{}", "\u{115F}".repeat(500_000));
        assert!(username(&many).unwrap_err().contains("too long"));
        assert!(may_be_tag(&"İ".repeat(40).to_lowercase()));
        assert!(!may_be_tag(&"x".repeat(81)));
    }

    #[test]
    fn addresses_and_passwords() {
        for good in ["a@b", "first.last+tag@example.org", "ünï@exämple.org"] {
            assert!(email(good).is_ok(), "{good:?}");
        }
        let long = format!("a@{}", "b".repeat(253));
        for bad in ["", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a\0@b", "a@b\n", &long] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
        assert_eq!(password(""), Err(BLANK));
        assert!(password("1234567").unwrap_err().contains("too short"));
        assert!(password(&"é".repeat(256)).is_ok());
        assert!(password(&"x".repeat(257)).is_err());
    }

    #[test]
    fn texts_have_bounds() {
        assert!(title("é".repeat(300)).is_ok());
        assert!(title("é".repeat(301)).is_err());
        assert_eq!(title(" \n".to_owned()), Err(BLANK));
        assert!(title("a\0".to_owned()).is_err());
        assert!(description("x".repeat(1001)).is_err());
        assert!(body("x".repeat(BODY_MAX)).is_ok());
        assert!(body("x".repeat(BODY_MAX + 1)).is_err());
        assert!(comment("x".repeat(COMMENT_MAX + 1)).is_err());
        assert_eq!(bio(String::new()), Ok(None));
        assert!(bio("x".repeat(2001)).is_err());
    }

    #[test]
    fn tags_keep_their_order() {
        let sent = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        assert_eq!(tags(sent(&["b", "a", "B", "a"])), Ok(sent(&["b", "a"])));
        assert!(tags(sent(&["a", ""])).is_err());
        assert!(tags(vec!["x".repeat(41)]).is_err());
        let many: Vec<String> = (0..11).map(|n| n.to_string()).collect();
        assert!(tags(many).is_err());
        assert!(tags(vec!["a".to_owned(); TAGS_SENT_MAX]).is_ok());
        assert!(tags(vec!["a".to_owned(); TAGS_SENT_MAX + 1]).is_err());
    }

    #[test]
    fn images_are_links() {
        assert_eq!(image(String::new()), Ok(None));
        for good in ["https://a.b/c.png", "HTTP://a"] {
            assert!(image(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["javascript:alert(1)", "https://", "ftp://a", "https://a b", "é", "httpsé//"]
        {
            assert!(image(bad.to_owned()).is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn the_normal_form_is_its_own_normal_form(text: String) {
            let once = normal(&text);
            prop_assert_eq!(normal(&once), once);
        }

        #[test]
        fn any_text_is_checked_without_panic(text: String) {
            let _ = (username(&text), email(&text), password(&text));
            let _ = (title(text.clone()), tags(vec![text.clone()]), bio(text.clone()));
            if let Ok(tag) = tag(text.clone()) {
                prop_assert_eq!(tags(vec![text.clone()]), Ok(vec![tag.shown]));
            }
            let _ = (image(text.clone()), comment(text));
        }

        #[test]
        fn a_username_means_the_same_in_all_its_forms(text in "\\PC{1,8}") {
            if let Ok(name) = username(&text) {
                prop_assert_eq!(username(&name.shown).unwrap(), name.clone());
                prop_assert_eq!(normal(&text), name.normal);
            }
        }
    }
}
