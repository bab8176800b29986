//! What commands do: one function each, in the order of [`Command`].
//!
//! **Invariants**: A1 everything is decided from tables, stamp and command; caches are never read
//! here; A2 what changes is noted in the stash, and reaches caches only once it is merged.

use crate::actors::post::cache::PostChange;
use crate::actors::post::change::{Change, Outcome, is_published};
use crate::actors::post::event::Event;
use crate::actors::post::lists::Standing;
use crate::actors::post::message::{Command, Error, ImportKey, Reader, Reply, Visibility};
use crate::actors::post::tables::{
    self, CommentNumberRow, CommentRow, FavoriteRow, ImportRow, SummaryRow, TombstoneRow,
};
use crate::actors::state_machine::{Count, refuse};
use crate::ids::{Bucket, PostId, Stamp, UserId};
use crate::store::codec;

/// Comments that a post can ever have. Their list is answered whole.
pub(super) const COMMENTS_MAX: u32 = 10_000;
/// Bytes of the comments that a post can have at a time, for the same reason.
pub(super) const COMMENTS_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Posts that one command publishes when they are due.
pub(super) const DUE_POSTS_MAX: usize = 100;
/// Favorites that one such command moves along, beyond those of its first post: what is left waits
/// for the next command, so that others get their turn.
const DUE_FAVORITES_MAX: usize = 1_000;
/// Distance between two values of `updated_at`, in microseconds: the edge shows milliseconds.
const EDIT_STEP_US: u64 = 1_000;

/// The fields of [`Command::CreatePost`] that make the post.
struct NewPost {
    row: SummaryRow,
    body: String,
}

/// The fields of [`Command::EditPost`] that change the post.
struct Edit {
    title: Option<String>,
    description: Option<String>,
    body: Option<String>,
    tags: Option<Vec<String>>,
}

impl Change<'_, '_> {
    /// Applies one command.
    pub(super) fn run(&mut self, command: Command) -> Outcome<Reply> {
        let now = self.stamp;
        match command {
            Command::CreatePost {
                bucket,
                author,
                title,
                description,
                body,
                tags,
                visibility,
                publish_at,
                link_token,
                created_at,
                import,
            } => {
                let created_at = created_at.unwrap_or(now);
                let row = SummaryRow {
                    author,
                    title,
                    description,
                    tags,
                    visibility,
                    created_at,
                    updated_at: created_at,
                    published_at: is_published(visibility).then_some(created_at),
                    publish_at,
                    link_token,
                    version: 1,
                    import,
                };
                self.create_post(bucket, import, NewPost { row, body })
            }
            Command::EditPost { post, editor, title, description, body, tags, if_version } => {
                self.edit_post(post, &editor, if_version, Edit { title, description, body, tags })
            }
            Command::PublishPost { post, editor, visibility, at, link_token } => {
                self.publish_post(post, &editor, visibility, at, link_token)
            }
            Command::UnpublishPost { post, editor } => self.unpublish_post(post, &editor),
            Command::DeletePost { post, editor, if_version } => {
                self.delete_post(post, &editor, if_version)
            }
            Command::SetFavorite { post, reader, on } => {
                self.favor(post, &reader, on)?;
                Ok(Reply::Done)
            }
            Command::AddComment { post, reader, body, created_at, import } => {
                self.add_comment(post, &reader, body, created_at, import)
            }
            Command::DeleteComment { post, number, reader } => {
                self.delete_comment(post, number, &reader)
            }
            Command::PublishDue { bucket: _ } => self.publish_due(),
            Command::ImportFavorite { post, user } => self.import_favorite(post, user),
            Command::Favor { post, reader, on } => {
                Ok(Reply::Favorites(self.favor(post, &reader, on)?))
            }
        }
    }

    fn create_post(
        &mut self,
        bucket: Bucket,
        import: Option<ImportKey>,
        new: NewPost,
    ) -> Outcome<Reply> {
        let import = import.map(|key| tables::import_key(None, &key.0));
        if let Some(key) = &import
            && let Some(row) = tables::read(&self.tables.view(), tables::IMPORTS, key)?
        {
            return self.imported_before(&row);
        }
        let NewPost { mut row, body } = new;
        row.publish_at = self.schedule_of(row.visibility, row.publish_at)?;
        let post = PostId::new(self.stamp, bucket);
        if let Some(key) = import {
            self.tables.put(tables::IMPORTS, key, codec::encode(&ImportRow::Post(post)));
        }
        self.write(post, None, row, Some(&body))?;
        Ok(Reply::Post { id: post, version: 1 })
    }

