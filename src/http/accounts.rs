//! Registration and change of names: several commands that together keep a name with one user.
//!
//! ```text
//! claim name → claim address → create          (the user's shard is the commit point)
//! claim new  → update        → release old
//! ```
//! Each step may be repeated. A step that fails for certain gives back what was claimed before it;
//! one whose outcome is unknown, or a caller that is gone, leaves a claim behind that expires and
//! is then settled by whoever wants the name next.

use crate::actors::call::CallError;
use crate::actors::router::{Call, Router};
use crate::actors::seams::Clock;
use crate::actors::user::Service;
use crate::actors::user::message::{Account, Attempt, ClaimKind, Claimed, Command, Error, Reply};
use crate::http::error::{Failure, taken};
use crate::http::extract::wrong_answer;
use crate::http::fields::Shown;
use crate::ids::{Bucket, Stamp, UserId};

/// Times that a lost claim or a used id is tried again. Both need a rare coincidence.
const TRIES_MAX: usize = 4;

/// Who registers. The fields are checked already (see [`crate::http::fields`]).
#[derive(Debug, Clone)]
pub struct Registration {
    /// Name.
    pub username: Shown,
    /// Address.
    pub email: Shown,
    /// PHC string of argon2id; none: nobody can sign in.
    pub password_hash: Option<String>,
    /// About the user.
    pub bio: Option<String>,
    /// Address of a picture.
    pub image: Option<String>,
    /// Time of an imported registration; none: now.
    pub created_at: Option<Stamp>,
}

/// A change of an account; `None` keeps. The fields are checked already.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Name.
    pub username: Option<Shown>,
    /// Address.
    pub email: Option<Shown>,
    /// PHC string.
    pub password_hash: Option<String>,
    /// `Some(None)` removes it.
    pub bio: Option<Option<String>>,
    /// `Some(None)` removes it.
    pub image: Option<Option<String>>,
}

/// Why an account was not made or changed.
#[derive(Debug)]
pub enum AccountError {
    /// Somebody else has the name or address.
    Taken(ClaimKind),
    /// There is no answer, or another refusal.
    Call(CallError<Error>),
    /// A fault of ours.
    WrongAnswer,
}

impl From<CallError<Error>> for AccountError {
    fn from(error: CallError<Error>) -> Self {
        match error {
            CallError::Refused(Error::Taken(kind)) => Self::Taken(kind),
            error => Self::Call(error),
        }
    }
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Taken(kind) => taken(kind),
            AccountError::Call(error) => error.into(),
            AccountError::WrongAnswer => wrong_answer(),
        }
    }
}

/// Makes an account. Of many that want the same name at once, one gets it.
///
/// # Errors
/// `Taken`, or why there is no answer.
pub async fn register(
    users: &Router<Service>,
    clock: &Clock,
    registration: Registration,
) -> Result<Account, AccountError> {
    let saga = Saga { users, clock };
    for _ in 1..TRIES_MAX {
        match saga.register_once(&registration).await {
            Err(AccountError::Call(CallError::Refused(Error::IdTaken | Error::ClaimVoid))) => {}
            outcome => return outcome,
        }
    }
    saga.register_once(&registration).await
}

/// Changes an account.
///
/// # Errors
/// `Taken`, or why there is no answer.
pub async fn update(
    users: &Router<Service>,
    clock: &Clock,
    current: &Account,
    change: Change,
) -> Result<Account, AccountError> {
    let saga = Saga { users, clock };
    for _ in 1..TRIES_MAX {
        match saga.update_once(current, change.clone()).await {
            Err(AccountError::Call(CallError::Refused(Error::ClaimVoid))) => {}
            outcome => return outcome,
        }
    }
    saga.update_once(current, change).await
}

struct Saga<'a> {
    users: &'a Router<Service>,
    clock: &'a Clock,
}

