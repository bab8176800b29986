//! Random histories: whatever is asked is answered as the model answers it, with warm caches, with
//! caches that evict all the time, after a restart, and after commands whose rows were lost.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use super::model::Model;
use super::support::*;
use crate::actors::post::cache::Limits;
use crate::actors::post::message::{Answer, Command, Filter, PostView, Query, Reader, Visibility};
use crate::actors::post::progress::Progress;
use crate::actors::state_machine::{StateMachine, Step};
use crate::actors::user::message::Viewer;
use crate::ids::{PostId, Stamp, UserId};

/// Nobody is signed in.
const NOBODY: UserId = UserId(0);
const USERS: [UserId; 4] = [ANN, BOB, CID, UserId(4)];
const TAGS: [&str; 5] = ["rust", "Rust", "Ärger", "äRGER", "x"];

#[derive(Debug, Clone)]
enum Action {
    Create {
        author: UserId,
        visibility: Visibility,
        tags: Vec<&'static str>,
        back_s: Option<u8>,
    },
    Edit {
        post: usize,
        user: UserId,
        tags: Option<Vec<&'static str>>,
        stale: bool,
    },
    Publish {
        post: usize,
        user: Option<UserId>,
        visibility: Visibility,
        in_s: u8,
    },
    Unpublish {
        post: usize,
        user: Option<UserId>,
    },
    Delete {
        post: usize,
        user: Option<UserId>,
    },
    Favorite {
        post: usize,
        user: UserId,
        on: bool,
        token: bool,
    },
    Comment {
        post: usize,
        user: UserId,
    },
    DeleteComment {
        post: usize,
        user: UserId,
        number: u32,
    },
    Due,
    Wait {
        s: u8,
    },
    Follow {
        from: UserId,
        to: UserId,
        on: bool,
    },
    Mute {
        from: UserId,
        to: UserId,
        on: bool,
    },
    Block {
        from: UserId,
        to: UserId,
        on: bool,
    },
    /// A command whose rows are lost, and then a restart, or none.
    Lose {
        action: Box<Action>,
        restart: bool,
    },
    Restart,
    Checkpoint,
    /// A query that takes a step after every further action.
    Ask {
        filters: Option<Vec<Filter>>,
        user: UserId,
        offset: usize,
    },
    Check,
}

fn action() -> impl Strategy<Value = Action> {
    let command = command_action();
    let user = || select(&USERS[..]);
    let lost = (command_action(), any::<bool>())
        .prop_map(|(action, restart)| Action::Lose { action: Box::new(action), restart });
    let asked = (prop::option::of(filters()), prop::option::of(user()), 0..3_usize).prop_map(
        |(filters, user, offset)| Action::Ask { filters, user: user.unwrap_or(NOBODY), offset },
    );
    prop_oneof![
        40 => command,
        2 => (0..40_u8).prop_map(|s| Action::Wait { s }),
        4 => (user(), user(), any::<bool>()).prop_map(|(from, to, on)| Action::Follow { from, to, on }),
        1 => (user(), user(), any::<bool>()).prop_map(|(from, to, on)| Action::Mute { from, to, on }),
        2 => (user(), user(), any::<bool>()).prop_map(|(from, to, on)| Action::Block { from, to, on }),
        3 => lost,
        1 => Just(Action::Restart),
        1 => Just(Action::Checkpoint),
        6 => asked,
        3 => Just(Action::Check),
    ]
}

