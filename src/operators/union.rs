//! Union: passes all rows of all inputs (UNION ALL).

use arrow::datatypes::SchemaRef;
use thalweg_core::operator::{Operator, Step, TickCx};
use thalweg_core::{Changes, Result};
use thalweg_graph::Output;
use thalweg_graph::ops::union::UnionSpec;

use crate::BuildCx;
use crate::expr::to_batch;

pub(crate) fn build(cx: BuildCx<'_>, spec: &UnionSpec) -> Result<Box<dyn Operator>> {
    Ok(Box::new(UnionOperator::new(spec, cx.output())))
}

/// `… UNION ALL …`.
#[derive(Debug)]
pub struct UnionOperator {
    schema: SchemaRef,
}

impl UnionOperator {
    pub fn new(_: &UnionSpec, output: &Output) -> Self {
        UnionOperator { schema: output.schema() }
    }
}

impl Operator for UnionOperator {
    fn push(&mut self, _: usize, changes: Changes, cx: &mut dyn TickCx) -> Result<()> {
        let rows = changes.num_rows();
        if rows > 0 {
            // The inputs' columns may have other names, and be NOT NULL in one only.
            let batch = to_batch(self.schema.clone(), changes.batch.columns().to_vec(), rows)?;
            cx.emit(Changes::new(batch, changes.weights));
        }
        Ok(())
    }

    fn end_tick(&mut self, _: &mut dyn TickCx) -> Result<Step> {
        Ok(Step::Done)
    }
}

#[cfg(test)]
mod tests {
    use thalweg_core::testing::{assert_net_eq, changes};
    use thalweg_graph::ops::union::UnionSpec;
    use thalweg_graph::{GraphBuilder, OperatorSpec};

    use crate::model::harness::{Rig, TestSource, columns, source};

    #[test]
    fn all_rows_of_all_inputs_come_out() {
        let mut builder = GraphBuilder::new();
        let mut input = |name| {
            let parts = TestSource { name, letters: "I T", append_only: false, key: &[], with_order: false };
            source(&mut builder, &parts)
        };
        let inputs = vec![input("left"), input("right")];
        let node = builder.add(OperatorSpec::Union(UnionSpec {}), inputs).unwrap();
        let mut rig = Rig::new(builder.finish(), node);
        let parts = ["+ 1 x\n- 2 y", "+ 1 x\n+ 2 y"].map(|t| changes(t, &columns("I T")));
        let [left, right] = parts;
        assert_net_eq(&rig.tick(vec![(0, left), (1, right)]).unwrap(), "+ 1 x\n+ 1 x");
    }
}
