//! Mechanism: bytes, files, durability. No word of the product appears here.
pub mod codec;
pub mod error;
#[cfg(test)]
pub(crate) mod fault;
pub mod log;
