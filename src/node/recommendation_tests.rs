//! Recommendations of a whole node: nothing hidden ever shows, whoever crashes.

pub(super) mod site;

use std::collections::BTreeSet;

use site::{Shown, Site};

use super::Node;
use crate::actors::post::message::{Answer as PostAnswer, Query as PostQuery, Visibility};
use crate::actors::recommendation::engine::Engine;
use crate::actors::recommendation::engine::event::{Event as Fact, Interaction};
use crate::actors::recommendation::engine::settings::Settings;
use crate::actors::recommendation::message::{
    Answer as RecommendationAnswer, Method, Query as RecommendationQuery,
};
use crate::actors::router::Call;
use crate::actors::supervisor::RestartCause;
use crate::actors::user::message::Command as UserCommand;
use crate::config::{Config, SHARD_PERMITS};
use crate::http::recommendations::Question;
use crate::ids::PostId;
use crate::seams::Seams;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hidden_shows_after_the_answer_to_the_write_that_hides_it() {
    let seed = site::seed();
    for (shards, seed) in [(1, seed), (3, seed.wrapping_add(1))] {
        let folder = tempfile::tempdir().unwrap();
        let mut site = Site::start(&folder, shards, seed).await;
        // Changes undo some of it.
        for (nth, user) in site.users.clone().into_iter().enumerate() {
            site.set_follow(user, site.users[(nth + 1) % site.users.len()], true).await;
            site.set_follow(user, site.users[(nth + 2) % site.users.len()], true).await;
        }
        for _ in 0..150 {
            match site.below(12) {
                0 => site.hold_events().await,
                1 | 2 => site.let_events_go(),
                _ => {}
            }
            site.change().await;
            site.check().await;
        }
        site.let_events_go();
        // What was held back, or waits for a relay, comes: lists were not right by silence.
        let (reader, author) = (site.users[0], site.users[1]);
        site.set_block(reader, author, false).await;
        site.set_block(author, reader, false).await;
        site.set_mute(reader, author, false).await;
        site.set_follow(reader, author, true).await;
        let post = site.publish_by(author, &[]).await;
        let is_followed = async || {
            let list = site.ask(Question::Following, Some(reader), &[]).await;
            list.posts.iter().any(|found| found.view.summary.id == post)
        };
        eventually("the copy has heard of everything", is_followed).await;
        let Shown { posts, continued, ranked, asked } = site.shown;
        assert!(posts > 300 && continued > 10, "{:?}", site.shown);
        // A crash of the ranker is a fallback for a moment; one that cannot answer is one for ever.
        assert!(2 * ranked > asked, "{:?}", site.shown);
        site.ranker_crashed_only_on_purpose().await;
        site.node.stop().await.unwrap();
    }
}

/// Each kind of choice, while the copy that ranks hears of nothing, and without a ranker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reader_hides_is_gone_although_the_copy_has_not_heard_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&folder, 2, 17).await;
    let (reader, author) = (site.users[0], site.users[1]);
    site.publish_by(author, &["Red"]).await;
    let hidden = site.publish_by(author, &[]).await;
    let (muted, blocked) = (site.users[2], site.users[3]);
    site.publish_by(muted, &[]).await;
    site.publish_by(blocked, &[]).await;
    let left = site.publish_by(site.users[4], &["Blue"]).await;
    let next = || Question::Next([].into());
    let posts = async |site: &Site, question: Question| {
        let list = site.ask(question, Some(reader), &[]).await;
        let ids: BTreeSet<_> = list.posts.iter().map(|found| found.view.summary.id).collect();
        (list.method, ids)
    };
    // Reads tie all of them together.
    let all: Vec<PostId> = site.model.posts.keys().copied().collect();
    for user in &site.users[1..] {
        for post in &all {
            let at = site.node.app.seams.clock.now();
            site.tell_users(UserCommand::RecordRead { user: *user, post: *post, at }).await;
        }
    }
    let (trending, related) =
        (|| Question::Trending { tag: None, window: None }, Question::Related(left));
    let is_known = async || {
        posts(&site, next()).await.1.len() == 5
            && posts(&site, trending()).await.1.len() == 5
            && posts(&site, related.clone()).await.1.len() == 4
    };
    eventually("all posts are in all lists", is_known).await;
    site.hold_events().await;
    site.set_tag_mute(reader, "red", true).await;
    site.hide(reader, hidden).await;
    site.set_mute(reader, muted, true).await;
    site.set_block(reader, blocked, true).await;
    assert_eq!(posts(&site, next()).await, (Method::Ranker, [left].into()));
    assert_eq!(posts(&site, trending()).await, (Method::Trend, [left].into()));
    assert_eq!(posts(&site, related).await, (Method::Together, [].into()));
    let cell = site.node.app.recommendations.cell(0);
    let all = cell.query_permits.clone().acquire_many_owned(SHARD_PERMITS as u32).await.unwrap();
    assert_eq!(posts(&site, next()).await, (Method::Latest, [left].into()));
    drop(all);
    // What one reader hides, another still finds.
    let others = site.ask(next(), None, &[]).await;
    assert_eq!(others.posts.len(), 5);
    site.let_events_go();
    site.node.stop().await.unwrap();
}

