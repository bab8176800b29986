//! What queries answer: one function each, in the order of [`Query`].

use std::ops::Range;
use std::sync::Arc;

use crate::actors::post::cache::CachedTags;
use crate::actors::post::change::signature;
use crate::actors::post::message::{
    Answer, Comment, CopiedPost, Error, ExportedPost, Origin, Query, Summary,
};
use crate::actors::post::progress::Progress;
use crate::actors::post::reads::Reads;
use crate::actors::post::tables::{
    self, CommentRow, FavoriteRow, ImportRow, MAGNITUDE_EXACT, SummaryRow, TagRow,
};
use crate::actors::post::visibility::{Relation, Surface, may_see};
use crate::actors::state_machine::{RowKey, Step, Stop, refuse};
use crate::actors::user::message::Viewer;
use crate::config::{OFFSET_MAX, PAGE_MAX, TAGS_PAGE_MAX};
use crate::ids::PostId;
use crate::store::codec;
use crate::store::error::StoreError;

/// Posts that one page of an export holds.
const EXPORT_POSTS_MAX: usize = 256;
/// The same of a copy, for which the signature of each text is made: about a millisecond.
const COPY_POSTS_MAX: usize = 64;
/// Bytes of comments that cost as much as a row: they are copied, and held until the last is read.
const COMMENT_ROW_BYTES: usize = 1024;
/// Rows of favorites and comments after which such a page ends early.
const EXPORT_ROWS_MAX: usize = 4_096;

type Outcome<T> = Result<T, Stop<Error>>;

