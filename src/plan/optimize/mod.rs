//! A fixed list of rewrites, each of which keeps the meaning and the ids: filters are pushed down (never a fallible one
//! over what may guard it), ROW_NUMBER becomes Top-N or deduplication, equalities become join keys, columns that nobody
//! reads are dropped. No reordering of joins, no cost.

pub(crate) mod fallible;
mod joins;
mod projects;
pub(crate) mod prune;
mod push_down;
mod rank;

use thalweg_core::Result;

use crate::logical::Rel;

pub(crate) use rank::carry_order;

/// What is done before it is known how changes flow.
pub(crate) fn rewrite(rel: Rel) -> Result<Rel> {
    let rel = push_down::push(rel, vec![])?;
    let rel = joins::find_keys(rel)?;
    projects::merge(rel)
}

/// What is done once it is known: `facts` of the relations are there.
pub(crate) fn finish(rel: Rel, required: usize) -> Result<Rel> {
    let wanted: Vec<usize> = (0..required).collect();
    projects::merge(prune::exactly(rel, &wanted))
}
