//! What one makes of other users: follow, mute, block.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;

use crate::actors::router::Call;
use crate::actors::user::message::Command;
use crate::http::App;
use crate::http::error::{Answered, Failure, PROBLEM, Problem};
use crate::http::extract::SignedIn;
use crate::http::people;
use crate::ids::UserId;

/// Follows a user.
#[utoipa::path(
    put, path = "/v1/users/{name}/follow", operation_id = "follow_user", tag = "people", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the user, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn follow(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(name): Path<String>,
) -> Answered {
    let target = named(&app, &name).await?;
    set(&app, Command::SetFollow { user: viewer.id, target, on: true }).await
}

/// Follows a user no more.
#[utoipa::path(
    delete, path = "/v1/users/{name}/follow", operation_id = "unfollow_user", tag = "people", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the user, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn unfollow(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(name): Path<String>,
) -> Answered {
    let target = named(&app, &name).await?;
    set(&app, Command::SetFollow { user: viewer.id, target, on: false }).await
}

/// Mutes a user: their posts leave one's feed and recommendations.
#[utoipa::path(
    put, path = "/v1/users/{name}/mute", operation_id = "mute_user", tag = "people", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the user, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn mute(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(name): Path<String>,
) -> Answered {
    let target = named(&app, &name).await?;
    set(&app, Command::SetMute { user: viewer.id, target, on: true }).await
}

/// Mutes a user no more.
#[utoipa::path(
    delete, path = "/v1/users/{name}/mute", operation_id = "unmute_user", tag = "people", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the user, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn unmute(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(name): Path<String>,
) -> Answered {
    let target = named(&app, &name).await?;
    set(&app, Command::SetMute { user: viewer.id, target, on: false }).await
}

/// Blocks a user, who from the answer on sees nothing of one's posts.
#[utoipa::path(
    put, path = "/v1/users/{name}/block", operation_id = "block_user", tag = "people", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the user, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn block(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(name): Path<String>,
) -> Answered {
    let target = named(&app, &name).await?;
    set_block(&app, viewer.id, target, true).await
}

/// Blocks a user no more.
#[utoipa::path(
    delete, path = "/v1/users/{name}/block", operation_id = "unblock_user", tag = "people", security(("token" = [])),
    params(("name" = String, Path, description = "Name of the user, in any case.")),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn unblock(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Path(name): Path<String>,
) -> Answered {
    let target = named(&app, &name).await?;
    set_block(&app, viewer.id, target, false).await
}

async fn named(app: &App, name: &str) -> Answered<UserId> {
    let found = people::by_name(app, name).await?;
    found.map(|(user, _)| user).ok_or_else(|| Failure::not_found("user"))
}

async fn set(app: &App, command: Command) -> Answered {
    app.users.command(Call::new(), command).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A block is answered when both ends know of it. One's own end comes first, for it may refuse; what
/// fails between the two is brought to its end by the same request again.
pub(crate) async fn set_block(app: &App, user: UserId, target: UserId, on: bool) -> Answered {
    let own = Command::SetBlock { user, target, on };
    let other = Command::SetBlockedBy { user: target, blocker: user, on };
    app.users.command(Call::new(), own).await?;
    let other = app.users.command(Call::new(), other).await;
    other.map_err(|error| Failure::from(error).after_write())?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
