//! The contract of the user service: what it is told and asked, and what it answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::actors::state_machine::Refusal;
pub use crate::actors::user::view::{
    Account, Attempt, Card, ClaimKind, Claimed, Depth, Edges, ExportPart, ExportedUser, Feedback,
    Hidden, Interests, Place, Read, Said, Tag, Viewer,
};
use crate::error::ErrorCode;
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::store::codec::Record;

/// Most reads in one command: a few milliseconds of apply.
pub const READS_MAX: usize = 1_000;

/// Commands of the user service. Shown without their fields: they hold addresses and hashes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Claims a name or address for a user. An owner who holds it already keeps the attempt that
    /// holds it, so that settling that one settles all. Replies [`Reply::Claimed`]; refuses `Taken`
    /// (young claim of another) or `Stale`.
    Claim {
        /// Name or address.
        kind: ClaimKind,
        /// What is claimed, normalised.
        normal: String,
        /// Who claims it.
        owner: UserId,
        /// Which try this is.
        attempt: Attempt,
    },
    /// Gives a claim back, if it is still this owner's by this attempt. Only after the attempt was
    /// settled as not borne (U1). Replies [`Reply::Done`].
    Release {
        /// Name or address.
        kind: ClaimKind,
        /// What was claimed.
        normal: String,
        /// Who claimed it.
        owner: UserId,
        /// By which try.
        attempt: Attempt,
    },
    /// Asked of the shard of a claim's owner before the claim is given back or taken over: does the
    /// user bear it? If not, the attempt becomes void there. Replies [`Reply::Borne`].
    SettleClaim {
        /// The claimant.
        user: UserId,
        /// Name or address.
        kind: ClaimKind,
        /// What was claimed.
        normal: String,
        /// By which try.
        attempt: Attempt,
    },
    /// Creates the user: the commit point of a registration. Idempotent for the same attempts.
    /// Refuses `IdTaken` and `ClaimVoid`. Replies [`Reply::Account`].
    CreateUser {
        /// The id, chosen by the caller.
        user: UserId,
        /// Claimed name.
        name: Claimed,
        /// Claimed address.
        email: Claimed,
        /// PHC string of argon2id; none: nobody can sign in.
        password_hash: Option<String>,
        /// About the user.
        bio: Option<String>,
        /// Address of a picture.
        image: Option<String>,
        /// Time of an imported registration; none: now.
        created_at: Option<Stamp>,
    },
    /// Changes an account; `None` keeps. A new password ends all tokens of the user.
    /// Replies [`Reply::Account`].
    UpdateUser {
        /// Whose.
        user: UserId,
        /// Newly claimed name.
        name: Option<Claimed>,
        /// Newly claimed address.
        email: Option<Claimed>,
        /// New hash.
        password_hash: Option<String>,
        /// `Some(None)` removes it.
        bio: Option<Option<String>>,
        /// `Some(None)` removes it.
        image: Option<Option<String>>,
    },
    /// Follows or unfollows; a repetition changes nothing. Replies [`Reply::Done`].
    SetFollow {
        /// Whose edge.
        user: UserId,
        /// Who is followed.
        target: UserId,
        /// Follow or unfollow.
        on: bool,
    },
    /// Mutes or unmutes: the target's posts leave the feed. Replies [`Reply::Done`].
    SetMute {
        /// Whose edge.
        user: UserId,
        /// Who is muted.
        target: UserId,
        /// Mute or unmute.
        on: bool,
    },
    /// A block, in the blocker's shard: this end says what is so. Replies [`Reply::Done`].
    SetBlock {
        /// Who blocks.
        user: UserId,
        /// Who is blocked.
        target: UserId,
        /// Block or unblock.
        on: bool,
    },
    /// The same block in the shard of the blocked: this end hides. Replies [`Reply::Done`].
    SetBlockedBy {
        /// Who is blocked.
        user: UserId,
        /// Who blocks.
        blocker: UserId,
        /// Block or unblock.
        on: bool,
    },
    /// Adds to the reader's history, which it does not bound. Sent by older programs only: the
    /// reads of today come as [`Self::RecordReads`]. Replies [`Reply::Done`].
    RecordRead {
        /// The reader.
        user: UserId,
        /// What was read.
        post: PostId,
        /// When.
        at: Stamp,
    },
    /// Adds to the reader's history, which keeps the newest [`super::HISTORY_MAX`] reads. One that
    /// is there, or is older than a full history, changes nothing. Replies [`Reply::Recorded`];
    /// refuses `TooManyReads`.
    RecordReads {
        /// The reader.
        user: UserId,
        /// At most [`READS_MAX`], in any order. Two of the same post and time count once. `None`
        /// stands for one that the reader may not see: the reply says all that an answer needs.
        reads: Vec<Option<Read>>,
    },
    /// Takes every read of a post out of the reader's history. Replies [`Reply::Done`].
    ForgetRead {
        /// The reader.
        user: UserId,
        /// Which post.
        post: PostId,
    },
    /// Empties the reader's history, a bounded number of reads at a time: to be repeated while
    /// there are more. Replies [`Reply::Forgotten`].
    ForgetHistory {
        /// The reader.
        user: UserId,
    },
    /// Follows or unfollows a tag; a repetition changes nothing. Replies [`Reply::Done`].
    SetTagFollow {
        /// The reader.
        user: UserId,
        /// Which tag.
        tag: Tag,
        /// Follow or unfollow.
        on: bool,
    },
    /// Mutes or unmutes a tag; a repetition changes nothing. Replies [`Reply::Done`].
    SetTagMute {
        /// The reader.
        user: UserId,
        /// Which tag.
        tag: Tag,
        /// Mute or unmute.
        on: bool,
    },
    /// Says what a reader wishes about a post, in place of what the reader said before. The newest
    /// [`super::FEEDBACK_MAX`] are kept. Replies [`Reply::Done`].
    GiveFeedback {
        /// The reader.
        user: UserId,
        /// About which post.
        post: PostId,
        /// What the reader wishes.
        what: Feedback,
    },
    /// Takes back what a reader said about a post; a repetition changes nothing. Replies
    /// [`Reply::Done`].
    WithdrawFeedback {
        /// The reader.
        user: UserId,
        /// About which post.
        post: PostId,
    },
    /// Stands for a command about a post that the reader may not see, so that an idempotency key is
    /// looked at before that is answered. Refuses `PostNotFound`, always.
    RefuseUnseen {
        /// The reader.
        user: UserId,
    },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, user) = match self {
            Self::Claim { owner, .. } => ("Claim", owner),
            Self::Release { owner, .. } => ("Release", owner),
            Self::SettleClaim { user, .. } => ("SettleClaim", user),
            Self::CreateUser { user, .. } => ("CreateUser", user),
            Self::UpdateUser { user, .. } => ("UpdateUser", user),
            Self::SetFollow { user, .. } => ("SetFollow", user),
            Self::SetMute { user, .. } => ("SetMute", user),
            Self::SetBlock { user, .. } => ("SetBlock", user),
            Self::SetBlockedBy { user, .. } => ("SetBlockedBy", user),
            Self::RecordRead { user, .. } => ("RecordRead", user),
            Self::RecordReads { user, .. } => ("RecordReads", user),
            Self::ForgetRead { user, .. } => ("ForgetRead", user),
            Self::ForgetHistory { user } => ("ForgetHistory", user),
            Self::SetTagFollow { user, .. } => ("SetTagFollow", user),
            Self::SetTagMute { user, .. } => ("SetTagMute", user),
            Self::GiveFeedback { user, .. } => ("GiveFeedback", user),
            Self::WithdrawFeedback { user, .. } => ("WithdrawFeedback", user),
            Self::RefuseUnseen { user } => ("RefuseUnseen", user),
        };
        f.debug_struct(name).field("user", user).finish_non_exhaustive()
    }
}

