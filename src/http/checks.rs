//! Checks the members of a body and gathers everything that is wrong, so that a client learns all
//! of it at once.

use std::borrow::Cow;

use crate::http::error::{Answered, Failure};
use crate::http::fields::{self, Checked};
use crate::http::json::Field;

/// What is wrong so far.
#[derive(Debug, Default)]
pub struct Checks {
    wrong: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl Checks {
    /// A member that must be there. `None`: it is not valid, and that is noted.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        sent: Field<String>,
        check: impl FnOnce(String) -> Checked<T>,
    ) -> Option<T> {
        match sent {
            Field::Absent | Field::Null => self.note(name, "can't be blank"),
            Field::Wrong => self.note(name, "must be a string"),
            Field::Value(value) => self.keep(name, check(value)),
        }
    }

    /// A member that may be left out, which keeps what is there, but not be emptied.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        sent: Field<String>,
        check: impl FnOnce(String) -> Checked<T>,
    ) -> Option<T> {
        match sent {
            Field::Absent => None,
            Field::Null | Field::Wrong | Field::Value(_) => self.required(name, sent, check),
        }
    }

    /// A member that may be left out, which keeps what is there, or be null, which removes it.
    pub fn clearable(
        &mut self,
        name: &'static str,
        sent: Field<String>,
        check: impl FnOnce(String) -> Checked<Option<String>>,
    ) -> Option<Option<String>> {
        match sent {
            Field::Absent => None,
            Field::Null => Some(None),
            Field::Wrong => self.note(name, "must be a string"),
            Field::Value(value) => self.keep(name, check(value)),
        }
    }

    /// A list of tags that may be left out.
    pub fn tags(
        &mut self,
        name: &'static str,
        sent: Field<Vec<Field<String>>>,
    ) -> Option<Vec<String>> {
        let sent = match sent {
            Field::Absent => return None,
            Field::Null | Field::Wrong => return self.note(name, "must be a list of strings"),
            Field::Value(sent) => sent,
        };
        if sent.len() > fields::TAGS_SENT_MAX {
            return self.note(name, fields::too_many_tags());
        }
        let mut tags = Vec::with_capacity(sent.len());
        for tag in sent {
            let Field::Value(tag) = tag else {
                return self.note(name, "must be a list of strings");
            };
            tags.push(tag);
        }
        self.keep(name, fields::tags(tags))
    }

    /// Something is wrong that no member alone is.
    pub fn wrong(&mut self, name: &'static str, wrong: &'static str) {
        self.wrong.push((Cow::Borrowed(name), Cow::Borrowed(wrong)));
    }

    /// Everything that is wrong, as a failure.
    pub fn failure(self) -> Failure {
        Failure::invalid_fields(self.wrong)
    }

    /// Goes on only if nothing is wrong.
    ///
    /// # Errors
    /// 422 with everything that is wrong.
    pub fn finish(self) -> Answered<()> {
        if self.wrong.is_empty() { Ok(()) } else { Err(self.failure()) }
    }

    fn keep<T>(&mut self, name: &'static str, checked: Checked<T>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(wrong) => self.note(name, wrong),
        }
    }

    fn note<T>(&mut self, name: &'static str, wrong: impl Into<Cow<'static, str>>) -> Option<T> {
        self.wrong.push((Cow::Borrowed(name), wrong.into()));
        None
    }
}
