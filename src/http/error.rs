//! How a request fails: the only place that turns an [`ErrorCode`] into a status and a body.
//!
//! A handler answers with a [`Failure`]; the [`edge`](crate::http::edge) then writes it in the shape
//! of the path: RealWorld's under `/api`, RFC 9457 elsewhere. So a handler need not know which API
//! it serves, nor the id of its request.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::actors::call::CallError;
use crate::actors::post::message as post;
use crate::actors::recommendation::message as recommendation;
use crate::actors::state_machine::Refusal;
use crate::actors::user::message as user;
use crate::error::ErrorCode;
use crate::http::request::RequestId;

type Text = Cow<'static, str>;

/// Media type of a [`Problem`].
pub const PROBLEM: &str = "application/problem+json";
/// Says that an answer is what became of an earlier sending under the same idempotency key.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// What a client is told whose `If-Match` does not hold.
pub const STALE: &str = "the post has another version now; fetch it again";
/// Where the pages are that explain problems; the code follows.
pub const PROBLEM_PAGES: &str = "/docs/problems/";

/// Why a request failed (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Address of a page that says what this is and what can be done about it.
    r#type: String,
    /// Name of the status.
    title: String,
    /// Status of the response.
    status: u16,
    /// What is wrong, for a person.
    detail: String,
    /// What kind of outcome it is, for a program.
    code: String,
    /// Of the request; leads to its log lines.
    request_id: String,
    /// Everything that is wrong with what was sent.
    errors: Vec<FieldProblem>,
}

/// What is wrong with one member or parameter.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// JSON pointer to the member; a parameter of the address by its name.
    pointer: String,
    /// What is wrong with it.
    detail: String,
}

/// Why a request fails.
#[derive(Debug, Clone)]
pub struct Failure {
    code: ErrorCode,
    status: StatusCode,
    /// Field and what is wrong with it.
    errors: Vec<(Text, Text)>,
    /// What a client is told where no field is wrong; none: what its code says.
    detail: Option<&'static str>,
    /// Seconds after which a refused request may be repeated.
    retry_after_s: u64,
    /// It is what became of an earlier sending under the same idempotency key.
    replayed: bool,
    /// For the log only: a client never sees the cause of a 5xx.
    cause: Option<Text>,
}

/// Which of the two shapes a path has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `{"errors":{"field":["message"]}}`.
    RealWorld,
    /// RFC 9457.
    Problem,
}

impl Shape {
    /// The shape of errors under this path.
    pub fn of_path(path: &str) -> Self {
        match path.strip_prefix("/api") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::RealWorld,
            Some(_) | None => Self::Problem,
        }
    }
}

/// Shorthand for what a handler answers.
pub type Answered<T = Response> = Result<T, Failure>;

impl Failure {
    /// A failure that speaks for itself.
    pub fn new(code: ErrorCode) -> Self {
        let status = status_of(code);
        Self {
            code,
            status,
            errors: Vec::new(),
            detail: None,
            retry_after_s: 1,
            replayed: false,
            cause: None,
        }
    }

    /// One field is wrong, or the thing it names.
    pub fn field(code: ErrorCode, field: impl Into<Text>, message: impl Into<Text>) -> Self {
        Self { errors: vec![(field.into(), message.into())], ..Self::new(code) }
    }

    /// One field is not valid.
    pub fn invalid(field: impl Into<Text>, message: impl Into<Text>) -> Self {
        Self::field(ErrorCode::Invalid, field, message)
    }

    /// All fields that are not valid.
    pub fn invalid_fields(errors: Vec<(Text, Text)>) -> Self {
        Self { errors, ..Self::new(ErrorCode::Invalid) }
    }

    /// There is no such thing.
    pub fn not_found(what: &'static str) -> Self {
        Self::field(ErrorCode::NotFound, what, "not found")
    }

    /// The same failure of a read that follows a write of the same request: the write happened, so
    /// nothing may be said that means "no effect".
    pub fn after_write(self) -> Self {
        match self.code {
            ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::DeadlineExceeded => {
                Self { cause: self.cause, ..Self::new(ErrorCode::UnknownOutcome) }
            }
            ErrorCode::Invalid
            | ErrorCode::Unauthenticated
            | ErrorCode::Forbidden
            | ErrorCode::NotFound
            | ErrorCode::Conflict
            | ErrorCode::TooLarge
            | ErrorCode::RateLimited
            | ErrorCode::UnknownOutcome
            | ErrorCode::Internal => self,
        }
    }

    /// Signing in failed too often.
    pub fn too_many_signins(retry_after_s: u64) -> Self {
        let message = "failed too often; wait before the next try";
        Self { retry_after_s, ..Self::field(ErrorCode::RateLimited, "credentials", message) }
    }

