//! Everything a node holds as lines of the format `quire`.
//!
//! Lines come in the order in which an import needs them: users, follows, posts each with what is
//! on it, reads, tags, feedback. A running node is exported while it changes.
//!
//! **Invariant** E1: every line names only users and posts that were sent before it, under the names
//! that they were sent with. What refers to others (they came after the beginning) is left out, so
//! that every line can be imported, and to whom it belongs.

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc;

use crate::actors::call::CallError;
use crate::actors::post::message::{
    Answer as PostAnswer, ExportedPost, ImportKey, Query as PostQuery, Visibility,
};
use crate::actors::router::{Call, Router};
use crate::actors::user::message::{
    Account, Answer as UserAnswer, Depth, ExportPart, ExportedUser, Query as UserQuery, Tag,
};
use crate::actors::{post, user};
use crate::http::fields::normal;
use crate::ids::{PostId, Stamp, UserId};
use crate::transfer::fault::{Fault, Patience};
use crate::transfer::record::{
    Comment, Favorite, Feedback, Follow, Post, Read, Record, TagChoice, Time, User, key_text,
    native_key,
};

/// Users asked for at a time.
const USERS_PAGE: usize = 200;
/// Posts asked for at a time; with the largest bodies this is 4 MiB.
const POSTS_PAGE: usize = 16;
/// Bytes that are sent at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that may wait for the reader.
pub const PIECES_WAITING: usize = 4;

/// Users that were sent, and under which names: users of a running node may take others.
type Names = FxHashMap<UserId, String>;
/// Posts that were sent, and the identity of those that were imported.
type Keys = FxHashMap<PostId, Option<ImportKey>>;

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
        let names = self.send_users(&mut out).await?;
        self.send_follows(&mut out, &names).await?;
        let keys = self.send_posts(&mut out, &names).await?;
        self.send_reads(&mut out, &names, &keys).await?;
        self.send_tags(&mut out, &names).await?;
        self.send_feedback(&mut out, &names, &keys).await?;
        out.flush().await
    }

    async fn send_users(&self, out: &mut Out) -> Result<Names, ExportError> {
        let mut names = Names::default();
        let mut borne = FxHashSet::default();
        for shard in 0..self.users.shards() {
            let mut after = UserId(0);
            while let Some(page) = self.users_page(shard, &mut after, ExportPart::Accounts).await? {
                for user in page {
                    bear(&mut borne, &user.account)?;
                    names.insert(user.account.id, user.account.username.clone());
                    out.send(&Record::User(self.user(user))).await?;
                }
            }
        }
        Ok(names)
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

    async fn send_follows(&self, out: &mut Out, names: &Names) -> Result<(), ExportError> {
        for shard in 0..self.users.shards() {
            let mut after = UserId(0);
            while let Some(page) = self.users_page(shard, &mut after, ExportPart::Follows).await? {
                for user in &page {
                    let Some(follower) = names.get(&user.account.id) else { continue };
                    for followed in user.follows.iter().filter_map(|target| names.get(target)) {
                        let (follower, followed) = (follower.clone(), followed.clone());
                        let follow = Follow { follower, followed };
                        out.send(&Record::Follow(follow)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn send_posts(&self, out: &mut Out, names: &Names) -> Result<Keys, ExportError> {
        let mut keys = Keys::default();
        for shard in 0..self.posts.shards() {
            let mut after = PostId(0);
            loop {
                let query = PostQuery::Export { after, limit: POSTS_PAGE };
                let PostAnswer::Exported(page) = self.ask_posts(shard, query).await? else {
                    return Err(Fault::wrong_answer().into());
                };
                let Some(last) = page.last() else { break };
                after = last.summary.id;
                for post in page {
                    let Some(author) = names.get(&post.summary.author) else { continue };
                    keys.insert(post.summary.id, post.import);
                    send_post(out, post, author, names).await?;
                }
            }
        }
        Ok(keys)
    }

    async fn send_reads(
        &self,
        out: &mut Out,
        names: &Names,
        keys: &Keys,
    ) -> Result<(), ExportError> {
        for shard in 0..self.users.shards() {
            let mut after = UserId(0);
            while let Some(page) = self.users_page(shard, &mut after, ExportPart::Reads).await? {
                for user in page {
                    let Some(name) = names.get(&user.account.id) else { continue };
                    for read in user.reads {
                        let Some(post) = key_of(keys, read.post) else { continue };
                        let depth = read.depth.map(Depth::percent);
                        let (user, at) = (name.clone(), Time(read.at));
                        out.send(&Record::Read(Read { user, post, at, depth })).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn send_tags(&self, out: &mut Out, names: &Names) -> Result<(), ExportError> {
        for shard in 0..self.users.shards() {
            let mut after = UserId(0);
            while let Some(page) = self.users_page(shard, &mut after, ExportPart::Tags).await? {
                for user in page {
                    let Some(name) = names.get(&user.account.id) else { continue };
                    let choice = |tag: Tag| TagChoice { user: name.clone(), tag: tag.shown };
                    for tag in user.tag_follows {
                        out.send(&Record::TagFollow(choice(tag))).await?;
                    }
                    for tag in user.tag_mutes {
                        out.send(&Record::TagMute(choice(tag))).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn send_feedback(
        &self,
        out: &mut Out,
        names: &Names,
        keys: &Keys,
    ) -> Result<(), ExportError> {
        for shard in 0..self.users.shards() {
            let mut after = UserId(0);
            while let Some(page) = self.users_page(shard, &mut after, ExportPart::Feedback).await? {
                for user in page {
                    let Some(name) = names.get(&user.account.id) else { continue };
                    for said in user.feedback {
                        let Some(post) = key_of(keys, said.post) else { continue };
                        let (user, what) = (name.clone(), said.what.into());
                        out.send(&Record::Feedback(Feedback { user, post, what })).await?;
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
        part: ExportPart,
    ) -> Result<Option<Vec<ExportedUser>>, ExportError> {
        let query = UserQuery::Export { after: *after, limit: USERS_PAGE, part };
        let UserAnswer::Exported(mut page) = self.ask_users(shard, query).await? else {
            return Err(Fault::wrong_answer().into());
        };
        let Some(last) = page.last() else { return Ok(None) };
        *after = last.account.id;
        page.retain(|user| user.account.id.stamp() <= self.began);
        Ok(Some(page))
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

/// How the export calls a post that was sent.
fn key_of(keys: &Keys, post: PostId) -> Option<String> {
    let import = keys.get(&post)?;
    Some(key_text(import.unwrap_or(native_key(post))))
}

/// Notes the name and the address of a user. A user who took what another one gave up while the
/// export ran could not be told from that one by an import.
fn bear(borne: &mut FxHashSet<String>, account: &Account) -> Result<(), ExportError> {
    // No name holds the character that every address does.
    for text in [&account.username, &account.email] {
        if !borne.insert(normal(text)) {
            let reason = format!("`{text}` went from one user to another meanwhile");
            return Err(ExportError::Halted(reason));
        }
    }
    Ok(())
}

/// A post, its favorites and its comments in their order.
async fn send_post(
    out: &mut Out,
    post: ExportedPost,
    author: &str,
    names: &Names,
) -> Result<(), ExportError> {
    let summary = &post.summary;
    let key = key_text(post.import.unwrap_or(native_key(summary.id)));
    let is_scheduled = summary.visibility == Visibility::Scheduled;
    let record = Post {
        key: key.clone(),
        author: author.to_owned(),
        title: summary.title.clone(),
        description: summary.description.clone(),
        body: post.body,
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
