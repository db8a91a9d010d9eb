//! Recompute-from-scratch models, run beside the operators over random change sequences.

mod aggregate;
mod deduplicate;
pub(crate) mod harness;
mod join;
mod memoize;
mod top_n;