    /// The same caller met too many faults of ours.
    pub fn too_many_faults(retry_after_s: u64) -> Self {
        Self { retry_after_s, ..Self::new(ErrorCode::RateLimited) }
    }

    /// The same caller asked too often.
    pub fn too_many_requests(retry_after_s: u64) -> Self {
        Self { retry_after_s, ..Self::new(ErrorCode::RateLimited) }
    }

    /// The bytes are not what the protocol says.
    pub fn malformed(message: impl Into<Text>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, ..Self::invalid("body", message) }
    }

    /// The same of one parameter.
    pub fn malformed_at(parameter: &'static str, message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, ..Self::invalid(parameter, message) }
    }

    /// A condition of the request does not hold, or is missing.
    pub fn condition(status: StatusCode, detail: &'static str) -> Self {
        Self { status, detail: Some(detail), ..Self::new(ErrorCode::Conflict) }
    }

    /// The request before it under the same idempotency key is still at work.
    pub fn still_running() -> Self {
        let detail = "a request with this idempotency key is at work; ask again when it has ended";
        Self::condition(StatusCode::CONFLICT, detail)
    }

    /// Another outcome of the same request, as it was answered before or not.
    #[must_use]
    pub fn turned_into(&self, code: ErrorCode) -> Self {
        Self { replayed: self.replayed, ..Self::new(code) }
    }

    /// The same failure as it was answered before.
    #[must_use]
    pub fn replayed(self, replayed: bool) -> Self {
        Self { replayed, ..self }
    }

    /// A fault of ours; the cause is for the log.
    pub fn internal(cause: impl Into<Text>) -> Self {
        Self { cause: Some(cause.into()), ..Self::new(ErrorCode::Internal) }
    }

    /// A status that the framework chose itself.
    pub fn of_status(status: StatusCode) -> Self {
        let (code, field, message) = match status {
            StatusCode::NOT_FOUND => (ErrorCode::NotFound, "path", "not found"),
            StatusCode::MISDIRECTED_REQUEST => (ErrorCode::Invalid, "host", "names another server"),
            StatusCode::METHOD_NOT_ALLOWED => (ErrorCode::Invalid, "method", "is not allowed"),
            StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::TooLarge, "body", "is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                (ErrorCode::Invalid, "content-type", "must be application/json")
            }
            StatusCode::REQUEST_TIMEOUT => {
                (ErrorCode::DeadlineExceeded, "body", "did not arrive in time")
            }
            _ if status.is_client_error() => (ErrorCode::Invalid, "request", "is not valid"),
            _ => (ErrorCode::Internal, "server", "failed"),
        };
        Self { status, ..Self::field(code, field, message) }
    }

    /// What kind of outcome this is.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Logs what a person must look at, once; the id in the body leads here.
    pub fn log(&self, id: &RequestId, route: &str) {
        let request_id = id.as_str();
        let cause = self.cause.as_deref().unwrap_or("an internal fault");
        match self.code {
            ErrorCode::Internal => tracing::error!(request_id, route, cause, "request failed"),
            _ => tracing::debug!(request_id, route, code = self.code.name(), "request refused"),
        }
    }

    /// The body and headers in the shape of the path.
    pub fn write(&self, shape: Shape, id: &RequestId, response: &mut Response) {
        *response.status_mut() = self.status;
        let (kind, body) = match shape {
            Shape::RealWorld => ("application/json", self.real_world(id)),
            Shape::Problem => (PROBLEM, self.problem(id)),
        };
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let may_retry =
            [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status);
        if may_retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = match shape {
                Shape::RealWorld => "Token",
                Shape::Problem => "Bearer",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        *response.body_mut() = Body::from(body.to_string());
    }

    fn real_world(&self, id: &RequestId) -> serde_json::Value {
        let mut fields = serde_json::Map::new();
        for (field, message) in &self.errors {
            let messages = fields.entry(field.as_ref()).or_insert_with(|| json!([]));
            if let Some(messages) = messages.as_array_mut() {
                messages.push(json!(message));
            }
        }
        if fields.is_empty() {
            let message = match self.code {
                ErrorCode::Internal => format!("failed; incident {}", id.as_str()),
                _ => self.detail.unwrap_or(detail_of(self.code)).to_owned(),
            };
            fields.insert("server".to_owned(), json!([message]));
        }
        json!({ "errors": fields })
    }

    fn problem(&self, id: &RequestId) -> serde_json::Value {
        // Nothing is wrong with a field where the thing is not there or not one's own; and its name
        // there is that of the other API.
        let fields = match self.code {
            ErrorCode::NotFound | ErrorCode::Forbidden => &[][..],
            _ => &self.errors,
        };
        let detail = match (fields.first(), self.detail) {
            (Some((field, message)), _) => format!("`{field}` {message}"),
            (None, detail) => detail.unwrap_or(detail_of(self.code)).to_owned(),
        };
        let errors = fields.iter().map(|(field, message)| FieldProblem {
            pointer: format!("/{}", field.replace('~', "~0")),
            detail: message.to_string(),
        });
        let problem = Problem {
            r#type: format!("{PROBLEM_PAGES}{}", self.code.name()),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail,
            code: self.code.name().to_owned(),
            request_id: id.as_str().to_owned(),
            errors: errors.collect(),
        };
        serde_json::to_value(problem).expect("a problem is JSON")
    }
}

