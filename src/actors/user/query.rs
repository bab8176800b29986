//! Reads of the user service.

use std::sync::{Arc, OnceLock};

use crate::actors::state_machine::{ReadTables, Rows, Step, Stop, Table, end_of_prefix, refuse};
use crate::actors::user::Service;
use crate::actors::user::apply::{claim_row, row};
use crate::actors::user::message::{
    Answer, Card, Edges, Error, ExportPart, ExportedUser, Hidden, Interests, Place, Query, Viewer,
};
use crate::actors::user::tables::{
    BLOCKED_BY, BLOCKS, FOLLOWS, MUTES, TAG_FOLLOWS, TAG_MUTES, USERS, UserRow, edge_end, edge_key,
    user_key,
};
use crate::actors::user::{choices, history};
use crate::config::PAGE_MAX;
use crate::ids::UserId;
use crate::store::codec::decode;
use crate::store::error::StoreError;

/// Most users on a page of an export.
const EXPORT_PAGE_MAX: usize = 500;
/// Rows beside the accounts after which such a page ends early: the shard answers nobody else meanwhile.
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
            Query::GetReader { user } => {
                Answer::Reader(self.viewer(tables, *user)?, self.hidden(tables, *user)?)
            }
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
            Query::ListHistory { user, place, limit } => {
                Answer::History(history::page(tables, *user, *place, (*limit).min(PAGE_MAX + 1))?)
            }
            Query::GetInterests { user } => Answer::Interests(interests(tables, *user)?),
            Query::ListFeedback { user } => {
                let mut said = choices::said(tables, *user)?;
                said.reverse();
                Answer::Feedback(said)
            }
            Query::ListEdges { user, edges, place, limit } => {
                let limit = (*limit).min(PAGE_MAX + 1);
                Answer::Edges(edges_page(tables, *edges, *user, *place, limit)?)
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
        self.viewers.insert(user, viewer.clone(), viewer.bytes());
        Ok(viewer)
    }

    fn hidden(&mut self, tables: &ReadTables<'_>, user: UserId) -> Result<Arc<Hidden>, StoreError> {
        if let Some(hidden) = self.hidden.get(&user) {
            return Ok(hidden);
        }
        // The keys are in the order that `Hidden` wants.
        let tags = choices::tags(tables, TAG_MUTES, user)?;
        let hidden = Arc::new(Hidden {
            blocks: edges(tables, BLOCKS, user)?,
            tags: tags.into_iter().map(|tag| tag.normal).collect(),
            posts: choices::hidden_posts(tables, user)?,
        });
        self.hidden.insert(user, hidden.clone(), hidden.bytes());
        Ok(hidden)
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
        self.cards.insert(user, card.clone(), card.bytes());
        Ok(Some(card))
    }
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

/// At most `limit` far ends of edges beyond a place.
fn edges_page(
    tables: &ReadTables<'_>,
    edges: Edges,
    user: UserId,
    place: Option<Place<UserId>>,
    limit: usize,
) -> Result<Vec<UserId>, StoreError> {
    let table = match edges {
        Edges::Follows => FOLLOWS,
        Edges::Mutes => MUTES,
        Edges::Blocks => BLOCKS,
    };
    let place = place.map(|place| place.map(|end| edge_key(user, end)));
    let rows = rows_beyond(tables, table, user, place)?.take(limit);
    let ends = rows.map(|row| row.map(|(key, _)| edge_end(&key)));
    ends.filter_map(Result::transpose).collect()
}

/// The rows of a user beyond the row with a key, in the order of reading.
pub(super) fn rows_beyond<'a>(
    tables: &ReadTables<'a>,
    table: Table,
    user: UserId,
    place: Option<Place<impl AsRef<[u8]>>>,
) -> Result<Rows<'a>, StoreError> {
    let first = user_key(user);
    let end = end_of_prefix(&first);
    match place {
        None => tables.range_back(table, &first, end.as_deref()),
        Some(Place::After(key)) => tables.range_back(table, &first, Some(key.as_ref())),
        // With one byte more it is the next key that there can be.
        Some(Place::Before(key)) => {
            tables.range(table, &[key.as_ref(), &[0]].concat(), end.as_deref())
        }
    }
}

fn interests(tables: &ReadTables<'_>, user: UserId) -> Result<Interests, StoreError> {
    Ok(Interests {
        tag_follows: choices::tags(tables, TAG_FOLLOWS, user)?,
        tag_mutes: choices::tags(tables, TAG_MUTES, user)?,
        follows: edges(tables, FOLLOWS, user)?,
        mutes: edges(tables, MUTES, user)?,
    })
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
        let mut exported = ExportedUser {
            account: row.account(user),
            password_hash: row.password_hash,
            follows: Vec::new(),
            mutes: Vec::new(),
            blocks: Vec::new(),
            tag_follows: Vec::new(),
            tag_mutes: Vec::new(),
            reads: Vec::new(),
            feedback: Vec::new(),
        };
        match part {
            ExportPart::Accounts => {}
            ExportPart::Follows => exported.follows = edges(tables, FOLLOWS, user)?,
            ExportPart::Reads => exported.reads = history::all(tables, user)?,
            ExportPart::Tags => {
                exported.tag_follows = choices::tags(tables, TAG_FOLLOWS, user)?;
                exported.tag_mutes = choices::tags(tables, TAG_MUTES, user)?;
            }
            ExportPart::Feedback => exported.feedback = choices::said(tables, user)?,
            ExportPart::Hidden => {
                exported.mutes = edges(tables, MUTES, user)?;
                exported.blocks = edges(tables, BLOCKS, user)?;
            }
        }
        rows += exported.follows.len()
            + exported.mutes.len()
            + exported.blocks.len()
            + exported.tag_follows.len()
            + exported.tag_mutes.len()
            + exported.reads.len()
            + exported.feedback.len();
        users.push(exported);
        if rows > EXPORT_ROWS_MAX {
            break;
        }
    }
    Ok(users)
}
