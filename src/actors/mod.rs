//! Actors: the runtime that runs any service, and the services.
pub mod post;
pub mod replica;
pub mod state_machine;
pub mod user;
