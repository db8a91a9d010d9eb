//! Projection: computes the output columns of each part as it comes. Columns that only pass are not copied.

use arrow::array::AsArray;
use arrow::compute::filter;
use arrow::datatypes::{Int64Type, SchemaRef};
use thalweg_core::operator::{Operator, Step, TickCx};
use thalweg_core::{Changes, Result};
use thalweg_graph::ops::project::ProjectSpec;
use thalweg_graph::{Expr, Output};

use crate::BuildCx;
use crate::expr::{Evaluated, ExprSet, to_batch};
use crate::failed_rows::FailedRows;

pub(crate) fn build(cx: BuildCx<'_>, spec: &ProjectSpec) -> Result<Box<dyn Operator>> {
    Ok(Box::new(ProjectOperator::new(spec, cx.input(0), cx.output())?))
}

/// `SELECT exprs`.
#[derive(Debug)]
pub struct ProjectOperator {
    exprs: ExprSet,
    schema: SchemaRef,
    /// Of changing input; `None`: rows fail at once.
    failed: Option<FailedRows>,
}

impl ProjectOperator {
    /// # Errors
    /// An expression that cannot be bound to the input.
    pub fn new(spec: &ProjectSpec, input: &Output, output: &Output) -> Result<Self> {
        let exprs: Vec<Expr> = spec.columns.iter().map(|c| c.expr.clone()).collect();
        let failed = (!input.append_only).then(FailedRows::default);
        Ok(ProjectOperator { exprs: ExprSet::compile(&exprs, input)?, schema: output.schema(), failed })
    }

    /// A row that fails is an error.
    fn judge(&self, changes: Changes, cx: &mut dyn TickCx) -> Result<()> {
        let evaluated = self.exprs.evaluate(&changes.batch, cx)?;
        self.emit(changes, evaluated, cx)
    }

    fn emit(&self, changes: Changes, evaluated: Evaluated, cx: &mut dyn TickCx) -> Result<()> {
        let (rows, weights) = match evaluated.kept {
            None => (changes.num_rows(), changes.weights),
            Some(kept) => {
                let weights = changes.weights.map(|w| filter(&w, &kept)).transpose()?;
                let weights = weights.map(|w| w.as_primitive::<Int64Type>().clone());
                (kept.true_count(), weights)
            }
        };
        if rows > 0 {
            cx.emit(Changes::new(to_batch(self.schema.clone(), evaluated.columns, rows)?, weights));
        }
        Ok(())
    }
}

impl Operator for ProjectOperator {
    fn push(&mut self, _: usize, changes: Changes, cx: &mut dyn TickCx) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let Some(failed) = &mut self.failed else { return self.judge(changes, cx) };
        let evaluated = self.exprs.evaluate_what_succeeds(&changes.batch, cx)?;
        if let Some(succeeded) = &evaluated.kept
            && let Some(now) = failed.add(&changes, succeeded)?
        {
            self.judge(now, cx)?;
        }
        self.emit(changes, evaluated, cx)
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
    use thalweg_graph::ops::project::{ProjectColumn, ProjectSpec};
    use thalweg_graph::{Expr, GraphBuilder, OperatorSpec};

    use crate::model::harness::{Rig, TestSource, columns, source};

    fn rig(columns: Vec<(Expr, &str)>) -> Rig {
        let mut builder = GraphBuilder::new();
        let input = TestSource { name: "t", letters: "I T", append_only: false, key: &[], with_order: false };
        let input = source(&mut builder, &input);
        let columns = columns
            .into_iter()
            .map(|(expr, name)| ProjectColumn { expr, name: name.to_owned(), nullable: true })
            .collect();
        let node = builder.add(OperatorSpec::Project(ProjectSpec { columns }), vec![input]).unwrap();
        Rig::new(builder.finish(), node)
    }

    fn a() -> Expr {
        Expr::column(0, SqlType::BigInt)
    }

    #[test]
    fn columns_are_computed_and_weights_stay() {
        let twice = Expr::call("+", vec![a(), a()], SqlType::BigInt);
        let mut rig = rig(vec![(Expr::column(1, SqlType::STRING), "a"), (twice, "b")]);
        let input = changes("+ 1 x\n- 2 y\n+ . .", &columns("I T"));
        assert_net_eq(&rig.tick(vec![(0, input)]).unwrap(), "+ x 2\n- y 4\n+ . .");
    }

    #[test]
    fn a_projection_to_no_column_counts_rows() {
        let mut rig = rig(vec![]);
        let out = rig.tick(vec![(0, changes("+ 1 x\n- 2 y", &columns("I T")))]).unwrap();
        assert_eq!((out[0].num_rows(), out[0].weight(1)), (2, -1));
    }

    #[test]
    fn now_is_the_wall_clock_of_the_tick() {
        let now = Expr::call("now", vec![], SqlType::TimestampLtz(3));
        let text = Expr::Cast { expr: Box::new(now), ty: SqlType::STRING, safe: false };
        let mut rig = rig(vec![(text, "a")]);
        for at in ["1970-01-01 00:00:01.000", "1970-01-01 00:00:02.000"] {
            let out = rig.tick(vec![(0, changes("+ 1 x", &columns("I T")))]).unwrap();
            assert_net_eq(&out, &format!("+ '{at}'"));
        }
    }

    #[test]
    fn a_row_that_comes_and_goes_in_a_tick_raises_no_error() {
        let quotient = Expr::call("/", vec![a(), a()], SqlType::BigInt);
        let mut rig = rig(vec![(quotient, "q")]);
        let parts = ["+ 0 x\n+ 2 x\n- 0 z", "+2 0 z\n- 0 x\n- 0 z\n+ 5 u"];
        let out = rig.tick(parts.map(|p| (0, changes(p, &columns("I T")))).to_vec()).unwrap();
        assert_net_eq(&out, "+2 1");
        let e = rig.tick(vec![(0, changes("+ 0 x\n- 0 y", &columns("I T")))]).unwrap_err();
        assert_eq!(e.message(), "division by zero");
    }

    #[test]
    fn an_error_names_expression_and_row() {
        let quotient = Expr::call("/", vec![a(), a()], SqlType::BigInt);
        let mut rig = rig(vec![(quotient, "q")]);
        let e = rig.tick(vec![(0, changes("+ 1 x\n+ 0 y", &columns("I T")))]).unwrap_err();
        assert_eq!(e.message(), "division by zero");
        assert_eq!(e.notes(), ["in a / a", "of the row with a = 0", "x / NULLIF(y, 0) is NULL where y is 0"]);
    }
}
