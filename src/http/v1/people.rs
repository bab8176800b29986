//! What one makes of other users: follow, mute, block.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::future::try_join;
use tokio::sync::{Mutex, MutexGuard};

use crate::actors::call::CallError;
use crate::actors::router::Call;
use crate::actors::signature::mix;
use crate::actors::user::message::{Answer, Command, Edges, Place, Query};
use crate::error::ErrorCode;
use crate::http::App;
use crate::http::error::{Answered, Failure, PROBLEM, Problem};
use crate::http::extract::{SignedIn, wrong_answer};
use crate::http::people;
use crate::ids::UserId;

/// Times that the ends of a block are compared: each needs another change of the same block in
/// between.
const COMPARED_MAX: usize = 16;
/// Locks for all blocks: enough that two seldom share one.
const BLOCK_LOCKS: usize = 64;

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

/// Where requests about the same block wait for each other.
pub struct BlockLocks([Mutex<()>; BLOCK_LOCKS]);

impl Default for BlockLocks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl BlockLocks {
    async fn lock(&self, user: UserId, target: UserId) -> MutexGuard<'_, ()> {
        let place = mix(user.0 ^ mix(target.0)) as usize % BLOCK_LOCKS;
        self.0[place].lock().await
    }
}

/// A block is answered when both ends know of it, whatever other requests do about it meanwhile.
///
/// Requests of one edge come one after the other. Those of two may still cross, so ends are compared.
/// One's own end says what is so, and may refuse; the other is what hides. It is set before and
/// cleared after, so that what is cut off in between hides, until the request comes again.
pub(crate) async fn set_block(app: &App, user: UserId, target: UserId, on: bool) -> Answered {
    let _turn = app.shared().block_locks.lock(user, target).await;
    if on {
        app.users.command(Call::new(), other_end(user, target, true)).await?;
    }
    let own = app.users.command(Call::new(), Command::SetBlock { user, target, on }).await;
    // After a refusal, too: nothing may stay hidden then.
    if matches!(own, Ok(_) | Err(CallError::Refused(_))) {
        bring_together(app, user, target).await.map_err(Failure::after_write)?;
    }
    match own {
        Ok(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) if on => Err(Failure::from(error).after_write()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the other end of a block say what one's own does. Whoever writes to one of them compares
/// them afterwards, so they say the same when all requests have ended.
async fn bring_together(app: &App, user: UserId, target: UserId) -> Answered<()> {
    for _ in 0..COMPARED_MAX {
        let (own, other) = try_join(blocks(app, user, target), hides(app, user, target)).await?;
        if own == other {
            return Ok(());
        }
        app.users.command(Call::new(), other_end(user, target, own)).await?;
    }
    Err(Failure::new(ErrorCode::Unavailable))
}

fn other_end(user: UserId, target: UserId, on: bool) -> Command {
    Command::SetBlockedBy { user: target, blocker: user, on }
}

/// What one's own end of a block says.
async fn blocks(app: &App, user: UserId, target: UserId) -> Answered<bool> {
    let place = Some(Place::After(UserId(target.0.saturating_add(1))));
    let query = Query::ListEdges { user, edges: Edges::Blocks, place, limit: 1 };
    match app.users.query(Call::new(), user.bucket(), query).await? {
        Answer::Edges(found) => Ok(found.first() == Some(&target)),
        _ => Err(wrong_answer()),
    }
}

/// What the other end says.
async fn hides(app: &App, user: UserId, target: UserId) -> Answered<bool> {
    let query = Query::GetViewer { user: target };
    match app.users.query(Call::new(), target.bucket(), query).await? {
        Answer::Viewer(viewer) => Ok(viewer.is_blocked_by(user)),
        _ => Err(wrong_answer()),
    }
}
