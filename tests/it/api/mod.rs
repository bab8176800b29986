//! Every row of the RealWorld API, over HTTP, with one shard per service and with four.

mod articles;
mod comments;
mod concurrency;
mod edge;
mod lists;
mod profiles;
mod users;

use serde_json::{Value, json};

use crate::support::client::Response;

/// The body of an error: one field, one message.
fn error(field: &str, message: &str) -> Value {
    json!({"errors": {field: [message]}})
}

/// An error of this status with exactly this body.
#[track_caller]
fn assert_error(response: Response, status: u16, field: &str, message: &str) {
    assert_eq!(response.expect(status).json(), error(field, message));
}

/// `2016-02-18T03:22:56.637Z`
#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999Z", "{value}");
}