/// The status of an outcome. Malformed input has its own; see [`Failure::malformed`].
pub fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::UnknownOutcome => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a client may know, and can do about it.
pub fn detail_of(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Invalid => "the request is not valid",
        ErrorCode::Unauthenticated => "sign in first",
        ErrorCode::Forbidden => "that is not yours",
        ErrorCode::NotFound => "there is no such thing",
        ErrorCode::Conflict => "it contradicts what is there",
        ErrorCode::TooLarge => "larger than allowed",
        ErrorCode::RateLimited => "too often; wait before the next try",
        ErrorCode::Overloaded => "no capacity at the moment; try again",
        ErrorCode::Unavailable => "cannot be reached at the moment; try again",
        ErrorCode::DeadlineExceeded => "not finished in time; it had no effect",
        ErrorCode::UnknownOutcome => "it may or may not have happened: look before you repeat it",
        ErrorCode::Internal => "a fault of ours; the request id leads to its cause",
    }
}

impl IntoResponse for Failure {
    /// Only a status and the failure itself: the edge writes the body.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A call without an answer, for reasons of the runtime.
fn of_call<R: Refusal>(error: &CallError<R>) -> Failure {
    if matches!(error, CallError::KeyReused) {
        return Failure::invalid("idempotency-key", "was used with another request");
    }
    let mut failure = Failure::new(error.code());
    failure.cause = Some(Cow::Owned(error.to_string()));
    failure
}

impl From<CallError<user::Error>> for Failure {
    fn from(error: CallError<user::Error>) -> Self {
        let CallError::Refused(refusal) = &error else { return of_call(&error) };
        let code = refusal.code();
        match refusal {
            user::Error::NotFound => Self::not_found("profile"),
            user::Error::PostNotFound => Self::not_found("article"),
            user::Error::Taken(kind) => taken(*kind),
            user::Error::Yourself => Self::field(code, "username", "is your own"),
            user::Error::TooManyEdges(_) => Self::field(code, "username", refusal.to_string()),
            user::Error::InTheFuture => Self::field(code, "at", "lies in the future"),
            user::Error::TooManyTags(_) => Self::field(code, "tag", refusal.to_string()),
            user::Error::TooManyReads(_) => Self::field(code, "reads", refusal.to_string()),
            user::Error::Stale { .. } | user::Error::ClaimVoid | user::Error::IdTaken => {
                of_call(&error)
            }
        }
    }
}

/// A name or address belongs to somebody else.
pub fn taken(kind: user::ClaimKind) -> Failure {
    let field = match kind {
        user::ClaimKind::Name => "username",
        user::ClaimKind::Email => "email",
    };
    Failure::field(ErrorCode::Conflict, field, "has already been taken")
}

impl From<CallError<recommendation::Error>> for Failure {
    fn from(error: CallError<recommendation::Error>) -> Self {
        match &error {
            CallError::Refused(recommendation::Error::Experiments(why)) => {
                Self::invalid("experiment", why.to_string())
            }
            _ => of_call(&error),
        }
    }
}

impl From<CallError<post::Error>> for Failure {
    fn from(error: CallError<post::Error>) -> Self {
        let CallError::Refused(refusal) = &error else { return of_call(&error) };
        let code = refusal.code();
        match refusal {
            post::Error::NotFound => Self::not_found("article"),
            post::Error::CommentNotFound => Self::not_found("comment"),
            post::Error::Forbidden => Self::field(code, "article", "forbidden"),
            post::Error::CommentForbidden => Self::field(code, "comment", "forbidden"),
            post::Error::VersionMismatch { .. } => {
                Self::condition(StatusCode::PRECONDITION_FAILED, STALE)
            }
            post::Error::TooManyComments(_) | post::Error::CommentsFull => {
                Self::field(code, "comment", refusal.to_string())
            }
            post::Error::ScheduleInvalid => Self::field(code, "publish_at", refusal.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_fails_after_a_write_does_not_deny_the_write() {
        let read = |error: CallError<post::Error>| Failure::from(error).after_write().code();
        for error in [CallError::Overloaded, CallError::Unavailable, CallError::DeadlineExceeded] {
            assert_eq!(read(error), ErrorCode::UnknownOutcome);
        }
        assert_eq!(read(CallError::Internal), ErrorCode::Internal);
        assert_eq!(read(CallError::Refused(post::Error::NotFound)), ErrorCode::NotFound);
    }
}
