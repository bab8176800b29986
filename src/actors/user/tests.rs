mod bytes;
mod choices;
mod history;

use super::message::{Attempt, ClaimKind, Claimed, ExportPart, ExportedUser, Feedback, Read, Tag};
use super::*;
use crate::ids::PostId;
use crate::store::codec::{decode, encode};
use crate::store::tables::TestTables;

const DAVE: UserId = UserId(4096);
const EVE: UserId = UserId(8192);

struct World {
    tables: TestTables,
    service: Service,
    now: u64,
    /// What the last command changed the answers about.
    changed: Changed,
}

impl World {
    fn new() -> Self {
        let tables = TestTables::new(Service::TABLES);
        let service = tables.read(Service::load).unwrap();
        Self { tables, service, now: 1_000_000, changed: Changed::Anything }
    }

    fn run(&mut self, command: Command) -> Result<Outcome<Reply, Event>, Error> {
        self.now += 1;
        let stamp = Stamp(self.now);
        let service = &mut self.service;
        let outcome = self.tables.apply(|tables| service.apply(tables, stamp, command));
        match outcome {
            Ok(outcome) => {
                self.changed = self.service.changed();
                self.service.committed();
                Ok(outcome)
            }
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Store(error)) => panic!("{error}"),
        }
    }

    fn done(&mut self, command: Command) {
        assert_eq!(self.run(command).unwrap().reply, Reply::Done);
    }

    fn ask(&mut self, mut query: Query) -> Result<Answer, Error> {
        let service = &mut self.service;
        match self.tables.read(|tables| service.query(tables, &mut query)) {
            Ok(Step::Done(answer)) => Ok(answer),
            Ok(Step::Again) => panic!("no query of the user service is long"),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Store(error)) => panic!("{error}"),
        }
    }

    fn viewer(&mut self, user: UserId) -> Arc<Viewer> {
        let Answer::Viewer(viewer) = self.ask(Query::GetViewer { user }).unwrap() else {
            panic!("another answer")
        };
        viewer
    }
}

fn claimed(text: &str, attempt: u64) -> Claimed {
    Claimed { shown: text.into(), normal: text.to_lowercase(), attempt: Attempt(attempt) }
}

fn create(user: UserId, name: &str, attempt: u64) -> Command {
    Command::CreateUser {
        user,
        name: claimed(name, attempt),
        email: claimed(&format!("{name}@example.org"), attempt + 1),
        password_hash: Some("hash".into()),
        bio: None,
        image: None,
        created_at: None,
    }
}

fn claim(owner: UserId, attempt: u64) -> Command {
    Command::Claim {
        kind: ClaimKind::Name,
        normal: "dave".into(),
        owner,
        attempt: Attempt(attempt),
    }
}

#[test]
fn a_young_claim_is_taken_and_an_old_one_must_be_settled() {
    let mut world = World::new();
    let held = Reply::Claimed(Attempt(1));
    assert_eq!(world.run(claim(DAVE, 1)).unwrap().reply, held);
    assert_eq!(world.run(claim(DAVE, 2)).unwrap().reply, held, "one settle settles all");
    assert_eq!(world.run(claim(EVE, 3)).unwrap_err(), Error::Taken(ClaimKind::Name));
    world.now += CLAIM_EXPIRY_MICROS;
    let stale = Error::Stale { owner: DAVE, attempt: Attempt(1) };
    assert_eq!(world.run(claim(EVE, 4)).unwrap_err(), stale);
}

const CLAIM_EXPIRY_MICROS: u64 = crate::config::CLAIM_EXPIRY.as_micros() as u64;

#[test]
fn a_settled_attempt_creates_nothing_any_more() {
    let mut world = World::new();
    let settle = |user, attempt| Command::SettleClaim {
        user,
        kind: ClaimKind::Name,
        normal: "dave".into(),
        attempt: Attempt(attempt),
    };
    assert_eq!(world.run(settle(DAVE, 1)).unwrap().reply, Reply::Borne(false));
    assert_eq!(world.run(create(DAVE, "Dave", 1)).unwrap_err(), Error::ClaimVoid);
    world.run(create(DAVE, "Dave", 10)).unwrap();
    assert_eq!(world.run(settle(DAVE, 10)).unwrap().reply, Reply::Borne(true));
    world.run(create(DAVE, "Dave", 10)).unwrap();
    assert_eq!(world.run(create(DAVE, "Dave", 20)).unwrap_err(), Error::IdTaken);
}

#[test]
fn a_claim_is_released_only_by_its_attempt() {
    let mut world = World::new();
    let release = |attempt| Command::Release {
        kind: ClaimKind::Name,
        normal: "dave".into(),
        owner: DAVE,
        attempt: Attempt(attempt),
    };
    let owner = Query::ResolveClaim { kind: ClaimKind::Name, normal: "dave".into() };
    world.run(claim(DAVE, 2)).unwrap();
    world.done(release(1));
    assert!(matches!(world.ask(owner.clone()).unwrap(), Answer::Owner(Some(DAVE))));
    world.done(release(2));
    assert!(matches!(world.ask(owner).unwrap(), Answer::Owner(None)));
}

