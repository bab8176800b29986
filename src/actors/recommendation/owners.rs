//! Way C: everything that recommendations derive is read again from its owners, into a new copy,
//! while the old one serves. And the comparison of a copy with its owner.
//!
//! Posts come first, by their ids; then what readers chose; then what they did, in the order of time,
//! which decides what is trending and what goes together. That order is made in passes over the
//! owners' data, each of which keeps a bounded number of the oldest deeds that are left.

use std::collections::BinaryHeap;

use crate::actors::call::CallError;
use crate::actors::post;
use crate::actors::post::message::{
    Answer as PostAnswer, CopiedPost, Origin, Query as PostQuery, is_listed,
};
use crate::actors::recommendation::engine::event::{Event as Fact, Feedback, Interaction};
use crate::actors::recommendation::ingest::fact_of_post;
use crate::actors::recommendation::message::{Answer, Command, Error, Known, Query, Reply};
use crate::actors::recommendation::service::Service;
use crate::actors::router::{Call, Router};
use crate::actors::state_machine::StateMachine;
use crate::actors::user;
use crate::actors::user::message::{
    Answer as UserAnswer, ExportPart, ExportedUser, Feedback as Wish, Query as UserQuery, Read,
    Said,
};
use crate::ids::{PostId, Stamp, UserId};
use crate::seams::time;

/// Facts in one command: what the engine takes in about a millisecond.
const FACTS_AT_ONCE: usize = 256;
/// Deeds that one pass keeps, at 32 bytes each.
const DEEDS_AT_ONCE: usize = 1_000_000;
/// Posts or users on a page.
const PAGE: usize = 256;
/// How long it is tried to reach a shard that does not answer: longer than a restart.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// Between two tries.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// The services that take part.
#[derive(Clone)]
pub struct Owners {
    /// Owner of the posts.
    pub posts: Router<post::Service>,
    /// Owner of what readers did and chose.
    pub users: Router<user::Service>,
    /// Owner of the copy.
    pub recommendations: Router<Service>,
}

/// What a rebuild did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Facts that were read.
    pub facts: u64,
    /// Posts in which the copy differed from their owner afterwards, and was repaired.
    pub repaired: u64,
}

/// Why a rebuild did not come to its end. The old copy goes on serving.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// A shard did not answer for a minute, or events on their way did not arrive for as long.
    #[error("a part of the data does not answer: try again later")]
    Unavailable,
    /// Another one was begun, or more happened meanwhile than can wait.
    #[error("the rebuild was given up, for another one or for too many events: try again")]
    GivenUp,
    /// Another answer than was asked for: a fault.
    #[error("a service gave an answer of another kind than was asked for")]
    WrongAnswer,
}

/// Somebody did something with a post. Ordered by time; no two are equal.
type Deed = (Stamp, UserId, PostId, u8);

/// The kinds of deeds, by their number in a [`Deed`].
const READ: u8 = 0;
const FAVORITE: u8 = 1;
const COMMENT: u8 = 2;
const LESS: u8 = 3;
const HIDE: u8 = 4;

impl Owners {
    /// Reads everything again and switches to the new copy. `tell` hears how many facts were read.
    ///
    /// # Errors
    /// When it did not come to its end; it may be tried again.
    pub async fn rebuild(&self, mut tell: impl FnMut(u64)) -> Result<Rebuilt, RebuildError> {
        self.follow().await?;
        let Reply::Rebuild(number) = self.tell(Command::BeginRebuild).await? else {
            return Err(RebuildError::WrongAnswer);
        };
        let mut copying = Copying { owners: self, number, facts: Vec::new(), done: 0 };
        for shard in 0..self.posts.shards() {
            let mut after = PostId(0);
            while let Some(page) = self.posts_after(shard, after).await? {
                after = page.last().map_or(after, |copied| copied.post);
                for copied in page.into_iter().filter_map(fact_of) {
                    copying.add(copied).await?;
                }
                tell(copying.done);
            }
        }
        for part in [ExportPart::Follows, ExportPart::Hidden, ExportPart::Tags] {
            for shard in 0..self.users.shards() {
                let mut after = UserId(0);
                while let Some(page) = self.users_after(shard, after, part).await? {
                    after = page.last().map_or(after, |user| user.account.id);
                    for fact in page.iter().flat_map(choices_of) {
                        copying.add(fact).await?;
                    }
                    tell(copying.done);
                }
            }
        }
        let mut last = None;
        loop {
            let deeds = self.oldest_deeds(last).await?;
            let Some(newest) = deeds.last().copied() else { break };
            for deed in deeds {
                copying.add(fact_of_deed(deed)).await?;
            }
            tell(copying.done);
            last = Some(newest);
        }
        copying.flush().await?;
        let facts = copying.done;
        while let Reply::Left(left) = self.tell(Command::FinishRebuild { rebuild: number }).await?
            && left > 0
        {}
        let repaired = self.repair().await?;
        Ok(Rebuilt { facts, repaired })
    }

