//! Lowering: the logical plan → operators of the graph, with exchanges and what keeps changes exact between them.

mod aggregate;
mod deduplicate;
mod expr;
mod join;
pub(crate) mod sink;
mod source;
mod stateless;
mod top_n;

use std::rc::Rc;

use thalweg_core::{Error, Result};
use thalweg_graph::GraphBuilder;

use crate::edges::Flow;
use crate::logical::{Op, Rel};

pub(crate) use source::Sources;

/// Builds the graph of one instance.
pub(crate) struct Lowering {
    pub builder: GraphBuilder,
    sources: Sources,
}

impl Lowering {
    /// Over the sources that all relations of the instance read.
    pub fn new<'r>(rels: impl IntoIterator<Item = &'r Rel>) -> Result<Self> {
        let mut builder = GraphBuilder::new();
        let sources = Sources::collect(rels, &mut builder)?;
        Ok(Lowering { builder, sources })
    }

    /// The relation as operators; output columns are the relation's, one by one. What is found out of its changes is
    /// left in `rel.facts`.
    pub fn lower(&mut self, rel: &mut Rel) -> Result<Flow> {
        let flow = match &mut rel.op {
            Op::Scan(scan) => self.scan(scan)?,
            Op::Values(rows) => self.values(rows, &rel.columns)?,
            Op::Project { input, exprs } => {
                let from = self.lower(input)?;
                self.project(from, exprs, &rel.columns)?
            }
            Op::Filter { input, conjuncts } => {
                let from = self.lower(input)?;
                self.filter(from, conjuncts)?
            }
            Op::EquiJoin { left, right, left_keys, right_keys, residual } => {
                let (left, right) = (self.lower(left)?, self.lower(right)?);
                self.join(left, right, left_keys, right_keys, residual)?
            }
            Op::Union(inputs) => {
                let flows = inputs.iter_mut().map(|i| self.lower(i)).collect::<Result<Vec<_>>>()?;
                self.union(flows)?
            }
            Op::Aggregate { input, group, calls } => {
                let from = self.lower(input)?;
                self.aggregate(from, group, calls)?
            }
            Op::TopN(top) => {
                let from = self.lower(&mut top.input)?;
                let name = rel.columns.last().map(|c| c.name.clone()).unwrap_or_default();
                self.top_n(from, top, name)?
            }
            Op::Deduplicate { input, key, order, keep } => {
                let from = self.lower(input)?;
                self.deduplicate(from, key, *order, *keep)?
            }
            Op::Join { .. } | Op::RowNumber { .. } => {
                return Err(Error::internal("a plan was lowered before it was rewritten"));
            }
        };
        let out = flow.out(&self.builder);
        if out.columns.len() != rel.columns.len() {
            return Err(Error::internal(format!(
                "{} columns were planned and {} lowered",
                rel.columns.len(),
                out.columns.len()
            )));
        }
        rel.facts = Some(Rc::new(out.clone()));
        Ok(flow)
    }
}

/// Plans the changes of a relation: finds out how they flow, drops the columns that nobody reads; `required` are the
/// first ones, which stay.
pub(crate) fn prepare(rel: Rel, required: usize) -> Result<Rel> {
    let mut rel = crate::optimize::rewrite(rel)?;
    Lowering::new([&rel])?.lower(&mut rel)?;
    crate::optimize::finish(rel, required)
}
