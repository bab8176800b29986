//! What must hold of the service, without a runtime.

use std::sync::Arc;

use proptest::prelude::*;

use crate::actors::post::event::Event as PostEvent;
use crate::actors::post::message::Visibility;
use crate::actors::recommendation::engine::event::{Event as Fact, Feedback, Interaction};
use crate::actors::recommendation::message::{
    Answer, Command, EARLIER_MAX, EXCLUDE_MAX, Error, Exposure, LIMIT_MAX, Method, Query, Ranking,
    Reason, Recommendations, Reply, ShownPost, Source, Wanted,
};
use crate::actors::recommendation::service::Service;
use crate::actors::relay::{Delivered, Subscribes};
use crate::actors::signature::{Signature, mix};
use crate::actors::state_machine::{StateMachine, Step, Stop, Table};
use crate::actors::user::event::Event as UserEvent;
use crate::ids::{EventPosition, LogIndex, PostId, ShardId, Stamp, UserId};
use crate::store::codec::{Record, decode, encode};
use crate::store::tables::TestTables;

mod fairness;
mod golden;
mod rebuild;
mod saved;

const BEGAN_MS: u64 = 1_700_000_000_000;

fn at(seconds: u64) -> Stamp {
    Stamp((BEGAN_MS + seconds * 1000) * 1000)
}

/// A service with a log of its own.
struct Shard {
    tables: TestTables,
    service: Service,
}

impl Shard {
    fn new() -> Self {
        let tables = TestTables::new(Service::TABLES);
        let service = tables.read(Service::load).unwrap();
        Self { tables, service }
    }

    fn leader() -> Self {
        let mut shard = Self::new();
        shard.service.lead();
        shard
    }

    fn try_apply(&mut self, stamp: Stamp, command: Command) -> Result<Reply, Error> {
        let Self { tables, service } = self;
        match tables.apply(|tables| service.apply(tables, stamp, command)) {
            Ok(outcome) => Ok(outcome.reply),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Store(error)) => panic!("{error}"),
        }
    }

    fn apply(&mut self, stamp: Stamp, command: Command) {
        assert_eq!(self.try_apply(stamp, command), Ok(Reply::Done));
    }

    fn observe(&mut self, stamp: Stamp, fact: Fact) {
        self.apply(stamp, Command::Observe { fact });
    }

    fn deliver<E>(&mut self, stamp: Stamp, event: E)
    where
        Service: Subscribes<E>,
    {
        for command in delivered(stamp, event) {
            self.apply(stamp, command);
        }
    }

    fn ask(&mut self, mut query: Query) -> Recommendations {
        let Self { tables, service } = self;
        let step = tables.read(|tables| service.query(tables, &mut query)).unwrap();
        match step {
            Step::Done(Answer::Recommendations(found)) => found,
            other => panic!("{other:?}"),
        }
    }

    fn recommend(&mut self, reader: u64, seconds: u64) -> Vec<u64> {
        let wanted = wanted(10, seconds);
        ids(&self.ask(Query::Recommend { reader: UserId(reader), wanted, ranking: plain() }))
    }
}

fn delivered<E>(stamp: Stamp, event: E) -> Vec<Command>
where
    Service: Subscribes<E>,
{
    let source = ShardId { service: "source", index: 0 };
    let position = EventPosition { index: LogIndex(1), number: 0 };
    let mut commands = Vec::new();
    Service::ingest(Delivered { source, position, stamp, shards: 1, event }, &mut commands);
    commands
}

fn wanted(limit: usize, seconds: u64) -> Wanted {
    Wanted { limit, exclude: Arc::from([]), now: at(seconds), explain: true }
}

fn plain() -> Ranking {
    Ranking { method: Method::Ranker, is_diverse: false, explore: 0, random: 0 }
}

fn ids(found: &Recommendations) -> Vec<u64> {
    found.items.iter().map(|item| item.post.0).collect()
}

fn changed(post: u64, version: u64, visibility: Visibility, seconds: u64) -> PostEvent {
    PostEvent::PostChanged {
        post: PostId(post),
        author: UserId(1_000_000 + post % 50),
        version,
        visibility,
        published_at: Some(at(seconds)),
        tags: vec!["Red".to_owned(), "red".to_owned(), "Big".to_owned()],
        signature: Signature::default(),
    }
}

