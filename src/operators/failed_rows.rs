//! Rows of a tick for which an expression failed, kept until its end: a row that came and went within the tick has no
//! part in the tick's answer, and raises no error. Only of changing input; on append-only input a row fails at once.

use arrow::array::BooleanArray;
use arrow::compute::{filter_record_batch, not};
use thalweg_core::consolidate::consolidate;
use thalweg_core::{Changes, Result};

/// Rows that are kept before it is looked whether they cancel; half of them, if they do not, are judged early.
const FAILED_ROWS_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct FailedRows {
    parts: Vec<Changes>,
    rows: usize,
}

impl FailedRows {
    /// Keeps the rows of `changes` that are not in `succeeded`. Gives back rows that must be judged now, since there
    /// are too many to be kept.
    pub fn add(&mut self, changes: &Changes, succeeded: &BooleanArray) -> Result<Option<Changes>> {
        let failed = not(succeeded)?;
        let batch = filter_record_batch(&changes.batch, &failed)?;
        let weights = changes
            .weights
            .as_ref()
            .map(|w| w.values().iter().zip(failed.values()).filter(|(_, f)| *f).map(|(w, _)| *w));
        self.rows += batch.num_rows();
        self.parts.push(Changes::new(batch, weights.map(|w| w.collect())));
        if self.rows <= FAILED_ROWS_MAX {
            return Ok(None);
        }
        let net = consolidate(&std::mem::take(&mut self.parts))?;
        self.rows = net.num_rows();
        if self.rows > FAILED_ROWS_MAX / 2 {
            self.rows = 0;
            return Ok(Some(net));
        }
        self.parts.push(net);
        Ok(None)
    }

    /// At the end of the tick: the rows that are part of its answer.
    pub fn take_net(&mut self) -> Result<Option<Changes>> {
        if self.parts.is_empty() {
            return Ok(None);
        }
        self.rows = 0;
        Ok(Some(consolidate(&std::mem::take(&mut self.parts))?).filter(|net| !net.is_empty()))
    }
}