#[test]
fn a_new_password_ends_the_tokens_and_a_new_name_does_not() {
    let mut world = World::new();
    world.run(create(DAVE, "Dave", 1)).unwrap();
    assert_eq!(world.viewer(DAVE).token_generation, 1);
    let update = |name, password_hash| Command::UpdateUser {
        user: DAVE,
        name,
        email: None,
        password_hash,
        bio: Some(Some("b".into())),
        image: None,
    };
    let reply = world.run(update(Some(claimed("David", 7)), None)).unwrap().reply;
    let Reply::Account { account, released } = reply else { panic!("another reply") };
    assert_eq!((account.username.as_str(), account.bio.as_deref()), ("David", Some("b")));
    assert_eq!(released, [(ClaimKind::Name, "dave".to_owned(), Attempt(1))]);
    assert_eq!(world.viewer(DAVE).token_generation, 1);
    world.run(update(None, Some("other".into()))).unwrap();
    assert_eq!(world.viewer(DAVE).token_generation, 2);
    let missing = Command::UpdateUser {
        user: EVE,
        name: None,
        email: None,
        password_hash: None,
        bio: None,
        image: None,
    };
    assert_eq!(world.run(missing).unwrap_err(), Error::NotFound);
}

/// Who keeps answers about users finds each that a command changes named by it, and no other.
#[test]
fn what_a_command_changes_it_names() {
    let mut world = World::new();
    for (user, name) in [(DAVE, "dave"), (EVE, "eve")] {
        world.run(create(user, name, user.0)).unwrap();
    }
    let kept = |world: &mut World, user: UserId| {
        let cards = world.ask(Query::GetCards { users: vec![user] });
        format!("{cards:?} {:?}", world.ask(Query::GetReader { user }))
    };
    let (user, target, post) = (DAVE, EVE, PostId(9));
    let update = |name, password_hash: Option<&str>, bio: Option<&str>| {
        let (password_hash, bio) = (password_hash.map(str::to_owned), Some(bio.map(str::to_owned)));
        Command::UpdateUser { user, name, email: None, password_hash, bio, image: None }
    };
    let tag = || Tag { shown: "Red".to_owned(), normal: "red".to_owned() };
    let commands = [
        update(None, None, Some("bio")),
        update(Some(claimed("david", 7)), None, None),
        update(None, Some("hash"), None),
        Command::SetFollow { user, target, on: true },
        Command::SetMute { user, target, on: true },
        Command::SetBlock { user, target, on: true },
        Command::SetBlockedBy { user, blocker: target, on: true },
        Command::SetTagFollow { user, tag: tag(), on: true },
        Command::SetTagMute { user, tag: tag(), on: true },
        Command::GiveFeedback { user, post, what: Feedback::Hide },
        Command::WithdrawFeedback { user, post },
        Command::SetMute { user, target, on: false },
        Command::SetBlock { user, target, on: false },
        Command::SetBlockedBy { user, blocker: target, on: false },
        Command::SetTagMute { user, tag: tag(), on: false },
        Command::RecordRead { user, post, at: Stamp(5) },
        Command::ForgetHistory { user },
    ];
    let mut changes = 0;
    for command in commands {
        let told = format!("{command:?}");
        let before = kept(&mut world, user);
        world.run(command).unwrap();
        let changed = before != kept(&mut world, user);
        let named = world.changed == Changed::Slots(vec![Slot::of(&user)]);
        assert!(named || (world.changed == Changed::Slots(vec![]) && !changed), "{told}");
        changes += usize::from(changed);
    }
    assert_eq!(changes, 14);
}

#[test]
fn edges_are_idempotent_and_seen_at_once() {
    let mut world = World::new();
    world.run(create(DAVE, "Dave", 1)).unwrap();
    let follow = |on| Command::SetFollow { user: DAVE, target: EVE, on };
    assert!(world.viewer(DAVE).follows.is_empty());
    assert_eq!(world.run(follow(true)).unwrap().events.len(), 1);
    assert_eq!(world.run(follow(true)).unwrap().events.len(), 0, "a repetition is no event");
    assert!(world.viewer(DAVE).follows(EVE));
    world.done(Command::SetMute { user: DAVE, target: EVE, on: true });
    world.done(Command::SetBlockedBy { user: DAVE, blocker: EVE, on: true });
    assert_eq!(world.viewer(DAVE).mutes, [EVE]);
    assert!(world.viewer(DAVE).is_blocked_by(EVE));
    world.done(follow(false));
    world.done(Command::SetBlockedBy { user: DAVE, blocker: EVE, on: false });
    assert!(!world.viewer(DAVE).follows(EVE));
    assert!(!world.viewer(DAVE).is_blocked_by(EVE));
    let oneself = Command::SetFollow { user: DAVE, target: DAVE, on: true };
    assert_eq!(world.run(oneself).unwrap_err(), Error::Yourself);
}