fn command_action() -> impl Strategy<Value = Action> {
    let user = || select(&USERS[..]);
    let owner = || prop::option::weighted(0.2, user());
    let tags = || prop::collection::vec(select(&TAGS[..]), 0..3);
    prop_oneof![
        8 => (user(), visibility(), tags(), prop::option::weighted(0.2, any::<u8>())).prop_map(
            |(author, visibility, tags, back_s)| Action::Create { author, visibility, tags, back_s }
        ),
        4 => (0..9_usize, user(), prop::option::of(tags()), prop::bool::weighted(0.1)).prop_map(
            |(post, user, tags, stale)| Action::Edit { post, user, tags, stale }
        ),
        6 => (0..9_usize, owner(), visibility(), 0..60_u8).prop_map(
            |(post, user, visibility, in_s)| Action::Publish { post, user, visibility, in_s }
        ),
        2 => (0..9_usize, owner()).prop_map(|(post, user)| Action::Unpublish { post, user }),
        2 => (0..9_usize, owner()).prop_map(|(post, user)| Action::Delete { post, user }),
        9 => (0..9_usize, user(), prop::bool::weighted(0.8), any::<bool>()).prop_map(
            |(post, user, on, token)| Action::Favorite { post, user, on, token }
        ),
        2 => (0..9_usize, user()).prop_map(|(post, user)| Action::Comment { post, user }),
        1 => (0..9_usize, user(), 1..3_u32).prop_map(
            |(post, user, number)| Action::DeleteComment { post, user, number }
        ),
        2 => Just(Action::Due),
    ]
}

fn visibility() -> impl Strategy<Value = Visibility> {
    use Visibility::{Draft, Followers, Public, Scheduled, Unlisted};
    select(vec![Public, Public, Public, Followers, Unlisted, Scheduled, Draft])
}

fn filters() -> impl Strategy<Value = Vec<Filter>> {
    select(every_filter())
}

fn every_filter() -> Vec<Vec<Filter>> {
    let tags = ["RUST", "ärger"].map(|tag| Filter::Tag(tag.into()));
    let authors = USERS.map(Filter::Author);
    let favored = USERS.map(Filter::FavoritedBy);
    let mut all = vec![vec![], vec![Filter::All], vec![Filter::Tag("nothing".into())]];
    for filter in tags.iter().chain(&authors).chain(&favored) {
        all.push(vec![filter.clone()]);
    }
    for (number, author) in authors.iter().enumerate() {
        all.push(vec![tags[number % 2].clone(), author.clone()]);
        all.push(vec![favored[(number + 1) % 4].clone(), author.clone(), Filter::All]);
        all.push(vec![tags[0].clone(), tags[1].clone(), favored[number].clone()]);
    }
    all.push(vec![authors[0].clone(), authors[1].clone()]);
    all
}

/// The service, the model, and a query that is being answered meanwhile.
struct World {
    shard: Shard,
    model: Model,
    asked: Option<(Query, Option<Vec<Filter>>, UserId, usize)>,
}

impl World {
    fn act(&mut self, action: &Action) {
        match action {
            Action::Wait { s } => self.shard.now = self.shard.now.plus_ms(u64::from(*s) * 1_000),
            Action::Follow { from, to, on } => set(&mut self.model.follows, *from, *to, *on),
            Action::Mute { from, to, on } => set(&mut self.model.mutes, *from, *to, *on),
            Action::Block { from, to, on } => set(&mut self.model.blocks, *from, *to, *on),
            Action::Restart => self.shard.reload(),
            Action::Checkpoint => self.shard.tables.checkpoint(),
            Action::Check => check(&mut self.shard, &self.model),
            Action::Lose { action, restart } => {
                if let Some(command) = self.command(action) {
                    self.shard.lose(command);
                }
                if *restart {
                    self.shard.reload();
                }
            }
            Action::Ask { filters, user, offset } => {
                if let Some(query) = self.ask(filters.as_deref(), *user, *offset) {
                    self.asked = Some((query, filters.clone(), *user, *offset));
                }
            }
            Action::Create { .. }
            | Action::Edit { .. }
            | Action::Publish { .. }
            | Action::Unpublish { .. }
            | Action::Delete { .. }
            | Action::Favorite { .. }
            | Action::Comment { .. }
            | Action::DeleteComment { .. }
            | Action::Due => {
                let Some(command) = self.command(action) else { return };
                let expected = self.model.apply(Stamp(self.shard.now.0 + 1), &command);
                let answer = self.shard.try_apply(command).map(|(reply, _)| reply);
                assert_eq!(answer, expected, "{action:?}");
                let wake = self.model.posts.iter().filter_map(|post| post.publish_at).min();
                assert_eq!(self.shard.service.next_wake(), wake);
            }
        }
    }