    /// Compares the copy with the posts' owner, and has it take in what differs; returns how many
    /// posts that were. What is on its way by an event may count as different.
    ///
    /// # Errors
    /// When a shard does not answer.
    pub async fn repair(&self) -> Result<u64, RebuildError> {
        let mut repaired = 0;
        for shard in 0..self.posts.shards() {
            let mut after = PostId(0);
            while let Some(page) = self.posts_after(shard, after).await? {
                after = page.last().map_or(after, |copied| copied.post);
                let posts = page.iter().map(|copied| copied.post).collect();
                let known = self.known(Query::GetKnown { posts }).await?;
                for (copied, known) in page.into_iter().zip(known) {
                    let is_same = known.version == copied.version
                        && known.is_listed == is_listed(copied.visibility);
                    let Some(fact) = fact_of(copied).filter(|_| !is_same) else { continue };
                    repaired += 1;
                    // The version may be known: what was denied once is hidden at it.
                    self.tell(Command::Repair { fact }).await?;
                }
            }
        }
        let mut from = 0;
        loop {
            // What is gone is not among the owner's posts.
            let listed = self.known(Query::ListKnown { from, limit: PAGE }).await?;
            let Some(last) = listed.last() else { return Ok(repaired) };
            from = last.place + 1;
            let posts: Vec<PostId> =
                listed.iter().filter(|known| known.is_listed).map(|known| known.post).collect();
            repaired += self.bury(posts).await?;
        }
    }

    /// Has the copy forget those of some posts that their owner does not have.
    async fn bury(&self, posts: Vec<PostId>) -> Result<u64, RebuildError> {
        let mut shards: Vec<Vec<PostId>> = vec![Vec::new(); usize::from(self.posts.shards())];
        for post in posts {
            shards[usize::from(self.posts.shard_of(post.bucket()))].push(post);
        }
        let mut buried = 0;
        for (shard, posts) in (0..).zip(shards).filter(|(_, posts)| !posts.is_empty()) {
            let query = PostQuery::GetOrigins { posts: posts.clone() };
            let PostAnswer::Origins(origins) = ask(&self.posts, shard, query).await? else {
                return Err(RebuildError::WrongAnswer);
            };
            for (post, origin) in posts.into_iter().zip(origins) {
                match origin {
                    Origin::Imported(_) | Origin::Own => {}
                    Origin::Deleted | Origin::Unknown => {
                        buried += 1;
                        self.tell(Command::Observe { fact: Fact::PostDeleted { post } }).await?;
                    }
                }
            }
        }
        Ok(buried)
    }

    /// From now on events are kept for the copy: those that are gone will be read. And all that had
    /// happened when this was asked has arrived: a read that was forgotten before would count in the
    /// new copy otherwise, where both are still on their way. What is read and forgotten while the
    /// owners are read leaves its trace there as it does in a copy that serves.
    async fn follow(&self) -> Result<(), RebuildError> {
        let feeds = self.posts.feeds().iter().chain(self.users.feeds());
        let feeds = feeds.filter(|feed| feed.subscriber().service == Service::NAME);
        for feed in feeds.clone() {
            patiently(|| feed.resume()).await?;
        }
        let mut heads = Vec::new();
        for feed in feeds {
            heads.push((feed, patiently(|| feed.head()).await?));
        }
        for (feed, head) in heads {
            let mut arrived = feed.status().position;
            while arrived < head {
                let is_news = feed.wait_for(|status| status.position > arrived);
                let Ok(Some(status)) = time::timeout(PATIENCE, is_news).await else {
                    return Err(RebuildError::Unavailable);
                };
                arrived = status.position;
            }
        }
        Ok(())
    }