fn read(reader: u64, post: u64, seconds: u64) -> UserEvent {
    UserEvent::PostRead { user: UserId(reader), post: PostId(post), at: at(seconds) }
}

fn interacted(reader: u64, post: u64, seconds: u64) -> Fact {
    let (reader, post) = (UserId(reader), PostId(post));
    Fact::Interacted { reader, post, how: Interaction::Read, at: at(seconds) }
}

#[test]
fn events_become_facts_and_only_public_posts_are_listed() {
    let mut shard = Shard::new();
    let others =
        [Visibility::Followers, Visibility::Unlisted, Visibility::Scheduled, Visibility::Draft];
    for (post, visibility) in others.into_iter().enumerate() {
        shard.deliver(at(1), changed(post as u64, 1, visibility, 1));
    }
    shard.deliver(at(2), changed(9, 1, Visibility::Public, 2));
    assert_eq!(shard.recommend(1, 3), [9]);
    let PostEvent::PostChanged { post, author, version, tags, signature, .. } =
        changed(8, 1, Visibility::Draft, 0)
    else {
        unreachable!()
    };
    let (visibility, published_at) = (Visibility::Draft, None);
    let draft =
        PostEvent::PostChanged { post, author, version, visibility, published_at, tags, signature };
    assert!(delivered(at(2), draft).is_empty(), "a draft that was never seen concerns nobody");
    let post = PostId(9);
    let off = PostEvent::FavoriteChanged { post, user: UserId(1), on: false };
    assert!(delivered(at(2), off).is_empty());
    assert!(delivered(at(2), UserEvent::UserCreated { user: UserId(1) }).is_empty());
    let found = delivered(at(2), changed(9, 1, Visibility::Public, 2));
    let Command::Observe { fact: Fact::PostChanged { tags, .. } } = &found[0] else { panic!() };
    assert_eq!(tags, &["red", "big"], "as they are compared, each once");
    for (reader, event) in [
        (2, PostEvent::FavoriteChanged { post, user: UserId(2), on: true }),
        (3, PostEvent::CommentAdded { post, user: UserId(3), number: 1 }),
    ] {
        assert_eq!(shard.recommend(reader, 4), [9]);
        shard.deliver(at(4), event);
        assert!(shard.recommend(reader, 4).is_empty(), "who does something with it has read it");
    }
    shard.deliver(at(5), PostEvent::PostDeleted { post, author: UserId(1), version: 2 });
    shard.deliver(at(5), changed(9, 3, Visibility::Public, 2));
    assert!(shard.recommend(1, 6).is_empty());
}

#[test]
fn a_block_hides_both_from_each_other_and_nobody_else() {
    let mut shard = Shard::new();
    let (ann, bob) = (UserId(1_000_001), UserId(1_000_002));
    shard.deliver(at(1), changed(1, 1, Visibility::Public, 1));
    shard.deliver(at(1), changed(2, 1, Visibility::Public, 1));
    let block = |user, target, on| -> UserEvent { UserEvent::BlockChanged { user, target, on } };
    shard.deliver(at(2), block(ann, bob, true));
    shard.deliver(at(2), block(bob, ann, true));
    shard.deliver(at(2), UserEvent::MuteChanged { user: ann, target: bob, on: true });
    let seen = |shard: &mut Shard| [shard.recommend(ann.0, 3), shard.recommend(bob.0, 3)];
    assert_eq!(seen(&mut shard), [const { Vec::<u64>::new() }; 2]);
    let mut other = shard.recommend(7, 3);
    other.sort_unstable();
    assert_eq!(other, [1, 2]);
    shard.deliver(at(4), block(ann, bob, false));
    assert_eq!(
        seen(&mut shard),
        [const { Vec::<u64>::new() }; 2],
        "the other block is still there"
    );
    shard.deliver(at(4), block(bob, ann, false));
    assert_eq!(seen(&mut shard), [vec![], vec![1]], "the mute is still there");
    shard.deliver(at(4), UserEvent::MuteChanged { user: ann, target: bob, on: false });
    assert_eq!(seen(&mut shard), [vec![2], vec![1]]);
}

