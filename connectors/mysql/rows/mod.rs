//! Rows → Arrow batches: images of the binlog and rows of a snapshot's SELECT go into the same builders, by the same
//! conversions, so that equal values are equal whichever way they came.

pub mod binary_row;
mod cells;
pub mod raw;
pub mod temporal;
pub mod zone;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use thalweg_core::fold::RowKind;
use thalweg_core::{Changes, Error, Result, SqlType};

use self::binary_row::RowPlan;
use self::cells::Cells;
use self::raw::Raw;
use crate::binlog::bytes::Bytes;
use crate::binlog::rows_event::{Image, ImageCursor};
use crate::layout::{ImagePlan, Meaning, Output, TableLayout};

/// What is known of a row beside its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowMeta {
    /// When the change was made, in milliseconds since 1970; 0 for rows of a snapshot.
    pub op_ts_ms: i64,
    /// The value of the hidden order column, if there is one.
    pub order: i64,
}

/// Builds the batches of one captured table. Lives as long as its consumer; `finish` takes what is there.
pub struct RowsBuilder {
    layout: Arc<TableLayout>,
    /// One per output; those of metadata stay empty.
    cells: Vec<Option<Cells>>,
    rows: usize,
    /// Empty while all are +1.
    weights: Vec<i64>,
    kinds: Option<Vec<RowKind>>,
    op_ts: Option<Vec<i64>>,
    order: Option<Vec<i64>>,
}

impl RowsBuilder {
    pub fn new(layout: &Arc<TableLayout>) -> Result<RowsBuilder> {
        let mut cells = vec![];
        let (mut kinds, mut op_ts) = (None, None);
        for (place, output) in layout.outputs().iter().enumerate() {
            cells.push(match output {
                Output::Column { .. } => Some(Cells::new(layout.schema_column(place))?),
                _ => None,
            });
            match output {
                Output::OpTs => op_ts = Some(vec![]),
                Output::RowKind => kinds = Some(vec![]),
                _ => {}
            }
        }
        let order = layout.source().with_order.then(Vec::new);
        Ok(RowsBuilder { layout: layout.clone(), cells, rows: 0, weights: vec![], kinds, op_ts, order })
    }

    /// Rows in the batch so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that the batch so far takes.
    pub fn bytes(&self) -> usize {
        let meta = 8 * (usize::from(self.op_ts.is_some()) + usize::from(self.order.is_some()) + 1);
        self.cells.iter().flatten().map(Cells::bytes).sum::<usize>() + self.rows * meta
    }

    /// Appends the row of an image, as a change of the image's kind: -U and -D take a row away, unless the table is read
    /// as a log.
    ///
    /// # Errors
    /// A value that has no place in its declared column: names table, column and value. The builder is of no use then.
    pub fn push_image(&mut self, plan: &ImagePlan, image: &Image<'_>, meta: RowMeta) -> Result<()> {
        let mut rest = image.bytes;
        self.push_cells(plan, &mut rest)?;
        self.push_meta(image.kind, meta);
        Ok(())
    }

    /// Appends rows of an event until it ends or the batch holds `bytes_max`; not between the two images of an update.
    /// The order column rises by one from image to image; `meta` is left at the next row's. Gives the number of images.
    pub fn push_images(
        &mut self,
        plan: &ImagePlan,
        cursor: &mut ImageCursor<'_>,
        meta: &mut RowMeta,
        bytes_max: usize,
    ) -> Result<usize> {
        let begin = self.rows;
        while let Some(kind) = cursor.next_kind(plan)? {
            self.push_cells(plan, &mut cursor.rest)?;
            self.push_meta(kind, *meta);
            meta.order += 1;
            if self.rows.is_multiple_of(64) && cursor.is_between_rows() && self.bytes() >= bytes_max {
                break;
            }
        }
        Ok(self.rows - begin)
    }

    /// Appends a row that a prepared SELECT of `TableLayout::select_list` gave, in the binary protocol, as an
    /// insert. `row` is the packet behind its first byte, which is `00`.
    pub fn push_row(&mut self, plan: &RowPlan, row: &[u8], meta: RowMeta) -> Result<()> {
        plan.read(row, |place, raw, meaning| put(&mut self.cells, &self.layout, place, raw, meaning))?;
        self.push_meta(RowKind::Insert, meta);
        Ok(())
    }

