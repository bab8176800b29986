//! What the edge keeps of posts, users and lists, against an edge that has kept nothing yet.

use axum::Router as Routes;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::recommendation_tests::site::{self, Site};
use crate::actors::post::message::{Command, Reader};
use crate::actors::router::Call;
use crate::actors::user::message::Command as UserCommand;

use crate::http::tokens::{SigningKey, TOKEN_LIFE, Tokens};
use crate::http::{App, Parts, routes};
use crate::ids::PostId;

/// What is asked after each change; articles are asked for too.
const PAGES: [&str; 8] = [
    "/api/articles",
    "/api/articles?limit=2&offset=1",
    "/api/articles?tag=red",
    "/api/articles?tag=RED&author=user-0",
    "/api/articles?author=user-1",
    "/api/articles?favorited=user-2",
    FEED,
    "/api/tags",
];
const FEED: &str = "/api/articles/feed";
const CHANGES: usize = 120;

fn tokens(app: &App) -> Tokens {
    let key = SigningKey::new(&[1; 32]).unwrap();
    Tokens::new(key, vec![], TOKEN_LIFE, app.seams.clock.clone())
}

/// An edge of the same node, of its own.
fn another_edge(app: &App) -> App {
    App::new(Parts {
        users: app.users.clone(),
        posts: app.posts.clone(),
        recommendations: app.recommendations.clone(),
        tokens: tokens(app),
        passwords: app.passwords.clone(),
        metrics: app.metrics.clone(),
        posts_bytes: 0,
        limits: app.limits.clone(),
        seams: app.seams.clone(),
    })
}

async fn answer(edge: &Routes, path: &str, token: Option<&str>) -> (u16, String) {
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Token {token}"));
    }
    let response = edge.clone().oneshot(request.body(Body::empty()).unwrap());
    let (head, body) = response.await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

/// How many messages each shard of posts has taken so far.
fn asked(app: &App) -> Vec<u64> {
    let metrics = app.metrics.encode();
    let shards = (0..app.posts.shards()).map(|shard| {
        let name = format!("mailbox_wait_seconds_count{{service=\"post\",shard=\"{shard}\"}} ");
        let line = metrics.lines().find_map(|line| line.split_once(&name));
        line.map_or(0, |(_, count)| count.parse().unwrap())
    });
    shards.collect()
}

/// Something that the other changes of a site leave alone.
async fn change_more(site: &Site) {
    let Some((post, author)) = site.any_post() else { return };
    let app = &site.node.app;
    let on = site.below(3) > 0;
    let reader = Reader { blocked_by_author: false, ..Reader::as_author(site.any_user()) };
    let command = match site.below(4) {
        0 => {
            let (title, tags) = (Some(format!("Title {}", site.below(9))), None);
            let (editor, description, body) = (Reader::as_author(author), None, None);
            Command::EditPost { post, editor, title, description, body, tags, if_version: None }
        }
        1 => {
            let (user, bio) = (site.any_user(), Some(Some(format!("bio {}", site.below(9)))));
            let (name, email, password_hash, image) = (None, None, None, None);
            let edit = UserCommand::UpdateUser { user, name, email, password_hash, bio, image };
            return site.tell_users(edit).await;
        }
        _ => Command::Favor { post, reader, on },
    };
    // Who may not see the post is refused.
    let _ = app.posts.command(Call::new(), command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_what_would_be_answered_anew() {
    let seed = site::seed();
    for (shards, seed) in [(1, seed), (3, seed.wrapping_add(1))] {
        let folder = tempfile::tempdir().unwrap();
        let mut site = Site::start(&folder, shards, seed).await;
        let app = site.node.app.clone();
        let (edge, tokens) = (another_edge(&app), tokens(&app));
        let edge = routes(edge);
        // How often a page, an article and a feed that were just asked for asked no shard again.
        let mut reused = [0; 3];
        for _ in 0..CHANGES {
            match site.below(2) {
                0 => site.change().await,
                _ => change_more(&site).await,
            }
            let fresh = routes(another_edge(&app));
            let articles = site.model.posts.keys().map(|post| format!("/api/articles/{post}"));
            let articles: Vec<String> = articles.collect();
            let reader = (site.below(4) > 0).then(|| site.any_user());
            let token = reader.map(|reader| tokens.sign(reader, 1));
            for path in PAGES.into_iter().chain(articles.iter().map(String::as_str)) {
                let kept = answer(&edge, path, token.as_deref()).await;
                let anew = answer(&fresh, path, token.as_deref()).await;
                assert_eq!(kept, anew, "{path} for {reader:?}");
            }
            let article = articles.last().map_or(PAGES[0], String::as_str);
            let again = [(PAGES[0], None), (article, None), (FEED, token.as_deref())];
            for (times, (path, token)) in reused.iter_mut().zip(again) {
                answer(&edge, path, token).await;
                let before = asked(&app);
                answer(&edge, path, token).await;
                *times += usize::from(asked(&app) == before);
            }
        }
        // Some articles are drafts, and an actor that starts again makes all void.
        assert!(reused.iter().all(|times| *times > CHANGES / 4), "{reused:?}: nothing is kept");
        site.node.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_of_a_page_is_asked_for_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start(&folder, 3, site::seed()).await;
    let app = site.node.app.clone();
    let edge = routes(another_edge(&app));
    for _ in 0..30 {
        site.publish().await;
    }
    let shard_of = |post: PostId| usize::from(app.posts.shard_of(post.bucket()));
    // What is kept by shard, and what is kept merged as it is of too many keys.
    let (few, many) = ("/api/articles?limit=3", "/api/articles?limit=9&offset=2");
    let questions = async |path| {
        let before = asked(&app);
        answer(&edge, path, None).await;
        let after = asked(&app).into_iter().zip(before);
        after.map(|(after, before)| after - before).collect::<Vec<u64>>()
    };
    for _ in 0..10 {
        let newest = site.publish().await;
        for path in [few, many] {
            questions(path).await;
            assert_eq!(questions(path).await, [0; 3], "nothing has moved");
        }
        let reader = site.any_user();
        let reader = Reader { blocked_by_author: false, ..Reader::as_author(reader) };
        for on in [true, false] {
            let command = Command::Favor { post: newest, reader, on };
            app.posts.command(Call::new(), command).await.unwrap();
            let mut one = vec![0; 3];
            one[shard_of(newest)] = 1;
            assert_eq!(questions(few).await, one, "one post has moved");
        }
        let newest = site.publish().await;
        let mut keys_and_post = vec![0; 3];
        keys_and_post[shard_of(newest)] = 2;
        assert_eq!(questions(few).await, keys_and_post, "the list has moved in one shard");
        let many = questions(many).await;
        assert!(many.iter().all(|questions| *questions >= 1), "{many:?}: merged anew");
    }
    site.node.stop().await.unwrap();
}
