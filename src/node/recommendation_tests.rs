//! Recommendations of a whole node: nothing hidden ever shows, whoever crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Node;
use crate::actors::post::message::{
    Answer as PostAnswer, Command as PostCommand, Query as PostQuery, Reader, Reply, Visibility,
};
use crate::actors::recommendation::engine::Engine;
use crate::actors::recommendation::engine::event::{Event as Fact, Interaction};
use crate::actors::recommendation::engine::settings::Settings;
use crate::actors::recommendation::message::{
    Answer as RecommendationAnswer, Method, Query as RecommendationQuery, Reason,
};
use crate::actors::router::Call;
use crate::actors::supervisor::RestartCause;
use crate::actors::user::message::{
    Answer as UserAnswer, Attempt, Claimed, Command as UserCommand, Query as UserQuery, Viewer,
};
use crate::config::{Config, SHARD_PERMITS};
use crate::http::recommendations::{Asked, List, Question, fetch};
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::seams::{Random, Seams};

const USERS: u64 = 5;

/// What is hidden from whom, as the answers to writes say.
#[derive(Default)]
struct Model {
    posts: BTreeMap<PostId, (UserId, Visibility)>,
    deleted: BTreeSet<PostId>,
    /// Who blocks, or mutes, whom.
    blocks: BTreeSet<(UserId, UserId)>,
    mutes: BTreeSet<(UserId, UserId)>,
}

impl Model {
    fn may_be_shown(&self, post: PostId, viewer: Option<UserId>) -> bool {
        let Some((author, visibility)) = self.posts.get(&post) else { return false };
        let hides = |viewer: UserId| {
            self.blocks.contains(&(*author, viewer)) || self.mutes.contains(&(viewer, *author))
        };
        *visibility == Visibility::Public
            && !self.deleted.contains(&post)
            && !viewer.is_some_and(hides)
    }
}

struct Site {
    node: Node,
    random: Random,
    users: Vec<UserId>,
    model: Model,
}

