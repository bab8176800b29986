//! What each command does, in the order of [`Command`].

use std::time::Duration;

use crate::actors::state_machine::{Outcome, ReadTables, Stop, Table, Tables, refuse};
use crate::actors::user::event::Event;
use crate::actors::user::message::{Attempt, ClaimKind, Claimed, Command, Error, Reply};
use crate::actors::user::tables::{
    BLOCKED_BY, BLOCKS, CLAIMS, ClaimRow, EDGE_COUNTS, EdgeCountRow, FOLLOWS, MUTES, TAG_FOLLOWS,
    TAG_MUTES, USERS, UserRow, VOID_CLAIMS, claim_key, edge_count_key, edge_key, empty, user_key,
};
use crate::actors::user::{Service, choices, history};
use crate::config::CLAIM_EXPIRY;
use crate::ids::{Stamp, UserId};
use crate::store::codec::{decode, encode};
use crate::store::error::StoreError;

/// Most users that one user can follow, mute or block: a viewer is held and sent as a whole.
pub const EDGES_MAX: u32 = 10_000;

/// How long an attempt is remembered as void. A registration is over after a few command deadlines.
const VOIDS_KEPT: Duration = Duration::from_secs(60 * 60);
/// More than one, so that they become fewer.
const VOIDS_FORGOTTEN_AT_ONCE: usize = 4;

pub(super) type Applied = Result<Outcome<Reply, Event>, Stop<Error>>;

impl Service {
    pub(super) fn apply_command(
        &mut self,
        tables: &mut Tables<'_>,
        stamp: Stamp,
        command: Command,
    ) -> Applied {
        match command {
            Command::Claim { kind, normal, owner, attempt } => {
                claim(tables, stamp, kind, &normal, owner, attempt)
            }
            Command::Release { kind, normal, owner, attempt } => {
                release(tables, kind, &normal, owner, attempt)
            }
            Command::SettleClaim { user, kind, normal, attempt } => {
                settle_claim(tables, stamp, user, kind, &normal, attempt)
            }
            Command::CreateUser { user, name, email, password_hash, bio, image, created_at } => {
                let row = UserRow {
                    username: name.shown,
                    name_normal: name.normal,
                    name_attempt: name.attempt,
                    email: email.shown,
                    email_normal: email.normal,
                    email_attempt: email.attempt,
                    password_hash,
                    bio,
                    image,
                    token_generation: 1,
                    created_at: created_at.unwrap_or(stamp),
                };
                self.touch(user);
                create_user(tables, user, &row)
            }
            Command::UpdateUser { user, name, email, password_hash, bio, image } => {
                self.touch(user);
                let change = Change { name, email, password_hash, bio, image };
                update_user(tables, user, change)
            }
            Command::SetFollow { user, target, on } => {
                self.touch(user);
                let event = Event::FollowChanged { user, target, on };
                set_edge(tables, FOLLOWS, (user, target), on, event)
            }
            Command::SetMute { user, target, on } => {
                self.touch(user);
                let event = Event::MuteChanged { user, target, on };
                set_edge(tables, MUTES, (user, target), on, event)
            }
            Command::SetBlock { user, target, on } => {
                self.touch(user);
                let event = Event::BlockChanged { user, target, on };
                set_edge(tables, BLOCKS, (user, target), on, event)
            }
            Command::SetBlockedBy { user, blocker, on } => {
                self.touch(user);
                set_blocked_by(tables, user, blocker, on)
            }
            Command::RecordRead { user, post, at } => {
                history::record_read(tables, stamp, user, post, at)
            }
            Command::RecordReads { user, reads } => {
                history::record_reads(tables, stamp, user, &reads)
            }
            Command::ForgetRead { user, post } => history::forget_read(tables, user, post),
            Command::ForgetHistory { user } => history::forget_history(tables, user),
            Command::SetTagFollow { user, tag, on } => {
                let normal = tag.normal.clone();
                let event = Event::TagFollowChanged { user, tag: normal, on };
                choices::set_tag(tables, TAG_FOLLOWS, user, tag, on, event)
            }
            Command::SetTagMute { user, tag, on } => {
                self.touch(user);
                let normal = tag.normal.clone();
                let event = Event::TagMuteChanged { user, tag: normal, on };
                choices::set_tag(tables, TAG_MUTES, user, tag, on, event)
            }
            Command::GiveFeedback { user, post, what } => {
                self.touch(user);
                choices::give_feedback(tables, stamp, user, post, what)
            }
            Command::WithdrawFeedback { user, post } => {
                self.touch(user);
                choices::withdraw_feedback(tables, user, post)
            }
            Command::RefuseUnseen { user: _ } => refuse(Error::PostNotFound),
        }
    }
}

