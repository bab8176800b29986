//! A command at work, and what several commands do.

use std::sync::Arc;

use crate::actors::post::cache::{PostChange, Stash};
use crate::actors::post::event::Event;
use crate::actors::post::lists::Standing;
use crate::actors::post::message::{Error, Reader, Reply, Visibility};
use crate::actors::post::tables::{self, ImportRow, ScheduleRow, SummaryRow, TombstoneRow};
use crate::actors::post::visibility::{Relation, Surface, is_listed, may_see};
use crate::actors::signature::Signature;
use crate::actors::state_machine::{ReadTables, Stop, Tables, refuse};
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec;
use crate::store::error::StoreError;

/// When the next scheduled post is due, and which it is.
pub(super) type Due = (Stamp, PostId);

/// What a part of a command comes to.
pub(super) type Outcome<T> = Result<T, Stop<Error>>;

/// One command at work.
pub(super) struct Change<'a, 't> {
    pub(super) tables: &'a mut Tables<'t>,
    pub(super) stamp: Stamp,
    pub(super) stash: &'a mut Stash,
    /// The first row of the schedule, as this command has left it so far.
    pub(super) due: Option<Due>,
    pub(super) events: Vec<Event>,
}

impl Change<'_, '_> {
    /// Brings a post to another visibility; `published_at` if it was never published. Costs a few
    /// rows for everybody who favors the post, in one command, as a deletion does.
    pub(super) fn republish(
        &mut self,
        post: PostId,
        before: &SummaryRow,
        mut row: SummaryRow,
        published_at: Stamp,
    ) -> Outcome<Reply> {
        if row == *before {
            return Ok(Reply::Post { id: post, version: row.version });
        }
        if is_published(row.visibility) {
            row.published_at = row.published_at.or(Some(published_at));
        }
        row.version += 1;
        let version = row.version;
        self.write(post, Some(before), row, None)?;
        Ok(Reply::Post { id: post, version })
    }

    /// Writes a post in a new version, with all that follows from it.
    pub(super) fn write(
        &mut self,
        post: PostId,
        before: Option<&SummaryRow>,
        row: SummaryRow,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        let key = tables::post_key(post);
        self.tables.put(tables::SUMMARIES, key, codec::encode(&row));
        let body = text.map(|text| {
            let (row, body) = tables::encode_body(text);
            self.tables.put(tables::BODIES, key, row);
            body
        });
        let old = before.map(|before| Standing::of(post, before));
        let new = Standing::of(post, &row);
        let favored_by = match &old {
            Some(old) if !old.same_for_favorites(&new) => self.favored_by(post)?,
            _ => Vec::new(),
        };
        self.restand(old.as_ref(), Some(&new), &favored_by)?;
        // Their rows have other keys now: a cache that is just reading them must not miss this one.
        self.stash.favored.extend(favored_by.into_iter().map(|user| (user, post, true)));
        self.reschedule(post, before.and_then(|before| before.publish_at), row.publish_at)?;
        let signature = signature(&self.tables.view(), post, &row, text)?;
        self.events.push(Event::PostChanged {
            post,
            author: row.author,
            version: row.version,
            visibility: row.visibility,
            published_at: row.published_at,
            tags: row.tags.clone(),
            signature,
        });
        let summary = Arc::new(row.into_summary(post));
        self.stash.posts.push(match before {
            None => PostChange::Created(summary, body.expect("a new post comes with its body")),
            Some(_) => PostChange::Changed(summary, body),
        });
        Ok(())
    }

    /// Moves a post in the schedule, and keeps `due` its first row.
    pub(super) fn reschedule(
        &mut self,
        post: PostId,
        before: Option<Stamp>,
        after: Option<Stamp>,
    ) -> Result<(), StoreError> {
        if before == after {
            return Ok(());
        }
        if let Some(at) = after {
            let key = tables::schedule_key(at, post);
            self.tables.put(tables::SCHEDULE, key, codec::encode(&ScheduleRow));
            self.due = Some(self.due.map_or((at, post), |due| due.min((at, post))));
        }
        if let Some(at) = before {
            let key = tables::schedule_key(at, post);
            self.tables.delete(tables::SCHEDULE, key);
            if self.due == Some((at, post)) {
                self.due = first_due(&self.tables.view(), &key)?;
            }
        }
        Ok(())
    }

