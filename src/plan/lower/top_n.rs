//! Top-N and LIMIT.

use thalweg_core::Result;
use thalweg_core::cells::has_floats;
use thalweg_graph::OperatorSpec;
use thalweg_graph::ops::top_n::TopNSpec;

use super::Lowering;
use crate::edges::{Flow, Spread, settle};
use crate::logical::TopN;

impl Lowering {
    pub(super) fn top_n(&mut self, from: Flow, top: &TopN, rank: String) -> Result<Flow> {
        let from = settle(&mut self.builder, from)?;
        let input = from.out(&self.builder);
        let is_taken = |o: &usize| top.partition.contains(o) || top.order.iter().any(|k| k.column == *o);
        // In the order -0.0 is 0.0; what tells rows apart comes last.
        let floats = top.order.iter().map(|k| k.column).filter(|&o| has_floats(&input.columns[o].column.ty.to_arrow()));
        let ties = input.ties().into_iter().filter(|o| !is_taken(o)).chain(floats).collect();
        let spec = TopNSpec {
            partition: top.partition.clone(),
            order: top.order.clone(),
            ties,
            from: top.from,
            to: top.to,
            rank: top.rank.then_some(rank),
        };
        let edge = from.by(&top.partition);
        let node = self.builder.add(OperatorSpec::TopN(spec), vec![edge])?;
        let spread = Spread::by(&top.partition);
        Ok(Flow { node, output: 0, spread })
    }
}
