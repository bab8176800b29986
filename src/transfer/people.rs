//! Users, as an import makes and finds them.

use crate::actors::call::CallError;
use crate::actors::router::{Call, Router};
use crate::actors::user;
use crate::actors::user::message::{
    Answer, ClaimKind, Claimed, Command, Error, Query, claim_bucket,
};
use crate::error::ErrorCode;
use crate::http::accounts::{AccountError, Registration, claim_once, register};
use crate::http::fields::{self, Shown, normal};
use crate::http::passwords::{PasswordPool, check_hash_parameters};
use crate::ids::UserId;
use crate::seams::Seams;
use crate::transfer::applied::Effect;
use crate::transfer::fault::{Fault, Patience, wrong};
use crate::transfer::record::User;
use crate::transfer::stackexchange::DELETED;

/// Who bears a name.
enum Bearer {
    Nobody,
    User(UserId),
    /// Claimed for a user who does not exist: a registration that runs, or was cut off.
    Unborn(UserId),
}

/// Users of the node.
pub(super) struct People<'a> {
    pub(super) users: &'a Router<user::Service>,
    pub(super) passwords: &'a PasswordPool,
    pub(super) seams: &'a Seams,
}

impl People<'_> {
    /// The user with this name.
    pub(super) async fn find(&self, name: &str) -> Result<UserId, Fault> {
        let normal = normal(name);
        let mut patience = Patience::new();
        loop {
            match self.bearer(&normal).await {
                Ok(Bearer::User(user)) => return Ok(user),
                Ok(Bearer::Nobody | Bearer::Unborn(_)) => {
                    return Err(Fault::Line(format!("there is no user `{name}`")));
                }
                Err(error) => patience.wait(error).await?,
            }
        }
    }

    /// Makes the user, unless there is one of this name: that one is left alone.
    pub(super) async fn create(&self, user: &User) -> Result<Effect, Fault> {
        let mut new = self.check(user)?;
        let mut patience = Patience::new();
        loop {
            let outcome = match self.bearer(&new.username.normal).await {
                Ok(Bearer::User(_)) => return Ok(Effect::Existed),
                Ok(bearer) => {
                    self.hash(user, &mut new).await?;
                    match bearer {
                        Bearer::Unborn(owner) => self.resume(owner, &new).await,
                        _ => register(self.users, self.seams, new.clone()).await.map(|_| ()),
                    }
                }
                Err(error) => Err(AccountError::Call(error)),
            };
            match outcome {
                Ok(()) => return Ok(Effect::Done),
                Err(AccountError::Taken(ClaimKind::Name)) => {
                    return Err(Fault::Line("the username is just being taken".to_owned()));
                }
                Err(AccountError::Taken(ClaimKind::Email)) => {
                    return Err(Fault::Line("the email belongs to another user".to_owned()));
                }
                // Somebody was faster, in making the user or in taking the claim: look again.
                Err(AccountError::Call(CallError::Refused(Error::IdTaken | Error::ClaimVoid))) => {
                    patience.wait(CallError::<Error>::Unavailable).await?;
                }
                Err(AccountError::Call(error)) => patience.wait(error).await?,
                Err(AccountError::WrongAnswer) => return Err(Fault::wrong_answer()),
            }
        }
    }

    fn check(&self, user: &User) -> Result<Registration, Fault> {
        let username = match user.username.as_str() {
            // Reserved for imports: it stands for authors that are no more.
            DELETED => Shown { shown: DELETED.to_owned(), normal: DELETED.to_owned() },
            name => fields::username(name).map_err(wrong("username"))?,
        };
        if user.password.is_some() && user.password_hash.is_some() {
            return Err(Fault::Line("either `password` or `password_hash`, not both".to_owned()));
        }
        if let Some(hash) = &user.password_hash {
            check_hash_parameters(hash).map_err(wrong("password_hash"))?;
        }
        if let Some(password) = &user.password {
            fields::password(password).map_err(wrong("password"))?;
        }
        let bio = user.bio.clone().map(fields::bio).transpose().map_err(wrong("bio"))?;
        let image = user.image.clone().map(fields::image).transpose().map_err(wrong("image"))?;
        Ok(Registration {
            username,
            email: fields::email(&user.email).map_err(wrong("email"))?,
            password_hash: user.password_hash.clone(),
            bio: bio.flatten(),
            image: image.flatten(),
            created_at: super::fault::past(&self.seams.clock, user.created_at)?,
        })
    }

    /// Hashes the password, once, and only when the user is really made.
    async fn hash(&self, user: &User, new: &mut Registration) -> Result<(), Fault> {
        let Some(password) = &user.password else { return Ok(()) };
        let mut patience = Patience::new();
        while new.password_hash.is_none() {
            match self.passwords.hash(password.clone()).await {
                Ok(hash) => new.password_hash = Some(hash),
                Err(failure) if failure.code() == ErrorCode::Overloaded => {
                    patience.wait(CallError::<Error>::Overloaded).await?;
                }
                Err(_) => return Err(Fault::Halt("a password could not be hashed".to_owned())),
            }
        }
        Ok(())
    }

    async fn bearer(&self, normal: &str) -> Result<Bearer, CallError<Error>> {
        let bucket = claim_bucket(ClaimKind::Name, normal);
        let query = Query::ResolveClaim { kind: ClaimKind::Name, normal: normal.to_owned() };
        let Answer::Owner(owner) = self.users.query(Call::new(), bucket, query).await? else {
            return Err(CallError::Internal);
        };
        let Some(owner) = owner else { return Ok(Bearer::Nobody) };
        let query = Query::GetCards { users: vec![owner] };
        let Answer::Cards(cards) = self.users.query(Call::new(), owner.bucket(), query).await?
        else {
            return Err(CallError::Internal);
        };
        Ok(match cards.first() {
            Some(Some(card)) if fields::normal(&card.username) == normal => Bearer::User(owner),
            // The owner bears another name now: the claim expires.
            Some(Some(_)) => Bearer::Nobody,
            Some(None) | None => Bearer::Unborn(owner),
        })
    }

    /// Finishes a registration that was cut off, as an import that is interrupted leaves them: the
    /// same owner may claim again at once, where another would have to wait for the claim to expire.
    /// If the other registration runs after all, the first to create the user wins.
    async fn resume(&self, owner: UserId, new: &Registration) -> Result<(), AccountError> {
        let name = self.claim(ClaimKind::Name, &new.username, owner).await?;
        let email = self.claim(ClaimKind::Email, &new.email, owner).await?;
        let command = Command::CreateUser {
            user: owner,
            name,
            email,
            password_hash: new.password_hash.clone(),
            bio: new.bio.clone(),
            image: new.image.clone(),
            created_at: new.created_at,
        };
        self.users.command(Call::new(), command).await?;
        Ok(())
    }

    async fn claim(
        &self,
        kind: ClaimKind,
        wanted: &Shown,
        owner: UserId,
    ) -> Result<Claimed, AccountError> {
        match claim_once(self.users, self.seams, kind, wanted, owner).await {
            // Claimed by yet another registration that was cut off. It is not ours to settle here.
            Err(AccountError::Call(CallError::Refused(Error::Stale { .. }))) => {
                Err(AccountError::Taken(kind))
            }
            outcome => outcome,
        }
    }
}
