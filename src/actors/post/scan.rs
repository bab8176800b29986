//! Lists from a place on: what a cursor asks for. Rows are read straight from the table, so that a
//! page deep down costs what the first one does.
//!
//! **Invariants**: Q2 pages that follow one another show every post once that stood in the list all
//! the while, whatever came or went between them.

use crate::actors::post::lists::Shelf;
use crate::actors::post::message::{Filter, Place, SortKey};
use crate::actors::post::progress::Progress;
use crate::actors::post::reads::{Ahead, Reads};
use crate::actors::post::select::is_hidden;
use crate::actors::user::message::Viewer;
use crate::store::error::StoreError;

impl Reads<'_> {
    /// At most `limit` keys beyond `place` of what matches every filter. Nothing: this step has done
    /// enough, go on in the next.
    pub(super) fn scan(
        &mut self,
        filters: &[Filter],
        viewer: Option<&Viewer>,
        place: Option<Place>,
        limit: usize,
        progress: &mut Progress,
    ) -> Result<Option<Vec<SortKey>>, StoreError> {
        if !self.resume(progress)? {
            return Ok(None);
        }
        let mut shelves: Vec<Shelf> = Vec::new();
        for shelf in filters.iter().map(Shelf::from) {
            if let Shelf::Author(author) = shelf
                && is_hidden(viewer, author)
            {
                return Ok(Some(Vec::new()));
            }
            if shelf != Shelf::All && !shelves.contains(&shelf) {
                shelves.push(shelf);
            }
        }
        if shelves.is_empty() {
            shelves.push(Shelf::All);
        }
        let (mut place, mut found) = progress.scan.take().unwrap_or((place, Vec::new()));
        let mut lists = Vec::new();
        for list in self.shortest(&shelves, viewer)? {
            lists.push(Ahead::open(list, &self.tables, place)?);
        }
        while found.len() < limit {
            let ahead = lists.iter_mut().filter(|list| list.head.is_some());
            let nearest = ahead.max_by(|left, right| match place {
                Some(Place::Before(_)) => right.key().cmp(&left.key()),
                Some(Place::After(_)) | None => left.key().cmp(&right.key()),
            });
            let Some(nearest) = nearest else { break };
            if self.left == 0 {
                progress.scan = Some((place, found));
                return Ok(None);
            }
            self.left = self.left.saturating_sub(shelves.len());
            let Some(entry) = nearest.next()? else { break };
            place = Some(match place {
                Some(Place::Before(_)) => Place::Before(entry.key),
                Some(Place::After(_)) | None => Place::After(entry.key),
            });
            if !is_hidden(viewer, entry.author)
                && self.stands_on_all(&shelves, &nearest.list, entry)?
            {
                found.push(entry.key);
            }
        }
        Ok(Some(found))
    }
}