    /// The oldest deeds after one, in order; none is the end.
    async fn oldest_deeds(&self, after: Option<Deed>) -> Result<Vec<Deed>, RebuildError> {
        let mut oldest = Oldest { after, heap: BinaryHeap::new() };
        for shard in 0..self.posts.shards() {
            let mut last = PostId(0);
            while let Some(page) = self.posts_after(shard, last).await? {
                last = page.last().map_or(last, |copied| copied.post);
                for CopiedPost { post, favorites, comments, .. } in page {
                    favorites
                        .into_iter()
                        .for_each(|(user, at)| oldest.offer((at, user, post, FAVORITE)));
                    comments
                        .into_iter()
                        .for_each(|(user, at)| oldest.offer((at, user, post, COMMENT)));
                }
            }
        }
        for shard in 0..self.users.shards() {
            let mut last = UserId(0);
            while let Some(page) = self.users_after(shard, last, ExportPart::Reads).await? {
                last = page.last().map_or(last, |user| user.account.id);
                for ExportedUser { account, reads, .. } in page {
                    let deed = |read: Read| (read.at, account.id, read.post, READ);
                    reads.into_iter().for_each(|read| oldest.offer(deed(read)));
                }
            }
            last = UserId(0);
            while let Some(page) = self.users_after(shard, last, ExportPart::Feedback).await? {
                last = page.last().map_or(last, |user| user.account.id);
                for ExportedUser { account, feedback, .. } in page {
                    let deed = |said: Said| (said.at, account.id, said.post, kind_of(said.what));
                    feedback.into_iter().for_each(|said| oldest.offer(deed(said)));
                }
            }
        }
        Ok(oldest.heap.into_sorted_vec())
    }

    /// A page of posts; `None` at the end.
    async fn posts_after(
        &self,
        shard: u16,
        after: PostId,
    ) -> Result<Option<Vec<CopiedPost>>, RebuildError> {
        let query = PostQuery::Copy { after, limit: PAGE };
        match ask(&self.posts, shard, query).await? {
            PostAnswer::Copied(page) => Ok(Some(page).filter(|page| !page.is_empty())),
            _ => Err(RebuildError::WrongAnswer),
        }
    }

    /// A page of users; `None` at the end.
    async fn users_after(
        &self,
        shard: u16,
        after: UserId,
        part: ExportPart,
    ) -> Result<Option<Vec<ExportedUser>>, RebuildError> {
        let query = UserQuery::Export { after, limit: PAGE, part };
        match ask(&self.users, shard, query).await? {
            UserAnswer::Exported(page) => Ok(Some(page).filter(|page| !page.is_empty())),
            _ => Err(RebuildError::WrongAnswer),
        }
    }

    async fn known(&self, query: Query) -> Result<Vec<Known>, RebuildError> {
        match ask(&self.recommendations, 0, query).await? {
            Answer::Known(known) => Ok(known),
            _ => Err(RebuildError::WrongAnswer),
        }
    }

    /// Sends a command until it is known to have happened: all of these may be repeated.
    async fn tell(&self, command: Command) -> Result<Reply, RebuildError> {
        let began = time::mark();
        loop {
            match self.recommendations.command(Call::new(), command.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(CallError::Refused(Error::NoRebuild)) => return Err(RebuildError::GivenUp),
                Err(_) if began.elapsed() < PATIENCE => time::sleep(PAUSE).await,
                Err(_) => return Err(RebuildError::Unavailable),
            }
        }
    }
}

