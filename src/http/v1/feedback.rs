//! What the signed-in reader wishes of recommendations.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::user::message::{Command, Feedback, Viewer};
use crate::error::ErrorCode;
use crate::http::App;
use crate::http::checks::Checks;
use crate::http::error::{Answered, Failure, PROBLEM, Problem};
use crate::http::extract::SignedIn;
use crate::http::fields::{self, Checked};
use crate::http::json::Field;
use crate::http::posts::{fetch, named};
use crate::http::v1::once::{KEY, Sent};
use crate::ids::{PostId, UserId};

/// What a reader wishes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wished {
    /// What.
    #[serde(default)]
    #[schema(value_type = Wish, required)]
    what: Field<String>,
    /// Id or slug of the post; for every wish but `mute_tag`.
    #[serde(default)]
    #[schema(value_type = String)]
    post: Field<String>,
    /// For `mute_tag`.
    #[serde(default)]
    #[schema(value_type = String, min_length = 1, max_length = 40)]
    tag: Field<String>,
}

/// A wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Fewer posts like this one.
    Less,
    /// Never this post again.
    Hide,
    /// Neither of the two, any more.
    Withdraw,
    /// Nothing of the author of this post; `DELETE /v1/users/{name}/mute` takes it back.
    MuteAuthor,
    /// Nothing with this tag; `DELETE /v1/tags/{tag}/mute` takes it back.
    MuteTag,
}

impl Wish {
    fn of(sent: &str) -> Checked<Self> {
        match sent {
            "less" => Ok(Self::Less),
            "hide" => Ok(Self::Hide),
            "withdraw" => Ok(Self::Withdraw),
            "mute_author" => Ok(Self::MuteAuthor),
            "mute_tag" => Ok(Self::MuteTag),
            _ => Err("must be less, hide, withdraw, mute_author or mute_tag".into()),
        }
    }
}

/// Says what one wishes of recommendations.
///
/// The later of `less` and `hide` counts for a post; the newest 1,000 are kept.
#[utoipa::path(
    post, path = "/v1/feedback", operation_id = "give_feedback", tag = "reader", request_body = Wished,
    params(("idempotency-key" = Option<String>, Header, description = KEY)),
    responses(
        (status = 204, description = "It is so, whether it was before or not."),
        (status = "4XX", description = "A problem.", body = Problem, content_type = PROBLEM),
    ),
)]
pub async fn give(
    State(app): State<App>,
    SignedIn(viewer): SignedIn,
    Sent { body: sent, key }: Sent<Wished>,
) -> Answered {
    let mut checks = Checks::default();
    let wish = checks.required("what", sent.what, |what| Wish::of(&what));
    let post = checks.optional("post", sent.post, Ok);
    let tag = checks.optional("tag", sent.tag, fields::tag);
    let Some(wish) = wish else { return Err(checks.failure()) };
    checks.finish()?;
    let mut once = key.begin(&app, &viewer)?;
    let user = viewer.id;
    let command = match (wish, post, tag) {
        (Wish::MuteTag, None, Some(tag)) => Command::SetTagMute { user, tag, on: true },
        (Wish::MuteTag, Some(_), _) => return Err(Failure::invalid("post", "is not for mute_tag")),
        (Wish::MuteTag, None, None) => return Err(Failure::invalid("tag", "can't be blank")),
        (_, _, Some(_)) => return Err(Failure::invalid("tag", "is for mute_tag")),
        (_, None, None) => return Err(Failure::invalid("post", "can't be blank")),
        (Wish::Less, Some(post), None) => {
            let what = Feedback::Less;
            if_seen(&app, viewer, &post, |post, _| Command::GiveFeedback { user, post, what })
                .await?
        }
        (Wish::Hide, Some(post), None) => {
            let what = Feedback::Hide;
            if_seen(&app, viewer, &post, |post, _| Command::GiveFeedback { user, post, what })
                .await?
        }
        (Wish::MuteAuthor, Some(post), None) => {
            let mute = |_, target| Command::SetMute { user, target, on: true };
            if_seen(&app, viewer, &post, mute).await?
        }
        // Not asked: whether the post can be seen. What was said of it is the reader's own.
        (Wish::Withdraw, Some(post), None) => {
            Command::WithdrawFeedback { user, post: named(&post)? }
        }
    };
    once.command(&app.users, command).await?;
    Ok(once.answer(StatusCode::NO_CONTENT.into_response()))
}

/// The command about a post that the viewer may see, and its author. That it may not be seen is said
/// by the viewer's shard, too: a repetition of what was done while it could be is answered as then.
async fn if_seen(
    app: &App,
    viewer: Arc<Viewer>,
    post: &str,
    command: impl FnOnce(PostId, UserId) -> Command,
) -> Answered<Command> {
    let user = viewer.id;
    match fetch(app, named(post)?, Some(viewer), None).await {
        Ok((view, _)) => Ok(command(view.summary.id, view.summary.author)),
        Err(failure) if failure.code() == ErrorCode::NotFound => Ok(Command::RefuseUnseen { user }),
        Err(failure) => Err(failure),
    }
}
