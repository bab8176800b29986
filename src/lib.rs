//! Quire: the back end of a publishing platform as supervised actors.
pub mod actors;
pub mod cli;
pub mod config;
pub mod demo;
pub mod error;
pub mod http;
pub mod ids;
pub mod node;
pub mod store;
pub mod telemetry;
pub mod transfer;