/// Asks until there is an answer.
async fn ask<S: StateMachine>(
    router: &Router<S>,
    shard: u16,
    query: S::Query,
) -> Result<S::Answer, RebuildError> {
    patiently(|| router.query_shard(Call::new(), shard, query.clone())).await
}

/// Tries until it is done, or patience is at its end.
async fn patiently<T, E, F>(attempt: impl Fn() -> F) -> Result<T, RebuildError>
where
    F: Future<Output = Result<T, E>>,
{
    let tries = async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                // Nobody says when a shard that is busy or restarts is worth asking again.
                Err(_) => time::sleep(PAUSE).await,
            }
        }
    };
    // Around all, for one try may wait for ever for a shard that does not come back.
    time::timeout(PATIENCE, tries).await.map_err(|_| RebuildError::Unavailable)
}

/// Facts on their way into a new copy.
struct Copying<'a> {
    owners: &'a Owners,
    number: u32,
    facts: Vec<Fact>,
    done: u64,
}

impl Copying<'_> {
    async fn add(&mut self, fact: Fact) -> Result<(), RebuildError> {
        self.facts.push(fact);
        if self.facts.len() >= FACTS_AT_ONCE {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), RebuildError> {
        let facts = std::mem::take(&mut self.facts);
        self.done += facts.len() as u64;
        self.owners.tell(Command::CopyFacts { rebuild: self.number, facts }).await?;
        Ok(())
    }
}

/// The oldest deeds of a pass.
struct Oldest {
    after: Option<Deed>,
    heap: BinaryHeap<Deed>,
}

impl Oldest {
    fn offer(&mut self, deed: Deed) {
        if self.after.is_some_and(|after| deed <= after) {
            return;
        }
        self.heap.push(deed);
        if self.heap.len() > DEEDS_AT_ONCE {
            self.heap.pop();
        }
    }
}

/// What a post of its owner is to the copy; nothing if nobody ever saw it.
fn fact_of(copied: CopiedPost) -> Option<Fact> {
    let CopiedPost { post, author, version, visibility, published_at, tags, signature, .. } =
        copied;
    Some(fact_of_post(post, author, version, visibility, published_at?, &tags, signature))
}

/// What a reader chose.
fn choices_of(user: &ExportedUser) -> Vec<Fact> {
    let reader = user.account.id;
    let is_on = true;
    let follows =
        user.follows.iter().map(|author| Fact::AuthorFollowed { reader, author: *author, is_on });
    let mutes =
        user.mutes.iter().map(|author| Fact::AuthorMuted { reader, author: *author, is_on });
    let blocks =
        user.blocks.iter().map(|target| Fact::Blocked { user: reader, target: *target, is_on });
    let tags = user.tag_follows.iter();
    let tags = tags.map(|tag| Fact::TagFollowed { reader, tag: tag.normal.clone(), is_on });
    let muted = user.tag_mutes.iter();
    let muted = muted.map(|tag| Fact::TagMuted { reader, tag: tag.normal.clone(), is_on });
    follows.chain(mutes).chain(blocks).chain(tags).chain(muted).collect()
}

fn kind_of(what: Wish) -> u8 {
    match what {
        Wish::Less => LESS,
        Wish::Hide => HIDE,
    }
}

fn fact_of_deed((at, reader, post, kind): Deed) -> Fact {
    let interacted = |how| Fact::Interacted { reader, post, how, at };
    match kind {
        FAVORITE => interacted(Interaction::Favorite),
        COMMENT => interacted(Interaction::Comment),
        LESS => Fact::Feedback { reader, post, what: Feedback::Less },
        HIDE => Fact::Feedback { reader, post, what: Feedback::Hide },
        _ => interacted(Interaction::Read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_keep_the_oldest_and_go_on_behind_them() {
        let deed = |at: u64| (Stamp(at), UserId(1), PostId(at), 0);
        let mut oldest = Oldest { after: Some(deed(3)), heap: BinaryHeap::new() };
        (0..10).rev().for_each(|at| oldest.offer(deed(at)));
        let found: Vec<Deed> = oldest.heap.into_sorted_vec();
        assert_eq!(found, (4..10).map(deed).collect::<Vec<_>>());
    }
}
