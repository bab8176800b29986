//! Users as pages show them: cards by id, and users by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::actors::answers::{Answers, Slot, Version};
use crate::actors::router::Call;
use crate::actors::user::message::{Answer, Card, ClaimKind, Query, claim_bucket};
use crate::http::App;
use crate::http::error::Answered;
use crate::http::extract::wrong_answer;
use crate::http::fields::{may_be_username, normal};
use crate::ids::UserId;

/// Cards of some users, ascending by id.
pub struct Cards(Vec<(UserId, Option<Arc<Card>>)>);

impl Cards {
    /// Fetches the cards of these users: one batch per shard, in parallel.
    ///
    /// # Errors
    /// When a shard has no answer.
    pub async fn fetch(app: &App, mut users: Vec<UserId>) -> Answered<Self> {
        users.sort_unstable();
        users.dedup();
        let mut cards = Vec::with_capacity(users.len());
        // By shard: whom to ask it about. It is not asked about anybody if all of its users are kept.
        let mut shards: BTreeMap<u16, Vec<(UserId, Version)>> = BTreeMap::new();
        for user in users {
            let asked = shards.entry(app.users.shard_of(user.bucket())).or_default();
            let version = version(app, user);
            match app.shared().cards.of(&user, version) {
                Some(card) => cards.push((user, Some(card))),
                None => asked.push((user, version)),
            }
        }
        shards.retain(|shard, asked| {
            if asked.is_empty() {
                app.users.spared(*shard);
            }
            !asked.is_empty()
        });
        if shards.is_empty() {
            return Ok(Self(cards));
        }
        let fetched = shards.into_iter().map(|(shard, users)| fetch_shard(app, shard, users));
        cards.extend(try_join_all(fetched).await?.into_iter().flatten());
        cards.sort_unstable_by_key(|(user, _)| *user);
        Ok(Self(cards))
    }

    #[cfg(test)]
    pub(crate) fn of(cards: Vec<(UserId, Option<Arc<Card>>)>) -> Self {
        Self(cards)
    }

    /// The card of a user, if there is such a user.
    pub fn get(&self, user: UserId) -> Option<&Card> {
        let place = self.0.binary_search_by_key(&user, |(user, _)| *user).ok()?;
        self.0[place].1.as_deref()
    }
}

/// The card of one user, if there is such a user.
///
/// # Errors
/// When the user's shard has no answer.
pub async fn card(app: &App, user: UserId) -> Answered<Option<Arc<Card>>> {
    let version = match reuse(app, &app.shared().cards, user) {
        Ok(card) => return Ok(Some(card)),
        Err(version) => version,
    };
    let shard = app.users.shard_of(user.bucket());
    let fetched = fetch_shard(app, shard, vec![(user, version)]).await?;
    Ok(fetched.into_iter().next().and_then(|(_, card)| card))
}

/// The version now of what is kept of a user.
pub fn version(app: &App, user: UserId) -> Version {
    app.users.version(app.users.shard_of(user.bucket()), Slot::of(&user))
}

/// Counts, for the shard of each of these users, a query that it was spared.
pub fn spared(app: &App, users: impl Iterator<Item = UserId>) {
    let shards = users.map(|user| 1_u64 << (app.users.shard_of(user.bucket()) % 64));
    let shards = shards.fold(0, |all, one| all | one);
    let touched = (0..app.users.shards()).filter(|shard| shards & (1 << (shard % 64)) != 0);
    touched.for_each(|shard| app.users.spared(shard));
}

/// What is kept of a user, if it is the whole answer to a query; or the version to keep a new one with.
///
/// # Errors
/// His shard is to be asked.
pub(crate) fn reuse<A: Clone>(
    app: &App,
    kept: &Answers<UserId, A>,
    user: UserId,
) -> Result<A, Version> {
    let version = version(app, user);
    let answer = kept.of(&user, version).ok_or(version)?;
    app.users.spared(app.users.shard_of(user.bucket()));
    Ok(answer)
}

/// The cards of users of one shard, kept from now on.
async fn fetch_shard(
    app: &App,
    shard: u16,
    asked: Vec<(UserId, Version)>,
) -> Answered<Vec<(UserId, Option<Arc<Card>>)>> {
    let query = Query::GetCards { users: asked.iter().map(|(user, _)| *user).collect() };
    let Answer::Cards(cards) = app.users.query_shard(Call::new(), shard, query).await? else {
        return Err(wrong_answer());
    };
    for ((user, version), card) in asked.iter().zip(&cards) {
        if let Some(card) = card {
            app.shared().cards.keep(*user, *version, card.clone(), card.bytes());
        }
    }
    Ok(asked.into_iter().map(|(user, _)| user).zip(cards).collect())
}

/// Who claims a name or address, normalised. A claim is not yet a user: ask the user, too.
///
/// # Errors
/// When the claim's shard has no answer.
pub async fn claimant(app: &App, kind: ClaimKind, normal: String) -> Answered<Option<UserId>> {
    let bucket = claim_bucket(kind, &normal);
    let query = Query::ResolveClaim { kind, normal };
    match app.users.query(Call::new(), bucket, query).await? {
        Answer::Owner(owner) => Ok(owner),
        _ => Err(wrong_answer()),
    }
}

/// The user who bears this name, in any of its forms.
///
/// # Errors
/// When a shard has no answer.
pub async fn by_name(app: &App, name: &str) -> Answered<Option<(UserId, Arc<Card>)>> {
    if !may_be_username(name) {
        return Ok(None);
    }
    let normal = normal(name);
    let Some(user) = claimant(app, ClaimKind::Name, normal.clone()).await? else {
        return Ok(None);
    };
    let card = card(app, user).await?;
    Ok(card.filter(|card| bears(card, &normal)).map(|card| (user, card)))
}

/// A claim may be a registration's that never ended, or one that was not given back yet.
fn bears(card: &Card, wanted: &str) -> bool {
    normal(&card.username) == wanted
}
