//! Public faces of users, and following them.

use axum::extract::{Path, State};

use crate::actors::router::Call;
use crate::actors::user::message::Command;
use crate::http::App;
use crate::http::conduit::render;
use crate::http::error::{Answered, Failure};
use crate::http::extract::{Reader, SignedIn};
use crate::http::people;

/// `GET /api/profiles/{username}`
pub async fn show(
    State(app): State<App>,
    Reader(viewer): Reader,
    Path(username): Path<String>,
) -> Answered {
    let found = people::by_name(&app, &username).await?;
    let (user, card) = found.ok_or_else(|| Failure::not_found("profile"))?;
    let following = viewer.is_some_and(|viewer| viewer.follows(user));
    Ok(render::profile(&card, following))
}

/// `POST /api/profiles/{username}/follow`
pub async fn follow(
    State(app): State<App>,
    signed_in: SignedIn,
    Path(username): Path<String>,
) -> Answered {
    set_follow(&app, &signed_in, &username, true).await
}

/// `DELETE /api/profiles/{username}/follow`
pub async fn unfollow(
    State(app): State<App>,
    signed_in: SignedIn,
    Path(username): Path<String>,
) -> Answered {
    set_follow(&app, &signed_in, &username, false).await
}

async fn set_follow(app: &App, SignedIn(viewer): &SignedIn, username: &str, on: bool) -> Answered {
    let found = people::by_name(app, username).await?;
    let (target, card) = found.ok_or_else(|| Failure::not_found("profile"))?;
    let command = Command::SetFollow { user: viewer.id, target, on };
    app.users.command(Call::new(), command).await?;
    Ok(render::profile(&card, on))
}
