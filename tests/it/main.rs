//! Tests of the whole program: a process, and HTTP. One binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and says where")]
#![expect(clippy::disallowed_methods, reason = "a whole process is a run that nobody repeats")]

mod api;
mod bad_input;
mod cli;
mod crash;
mod data_dir;
mod lifecycle;
mod overload;
mod rec;
mod support;
mod v1;
