//! Limits and deadlines, with units. What an operator may change is in [`Config`]; what would
//! break a promise when changed is a constant.

use std::time::Duration;

/// Most commands in one log entry.
pub const BATCH_COMMANDS_MAX: usize = 1024;
/// Most bytes of commands in one log entry. A larger batch holds readers up during apply and gains
/// nothing: the sync is shared by far fewer commands already.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest time that a command may take from the edge to its reply; a command id is remembered for
/// as long.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// A stamp further ahead of the local clock is refused: somebody's clock is wrong.
pub const STAMP_AHEAD_MAX: Duration = Duration::from_secs(10);
/// A claim older than this may be taken over, after it was settled with its owner. Far longer than
/// the command deadline and the largest accepted clock difference together.
pub const CLAIM_EXPIRY: Duration = Duration::from_secs(60);
/// Largest offset of a list; deeper pages are for cursors.
pub const OFFSET_MAX: usize = 10_000;
/// Largest page of a list.
pub const PAGE_MAX: usize = 100;
/// Commands and queries that may wait in or before one shard's mailbox.
pub const SHARD_PERMITS: usize = 4096;

const _: () = assert!(
    CLAIM_EXPIRY.as_secs() > COMMAND_DEADLINE.as_secs() + STAMP_AHEAD_MAX.as_secs(),
    "a late creation must be refused before its claim can be taken over"
);
const _: () = assert!(
    BATCH_BYTES_MAX * 2 < crate::store::codec::DECODE_BYTES_MAX,
    "a batch must be decodable"
);
