//! A node with some users who write, read and hide at random, and what must be hidden from whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::eventually;
use crate::actors::post::message::{Command as PostCommand, Reader, Reply, Visibility};
use crate::actors::recommendation::message::{Method, Query as RecommendationQuery, Reason};
use crate::actors::replica::port::Replica;
use crate::actors::router::Call;
use crate::actors::supervisor::RestartCause;
use crate::actors::user::message::{
    Answer as UserAnswer, Attempt, Claimed, Command as UserCommand, Feedback, Query as UserQuery,
    Tag,
};
use crate::config::{Config, SHARD_PERMITS};
use crate::http::extract::ListReader;
use crate::http::recommendations::{Asked, List, Question, fetch};
use crate::http::v1::people;
use crate::http::v1::seen::Seen;
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::node::Node;
use crate::seams::{Random, Seams};

/// The seed of a run: `QUIRE_SEED` if that is set. It is printed, to repeat the run with.
pub(in crate::node) fn seed() -> u64 {
    let seed = std::env::var("QUIRE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| Random::system().any::<u64>());
    println!("QUIRE_SEED={seed}");
    seed
}

const USERS: u64 = 5;
/// Tags of posts; two of them are one.
const TAGS: [&str; 5] = ["Red", "red", "Blue", "tag", "É"];
/// Earlier pages that are continued.
const PAGES_MAX: usize = 10;
const SERVICES: &str = "quire/node/services";

/// What is hidden from whom, as the answers to writes say.
#[derive(Default)]
pub(in crate::node) struct Model {
    pub(in crate::node) posts: BTreeMap<PostId, Kept>,
    pub(super) deleted: BTreeSet<PostId>,
    /// Who follows, blocks, or mutes, whom.
    follows: BTreeSet<(UserId, UserId)>,
    blocks: BTreeSet<(UserId, UserId)>,
    mutes: BTreeSet<(UserId, UserId)>,
    /// In lower case.
    tag_mutes: BTreeSet<(UserId, String)>,
    hidden: BTreeSet<(UserId, PostId)>,
}

/// A post of the model.
pub(in crate::node) struct Kept {
    pub(super) author: UserId,
    pub(super) visibility: Visibility,
    tags: Vec<&'static str>,
}

impl Model {
    fn may_be_shown(&self, post: PostId, viewer: Option<UserId>) -> bool {
        let Some(Kept { author, visibility, tags }) = self.posts.get(&post) else { return false };
        let hides = |viewer: UserId| {
            self.blocks.contains(&(*author, viewer))
                || self.blocks.contains(&(viewer, *author))
                || self.mutes.contains(&(viewer, *author))
                || self.hidden.contains(&(viewer, post))
                || tags.iter().any(|tag| self.mutes_tag(viewer, tag))
        };
        *visibility == Visibility::Public
            && !self.deleted.contains(&post)
            && !viewer.is_some_and(hides)
    }

    fn may_be_said(&self, reason: &Reason, viewer: Option<UserId>) -> bool {
        match reason {
            Reason::BecauseRead(post) => self.may_be_shown(*post, viewer),
            Reason::Follows(author) => {
                viewer.is_some_and(|viewer| self.follows.contains(&(viewer, *author)))
            }
            Reason::FollowsTag(tag) | Reason::Interest(tag) => {
                !viewer.is_some_and(|viewer| self.mutes_tag(viewer, tag))
            }
            Reason::Trending | Reason::New | Reason::Exploring => true,
        }
    }

    fn mutes_tag(&self, viewer: UserId, tag: &str) -> bool {
        self.tag_mutes.contains(&(viewer, tag.to_lowercase()))
    }
}

/// What a run has seen: that it could have seen something.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(in crate::node) posts: usize,
    /// Of those, on further pages.
    pub(super) continued: usize,
    /// Of those who asked what to read next of a node that has a ranker: how many it answered.
    pub(super) ranked: usize,
    pub(super) asked: usize,
}

/// A page that was shown, to be continued later.
#[derive(Clone)]
struct Shelved {
    question: Question,
    viewer: Option<UserId>,
    cursor: String,
}

pub(in crate::node) struct Site {
    pub(in crate::node) node: Node,
    random: Random,
    pub(super) users: Vec<UserId>,
    pub(in crate::node) model: Model,
    pub(super) shown: Shown,
    pages: Vec<Shelved>,
    /// While the copy that ranks hears of nothing: what it would hear through.
    held: Option<Arc<dyn Replica>>,
    /// How often the ranker was made to panic.
    crashes: u64,
}