    /// The time to keep for a post of this visibility.
    pub(super) fn schedule_of(
        &self,
        visibility: Visibility,
        at: Option<Stamp>,
    ) -> Outcome<Option<Stamp>> {
        if visibility != Visibility::Scheduled {
            return Ok(None);
        }
        match at {
            Some(at) if at > self.stamp => Ok(Some(at)),
            _ => refuse(Error::ScheduleInvalid),
        }
    }

    pub(super) fn imported_before(&self, row: &ImportRow) -> Outcome<Reply> {
        let id = match row {
            ImportRow::Post(post) => *post,
            ImportRow::Comment { number, created_at } => {
                return Ok(Reply::Comment { number: *number, created_at: *created_at });
            }
        };
        if let Some(row) = self.find(id)? {
            return Ok(Reply::Post { id, version: row.version });
        }
        let key = tables::post_key(id);
        let dead: Option<TombstoneRow> =
            tables::read(&self.tables.view(), tables::TOMBSTONES, &key)?;
        let dead = dead.ok_or_else(|| tables::damaged("an imported post left no trace"))?;
        Ok(Reply::Post { id, version: dead.version })
    }

    pub(super) fn find(&self, post: PostId) -> Result<Option<SummaryRow>, StoreError> {
        tables::read(&self.tables.view(), tables::SUMMARIES, &tables::post_key(post))
    }

    /// The post, if the reader may see it.
    pub(super) fn seen(&self, post: PostId, reader: &Reader) -> Outcome<SummaryRow> {
        let Some(row) = self.find(post)? else { return refuse(Error::NotFound) };
        let relation = Relation::of_reader(reader, row.author);
        let surface = Surface::Direct { link_token: reader.link_token.as_ref() };
        if !may_see(row.visibility, &row.link_token, relation, surface) {
            return refuse(Error::NotFound);
        }
        Ok(row)
    }

    /// The post, if it is the editor's.
    pub(super) fn owned(&self, post: PostId, editor: &Reader) -> Outcome<SummaryRow> {
        let row = self.seen(post, editor)?;
        if row.author != editor.id {
            return refuse(Error::Forbidden);
        }
        Ok(row)
    }

    pub(super) fn favorites(&self, post: PostId) -> Result<usize, StoreError> {
        let key = tables::post_key(post);
        let count = tables::read_count(&self.tables.view(), tables::FAVORITE_COUNTS, &key)?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    pub(super) fn favored_by(&self, post: PostId) -> Result<Vec<UserId>, StoreError> {
        let count = self.favorites(post)?;
        let mut users = Vec::with_capacity(count);
        if count == 0 {
            return Ok(users);
        }
        let key = tables::post_key(post);
        for row in self.tables.view().prefix(tables::FAVORITES, &key, &key)? {
            users.push(tables::user_of_favorite_key(&row?.0)?);
        }
        debug_assert_eq!(users.len(), count, "a post's favorites are as many as counted");
        Ok(users)
    }
}

/// What a post's text is about, if it is public; `text` is its body where that is new.
pub(super) fn signature(
    tables: &ReadTables<'_>,
    post: PostId,
    row: &SummaryRow,
    text: Option<&str>,
) -> Result<Signature, StoreError> {
    if !is_listed(row.visibility) {
        return Ok(Signature::default());
    }
    if let Some(text) = text {
        return Ok(Signature::of(&row.title, text));
    }
    let known = tables.get(tables::BODIES, &tables::post_key(post))?;
    let body = known.as_ref().map(tables::decode_body).transpose()?;
    let text = body.as_ref().map(tables::text_of).transpose()?;
    Ok(Signature::of(&row.title, text.as_deref().unwrap_or_default()))
}

/// The first post of the schedule from this key on.
pub(super) fn first_due(tables: &ReadTables<'_>, from: &[u8]) -> Result<Option<Due>, StoreError> {
    let row = tables.range(tables::SCHEDULE, from, None)?.next().transpose()?;
    row.map(|(key, _)| tables::due_of_key(&key)).transpose()
}

/// Whether a post of this visibility has been shown to anybody but its author.
pub(super) fn is_published(visibility: Visibility) -> bool {
    match visibility {
        Visibility::Public | Visibility::Followers | Visibility::Unlisted => true,
        Visibility::Scheduled | Visibility::Draft => false,
    }
}
