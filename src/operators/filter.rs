//! Filter: passes the rows for which the predicate is true, with their weights.

use arrow::array::AsArray;
use arrow::compute::{FilterBuilder, SlicesIterator};
use arrow::datatypes::{Int64Type, SchemaRef};
use thalweg_core::operator::{Operator, Step, TickCx};
use thalweg_core::{Changes, Result};
use thalweg_graph::Output;
use thalweg_graph::ops::filter::FilterSpec;

use crate::BuildCx;
use crate::expr::{ExprSet, to_batch};

pub(crate) fn build(cx: BuildCx<'_>, spec: &FilterSpec) -> Result<Box<dyn Operator>> {
    Ok(Box::new(FilterOperator::new(spec, cx.input(0), cx.output())?))
}

/// `WHERE predicate`.
#[derive(Debug)]
pub struct FilterOperator {
    predicate: ExprSet,
    schema: SchemaRef,
}

impl FilterOperator {
    /// # Errors
    /// A predicate that cannot be bound to the input.
    pub fn new(spec: &FilterSpec, input: &Output, output: &Output) -> Result<Self> {
        let predicate = ExprSet::compile(std::slice::from_ref(&spec.predicate), input)?;
        Ok(FilterOperator { predicate, schema: output.schema() })
    }
}

impl Operator for FilterOperator {
    fn push(&mut self, _: usize, changes: Changes, cx: &mut dyn TickCx) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mask = self.predicate.mask(&changes.batch, cx)?;
        let rows = mask.true_count();
        if rows == changes.num_rows() {
            cx.emit(changes);
            return Ok(());
        }
        if rows == 0 {
            return Ok(());
        }
        // A mask of one run keeps the buffers.
        let mut runs = SlicesIterator::new(&mask);
        if let (Some((start, end)), None) = (runs.next(), runs.next()) {
            cx.emit(changes.slice(start, end - start));
            return Ok(());
        }
        let filter = FilterBuilder::new(&mask).optimize().build();
        let columns = changes.batch.columns().iter().map(|c| filter.filter(c)).collect::<Result<Vec<_>, _>>()?;
        let weights = changes.weights.map(|w| filter.filter(&w)).transpose()?;
        let weights = weights.map(|w| w.as_primitive::<Int64Type>().clone());
        cx.emit(Changes::new(to_batch(self.schema.clone(), columns, rows)?, weights));
        Ok(())
    }

    fn end_tick(&mut self, _: &mut dyn TickCx) -> Result<Step> {
        Ok(Step::Done)
    }
}

#[cfg(test)]
mod tests {
    use thalweg_core::SqlType;
    use thalweg_core::testing::{assert_net_eq, changes};
    use thalweg_graph::ops::filter::FilterSpec;
    use thalweg_graph::{Expr, GraphBuilder, Literal, LiteralValue, OperatorSpec};

    use crate::model::harness::{Rig, TestSource, columns, source};

    fn rig(predicate: Expr) -> Rig {
        let mut builder = GraphBuilder::new();
        let input = TestSource { name: "t", letters: "I T", append_only: false, key: &[], with_order: false };
        let input = source(&mut builder, &input);
        let node = builder.add(OperatorSpec::Filter(FilterSpec { predicate }), vec![input]).unwrap();
        Rig::new(builder.finish(), node)
    }

    fn int(v: i64) -> Expr {
        Expr::Literal(Literal { ty: SqlType::BigInt, value: LiteralValue::Integer(v) })
    }

    fn a() -> Expr {
        Expr::column(0, SqlType::BigInt)
    }

    #[test]
    fn rows_pass_with_their_weights_if_the_predicate_is_true() {
        let mut rig = rig(Expr::call(">", vec![a(), int(1)], SqlType::Boolean));
        let input = "
            + 1 x
            - 2 y
            + . z
            + 3 z
            + 1 u
            - 4 .";
        let out = rig.tick(vec![(0, changes(input, &columns("I T")))]).unwrap();
        assert_net_eq(
            &out,
            "
            - 2 y
            + 3 z
            - 4 .",
        );
        assert!(rig.tick(vec![(0, changes("+ 0 x", &columns("I T")))]).unwrap().is_empty());
        let run = rig.tick(vec![(0, changes("+ 0 x\n+ 7 y\n- 8 z", &columns("I T")))]).unwrap();
        assert_net_eq(&run, "+ 7 y\n- 8 z");
    }

    #[test]
    fn a_row_that_cannot_be_judged_is_an_error() {
        let quotient = Expr::call("/", vec![int(1), a()], SqlType::BigInt);
        let mut rig = rig(Expr::call("=", vec![quotient, int(1)], SqlType::Boolean));
        let e = rig.tick(vec![(0, changes("+ 1 x\n+ 0 y", &columns("I T")))]).unwrap_err();
        assert_eq!(e.message(), "division by zero");
        assert!(e.to_string().contains("a = 0"), "{e}");
    }
}
