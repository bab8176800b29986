//! What to read next, as one viewer may see it. The recommendation service says which posts and why;
//! whether the viewer may see them says the post service, each time, and it alone: what it does not
//! show, or does not answer in time, is left out. What the viewer hid from himself says the user
//! service, when it says who the viewer is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rustc_hash::FxHashMap;

use crate::actors::post::message::{Answer as PostAnswer, PostView, Query as PostQuery, is_listed};
use crate::actors::recommendation::message::{
    Answer, EXCLUDE_MAX, Exposure, Item, LIMIT_MAX, Method, Query, Ranking, Reason,
    Recommendations, ShownPost, Source, Wanted,
};
use crate::actors::router::Call;
use crate::actors::user::message::Viewer;
use crate::http::App;
use crate::http::afterwards::Note;
use crate::http::error::Answered;
use crate::http::extract::{ListReader, Page};
use crate::http::lists;
use crate::ids::{PostId, UserId};

/// How long the ranker may take before its answer is done without. It takes a tenth of a
/// millisecond, or the second that a restart with much state needs.
const RANK_TIME: Duration = Duration::from_millis(300);
/// How long the owner of a post may take before the post is left out.
const OWNER_TIME: Duration = Duration::from_millis(500);
/// Places in ten for posts that few have seen.
const EXPLORE: usize = 1;
/// One in so many posts may be denied by its owner before further ones are asked about.
const SPARE_SHARE: usize = 10;

/// What somebody wants to know.
#[derive(Debug, Clone)]
pub enum Question {
    /// What to read next. Of an anonymous viewer these reads are known, newest first.
    Next(Arc<[PostId]>),
    /// Posts like this one.
    Related(PostId),
    /// What is much read of late.
    Trending {
        /// With this tag only, in any case.
        tag: Option<String>,
        /// Which half-life, from 0; none: the one that fits.
        window: Option<usize>,
    },
    /// The newest of what the viewer follows, and nothing else.
    Following,
}

/// A question with all that goes with it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What is asked.
    pub question: Question,
    /// For whom. The copy that ranks knows what that reader hides, too, but later, and less.
    pub reader: ListReader,
    /// Posts, at most.
    pub limit: usize,
    /// Posts that must not be in the answer.
    pub exclude: Arc<[PostId]>,
    /// Whether reasons are wanted: then what they name is asked about as well.
    pub explain: bool,
    /// Where the answer is shown, for the log of what was shown.
    pub surface: String,
    /// The id of the request, for the same.
    pub request: String,
}

/// A post in its place.
#[derive(Debug)]
pub struct Recommended {
    /// The post, as the viewer sees it.
    pub view: PostView,
    /// Why it stands here; none where that must not be said, or is not asked.
    pub reason: Option<Reason>,
    /// Where it came from.
    pub source: Source,
    /// Score of the ranker, comparable within one answer.
    pub score: f32,
    /// Probability of standing here.
    pub propensity: f32,
}

/// The answer.
#[derive(Debug)]
pub struct List {
    /// Best first.
    pub posts: Vec<Recommended>,
    /// How they were found: what it fell back to, if it did.
    pub method: Method,
    /// Version of the weights that ranked them.
    pub weights_version: u64,
}

/// Answers a question. It falls back before it fails: from the ranker to what is much read to what
/// is new.
///
/// # Errors
/// When not even the owner of the posts has an answer.
pub async fn fetch(app: &App, asked: Asked) -> Answered<List> {
    let reader = &asked.reader;
    let (found, variant) = match ask(app, &asked).await {
        Some(found) => found,
        None => {
            app.metrics.ranker_absent.inc();
            (latest(app, &asked).await?, String::new())
        }
    };
    let Recommendations { items, method, weights_version } = found;
    let most = asked.limit.min(items.len());
    let mut list = List { posts: Vec::with_capacity(most), method, weights_version };
    let mut shown = Vec::with_capacity(most);
    let mut items = (0_u16..).zip(items).peekable();
    // Mostly the owner denies none: the rest is asked about when something is missing.
    let mut part = asked.limit + asked.limit / SPARE_SHARE + 1;
    while list.posts.len() < asked.limit && items.peek().is_some() {
        let (positions, items): (Vec<u16>, Vec<Item>) = items.by_ref().take(part).unzip();
        part = usize::MAX;
        let views = authorised(app, &items, &asked).await;
        for (position, item) in positions.into_iter().zip(items) {
            let Item { post, version: _, reason, score, source, propensity } = item;
            if list.posts.len() >= asked.limit {
                break;
            }
            let Some(view) = views.get(&post).filter(|view| reader.is_for(view)) else {
                continue;
            };
            let reason = reason.filter(|reason| reader.may_say(reason, &views));
            let is_explored = source == Source::Exploration;
            shown.push(ShownPost { post, position, propensity, is_explored });
            let view = view.clone();
            list.posts.push(Recommended { view, reason, source, score, propensity });
        }
    }
    note_shown(app, asked, variant, weights_version, shown);
    Ok(list)
}

