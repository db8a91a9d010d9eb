//! Graph expressions, evaluated over batches. They are DataFusion's physical expressions with our own nodes where our
//! meaning is stricter: arithmetic is checked, casts are Flink's, AND and OR look at the right side of a row only if its
//! left side leaves the answer open.
//!
//! Whether a row fails never depends on its neighbours: a batch that fails is halved until the rows that fail by
//! themselves stand alone; these are reported and left out, all others are evaluated as if they had come without them.

mod arithmetic;
mod compare;
mod compile;
mod divide;
mod native;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, prep_null_mask_filter};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use thalweg_core::operator::TickCx;
use thalweg_core::{Error, ErrorCode, Result, SqlType};
use thalweg_functions::cast::{shown, to_text};
use thalweg_functions::clock::set_wall_clock_us;
use thalweg_functions::function::to_error;
use thalweg_graph::{Expr, Output, explain};

/// Columns of the bad row that an error shows.
const SHOWN_COLUMNS_MAX: usize = 5;

/// Expressions over the columns of one batch.
#[derive(Debug)]
pub struct ExprSet {
    exprs: Vec<Compiled>,
    /// Types of the input's columns, to show a bad row.
    input: Vec<SqlType>,
    names: Vec<String>,
}

#[derive(Debug)]
struct Compiled {
    expr: Arc<dyn PhysicalExpr>,
    ty: DataType,
    /// It is this column of the input, as it is.
    column: Option<usize>,
    /// Ordinals that it reads.
    reads: Vec<usize>,
    /// As SQL, for errors.
    text: String,
}

/// What `ExprSet::evaluate` gives: one column per expression, over the rows that did not fail.
#[derive(Debug)]
pub struct Evaluated {
    pub columns: Vec<ArrayRef>,
    /// Which rows of the batch are in `columns`; `None`: all.
    pub kept: Option<BooleanArray>,
}

impl ExprSet {
    /// Binds expressions to the types and names of an operator's input.
    ///
    /// # Errors
    /// An unknown function, arguments that it does not take, a cast that there is not.
    pub fn compile(exprs: &[Expr], input: &Output) -> Result<Self> {
        Self::compile_over(exprs, &[input])
    }

    /// As `compile`, over the columns of several inputs behind one another (a join: left, then right).
    ///
    /// # Errors
    /// As `compile`.
    pub fn compile_over(exprs: &[Expr], inputs: &[&Output]) -> Result<Self> {
        let columns = || inputs.iter().flat_map(|i| &i.columns);
        let texts = exprs.iter().map(|e| explain::expr(e, inputs)).collect();
        let types = columns().map(|c| c.column.ty.clone()).collect();
        Self::new(exprs, types, explain::column_names(inputs), texts)
    }

    fn new(exprs: &[Expr], input: Vec<SqlType>, names: Vec<String>, texts: Vec<String>) -> Result<Self> {
        let compiler = compile::Compiler::new(&input);
        let exprs = exprs
            .iter()
            .zip(texts)
            .map(|(e, text)| {
                Ok(Compiled {
                    expr: compiler.compile(e).map_err(|e| e.context(format_args!("in {text}")))?,
                    ty: e.ty().to_arrow(),
                    column: match e {
                        Expr::Column { ordinal, .. } => Some(*ordinal),
                        _ => None,
                    },
                    reads: e.columns(),
                    text,
                })
            })
            .collect::<Result<_>>()?;
        Ok(ExprSet { exprs, input, names })
    }

    pub fn len(&self) -> usize {
        self.exprs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.exprs.is_empty()
    }

    /// Evaluates all expressions; columns have the Arrow type of the expression's SQL type. A row for which one of them
    /// fails goes to `cx.row_error` and is left out. The clock of `NOW()` and its like is that of the tick.
    ///
    /// # Errors
    /// What `cx.row_error` says; errors that are not about rows.
    pub fn evaluate(&self, batch: &RecordBatch, cx: &mut dyn TickCx) -> Result<Evaluated> {
        // What NOW() and its kin return: this thread's operators run one tick at a time.
        set_wall_clock_us(cx.tick().wall_clock_us);
        self.evaluate_with(batch, &mut |e| cx.row_error(e))
    }

    /// As `evaluate`, but rows that fail are only left out.
    ///
    /// # Errors
    /// Those that are not about rows.
    pub fn evaluate_what_succeeds(&self, batch: &RecordBatch, cx: &dyn TickCx) -> Result<Evaluated> {
        set_wall_clock_us(cx.tick().wall_clock_us);
        self.evaluate_with(batch, &mut |_| Ok(()))
    }

