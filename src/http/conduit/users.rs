//! Registration, signing in, one's own account.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use crate::actors::call::CallError;
use crate::actors::router::Call;
use crate::actors::user::message::{Account, Answer, ClaimKind, Error, Query};
use crate::error::ErrorCode;
use crate::http::App;
use crate::http::accounts::{self, Change, Registration};
use crate::http::checks::Checks;
use crate::http::conduit::render;
use crate::http::error::{Answered, Failure, taken};
use crate::http::extract::{SignedIn, token_of, wrong_answer};
use crate::http::failure_limit::Peer;
use crate::http::fields::{self, Checked, PASSWORD_MAX, Shown};
use crate::http::json::{Field, Json, Object};
use crate::http::people;
use crate::http::rate_limit::Quota;

/// The body of all three writes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct UserBody {
    user: Field<Object<UserMembers>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UserMembers {
    username: Field<String>,
    email: Field<String>,
    password: Field<String>,
    bio: Field<String>,
    image: Field<String>,
}

/// `POST /api/users`
pub async fn register(State(app): State<App>, Json(body): Json<UserBody>) -> Answered {
    let sent: UserMembers = body.user.unwrapped("user")?;
    let mut checks = Checks::default();
    let username = checks.required("username", sent.username, |name| fields::username(&name));
    let email = checks.required("email", sent.email, |email| fields::email(&email));
    let password = checks.required("password", sent.password, new_password);
    let (Some(username), Some(email), Some(password)) = (username, email, password) else {
        return Err(checks.failure());
    };
    // What is taken for long is refused before the costly hash; the claims decide.
    refuse_taken(&app, &username, &email).await?;
    let registration = Registration {
        username,
        email,
        password_hash: Some(app.passwords.hash(password).await?),
        bio: None,
        image: None,
        created_at: None,
    };
    let account = accounts::register(&app.users, &app.seams, registration).await?;
    let token = app.tokens.sign(account.id, account.token_generation);
    Ok(render::user(StatusCode::CREATED, &account, &token))
}

/// `POST /api/users/login`
pub async fn login(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    Json(body): Json<UserBody>,
) -> Answered {
    let sent = body.user.unwrapped("user")?;
    let mut checks = Checks::default();
    let email = checks.required("email", sent.email, not_blank);
    let password = checks.required("password", sent.password, not_blank);
    let (Some(email), Some(password)) = (email, password) else {
        return Err(checks.failure());
    };
    let wrong = || Failure::field(ErrorCode::Unauthenticated, "credentials", "invalid");
    let email = fields::email(&email).map_err(|_| wrong())?;
    if password.chars().nth(PASSWORD_MAX).is_some() {
        return Err(wrong());
    }
    let limit = &app.shared().signin_limit;
    let attempt = limit.attempt(Some(&email.normal), peer.map(|Extension(peer)| peer));
    let within_limit = || limit.wait_s(attempt).map_or(Ok(()), too_often);
    within_limit()?;
    // Whether there is such a user must not show in the time: nobody's password is verified, too.
    let (account, hash) = credentials(&app, &email).await?.unzip();
    // Who knows a password could keep all that verify them busy. Others cannot spend this.
    let quota = &app.shared().rate_limit;
    let spent = account.as_ref().and_then(|account| quota.spent(account.id));
    if let Some(wait_s) = spent.and_then(Quota::wait_s) {
        return Err(Failure::too_many_requests(wait_s));
    }
    let matches = app.passwords.verify(password, hash.flatten()).await?;
    // Again, for others may have failed meanwhile: what they learn together is bounded.
    within_limit()?;
    let Some(account) = account.filter(|_| matches) else {
        limit.failed(attempt);
        return Err(wrong());
    };
    let _ = quota.take(Some(account.id), None);
    let token = app.tokens.sign(account.id, account.token_generation);
    Ok(render::user(StatusCode::OK, &account, &token))
}

fn too_often(wait_s: u64) -> Answered<()> {
    Err(Failure::too_many_signins(wait_s))
}

/// `GET /api/user`
pub async fn current(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    headers: HeaderMap,
) -> Answered {
    let account = account(&app, viewer.id).await?;
    let header = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
    let token = header.and_then(token_of).unwrap_or_default();
    Ok(render::user(StatusCode::OK, &account, token))
}

/// `PUT /api/user`
pub async fn update(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Json(body): Json<UserBody>,
) -> Answered {
    let sent = body.user.unwrapped("user")?;
    let mut checks = Checks::default();
    let username = checks.optional("username", sent.username, |name| fields::username(&name));
    let email = checks.optional("email", sent.email, |email| fields::email(&email));
    let password = checks.optional("password", sent.password, new_password);
    let bio = checks.clearable("bio", sent.bio, fields::bio);
    let image = checks.clearable("image", sent.image, fields::image);
    checks.finish()?;
    let current = account(&app, viewer.id).await?;
    let password_hash = match password {
        Some(password) => Some(app.passwords.hash(password).await?),
        None => None,
    };
    let change = Change { username, email, password_hash, bio, image };
    let account = accounts::update(&app.users, &app.seams, &current, change).await?;
    let token = app.tokens.sign(account.id, account.token_generation);
    Ok(render::user(StatusCode::OK, &account, &token))
}

fn new_password(sent: String) -> Checked<String> {
    fields::password(&sent).map(|()| sent)
}

fn not_blank(sent: String) -> Checked<String> {
    if sent.is_empty() { Err("can't be blank".into()) } else { Ok(sent) }
}

async fn account(app: &App, user: crate::ids::UserId) -> Answered<Account> {
    match app.users.query(Call::new(), user.bucket(), Query::GetAccount { user }).await? {
        Answer::Account(account) => Ok(account),
        _ => Err(wrong_answer()),
    }
}

/// The user who bears this address, and the hash of the password.
async fn credentials(app: &App, email: &Shown) -> Answered<Option<(Account, Option<String>)>> {
    let claimant = people::claimant(app, ClaimKind::Email, email.normal.clone()).await?;
    let Some(user) = claimant else { return Ok(None) };
    match app.users.query(Call::new(), user.bucket(), Query::GetCredentials { user }).await {
        Ok(Answer::Credentials(account, hash)) => {
            let bears = fields::normal(&account.email) == email.normal;
            Ok(bears.then_some((account, hash)))
        }
        Ok(_) => Err(wrong_answer()),
        Err(CallError::Refused(Error::NotFound)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn refuse_taken(app: &App, username: &Shown, email: &Shown) -> Answered<()> {
    if people::by_name(app, &username.normal).await?.is_some() {
        return Err(taken(ClaimKind::Name));
    }
    if credentials(app, email).await?.is_some() {
        return Err(taken(ClaimKind::Email));
    }
    Ok(())
}
