//! Who may see a post, and where: the only place that decides it.
//!
//! **Invariants**: V1 whatever leaves the service went through [`may_see`], or through a list whose
//! rows [`may_see`] placed; V2 what a reader may not see does not exist for him, so a write to it
//! is refused with `NotFound`.

use serde::{Deserialize, Serialize};

use crate::actors::post::message::{Personal, Visibility};
use crate::actors::user::message::Viewer;
use crate::ids::UserId;

/// What a write needs to know of who asks. The edge reads the post first, and so knows its author
/// when it fills this from the [`Viewer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Who.
    pub id: UserId,
    /// Whether the reader follows the post's author.
    pub follows_author: bool,
    /// Whether the post's author blocks the reader.
    pub blocked_by_author: bool,
    /// Secret part of the link, if the address carried one.
    pub link_token: Option<[u8; 16]>,
}

impl Reader {
    /// Somebody who says he is the author: if he is not, he sees nothing.
    pub fn as_author(id: UserId) -> Self {
        Self { id, follows_author: false, blocked_by_author: true, link_token: None }
    }

    /// What a post of `author` needs to know of this viewer.
    pub fn new(viewer: &Viewer, author: UserId, link_token: Option<[u8; 16]>) -> Self {
        Self {
            id: viewer.id,
            follows_author: viewer.follows(author),
            blocked_by_author: viewer.is_blocked_by(author),
            link_token,
        }
    }
}

/// Where a post would be seen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Surface<'a> {
    /// At its own address, which may carry the secret part of a link; writes to it too.
    Direct {
        /// The secret part.
        link_token: Option<&'a [u8; 16]>,
    },
    /// In a list, its total included.
    List,
    /// In the feed of a follower.
    Feed,
}

/// What a reader is to the author of a post. The default is a stranger.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Relation {
    pub(super) own: bool,
    pub(super) follows: bool,
    pub(super) muted: bool,
    pub(super) blocked: bool,
}

impl Relation {
    /// For a query.
    pub(super) fn of_viewer(viewer: Option<&Viewer>, author: UserId) -> Self {
        viewer.map_or_else(Self::default, |viewer| Self {
            own: viewer.id == author,
            follows: viewer.follows(author),
            muted: viewer.mutes.binary_search(&author).is_ok(),
            blocked: viewer.is_blocked_by(author),
        })
    }

    /// For a command. A mute hides nothing at a post's own address.
    pub(super) fn of_reader(reader: &Reader, author: UserId) -> Self {
        Self {
            own: reader.id == author,
            follows: reader.follows_author,
            muted: false,
            blocked: reader.blocked_by_author,
        }
    }
}

/// Whether a reader may see a post with this visibility and link on this surface.
pub(super) fn may_see(
    visibility: Visibility,
    link_token: &[u8; 16],
    relation: Relation,
    surface: Surface<'_>,
) -> bool {
    if relation.blocked && !relation.own {
        return false;
    }
    match surface {
        Surface::Direct { link_token: given } => {
            relation.own
                || match visibility {
                    Visibility::Public => true,
                    Visibility::Followers => relation.follows,
                    Visibility::Unlisted => given.is_some_and(|given| same(given, link_token)),
                    Visibility::Scheduled | Visibility::Draft => false,
                }
        }
        Surface::List => relation.own || visibility == Visibility::Public,
        Surface::Feed => {
            relation.follows
                && !relation.muted
                && !relation.own
                && matches!(visibility, Visibility::Public | Visibility::Followers)
        }
    }
}

/// Whether lists show such a post to everybody, and not to its author alone.
pub fn is_listed(visibility: Visibility) -> bool {
    may_see(visibility, &[0; 16], Relation::default(), Surface::List)
}

/// Whether a viewer sees whatever strangers see of this author's posts, each at its address. Then what was
/// answered to a stranger holds for him, but for whether he favors it.
pub fn sees_as_stranger(viewer: &Viewer, author: UserId) -> bool {
    let relation = Relation::of_viewer(Some(viewer), author);
    may_see(Visibility::Public, &[0; 16], relation, Surface::Direct { link_token: None })
}

/// Whether lists show a viewer just what they show to strangers: nobody's posts are kept from him, and he has
/// none that only he is shown.
pub fn lists_as_stranger(viewer: &Viewer, personal: &Personal) -> bool {
    viewer.blocked_by.is_empty() && !personal.has_hidden
}

/// Whether such a post is in the feeds of its author's followers.
pub(super) fn is_in_feeds(visibility: Visibility) -> bool {
    let follower = Relation { follows: true, ..Relation::default() };
    may_see(visibility, &[0; 16], follower, Surface::Feed)
}

/// Compares without telling by its duration where two tokens differ.
fn same(left: &[u8; 16], right: &[u8; 16]) -> bool {
    let difference = left.iter().zip(right).fold(0, |all, (left, right)| all | (left ^ right));
    std::hint::black_box(difference) == 0
}
