//! The post service said naively: a list of posts, walked anew for every question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::support::viewer;
use crate::actors::post::message::{Command, Error, Filter, Reader, Reply, SortKey, Visibility};
use crate::actors::user::message::Viewer;
use crate::ids::{PostId, Stamp, UserId};

#[derive(Debug, Clone)]
pub(super) struct ModelPost {
    pub(super) id: PostId,
    pub(super) author: UserId,
    pub(super) title: String,
    pub(super) body: String,
    pub(super) tags: Vec<String>,
    pub(super) visibility: Visibility,
    pub(super) created_at: Stamp,
    pub(super) updated_at: Stamp,
    pub(super) published_at: Option<Stamp>,
    pub(super) publish_at: Option<Stamp>,
    pub(super) link_token: [u8; 16],
    pub(super) version: u64,
    pub(super) favorites: BTreeSet<UserId>,
    pub(super) comments: BTreeMap<u32, (UserId, String)>,
    last_number: u32,
}

impl ModelPost {
    pub(super) fn key(&self) -> SortKey {
        SortKey { at: self.published_at.unwrap_or(self.created_at), post: self.id }
    }

    fn publish(&mut self, visibility: Visibility, publish_at: Option<Stamp>, at: Stamp) {
        self.visibility = visibility;
        self.publish_at = publish_at;
        if !matches!(visibility, Visibility::Draft | Visibility::Scheduled) {
            self.published_at.get_or_insert(at);
        }
        self.version += 1;
    }

    fn bears(&self, tag: &str) -> bool {
        self.tags.iter().any(|other| other.to_lowercase() == tag.to_lowercase())
    }

    fn matches(&self, filter: &Filter) -> bool {
        match filter {
            Filter::All => true,
            Filter::Tag(tag) => self.bears(tag),
            Filter::Author(author) => self.author == *author,
            Filter::FavoritedBy(user) => self.favorites.contains(user),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) posts: Vec<ModelPost>,
    pub(super) dead: Vec<PostId>,
    pub(super) follows: BTreeSet<(UserId, UserId)>,
    pub(super) mutes: BTreeSet<(UserId, UserId)>,
    /// Who blocks whom.
    pub(super) blocks: BTreeSet<(UserId, UserId)>,
    /// Lower case → as its first public post wrote it.
    shown: BTreeMap<String, String>,
}

impl Model {
    pub(super) fn viewer(&self, id: UserId) -> Arc<Viewer> {
        let from = |edges: &BTreeSet<(UserId, UserId)>| {
            edges.iter().filter(|edge| edge.0 == id).map(|edge| edge.1).collect::<Vec<_>>()
        };
        let blockers = self.blocks.iter().filter(|edge| edge.1 == id).map(|edge| edge.0);
        Arc::new(Viewer {
            follows: from(&self.follows),
            mutes: from(&self.mutes),
            blocked_by: blockers.collect(),
            ..viewer(id)
        })
    }

    pub(super) fn reader(&self, id: UserId, post: &ModelPost, token: bool) -> Reader {
        let link_token = token.then_some(post.link_token);
        Reader::new(&self.viewer(id), post.author, link_token)
    }

    /// Whether this user (nobody: 0) sees the post at its address.
    pub(super) fn sees(&self, user: UserId, post: &ModelPost, token: Option<[u8; 16]>) -> bool {
        if user == post.author {
            return true;
        }
        let blocked = self.blocks.contains(&(post.author, user));
        let open = match post.visibility {
            Visibility::Public => true,
            Visibility::Followers => self.follows.contains(&(user, post.author)),
            Visibility::Unlisted => token == Some(post.link_token),
            Visibility::Scheduled | Visibility::Draft => false,
        };
        open && !blocked
    }

    pub(super) fn list(&self, filters: &[Filter], user: UserId) -> Vec<&ModelPost> {
        self.newest_first(|post| {
            let public = post.visibility == Visibility::Public;
            (post.author == user || public && !self.blocks.contains(&(post.author, user)))
                && filters.iter().all(|filter| post.matches(filter))
        })
    }