    fn command(&self, action: &Action) -> Option<Command> {
        let of = |post: usize| self.model.posts.get(post % self.model.posts.len().max(1));
        let at = |post: usize, user: Option<UserId>, token: bool| {
            let post = of(post)?;
            Some((post.id, self.model.reader(user.unwrap_or(post.author), post, token)))
        };
        let owned = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
        Some(match action {
            Action::Create { author, visibility, tags, back_s } => {
                let mut command = create(*author, *visibility, tags);
                if let Command::CreatePost { created_at, publish_at, .. } = &mut command {
                    let now = self.shard.now;
                    *created_at = back_s.map(|s| Stamp(now.0 - u64::from(s) * 1_000_000));
                    *publish_at = Some(now.plus_ms(20_000));
                }
                command
            }
            Action::Edit { post, user, tags, stale } => {
                let (post, editor) = at(*post, Some(*user), true)?;
                let tags = tags.as_ref().map(|tags| owned(tags));
                let title = Some(format!("at {}", self.shard.now.0));
                let body = tags.is_none().then(|| format!("body at {}", self.shard.now.0));
                let if_version = stale.then_some(99);
                Command::EditPost { post, editor, title, description: None, body, tags, if_version }
            }
            Action::Publish { post, user, visibility, in_s } => {
                let (post, editor) = at(*post, *user, false)?;
                let at = Some(self.shard.now.plus_ms(u64::from(*in_s) * 1_000));
                let link_token = [*in_s / 30; 16];
                Command::PublishPost { post, editor, visibility: *visibility, at, link_token }
            }
            Action::Unpublish { post, user } => {
                let (post, editor) = at(*post, *user, true)?;
                Command::UnpublishPost { post, editor }
            }
            Action::Delete { post, user } => {
                let (post, editor) = at(*post, *user, true)?;
                Command::DeletePost { post, editor, if_version: None }
            }
            Action::Favorite { post, user, on, token } => {
                let (post, reader) = at(*post, Some(*user), *token)?;
                Command::SetFavorite { post, reader, on: *on }
            }
            Action::Comment { post, user } => {
                let (id, reader) = at(*post, Some(*user), true)?;
                let body = format!("{user} at {}", self.shard.now.0);
                Command::AddComment { post: id, reader, body, created_at: None, import: None }
            }
            Action::DeleteComment { post, user, number } => {
                let (post, reader) = at(*post, Some(*user), true)?;
                Command::DeleteComment { post, reader, number: *number }
            }
            Action::Due => due(),
            _ => return None,
        })
    }

    fn ask(&self, filters: Option<&[Filter]>, user: UserId, offset: usize) -> Option<Query> {
        let viewer = (user != NOBODY).then(|| self.model.viewer(user));
        let progress = Progress::default();
        Some(match filters {
            Some(filters) => {
                let filters = filters.to_vec();
                Query::ListPage { filters, viewer, offset, limit: 3, progress }
            }
            None => Query::FeedPage { viewer: viewer?, offset, limit: 3, progress },
        })
    }

    /// One step of the query that is being answered. What counts is what is so when it is done.
    fn go_on(&mut self) {
        let Some((mut query, filters, user, offset)) = self.asked.take() else { return };
        // The edges are those of when the query was asked.
        let mut model = self.model.clone();
        let viewer = match &query {
            Query::ListPage { viewer, .. } => viewer.clone(),
            Query::FeedPage { viewer, .. } => Some(viewer.clone()),
            _ => None,
        };
        if let Some(viewer) = viewer {
            restore_edges(&mut model, &viewer);
        }
        match self.shard.step(&mut query).unwrap() {
            Step::Again => self.asked = Some((query, filters, user, offset)),
            Step::Done(Answer::Page { posts, total }) => {
                let expected = match &filters {
                    Some(filters) => model.list(filters, user),
                    None => model.feed(user),
                };
                assert_eq!(total, expected.len() as u64);
                let expected: Vec<_> = expected.iter().map(|post| post.id).collect();
                assert_eq!(ids(&posts), cut(&expected, offset, 3));
            }
            Step::Done(other) => panic!("{other:?}"),
        }
    }
}

