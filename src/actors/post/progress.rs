//! How far a query has come that is answered in several steps.

use crate::actors::post::lists::ListId;
use crate::actors::post::message::{Comment, Place, SortKey};
use crate::actors::post::walk::Walk;

/// State of a query between its steps; starts as its default. Opaque to callers.
#[derive(Debug, Default, Clone)]
pub struct Progress {
    /// Steps done.
    pub(super) steps: u32,
    /// A list that must be read to a depth before anything else.
    pub(super) goal: Option<(ListId, usize)>,
    /// A list of several filters.
    pub(super) walk: Option<Box<Walk>>,
    /// A list read from a place on: where it goes on, and what was found.
    pub(super) scan: Option<(Option<Place>, Vec<SortKey>)>,
    /// Comments read so far.
    pub(super) comments: Vec<Comment>,
}
