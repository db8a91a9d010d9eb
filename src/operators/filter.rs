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
