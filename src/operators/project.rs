//! Projection: computes the output columns of each part as it comes. Columns that only pass are not copied.

use arrow::array::AsArray;
use arrow::compute::filter;
use arrow::datatypes::{Int64Type, SchemaRef};
use thalweg_core::operator::{Operator, Step, TickCx};
use thalweg_core::{Changes, Result};
use thalweg_graph::ops::project::ProjectSpec;
use thalweg_graph::{Expr, Output};

use crate::BuildCx;
use crate::expr::{ExprSet, to_batch};

pub(crate) fn build(cx: BuildCx<'_>, spec: &ProjectSpec) -> Result<Box<dyn Operator>> {
    Ok(Box::new(ProjectOperator::new(spec, cx.input(0), cx.output())?))
}

/// `SELECT exprs`.
#[derive(Debug)]
pub struct ProjectOperator {
    exprs: ExprSet,
    schema: SchemaRef,
}

impl ProjectOperator {
    /// # Errors
    /// An expression that cannot be bound to the input.
    pub fn new(spec: &ProjectSpec, input: &Output, output: &Output) -> Result<Self> {
        let exprs: Vec<Expr> = spec.columns.iter().map(|c| c.expr.clone()).collect();
        Ok(ProjectOperator { exprs: ExprSet::compile(&exprs, input)?, schema: output.schema() })
    }
}

impl Operator for ProjectOperator {
    fn push(&mut self, _: usize, changes: Changes, cx: &mut dyn TickCx) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let evaluated = self.exprs.evaluate(&changes.batch, cx)?;
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

    fn end_tick(&mut self, _: &mut dyn TickCx) -> Result<Step> {
        Ok(Step::Done)
    }
}
