//! The contract of the user service: what it is told and asked, and what it answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::actors::state_machine::Refusal;
use crate::error::ErrorCode;
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::seams::Random;
use crate::store::codec::Record;

/// What a claim is about. Claims live in the shard of the hash of what they claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClaimKind {
    /// A user name, normalised (NFKC, case folded).
    Name,
    /// An e-mail address, normalised.
    Email,
}

/// One attempt to own a name or address. Whoever takes over an expired claim first makes the
/// attempt void in the claimant's own shard, so that a late creation is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attempt(pub u64);

impl Attempt {
    /// A number of its own, ordered by time.
    pub fn new(now: Stamp, random: &Random) -> Self {
        Self(UserId::new(now, Bucket::new(random.any())).0)
    }
}

/// A name or address as it is shown and as it is compared.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// As the user wrote it.
    pub shown: String,
    /// Normalised by the edge, so that the rule is not part of the replayed command.
    pub normal: String,
    /// The attempt that claimed it.
    pub attempt: Attempt,
}

impl std::fmt::Debug for Claimed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claimed").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

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
    /// First half of a block, in the blocker's shard. Replies [`Reply::Done`].
    SetBlock {
        /// Who blocks.
        user: UserId,
        /// Who is blocked.
        target: UserId,
        /// Block or unblock.
        on: bool,
    },
    /// Second half of a block, in the shard of the blocked. Replies [`Reply::Done`].
    SetBlockedBy {
        /// Who is blocked.
        user: UserId,
        /// Who blocks.
        blocker: UserId,
        /// Block or unblock.
        on: bool,
    },
    /// Adds to the reader's history. Replies [`Reply::Done`].
    RecordRead {
        /// The reader.
        user: UserId,
        /// What was read.
        post: PostId,
        /// When.
        at: Stamp,
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
            | Self::RecordRead { user, .. } => user.bucket(),
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
        }
    }
}

impl Record for Reply {
    const KIND: u8 = 17;
}

/// What a reader wishes about a post in recommendations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Feedback {
    /// Fewer posts like this one.
    Less,
    /// Never this post again.
    Hide,
}

/// A user's own view of the account. Never logged: it holds an address.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Whose.
    pub id: UserId,
    /// Shown name.
    pub username: String,
    /// Address.
    pub email: String,
    /// About the user.
    pub bio: Option<String>,
    /// Address of a picture.
    pub image: Option<String>,
    /// A token is valid only while it carries this number.
    pub token_generation: u32,
    /// When the account was made.
    pub created_at: Stamp,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("id", &self.id).finish_non_exhaustive()
    }
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
}

/// What an export wants of users beside their accounts: each pass only what it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportPart {
    /// Nothing.
    Accounts,
    /// Whom they follow.
    Follows,
    /// Their history.
    Reads,
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
    /// See [`Query::GetCards`].
    Cards(Vec<Option<Arc<Card>>>),
    /// See [`Query::Export`].
    Exported(Vec<ExportedUser>),
}

/// What a post query and a page need to know of a signed-in reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// Who reads.
    pub id: UserId,
    /// Tokens with another number are not valid.
    pub token_generation: u32,
    /// Followed users, ascending by id.
    pub follows: Vec<UserId>,
    /// Muted users, ascending by id.
    pub mutes: Vec<UserId>,
    /// Who blocks this reader, ascending by id.
    pub blocked_by: Vec<UserId>,
}

impl Viewer {
    /// Whether the reader follows this user.
    pub fn follows(&self, user: UserId) -> bool {
        self.follows.binary_search(&user).is_ok()
    }

    /// Whether this user blocks the reader.
    pub fn is_blocked_by(&self, user: UserId) -> bool {
        self.blocked_by.binary_search(&user).is_ok()
    }
}

/// The public face of a user.
#[derive(Debug, Default)]
pub struct Card {
    /// Shown name.
    pub username: String,
    /// About the user.
    pub bio: Option<String>,
    /// Address of a picture.
    pub image: Option<String>,
    /// The card as the edge renders it, kept with the card so that it lives exactly as long; the
    /// service never looks at it.
    pub rendered: std::sync::OnceLock<Box<str>>,
}

/// One user with the edges that start there, for export.
#[derive(Debug)]
pub struct ExportedUser {
    /// The account.
    pub account: Account,
    /// PHC string; shown only when asked for.
    pub password_hash: Option<String>,
    /// Followed users; empty unless asked for.
    pub follows: Vec<UserId>,
    /// History, oldest first; empty unless asked for.
    pub reads: Vec<(Stamp, PostId)>,
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
}

impl Record for Error {
    const KIND: u8 = 18;
}

impl Refusal for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound => ErrorCode::NotFound,
            Self::Taken(_) => ErrorCode::Conflict,
            Self::Stale { .. } | Self::ClaimVoid | Self::IdTaken => ErrorCode::Unavailable,
            Self::Yourself | Self::TooManyEdges(_) | Self::InTheFuture => ErrorCode::Invalid,
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
