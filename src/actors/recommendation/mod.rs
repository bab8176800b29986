//! The recommendation service: its pure core.

mod digest;
mod engine;
pub mod event;
mod features;
mod fixed;
mod gather;
pub mod item;
pub mod learner;
mod math;
mod neighbours;
mod pace;
mod post;
mod reader;
mod recommend;
mod rules;
mod scratch;
pub mod settings;
pub mod signature;
mod tag;
mod top_list;
pub mod weights;

#[cfg(test)]
mod tests;

pub use engine::Engine;
pub use recommend::Options;
pub use scratch::Scratch;