impl Record for Command {
    const KIND: u8 = 16;
}

impl Command {
    /// The bucket whose shard applies this command.
    pub fn bucket(&self) -> Bucket {
        match self {
            Self::Claim { kind, normal, .. } | Self::Release { kind, normal, .. } => {
                claim_bucket(*kind, normal)
            }
            Self::SettleClaim { user, .. }
            | Self::CreateUser { user, .. }
            | Self::UpdateUser { user, .. }
            | Self::SetFollow { user, .. }
            | Self::SetMute { user, .. }
            | Self::SetBlock { user, .. }
            | Self::SetBlockedBy { user, .. }
            | Self::RecordRead { user, .. }
            | Self::RecordReads { user, .. }
            | Self::ForgetRead { user, .. }
            | Self::ForgetHistory { user }
            | Self::SetTagFollow { user, .. }
            | Self::SetTagMute { user, .. }
            | Self::GiveFeedback { user, .. }
            | Self::WithdrawFeedback { user, .. }
            | Self::RefuseUnseen { user } => user.bucket(),
        }
    }
}

/// The bucket that a claim lives in.
pub fn claim_bucket(kind: ClaimKind, normal: &str) -> Bucket {
    let mut key = vec![kind as u8];
    key.extend_from_slice(normal.as_bytes());
    Bucket::of_key(&key)
}