/// The account row of a user.
pub(super) fn row(tables: &ReadTables<'_>, user: UserId) -> Result<Option<UserRow>, StoreError> {
    let Some(bytes) = tables.get(USERS, &user_key(user))? else { return Ok(None) };
    Ok(Some(decode(&bytes)?))
}

/// The claim on a name or address.
pub(super) fn claim_row(
    tables: &ReadTables<'_>,
    kind: ClaimKind,
    normal: &str,
) -> Result<Option<ClaimRow>, StoreError> {
    let Some(bytes) = tables.get(CLAIMS, &claim_key(kind, normal))? else { return Ok(None) };
    Ok(Some(decode(&bytes)?))
}

fn claim(
    tables: &mut Tables<'_>,
    stamp: Stamp,
    kind: ClaimKind,
    normal: &str,
    owner: UserId,
    attempt: Attempt,
) -> Applied {
    let held = claim_row(&tables.view(), kind, normal)?;
    let attempt = match held {
        Some(held) if held.owner == owner => held.attempt,
        Some(held) => {
            let expired = stamp > held.at.plus_ms(CLAIM_EXPIRY.as_millis() as u64);
            return refuse(match expired {
                true => Error::Stale { owner: held.owner, attempt: held.attempt },
                false => Error::Taken(kind),
            });
        }
        None => attempt,
    };
    let row = ClaimRow { owner, attempt, at: stamp };
    tables.put(CLAIMS, claim_key(kind, normal), encode(&row));
    Ok(Outcome::reply(Reply::Claimed(attempt)))
}

fn release(
    tables: &mut Tables<'_>,
    kind: ClaimKind,
    normal: &str,
    owner: UserId,
    attempt: Attempt,
) -> Applied {
    let held = claim_row(&tables.view(), kind, normal)?;
    if held.is_some_and(|held| held.owner == owner && held.attempt == attempt) {
        tables.delete(CLAIMS, claim_key(kind, normal));
    }
    Ok(Outcome::reply(Reply::Done))
}

/// The commit point of a takeover: from here on the attempt cannot create or rename any more.
fn settle_claim(
    tables: &mut Tables<'_>,
    stamp: Stamp,
    user: UserId,
    kind: ClaimKind,
    normal: &str,
    attempt: Attempt,
) -> Applied {
    let borne = row(&tables.view(), user)?.is_some_and(|row| row.bears(kind, normal));
    if !borne {
        forget_voids(tables, stamp)?;
        tables.put(VOID_CLAIMS, attempt.0.to_be_bytes(), stamp.0.to_be_bytes().to_vec());
    }
    Ok(Outcome::reply(Reply::Borne(borne)))
}

/// Forgets attempts that nobody can still be making: far older than any command can become. They
/// are numbered by time, so the oldest come first.
fn forget_voids(tables: &mut Tables<'_>, stamp: Stamp) -> Result<(), StoreError> {
    let first = tables.view().range(VOID_CLAIMS, &[], None)?.take(VOIDS_FORGOTTEN_AT_ONCE);
    let first = first.collect::<Result<Vec<_>, _>>()?;
    for (attempt, at) in first {
        let at = at[..].try_into().map_or(0, u64::from_be_bytes);
        if Stamp(at).plus_ms(VOIDS_KEPT.as_millis() as u64) < stamp {
            tables.delete(VOID_CLAIMS, attempt);
        }
    }
    Ok(())
}

fn is_void(tables: &Tables<'_>, attempt: Attempt) -> Result<bool, StoreError> {
    Ok(tables.get(VOID_CLAIMS, &attempt.0.to_be_bytes())?.is_some())
}