    pub(super) fn feed(&self, user: UserId) -> Vec<&ModelPost> {
        self.newest_first(|post| {
            matches!(post.visibility, Visibility::Public | Visibility::Followers)
                && self.follows.contains(&(user, post.author))
                && !self.mutes.contains(&(user, post.author))
                && !self.blocks.contains(&(post.author, user))
                && post.author != user
        })
    }

    fn newest_first(&self, shown: impl Fn(&ModelPost) -> bool) -> Vec<&ModelPost> {
        let mut posts: Vec<_> = self.posts.iter().filter(|post| shown(post)).collect();
        posts.sort_by_key(|post| std::cmp::Reverse(post.key()));
        posts
    }

    pub(super) fn tags(&self) -> Vec<(String, u64)> {
        let mut tags: Vec<_> = self.public_tags().into_iter().collect();
        tags.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(&right.0)));
        tags.into_iter().map(|(lower, posts)| (self.shown[&lower].clone(), posts)).collect()
    }

    fn public_tags(&self) -> BTreeMap<String, u64> {
        let mut tags = BTreeMap::new();
        for post in self.posts.iter().filter(|post| post.visibility == Visibility::Public) {
            let lower: BTreeSet<_> = post.tags.iter().map(|tag| tag.to_lowercase()).collect();
            lower.into_iter().for_each(|tag| *tags.entry(tag).or_insert(0) += 1);
        }
        tags
    }

    /// A tag is shown as the post wrote it that made it public.
    fn note_shown(&mut self, index: usize) {
        let public = self.public_tags();
        self.shown.retain(|lower, _| public.contains_key(lower));
        if self.posts[index].visibility == Visibility::Public {
            for tag in &self.posts[index].tags {
                self.shown.entry(tag.to_lowercase()).or_insert_with(|| tag.clone());
            }
        }
    }

    fn find(&self, id: PostId, reader: &Reader) -> Result<usize, Error> {
        let index = self.posts.iter().position(|post| post.id == id).ok_or(Error::NotFound)?;
        if !self.sees(reader.id, &self.posts[index], reader.link_token) {
            return Err(Error::NotFound);
        }
        Ok(index)
    }

    fn find_own(&self, id: PostId, editor: &Reader) -> Result<usize, Error> {
        let index = self.find(id, editor)?;
        if self.posts[index].author != editor.id {
            return Err(Error::Forbidden);
        }
        Ok(index)
    }

    fn changed(&mut self, index: usize) -> Result<Reply, Error> {
        self.note_shown(index);
        let post = &self.posts[index];
        Ok(Reply::Post { id: post.id, version: post.version })
    }

    pub(super) fn apply(&mut self, now: Stamp, command: &Command) -> Result<Reply, Error> {
        match command.clone() {
            Command::CreatePost { .. } => self.create(now, command),
            Command::EditPost { post, editor, title, body, tags, if_version, .. } => {
                let index = self.find_own(post, &editor)?;
                let post = &mut self.posts[index];
                if if_version.is_some_and(|version| version != post.version) {
                    return Err(Error::VersionMismatch { current: post.version });
                }
                post.title = title.unwrap_or(post.title.clone());
                post.body = body.unwrap_or(post.body.clone());
                post.tags = tags.unwrap_or(post.tags.clone());
                post.updated_at = now.max(post.updated_at.plus_ms(1));
                post.version += 1;
                self.changed(index)
            }
            Command::PublishPost { .. } => self.publish(now, command),
            Command::UnpublishPost { post, editor } => {
                let index = self.find_own(post, &editor)?;
                if self.posts[index].visibility != Visibility::Draft {
                    self.posts[index].publish(Visibility::Draft, None, now);
                }
                self.changed(index)
            }
            Command::DeletePost { post, editor, .. } => {
                let index = self.find_own(post, &editor)?;
                self.posts[index].visibility = Visibility::Draft;
                self.note_shown(index);
                self.dead.push(self.posts.remove(index).id);
                Ok(Reply::Done)
            }
            Command::Favor { post, reader, on } => {
                let index = self.find(post, &reader)?;
                let favorites = &mut self.posts[index].favorites;
                let _ = if on { favorites.insert(reader.id) } else { favorites.remove(&reader.id) };
                Ok(Reply::Favorites(favorites.len() as u64))
            }
            Command::AddComment { post, reader, body, .. } => {
                let index = self.find(post, &reader)?;
                let post = &mut self.posts[index];
                post.last_number += 1;
                post.comments.insert(post.last_number, (reader.id, body));
                Ok(Reply::Comment { number: post.last_number, created_at: now })
            }
            Command::DeleteComment { post, number, reader } => {
                let index = self.find(post, &reader)?;
                let comments = &mut self.posts[index].comments;
                let comment = comments.get(&number).ok_or(Error::CommentNotFound)?;
                if comment.0 != reader.id {
                    return Err(Error::CommentForbidden);
                }
                comments.remove(&number);
                Ok(Reply::Done)
            }
            Command::SetFavorite { .. } | Command::ImportFavorite { .. } => {
                unreachable!("the histories import nothing and are not old")
            }
            Command::PublishDue { .. } => {
                self.publish_due(now);
                Ok(Reply::Done)
            }
        }
    }

    fn create(&mut self, now: Stamp, command: &Command) -> Result<Reply, Error> {
        let Command::CreatePost {
            bucket,
            author,
            title,
            body,
            tags,
            visibility,
            publish_at,
            link_token,
            created_at,
            ..
        } = command.clone()
        else {
            unreachable!("called for no other")
        };
        let scheduled = visibility == Visibility::Scheduled;
        if scheduled && publish_at.is_none_or(|at| at <= now) {
            return Err(Error::ScheduleInvalid);
        }
        let created_at = created_at.unwrap_or(now);
        let mut post = ModelPost {
            id: PostId::new(now, bucket),
            author,
            title,
            body,
            tags,
            visibility,
            created_at,
            updated_at: created_at,
            published_at: None,
            publish_at: None,
            link_token,
            version: 0,
            favorites: BTreeSet::new(),
            comments: BTreeMap::new(),
            last_number: 0,
        };
        post.publish(visibility, publish_at.filter(|_| scheduled), created_at);
        self.posts.push(post);
        self.changed(self.posts.len() - 1)
    }

    fn publish(&mut self, now: Stamp, command: &Command) -> Result<Reply, Error> {
        let Command::PublishPost { post, editor, visibility, at, link_token } = command.clone()
        else {
            unreachable!("called for no other")
        };
        let index = self.find_own(post, &editor)?;
        let scheduled = visibility == Visibility::Scheduled;
        if scheduled && at.is_none_or(|at| at <= now) {
            return Err(Error::ScheduleInvalid);
        }
        let at = at.filter(|_| scheduled);
        let post = &mut self.posts[index];
        let new_token = visibility == Visibility::Unlisted && post.link_token != link_token;
        if (post.visibility, post.publish_at) != (visibility, at) || new_token {
            if new_token {
                post.link_token = link_token;
            }
            post.publish(visibility, at, now);
        }
        self.changed(index)
    }

    fn publish_due(&mut self, now: Stamp) {
        let mut due: Vec<_> = (0..self.posts.len())
            .filter_map(|index| Some((self.posts[index].publish_at?, index)))
            .filter(|(at, _)| *at <= now)
            .collect();
        due.sort_by_key(|(at, index)| (*at, self.posts[*index].id));
        for (at, index) in due {
            self.posts[index].publish(Visibility::Public, None, at);
            self.note_shown(index);
        }
    }
}
