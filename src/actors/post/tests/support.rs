//! A shard without its runtime, and short ways to say what tests say often.

use std::ops::Range;
use std::sync::Arc;

use crate::actors::post::cache::{Limits, Room};
use crate::actors::post::event::Event;
use crate::actors::post::message::{
    Answer, Command, Error, Filter, Personal, Place, PostView, Query, Reader, Reply, SortKey,
    Visibility,
};
use crate::actors::post::progress::Progress;
use crate::actors::post::service::Service;
use crate::actors::post::tables;
use crate::actors::state_machine::{Changed, StateMachine, Step, Stop};
use crate::actors::user::message::Viewer;
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::store::tables::TestTables;

pub(super) const ANN: UserId = UserId(1);
pub(super) const BOB: UserId = UserId(2);
pub(super) const CID: UserId = UserId(3);
pub(super) const TOKEN: [u8; 16] = [7; 16];
pub(super) const START: Stamp = Stamp(1_700_000_000_000_000);

/// Limits so small that every query takes several steps and every cache evicts.
pub(super) fn tiny() -> Limits {
    Limits {
        posts: Room::fixed(3_000),
        bodies: Room::fixed(300),
        lists: Room::fixed(1_500),
        favored: Room::fixed(400),
        feeds: Room::fixed(700),
        list_keys: 4,
        favored_posts: 3,
        feed_changes: 3,
        step_rows: 3,
    }
}

/// Caches that keep everything, filled in very small steps.
pub(super) fn stepwise() -> Limits {
    Limits { step_rows: 1, ..Limits::default() }
}

pub(super) struct Shard {
    pub(super) tables: TestTables,
    pub(super) service: Service,
    pub(super) limits: Limits,
    pub(super) now: Stamp,
    /// Steps of the last query.
    pub(super) steps: usize,
    /// What the last command changed the answers about.
    pub(super) changed: Changed,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Self {
        let tables = TestTables::new(tables::NAMES);
        let service = tables.read(|tables| Service::load_with(tables, limits)).unwrap();
        Self { tables, service, limits, now: START, steps: 0, changed: Changed::Anything }
    }

    /// What happens after a crash: a new service over the same tables.
    pub(super) fn reload(&mut self) {
        self.service = self.tables.read(|tables| Service::load_with(tables, self.limits)).unwrap();
    }