#[test]
fn what_readers_wish_takes_effect_and_is_taken_back() {
    use crate::actors::user::message::Feedback as Wish;
    let mut shard = Shard::new();
    shard.deliver(at(1), changed(1, 1, Visibility::Public, 1));
    let (user, post, tag) = (UserId(7), PostId(1), "red".to_owned());
    shard.deliver(at(2), UserEvent::TagFollowChanged { user, tag: tag.clone(), on: true });
    let following = Query::Following { reader: user, wanted: wanted(10, 3) };
    assert_eq!(ids(&shard.ask(following.clone())), [1]);
    for (on, back) in [
        (
            UserEvent::TagMuteChanged { user, tag: tag.clone(), on: true },
            UserEvent::TagMuteChanged { user, tag, on: false },
        ),
        (
            UserEvent::FeedbackGiven { user, post, what: Wish::Hide },
            UserEvent::FeedbackWithdrawn { user, post },
        ),
        (
            UserEvent::FeedbackGiven { user, post, what: Wish::Less },
            UserEvent::FeedbackWithdrawn { user, post },
        ),
        (read(7, 1, 2), UserEvent::ReadForgotten { user, post }),
    ] {
        let is_read = matches!(on, UserEvent::PostRead { .. });
        shard.deliver(at(3), on.clone());
        assert!(shard.recommend(7, 3).is_empty(), "{on:?}");
        let trend =
            Query::Trending { tag: None, window: None, reader: Some(user), wanted: wanted(10, 3) };
        assert!(ids(&shard.ask(trend)).is_empty(), "{on:?}");
        assert_eq!(ids(&shard.ask(following.clone())).is_empty(), !is_read, "{on:?}");
        shard.deliver(at(4), back);
        assert_eq!(shard.recommend(7, 4), [1], "{on:?}");
    }
}

#[test]
fn times_in_the_future_count_as_now() {
    let (mut early, mut late) = (Shard::new(), Shard::new());
    for (shard, ahead) in [(&mut early, 0), (&mut late, 1_000_000)] {
        let PostEvent::PostChanged { post, author, .. } = changed(1, 1, Visibility::Public, 0)
        else {
            unreachable!()
        };
        shard.observe(
            at(5),
            Fact::PostChanged {
                post,
                author: Some(author),
                version: 1,
                is_listed: true,
                published_at: at(5 + ahead),
                tags: Vec::new(),
                signature: Signature::default(),
            },
        );
        shard.observe(at(6), interacted(7, 1, 6 + ahead));
    }
    assert_eq!(early.service.copies.engine.digest(), late.service.copies.engine.digest());
}

#[test]
fn a_denial_by_the_owner_hides_the_version_that_was_shown() {
    let mut shard = Shard::new();
    shard.deliver(at(1), changed(1, 3, Visibility::Public, 1));
    let post = PostId(1);
    shard.observe(at(2), Fact::Denied { post, version: 2 });
    assert_eq!(shard.recommend(7, 3), [1], "that was about another version");
    shard.observe(at(2), Fact::Denied { post, version: 3 });
    assert!(shard.recommend(7, 3).is_empty());
    shard.deliver(at(4), changed(1, 3, Visibility::Public, 1));
    assert!(shard.recommend(7, 5).is_empty(), "known already");
    shard.deliver(at(4), changed(1, 4, Visibility::Public, 1));
    assert_eq!(shard.recommend(7, 5), [1]);
}

#[test]
fn questions_are_bounded() {
    let mut shard = Shard::new();
    for post in 0..400 {
        shard.deliver(at(post), changed(post, 1, Visibility::Public, post));
    }
    let exclude: Arc<[PostId]> = (0..3 * EXCLUDE_MAX as u64).map(PostId).rev().collect();
    let now = at(500);
    let many = Wanted { limit: usize::MAX, exclude: Arc::from([]), now, explain: false };
    let ranking = plain();
    let found = shard.ask(Query::Recommend { reader: UserId(1), wanted: many, ranking });
    assert!(found.items.len() <= LIMIT_MAX);
    let few = Wanted { limit: 10, exclude, now, explain: false };
    let reads: Arc<[PostId]> = (0..3 * EXCLUDE_MAX as u64).map(PostId).collect();
    let found = shard.ask(Query::RecommendSession { reads, wanted: few, ranking });
    assert!(found.items.is_empty(), "all are read or excluded");
}

