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
use crate::actors::user::Service;
use crate::actors::user::message::{Account, Attempt, ClaimKind, Claimed, Command, Error, Reply};
use crate::http::error::{Failure, taken};
use crate::http::extract::wrong_answer;
use crate::http::fields::Shown;
use crate::ids::{Bucket, Stamp, UserId};
use crate::seams::Seams;

/// Times that a lost claim or a used id is tried again. Both need a rare coincidence.
const TRIES_MAX: usize = 4;

/// Who registers. The fields are checked already (see [`crate::http::fields`]). Never logged: it
/// holds an address and a hash.
#[derive(Clone)]
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

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}

/// A change of an account; `None` keeps. The fields are checked already. Never logged.
#[derive(Clone, Default)]
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

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change").finish_non_exhaustive()
    }
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
    seams: &Seams,
    registration: Registration,
) -> Result<Account, AccountError> {
    let saga = Saga { users, seams };
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
    seams: &Seams,
    current: &Account,
    change: Change,
) -> Result<Account, AccountError> {
    let saga = Saga { users, seams };
    for _ in 1..TRIES_MAX {
        match saga.update_once(current, change.clone()).await {
            Err(AccountError::Call(CallError::Refused(Error::ClaimVoid))) => {}
            outcome => return outcome,
        }
    }
    saga.update_once(current, change).await
}

/// Claims a name or address by an attempt of its own, without regard to a claim that has expired:
/// who gets [`Error::Stale`] has to know what to do about that.
pub(crate) async fn claim_once(
    users: &Router<Service>,
    seams: &Seams,
    kind: ClaimKind,
    wanted: &Shown,
    owner: UserId,
) -> Result<Claimed, AccountError> {
    let Shown { shown, normal } = wanted.clone();
    let attempt = Attempt::new(seams.clock.now(), &seams.random);
    let claim = Command::Claim { kind, normal: normal.clone(), owner, attempt };
    match users.command(Call::new(), claim).await? {
        Reply::Claimed(attempt) => Ok(Claimed { shown, normal, attempt }),
        _ => Err(AccountError::WrongAnswer),
    }
}

struct Saga<'a> {
    users: &'a Router<Service>,
    seams: &'a Seams,
}

impl Saga<'_> {
    async fn register_once(&self, new: &Registration) -> Result<Account, AccountError> {
        let user = UserId::new(self.seams.clock.now(), Bucket::new(self.seams.random.any()));
        let name = self.claim(ClaimKind::Name, &new.username, user).await?;
        let email = match self.claim(ClaimKind::Email, &new.email, user).await {
            Ok(email) => email,
            Err(error) => {
                self.give_up(user, [Some((ClaimKind::Name, name))]).await;
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
            Ok(_) => Err(AccountError::WrongAnswer),
            Err(error) => {
                let claims = [Some((ClaimKind::Email, email)), Some((ClaimKind::Name, name))];
                self.give_up(user, claims).await;
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
                    self.give_up(user, [name.map(|name| (ClaimKind::Name, name))]).await;
                    return Err(error);
                }
            },
            None => None,
        };
        let claims = [
            name.clone().map(|name| (ClaimKind::Name, name)),
            email.clone().map(|email| (ClaimKind::Email, email)),
        ];
        let Change { password_hash, bio, image, .. } = change;
        let command = Command::UpdateUser { user, name, email, password_hash, bio, image };
        match self.users.command(Call::new(), command).await {
            Ok(Reply::Account { account, released }) => {
                for (kind, normal, attempt) in released {
                    self.settle(kind, user, normal, attempt).await;
                }
                Ok(account)
            }
            Ok(_) => Err(AccountError::WrongAnswer),
            Err(error) => {
                self.give_up(user, claims).await;
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
        for _ in 0..TRIES_MAX {
            let (old, stale) = match claim_once(self.users, self.seams, kind, wanted, owner).await {
                Err(AccountError::Call(CallError::Refused(Error::Stale { owner, attempt }))) => {
                    (owner, attempt)
                }
                // What may have been claimed although there is no answer expires.
                outcome => return outcome,
            };
            match self.settle(kind, old, wanted.normal.clone(), stale).await {
                Some(true) => return Err(AccountError::Taken(kind)),
                Some(false) => {}
                None => return Err(AccountError::Call(CallError::Unavailable)),
            }
        }
        // Others settle and claim the same name, and were faster each time.
        Err(AccountError::Taken(kind))
    }

    /// Gives claims back that came to nothing, or that nobody knows to have come to something.
    async fn give_up<const N: usize>(
        &self,
        owner: UserId,
        claims: [Option<(ClaimKind, Claimed)>; N],
    ) {
        for (kind, claimed) in claims.into_iter().flatten() {
            self.settle(kind, owner, claimed.normal, claimed.attempt).await;
        }
    }

    /// Asks the owner's shard whether the user bears what the attempt claimed. If not, the attempt
    /// is void there from now on, and only then is the claim given back: another request of the same
    /// user may be about to bear it by the same attempt (U1). `None` when there is no answer.
    async fn settle(
        &self,
        kind: ClaimKind,
        owner: UserId,
        normal: String,
        attempt: Attempt,
    ) -> Option<bool> {
        let command = Command::SettleClaim { user: owner, kind, normal: normal.clone(), attempt };
        match self.users.command(Call::new(), command).await {
            Ok(Reply::Borne(true)) => Some(true),
            Ok(Reply::Borne(false)) => {
                self.release(kind, owner, normal, attempt).await;
                Some(false)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "a claim was not settled; it expires");
                None
            }
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
