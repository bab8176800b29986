//! An OTP supervisor as data, on top of ractor.
//!
//! A tree is described by a [`SupervisorSpec`] of [`ChildSpec`]s, made alive by [`Tree::start`] and
//! watched through [`Tree::snapshot`]. The description, the life outside the actors (`slot`) and the
//! actor that decides (`actor`, `plan`) are separate, because an actor loses everything when it fails and a
//! replacement must still know whom its predecessor left behind.
//!
//! **Promises**
//! - S1: at most one generation of a child lives. A replacement starts only when its predecessor,
//!   and for a supervisor its whole subtree, is gone.
//! - S2: a budget of N restarts survives N of them within the window; the next one escalates.
//! - S3: children start in order and stop in reverse order, each waited for; but for a first start that
//!   its spec puts in the background, which nobody waits for.
//! - S4: nothing a child does ends its supervisor, except a spent budget.
//! - S5: the live view never asks an actor, so a hung one cannot hide it.
mod actor;
mod budget;
mod heartbeat;
mod plan;
mod slot;
mod spec;
mod table;
mod tree;

#[cfg(test)]
mod tests;

pub use budget::{Backoff, RestartBudget};
pub use heartbeat::{Busy, Heartbeat, StuckThread, ThreadWatchdog};
pub use spec::{
    ChildSpec, DependencyFailed, RestartCause, RestartType, SpecError, StartContext, StartError,
    Started, Strategy, SupervisorSpec,
};
pub use table::spec_table;
pub use tree::{
    GaveUp, KillReason, NodeKind, NodeState, NoteEvent, Observer, RestartError, Restarts,
    RootHandle, SupervisionNote, Tree, TreeNode, TreeOptions,
};
