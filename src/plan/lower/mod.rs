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

use thalweg_core::{Error, Place, Result};
use thalweg_graph::{GraphBuilder, NodeIx};

use crate::edges::Flow;
use crate::logical::{Op, Rel};

pub(crate) use source::Sources;

/// Builds the graph of one instance.
pub(crate) struct Lowering {
    pub builder: GraphBuilder,
    sources: Sources,
    /// Where each node comes from; of one that serves several statements, where it is written first.
    pub places: Vec<Option<Place>>,
    /// Of the relation that is being lowered, or of what it stands in.
    place: Option<Place>,
}

impl Lowering {
    /// Over the sources that all relations of the instance read.
    pub fn new<'r>(rels: impl IntoIterator<Item = &'r Rel>) -> Result<Self> {
        let mut builder = GraphBuilder::new();
        let sources = Sources::collect(rels, &mut builder)?;
        let places = vec![None; builder.graph().nodes.len()];
        Ok(Lowering { builder, sources, places, place: None })
    }

    /// The relation as operators; output columns are the relation's, one by one. What is found out of its changes is
    /// left in `rel.facts`.
    pub fn lower(&mut self, rel: &mut Rel) -> Result<Flow> {
        let around = self.place;
        self.place = rel.place.or(around);
        let flow = self.lower_here(rel)?;
        self.note_place();
        self.place = around;
        Ok(flow)
    }

    /// Nodes that were added since the last call come from the place that is lowered.
    fn note_place(&mut self) {
        self.places.resize(self.builder.graph().nodes.len(), self.place);
    }

    /// Sources are there before what reads them.
    fn note_source(&mut self, node: NodeIx) {
        self.places[node] = self.places[node].or(self.place);
    }

    fn lower_here(&mut self, rel: &mut Rel) -> Result<Flow> {
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