fn create_user(tables: &mut Tables<'_>, user: UserId, new: &UserRow) -> Applied {
    if let Some(old) = row(&tables.view(), user)? {
        let same = old.name_attempt == new.name_attempt && old.email_attempt == new.email_attempt;
        if !same {
            return refuse(Error::IdTaken);
        }
        let account = old.account(user);
        return Ok(Outcome::reply(Reply::Account { account, released: Vec::new() }));
    }
    if is_void(tables, new.name_attempt)? || is_void(tables, new.email_attempt)? {
        return refuse(Error::ClaimVoid);
    }
    tables.put(USERS, user_key(user), encode(new));
    let reply = Reply::Account { account: new.account(user), released: Vec::new() };
    Ok(Outcome { reply, events: vec![Event::UserCreated { user }] })
}

struct Change {
    name: Option<Claimed>,
    email: Option<Claimed>,
    password_hash: Option<String>,
    bio: Option<Option<String>>,
    image: Option<Option<String>>,
}

fn update_user(tables: &mut Tables<'_>, user: UserId, change: Change) -> Applied {
    let Some(mut row) = row(&tables.view(), user)? else { return refuse(Error::NotFound) };
    let mut released = Vec::new();
    if let Some(name) = change.name {
        if is_void(tables, name.attempt)? {
            return refuse(Error::ClaimVoid);
        }
        let (normal, attempt) = (row.name_normal, row.name_attempt);
        if normal != name.normal {
            released.push((ClaimKind::Name, normal, attempt));
        }
        (row.username, row.name_normal, row.name_attempt) = (name.shown, name.normal, name.attempt);
    }
    if let Some(email) = change.email {
        if is_void(tables, email.attempt)? {
            return refuse(Error::ClaimVoid);
        }
        let (normal, attempt) = (row.email_normal, row.email_attempt);
        if normal != email.normal {
            released.push((ClaimKind::Email, normal, attempt));
        }
        (row.email, row.email_normal, row.email_attempt) =
            (email.shown, email.normal, email.attempt);
    }
    if let Some(hash) = change.password_hash {
        row.password_hash = Some(hash);
        row.token_generation += 1;
    }
    if let Some(bio) = change.bio {
        row.bio = bio;
    }
    if let Some(image) = change.image {
        row.image = image;
    }
    tables.put(USERS, user_key(user), encode(&row));
    Ok(Outcome::reply(Reply::Account { account: row.account(user), released }))
}

fn set_edge(
    tables: &mut Tables<'_>,
    table: Table,
    (user, target): (UserId, UserId),
    on: bool,
    event: Event,
) -> Applied {
    if user == target {
        return refuse(Error::Yourself);
    }
    if row(&tables.view(), user)?.is_none() {
        return refuse(Error::NotFound);
    }
    let key = edge_key(user, target);
    if tables.get(table, &key)?.is_some() == on {
        return Ok(Outcome::reply(Reply::Done));
    }
    let before = edge_count(&tables.view(), table, user)?;
    let edges = if on {
        if before >= EDGES_MAX {
            return refuse(Error::TooManyEdges(EDGES_MAX));
        }
        tables.put(table, key, empty());
        before + 1
    } else {
        tables.delete(table, key);
        before.saturating_sub(1)
    };
    tables.put(EDGE_COUNTS, edge_count_key(user, table), encode(&EdgeCountRow { edges }));
    Ok(Outcome { reply: Reply::Done, events: vec![event] })
}

/// How many edges of a kind a user has. Those from before there was a count are counted once, which
/// is bounded by what the count enforces.
fn edge_count(tables: &ReadTables<'_>, table: Table, user: UserId) -> Result<u32, StoreError> {
    if let Some(bytes) = tables.get(EDGE_COUNTS, &edge_count_key(user, table))? {
        return Ok(decode::<EdgeCountRow>(&bytes)?.edges);
    }
    let edges = tables.prefix(table, &user_key(user), &user_key(user))?;
    let mut count = 0;
    for edge in edges.take(EDGES_MAX as usize) {
        edge?;
        count += 1;
    }
    Ok(count)
}

/// No limit here: the number of those who block somebody is not in that user's hands, and leaving
/// one out would show what is hidden.
fn set_blocked_by(tables: &mut Tables<'_>, user: UserId, blocker: UserId, on: bool) -> Applied {
    if user == blocker {
        return refuse(Error::Yourself);
    }
    match on {
        true => tables.put(BLOCKED_BY, edge_key(user, blocker), empty()),
        false => tables.delete(BLOCKED_BY, edge_key(user, blocker)),
    }
    Ok(Outcome::reply(Reply::Done))
}
