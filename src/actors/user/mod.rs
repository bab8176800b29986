//! The user service: accounts, claims of names and addresses, and the edges that start at a user.
pub mod event;
pub mod message;
