//! Gives records effect: the one importer behind every format, for a stopped and a running node.
//!
//! **Invariants**: T1 every record may be applied again and changes nothing then; T2 within a file
//! a record takes effect after those that make what it refers to, and the comments of a post in
//! their order.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::actors::call::CallError;
use crate::actors::post::message::{
    Answer, Command, Error, ImportKey, Origin, Query, Reader, Reply, Visibility,
};
use crate::actors::router::{Call, Router};
use crate::actors::user::message::Depth;
use crate::actors::{post, user};
use crate::http::fields;
use crate::http::passwords::PasswordPool;
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::seams::Seams;
use crate::transfer::applied::{Applied, Effect};
use crate::transfer::chunk::{Item, Problem};
use crate::transfer::fault::{Fault, Patience, past, wrong};
use crate::transfer::people::People;
use crate::transfer::record::{
    Comment, Favorite, Feedback, Follow, Post, PostVisibility, Read, Record, TagChoice,
    comment_key, native_post, post_key,
};
use crate::transfer::turns::Turns;

/// Records worked on at a time: enough to fill a batch while the one before becomes durable (a
/// record takes up to four calls, one after the other), few beside the permits of a shard, so that
/// others of a running node keep theirs.
const IN_FLIGHT: usize = 256;
/// Passwords that may wait to be hashed: all records in flight.
const PASSWORDS_WAITING: usize = IN_FLIGHT;

/// The import cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: give the same command again to go on, nothing is doubled")]
pub struct Halted(pub String);

/// Gives records effect through the actors of a node.
#[derive(Clone)]
pub struct Engine {
    users: Router<user::Service>,
    posts: Router<post::Service>,
    passwords: PasswordPool,
    seams: Seams,
}

/// What a key of a post leads to.
enum Target {
    /// An imported post.
    Imported(PostId),
    /// A post that was written here: its own export comes back.
    Own(PostId),
    Deleted,
    Unknown,
}

impl Engine {
    /// An engine over these services.
    pub fn new(
        users: Router<user::Service>,
        posts: Router<post::Service>,
        seams: Seams,
        password_threads: usize,
    ) -> Self {
        let passwords =
            PasswordPool::new(password_threads, PASSWORDS_WAITING, seams.random.clone());
        Self { users, posts, passwords, seams }
    }

    /// Applies the records of a chunk of the file with this digest.
    ///
    /// # Errors
    /// When the node does not answer for long. What was applied stays.
    pub async fn apply(&self, digest: &[u8; 32], items: &[Item]) -> Result<Applied, Halted> {
        let mut applied = Applied::default();
        let mut turns = Turns::default();
        let mut running = FuturesUnordered::new();
        let mut items = items.iter();
        loop {
            let next = if running.len() < IN_FLIGHT { items.next() } else { None };
            if let Some(item) = next {
                let mut turn = turns.next(&item.record);
                running.push(async move {
                    turn.come().await;
                    (item, self.apply_one(digest, item).await)
                });
                continue;
            }
            let Some((item, outcome)) = running.next().await else { break };
            match outcome {
                Ok(effect) => applied.counts.add(&item.record, effect),
                Err(Fault::Line(reason)) => {
                    applied.problems.push(Problem { line: item.line, reason });
                }
                Err(Fault::Halt(reason)) => return Err(Halted(reason)),
            }
        }
        applied.problems.sort_by_key(|problem| problem.line);
        Ok(applied)
    }

    async fn apply_one(&self, digest: &[u8; 32], item: &Item) -> Result<Effect, Fault> {
        match &item.record {
            Record::User(user) => self.people().create(user).await,
            Record::Follow(follow) => self.follow(follow).await,
            Record::Post(post) => self.post(post).await,
            Record::Favorite(favorite) => self.favorite(favorite).await,
            Record::Comment(comment) => self.comment(comment, comment_key(digest, item.line)).await,
            Record::Read(read) => self.read(read).await,
            Record::TagFollow(choice) => self.tag_follow(choice).await,
            Record::TagMute(choice) => self.tag_mute(choice).await,
            Record::Feedback(feedback) => self.feedback(feedback).await,
        }
    }

