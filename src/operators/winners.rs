//! Of a tick's rows, the first or the last to arrive per key.

use std::cmp::Ordering;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::Int64Type;
use thalweg_core::key::{KeyCodec, KeyOrder};
use thalweg_core::state::KeyBatch;
use thalweg_core::{Error, Result, SqlType};

const NONE: u32 = u32::MAX;

/// Picks one row per slot (a number for each distinct key) by the arrival-order column; equal values of it (of two
/// splits) are told apart by all columns.
pub(crate) struct Winners {
    order: usize,
    first: bool,
    columns: usize,
    /// Slot → best row so far; all `NONE` between calls.
    best: Vec<u32>,
}

impl Winners {
    pub fn new(order: usize, first: bool, columns: usize) -> Self {
        Winners { order, first, columns, best: vec![] }
    }

    /// The winning row of each slot for which `competes`, in ascending order of rows. All slots are below `slots_max`.
    pub fn pick(
        &mut self,
        batch: &RecordBatch,
        slots: &[u32],
        slots_max: usize,
        competes: impl Fn(u32) -> bool,
    ) -> Result<UInt32Array> {
        let order = batch.column(self.order).as_primitive_opt::<Int64Type>();
        let order = order.ok_or_else(|| Error::internal("the arrival-order column is not a BIGINT"))?.values();
        self.best.resize(slots_max.max(self.best.len()), NONE);
        let mut touched = vec![];
        let mut failed = None;
        for (row, &slot) in slots.iter().enumerate() {
            let best = self.best[slot as usize];
            if best == NONE {
                if competes(slot) {
                    touched.push(slot);
                    self.best[slot as usize] = row as u32;
                }
                continue;
            }
            let by_columns = || {
                self.compare(batch, row, best as usize).unwrap_or_else(|e| {
                    failed = Some(e);
                    Ordering::Equal
                })
            };
            let ordering = order[row].cmp(&order[best as usize]).then_with(by_columns);
            if ordering == (if self.first { Ordering::Less } else { Ordering::Greater }) {
                self.best[slot as usize] = row as u32;
            }
        }
        let mut rows: Vec<u32> = touched.iter().map(|&s| std::mem::replace(&mut self.best[s as usize], NONE)).collect();
        if self.best.len() > 4 * slots_max.max(1024) {
            self.best = vec![];
        }
        rows.sort_unstable();
        match failed {
            Some(e) => Err(e),
            None => Ok(rows.into()),
        }
    }

    /// By all columns in declaration order; rare.
    fn compare(&self, batch: &RecordBatch, a: usize, b: usize) -> Result<Ordering> {
        let ty = |c: usize| SqlType::from_arrow(batch.column(c).data_type()).unwrap_or(SqlType::Null);
        let codec = KeyCodec::new((0..self.columns).map(|c| KeyOrder::ascending(ty(c)).exact()).collect());
        let mut keys = KeyBatch::new();
        for row in [a, b] {
            let cells: Vec<_> = (0..self.columns).map(|c| batch.column(c).slice(row, 1)).collect();
            codec.encode(None, &cells, 1, &mut keys)?;
        }
        Ok(keys.get(0).cmp(keys.get(1)))
    }
}