impl Site {
    pub(in crate::node) async fn start(folder: &tempfile::TempDir, shards: u16, seed: u64) -> Self {
        let data_dir = folder.path().join("data");
        let config = Config { data_dir, shards, ..Config::default() };
        let node = Node::start_offline(&config, Seams::system()).await.unwrap();
        node.wait_ready().await.unwrap();
        let mut site = Self {
            node,
            random: Random::seeded(seed),
            users: Vec::new(),
            model: Model::default(),
            shown: Shown::default(),
            pages: Vec::new(),
            held: None,
            crashes: 0,
        };
        for number in 0..USERS {
            let user = UserId::new(Stamp(1_000_000 + number), Bucket::new(number));
            let claimed = |text: String| Claimed {
                shown: text.clone(),
                normal: text,
                attempt: Attempt(number),
            };
            site.tell_users(UserCommand::CreateUser {
                user,
                name: claimed(format!("user-{number}")),
                email: claimed(format!("user-{number}@example.org")),
                password_hash: None,
                bio: None,
                image: None,
                created_at: None,
            })
            .await;
            site.users.push(user);
        }
        site
    }

    pub(in crate::node) async fn tell_users(&self, command: UserCommand) {
        self.node.app.users.command(Call::new(), command).await.unwrap();
    }

    async fn tell_posts(&self, command: PostCommand) -> Reply {
        self.node.app.posts.command(Call::new(), command).await.unwrap()
    }

    pub(in crate::node) fn below(&self, number: usize) -> usize {
        (self.random.any::<u64>() % number as u64) as usize
    }

    pub(in crate::node) fn any_user(&self) -> UserId {
        self.users[self.below(self.users.len())]
    }

    pub(in crate::node) fn any_post(&self) -> Option<(PostId, UserId)> {
        let living: Vec<_> = self.model.posts.iter().collect();
        let living: Vec<_> =
            living.into_iter().filter(|(post, _)| !self.model.deleted.contains(post)).collect();
        let (post, kept) = living.get(self.below(living.len().max(1)))?;
        Some((**post, kept.author))
    }

