//! Quire itself: making a set of data through its routers, and serving it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use quire::actors::post::message as post;
use quire::actors::router::Call;
use quire::actors::user::message as user;
use quire::config::Config;
use quire::http::slug::slug;
use quire::ids::{Bucket, PostId, Stamp, UserId};
use quire::node::Node;
use quire::seams::{Clock, Seams};

use crate::Failed;
use crate::content::{Content, Sizes, user_name};
use crate::load;
use crate::process::READY;

/// The seed of every set.
const SEED: u64 = 20_260_101;
/// Commands under way while a set is made.
const AT_ONCE: usize = 512;

/// Serves the node in a folder; says where when it is ready, or `at_once`.
///
/// # Errors
/// When it does not start, or ends.
pub async fn serve(folder: &Path, checkpoints: bool, at_once: bool) -> Result<(), Failed> {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config { listen: anywhere, ops_listen: anywhere, ..config(folder) };
    if !checkpoints {
        config.checkpoint_bytes = 1 << 32;
        config.checkpoint_age_s = 24 * 60 * 60;
    }
    let node = Node::start(&config, Seams::system()).await?;
    let address = node.address.ok_or("the node does not listen")?;
    if !at_once {
        node.wait_ready().await?;
    }
    println!("{READY}{address}");
    Ok(node.wait().await?)
}

fn config(folder: &Path) -> Config {
    // What is measured is the work, not the limit.
    Config { data_dir: folder.join("data"), user_requests_max: 0, ..Config::default() }
}

/// Makes a set: `data`, and `tokens` and `slugs`, which are what requests name.
///
/// # Errors
/// When a command is refused or the folder cannot be written.
pub fn fill(folder: &Path, sizes: Sizes, shards: u16) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config { shards, listen: anywhere, ops_listen: anywhere, ..config(folder) };
        let node = Node::start(&config, Seams::system()).await?;
        node.wait_ready().await?;
        let users = make_users(&node, sizes).await?;
        let (users, tokens): (Vec<UserId>, Vec<String>) = users.into_iter().unzip();
        std::fs::write(folder.join("tokens"), lines(tokens.into_iter()))?;
        let mut content = Content::new(sizes, SEED);
        follow(&node, &mut content, &users, sizes).await?;
        let (posts, slugs) = make_posts(&node, &mut content, &users, sizes).await?;
        std::fs::write(folder.join("slugs"), lines(slugs.into_iter()))?;
        favor(&node, &mut content, &users, &posts, sizes).await?;
        delivered(&node).await?;
        Ok(node.stop().await?)
    })
}

/// Waits until every subscriber has every event: what is measured later does not include that.
async fn delivered(node: &Node) -> Result<(), Failed> {
    let address = node.ops_address.ok_or("the node has no operations listener")?;
    let mut quiet = 0;
    while quiet < 3 {
        // Between two looks at the metrics, which a node tells no one of by itself.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let (_, body) = tokio::task::spawn_blocking(move || load::ask(address, request)).await??;
        let text = String::from_utf8(body)?;
        let mut lags = text.lines().filter(|line| line.starts_with("quire_feed_lag_events{"));
        quiet = if lags.all(|line| line.ends_with(" 0")) { quiet + 1 } else { 0 };
    }
    Ok(())
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.flat_map(|item| [item, "\n".to_owned()]).collect()
}

/// The users, each with a token, which lives for 30 days.
async fn make_users(node: &Node, sizes: Sizes) -> Result<Vec<(UserId, String)>, Failed> {
    let base = Clock::system().now();
    let users = stream::iter(0..sizes.users).map(|number| async move {
        let id = UserId::new(Stamp(base.0 + number as u64), Bucket::new(rand::random()));
        let name = user_name(number);
        let email = format!("{name}@example.org");
        let attempt = user::Attempt(rand::random());
        let claims = [(user::ClaimKind::Name, &name), (user::ClaimKind::Email, &email)];
        for (kind, text) in claims {
            let normal = text.clone();
            let claim = user::Command::Claim { kind, normal, owner: id, attempt };
            node.app.users.command(Call::new(), claim).await?;
        }
        let claimed = |text: String| user::Claimed { shown: text.clone(), normal: text, attempt };
        let create = user::Command::CreateUser {
            user: id,
            name: claimed(name),
            email: claimed(email),
            password_hash: None,
            bio: Some(format!("Reader number {number} of many.")),
            image: Some(format!("https://images.example.org/{number}.png")),
            created_at: None,
        };
        match node.app.users.command(Call::new(), create).await? {
            user::Reply::Account { account, .. } => {
                Ok((id, node.app.tokens.sign(id, account.token_generation)))
            }
            other => Err(Failed::from(format!("a user was answered with {other:?}"))),
        }
    });
    users.buffered(AT_ONCE).try_collect().await
}

async fn follow(
    node: &Node,
    content: &mut Content,
    users: &[UserId],
    sizes: Sizes,
) -> Result<(), Failed> {
    let edges = stream::iter(0..sizes.follows).map(|number| {
        let (user, target) = content.follow(number);
        let command =
            user::Command::SetFollow { user: users[user], target: users[target], on: true };
        async move { node.app.users.command(Call::new(), command).await }
    });
    edges
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_reply| async { Ok(()) })
        .await
        .map_err(Failed::from)
}

async fn make_posts(
    node: &Node,
    content: &mut Content,
    users: &[UserId],
    sizes: Sizes,
) -> Result<(Vec<PostId>, Vec<String>), Failed> {
    let posts = stream::iter(0..sizes.posts).map(|_| {
        let (author, new) = content.post();
        let title = new.title.clone();
        let command = post::Command::CreatePost {
            bucket: Bucket::new(rand::random()),
            author: users[author],
            title: new.title,
            description: new.description,
            body: new.body,
            tags: new.tags,
            visibility: post::Visibility::Public,
            publish_at: None,
            link_token: rand::random(),
            created_at: None,
            import: None,
        };
        async move {
            match node.app.posts.command(Call::new(), command).await? {
                post::Reply::Post { id, .. } => Ok((id, slug(&title, id))),
                other => Err(Failed::from(format!("a creation was answered with {other:?}"))),
            }
        }
    });
    posts.buffered(AT_ONCE).try_collect().await
}

async fn favor(
    node: &Node,
    content: &mut Content,
    users: &[UserId],
    posts: &[PostId],
    sizes: Sizes,
) -> Result<(), Failed> {
    let edges = stream::iter(0..sizes.favorites).map(|_| {
        let (user, post) = content.favorite();
        let reader = post::Reader {
            id: users[user],
            follows_author: false,
            blocked_by_author: false,
            link_token: None,
        };
        let command = post::Command::Favor { post: posts[post], reader, on: true };
        async move { node.app.posts.command(Call::new(), command).await }
    });
    edges
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_reply| async { Ok(()) })
        .await
        .map_err(Failed::from)
}
