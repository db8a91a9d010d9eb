//! The sink of a SELECT: whole ticks of changes, handed to whoever asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use thalweg_connector_api::{DirectWriter, EncodeCx, Encoder, Segment, Sink};
use thalweg_core::cells::with_canonical_floats;
use thalweg_core::consolidate::consolidate;
use thalweg_core::fold::{RowChanges, RowKind};
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::table::Delivery;
use thalweg_core::{Changes, Error, Result, Tick};
use thalweg_graph::ops::SortKey;
use tokio::sync::Notify;

/// One tick's rows, of all workers.
#[derive(Debug, Clone)]
pub struct TickChanges {
    pub tick: u64,
    pub rows: Vec<RowChanges>,
}

#[derive(Default)]
struct Collected {
    /// Ticks that not all workers have ended: rows, workers that have.
    open: BTreeMap<u64, (Vec<RowChanges>, usize)>,
    /// Whole ticks with rows, in order.
    ready: VecDeque<TickChanges>,
    rows_ready: usize,
}

/// Gathers the parts of all workers into whole ticks.
#[derive(Default)]
pub struct Collector {
    collected: Mutex<Collected>,
    more: Notify,
    space: (Mutex<()>, std::sync::Condvar),
}

/// Rows that wait for the reader over which the query waits for him.
const ROWS_READY_MAX: usize = 1 << 20;

impl Collector {
    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next whole tick with rows, if there is one now.
    pub fn try_next(&self) -> Option<TickChanges> {
        let mut c = self.collected();
        let next = c.ready.pop_front()?;
        c.rows_ready -= next.rows.iter().map(|r| r.batch.num_rows()).sum::<usize>();
        drop(c);
        self.space.1.notify_all();
        Some(next)
    }

    /// Waits until there may be something new.
    pub async fn changed(&self) {
        self.more.notified().await;
    }

    /// What came after `tick` is void: an attempt begins anew there.
    pub fn rewind(&self, tick: u64) {
        let mut c = self.collected();
        c.open.clear();
        c.ready.retain(|t| t.tick <= tick);
        c.rows_ready = c.ready.iter().flat_map(|t| &t.rows).map(|r| r.batch.num_rows()).sum();
    }
}

/// A `Sink` over a collector.
pub struct CollectSink(pub Arc<Collector>);

#[async_trait]
impl Sink for CollectSink {
    fn delivery(&self) -> Delivery {
        Delivery::None
    }

    fn encoder(&self, _: EncodeCx) -> Result<Box<dyn Encoder>> {
        Err(Error::internal("the result of a query is not staged"))
    }

    fn direct(&self, cx: EncodeCx) -> Result<Box<dyn DirectWriter>> {
        Ok(Box::new(Writer { collector: self.0.clone(), workers: cx.workers, rows: vec![] }))
    }

    async fn fence(&self, _: &JobId) -> Result<Mark> {
        Ok(Mark::Absent)
    }

    async fn deliver(&self, _: &[Segment], _: &Mark) -> Result<()> {
        Ok(())
    }
}

struct Writer {
    collector: Arc<Collector>,
    workers: usize,
    rows: Vec<RowChanges>,
}

impl DirectWriter for Writer {
    fn write(&mut self, _: &Tick, rows: &RowChanges) -> Result<()> {
        self.rows.push(rows.clone());
        Ok(())
    }