fn restore_edges(model: &mut Model, viewer: &Viewer) {
    model.follows.retain(|edge| edge.0 != viewer.id);
    model.mutes.retain(|edge| edge.0 != viewer.id);
    model.blocks.retain(|edge| edge.1 != viewer.id);
    model.follows.extend(viewer.follows.iter().map(|user| (viewer.id, *user)));
    model.mutes.extend(viewer.mutes.iter().map(|user| (viewer.id, *user)));
    model.blocks.extend(viewer.blocked_by.iter().map(|user| (*user, viewer.id)));
}

fn set(
    edges: &mut std::collections::BTreeSet<(UserId, UserId)>,
    from: UserId,
    to: UserId,
    on: bool,
) {
    if on && from != to {
        edges.insert((from, to));
    } else {
        edges.remove(&(from, to));
    }
}

fn ids(posts: &[PostView]) -> Vec<PostId> {
    posts.iter().map(|view| view.summary.id).collect()
}

fn cut<T: Clone>(all: &[T], offset: usize, limit: usize) -> Vec<T> {
    all.iter().skip(offset).take(limit).cloned().collect()
}

/// Everything that can be asked, by everybody.
fn check(shard: &mut Shard, model: &Model) {
    for user in USERS.into_iter().chain([NOBODY]) {
        let viewer = (user != NOBODY).then(|| model.viewer(user));
        let viewer = viewer.as_ref();
        for filters in every_filter() {
            check_list(shard, model, &filters, user, viewer);
        }
        if let Some(viewer) = viewer {
            let expected: Vec<_> = model.feed(user).iter().map(|post| post.id).collect();
            for (offset, limit) in [(0, 100), (1, 2)] {
                let (found, total) = shard.feed(viewer, offset, limit);
                assert_eq!(found, cut(&expected, offset, limit), "feed of {user}");
                assert_eq!(total, expected.len() as u64);
            }
        }
        check_posts(shard, model, user, viewer);
    }
    assert_eq!(shard.tags().0, model.tags());
    check_export(shard, model);
}

fn check_list(
    shard: &mut Shard,
    model: &Model,
    filters: &[Filter],
    user: UserId,
    viewer: Option<&Arc<Viewer>>,
) {
    let expected = model.list(filters, user);
    for (offset, limit) in [(0, 2), (1, 3), (0, 100)] {
        let (found, total) = shard.page(filters, viewer, offset, limit);
        assert_eq!(total, expected.len() as u64, "total of {filters:?} for {user}");
        let wanted = cut(&expected, offset, limit);
        let wanted_ids: Vec<_> = wanted.iter().map(|post| post.id).collect();
        assert_eq!(ids(&found), wanted_ids, "{filters:?} for {user}");
        for (view, post) in found.iter().zip(wanted) {
            assert_eq!(view.favorites, post.favorites.len() as u64);
            assert_eq!(view.favorited, post.favorites.contains(&user), "{} {user}", post.id);
            assert_eq!(view.summary.version, post.version);
        }
    }
    let (keys, total) = shard.keys(filters, viewer, 2, 2);
    assert_eq!(total, expected.len() as u64);
    let wanted: Vec<_> = expected.iter().take(4).map(|post| post.key()).collect();
    assert_eq!(keys, wanted, "the offset is not skipped");
}