    fn edit_post(
        &mut self,
        post: PostId,
        editor: &Reader,
        if_version: Option<u64>,
        edit: Edit,
    ) -> Outcome<Reply> {
        let before = self.owned(post, editor)?;
        check_version(&before, if_version)?;
        let Edit { title, description, body, tags } = edit;
        if title.is_none() && description.is_none() && body.is_none() && tags.is_none() {
            return Ok(Reply::Post { id: post, version: before.version });
        }
        let mut row = before.clone();
        row.title = title.unwrap_or(row.title);
        row.description = description.unwrap_or(row.description);
        row.tags = tags.unwrap_or(row.tags);
        row.updated_at = self.stamp.max(Stamp(row.updated_at.0.saturating_add(EDIT_STEP_US)));
        row.version += 1;
        let version = row.version;
        self.write(post, Some(&before), row, body.as_deref())?;
        Ok(Reply::Post { id: post, version })
    }

    fn publish_post(
        &mut self,
        post: PostId,
        editor: &Reader,
        visibility: Visibility,
        at: Option<Stamp>,
        link_token: [u8; 16],
    ) -> Outcome<Reply> {
        let before = self.owned(post, editor)?;
        let mut row = before.clone();
        row.publish_at = self.schedule_of(visibility, at)?;
        row.visibility = visibility;
        if visibility == Visibility::Unlisted {
            row.link_token = link_token;
        }
        self.republish(post, &before, row, self.stamp)
    }

    fn unpublish_post(&mut self, post: PostId, editor: &Reader) -> Outcome<Reply> {
        let before = self.owned(post, editor)?;
        let row = SummaryRow { visibility: Visibility::Draft, publish_at: None, ..before.clone() };
        self.republish(post, &before, row, self.stamp)
    }