#[test]
fn a_user_has_only_so_many_edges() {
    let mut world = World::new();
    world.run(create(DAVE, "Dave", 1)).unwrap();
    // As a program left them that did not count.
    world
        .tables
        .apply(|tables| {
            for target in 0..u64::from(EDGES_MAX) {
                let key = tables::edge_key(DAVE, UserId(target << 13));
                tables.put(tables::FOLLOWS, key, tables::empty());
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    let one_more = Command::SetFollow { user: DAVE, target: UserId(3), on: true };
    world.done(Command::SetFollow { user: DAVE, target: UserId(0), on: false });
    world.done(one_more);
    let too_many = Command::SetFollow { user: DAVE, target: UserId(1), on: true };
    assert_eq!(world.run(too_many).unwrap_err(), Error::TooManyEdges(EDGES_MAX));
}

#[test]
fn edges_are_counted_and_not_walked_over() {
    let mut world = World::new();
    world.run(create(DAVE, "Dave", 1)).unwrap();
    let count = |world: &World, table| {
        let key = tables::edge_count_key(DAVE, table);
        let row = world.tables.read(|tables| tables.get(tables::EDGE_COUNTS, &key)).unwrap();
        row.map(|row| decode::<tables::EdgeCountRow>(&row).unwrap().edges)
    };
    let follow = |target, on| Command::SetFollow { user: DAVE, target: UserId(target), on };
    assert_eq!(count(&world, tables::FOLLOWS), None);
    for (target, on, follows) in
        [(1, true, 1), (2, true, 2), (2, true, 2), (3, false, 2), (1, false, 1), (3, true, 2)]
    {
        world.done(follow(target, on));
        assert_eq!(count(&world, tables::FOLLOWS), Some(follows));
    }
    world.done(Command::SetMute { user: DAVE, target: EVE, on: true });
    assert_eq!(count(&world, tables::MUTES), Some(1), "each kind by itself");
    // A count is believed, and one that is missing is made up for.
    let key = || tables::edge_count_key(DAVE, tables::FOLLOWS);
    let set = |world: &mut World, edges| {
        let row = encode(&tables::EdgeCountRow { edges });
        let put = |tables: &mut Tables<'_>| {
            tables.put(tables::EDGE_COUNTS, key(), row);
            Ok::<_, ()>(())
        };
        world.tables.apply(put).unwrap();
    };
    set(&mut world, EDGES_MAX);
    let refused = world.run(follow(9, true)).unwrap_err();
    assert_eq!(refused, Error::TooManyEdges(EDGES_MAX));
    let forget = |tables: &mut Tables<'_>| {
        tables.delete(tables::EDGE_COUNTS, key());
        Ok::<_, ()>(())
    };
    world.tables.apply(forget).unwrap();
    world.done(follow(2, false));
    assert_eq!(count(&world, tables::FOLLOWS), Some(1));
}

#[test]
fn reads_go_to_the_history_once() {
    let mut world = World::new();
    world.run(create(DAVE, "Dave", 1)).unwrap();
    let read = |at| Command::RecordRead { user: DAVE, post: PostId(7), at: Stamp(at) };
    assert_eq!(world.run(read(5)).unwrap().events.len(), 1);
    assert_eq!(world.run(read(5)).unwrap().events.len(), 0);
    assert_eq!(world.run(read(u64::MAX / 2)).unwrap_err(), Error::InTheFuture);
    let users = exported(&mut world, UserId(0), ExportPart::Reads);
    assert_eq!(users[0].reads, [Read { post: PostId(7), at: Stamp(5), depth: None }]);
}

fn exported(world: &mut World, after: UserId, part: ExportPart) -> Vec<ExportedUser> {
    match world.ask(Query::Export { after, limit: 10, part }).unwrap() {
        Answer::Exported(users) => users,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_page_of_an_export_has_what_was_asked_for_and_ends_early_when_that_is_much() {
    let mut world = World::new();
    world.run(create(DAVE, "Dave", 1)).unwrap();
    world.run(create(EVE, "Eve", 3)).unwrap();
    for post in 0..5_000 {
        world.run(Command::RecordRead { user: DAVE, post: PostId(post), at: Stamp(5) }).unwrap();
    }
    let page = exported(&mut world, UserId(0), ExportPart::Reads);
    assert_eq!((page.len(), page[0].reads.len()), (1, 5_000));
    assert_eq!(exported(&mut world, DAVE, ExportPart::Reads).len(), 1);
    for part in [ExportPart::Accounts, ExportPart::Follows, ExportPart::Tags, ExportPart::Feedback]
    {
        let page = exported(&mut world, UserId(0), part);
        assert!(page.len() == 2 && page.iter().all(|user| user.reads.is_empty()));
    }
}

#[test]
fn a_refused_command_leaves_caches_and_tables_alone() {
    let mut world = World::new();
    world.run(create(DAVE, "Dave", 1)).unwrap();
    let before = world.viewer(DAVE);
    world.run(Command::SetFollow { user: DAVE, target: DAVE, on: true }).unwrap_err();
    assert!(Arc::ptr_eq(&before, &world.viewer(DAVE)));
}
