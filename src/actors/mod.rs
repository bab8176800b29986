//! Actors: the runtime that runs any service, and the services.
pub mod replica;
pub mod supervisor;
