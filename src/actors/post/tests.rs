//! Tests of the post service over tables in memory: no actor, no clock.

mod bytes;
mod caches;
mod check;
mod commands;
mod history;
mod model;
mod support;
mod upgrade;
mod visible;
