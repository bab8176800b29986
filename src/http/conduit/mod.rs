//! The RealWorld ("Conduit") API 2.0: what existing front ends speak. One file per resource.
//!
//! Free choices of that specification, as they are made here: a second favorite or follow changes
//! nothing; nobody follows himself (422); a page has at most 100 articles; unknown members are
//! ignored; malformed JSON is 400, JSON of the wrong shape 422.

pub mod article;
pub mod articles;
pub mod comments;
pub mod orders;
pub mod pages;
pub mod profiles;
pub mod render;
mod seen;
pub mod tags;
pub mod template;
pub mod users;
