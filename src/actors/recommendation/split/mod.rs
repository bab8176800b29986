//! Traffic split: which readers see which ranking, and what came of it.
//!
//! An experiment gives each of its variants some of 1,000 buckets; a reader's bucket follows from the
//! reader and the experiment's salt alone, so it is the same on every node and after every restart.
//! What was shown is logged with the variant and the propensity of each place; the reads that follow
//! are counted here, on every replica alike, in whole numbers only. The latest of what was shown is
//! kept as well, for whoever wants to judge a ranking by it.

mod experiment;
mod exposures;
mod outcomes;
mod ring;
mod saved;

pub use experiment::{BUCKETS, Experiment, SplitError, Splits, Variant};
pub use exposures::{Exposures, Logged};
pub use outcomes::{Estimate, Outcomes, VariantOutcome};
pub use saved::Traffic;