#[test]
fn many_excluded_posts_do_not_bring_back_those_of_earlier_pages() {
    let mut shard = Shard::new();
    for post in 0..300 {
        shard.deliver(at(post), changed(post, 1, Visibility::Public, post));
    }
    let earlier = 60..300;
    let others = (10_000..).take(EXCLUDE_MAX);
    assert_eq!(earlier.clone().count(), EARLIER_MAX);
    let exclude: Arc<[PostId]> = earlier.clone().chain(others).map(PostId).collect();
    let wanted = Wanted { limit: LIMIT_MAX, exclude, now: at(400), explain: false };
    let found = shard.ask(Query::Recommend { reader: UserId(1), wanted, ranking: plain() });
    assert!(found.items.iter().all(|item| !earlier.contains(&item.post.0)));
    assert!(!found.items.is_empty());
}

#[test]
fn lists_leave_out_what_earlier_pages_had() {
    let mut shard = Shard::new();
    for post in 1..=4 {
        shard.deliver(at(post), changed(post, 1, Visibility::Public, post));
        shard.deliver(at(5), read(100 + post, post, 5));
    }
    let reader = UserId(7);
    shard.deliver(at(5), UserEvent::TagFollowChanged { user: reader, tag: "big".into(), on: true });
    let exclude: Arc<[PostId]> = Arc::from([PostId(4), PostId(2)]);
    let wanted = Wanted { limit: 10, exclude, now: at(6), explain: true };
    let trend = Query::Trending {
        tag: Some("red".into()),
        window: Some(0),
        reader: None,
        wanted: wanted.clone(),
    };
    let mut found = ids(&shard.ask(trend));
    found.sort_unstable();
    assert_eq!(found, [1, 3]);
    let found = shard.ask(Query::Following { reader, wanted: wanted.clone() });
    assert_eq!(ids(&found), [3, 1]);
    assert_eq!(found.items[0].reason, Some(Reason::FollowsTag("big".into())));
    shard.deliver(at(6), UserEvent::TagMuteChanged { user: reader, tag: "big".into(), on: true });
    let related = |reader| Query::Related { post: PostId(1), reader, wanted: wanted.clone() };
    assert!(ids(&shard.ask(related(Some(reader)))).is_empty());
}

/// Readers who only ever read one of two tags, through the log.
fn lessons(count: u64) -> Vec<(Stamp, Command)> {
    let mut log = Vec::new();
    for n in 0..count {
        for (post, tag) in [(2 * n, "red"), (2 * n + 1, "blue")] {
            let fact = Fact::PostChanged {
                post: PostId(post),
                author: Some(UserId(1_000_000 + post % 100)),
                version: 1,
                is_listed: true,
                published_at: at(n * 60),
                tags: vec![tag.to_owned()],
                signature: Signature::default(),
            };
            log.push((at(n * 60), Command::Observe { fact }));
        }
        let reader = mix(n) % 40;
        let fact = interacted(reader, 2 * n + reader % 2, n * 60 + 1);
        log.push((at(n * 60 + 1), Command::Observe { fact }));
    }
    log
}

/// What the runtime does on the leader: proposes what the service wants proposed.
fn lead(shard: &mut Shard, log: Vec<(Stamp, Command)>) -> Vec<(Stamp, Command)> {
    let mut whole = Vec::new();
    for (stamp, command) in log {
        whole.push((stamp, command.clone()));
        shard.apply(stamp, command);
        if shard.service.next_wake().is_some_and(|at| at <= stamp)
            && let Some(command) = shard.service.tick()
        {
            let stamp = Stamp(stamp.0 + 1);
            whole.push((stamp, command.clone()));
            shard.apply(stamp, command);
        }
    }
    whole
}

#[test]
fn the_leader_learns_and_replicas_only_take_values() {
    let mut leader = Shard::leader();
    let log = lead(&mut leader, lessons(600));
    let weights = log.iter().filter(|(_, it)| matches!(it, Command::SetWeights { .. })).count();
    assert!(weights > 300, "{weights}");
    assert!(leader.service.learning.lessons() > 400);
    let mut replica = Shard::new();
    for (stamp, command) in log {
        replica.apply(stamp, decode::<Command>(&encode(&command)).unwrap());
        assert_eq!(replica.service.next_wake(), None, "only the leader proposes");
    }
    assert_eq!(replica.service.learning.lessons(), 0);
    assert_eq!(replica.service.copies.engine.digest(), leader.service.copies.engine.digest());
    assert_eq!(replica.service.copies.engine.weights(), leader.service.copies.engine.weights());
    // And it helped: readers of red posts get red ones first.
    let mut first = 0;
    for reader in 0..40 {
        let found = replica.recommend(reader, 600 * 60 + 30);
        first += u32::from(found[0] % 2 == reader % 2);
    }
    assert!(first >= 34, "{first} of 40");
}