/// Answers to commands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is so now.
    Done,
    /// Whether the user bears what was claimed (if not, the attempt is void now).
    Borne(bool),
    /// The attempt that holds the claim now.
    Claimed(Attempt),
    /// The account after the change. `released`: claims that the caller must give back.
    Account {
        /// The account.
        account: Account,
        /// Former name and address with the attempts that claimed them.
        released: Vec<(ClaimKind, String, Attempt)>,
    },
    /// The reads are recorded.
    Recorded {
        /// How many of them were not in the history before and are now.
        new: u32,
        /// Places, in the list sent, of those that the reader may not see.
        unseen: Vec<u16>,
        /// The same of those that are refused because they lie in the future.
        ahead: Vec<u16>,
    },
    /// Reads are forgotten.
    Forgotten {
        /// Whether there are any left.
        more: bool,
    },
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("Done"),
            Self::Borne(borne) => f.debug_tuple("Borne").field(borne).finish(),
            Self::Claimed(attempt) => f.debug_tuple("Claimed").field(attempt).finish(),
            Self::Account { account, released: _ } => {
                f.debug_struct("Account").field("account", account).finish_non_exhaustive()
            }
            Self::Recorded { new, unseen: _, ahead: _ } => {
                f.debug_struct("Recorded").field("new", new).finish_non_exhaustive()
            }
            Self::Forgotten { more } => f.debug_struct("Forgotten").field("more", more).finish(),
        }
    }
}

impl Record for Reply {
    const KIND: u8 = 17;
}

/// Questions to the user service.
#[derive(Debug, Clone)]
pub enum Query {
    /// Who claims this name or address? Asked of [`claim_bucket`]. [`Answer::Owner`].
    ResolveClaim {
        /// Name or address.
        kind: ClaimKind,
        /// Normalised.
        normal: String,
    },
    /// What signing in needs. [`Answer::Credentials`]; refuses `NotFound`.
    GetCredentials {
        /// Whose.
        user: UserId,
    },
    /// The user's own account. [`Answer::Account`]; refuses `NotFound`.
    GetAccount {
        /// Whose.
        user: UserId,
    },
    /// What others need to know of a reader. [`Answer::Viewer`]; refuses `NotFound`.
    GetViewer {
        /// Whose.
        user: UserId,
    },
    /// The same, and what the reader wants in no list that recommends. [`Answer::Reader`]; refuses
    /// `NotFound`.
    GetReader {
        /// Whose.
        user: UserId,
    },
    /// Public cards of users, in the order asked; `None` where there is no such user.
    /// [`Answer::Cards`].
    GetCards {
        /// Whose; all of this shard.
        users: Vec<UserId>,
    },
    /// A page of users of this shard in order of their ids, for export. A page may be shorter than
    /// asked; an empty one is the end. [`Answer::Exported`].
    Export {
        /// Only ids above this one.
        after: UserId,
        /// At most so many.
        limit: usize,
        /// What comes with the accounts.
        part: ExportPart,
    },
    /// Reads of the reader's history beyond a place, in the order of reading. [`Answer::History`].
    ListHistory {
        /// The reader.
        user: UserId,
        /// Where to begin; none is the newest read.
        place: Option<Place<(Stamp, PostId)>>,
        /// At most so many; at most one more than [`crate::config::PAGE_MAX`].
        limit: usize,
    },
    /// What the reader chose to read of, and not to. [`Answer::Interests`].
    GetInterests {
        /// The reader.
        user: UserId,
    },
    /// What the reader said about posts, newest first. [`Answer::Feedback`].
    ListFeedback {
        /// The reader.
        user: UserId,
    },
    /// Users at the other end of a user's edges, beyond a place, in the order of reading.
    /// [`Answer::Edges`].
    ListEdges {
        /// Whose edges.
        user: UserId,
        /// Which.
        edges: Edges,
        /// Where to begin; none is the highest id.
        place: Option<Place<UserId>>,
        /// At most so many; at most one more than [`crate::config::PAGE_MAX`].
        limit: usize,
    },
}