    /// As `evaluate`, with a callback for the rows that fail; the clock is as it was last set on this thread, else that
    /// of the system.
    ///
    /// # Errors
    /// As `evaluate`.
    pub fn evaluate_with(
        &self,
        batch: &RecordBatch,
        row_error: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<Evaluated> {
        match self.try_all(batch) {
            Ok(columns) => Ok(Evaluated { columns, kept: None }),
            Err(e) if e.code() != ErrorCode::Row => Err(e),
            Err(_) => {
                let mut parts = Parts { columns: vec![], kept: BooleanBufferBuilder::new(batch.num_rows()) };
                self.halve(batch, &mut parts, row_error)?;
                let columns = (0..self.exprs.len())
                    .map(|i| {
                        let parts: Vec<&dyn Array> = parts.columns.iter().map(|p| &*p[i] as &dyn Array).collect();
                        if parts.is_empty() {
                            return Ok(arrow::array::new_empty_array(&self.exprs[i].ty));
                        }
                        Ok(concat(&parts)?)
                    })
                    .collect::<Result<_>>()?;
                Ok(Evaluated { columns, kept: Some(BooleanArray::new(parts.kept.finish(), None)) })
            }
        }
    }

    /// For one predicate: the rows for which it is true. Never null.
    ///
    /// # Errors
    /// As `evaluate`.
    pub fn mask(&self, batch: &RecordBatch, cx: &mut dyn TickCx) -> Result<BooleanArray> {
        set_wall_clock_us(cx.tick().wall_clock_us);
        Ok(self.mask_with(batch, &mut |e| cx.row_error(e))?.0)
    }

    /// As `mask`, and the rows for which the predicate did not fail; `None`: all.
    ///
    /// # Errors
    /// Those that are not about rows.
    pub fn mask_of_what_succeeds(
        &self,
        batch: &RecordBatch,
        cx: &dyn TickCx,
    ) -> Result<(BooleanArray, Option<BooleanArray>)> {
        set_wall_clock_us(cx.tick().wall_clock_us);
        self.mask_with(batch, &mut |_| Ok(()))
    }

    fn mask_with(
        &self,
        batch: &RecordBatch,
        row_error: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<(BooleanArray, Option<BooleanArray>)> {
        let [predicate] = self.exprs.as_slice() else {
            return Err(Error::internal("a mask is of one expression"));
        };
        let no_null = |mask: &BooleanArray| match mask.null_count() {
            0 => mask.clone(),
            _ => prep_null_mask_filter(mask),
        };
        match predicate.expr.evaluate(batch) {
            // A scalar answer needs no column.
            Ok(ColumnarValue::Scalar(s)) => {
                let all = matches!(s, ScalarValue::Boolean(Some(true)));
                let rows = batch.num_rows();
                let bits = if all { BooleanBuffer::new_set(rows) } else { BooleanBuffer::new_unset(rows) };
                return Ok((BooleanArray::new(bits, None), None));
            }
            Ok(ColumnarValue::Array(array)) if array.data_type() == &DataType::Boolean => {
                return Ok((no_null(array.as_boolean()), None));
            }
            // Row by row, or the reason.
            _ => {}
        }
        let evaluated = self.evaluate_with(batch, row_error)?;
        let mask = no_null(evaluated.columns[0].as_boolean());
        let Some(kept) = evaluated.kept else { return Ok((mask, None)) };
        // Back to all rows: those that failed are not true.
        let mut of = mask.values().iter();
        let all = kept.values().iter().map(|kept| kept && of.next().unwrap_or(false));
        Ok((BooleanArray::new(all.collect(), None), Some(kept)))
    }

    fn try_all(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.exprs.iter().map(|e| e.evaluate(batch)).collect()
    }

    /// Evaluates `batch` or, if it fails, its halves, down to single rows. In the order of the rows.
    fn halve(
        &self,
        batch: &RecordBatch,
        parts: &mut Parts,
        row_error: &mut dyn FnMut(Error) -> Result<()>,
    ) -> Result<()> {
        let rows = batch.num_rows();
        match self.try_all(batch) {
            Ok(columns) => {
                parts.columns.push(columns);
                parts.kept.append_n(rows, true);
                Ok(())
            }
            Err(e) if e.code() != ErrorCode::Row => Err(e),
            Err(e) if rows <= 1 => {
                parts.kept.append_n(rows, false);
                row_error(self.explain(batch, e))
            }
            Err(_) => {
                let half = rows / 2;
                self.halve(&batch.slice(0, half), parts, row_error)?;
                self.halve(&batch.slice(half, rows - half), parts, row_error)
            }
        }
    }

    /// Says in which expression and for which values a row failed.
    fn explain(&self, row: &RecordBatch, error: Error) -> Error {
        let Some(failed) = self.exprs.iter().find(|e| e.evaluate(row).is_err()) else { return error };
        let advice = advice(error.message());
        let mut error = error.note(format!("in {}", failed.text));
        let mut values = vec![];
        for &ordinal in failed.reads.iter().take(SHOWN_COLUMNS_MAX) {
            if let Ok(text) = to_text(row.column(ordinal), &self.input[ordinal]) {
                let text = text.as_string::<i32>();
                let value = if text.is_empty() || text.is_null(0) {
                    "NULL".to_owned()
                } else if self.input[ordinal].is_string() {
                    shown(text.value(0))
                } else {
                    text.value(0).to_owned()
                };
                values.push(format!("{} = {value}", self.names[ordinal]));
            }
        }
        if !values.is_empty() {
            error = error.note(format!("of the row with {}", values.join(", ")));
        }
        advice.into_iter().fold(error, Error::note)
    }
}

/// What can be written so that such a row gives NULL.
fn advice(message: &str) -> Option<&'static str> {
    match message {
        "division by zero" => Some("x / NULLIF(y, 0) is NULL where y is 0"),
        m if m.contains("is not a value of type") || m.contains("is out of the range of") => {
            Some("TRY_CAST gives NULL for what does not fit")
        }
        _ => None,
    }
}

/// What has been evaluated of a batch that failed as a whole.
struct Parts {
    columns: Vec<Vec<ArrayRef>>,
    kept: BooleanBufferBuilder,
}

impl Compiled {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        if let Some(ordinal) = self.column {
            return Ok(batch.column(ordinal).clone());
        }
        let value = self.expr.evaluate(batch).map_err(to_error)?;
        let array = value.into_array(batch.num_rows()).map_err(to_error)?;
        if array.data_type() != &self.ty {
            let (is, wanted) = (array.data_type(), &self.ty);
            return Err(Error::internal(format!("{} gives {is} instead of {wanted}", self.text)));
        }
        Ok(array)
    }
}

/// A batch of columns that may be none; rows are counted by the caller.
///
/// # Errors
/// Columns that do not fit the schema.
pub(crate) fn to_batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// Our error through DataFusion's hands.
fn from_error(e: Error) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}