    async fn list_reader(&self, user: UserId) -> ListReader {
        let query = UserQuery::GetReader { user };
        match self.node.app.users.query(Call::new(), user.bucket(), query).await.unwrap() {
            UserAnswer::Reader(viewer, hidden) => ListReader::new(viewer, hidden),
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::node) async fn publish(&mut self) -> PostId {
        let any_tag = || TAGS[self.below(TAGS.len())];
        let tags: Vec<_> = (0..self.below(3)).map(|_| any_tag()).collect();
        self.publish_by(self.any_user(), &tags).await
    }

    pub(super) async fn publish_by(&mut self, author: UserId, tags: &[&'static str]) -> PostId {
        let reply = self
            .tell_posts(PostCommand::CreatePost {
                bucket: Bucket::new(self.random.any()),
                author,
                title: "Title".to_owned(),
                description: String::new(),
                body: "Some words that a text has".to_owned(),
                tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
                visibility: Visibility::Public,
                publish_at: None,
                link_token: [7; 16],
                created_at: None,
                import: None,
            })
            .await;
        let Reply::Post { id, .. } = reply else { panic!("{reply:?}") };
        let kept = Kept { author, visibility: Visibility::Public, tags: tags.to_vec() };
        self.model.posts.insert(id, kept);
        id
    }

    pub(super) async fn set_block(&mut self, user: UserId, target: UserId, on: bool) {
        people::set_block(&self.node.app, user, target, on).await.unwrap();
        set(&mut self.model.blocks, (user, target), on);
    }

    pub(super) async fn set_mute(&mut self, user: UserId, target: UserId, on: bool) {
        self.tell_users(UserCommand::SetMute { user, target, on }).await;
        set(&mut self.model.mutes, (user, target), on);
    }

    pub(super) async fn set_follow(&mut self, user: UserId, target: UserId, on: bool) {
        self.tell_users(UserCommand::SetFollow { user, target, on }).await;
        set(&mut self.model.follows, (user, target), on);
    }

    pub(super) async fn set_tag_mute(&mut self, user: UserId, tag: &str, on: bool) {
        let normal = tag.to_lowercase();
        let named = Tag { shown: tag.to_owned(), normal: normal.clone() };
        self.tell_users(UserCommand::SetTagMute { user, tag: named, on }).await;
        set(&mut self.model.tag_mutes, (user, normal), on);
    }

    pub(super) async fn hide(&mut self, user: UserId, post: PostId) {
        self.tell_users(UserCommand::GiveFeedback { user, post, what: Feedback::Hide }).await;
        self.model.hidden.insert((user, post));
    }

    async fn publish_again(&mut self, post: PostId, author: UserId) {
        let all = [Visibility::Public, Visibility::Followers, Visibility::Unlisted];
        let visibility = all[self.below(all.len())];
        let (editor, at, link_token) = (editor(author), None, [7; 16]);
        let publish = PostCommand::PublishPost { post, editor, visibility, at, link_token };
        self.tell_posts(publish).await;
        self.seen_as(post, visibility);
    }

    fn seen_as(&mut self, post: PostId, visibility: Visibility) {
        self.model.posts.get_mut(&post).unwrap().visibility = visibility;
    }

    /// One write, of any kind, or a disturbance, and what it means.
    pub(in crate::node) async fn change(&mut self) {
        let (user, other) = (self.any_user(), self.any_user());
        let (on, mostly) = (self.below(2) == 0, self.below(3) > 0);
        match (self.below(22), self.any_post()) {
            (0..=4, _) | (_, None) => drop(self.publish().await),
            (5, Some((post, author))) => {
                let editor = editor(author);
                self.tell_posts(PostCommand::UnpublishPost { post, editor }).await;
                self.seen_as(post, Visibility::Draft);
            }
            (6 | 7, Some((post, author))) => self.publish_again(post, author).await,
            (8, Some((post, author))) => {
                let (editor, if_version) = (editor(author), None);
                self.tell_posts(PostCommand::DeletePost { post, editor, if_version }).await;
                self.model.deleted.insert(post);
            }
            (9, Some(_)) if user != other => self.set_block(user, other, on).await,
            (10, Some(_)) if user != other => self.set_mute(user, other, on).await,
            (11 | 12, Some(_)) if user != other => self.set_follow(user, other, mostly).await,
            (13, Some(_)) => {
                let tag = TAGS[self.below(TAGS.len())];
                self.set_tag_mute(user, tag, on).await;
            }
            (14, Some((post, _))) => self.hide(user, post).await,
            (15, Some((post, _))) => {
                self.tell_users(UserCommand::WithdrawFeedback { user, post }).await;
                self.model.hidden.remove(&(user, post));
            }
            (16, Some(_)) => self.crash_something().await,
            (17, Some(_)) => self.disturb_a_relay(),
            (_, Some((post, _))) => {
                let at = self.node.app.seams.clock.now();
                self.tell_users(UserCommand::RecordRead { user, post, at }).await;
            }
        }
    }

    async fn crash_something(&mut self) {
        let app = &self.node.app;
        match self.below(3) {
            0 => app.posts.crash(self.below(app.posts.shards().into()) as u16),
            1 => app.users.crash(self.below(app.users.shards().into()) as u16),
            _ => {
                self.let_events_go();
                self.ranker_crashed_only_on_purpose().await;
                self.crashes += 1;
                self.node.app.recommendations.crash(0);
            }
        }
    }

    /// What a source said last is said again, and later than what the others say.
    fn disturb_a_relay(&self) {
        let service = ["post", "user"][self.below(2)];
        let shard = self.below(self.node.app.posts.shards().into());
        let relay = format!("{SERVICES}/{service}/{shard}/relay");
        // It may be just starting.
        let _ = self.node.tree().restart_child(&relay, RestartCause::Operator);
    }

    /// From now on the copy that ranks takes nothing in; it answers from what it knows.
    pub(super) async fn hold_events(&mut self) {
        if self.held.is_none() {
            // A ranker that is just starting would not answer at all.
            self.ranker_crashed_only_on_purpose().await;
        }
        let slot = self.node.app.recommendations.cell(0).replica_slot();
        self.held = slot.send_replace(None).or(self.held.take());
    }

    /// The copy hears what it has missed.
    pub(super) fn let_events_go(&mut self) {
        let slot = self.node.app.recommendations.cell(0).replica_slot();
        if let Some(held) = self.held.take() {
            slot.send_if_modified(|replica| {
                let is_gone = replica.is_none();
                replica.get_or_insert(held);
                is_gone
            });
        }
    }

    /// The ranker has failed as often as it was made to, and serves.
    pub(super) async fn ranker_crashed_only_on_purpose(&self) {
        eventually("it was restarted", async || self.ranker_crashes() >= self.crashes).await;
        let app = &self.node.app;
        let is_up = app.recommendations.query_shard(Call::new(), 0, RecommendationQuery::Status);
        is_up.await.unwrap();
        assert_eq!(self.ranker_crashes(), self.crashes, "the ranker has panicked");
    }

    fn ranker_crashes(&self) -> u64 {
        let path = format!("{SERVICES}/recommendation/0/shard");
        self.node.tree().snapshot().find(&path).unwrap().restarts.crash
    }

    pub(super) async fn ask(
        &self,
        question: Question,
        viewer: Option<UserId>,
        exclude: &[PostId],
    ) -> List {
        let reader = match viewer {
            Some(user) => self.list_reader(user).await,
            None => ListReader::nobody(),
        };
        let asked = Asked {
            question,
            reader,
            limit: 20,
            exclude: exclude.into(),
            explain: true,
            surface: "home".to_owned(),
            request: "r".to_owned(),
        };
        fetch(&self.node.app, asked).await.unwrap()
    }

    /// Asks everything that can be asked, sometimes without the ranker, and checks that nothing of
    /// it is hidden.
    pub(super) async fn check(&mut self) {
        let viewer = (self.below(4) > 0).then(|| self.any_user());
        let reads: Vec<PostId> = (0..4).filter_map(|_| Some(self.any_post()?.0)).collect();
        let mut questions = vec![
            (Question::Next([].into()), viewer),
            (Question::Next(reads.into()), None),
            (Question::Trending { tag: None, window: None }, viewer),
            (Question::Trending { tag: Some("Tag".to_owned()), window: Some(2) }, viewer),
            (Question::Following, viewer),
        ];
        questions.extend(self.any_post().map(|(post, _)| (Question::Related(post), viewer)));
        let cell = self.node.app.recommendations.cell(0);
        let permits = cell.query_permits.clone();
        let is_ranked = self.below(6) > 0;
        let taken = match is_ranked {
            true => None,
            false => Some(permits.acquire_many_owned(SHARD_PERMITS as u32).await.unwrap()),
        };
        for (question, viewer) in questions {
            let list = self
                .looked_at(question.clone(), viewer, &Seen::of_cursor(None, &[]).unwrap())
                .await;
            if is_ranked && matches!(question, Question::Next(_)) {
                self.shown.asked += 1;
                self.shown.ranked += usize::from(list.method == Method::Ranker);
            }
        }
        if let Some(Shelved { question, viewer, cursor }) = self.any_page() {
            let seen = Seen::of_cursor(Some(&cursor), &[]).unwrap();
            self.shown.continued += self.looked_at(question, viewer, &seen).await.posts.len();
        }
        drop(taken);
        // Who asks sees no more of a panic than another way of ranking.
        assert!(self.ranker_crashes() <= self.crashes, "the ranker has panicked");
    }

    fn any_page(&self) -> Option<Shelved> {
        let place = self.below(self.pages.len().max(1));
        self.pages.get(place).cloned()
    }

    /// A page of an answer, whose beginning may be continued one day.
    async fn looked_at(&mut self, question: Question, viewer: Option<UserId>, seen: &Seen) -> List {
        let list = self.ask(question.clone(), viewer, seen.posts()).await;
        for found in &list.posts {
            let post = found.view.summary.id;
            let is_seen = self.model.may_be_shown(post, viewer);
            assert!(is_seen, "{question:?} shows {post} to {viewer:?} by {:?}", list.method);
            assert!(!seen.posts().contains(&post), "{question:?} shows {post} again");
            let Some(reason) = &found.reason else { continue };
            assert!(self.model.may_be_said(reason, viewer), "{reason:?} is told {viewer:?}");
        }
        self.shown.posts += list.posts.len();
        let page: Vec<PostId> =
            list.posts.iter().take(3).map(|found| found.view.summary.id).collect();
        if let Some(cursor) = seen.cursor_after(&page) {
            if self.pages.len() >= PAGES_MAX {
                self.pages.swap_remove(self.below(PAGES_MAX));
            }
            self.pages.push(Shelved { question, viewer, cursor });
        }
        list
    }
}

fn set<T: Ord>(all: &mut BTreeSet<T>, one: T, on: bool) {
    match on {
        true => all.insert(one),
        false => all.remove(&one),
    };
}

fn editor(id: UserId) -> Reader {
    Reader { id, follows_author: false, blocked_by_author: false, link_token: None }
}
