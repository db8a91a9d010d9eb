//! What operators collect during a tick, and what they hand out at its end in bounded parts.

use std::collections::VecDeque;

use arrow::array::{Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use thalweg_core::operator::{BATCH_ROWS, EMIT_ROWS_MAX, Step, TickCx};
use thalweg_core::{Changes, Result};

/// All parts as one.
pub(crate) fn concat(schema: &SchemaRef, mut parts: Vec<Changes>) -> Result<Changes> {
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    let batch = concat_batches(schema, parts.iter().map(|p| &p.batch))?;
    if parts.iter().all(|p| p.weights.is_none()) {
        return Ok(Changes::inserts(batch));
    }
    let mut weights = Vec::with_capacity(batch.num_rows());
    for part in &parts {
        match &part.weights {
            Some(w) => weights.extend_from_slice(w.values()),
            None => weights.resize(weights.len() + part.num_rows(), 1),
        }
    }
    Ok(Changes::new(batch, Some(Int64Array::from(weights))))
}

/// Output of a tick that waits to be emitted.
#[derive(Default)]
pub(crate) struct Outbox {
    parts: VecDeque<Changes>,
}

impl Outbox {
    /// All rows with the same weight.
    pub fn push_all(&mut self, batch: RecordBatch, weight: i64) {
        let weights = (weight != 1).then(|| Int64Array::from(vec![weight; batch.num_rows()]));
        self.push(Changes::new(batch, weights));
    }

    pub fn push(&mut self, changes: Changes) {
        let rows = changes.num_rows();
        for offset in (0..rows).step_by(BATCH_ROWS) {
            self.parts.push_back(changes.slice(offset, BATCH_ROWS.min(rows - offset)));
        }
    }

    /// Emits up to `EMIT_ROWS_MAX` rows.
    pub fn emit(&mut self, cx: &mut dyn TickCx) -> Step {
        let mut rows = 0;
        while rows < EMIT_ROWS_MAX {
            let Some(part) = self.parts.pop_front() else { return Step::Done };
            rows += part.num_rows();
            cx.emit(part);
        }
        if self.parts.is_empty() { Step::Done } else { Step::More }
    }
}
