//! The built-in documentation: OpenAPI, the pages that browse it, and a page for every kind of
//! problem. Everything is in the program, so it is there without a network.

use std::sync::{Arc, LazyLock};

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa_swagger_ui::Config;

use crate::error::ErrorCode;
use crate::http::conduit::render::json;
use crate::http::error::{Answered, Failure, detail_of, status_of};
use crate::http::v1::openapi::document;

static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| {
    let document = document().to_json().expect("the documentation is JSON");
    document.into()
});

/// `GET /v1/openapi.json`
pub async fn openapi() -> Response {
    json(OPENAPI.clone())
}

/// `GET /docs`: the pages name one another relative to where they are.
pub async fn index() -> Redirect {
    Redirect::permanent("/docs/")
}

/// `GET /docs/`
pub async fn start() -> Answered {
    page("index.html")
}

/// `GET /docs/{file}`
pub async fn file(Path(file): Path<String>) -> Answered {
    page(&file)
}

fn page(file: &str) -> Answered {
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from("/v1/openapi.json")));
    let found = utoipa_swagger_ui::serve(file, CONFIG.clone());
    let found = found.map_err(|error| Failure::internal(error.to_string()))?;
    let found = found.ok_or_else(|| Failure::not_found("file"))?;
    let kind = HeaderValue::from_str(&found.content_type);
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut response = Response::new(Body::from(found.bytes.into_owned()));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// `GET /docs/problems/{code}`: where the `type` of a problem leads.
pub async fn problem(Path(code): Path<String>) -> Answered {
    let code = ErrorCode::ALL.into_iter().find(|known| known.name() == code);
    let code = code.ok_or_else(|| Failure::not_found("problem"))?;
    let (name, status, detail) = (code.name(), status_of(code), detail_of(code));
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{name}</title>\n\
         <h1><code>{name}</code></h1>\n<p>Status {status}: {detail}.</p>\n<p>{}</p>\n\
         <p><a href=\"/docs/\">The API</a></p>\n</html>\n",
        advice(code)
    );
    let mut response = (StatusCode::OK, page).into_response();
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// What a client can do, in HTML.
fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Invalid => {
            "Nothing happened. <code>errors</code> names every member and parameter that is wrong. \
             The status is 400 where the bytes are not what the protocol says, 405 and 415 for a \
             method or media type that is not taken."
        }
        ErrorCode::Unauthenticated => {
            "Nothing happened. Send <code>Authorization: Bearer …</code> with a token that is valid."
        }
        ErrorCode::Forbidden => "Nothing happened. It can be seen, but only its owner may do this.",
        ErrorCode::NotFound => {
            "There is no such thing, or it is not for you: the answer is the same, so that it tells \
             nothing."
        }
        ErrorCode::Conflict => {
            "Nothing happened. With status 412 fetch the thing again and decide anew, with 428 say \
             in <code>If-Match</code> which version you mean; with 409 a name is taken, or a request \
             with the same <code>Idempotency-Key</code> is at work."
        }
        ErrorCode::TooLarge => "Nothing happened. Send less.",
        ErrorCode::RateLimited => {
            "Nothing happened. Wait as many seconds as <code>Retry-After</code> says; \
             <code>RateLimit</code> tells with every answer how much is left."
        }
        ErrorCode::Overloaded => {
            "Nothing happened. Repeat the request after <code>Retry-After</code> seconds."
        }
        ErrorCode::Unavailable => {
            "Nothing happened. Repeat the request after <code>Retry-After</code> seconds. If it \
             stays so, the node may be starting, or its disk may be full."
        }
        ErrorCode::DeadlineExceeded => "Nothing happened. Repeat the request.",
        ErrorCode::UnknownOutcome => {
            "It may have happened. A POST with an <code>Idempotency-Key</code> is safe to repeat \
             under the same key, and so are PUT and DELETE; otherwise look first."
        }
        ErrorCode::Internal => {
            "A fault of the server. <code>request_id</code> leads to its cause in the log."
        }
    }
}