/// Asks the recommendation service for half as many again, so that enough are left. With the variant
/// of the experiment that the reader is in.
async fn ask(app: &App, asked: &Asked) -> Option<(Recommendations, String)> {
    let query = query_of(app, asked);
    let call = Call::new().within(RANK_TIME);
    match app.recommendations.query_shard(call, 0, query).await {
        Ok(Answer::Recommendations(found)) => Some((found, String::new())),
        Ok(Answer::Experiment { found, variant }) => Some((found, variant)),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "recommendations fall back to what is new");
            None
        }
    }
}

/// How many to ask for, to have so many when the owner of the posts has had its say.
fn with_spare(limit: usize) -> usize {
    limit + limit.div_ceil(2)
}

fn query_of(app: &App, asked: &Asked) -> Query {
    let reader = asked.reader.viewer().map(|viewer| viewer.id);
    let now = app.seams.clock.now();
    let limit = with_spare(asked.limit);
    let wanted = Wanted { limit, exclude: asked.exclude.clone(), now, explain: asked.explain };
    let random = app.seams.random.any();
    let ranking = Ranking { method: Method::Ranker, is_diverse: true, explore: EXPLORE, random };
    match (&asked.question, reader) {
        (Question::Next(_), Some(reader)) => Query::Recommend { reader, wanted, ranking },
        (Question::Next(reads), None) => {
            Query::RecommendSession { reads: reads.clone(), wanted, ranking }
        }
        (Question::Related(post), reader) => Query::Related { post: *post, reader, wanted },
        (Question::Trending { tag, window }, reader) => {
            let tag = tag.as_ref().map(|tag| tag.to_lowercase());
            Query::Trending { tag, window: *window, reader, wanted }
        }
        // Nobody follows nothing.
        (Question::Following, reader) => {
            Query::Following { reader: reader.unwrap_or(UserId(0)), wanted }
        }
    }
}

/// What the owner of the posts can say without the recommendation service: the newest. What the
/// viewer has read is known there alone, so it may come up.
async fn latest(app: &App, asked: &Asked) -> Answered<Recommendations> {
    let reader = &asked.reader;
    let source = match (&asked.question, reader.viewer()) {
        (Question::Following, Some(viewer)) => lists::Source::Feed(viewer.clone()),
        (Question::Following, None) => {
            return Ok(Recommendations::none(Method::Latest));
        }
        (Question::Trending { tag: Some(tag), .. }, viewer) => {
            let tag = crate::actors::post::message::Filter::Tag(tag.clone());
            lists::Source::Filtered(vec![tag], viewer.cloned())
        }
        (Question::Next(_) | Question::Related(_) | Question::Trending { .. }, viewer) => {
            lists::Source::Filtered(Vec::new(), viewer.cloned())
        }
    };
    let limit = LIMIT_MAX.min(crate::config::PAGE_MAX);
    let (views, _) = lists::fetch(app, &source, Page { offset: 0, limit }).await?;
    let own = reader.viewer().map(|viewer| viewer.id);
    let wanted = views.into_iter().filter(|view| {
        let id = view.summary.id;
        let is_asked_about = match &asked.question {
            Question::Next(reads) => reads.contains(&id),
            Question::Related(post) => *post == id,
            Question::Trending { .. } | Question::Following => false,
        };
        let is_own = Some(view.summary.author) == own;
        !is_asked_about && !is_own && reader.is_for(view) && !asked.exclude.contains(&id)
    });
    let mut found = Recommendations::none(Method::Latest);
    found.items.extend(wanted.take(with_spare(asked.limit)).map(|view| Item {
        post: view.summary.id,
        version: view.summary.version,
        reason: asked.explain.then_some(Reason::New),
        score: 0.0,
        source: Source::Newest,
        propensity: 1.0,
    }));
    Ok(found)
}

