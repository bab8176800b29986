//! Quire itself: making a set of data through its routers, and serving it.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use quire::actors::post::message as post;
use quire::actors::router::Call;
use quire::actors::seams::Clock;
use quire::actors::user::message as user;
use quire::config::Config;
use quire::http::limits::Limits;
use quire::http::passwords::PasswordPool;
use quire::http::slug::slug;
use quire::http::tokens::{SigningKey, TOKEN_LIFE, Tokens};
use quire::http::{App, Parts};
use quire::ids::{Bucket, Stamp, UserId};
use quire::node::Node;

use crate::Failed;
use crate::content::{Content, Sizes, user_name};
use crate::process::READY;

/// The seed of every set.
const SEED: u64 = 20_260_101;
/// Commands under way while a set is made.
const AT_ONCE: usize = 512;

/// Serves the node in a folder.
///
/// # Errors
/// When it does not start.
pub async fn serve(listener: TcpListener, folder: &Path, checkpoints: bool) -> Result<(), Failed> {
    let mut config = Config { data_dir: folder.join("data"), ..Config::default() };
    if !checkpoints {
        config.checkpoint_bytes = 1 << 32;
        config.checkpoint_age_s = 24 * 60 * 60;
    }
    let node = Node::start(&config, Clock::system()).await?;
    let tokens = tokens(&node)?;
    write_tokens(folder, &tokens)?;
    let limits = Limits::default();
    let app = App::new(Parts {
        users: node.users.clone(),
        posts: node.posts.clone(),
        tokens,
        passwords: PasswordPool::new(1, 16),
        metrics: node.metrics.clone(),
        limits: limits.clone(),
        clock: Clock::system(),
    });
    while !(node.readiness())().ready {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    println!("{READY}{}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let routes = quire::http::routes(app);
    let metrics = node.metrics.clone();
    quire::http::serve::serve(listener, routes, limits, metrics, std::future::pending()).await;
    Ok(())
}

fn tokens(node: &Node) -> Result<Tokens, Failed> {
    let key = SigningKey::new(&node.data_dir.signing_key()?)?;
    Ok(Tokens::new(key, Vec::new(), TOKEN_LIFE, Clock::system()))
}

/// A token for each user, fresh, for a set may be older than a token lives.
fn write_tokens(folder: &Path, tokens: &Tokens) -> Result<(), Failed> {
    let users = std::fs::read_to_string(folder.join("users"))?;
    let mut lines = String::new();
    for user in users.lines() {
        lines.push_str(&tokens.sign(user.parse()?, 0));
        lines.push('\n');
    }
    Ok(std::fs::write(folder.join("tokens"), lines)?)
}

/// Makes a set: `data`, and `users` and `slugs`, which tell what requests can name.
///
/// # Errors
/// When a command is refused or the folder cannot be written.
pub fn fill(folder: &Path, sizes: Sizes, shards: u16) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = Config { data_dir: folder.join("data"), shards, ..Config::default() };
        let node = Arc::new(Node::start(&config, Clock::system()).await?);
        let users = make_users(&node, sizes).await?;
        std::fs::write(folder.join("users"), lines(users.iter().map(UserId::to_string)))?;
        let mut content = Content::new(sizes, SEED);
        follow(&node, &mut content, &users, sizes).await?;
        let (posts, slugs) = make_posts(&node, &mut content, &users, sizes).await?;
        std::fs::write(folder.join("slugs"), lines(slugs.into_iter()))?;
        favor(&node, &mut content, &users, &posts, sizes).await?;
        let node = Arc::into_inner(node).ok_or("the node is still in use")?;
        Ok(node.stop().await?)
    })
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.flat_map(|item| [item, "\n".to_owned()]).collect()
}

async fn make_users(node: &Node, sizes: Sizes) -> Result<Vec<UserId>, Failed> {
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
            node.users.command(Call::new(), claim).await?;
        }
        let claimed =
            |text: String| user::Claimed { shown: text.clone(), normal: text, attempt };
        let create = user::Command::CreateUser {
            user: id,
            name: claimed(name),
            email: claimed(email),
            password_hash: None,
            bio: Some(format!("Reader number {number} of many.")),
            image: Some(format!("https://images.example.org/{number}.png")),
            created_at: None,
        };
        node.users.command(Call::new(), create).await?;
        Ok::<_, Failed>(id)
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
        async move { node.users.command(Call::new(), command).await }
    });
    edges.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await.map_err(Failed::from)
}

async fn make_posts(
    node: &Node,
    content: &mut Content,
    users: &[UserId],
    sizes: Sizes,
) -> Result<(Vec<quire::ids::PostId>, Vec<String>), Failed> {
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
            match node.posts.command(Call::new(), command).await? {
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
    posts: &[quire::ids::PostId],
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
        let command = post::Command::SetFavorite { post: posts[post], reader, on: true };
        async move { node.posts.command(Call::new(), command).await }
    });
    edges.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await.map_err(Failed::from)
}
