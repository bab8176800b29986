//! The post service: posts, who may see them, comments, favorites, tags and lists.
pub mod event;
pub mod message;