/// Asks the owner which of the posts, and of those that reasons name, this viewer may see. What is
/// not answered in time is left out; what is denied is looked at afterwards.
async fn authorised(app: &App, items: &[Item], asked: &Asked) -> FxHashMap<PostId, PostView> {
    let room = items.len() / usize::from(app.posts.shards());
    let shards = (0..app.posts.shards()).map(|_| Vec::with_capacity(room));
    let mut shards: Vec<Vec<PostId>> = shards.collect();
    for item in items {
        let named = item.reason.as_ref().and_then(Reason::named_post);
        for post in [Some(item.post), named].into_iter().flatten() {
            let shard = &mut shards[usize::from(app.posts.shard_of(post.bucket()))];
            if !shard.contains(&post) {
                shard.push(post);
            }
        }
    }
    let touched = shards.into_iter().enumerate().filter(|(_, posts)| !posts.is_empty());
    let answers = join_all(touched.map(|(shard, posts)| {
        let viewer = asked.reader.viewer().cloned();
        let query = PostQuery::GetPosts { posts: posts.clone(), viewer, favorited: true };
        let call = Call::new().within(OWNER_TIME);
        async move { (posts, app.posts.query_shard(call, shard as u16, query).await) }
    }));
    let mut views = FxHashMap::default();
    let mut denied = Vec::new();
    for (posts, answer) in answers.await {
        let Ok(PostAnswer::Posts(found)) = answer else { continue };
        views.extend(found.into_iter().map(|view| (view.summary.id, view)));
        denied.extend(posts.into_iter().filter(|post| !views.contains_key(post)));
    }
    for item in items.iter().filter(|item| denied.contains(&item.post)) {
        app.shared().afterwards.take(Note::Denied(item.post, item.version));
    }
    views
}

impl ListReader {
    /// Whether a post that the viewer may see at its address belongs into a list for him: everybody
    /// may see it listed, and he hid neither it, nor its author, nor one of its tags.
    fn is_for(&self, view: &PostView) -> bool {
        let summary = &view.summary;
        let mutes = |viewer: &Arc<Viewer>| viewer.mutes.binary_search(&summary.author).is_ok();
        is_listed(summary.visibility)
            && !self.viewer().is_some_and(mutes)
            && !self.hidden().blocks(summary.author)
            && !self.hidden().hides(summary.id)
            && !summary.tags.iter().any(|tag| self.hidden().mutes_tag(tag))
    }

    /// Whether a reason may be given: it names nothing that is hidden, and is still so.
    fn may_say(&self, reason: &Reason, views: &FxHashMap<PostId, PostView>) -> bool {
        match reason {
            Reason::BecauseRead(post) => views.get(post).is_some_and(|view| self.is_for(view)),
            Reason::Follows(author) => self.viewer().is_some_and(|viewer| viewer.follows(*author)),
            // The copy may know tags that the post has no more.
            Reason::FollowsTag(tag) | Reason::Interest(tag) => !self.hidden().mutes_tag(tag),
            Reason::Trending | Reason::New | Reason::Exploring => true,
        }
    }
}

fn note_shown(
    app: &App,
    asked: Asked,
    variant: String,
    weights_version: u64,
    posts: Vec<ShownPost>,
) {
    if posts.is_empty() {
        return;
    }
    let Asked { question: _, reader, limit: _, exclude: _, explain: _, surface, request } = asked;
    let exposure = Exposure {
        request,
        reader: reader.viewer().map(|viewer| viewer.id),
        surface,
        variant,
        weights_version,
        posts,
    };
    app.shared().afterwards.take(Note::Shown(exposure));
}

/// The posts that may be excluded, or named as read, at most.
pub const POSTS_NAMED_MAX: usize = EXCLUDE_MAX;
