//! Filter: passes the rows for which the predicate is true, with their weights.

use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;
use thalweg_core::operator::{Operator, Step, TickCx};
use thalweg_core::{Changes, Result};
use thalweg_graph::Output;
use thalweg_graph::ops::filter::FilterSpec;

use crate::BuildCx;
use crate::compact::compact;
use crate::expr::ExprSet;
use crate::failed_rows::FailedRows;

pub(crate) fn build(cx: BuildCx<'_>, spec: &FilterSpec) -> Result<Box<dyn Operator>> {
    Ok(Box::new(FilterOperator::new(spec, cx.input(0), cx.output())?))
}

/// `WHERE predicate`.
#[derive(Debug)]
pub struct FilterOperator {
    predicate: ExprSet,
    schema: SchemaRef,
    /// Of changing input; `None`: rows fail at once.
    failed: Option<FailedRows>,
}

impl FilterOperator {
    /// # Errors
    /// A predicate that cannot be bound to the input.
    pub fn new(spec: &FilterSpec, input: &Output, output: &Output) -> Result<Self> {
        let predicate = ExprSet::compile(std::slice::from_ref(&spec.predicate), input)?;
        let failed = (!input.append_only).then(FailedRows::default);
        Ok(FilterOperator { predicate, schema: output.schema(), failed })
    }

    /// A row that fails is an error.
    fn judge(&self, changes: Changes, cx: &mut dyn TickCx) -> Result<()> {
        let mask = self.predicate.mask(&changes.batch, cx)?;
        self.emit(changes, &mask, cx)
    }

    fn emit(&self, changes: Changes, mask: &BooleanArray, cx: &mut dyn TickCx) -> Result<()> {
        let kept = compact(changes, mask, &self.schema)?;
        if !kept.is_empty() {
            cx.emit(kept);
        }
        Ok(())
    }
}

impl Operator for FilterOperator {
    fn push(&mut self, _: usize, changes: Changes, cx: &mut dyn TickCx) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let Some(failed) = &mut self.failed else { return self.judge(changes, cx) };
        let (mask, succeeded) = self.predicate.mask_of_what_succeeds(&changes.batch, cx)?;
        if let Some(succeeded) = succeeded
            && let Some(now) = failed.add(&changes, &succeeded)?
        {
            self.judge(now, cx)?;
        }
        self.emit(changes, &mask, cx)
    }

    fn end_tick(&mut self, cx: &mut dyn TickCx) -> Result<Step> {
        if let Some(failed) = &mut self.failed
            && let Some(net) = failed.take_net()?
        {
            self.judge(net, cx)?;
        }
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
        let parts = ["+ 0 x\n+ 1 x", "- 0 x\n- 2 y"].map(|p| (0, changes(p, &columns("I T"))));
        assert_net_eq(&rig.tick(parts.to_vec()).unwrap(), "+ 1 x");
    }
}