    fn end_tick(&mut self, tick: &Tick) -> Result<()> {
        let mut c = self.collector.collected();
        let open = c.open.entry(tick.id).or_default();
        open.0.append(&mut self.rows);
        open.1 += 1;
        if open.1 < self.workers {
            return Ok(());
        }
        let (rows, _) = c.open.remove(&tick.id).unwrap_or_default();
        if rows.is_empty() {
            return Ok(());
        }
        c.rows_ready += rows.iter().map(|r| r.batch.num_rows()).sum::<usize>();
        c.ready.push_back(TickChanges { tick: tick.id, rows });
        let full = c.rows_ready > ROWS_READY_MAX;
        drop(c);
        self.collector.more.notify_one();
        if full {
            // Bounded, so that a cancelled query whose reader is gone ends.
            let guard = self.collector.space.0.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = self.collector.space.1.wait_timeout(guard, std::time::Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The weights of folded rows.
pub fn to_changes(rows: RowChanges) -> Changes {
    match rows.kinds {
        None => Changes::inserts(rows.batch),
        Some(kinds) => {
            let weight = |k: &RowKind| match k {
                RowKind::Insert | RowKind::UpdateAfter => 1,
                RowKind::UpdateBefore | RowKind::Delete => -1,
            };
            Changes::new(rows.batch, Some(kinds.iter().map(weight).collect::<Int64Array>()))
        }
    }
}

/// The final answer of a bounded query: folds ticks as they come.
pub struct Folded {
    schema: SchemaRef,
    parts: Vec<Changes>,
    rows: usize,
    rows_after_last: usize,
}

impl Folded {
    pub fn new(schema: SchemaRef) -> Self {
        Folded { schema, parts: vec![], rows: 0, rows_after_last: 0 }
    }

    pub fn add(&mut self, tick: TickChanges) -> Result<()> {
        for rows in tick.rows {
            let batch = RecordBatch::try_new(self.schema.clone(), rows.batch.columns().to_vec())?;
            self.rows += batch.num_rows();
            self.parts.push(to_changes(RowChanges { batch, kinds: rows.kinds }));
        }
        // Retractions are netted when they may have doubled what there is.
        if self.rows > 2 * self.rows_after_last + (1 << 20) && self.parts.iter().any(|p| p.weights.is_some()) {
            let net = consolidate(&self.parts)?;
            self.rows = net.num_rows();
            self.rows_after_last = self.rows;
            self.parts = vec![net];
        }
        Ok(())
    }

    /// The net changes, in the order of the columns.
    pub fn net(self) -> Result<Changes> {
        if self.parts.is_empty() {
            return Ok(Changes::inserts(RecordBatch::new_empty(self.schema)));
        }
        consolidate(&self.parts)
    }

    /// The rows of the answer in `order`, ties (and all, without an order) by the columns in declaration order.
    pub fn rows(self, order: &[SortKey]) -> Result<RecordBatch> {
        let schema = self.schema.clone();
        let net = self.net()?;
        let batch = repeated(net)?;
        if order.is_empty() || batch.num_rows() == 0 {
            return Ok(RecordBatch::try_new(schema, batch.columns().to_vec())?);
        }
        // In an order -0.0 is 0.0: the next key decides.
        let key = |k: &SortKey| -> Result<SortColumn> {
            let values = with_canonical_floats(batch.column(k.column))?;
            let options = Some(SortOptions { descending: k.descending, nulls_first: k.nulls_first });
            Ok(SortColumn { values, options })
        };
        let mut keys = order.iter().map(key).collect::<Result<Vec<_>>>()?;
        let position: UInt32Array = (0..batch.num_rows() as u32).collect();
        let ties = SortColumn { values: Arc::new(position), options: None };
        keys.push(ties);
        let indices = lexsort_to_indices(&keys, None)?;
        Ok(take_record_batch(&batch, &indices)?)
    }
}

/// A row of weight n as n rows.
fn repeated(net: Changes) -> Result<RecordBatch> {
    let Some(weights) = &net.weights else { return Ok(net.batch) };
    if let Some(row) = weights.values().iter().position(|&w| w < 0) {
        let cells =
            net.batch.columns().iter().map(|c| arrow::util::display::array_value_to_string(c, row).unwrap_or_default());
        let cells = cells.collect::<Vec<_>>().join(", ");
        return Err(Error::changelog(format!("the answer would lack the row ({cells})"))
            .note("an input deletes a row that it never inserted"));
    }
    if weights.values().iter().all(|&w| w == 1) {
        return Ok(net.batch);
    }
    let indices: UInt32Array = weights
        .values()
        .iter()
        .enumerate()
        .flat_map(|(row, &w)| std::iter::repeat_n(row as u32, w as usize))
        .collect::<Vec<_>>()
        .into();
    Ok(take_record_batch(&net.batch, &indices)?)
}