    /// Costs a few rows for every comment and favorite of the post, in one command: the totals of
    /// everybody who favors it must be right at once.
    fn delete_post(
        &mut self,
        post: PostId,
        editor: &Reader,
        if_version: Option<u64>,
    ) -> Outcome<Reply> {
        let row = self.owned(post, editor)?;
        check_version(&row, if_version)?;
        let standing = Standing::of(post, &row);
        let favored_by = self.favored_by(post)?;
        self.restand(Some(&standing), None, &favored_by)?;
        self.reschedule(post, row.publish_at, None)?;
        for user in favored_by {
            self.tables.delete(tables::FAVORITES, tables::favorite_key(post, user));
            self.stash.favored.push((user, post, false));
        }
        let key = tables::post_key(post);
        for (table, prefix) in [
            (tables::COMMENTS, key.to_vec()),
            (tables::IMPORTS, tables::comment_imports_prefix(Some(post))),
        ] {
            let rows = self.tables.view().prefix(table, &prefix, &prefix)?;
            let keys = rows.map(|row| row.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()?;
            keys.into_iter().for_each(|key| self.tables.delete(table, key));
        }
        for table in
            [tables::SUMMARIES, tables::BODIES, tables::FAVORITE_COUNTS, tables::COMMENT_NUMBERS]
        {
            self.tables.delete(table, key);
        }
        let version = row.version + 1;
        let tombstone = TombstoneRow { version, deleted_at: self.stamp };
        self.tables.put(tables::TOMBSTONES, key, codec::encode(&tombstone));
        self.stash.posts.push(PostChange::Deleted(post));
        self.events.push(Event::PostDeleted { post, author: row.author, version });
        Ok(Reply::Done)
    }

    fn favor(&mut self, post: PostId, reader: &Reader, on: bool) -> Outcome<u64> {
        let row = self.seen(post, reader)?;
        self.put_favorite(post, &row, reader.id, on)
    }

    fn import_favorite(&mut self, post: PostId, user: UserId) -> Outcome<Reply> {
        let Some(row) = self.find(post)? else { return refuse(Error::NotFound) };
        self.put_favorite(post, &row, user, true)?;
        Ok(Reply::Done)
    }

    /// Returns how many users favor the post then.
    fn put_favorite(
        &mut self,
        post: PostId,
        row: &SummaryRow,
        user: UserId,
        on: bool,
    ) -> Outcome<u64> {
        let key = tables::favorite_key(post, user);
        let count_key = tables::post_key(post);
        let count = tables::read_count(&self.tables.view(), tables::FAVORITE_COUNTS, &count_key)?;
        if self.tables.get(tables::FAVORITES, &key)?.is_some() == on {
            return Ok(count);
        }
        let count = if on {
            self.tables.put(tables::FAVORITES, key, codec::encode(&FavoriteRow { at: self.stamp }));
            count + 1
        } else {
            self.tables.delete(tables::FAVORITES, key);
            count.checked_sub(1).ok_or_else(|| tables::damaged("more favorites than counted"))?
        };
        match count {
            0 => self.tables.delete(tables::FAVORITE_COUNTS, count_key),
            _ => {
                let row = codec::encode(&Count(count));
                self.tables.put(tables::FAVORITE_COUNTS, count_key, row);
            }
        }
        self.stand_as_favorite(user, &Standing::of(post, row), on)?;
        self.stash.favorites.push((post, count));
        self.stash.favored.push((user, post, on));
        self.events.push(Event::FavoriteChanged { post, user, on });
        Ok(count)
    }

    fn add_comment(
        &mut self,
        post: PostId,
        reader: &Reader,
        body: String,
        created_at: Option<Stamp>,
        import: Option<ImportKey>,
    ) -> Outcome<Reply> {
        match import {
            // It was seen when it was commented on.
            Some(_) if self.find(post)?.is_some() => {}
            Some(_) => return refuse(Error::NotFound),
            None => drop(self.seen(post, reader)?),
        }
        let import = import.map(|key| tables::import_key(Some(post), &key.0));
        if let Some(key) = &import
            && let Some(row) = tables::read(&self.tables.view(), tables::IMPORTS, key)?
        {
            return self.imported_before(&row);
        }
        let key = tables::post_key(post);
        let last: Option<CommentNumberRow> =
            tables::read(&self.tables.view(), tables::COMMENT_NUMBERS, &key)?;
        let CommentNumberRow { last, bytes } = last.unwrap_or_default();
        let (number, bytes) = (last + 1, bytes + body.len() as u64);
        if number > COMMENTS_MAX {
            return refuse(Error::TooManyComments(COMMENTS_MAX));
        }
        if bytes > COMMENTS_BYTES_MAX {
            return refuse(Error::CommentsFull);
        }
        let created_at = created_at.unwrap_or(self.stamp);
        let row = CommentRow { author: reader.id, body, created_at, updated_at: created_at };
        self.tables.put(tables::COMMENTS, tables::comment_key(post, number), codec::encode(&row));
        let last = CommentNumberRow { last: number, bytes };
        self.tables.put(tables::COMMENT_NUMBERS, key, codec::encode(&last));
        if let Some(key) = import {
            let row = ImportRow::Comment { number, created_at };
            self.tables.put(tables::IMPORTS, key, codec::encode(&row));
        }
        self.events.push(Event::CommentAdded { post, user: reader.id, number });
        Ok(Reply::Comment { number, created_at })
    }

    fn delete_comment(&mut self, post: PostId, number: u32, reader: &Reader) -> Outcome<Reply> {
        self.seen(post, reader)?;
        let key = tables::comment_key(post, number);
        let row: Option<CommentRow> = tables::read(&self.tables.view(), tables::COMMENTS, &key)?;
        let Some(row) = row else { return refuse(Error::CommentNotFound) };
        if row.author != reader.id {
            return refuse(Error::CommentForbidden);
        }
        self.tables.delete(tables::COMMENTS, key);
        let post_key = tables::post_key(post);
        let numbers: Option<CommentNumberRow> =
            tables::read(&self.tables.view(), tables::COMMENT_NUMBERS, &post_key)?;
        let CommentNumberRow { last, bytes } =
            numbers.ok_or_else(|| tables::damaged("a comment without a number"))?;
        let bytes = bytes
            .checked_sub(row.body.len() as u64)
            .ok_or_else(|| tables::damaged("more bytes of comments than counted"))?;
        let numbers = CommentNumberRow { last, bytes };
        self.tables.put(tables::COMMENT_NUMBERS, post_key, codec::encode(&numbers));
        Ok(Reply::Done)
    }

    fn publish_due(&mut self) -> Outcome<Reply> {
        let mut favorites_left = DUE_FAVORITES_MAX;
        for published in 0..DUE_POSTS_MAX {
            let Some((at, post)) = self.due.filter(|(at, _)| *at <= self.stamp) else { break };
            let before = self
                .find(post)?
                .ok_or_else(|| tables::damaged("a scheduled post does not exist"))?;
            let favorites = self.favorites(post)?;
            if published > 0 && favorites > favorites_left {
                break;
            }
            favorites_left = favorites_left.saturating_sub(favorites);
            let row =
                SummaryRow { visibility: Visibility::Public, publish_at: None, ..before.clone() };
            self.republish(post, &before, row, at)?;
        }
        Ok(Reply::Done)
    }
}

fn check_version(row: &SummaryRow, if_version: Option<u64>) -> Outcome<()> {
    match if_version {
        Some(version) if version != row.version => {
            refuse(Error::VersionMismatch { current: row.version })
        }
        _ => Ok(()),
    }
}