    pub(super) fn try_apply(&mut self, command: Command) -> Result<(Reply, Vec<Event>), Error> {
        self.now = Stamp(self.now.0 + 1);
        let (service, now) = (&mut self.service, self.now);
        let outcome = self.tables.apply(|tables| service.apply(tables, now, command));
        self.changed = Changed::Slots(Vec::new());
        match outcome {
            Ok(outcome) => {
                self.changed = self.service.changed();
                self.service.committed();
                Ok((outcome.reply, outcome.events))
            }
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Store(error)) => panic!("the tables failed: {error}"),
        }
    }

    /// Applies a command whose rows are dropped, as after a panic behind it.
    pub(super) fn lose(&mut self, command: Command) {
        self.now = Stamp(self.now.0 + 1);
        let (service, now) = (&mut self.service, self.now);
        let _ = self.tables.apply(|tables| {
            let _ = service.apply(tables, now, command);
            Err::<(), ()>(())
        });
    }

    pub(super) fn apply(&mut self, command: Command) -> Reply {
        self.try_apply(command).unwrap().0
    }

    pub(super) fn events(&mut self, command: Command) -> Vec<Event> {
        self.try_apply(command).unwrap().1
    }

    pub(super) fn refusal(&mut self, command: Command) -> Error {
        self.try_apply(command).unwrap_err()
    }

    pub(super) fn post(&mut self, command: Command) -> PostId {
        match self.apply(command) {
            Reply::Post { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn step(&mut self, query: &mut Query) -> Result<Step<Answer>, Error> {
        let service = &mut self.service;
        self.tables.read(|tables| service.query(tables, query)).map_err(|stop| match stop {
            Stop::Refused(error) => error,
            Stop::Store(error) => panic!("the tables failed: {error}"),
        })
    }

    pub(super) fn query(&mut self, mut query: Query) -> Result<Answer, Error> {
        self.steps = 0;
        loop {
            self.steps += 1;
            if let Step::Done(answer) = self.step(&mut query)? {
                return Ok(answer);
            }
        }
    }

    pub(super) fn page(
        &mut self,
        filters: &[Filter],
        viewer: Option<&Arc<Viewer>>,
        offset: usize,
        limit: usize,
    ) -> (Vec<PostView>, u64) {
        let (keys, total) = self.keys(filters, viewer, offset..offset + limit);
        (self.posts(&keys, viewer), total)
    }

    /// The posts of a list's keys, every one of which the viewer sees.
    fn posts(&mut self, keys: &[SortKey], viewer: Option<&Arc<Viewer>>) -> Vec<PostView> {
        let posts = keys.iter().map(|key| key.post).collect();
        // What is counted are the steps of the list.
        let steps = self.steps;
        let found =
            match self.query(Query::GetPosts { posts, viewer: viewer.cloned(), favorited: true }) {
                Ok(Answer::Posts(found)) => found,
                other => panic!("{other:?}"),
            };
        self.steps = steps;
        assert!(keys.iter().map(|key| key.post).eq(found.iter().map(|view| view.summary.id)), "V1");
        found
    }

    pub(super) fn keys_from(
        &mut self,
        filters: &[Filter],
        viewer: Option<&Arc<Viewer>>,
        place: Option<Place>,
        limit: usize,
    ) -> Vec<SortKey> {
        let (filters, viewer) = (filters.to_vec(), viewer.cloned());
        let progress = Progress::default();
        match self.query(Query::ListKeysFrom { filters, viewer, place, limit, progress }) {
            Ok(Answer::KeysFrom(keys)) => keys,
            other => panic!("{other:?}"),
        }
    }

    /// Ids of the first hundred posts of a list, which must be all.
    pub(super) fn list(&mut self, filters: &[Filter], viewer: Option<&Arc<Viewer>>) -> Vec<PostId> {
        let (posts, total) = self.page(filters, viewer, 0, 100);
        assert_eq!(posts.len() as u64, total);
        posts.iter().map(|view| view.summary.id).collect()
    }

    pub(super) fn keys(
        &mut self,
        filters: &[Filter],
        viewer: Option<&Arc<Viewer>>,
        window: Range<usize>,
    ) -> (Vec<SortKey>, u64) {
        let (filters, viewer) = (filters.to_vec(), viewer.cloned());
        let progress = Progress::default();
        match self.query(Query::ListKeys { filters, viewer, window, progress }) {
            Ok(Answer::Keys { keys, total }) => (keys, total),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn feed(
        &mut self,
        viewer: &Arc<Viewer>,
        offset: usize,
        limit: usize,
    ) -> (Vec<PostId>, u64) {
        let (progress, window) = (Progress::default(), offset..offset + limit);
        match self.query(Query::FeedKeys { viewer: viewer.clone(), window, progress }) {
            Ok(Answer::Keys { keys, total }) => {
                let posts = self.posts(&keys, Some(viewer));
                (posts.iter().map(|view| view.summary.id).collect(), total)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn get(
        &mut self,
        post: PostId,
        viewer: Option<&Arc<Viewer>>,
        link_token: Option<[u8; 16]>,
    ) -> Result<(PostView, String), Error> {
        match self.query(Query::GetPost {
            post,
            viewer: viewer.cloned(),
            link_token,
            known: None,
            favorited: true,
        })? {
            Answer::Post(view, Some(body)) => {
                // Who has that body is told the same without it.
                let (viewer, known) = (viewer.cloned(), Some(view.summary.version));
                let again =
                    self.query(Query::GetPost { post, viewer, link_token, known, favorited: true });
                assert!(matches!(again, Ok(Answer::Post(_, None))));
                Ok((view, body.text().unwrap()))
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn personal(&mut self, user: UserId) -> Personal {
        match self.query(Query::GetPersonal { user, progress: Progress::default() }) {
            Ok(Answer::Personal(personal)) => personal,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn tags(&mut self) -> (Vec<(String, u64)>, u64) {
        match self.query(Query::ListTags { limit: 100 }) {
            Ok(Answer::Tags { tags, version }) => (tags.to_vec(), version),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn viewer(id: UserId) -> Viewer {
    let (follows, mutes, blocked_by) = Default::default();
    Viewer { id, token_generation: 0, follows, mutes, blocked_by }
}

/// A reader who is a stranger to every author.
pub(super) fn reader(id: UserId) -> Reader {
    Reader { id, follows_author: false, blocked_by_author: false, link_token: None }
}

pub(super) fn create(author: UserId, visibility: Visibility, tags: &[&str]) -> Command {
    Command::CreatePost {
        bucket: Bucket::new(5),
        author,
        title: "Title".into(),
        description: "Description".into(),
        body: "Body".into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        visibility,
        publish_at: (visibility == Visibility::Scheduled).then(|| START.plus_ms(3_600_000)),
        link_token: TOKEN,
        created_at: None,
        import: None,
    }
}

pub(super) fn edit(post: PostId, editor: UserId) -> Command {
    Command::EditPost {
        post,
        editor: reader(editor),
        title: Some("New".into()),
        description: None,
        body: None,
        tags: None,
        if_version: None,
    }
}

pub(super) fn retag(post: PostId, editor: UserId, tags: &[&str]) -> Command {
    Command::EditPost {
        post,
        editor: reader(editor),
        title: None,
        description: None,
        body: None,
        tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
        if_version: None,
    }
}

pub(super) fn publish(post: PostId, editor: UserId, visibility: Visibility) -> Command {
    let at = (visibility == Visibility::Scheduled).then(|| START.plus_ms(3_600_000));
    Command::PublishPost { post, editor: reader(editor), visibility, at, link_token: TOKEN }
}

pub(super) fn delete(post: PostId, editor: UserId) -> Command {
    Command::DeletePost { post, editor: reader(editor), if_version: None }
}

pub(super) fn favorite(post: PostId, user: UserId, on: bool) -> Command {
    Command::Favor { post, reader: reader(user), on }
}

pub(super) fn comment(post: PostId, user: UserId) -> Command {
    Command::AddComment {
        post,
        reader: reader(user),
        body: "Comment".into(),
        created_at: None,
        import: None,
    }
}

pub(super) fn due() -> Command {
    Command::PublishDue { bucket: Bucket::new(5) }
}