#[test]
fn the_same_log_gives_the_same_state_in_every_process() {
    let mut leader = Shard::new();
    for (stamp, command) in lessons(300) {
        leader.apply(stamp, command);
    }
    // Fixed: another process, another machine, another day. A change of the rules changes it.
    assert_eq!(format!("{:016x}", leader.service.copies.engine.digest()), GOLDEN);
}

const GOLDEN: &str = "ad99b075e9ca7351";

#[test]
fn weights_that_became_worse_are_taken_back_as_a_newer_version() {
    let mut shard = Shard::leader();
    let log = lead(&mut shard, lessons(1_500));
    let good = shard.service.copies.engine.weights().clone();
    shard.service.learning.spoil();
    let later = lessons(3_600).split_off(log.len().min(1_500 * 3));
    let log = lead(&mut shard, later);
    assert!(shard.service.learning.taken_back() > 0);
    let versions = log.iter().filter_map(|(_, command)| match command {
        Command::SetWeights { version, .. } => Some(*version),
        _ => None,
    });
    let versions: Vec<u64> = versions.collect();
    assert!(versions[0] > good.version() && versions.is_sorted_by(|a, b| a < b));
}

#[test]
fn unsound_weights_are_refused_and_old_ones_ignored() {
    let mut shard = Shard::new();
    let values = shard.service.copies.engine.weights().values().to_vec();
    let set = |version, values: &[f32]| Command::SetWeights { version, values: values.to_vec() };
    let refused = shard.try_apply(at(1), set(1, &values[1..]));
    assert_eq!(refused, Err(Error::UnsoundWeights));
    let mut broken = values.clone();
    broken[7] = f32::NAN;
    assert_eq!(shard.try_apply(at(1), set(1, &broken)), Err(Error::UnsoundWeights));
    shard.apply(at(1), set(5, &values));
    shard.apply(at(1), set(4, &values));
    assert_eq!(shard.service.copies.engine.weights().version(), 5);
}

#[test]
fn exposures_are_counted_and_taught_from() {
    let mut shard = Shard::leader();
    for (stamp, command) in lessons(100) {
        shard.apply(stamp, command);
    }
    let now = 100 * 60;
    let reader = UserId(3);
    let asked = Query::Recommend { reader, wanted: wanted(10, now), ranking: plain() };
    let found = shard.ask(asked);
    let place = |(position, post)| ShownPost {
        post,
        position,
        propensity: 1.0,
        is_explored: position == 1,
    };
    let posts = found.items.iter().map(|item| item.post);
    let shown: Vec<ShownPost> = (0_u16..).zip(posts).map(place).collect();
    let exposure = Exposure {
        request: "r".into(),
        reader: Some(reader),
        surface: "home".into(),
        variant: String::new(),
        weights_version: found.weights_version,
        posts: shown.clone(),
    };
    let digest = shard.service.copies.engine.digest();
    shard.apply(at(now), Command::LogExposures { exposures: vec![exposure] });
    assert_ne!(shard.service.copies.engine.digest(), digest, "to whom each was shown");
    let lessons = shard.service.learning.lessons();
    shard.observe(at(now + 5), interacted(3, shown[2].post.0, now + 5));
    assert_eq!(shard.service.learning.lessons(), lessons + 1);
}

fn interacted_at(reader: UserId, post: PostId) -> Fact {
    Fact::Interacted { reader, post, how: Interaction::Favorite, at: Stamp(5) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn any_bytes_are_decoded_without_panic(bytes: Vec<u8>) {
        let _ = decode::<Command>(&bytes);
        let _ = decode::<Command>(&[&[64, 1][..], &bytes].concat());
        let _ = decode::<Reply>(&bytes);
        let _ = decode::<Error>(&bytes);
    }
}