    fn people(&self) -> People<'_> {
        People { users: &self.users, passwords: &self.passwords, seams: &self.seams }
    }

    async fn follow(&self, follow: &Follow) -> Result<Effect, Fault> {
        let user = self.people().find(&follow.follower).await?;
        let target = self.people().find(&follow.followed).await?;
        self.command_user(user::message::Command::SetFollow { user, target, on: true }).await?;
        Ok(Effect::Done)
    }

    async fn post(&self, post: &Post) -> Result<Effect, Fault> {
        let key = post_key(&post.key).map_err(Fault::Line)?;
        let author = self.people().find(&post.author).await?;
        let command = self.create_post(key, author, post)?;
        if let Some(own) = native_post(key) {
            match self.origin(own).await? {
                Origin::Own => return Ok(Effect::Existed),
                // An old export must not bring it back under another id.
                Origin::Deleted => return Ok(Effect::Skipped),
                Origin::Imported(_) | Origin::Unknown => {}
            }
        }
        let before = self.seams.clock.now();
        match self.command_post(command).await? {
            // An id tells when it was made.
            Ok(Reply::Post { id, .. }) if id.stamp() >= before => Ok(Effect::Done),
            Ok(Reply::Post { .. }) => Ok(Effect::Existed),
            Ok(Reply::Done | Reply::Comment { .. } | Reply::Favorites(_)) => {
                Err(Fault::wrong_answer())
            }
            Err(refusal) => Err(Fault::Line(refusal.to_string())),
        }
    }

    fn create_post(&self, key: ImportKey, author: UserId, post: &Post) -> Result<Command, Fault> {
        let (visibility, publish_at, created_at) = self.publication(post)?;
        Ok(Command::CreatePost {
            bucket: Bucket::of_key(&key.0),
            author,
            title: fields::title(post.title.clone()).map_err(wrong("title"))?,
            // May be empty, as `/v1` lets it be: what is exported comes back.
            description: fields::summary(post.description.clone()).map_err(wrong("description"))?,
            body: fields::body(post.body.clone()).map_err(wrong("body"))?,
            tags: fields::tags(post.tags.clone()).map_err(wrong("tags"))?,
            visibility,
            publish_at,
            link_token: self.seams.random.any(),
            created_at,
            import: Some(key),
        })
    }

    /// Visibility, time of publication, own time. A scheduled post whose time has passed while it
    /// was in a file is published, with the time for which it was scheduled.
    fn publication(
        &self,
        post: &Post,
    ) -> Result<(Visibility, Option<Stamp>, Option<Stamp>), Fault> {
        let created_at = past(&self.seams.clock, post.created_at)?;
        match (post.visibility, post.publish_at) {
            (PostVisibility::Scheduled, Some(at)) if at.0 <= self.seams.clock.now() => {
                Ok((Visibility::Public, None, Some(at.0)))
            }
            (PostVisibility::Scheduled, Some(at)) => {
                Ok((Visibility::Scheduled, Some(at.0), created_at))
            }
            (PostVisibility::Scheduled, None) => {
                Err(Fault::Line("a scheduled post needs `publish_at`".to_owned()))
            }
            (_, Some(_)) => Err(Fault::Line("`publish_at` is for scheduled posts only".to_owned())),
            (visibility, None) => Ok((visibility.into(), None, created_at)),
        }
    }

    async fn favorite(&self, favorite: &Favorite) -> Result<Effect, Fault> {
        let user = self.people().find(&favorite.user).await?;
        let post = match self.target(&favorite.post).await? {
            Target::Imported(post) | Target::Own(post) => post,
            Target::Deleted => return Ok(Effect::Skipped),
            Target::Unknown => return Err(unknown(&favorite.post)),
        };
        settle(self.command_post(Command::ImportFavorite { post, user }).await?)
    }

    async fn comment(&self, comment: &Comment, import: ImportKey) -> Result<Effect, Fault> {
        let body = fields::comment(comment.body.clone()).map_err(wrong("body"))?;
        let created_at = past(&self.seams.clock, comment.created_at)?;
        let user = self.people().find(&comment.user).await?;
        let post = match self.target(&comment.post).await? {
            Target::Imported(post) => post,
            // Its comments were written here, too, and have no key by which to tell them again.
            Target::Own(_) | Target::Deleted => return Ok(Effect::Skipped),
            Target::Unknown => return Err(unknown(&comment.post)),
        };
        // Of an imported comment nobody asks what its author may see.
        let reader =
            Reader { id: user, follows_author: false, blocked_by_author: false, link_token: None };
        let import = Some(import);
        settle(
            self.command_post(Command::AddComment { post, reader, body, created_at, import })
                .await?,
        )
    }

    async fn read(&self, read: &Read) -> Result<Effect, Fault> {
        let at = past(&self.seams.clock, Some(read.at))?.unwrap_or_default();
        let depth = read.depth.map(Depth::try_from).transpose().map_err(wrong("depth is"))?;
        let user = self.people().find(&read.user).await?;
        let post = match self.target(&read.post).await? {
            Target::Imported(post) | Target::Own(post) => post,
            Target::Deleted => return Ok(Effect::Skipped),
            Target::Unknown => return Err(unknown(&read.post)),
        };
        let reads = vec![Some(user::message::Read { post, at, depth })];
        match self.command_user(user::message::Command::RecordReads { user, reads }).await? {
            user::message::Reply::Recorded { ahead, .. } if ahead.is_empty() => Ok(Effect::Done),
            user::message::Reply::Recorded { .. } => {
                Err(Fault::Line(user::message::Error::InTheFuture.to_string()))
            }
            _ => Err(Fault::wrong_answer()),
        }
    }

    async fn tag_follow(&self, choice: &TagChoice) -> Result<Effect, Fault> {
        let tag = fields::tag(choice.tag.clone()).map_err(wrong("tag"))?;
        let user = self.people().find(&choice.user).await?;
        let command = user::message::Command::SetTagFollow { user, tag, on: true };
        self.command_user(command).await?;
        Ok(Effect::Done)
    }

    async fn tag_mute(&self, choice: &TagChoice) -> Result<Effect, Fault> {
        let tag = fields::tag(choice.tag.clone()).map_err(wrong("tag"))?;
        let user = self.people().find(&choice.user).await?;
        let command = user::message::Command::SetTagMute { user, tag, on: true };
        self.command_user(command).await?;
        Ok(Effect::Done)
    }

    async fn feedback(&self, feedback: &Feedback) -> Result<Effect, Fault> {
        let user = self.people().find(&feedback.user).await?;
        let post = match self.target(&feedback.post).await? {
            Target::Imported(post) | Target::Own(post) => post,
            Target::Deleted => return Ok(Effect::Skipped),
            Target::Unknown => return Err(unknown(&feedback.post)),
        };
        let what = feedback.what.into();
        self.command_user(user::message::Command::GiveFeedback { user, post, what }).await?;
        Ok(Effect::Done)
    }

    async fn target(&self, key: &str) -> Result<Target, Fault> {
        let key = post_key(key).map_err(Fault::Line)?;
        if let Some(own) = native_post(key) {
            match self.origin(own).await? {
                Origin::Own => return Ok(Target::Own(own)),
                Origin::Deleted => return Ok(Target::Deleted),
                Origin::Imported(_) | Origin::Unknown => {}
            }
        }
        let query = Query::FindImported { key };
        let Answer::Imported(found) = self.query_posts(Bucket::of_key(&key.0), query).await? else {
            return Err(Fault::wrong_answer());
        };
        let Some(post) = found else { return Ok(Target::Unknown) };
        Ok(match self.origin(post).await? {
            Origin::Imported(_) | Origin::Own => Target::Imported(post),
            Origin::Deleted | Origin::Unknown => Target::Deleted,
        })
    }

    async fn origin(&self, post: PostId) -> Result<Origin, Fault> {
        let query = Query::GetOrigins { posts: vec![post] };
        match self.query_posts(post.bucket(), query).await? {
            Answer::Origins(origins) => origins.first().copied().ok_or_else(Fault::wrong_answer),
            _ => Err(Fault::wrong_answer()),
        }
    }

    async fn query_posts(&self, bucket: Bucket, query: Query) -> Result<Answer, Fault> {
        let mut patience = Patience::new();
        loop {
            match self.posts.query(Call::new(), bucket, query.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.wait(error).await?,
            }
        }
    }

    async fn command_post(&self, command: Command) -> Result<Result<Reply, Error>, Fault> {
        let mut patience = Patience::new();
        loop {
            match self.posts.command(Call::new(), command.clone()).await {
                Ok(reply) => return Ok(Ok(reply)),
                Err(CallError::Refused(refusal)) => return Ok(Err(refusal)),
                Err(error) => patience.wait(error).await?,
            }
        }
    }

    async fn command_user(
        &self,
        command: user::message::Command,
    ) -> Result<user::message::Reply, Fault> {
        let mut patience = Patience::new();
        loop {
            match self.users.command(Call::new(), command.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) => patience.wait(error).await?,
            }
        }
    }
}

fn unknown(key: &str) -> Fault {
    Fault::Line(format!("there is no post with the key `{key}`"))
}

/// The outcome of what is done to a post that was found: if it is gone now, it was deleted just so.
fn settle(outcome: Result<Reply, Error>) -> Result<Effect, Fault> {
    match outcome {
        Ok(_) => Ok(Effect::Done),
        Err(Error::NotFound) => Ok(Effect::Skipped),
        Err(refusal) => Err(Fault::Line(refusal.to_string())),
    }
}
