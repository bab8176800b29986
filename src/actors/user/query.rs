//! Reads of the user service.

use std::sync::{Arc, OnceLock};

use crate::actors::escaped::escaped_bytes;
use crate::actors::state_machine::{ReadTables, Step, Stop, Table, refuse};
use crate::actors::user::Service;
use crate::actors::user::apply::{claim_row, row};
use crate::actors::user::message::{Answer, Card, Error, ExportPart, ExportedUser, Query, Viewer};
use crate::actors::user::tables::{
    BLOCKED_BY, FOLLOWS, HISTORY, MUTES, USERS, UserRow, edge_end, history_entry, user_key,
};
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::decode;
use crate::store::error::StoreError;

/// Most users on a page of an export.
const EXPORT_PAGE_MAX: usize = 500;
/// Follows and reads after which such a page ends early: the shard answers nobody else meanwhile.
const EXPORT_ROWS_MAX: usize = 4_096;

impl Service {
    pub(super) fn answer(
        &mut self,
        tables: &ReadTables<'_>,
        query: &mut Query,
    ) -> Result<Step<Answer>, Stop<Error>> {
        let answer = match query {
            Query::ResolveClaim { kind, normal } => {
                Answer::Owner(claim_row(tables, *kind, normal)?.map(|claim| claim.owner))
            }
            Query::GetCredentials { user } => {
                let row = found(tables, *user)?;
                Answer::Credentials(row.account(*user), row.password_hash)
            }
            Query::GetAccount { user } => Answer::Account(found(tables, *user)?.account(*user)),
            Query::GetViewer { user } => Answer::Viewer(self.viewer(tables, *user)?),
            Query::GetCards { users } => {
                let mut cards = Vec::with_capacity(users.len());
                for user in users {
                    cards.push(self.card(tables, *user)?);
                }
                Answer::Cards(cards)
            }
            Query::Export { after, limit, part } => {
                Answer::Exported(export(tables, *after, (*limit).min(EXPORT_PAGE_MAX), *part)?)
            }
        };
        Ok(Step::Done(answer))
    }

    fn viewer(
        &mut self,
        tables: &ReadTables<'_>,
        user: UserId,
    ) -> Result<Arc<Viewer>, Stop<Error>> {
        if let Some(viewer) = self.viewers.get(&user) {
            return Ok(viewer);
        }
        let row = found(tables, user)?;
        let viewer = Arc::new(Viewer {
            id: user,
            token_generation: row.token_generation,
            follows: edges(tables, FOLLOWS, user)?,
            mutes: edges(tables, MUTES, user)?,
            blocked_by: edges(tables, BLOCKED_BY, user)?,
        });
        self.viewers.insert(user, viewer.clone(), viewer_bytes(&viewer));
        Ok(viewer)
    }

    fn card(
        &mut self,
        tables: &ReadTables<'_>,
        user: UserId,
    ) -> Result<Option<Arc<Card>>, StoreError> {
        if let Some(card) = self.cards.get(&user) {
            return Ok(Some(card));
        }
        let Some(row) = row(tables, user)? else { return Ok(None) };
        let card = Arc::new(Card {
            username: row.username,
            bio: row.bio,
            image: row.image,
            rendered: OnceLock::new(),
        });
        self.cards.insert(user, card.clone(), card_bytes(&card));
        Ok(Some(card))
    }
}

/// What a viewer takes in memory, its place in the cache included.
fn viewer_bytes(viewer: &Viewer) -> usize {
    let edges = [&viewer.follows, &viewer.mutes, &viewer.blocked_by];
    200 + edges.iter().map(|edges| edges.capacity() * size_of::<UserId>()).sum::<usize>()
}

/// The same of a card, as long as it becomes once it is rendered.
fn card_bytes(card: &Card) -> usize {
    let texts = [Some(&card.username), card.bio.as_ref(), card.image.as_ref()];
    let kept = |text: &String| text.len() + escaped_bytes(text.as_bytes());
    300 + texts.into_iter().flatten().map(kept).sum::<usize>()
}

fn found(tables: &ReadTables<'_>, user: UserId) -> Result<UserRow, Stop<Error>> {
    match row(tables, user)? {
        Some(row) => Ok(row),
        None => refuse(Error::NotFound),
    }
}

/// The far ends of all edges, ascending.
fn edges(tables: &ReadTables<'_>, table: Table, user: UserId) -> Result<Vec<UserId>, StoreError> {
    let rows = tables.prefix(table, &user_key(user), &user_key(user))?;
    let ends = rows.map(|row| row.map(|(key, _)| edge_end(&key)));
    ends.filter_map(Result::transpose).collect()
}

fn export(
    tables: &ReadTables<'_>,
    after: UserId,
    limit: usize,
    part: ExportPart,
) -> Result<Vec<ExportedUser>, StoreError> {
    let start = after.0.saturating_add(1).to_be_bytes();
    let mut users = Vec::new();
    let mut rows = 0;
    for entry in tables.range(USERS, &start, None)?.take(limit) {
        let (key, value) = entry?;
        let Ok(key) = <[u8; 8]>::try_from(&key[..]) else { continue };
        let user = UserId(u64::from_be_bytes(key));
        let row: UserRow = decode(&value)?;
        let (follows, reads) = match part {
            ExportPart::Accounts => (Vec::new(), Vec::new()),
            ExportPart::Follows => (edges(tables, FOLLOWS, user)?, Vec::new()),
            ExportPart::Reads => (Vec::new(), history(tables, user)?),
        };
        rows += follows.len() + reads.len();
        users.push(ExportedUser {
            account: row.account(user),
            password_hash: row.password_hash,
            follows,
            reads,
        });
        if rows > EXPORT_ROWS_MAX {
            break;
        }
    }
    Ok(users)
}

/// All reads of a user, oldest first.
fn history(tables: &ReadTables<'_>, user: UserId) -> Result<Vec<(Stamp, PostId)>, StoreError> {
    let rows = tables.prefix(HISTORY, &user_key(user), &user_key(user))?;
    let reads = rows.map(|row| row.map(|(key, _)| history_entry(&key)));
    reads.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_viewers_and_cards_weigh_more() {
        let many = vec![UserId(1); 10_000];
        let viewer = Viewer {
            id: UserId(1),
            token_generation: 0,
            follows: many.clone(),
            mutes: many.clone(),
            blocked_by: many,
        };
        assert!(viewer_bytes(&viewer) > 240_000);
        let card = |bio: &str| Card { bio: Some(bio.repeat(2_000)), ..Card::default() };
        assert!(card_bytes(&card("\u{1}")) >= 7 * 2_000);
        assert!(card_bytes(&card("x")) >= 2 * 2_000);
    }
}
