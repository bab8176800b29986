//! Random histories: whatever is asked is answered as the model answers it, with warm caches, with
//! caches that evict all the time, after a restart, and after commands whose rows were lost.

use proptest::prelude::*;
use proptest::sample::select;

use super::check::{NOBODY, USERS, check, cut, every_filter, kept_answers};
use super::model::Model;
use super::support::*;
use crate::actors::post::cache::Limits;
use crate::actors::post::message::{Answer, Command, Filter, Query, Reader, Visibility};
use crate::actors::post::progress::Progress;
use crate::actors::state_machine::{Changed, StateMachine, Step};
use crate::actors::user::message::Viewer;
use crate::ids::{Stamp, UserId};

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
                Command::Favor { post, reader, on: *on }
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
        let (window, progress) = (offset..offset + 3, Progress::default());
        Some(match filters {
            Some(filters) => {
                let filters = filters.to_vec();
                Query::ListKeys { filters, viewer, window, progress }
            }
            None => Query::FeedKeys { viewer: viewer?, window, progress },
        })
    }

    /// One step of the query that is being answered. What counts is what is so when it is done.
    fn go_on(&mut self) {
        let Some((mut query, filters, user, offset)) = self.asked.take() else { return };
        // The edges are those of when the query was asked.
        let mut model = self.model.clone();
        let viewer = match &query {
            Query::ListKeys { viewer, .. } => viewer.clone(),
            Query::FeedKeys { viewer, .. } => Some(viewer.clone()),
            _ => None,
        };
        if let Some(viewer) = viewer {
            restore_edges(&mut model, &viewer);
        }
        match self.shard.step(&mut query).unwrap() {
            Step::Again => self.asked = Some((query, filters, user, offset)),
            Step::Done(Answer::Keys { keys, total }) => {
                let expected = match &filters {
                    Some(filters) => model.list(filters, user),
                    None => model.feed(user),
                };
                assert_eq!(total, expected.len() as u64);
                let expected: Vec<_> = expected.iter().map(|post| post.id).collect();
                let found: Vec<_> = keys.iter().map(|key| key.post).collect();
                assert_eq!(found, cut(&expected, offset, 3));
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

/// Lives through actions with somebody who keeps every answer: what a command changes, it names.
fn keep_through(actions: &[Action], limits: Limits) {
    let mut world = World { shard: Shard::with(limits), model: Model::default(), asked: None };
    for action in actions.iter().filter(|action| !matches!(action, Action::Check)) {
        let kept = kept_answers(&mut world.shard, &world.model);
        world.shard.changed = Changed::Slots(Vec::new());
        world.act(action);
        let Changed::Slots(changed) = world.shard.changed.clone() else { panic!("anything") };
        // What is named without need is made void without need.
        match action {
            Action::Favorite { .. } => assert!(changed.len() <= 3, "{action:?}"),
            Action::Comment { .. } | Action::DeleteComment { .. } => assert!(changed.is_empty()),
            _ => {}
        }
        for (slot, answer) in kept_answers(&mut world.shard, &world.model) {
            let is_new = !kept.contains(&(slot, answer.clone()));
            let was_asked = kept.iter().any(|(kept, _)| *kept == slot);
            assert!(!(is_new && was_asked) || changed.contains(&slot), "{action:?}: {answer}");
        }
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
    // Counts that have come to 0 go with the checkpoint.
    world.shard.tables.checkpoint();
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
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

    #[test]
    fn every_answer_is_the_models(actions in prop::collection::vec(action(), 1..80)) {
        live_through(&actions, Limits::default());
    }

    #[test]
    fn what_a_command_changes_it_names(actions in prop::collection::vec(action(), 1..60)) {
        keep_through(&actions, Limits::default());
    }

    #[test]
    fn every_answer_is_the_models_step_by_step(
        actions in prop::collection::vec(action(), 1..80),
    ) {
        live_through(&actions, stepwise());
    }

    #[test]
    fn every_answer_is_the_models_under_tiny_limits(
        actions in prop::collection::vec(action(), 1..80),
    ) {
        live_through(&actions, tiny());
    }
}