    #[inline]
    fn push_cells(&mut self, plan: &ImagePlan, rest: &mut Bytes<'_>) -> Result<()> {
        let nulls = rest.take(plan.bitmap_bytes)?;
        for (i, step) in plan.steps.iter().enumerate() {
            let is_null = nulls[i / 8] & 1 << (i % 8) != 0;
            let Some((place, meaning)) = &step.target else {
                if !is_null {
                    step.read.skip(rest)?;
                }
                continue;
            };
            let raw = if is_null { Raw::Null } else { step.read.read(rest)? };
            put(&mut self.cells, &self.layout, *place, raw, meaning)?;
            for (place, meaning) in &step.more {
                put(&mut self.cells, &self.layout, *place, raw, meaning)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn push_meta(&mut self, kind: RowKind, meta: RowMeta) {
        if let Some(kinds) = &mut self.kinds {
            kinds.push(kind);
        }
        if !self.layout.is_append_log() {
            if kind.adds() {
                if !self.weights.is_empty() {
                    self.weights.push(1);
                }
            } else {
                self.weights.resize(self.rows, 1);
                self.weights.push(-1);
            }
        }
        if let Some(op_ts) = &mut self.op_ts {
            op_ts.push(meta.op_ts_ms);
        }
        if let Some(order) = &mut self.order {
            order.push(meta.order);
        }
        self.rows += 1;
    }

    /// What was appended since the last time, in order.
    pub fn finish(&mut self) -> Result<Changes> {
        let rows = std::mem::take(&mut self.rows);
        let (kinds, op_ts) = (self.kinds.as_mut().map(std::mem::take), self.op_ts.as_mut().map(std::mem::take));
        let mut arrays: Vec<ArrayRef> = vec![];
        for (place, output) in self.layout.outputs().iter().enumerate() {
            let constant = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows])) };
            arrays.push(match (output, &mut self.cells[place]) {
                (Output::Column { .. }, Some(cells)) => cells.finish()?,
                (Output::Column { .. }, None) => return Err(Error::internal("a column without cells")),
                (Output::DatabaseName, _) => constant(self.layout.database()),
                (Output::TableName, _) => constant(self.layout.table()),
                (Output::OpTs, _) => {
                    timestamps(op_ts.clone().unwrap_or_default(), &self.layout.schema_column(place).ty)
                }
                (Output::RowKind, _) => {
                    let kinds = kinds.as_deref().unwrap_or_default().iter().map(|k| k.symbol());
                    Arc::new(StringArray::from_iter_values(kinds))
                }
            });
        }
        if let Some(order) = &mut self.order {
            arrays.push(Arc::new(Int64Array::from(std::mem::take(order))));
        }
        let weights = std::mem::take(&mut self.weights);
        let weights = (!weights.is_empty()).then(|| Int64Array::from(weights));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.layout.schema(), arrays, &options)?;
        Ok(Changes::new(batch, weights))
    }
}

#[inline]
fn put(cells: &mut [Option<Cells>], layout: &TableLayout, place: usize, raw: Raw<'_>, meaning: &Meaning) -> Result<()> {
    let Some(Some(cells)) = cells.get_mut(place) else { return Err(Error::internal("a column without cells")) };
    cells.put(raw, meaning).map_err(|why| why.into_error(layout.name(), &cells.name))
}

/// Milliseconds as the declared TIMESTAMP_LTZ.
fn timestamps(millis: Vec<i64>, ty: &SqlType) -> ArrayRef {
    let scaled = |factor: i64| millis.iter().map(move |v| v.saturating_mul(factor)).collect::<Vec<_>>();
    match ty {
        SqlType::TimestampLtz(7..) => Arc::new(TimestampNanosecondArray::from(scaled(1_000_000)).with_timezone("UTC")),
        SqlType::TimestampLtz(4..=6) => Arc::new(TimestampMicrosecondArray::from(scaled(1000)).with_timezone("UTC")),
        _ => Arc::new(TimestampMillisecondArray::from(millis).with_timezone("UTC")),
    }
}

#[cfg(test)]
mod tests;
