//! GROUP BY, global aggregates and DISTINCT.

use thalweg_core::Result;
use thalweg_graph::OperatorSpec;
use thalweg_graph::ops::aggregate::{AggregateCall, AggregateSpec};

use super::Lowering;
use crate::edges::{Flow, Spread, settle};
use crate::logical::Call;

impl Lowering {
    pub(super) fn aggregate(&mut self, from: Flow, group: &[usize], calls: &[Call]) -> Result<Flow> {
        let from = settle(&mut self.builder, from)?;
        let calls = calls.iter().map(|c| AggregateCall {
            function: c.function,
            arg: c.arg,
            distinct: c.distinct,
            filter: c.filter,
            name: c.name.clone(),
            ty: c.ty.clone(),
            nullable: c.nullable,
        });
        let spec = AggregateSpec { group: group.to_vec(), calls: calls.collect() };
        let edge = from.by(group);
        let node = self.builder.add(OperatorSpec::Aggregate(spec), vec![edge])?;
        let spread = Spread::by(&(0..group.len()).collect::<Vec<_>>());
        Ok(Flow { node, output: 0, spread })
    }
}
