//! Everything a node holds as lines of the format `quire`.
//!
//! Lines come in the order in which an import needs them: users, follows, posts each with what is
//! on it, reads. A running node is exported while it changes: what refers to users who came after
//! the beginning is left out, so that every line can be imported.

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc;

use crate::actors::call::CallError;
use crate::actors::post::message::{
    Answer as PostAnswer, ExportedPost, ImportKey, Query as PostQuery, Visibility,
};
use crate::actors::router::{Call, Router};
use crate::actors::user::message::{Answer as UserAnswer, ExportedUser, Query as UserQuery};
use crate::actors::{post, user};
use crate::ids::{PostId, Stamp, UserId};
use crate::transfer::fault::{Fault, Patience};
use crate::transfer::record::{
    Comment, Favorite, Follow, Post, Read, Record, Time, User, key_text, native_key,
};

/// Users asked for at a time.
const USERS_PAGE: usize = 200;
/// Posts asked for at a time; with the largest bodies this is 4 MiB.
const POSTS_PAGE: usize = 16;
/// Bytes that are sent at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that may wait for the reader.
pub const PIECES_WAITING: usize = 4;

/// Why an export ends early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The node does not answer.
    #[error("{0}: the export is incomplete, give the command again")]
    Halted(String),
    /// Nobody takes the lines any more.
    #[error("nobody reads the export any more")]
    Gone,
}

impl From<Fault> for ExportError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Line(reason) | Fault::Halt(reason) => Self::Halted(reason),
        }
    }
}

/// Exports a node.
pub struct Export {
    /// Calls to the user service.
    pub users: Router<user::Service>,
    /// Calls to the post service.
    pub posts: Router<post::Service>,
    /// Whether password hashes are part of it.
    pub with_credentials: bool,
    /// Now: users who come later are left out.
    pub began: Stamp,
}

impl Export {
    /// Sends everything, in pieces of whole lines.
    ///
    /// # Errors
    /// When the node does not answer for long, or nobody reads.
    pub async fn run(&self, to: mpsc::Sender<Vec<u8>>) -> Result<(), ExportError> {
        let mut out = Out { to, piece: Vec::new() };
        self.send_users(&mut out).await?;
        self.send_follows(&mut out).await?;
        self.send_posts(&mut out).await?;
        self.send_reads(&mut out).await?;
        out.flush().await
    }

    async fn send_users(&self, out: &mut Out) -> Result<(), ExportError> {
        for shard in 0..self.users.shards() {
            let mut after = UserId(0);
            while let Some(page) = self.users_page(shard, &mut after).await? {
                for user in page {
                    out.send(&Record::User(self.user(user))).await?;
                }
            }
        }
        Ok(())
    }

    fn user(&self, user: ExportedUser) -> User {
        let account = user.account;
        User {
            username: account.username,
            email: account.email,
            bio: account.bio,
            image: account.image,
            password: None,
            password_hash: user.password_hash.filter(|_| self.with_credentials),
            created_at: Some(Time(account.created_at)),
        }
    }