impl Site {
    async fn start(folder: &tempfile::TempDir, shards: u16, seed: u64) -> Self {
        let data_dir = folder.path().join("data");
        let config = Config { data_dir, shards, ..Config::default() };
        let node = Node::start_offline(&config, Seams::system()).await.unwrap();
        node.wait_ready().await.unwrap();
        let mut site =
            Self { node, random: Random::seeded(seed), users: Vec::new(), model: Model::default() };
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

    async fn tell_users(&self, command: UserCommand) {
        self.node.app.users.command(Call::new(), command).await.unwrap();
    }

    async fn tell_posts(&self, command: PostCommand) -> Reply {
        self.node.app.posts.command(Call::new(), command).await.unwrap()
    }

    fn below(&self, number: usize) -> usize {
        (self.random.any::<u64>() % number as u64) as usize
    }

    fn any_user(&self) -> UserId {
        self.users[self.below(self.users.len())]
    }

    fn any_post(&self) -> Option<(PostId, UserId)> {
        let living: Vec<_> = self.model.posts.iter().collect();
        let living: Vec<_> =
            living.into_iter().filter(|(post, _)| !self.model.deleted.contains(post)).collect();
        let (post, (author, _)) = living.get(self.below(living.len().max(1)))?;
        Some((**post, *author))
    }

    async fn viewer(&self, user: UserId) -> Arc<Viewer> {
        let query = UserQuery::GetViewer { user };
        match self.node.app.users.query(Call::new(), user.bucket(), query).await.unwrap() {
            UserAnswer::Viewer(viewer) => viewer,
            other => panic!("{other:?}"),
        }
    }

    async fn publish(&mut self) -> PostId {
        let author = self.any_user();
        let reply = self
            .tell_posts(PostCommand::CreatePost {
                bucket: Bucket::new(self.random.any()),
                author,
                title: "Title".to_owned(),
                description: String::new(),
                body: "Some words that a text has".to_owned(),
                tags: vec!["tag".to_owned()],
                visibility: Visibility::Public,
                publish_at: None,
                link_token: [7; 16],
                created_at: None,
                import: None,
            })
            .await;
        let Reply::Post { id, .. } = reply else { panic!("{reply:?}") };
        self.model.posts.insert(id, (author, Visibility::Public));
        id
    }

    /// One write, of any kind, and what it means.
    async fn change(&mut self) {
        let (user, other) = (self.any_user(), self.any_user());
        let editor =
            |id| Reader { id, follows_author: false, blocked_by_author: false, link_token: None };
        let on = self.below(3) > 0;
        match (self.below(12), self.any_post()) {
            (0..=2, _) | (_, None) => {
                self.publish().await;
            }
            (3, Some((post, author))) => {
                let editor = editor(author);
                self.tell_posts(PostCommand::UnpublishPost { post, editor }).await;
                self.model.posts.insert(post, (author, Visibility::Draft));
            }
            (4 | 5, Some((post, author))) => {
                let all = [Visibility::Public, Visibility::Followers, Visibility::Unlisted];
                let visibility = all[self.below(all.len())];
                let (editor, at, link_token) = (editor(author), None, [7; 16]);
                let publish = PostCommand::PublishPost { post, editor, visibility, at, link_token };
                self.tell_posts(publish).await;
                self.model.posts.insert(post, (author, visibility));
            }
            (6, Some((post, author))) => {
                let (editor, if_version) = (editor(author), None);
                self.tell_posts(PostCommand::DeletePost { post, editor, if_version }).await;
                self.model.deleted.insert(post);
            }
            (7, Some(_)) if user != other => {
                self.tell_users(UserCommand::SetBlock { user, target: other, on }).await;
                self.tell_users(UserCommand::SetBlockedBy { user: other, blocker: user, on }).await;
                match on {
                    true => self.model.blocks.insert((user, other)),
                    false => self.model.blocks.remove(&(user, other)),
                };
            }
            (8, Some(_)) if user != other => {
                self.tell_users(UserCommand::SetMute { user, target: other, on }).await;
                match on {
                    true => self.model.mutes.insert((user, other)),
                    false => self.model.mutes.remove(&(user, other)),
                };
            }
            (9, Some(_)) => self.crash_something(),
            (_, Some((post, _))) => {
                let at = self.node.app.seams.clock.now();
                self.tell_users(UserCommand::RecordRead { user, post, at }).await;
            }
        }
    }

    fn crash_something(&self) {
        let app = &self.node.app;
        match self.below(3) {
            0 => app.posts.crash(self.below(app.posts.shards().into()) as u16),
            1 => app.users.crash(self.below(app.users.shards().into()) as u16),
            _ => app.recommendations.crash(0),
        }
    }

    async fn ask(&self, question: Question, viewer: Option<UserId>) -> List {
        let viewer = match viewer {
            Some(user) => Some(self.viewer(user).await),
            None => None,
        };
        let asked = Asked {
            question,
            viewer,
            limit: 20,
            exclude: [].into(),
            surface: "home".to_owned(),
            request: "r".to_owned(),
        };
        fetch(&self.node.app, asked).await.unwrap()
    }

    /// Asks everything that can be asked, and checks that nothing of it is hidden.
    async fn check(&self) -> usize {
        let viewer = (self.below(4) > 0).then(|| self.any_user());
        let mut questions = vec![
            Question::Next([].into()),
            Question::Trending { tag: None, window: None },
            Question::Trending { tag: Some("Tag".to_owned()), window: Some(2) },
            Question::Following,
        ];
        questions.extend(self.any_post().map(|(post, _)| Question::Related(post)));
        let mut shown = 0;
        for question in questions {
            let list = self.ask(question.clone(), viewer).await;
            for found in &list.posts {
                let post = found.view.summary.id;
                let is_seen = self.model.may_be_shown(post, viewer);
                assert!(is_seen, "{question:?} shows {post} to {viewer:?}");
                if let Some(Reason::BecauseRead(read)) = &found.reason {
                    assert!(self.model.may_be_shown(*read, viewer), "a reason names {read}");
                }
                shown += 1;
            }
        }
        shown
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hidden_shows_after_the_answer_to_the_write_that_hides_it() {
    let seed = std::env::var("QUIRE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| Random::system().any::<u64>());
    println!("QUIRE_SEED={seed}");
    for (shards, seed) in [(1, seed), (3, seed.wrapping_add(1))] {
        let folder = tempfile::tempdir().unwrap();
        let mut site = Site::start(&folder, shards, seed).await;
        let mut shown = 0;
        for _ in 0..120 {
            site.change().await;
            shown += site.check().await;
        }
        assert!(shown > 100, "something is shown at all: {shown}");
        site.node.stop().await.unwrap();
    }
}

/// A post that is published now is there for everybody within a moment; a node without its ranker
/// shows what is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_post_is_recommended_and_a_ranker_that_cannot_answer_is_replaced_by_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&folder, 1, 7).await;
    let post = site.publish().await;
    let (author, _) = site.model.posts[&post];
    let reader = *site.users.iter().find(|user| **user != author).unwrap();
    let question = || Question::Next([].into());
    let is_recommended = async || {
        let list = site.ask(question(), Some(reader)).await;
        let is_there = list.posts.iter().any(|found| found.view.summary.id == post);
        is_there && list.method == Method::Ranker
    };
    eventually("it is recommended", is_recommended).await;
    let permits = site.node.app.recommendations.cell(0).query_permits.clone();
    let all = permits.acquire_many_owned(SHARD_PERMITS as u32).await.unwrap();
    let list = site.ask(question(), Some(reader)).await;
    assert_eq!(list.method, Method::Latest);
    assert_eq!(list.posts[0].view.summary.id, post);
    drop(all);
    site.node.stop().await.unwrap();
}

/// The digest of the copy, in its own order.
async fn known(node: &Node) -> BTreeSet<(PostId, u64, bool)> {
    let mut all = BTreeSet::new();
    let mut from = 0;
    loop {
        let query = RecommendationQuery::ListKnown { from, limit: 7 };
        let answer = node.app.recommendations.query_shard(Call::new(), 0, query).await.unwrap();
        let RecommendationAnswer::Known(page) = answer else { panic!("{answer:?}") };
        let Some(last) = page.last() else { return all };
        from = last.place + 1;
        all.extend(page.iter().map(|known| (known.post, known.version, known.is_listed)));
    }
}

/// Asks until it is so; events take a moment, and longer on a busy machine.
async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so().await {
        assert!(began.elapsed().as_secs() < 60, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_while_serving_gives_what_the_owners_keep_and_survives_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&folder, 2, 11).await;
    for _ in 0..150 {
        site.change().await;
    }
    let owners = site.node.app.owners();
    let rebuilding = tokio::spawn(async move { owners.rebuild(|_| ()).await });
    let mut asked = 0;
    while !rebuilding.is_finished() || asked < 30 {
        site.change().await;
        site.check().await;
        asked += 1;
    }
    let rebuilt = rebuilding.await.unwrap().unwrap();
    assert!(rebuilt.facts > 0, "{rebuilt:?}");
    let owners = site.node.app.owners();
    owners.repair().await.unwrap();
    assert_eq!(owners.repair().await, Ok(0), "nothing differs any more");
    let posts = site.model.posts.iter();
    let public = posts.filter(|(post, (_, visibility))| {
        *visibility == Visibility::Public && !site.model.deleted.contains(post)
    });
    let public: BTreeSet<PostId> = public.map(|(post, _)| *post).collect();
    let is_listed = |known: (PostId, u64, bool)| known.2.then_some(known.0);
    let listed = known(&site.node).await.into_iter().filter_map(is_listed);
    assert_eq!(listed.collect::<BTreeSet<_>>(), public);
    // And a start finds it as it was.
    let before = known(&site.node).await;
    site.node.stop().await.unwrap();
    let data_dir = folder.path().join("data");
    let config = Config { data_dir, shards: 2, ..Config::default() };
    let node = Node::start_offline(&config, Seams::system()).await.unwrap();
    node.wait_ready().await.unwrap();
    assert_eq!(known(&node).await, before);
    node.stop().await.unwrap();
}

/// Everything that was published, as the copy is told of it.
async fn published(node: &Node) -> Vec<Fact> {
    let (mut facts, mut after) = (Vec::new(), PostId(0));
    loop {
        let query = PostQuery::Copy { after, limit: 50 };
        let answer = node.app.posts.query_shard(Call::new(), 0, query).await.unwrap();
        let PostAnswer::Copied(page) = answer else { panic!("{answer:?}") };
        let Some(last) = page.last() else { return facts };
        after = last.post;
        facts.extend(page.into_iter().map(|copied| Fact::PostChanged {
            post: copied.post,
            author: Some(copied.author),
            version: copied.version,
            is_listed: true,
            published_at: copied.published_at.unwrap(),
            tags: copied.tags,
            signature: copied.signature,
        }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_derived_is_a_fold_of_the_owners_events_whoever_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&folder, 1, 13).await;
    for _ in 0..20 {
        site.publish().await;
    }
    let are_known = async || known(&site.node).await.len() == 20;
    eventually("all posts are known", are_known).await;
    let mut engine = Engine::new(Settings::default());
    published(&site.node).await.iter().for_each(|fact| engine.apply(fact));
    let services = "quire/node/services";
    let victims = [
        format!("{services}/recommendation/0/shard"),
        format!("{services}/recommendation/0/replica"),
        format!("{services}/user/0/shard"),
        format!("{services}/user/0/replica"),
        format!("{services}/user/0/relay"),
    ];
    for n in 0..300 {
        let (reader, (post, _)) = (site.any_user(), site.any_post().unwrap());
        let at = site.node.app.seams.clock.now();
        site.tell_users(UserCommand::RecordRead { user: reader, post, at }).await;
        engine.apply(&Fact::Interacted { reader, post, how: Interaction::Read, at });
        if n % 20 == 7 {
            let victim = &victims[site.below(victims.len())];
            // It may be just starting.
            let _ = site.node.tree().restart_child(victim, RestartCause::Crash);
        }
    }
    // A gap or a double stays.
    let is_same = async || {
        let digest = RecommendationQuery::Digest;
        let answer = site.node.app.recommendations.query_shard(Call::new(), 0, digest).await;
        let Ok(RecommendationAnswer::Digest(digest)) = answer else { panic!("{answer:?}") };
        digest == engine.digest()
    };
    eventually("no gap, no double", is_same).await;
    site.node.stop().await.unwrap();
}
