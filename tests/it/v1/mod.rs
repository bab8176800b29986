//! The native API, over HTTP, with one shard per service and with four.

mod docs;
mod once;
mod people;
mod posts;
mod reader;
mod recommendations;
mod writing;

use serde_json::Value;

use crate::support::client::Response;

/// A problem of this status and code that names exactly these members or parameters, and its page.
#[track_caller]
fn assert_problem(answer: &Response, status: u16, code: &str, pointers: &[&str]) {
    assert_eq!(answer.status, status, "body: {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["type"], format!("/docs/problems/{code}"));
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
    let errors = problem["errors"].as_array().expect("a problem has a list of errors");
    let found: Vec<&str> = errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
    assert_eq!(found, pointers, "{problem}");
    for name in ["title", "detail"] {
        assert!(problem[name].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
}

/// `2016-02-18T03:22:56.637104Z`
#[track_caller]
fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999999Z", "{value}");
}

/// The titles of a page.
#[track_caller]
fn titles(page: &Value) -> Vec<&str> {
    let data = page["data"].as_array().expect("a page has data");
    data.iter().map(|post| post["title"].as_str().expect("a title is text")).collect()
}