impl Saga<'_> {
    async fn register_once(&self, new: &Registration) -> Result<Account, AccountError> {
        let user = UserId::new(self.clock.now(), Bucket::new(rand::random()));
        let name = self.claim(ClaimKind::Name, &new.username, user).await?;
        let email = match self.claim(ClaimKind::Email, &new.email, user).await {
            Ok(email) => email,
            Err(error) => {
                self.release(ClaimKind::Name, user, name.normal, name.attempt).await;
                return Err(error);
            }
        };
        let command = Command::CreateUser {
            user,
            name: name.clone(),
            email: email.clone(),
            password_hash: new.password_hash.clone(),
            bio: new.bio.clone(),
            image: new.image.clone(),
            created_at: new.created_at,
        };
        match self.users.command(Call::new(), command).await {
            Ok(Reply::Account { account, .. }) => Ok(account),
            Ok(Reply::Done | Reply::Borne(_)) => Err(AccountError::WrongAnswer),
            Err(error) => {
                if had_no_effect(&error) {
                    self.release(ClaimKind::Email, user, email.normal, email.attempt).await;
                    self.release(ClaimKind::Name, user, name.normal, name.attempt).await;
                }
                Err(error.into())
            }
        }
    }

    async fn update_once(&self, old: &Account, change: Change) -> Result<Account, AccountError> {
        let user = old.id;
        let name = match change.username.filter(|new| new.shown != old.username) {
            Some(new) => Some(self.claim(ClaimKind::Name, &new, user).await?),
            None => None,
        };
        let email = match change.email.filter(|new| new.shown != old.email) {
            Some(new) => match self.claim(ClaimKind::Email, &new, user).await {
                Ok(email) => Some(email),
                Err(error) => {
                    self.give_up(old, name, None).await;
                    return Err(error);
                }
            },
            None => None,
        };
        let Change { password_hash, bio, image, .. } = change;
        let (new_name, new_email) = (name.clone(), email.clone());
        let command = Command::UpdateUser { user, name, email, password_hash, bio, image };
        match self.users.command(Call::new(), command).await {
            Ok(Reply::Account { account, released }) => {
                for (kind, normal, attempt) in released {
                    self.release(kind, user, normal, attempt).await;
                }
                Ok(account)
            }
            Ok(Reply::Done | Reply::Borne(_)) => Err(AccountError::WrongAnswer),
            Err(error) => {
                if had_no_effect(&error) {
                    self.give_up(old, new_name, new_email).await;
                }
                Err(error.into())
            }
        }
    }

    /// Claims a name or address. An expired claim of somebody else is settled first: a user who
    /// bears it keeps it, an attempt that came to nothing is made void and its claim given back.
    async fn claim(
        &self,
        kind: ClaimKind,
        wanted: &Shown,
        owner: UserId,
    ) -> Result<Claimed, AccountError> {
        let (shown, normal) = (wanted.shown.clone(), wanted.normal.clone());
        let attempt = Attempt(rand::random());
        let claimed = Claimed { shown, normal: normal.clone(), attempt };
        let claim = Command::Claim { kind, normal: normal.clone(), owner, attempt };
        for _ in 0..TRIES_MAX {
            let error = match self.users.command(Call::new(), claim.clone()).await {
                Ok(_) => return Ok(claimed),
                Err(error) => error,
            };
            let CallError::Refused(Error::Stale { owner: old, attempt: stale }) = error else {
                if !had_no_effect(&error) {
                    self.release(kind, owner, normal, attempt).await;
                }
                return Err(error.into());
            };
            let normal = normal.clone();
            let settle = Command::SettleClaim { user: old, kind, normal, attempt: stale };
            match self.users.command(Call::new(), settle).await? {
                Reply::Borne(true) => return Err(AccountError::Taken(kind)),
                Reply::Borne(false) => {
                    self.release(kind, old, wanted.normal.clone(), stale).await;
                }
                Reply::Done | Reply::Account { .. } => return Err(AccountError::WrongAnswer),
            }
        }
        // Others settle and claim the same name, and were faster each time.
        Err(AccountError::Taken(kind))
    }

    /// Gives new claims back, but never one of what the user bears: a change of spelling claims the
    /// same normal form again.
    async fn give_up(&self, bears: &Account, name: Option<Claimed>, email: Option<Claimed>) {
        use crate::http::fields::normal;
        if let Some(name) = name.filter(|name| name.normal != normal(&bears.username)) {
            self.release(ClaimKind::Name, bears.id, name.normal, name.attempt).await;
        }
        if let Some(email) = email.filter(|email| email.normal != normal(&bears.email)) {
            self.release(ClaimKind::Email, bears.id, email.normal, email.attempt).await;
        }
    }

    /// A release that fails is not the caller's matter: the claim expires.
    async fn release(&self, kind: ClaimKind, owner: UserId, normal: String, attempt: Attempt) {
        let release = Command::Release { kind, normal, owner, attempt };
        if let Err(error) = self.users.command(Call::new(), release).await {
            tracing::debug!(%error, "a claim was not given back; it expires");
        }
    }
}

fn had_no_effect(error: &CallError<Error>) -> bool {
    match error {
        CallError::Refused(_)
        | CallError::Overloaded
        | CallError::DiskFull
        | CallError::Unavailable
        | CallError::DeadlineExceeded
        | CallError::Internal => true,
        CallError::UnknownOutcome => false,
    }
}
