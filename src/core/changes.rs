//! What flows on every edge: rows with a signed weight.

use arrow::array::{Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use crate::error::Result;

/// A Z-set: rows with a signed weight, +1 insert, -1 delete; an update is both. `None` means "all +1", the fast
/// path of append-only streams. A tick's changes come in parts that need not be net.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    pub batch: RecordBatch,
    /// As many as the batch has rows, without nulls, never 0.
    pub weights: Option<Int64Array>,
}

impl Changes {
    /// All rows with weight +1.
    pub fn inserts(batch: RecordBatch) -> Self {
        Changes { batch, weights: None }
    }

    /// # Panics
    /// If there is not exactly one weight per row.
    pub fn new(batch: RecordBatch, weights: Option<Int64Array>) -> Self {
        if let Some(w) = &weights {
            assert_eq!(w.len(), batch.num_rows(), "one weight per row");
            debug_assert_eq!(w.null_count(), 0);
        }
        Changes { batch, weights }
    }

    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.batch.num_rows() == 0
    }

    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |w| w.value(row))
    }

    /// Bytes held in memory (buffers may be shared with other batches).
    pub fn bytes(&self) -> usize {
        self.batch.get_array_memory_size() + self.weights.as_ref().map_or(0, |w| w.get_array_memory_size())
    }

    /// The same weights over other columns of the same rows.
    #[must_use]
    pub fn with_batch(&self, batch: RecordBatch) -> Self {
        Changes::new(batch, self.weights.clone())
    }

    /// The given rows, in the given order.
    pub fn take(&self, rows: &UInt32Array) -> Result<Self> {
        let batch = take_record_batch(&self.batch, rows)?;
        let taken = |w: &Int64Array| rows.values().iter().map(|&r| w.value(r as usize)).collect();
        let weights = self.weights.as_ref().map(taken);
        Ok(Changes { batch, weights })
    }

    /// Rows `offset .. offset + length`, without a copy.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Changes {
            batch: self.batch.slice(offset, length),
            weights: self.weights.as_ref().map(|w| w.slice(offset, length)),
        }
    }
}