fn check_posts(shard: &mut Shard, model: &Model, user: UserId, viewer: Option<&Arc<Viewer>>) {
    for post in &model.posts {
        for link_token in [None, Some(post.link_token), Some([99; 16])] {
            let found = shard.get(post.id, viewer, link_token);
            let sees = model.sees(user, post, link_token);
            assert_eq!(found.is_ok(), sees, "{post:?} for {user}");
            let Ok((view, body)) = found else { continue };
            assert_eq!(body, post.body);
            assert_eq!(view.favorites, post.favorites.len() as u64);
            assert_eq!(view.favorited, post.favorites.contains(&user));
            let summary = &view.summary;
            assert_eq!((&summary.title, &summary.tags), (&post.title, &post.tags));
            assert_eq!(
                (summary.created_at, summary.updated_at),
                (post.created_at, post.updated_at)
            );
            assert_eq!(
                (summary.published_at, summary.publish_at),
                (post.published_at, post.publish_at)
            );
            assert_eq!((summary.visibility, summary.version), (post.visibility, post.version));
        }
        let progress = Progress::default();
        let (viewer, id) = (viewer.cloned(), post.id);
        let asked = Query::ListComments { post: id, viewer, link_token: None, progress };
        match shard.query(asked) {
            Ok(Answer::Comments(comments)) => {
                let found = comments.into_iter().map(|one| (one.number, (one.author, one.body)));
                assert_eq!(found.collect::<std::collections::BTreeMap<_, _>>(), post.comments);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => assert!(!model.sees(user, post, None)),
        }
    }
    let posts: Vec<_> = model.posts.iter().rev().map(|post| post.id).chain([PostId(1)]).collect();
    let seen: Vec<_> =
        model.posts.iter().rev().filter(|post| model.sees(user, post, None)).collect();
    match shard.query(Query::GetPosts { posts, viewer: viewer.cloned() }) {
        Ok(Answer::Posts(found)) => {
            assert_eq!(ids(&found), seen.iter().map(|post| post.id).collect::<Vec<_>>());
        }
        other => panic!("{other:?}"),
    }
}

fn check_export(shard: &mut Shard, model: &Model) {
    let mut after = PostId(0);
    let mut exported = Vec::new();
    while let Ok(Answer::Exported(page)) = shard.query(Query::Export { after, limit: 2 }) {
        let Some(last) = page.last() else { break };
        after = last.summary.id;
        exported.extend(page);
    }
    let mut posts = model.posts.clone();
    posts.sort_by_key(|post| post.id);
    assert_eq!(exported.len(), posts.len());
    for (exported, post) in exported.iter().zip(posts) {
        assert_eq!(exported.summary.id, post.id);
        assert_eq!(&exported.body[..], post.body.as_bytes());
        assert!(exported.favorites.iter().eq(&post.favorites));
        let numbers = exported.comments.iter().map(|comment| comment.number);
        assert!(numbers.eq(post.comments.keys().copied()));
    }
}

fn live_through(actions: &[Action], limits: Limits) {
    let mut world = World { shard: Shard::with(limits), model: Model::default(), asked: None };
    for action in actions {
        world.act(action);
        world.go_on();
    }
    check(&mut world.shard, &world.model);
    world.shard.reload();
    check(&mut world.shard, &world.model);
    // Deleted posts leave nothing behind but tombstones.
    for post in world.model.posts.clone() {
        let editor = Reader { id: post.author, ..reader(post.author) };
        world.shard.apply(Command::DeletePost { post: post.id, editor, if_version: None });
    }
    world.model.posts.clear();
    check(&mut world.shard, &world.model);
    world.shard.tables.read(|tables| {
        use crate::actors::post::tables::{NAMES, TAGS_VERSION, TOMBSTONES};
        for number in 0..NAMES.len() as u8 {
            let table = crate::actors::state_machine::Table(number);
            let empty = tables.range(table, &[], None).unwrap().next().is_none();
            assert!(empty || table == TOMBSTONES || table == TAGS_VERSION, "{table:?}");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 2_000, ..Default::default() })]

    #[test]
    fn every_answer_is_the_models(actions in prop::collection::vec(action(), 1..80)) {
        live_through(&actions, Limits::default());
    }

    #[test]
    fn every_answer_is_the_models_under_tiny_limits(
        actions in prop::collection::vec(action(), 1..80),
    ) {
        live_through(&actions, tiny());
    }
}