impl Reads<'_> {
    /// Answers a query, or does one step of it.
    pub(super) fn run(&mut self, query: &mut Query) -> Outcome<Step<Answer>> {
        match query {
            Query::GetPost { post, viewer, link_token, known, favorited } => {
                let viewer = viewer.as_deref();
                let found = self.seen(*post, viewer, link_token.as_ref())?;
                let body = match *known == Some(found.0.version) {
                    true => None,
                    false => Some(self.body(*post)?),
                };
                let view = self.view(found, viewer.filter(|_| *favorited))?;
                Ok(Step::Done(Answer::Post(view, body)))
            }
            Query::ListKeys { filters, viewer, window, progress } => {
                let window = checked(window);
                let selection = self.select(filters, viewer.as_deref(), window, progress)?;
                Ok(selection.map_or(Step::Again, |found| {
                    Step::Done(Answer::Keys { keys: found.keys, total: found.total })
                }))
            }
            Query::ListKeysFrom { filters, viewer, place, limit, progress } => {
                let limit = (*limit).min(PAGE_MAX + 1);
                let keys = self.scan(filters, viewer.as_deref(), *place, limit, progress)?;
                Ok(keys.map_or(Step::Again, |keys| Step::Done(Answer::KeysFrom(keys))))
            }
            Query::FeedKeys { viewer, window, progress } => {
                let selection = self.select_feed(viewer, checked(window), progress)?;
                Ok(selection.map_or(Step::Again, |found| {
                    Step::Done(Answer::Keys { keys: found.keys, total: found.total })
                }))
            }
            Query::GetPersonal { user, progress } => {
                let personal = self.personal(*user, progress)?;
                Ok(personal.map_or(Step::Again, |found| Step::Done(Answer::Personal(found))))
            }
            Query::GetPosts { posts, viewer, favorited } => {
                self.get_posts(posts, viewer.as_deref(), *favorited).map(Step::Done)
            }
            Query::ListComments { post, viewer, link_token, progress } => {
                self.list_comments(*post, viewer.as_deref(), link_token.as_ref(), progress)
            }
            Query::ListTags { limit } => Ok(Step::Done(self.list_tags(*limit)?)),
            Query::Export { after, limit } => Ok(Step::Done(self.export(*after, *limit)?)),
            Query::Copy { after, limit } => Ok(Step::Done(self.copy(*after, *limit)?)),
            Query::FindImported { key } => {
                let key = tables::import_key(None, &key.0);
                Ok(Step::Done(Answer::Imported(self.imported(&key)?)))
            }
            Query::GetOrigins { posts } => {
                let origins = posts.iter().map(|post| self.origin(*post));
                Ok(Step::Done(Answer::Origins(origins.collect::<Result<_, _>>()?)))
            }
        }
    }

    fn get_posts(
        &mut self,
        posts: &[PostId],
        viewer: Option<&Viewer>,
        favorited: bool,
    ) -> Outcome<Answer> {
        let reader = viewer.filter(|_| favorited);
        self.read_favored(reader.map(|reader| reader.id))?;
        let mut views = Vec::with_capacity(posts.len());
        for post in posts {
            match self.seen(*post, viewer, None) {
                Ok(found) => views.push(self.view(found, reader)?),
                Err(Stop::Refused(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(Answer::Posts(views))
    }

    fn list_comments(
        &mut self,
        post: PostId,
        viewer: Option<&Viewer>,
        link_token: Option<&[u8; 16]>,
        progress: &mut Progress,
    ) -> Outcome<Step<Answer>> {
        self.seen(post, viewer, link_token)?;
        let next = progress.comments.last().map_or(0, |last| last.number + 1);
        let start = tables::comment_key(post, next);
        for row in self.tables.prefix(tables::COMMENTS, &tables::post_key(post), &start)? {
            if self.left == 0 {
                return Ok(Step::Again);
            }
            let comment = comment_of(&row?)?;
            self.left = self.left.saturating_sub(comment_cost(&comment));
            progress.comments.push(comment);
        }
        Ok(Step::Done(Answer::Comments(std::mem::take(&mut progress.comments))))
    }

    fn list_tags(&mut self, limit: usize) -> Result<Answer, StoreError> {
        let version = self.caches.tags_version;
        let limit = limit.min(TAGS_PAGE_MAX);
        let tags = match &self.caches.tags {
            Some(cached) if cached.version == version && cached.limit == limit => {
                cached.tags.clone()
            }
            _ => {
                let tags = Arc::new(self.read_tags(limit)?);
                self.caches.tags = Some(CachedTags { version, limit, tags: tags.clone() });
                tags
            }
        };
        Ok(Answer::Tags { tags, version: version.0 })
    }

    /// The most used tags. The table orders them by magnitude, so what is read is in order except
    /// among its equals.
    fn read_tags(&self, limit: usize) -> Result<Vec<(String, u64)>, StoreError> {
        let mut found: Vec<(u64, String, String)> = Vec::new();
        let mut last = u16::MAX;
        for row in self.tables.range(tables::TAGS_BY_USE, &[], None)? {
            let (key, value) = row?;
            let (magnitude, lower) = tables::tag_of_use_key(&key)?;
            if found.len() >= limit && (magnitude != last || magnitude < MAGNITUDE_EXACT) {
                break;
            }
            last = magnitude;
            let row: TagRow = codec::decode(&value)?;
            found.push((row.posts, lower.to_owned(), row.shown));
        }
        found.sort_unstable_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
        found.truncate(limit);
        Ok(found.into_iter().map(|(posts, _, shown)| (shown, posts)).collect())
    }

    fn export(&mut self, after: PostId, limit: usize) -> Result<Answer, StoreError> {
        let mut exported = Vec::new();
        let mut rows = 0;
        let Some(first) = after.0.checked_add(1) else { return Ok(Answer::Exported(exported)) };
        let start = tables::post_key(PostId(first));
        let summaries = self.tables.range(tables::SUMMARIES, &start, None)?;
        for row in summaries.take(limit.min(EXPORT_POSTS_MAX)) {
            let (key, value) = row?;
            let post = tables::post_of_key(&key)?;
            let summary: SummaryRow = codec::decode(&value)?;
            let import = summary.import;
            let mut favorites = Vec::new();
            for row in self.tables.prefix(tables::FAVORITES, &key, &key)? {
                favorites.push(tables::user_of_favorite_key(&row?.0)?);
            }
            let mut comments = Vec::new();
            for row in self.tables.prefix(tables::COMMENTS, &key, &key)? {
                comments.push(comment_of(&row?)?);
            }
            rows += favorites.len() + comments.iter().map(comment_cost).sum::<usize>();
            exported.push(ExportedPost {
                summary: Arc::new(summary.into_summary(post)),
                import,
                body: tables::text_of(&self.body_uncached(post)?)?,
                favorites,
                comments,
            });
            if rows > EXPORT_ROWS_MAX {
                break;
            }
        }
        Ok(Answer::Exported(exported))
    }

    fn copy(&self, after: PostId, limit: usize) -> Result<Answer, StoreError> {
        let mut copied = Vec::new();
        let mut rows = 0;
        let Some(first) = after.0.checked_add(1) else { return Ok(Answer::Copied(copied)) };
        let start = tables::post_key(PostId(first));
        let summaries = self.tables.range(tables::SUMMARIES, &start, None)?;
        for row in summaries.take(limit.min(COPY_POSTS_MAX)) {
            let (key, value) = row?;
            let post = tables::post_of_key(&key)?;
            let summary: SummaryRow = codec::decode(&value)?;
            let mut favorites = Vec::new();
            for row in self.tables.prefix(tables::FAVORITES, &key, &key)? {
                let (key, value) = row?;
                let row: FavoriteRow = codec::decode(&value)?;
                favorites.push((tables::user_of_favorite_key(&key)?, row.at));
            }
            let mut comments = Vec::new();
            for row in self.tables.prefix(tables::COMMENTS, &key, &key)? {
                let comment = comment_of(&row?)?;
                rows += comment_cost(&comment);
                comments.push((comment.author, comment.created_at));
            }
            rows += favorites.len();
            copied.push(CopiedPost {
                post,
                author: summary.author,
                version: summary.version,
                visibility: summary.visibility,
                published_at: summary.published_at,
                signature: signature(&self.tables, post, &summary, None)?,
                tags: summary.tags,
                favorites,
                comments,
            });
            if rows > EXPORT_ROWS_MAX {
                break;
            }
        }
        Ok(Answer::Copied(copied))
    }

    fn imported(&self, key: &[u8]) -> Result<Option<PostId>, StoreError> {
        match tables::read(&self.tables, tables::IMPORTS, key)? {
            Some(ImportRow::Post(post)) => Ok(Some(post)),
            Some(ImportRow::Comment { .. }) | None => Ok(None),
        }
    }

    fn origin(&self, post: PostId) -> Result<Origin, StoreError> {
        let key = tables::post_key(post);
        let row: Option<SummaryRow> = tables::read(&self.tables, tables::SUMMARIES, &key)?;
        if let Some(row) = row {
            return Ok(row.import.map_or(Origin::Own, Origin::Imported));
        }
        let is_dead = self.tables.get(tables::TOMBSTONES, &key)?.is_some();
        Ok(if is_dead { Origin::Deleted } else { Origin::Unknown })
    }

    /// The post, if the viewer may see it at its address.
    fn seen(
        &mut self,
        post: PostId,
        viewer: Option<&Viewer>,
        link_token: Option<&[u8; 16]>,
    ) -> Outcome<(Arc<Summary>, u64)> {
        let Some(found) = self.post(post)? else { return refuse(Error::NotFound) };
        if !is_seen(&found.0, viewer, Surface::Direct { link_token }) {
            return refuse(Error::NotFound);
        }
        Ok(found)
    }
}

fn is_seen(summary: &Summary, viewer: Option<&Viewer>, surface: Surface<'_>) -> bool {
    let relation = Relation::of_viewer(viewer, summary.author);
    may_see(summary.visibility, &summary.link_token, relation, surface)
}

fn comment_of((key, value): &(RowKey, bytes::Bytes)) -> Result<Comment, StoreError> {
    let row: CommentRow = codec::decode(value)?;
    Ok(row.into_comment(tables::number_of_comment_key(key)?))
}

/// What reading a comment costs, in rows.
fn comment_cost(comment: &Comment) -> usize {
    1 + comment.body.len() / COMMENT_ROW_BYTES
}

fn checked(window: &Range<usize>) -> Range<usize> {
    debug_assert!(window.end <= OFFSET_MAX + PAGE_MAX, "the edge cuts it");
    window.clone()
}
