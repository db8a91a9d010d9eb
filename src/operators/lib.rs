//! How the operators of a graph run: synchronous, single-threaded, over whole batches. What they mean, their parameters
//! and the layout of their state tables is in `thalweg_graph::ops`; this crate builds them and sees state only as
//! `dyn StateTable`.

mod aggregate;
mod compact;
mod deduplicate;
pub mod expr;
mod failed_rows;
mod filter;
mod join;
mod key_index;
mod keyed_cache;
mod layout;
mod memoize;
#[cfg(test)]
mod model;
mod normalize;
mod parts;
mod project;
mod row_store;
#[cfg(test)]
mod speed;
mod top_n;
mod union;
mod upsert_materialize;
mod winners;

use thalweg_core::operator::Operator;
use thalweg_core::state::StateTable;
use thalweg_core::{Error, Result};
use thalweg_graph::{Graph, Node, NodeIx, OperatorSpec, Output};

/// What an operator is built from, on one worker.
pub struct BuildCx<'a> {
    pub graph: &'a Graph,
    pub node: NodeIx,
    /// In the order of the node's `state`.
    pub tables: Vec<Box<dyn StateTable>>,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// Index of this worker, from 0.
    pub worker: usize,
    pub workers: usize,
}

impl<'a> BuildCx<'a> {
    pub fn node(&self) -> &'a Node {
        &self.graph.nodes[self.node]
    }

    pub fn inputs(&self) -> Vec<&'a Output> {
        self.graph.inputs(self.node())
    }

    pub fn input(&self, input: usize) -> &'a Output {
        self.graph.output(&self.node().inputs[input])
    }

    /// The node's output (a source's is the runtime's own).
    pub fn output(&self) -> &'a Output {
        &self.node().outputs[0]
    }

    /// What EXPLAIN calls the operator; for messages.
    pub fn title(&self) -> String {
        self.node().spec.meaning().title(&self.inputs())
    }

    /// This worker owns key group 0: it holds what is not keyed (global aggregates, LIMIT).
    pub fn owns_unkeyed(&self) -> bool {
        self.worker == 0
    }

    /// The only table of an operator that has one.
    pub fn take_table(&mut self) -> Result<Box<dyn StateTable>> {
        match self.tables.len() {
            1 => Ok(self.tables.remove(0)),
            n => Err(Error::internal(format!("operator {} got {n} state tables where it has one", self.node().id))),
        }
    }
}

/// The running operator of a node. Sources and sinks are the runtime's own.
///
/// # Errors
/// An expression that cannot be bound; tables that are not those of the node.
pub fn build(cx: BuildCx<'_>) -> Result<Box<dyn Operator>> {
    let node = cx.node();
    if cx.tables.len() != node.state.len() {
        let (given, wanted) = (cx.tables.len(), node.state.len());
        return Err(Error::internal(format!("operator {} has {wanted} state tables, {given} were opened", node.id)));
    }
    match &node.spec {
        OperatorSpec::Source(_) | OperatorSpec::Sink(_) => {
            Err(Error::internal("sources and sinks are built by the runtime"))
        }
        OperatorSpec::Project(s) => project::build(cx, s),
        OperatorSpec::Filter(s) => filter::build(cx, s),
        OperatorSpec::Union(s) => union::build(cx, s),
        OperatorSpec::Aggregate(s) => aggregate::build(cx, s),
        OperatorSpec::Join(s) => join::build(cx, s),
        OperatorSpec::TopN(s) => top_n::build(cx, s),
        OperatorSpec::Deduplicate(s) => deduplicate::build(cx, s),
        OperatorSpec::Memoize(s) => memoize::build(cx, s),
        OperatorSpec::Normalize(s) => normalize::build(cx, s),
        OperatorSpec::UpsertMaterialize(s) => upsert_materialize::build(cx, s),
    }
}