/// A post that is published now is there for everybody within a moment; a node without its ranker
/// shows what is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_post_is_recommended_and_a_ranker_that_cannot_answer_is_replaced_by_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&folder, 1, 7).await;
    let post = site.publish().await;
    let author = site.model.posts[&post].author;
    let reader = *site.users.iter().find(|user| **user != author).unwrap();
    let question = || Question::Next([].into());
    let is_recommended = async || {
        let list = site.ask(question(), Some(reader), &[]).await;
        let is_there = list.posts.iter().any(|found| found.view.summary.id == post);
        is_there && list.method == Method::Ranker
    };
    eventually("it is recommended", is_recommended).await;
    let permits = site.node.app.recommendations.cell(0).query_permits.clone();
    let all = permits.acquire_many_owned(SHARD_PERMITS as u32).await.unwrap();
    let before = site.node.app.metrics.ranker_absent.get();
    let list = site.ask(question(), Some(reader), &[]).await;
    assert_eq!(list.method, Method::Latest);
    assert_eq!(list.posts[0].view.summary.id, post);
    assert_eq!(site.node.app.metrics.ranker_absent.get(), before + 1);
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
    let public = posts.filter(|(post, kept)| {
        kept.visibility == Visibility::Public && !site.model.deleted.contains(post)
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
        site.publish_by(site.any_user(), &["tag"]).await;
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
    let is_same = async || digest(&site.node).await == engine.digest();
    eventually("no gap, no double", is_same).await;
    site.node.stop().await.unwrap();
}

/// One number for all that the copy has derived, counters and all.
async fn digest(node: &Node) -> u64 {
    let digest = RecommendationQuery::Digest;
    match node.app.recommendations.query_shard(Call::new(), 0, digest).await {
        Ok(RecommendationAnswer::Digest(digest)) => digest,
        other => panic!("{other:?}"),
    }
}

/// A forgotten read has left its trace in counters, co-reads and tastes; after a rebuild they are
/// what they were if it had never been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_is_a_fold_of_what_the_owners_keep_and_forgotten_reads_leave_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&folder, 1, 19).await;
    for _ in 0..20 {
        site.publish_by(site.any_user(), &["tag"]).await;
    }
    let mut engine = Engine::new(Settings::default());
    published(&site.node).await.iter().for_each(|fact| engine.apply(fact));
    let (mut forgotten, mut with_all) = (BTreeSet::new(), Engine::new(Settings::default()));
    published(&site.node).await.iter().for_each(|fact| with_all.apply(fact));
    let mut facts = Vec::new();
    for _ in 0..200 {
        let (reader, (post, _)) = (site.any_user(), site.any_post().unwrap());
        let at = site.node.app.seams.clock.now();
        site.tell_users(UserCommand::RecordRead { user: reader, post, at }).await;
        let fact = Fact::Interacted { reader, post, how: Interaction::Read, at };
        with_all.apply(&fact);
        if site.below(3) == 0 {
            forgotten.insert((reader, post));
        }
        facts.push(((reader, post), fact));
    }
    for (of, fact) in facts {
        if !forgotten.contains(&of) {
            engine.apply(&fact);
        }
    }
    let rebuild = async || {
        let rebuilt = site.node.app.owners().rebuild(|_| ()).await.unwrap();
        assert!(rebuilt.facts >= 20, "{rebuilt:?}");
        digest(&site.node).await
    };
    assert_eq!(rebuild().await, with_all.digest());
    for _ in 0..2 {
        for (user, post) in forgotten.iter().copied() {
            // Once more just before: of this the copy has not heard when the rebuild is asked for.
            let at = site.node.app.seams.clock.now();
            site.tell_users(UserCommand::RecordRead { user, post, at }).await;
            site.tell_users(UserCommand::ForgetRead { user, post }).await;
        }
        assert_eq!(rebuild().await, engine.digest());
    }
    assert_ne!(engine.digest(), with_all.digest());
    site.node.stop().await.unwrap();
}