    async fn send_follows(&self, out: &mut Out) -> Result<(), ExportError> {
        for shard in 0..self.users.shards() {
            let mut after = UserId(0);
            while let Some(page) = self.users_page(shard, &mut after).await? {
                let names = self.names(page.iter().flat_map(|user| user.follows.clone())).await?;
                for user in &page {
                    for name in user.follows.iter().filter_map(|target| names.get(target)) {
                        let follower = user.account.username.clone();
                        let follow = Follow { follower, followed: name.clone() };
                        out.send(&Record::Follow(follow)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn send_posts(&self, out: &mut Out) -> Result<(), ExportError> {
        for shard in 0..self.posts.shards() {
            let mut after = PostId(0);
            loop {
                let query = PostQuery::Export { after, limit: POSTS_PAGE };
                let PostAnswer::Exported(page) = self.ask_posts(shard, query).await? else {
                    return Err(Fault::wrong_answer().into());
                };
                let Some(last) = page.last() else { break };
                after = last.summary.id;
                let names = self.names(page.iter().flat_map(people_of)).await?;
                for post in page {
                    send_post(out, post, &names).await?;
                }
            }
        }
        Ok(())
    }

    async fn send_reads(&self, out: &mut Out) -> Result<(), ExportError> {
        for shard in 0..self.users.shards() {
            let mut after = UserId(0);
            while let Some(page) = self.users_page(shard, &mut after).await? {
                for user in page {
                    let keys = self.keys(user.reads.iter().map(|(_, post)| *post)).await?;
                    for (at, post) in user.reads {
                        let Some(post) = keys.get(&post).copied().map(key_text) else { continue };
                        let user = user.account.username.clone();
                        out.send(&Record::Read(Read { user, post, at: Time(at) })).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next users of a shard, without those who came after the beginning; `None` at the end.
    async fn users_page(
        &self,
        shard: u16,
        after: &mut UserId,
    ) -> Result<Option<Vec<ExportedUser>>, ExportError> {
        let query = UserQuery::Export { after: *after, limit: USERS_PAGE };
        let UserAnswer::Exported(mut page) = self.ask_users(shard, query).await? else {
            return Err(Fault::wrong_answer().into());
        };
        let Some(last) = page.last() else { return Ok(None) };
        *after = last.account.id;
        page.retain(|user| self.was_there(user.account.id));
        Ok(Some(page))
    }

    fn was_there(&self, user: UserId) -> bool {
        user.stamp() <= self.began
    }

    /// Names of users who were there at the beginning.
    async fn names(
        &self,
        users: impl Iterator<Item = UserId>,
    ) -> Result<FxHashMap<UserId, String>, ExportError> {
        let mut by_shard: FxHashMap<u16, FxHashSet<UserId>> = FxHashMap::default();
        for user in users.filter(|user| self.was_there(*user)) {
            by_shard.entry(self.users.shard_of(user.bucket())).or_default().insert(user);
        }
        let mut names = FxHashMap::default();
        for (shard, users) in by_shard {
            let users: Vec<UserId> = users.into_iter().collect();
            let query = UserQuery::GetCards { users: users.clone() };
            let UserAnswer::Cards(cards) = self.ask_users(shard, query).await? else {
                return Err(Fault::wrong_answer().into());
            };
            for (user, card) in users.into_iter().zip(cards) {
                names.extend(card.map(|card| (user, card.username.clone())));
            }
        }
        Ok(names)
    }

    /// Keys of posts that are still there.
    async fn keys(
        &self,
        posts: impl Iterator<Item = PostId>,
    ) -> Result<FxHashMap<PostId, ImportKey>, ExportError> {
        let mut by_shard: FxHashMap<u16, FxHashSet<PostId>> = FxHashMap::default();
        for post in posts {
            by_shard.entry(self.posts.shard_of(post.bucket())).or_default().insert(post);
        }
        let mut keys = FxHashMap::default();
        for (shard, posts) in by_shard {
            let posts: Vec<PostId> = posts.into_iter().collect();
            for posts in posts.chunks(USERS_PAGE) {
                let query = PostQuery::GetOrigins { posts: posts.to_vec() };
                let PostAnswer::Origins(origins) = self.ask_posts(shard, query).await? else {
                    return Err(Fault::wrong_answer().into());
                };
                for (post, origin) in posts.iter().zip(origins) {
                    keys.extend(origin.map(|key| (*post, key.unwrap_or(native_key(*post)))));
                }
            }
        }
        Ok(keys)
    }

    async fn ask_users(&self, shard: u16, query: UserQuery) -> Result<UserAnswer, Fault> {
        let mut patience = Patience::new();
        loop {
            match self.users.query_shard(Call::new(), shard, query.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.wait(error).await?,
            }
        }
    }

    async fn ask_posts(&self, shard: u16, query: PostQuery) -> Result<PostAnswer, Fault> {
        let mut patience = Patience::new();
        loop {
            match self.posts.query_shard(Call::new(), shard, query.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error @ CallError::Refused(_)) => {
                    return Err(Fault::Halt(error.to_string()));
                }
                Err(error) => patience.wait(error).await?,
            }
        }
    }
}

/// Everybody whose name a post's lines need.
fn people_of(post: &ExportedPost) -> impl Iterator<Item = UserId> + '_ {
    let commenters = post.comments.iter().map(|comment| comment.author);
    post.favorites.iter().copied().chain(commenters).chain([post.summary.author])
}

/// A post, its favorites and its comments in their order.
async fn send_post(
    out: &mut Out,
    post: ExportedPost,
    names: &FxHashMap<UserId, String>,
) -> Result<(), ExportError> {
    let summary = &post.summary;
    let Some(author) = names.get(&summary.author) else { return Ok(()) };
    let key = key_text(post.import.unwrap_or(native_key(summary.id)));
    let is_scheduled = summary.visibility == Visibility::Scheduled;
    let record = Post {
        key: key.clone(),
        author: author.clone(),
        title: summary.title.clone(),
        description: summary.description.clone(),
        body: String::from_utf8_lossy(&post.body).into_owned(),
        tags: summary.tags.clone(),
        visibility: summary.visibility.into(),
        publish_at: summary.publish_at.filter(|_| is_scheduled).map(Time),
        // The time that decides its place in lists.
        created_at: Some(Time(summary.published_at.unwrap_or(summary.created_at))),
    };
    out.send(&Record::Post(record)).await?;
    for user in post.favorites.iter().filter_map(|user| names.get(user)) {
        let favorite = Favorite { user: user.clone(), post: key.clone() };
        out.send(&Record::Favorite(favorite)).await?;
    }
    for comment in post.comments {
        let Some(user) = names.get(&comment.author).cloned() else { continue };
        let created_at = Some(Time(comment.created_at));
        let comment = Comment { user, post: key.clone(), body: comment.body, created_at };
        out.send(&Record::Comment(comment)).await?;
    }
    Ok(())
}

/// Lines on their way out.
struct Out {
    to: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Out {
    async fn send(&mut self, record: &Record) -> Result<(), ExportError> {
        serde_json::to_writer(&mut self.piece, record).expect("a record is plain data");
        self.piece.push(b'\n');
        if self.piece.len() >= PIECE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ExportError> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.to.send(piece).await.map_err(|_| ExportError::Gone)
    }
}
