//! Who must wait for whom within a chunk: a record runs at once unless an earlier one makes what it
//! refers to.

use futures_util::FutureExt;
use futures_util::future::Shared;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::actors::post::message::ImportKey;
use crate::http::fields::normal;
use crate::transfer::record::{Record, post_key};

/// What a record makes or needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Thing {
    User(String),
    Post(ImportKey),
    /// The end of a post's comments: they are numbered in order.
    Comments(ImportKey),
}

type Done = Shared<oneshot::Receiver<()>>;

/// The last record that makes each thing.
#[derive(Default)]
pub(super) struct Turns {
    makers: FxHashMap<Thing, Done>,
}

/// Its holder runs once [`Turn::come`] returns; dropping it lets those go on who wait for it.
pub(super) struct Turn {
    wait: Vec<Done>,
    _done: oneshot::Sender<()>,
}

impl Turns {
    /// The turn of the next record. Turns must be waited for in the order in which they are given
    /// out, or several at a time, but never a later one alone.
    pub(super) fn next(&mut self, record: &Record) -> Turn {
        let (makes, needs) = things(record);
        let (sender, done) = oneshot::channel();
        let mut wait: Vec<Done> =
            needs.iter().filter_map(|thing| self.makers.get(thing).cloned()).collect();
        if let Some(makes) = makes {
            wait.extend(self.makers.insert(makes, done.shared()));
        }
        Turn { wait, _done: sender }
    }
}

impl Turn {
    /// Waits for the records that must come first.
    pub(super) async fn come(&mut self) {
        for earlier in self.wait.drain(..) {
            // It ends by being dropped, never by a message.
            let _ = earlier.await;
        }
    }
}

/// What the record makes, and what it needs. A key that is none waits for nothing: it is refused.
fn things(record: &Record) -> (Option<Thing>, Vec<Thing>) {
    let user = |name: &str| Thing::User(normal(name));
    let post = |key: &str| post_key(key).ok();
    match record {
        Record::User(new) => (Some(user(&new.username)), Vec::new()),
        Record::Follow(follow) => (None, vec![user(&follow.follower), user(&follow.followed)]),
        Record::Post(new) => (post(&new.key).map(Thing::Post), vec![user(&new.author)]),
        Record::Favorite(favorite) => {
            let needs = [Some(user(&favorite.user)), post(&favorite.post).map(Thing::Post)];
            (None, needs.into_iter().flatten().collect())
        }
        Record::Comment(comment) => {
            let key = post(&comment.post);
            let needs = [Some(user(&comment.user)), key.map(Thing::Post)];
            (key.map(Thing::Comments), needs.into_iter().flatten().collect())
        }
        Record::Read(read) => {
            let needs = [Some(user(&read.user)), post(&read.post).map(Thing::Post)];
            (None, needs.into_iter().flatten().collect())
        }
        Record::TagFollow(choice) | Record::TagMute(choice) => (None, vec![user(&choice.user)]),
        Record::Feedback(feedback) => {
            let needs = [Some(user(&feedback.user)), post(&feedback.post).map(Thing::Post)];
            (None, needs.into_iter().flatten().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(turns: &mut Turns, line: &str) -> Turn {
        turns.next(&Record::parse(line.as_bytes()).unwrap())
    }

    #[test]
    fn a_record_waits_only_for_what_it_needs() {
        let mut turns = Turns::default();
        let user = turn(&mut turns, r#"{"kind":"user","username":"Ann","email":"a@b"}"#);
        assert!(user.wait.is_empty());
        let post = turn(
            &mut turns,
            r#"{"kind":"post","key":"k","author":"ann","title":"","description":"","body":""}"#,
        );
        assert_eq!(post.wait.len(), 1);
        let other = turn(&mut turns, r#"{"kind":"favorite","user":"bob","post":"x"}"#);
        assert!(other.wait.is_empty());
        let mut first =
            turn(&mut turns, r#"{"kind":"comment","user":"ann","post":"k","body":"1"}"#);
        let second = turn(&mut turns, r#"{"kind":"comment","user":"bob","post":"k","body":"2"}"#);
        assert_eq!((first.wait.len(), second.wait.len()), (2, 2));
        assert!(first.come().now_or_never().is_none());
        drop(user);
        drop(post);
        let mut first = first;
        assert!(first.come().now_or_never().is_some());
        let mut second = second;
        assert!(second.come().now_or_never().is_none(), "comments keep their order");
        drop(first);
        assert!(second.come().now_or_never().is_some());
    }
}