/// Answers to queries. What is shared comes as `Arc` straight from the shard's cache.
#[derive(Debug)]
pub enum Answer {
    /// See [`Query::ResolveClaim`].
    Owner(Option<UserId>),
    /// The account and the PHC string, if the user has a password.
    Credentials(Account, Option<String>),
    /// See [`Query::GetAccount`].
    Account(Account),
    /// See [`Query::GetViewer`].
    Viewer(Arc<Viewer>),
    /// See [`Query::GetReader`].
    Reader(Arc<Viewer>, Arc<Hidden>),
    /// See [`Query::GetCards`].
    Cards(Vec<Option<Arc<Card>>>),
    /// See [`Query::Export`].
    Exported(Vec<ExportedUser>),
    /// See [`Query::ListHistory`].
    History(Vec<Read>),
    /// See [`Query::GetInterests`].
    Interests(Interests),
    /// See [`Query::ListFeedback`].
    Feedback(Vec<Said>),
    /// See [`Query::ListEdges`].
    Edges(Vec<UserId>),
}

/// Why the user service says no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// No such user.
    #[error("there is no such user")]
    NotFound,
    /// Somebody else has it, or is just getting it.
    #[error("the {0:?} is taken")]
    Taken(ClaimKind),
    /// Somebody else began to claim it long ago: settle that first, then claim again.
    #[error("an expired claim of {owner:?} must be settled first")]
    Stale {
        /// The claimant.
        owner: UserId,
        /// By which try.
        attempt: Attempt,
    },
    /// The attempt took too long and another took the claim over.
    #[error("the claim was lost")]
    ClaimVoid,
    /// The chosen id is in use: choose another.
    #[error("the id is in use")]
    IdTaken,
    /// Nobody follows, mutes or blocks himself.
    #[error("that is yourself")]
    Yourself,
    /// The user has as many edges of this kind as allowed.
    #[error("not more than {0} users")]
    TooManyEdges(u32),
    /// The reader's history holds no reads from the future.
    #[error("the time lies in the future")]
    InTheFuture,
    /// The reader follows or mutes as many tags as allowed.
    #[error("not more than {0} tags")]
    TooManyTags(u32),
    /// More reads in one command than allowed.
    #[error("not more than {0} reads at a time")]
    TooManyReads(u32),
    /// No such post that the reader may see.
    #[error("there is no such post")]
    PostNotFound,
}

impl Record for Error {
    const KIND: u8 = 18;
}

impl Refusal for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound | Self::PostNotFound => ErrorCode::NotFound,
            Self::Taken(_) => ErrorCode::Conflict,
            Self::Stale { .. } | Self::ClaimVoid | Self::IdTaken => ErrorCode::Unavailable,
            Self::Yourself
            | Self::TooManyEdges(_)
            | Self::InTheFuture
            | Self::TooManyTags(_)
            | Self::TooManyReads(_) => ErrorCode::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_command_names_nobody() {
        let claimed =
            Claimed { shown: "Secret".into(), normal: "secret".into(), attempt: Attempt(1) };
        let user = UserId(7);
        let create = Command::CreateUser {
            user,
            name: claimed.clone(),
            email: claimed.clone(),
            password_hash: Some("secret".into()),
            bio: Some("secret".into()),
            image: None,
            created_at: None,
        };
        let claim = Command::Claim {
            kind: ClaimKind::Email,
            normal: "secret".into(),
            owner: user,
            attempt: Attempt(1),
        };
        let account = Account {
            id: user,
            username: "secret".into(),
            email: "secret".into(),
            bio: None,
            image: None,
            token_generation: 1,
            created_at: Stamp(1),
        };
        let released = vec![(ClaimKind::Email, "secret".to_owned(), Attempt(1))];
        let reply = Reply::Account { account, released };
        let shown = format!("{claimed:?} {create:?} {claim:?} {reply:?}");
        assert!(!shown.to_lowercase().contains("secret"), "{shown}");
        assert!(shown.contains("CreateUser") && shown.contains('7'), "{shown}");
    }
}
