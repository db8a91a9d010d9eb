//! Sinks on the workers: a tick's changes are netted and folded by the sink's key, then encoded and staged, or handed to
//! the writer of a sink that promises nothing.
//!
//! A sink of upserts, of which only the last row of a key counts, nets the changes of all ticks between two checkpoints:
//! nobody sees them before the second one, and then all at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use thalweg_checkpoint::segments::Part;
use thalweg_connector_api::{DirectWriter, Encoder};
use thalweg_core::fold::{RowChanges, RowKind, fold, fold_one_row};
use thalweg_core::netting::{NetChanges, Netting, NettingOptions};
use thalweg_core::operator::{EMIT_ROWS_MAX, Operator, Step, TickCx};
use thalweg_core::{Changes, Error, Result, Tick};
use thalweg_graph::NodeIx;
use tokio::sync::mpsc;

use crate::command::{Stage, StagedChunks};
use crate::metrics::Metrics;

/// Encoded bytes that a worker collects before they go to the checkpoint storage.
const STAGE_BYTES: u64 = 4 << 20;
/// Changes of one tick that are netted in memory; beyond it in sorted runs on disk.
const NETTING_BYTES_MAX: usize = 64 << 20;

/// Changes that wait for a checkpoint to be netted with later ones, of all sinks of a worker; what cannot be netted to half
/// of its sink's share goes out.
const WAITING_BYTES_MAX: usize = 24 << 20;
/// A sink's share at least.
const WAITING_BYTES_MIN: usize = 1 << 20;

/// Where a sink's rows go.
pub enum Target {
    /// To the checkpoint storage, later to the target.
    Staged {
        encoder: Box<dyn Encoder>,
        stage: mpsc::Sender<Stage>,
    },
    Direct(Box<dyn DirectWriter>),
}

pub struct SinkCx {
    pub name: String,
    pub node: NodeIx,
    pub worker: usize,
    pub target: Target,
    /// Ordinals by which changes are folded.
    pub key: Vec<usize>,
    /// There is never more than one row: a tick's changes are all of one key.
    pub one_row: bool,
    /// All inputs are append-only, or the sink does not care: nothing to net.
    pub as_they_come: bool,
    /// Of a key only its last row before a checkpoint counts: so many bytes of changes may wait for it.
    pub waiting_bytes_max: Option<usize>,
    pub spill_dir: PathBuf,
    pub metrics: Arc<Metrics>,
}

pub struct SinkOperator {
    cx: SinkCx,
    netting: Option<Netting>,
    /// The netting of the tick that is being written out.
    writing: Option<NetChanges>,
    staged: Option<StagedChunks>,
    /// The first tick whose changes were netted and not all written. What is written then is of all ticks since: a border
    /// between two segments there would show the target a part of them.
    netted_since: Option<u64>,
    /// Of what was encoded last, on average.
    row_bytes: u64,
}

impl SinkOperator {
    pub fn new(cx: SinkCx) -> Self {
        SinkOperator { cx, netting: None, writing: None, staged: None, netted_since: None, row_bytes: 0 }
    }

    fn write(&mut self, tick: &Tick, rows: &RowChanges) -> Result<()> {
        let count = rows.batch.num_rows() as u64;
        self.cx.metrics.rows_out.fetch_add(count, Ordering::Relaxed);
        match &mut self.cx.target {
            Target::Direct(writer) => writer.write(tick, rows),
            Target::Staged { encoder, .. } => {
                // As many as the rows before took, and some more: a buffer that grows is copied again and again.
                let expected = self.row_bytes.saturating_mul(count);
                let mut bytes = Vec::with_capacity(expected.saturating_add(expected / 8).min(STAGE_BYTES) as usize);
                encoder.encode(tick, rows, &mut bytes).map_err(|e| e.context(&self.cx.name))?;
                if bytes.capacity() / 2 > bytes.len() {
                    bytes.shrink_to_fit();
                }
                let staged = self.staged.get_or_insert_with(|| StagedChunks {
                    sink: self.cx.node,
                    worker: self.cx.worker,
                    part: Part {
                        chunks: vec![],
                        rows: 0,
                        first_tick: self.netted_since.unwrap_or(tick.id),
                        last_tick: tick.id,
                    },
                    bytes: 0,
                });
                staged.part.last_tick = tick.id;
                staged.part.rows += count;
                staged.bytes += bytes.len() as u64;
                self.row_bytes = (bytes.len() as u64).div_ceil(count.max(1));
                staged.part.chunks.push(bytes.into());
                if staged.bytes >= STAGE_BYTES { self.stage() } else { Ok(()) }
            }
        }
    }

    /// Whether what was netted waits for changes of later ticks.
    fn waits(&mut self, tick: &Tick) -> Result<bool> {
        match &mut self.netting {
            Some(netting) if tick.kind.checkpoint().is_none() => {
                self.cx.waiting_bytes_max.map_or(Ok(false), |max| netting.fits(max))
            }
            _ => Ok(false),
        }
    }

    /// Hands over what was encoded. Waits while the storage is behind: that is the back-pressure of output.
    fn stage(&mut self) -> Result<()> {
        let Target::Staged { stage, .. } = &self.cx.target else { return Ok(()) };
        match self.staged.take() {
            Some(staged) => stage.blocking_send(Stage::Chunks(staged)).map_err(|_| Error::cancelled()),
            None => Ok(()),
        }
    }
}

impl Operator for SinkOperator {
    fn push(&mut self, _: usize, changes: Changes, cx: &mut dyn TickCx) -> Result<()> {
        if self.cx.as_they_come {
            let tick = *cx.tick();
            return self.write(&tick, &as_row_changes(changes)?);
        }
        let netting = match &mut self.netting {
            Some(netting) => netting,
            None => self.netting.insert(Netting::new(NettingOptions {
                schema: changes.batch.schema(),
                sort_key: self.cx.key.clone(),
                memory_max: NETTING_BYTES_MAX,
                spill_dir: self.cx.spill_dir.clone(),
            })?),
        };
        self.netted_since.get_or_insert(cx.tick().id);
        netting.push(&changes)
    }

    fn end_tick(&mut self, cx: &mut dyn TickCx) -> Result<Step> {
        let tick = *cx.tick();
        if self.writing.is_none()
            && !self.waits(&tick)?
            && let Some(netting) = &mut self.netting
            && !netting.is_empty()
        {
            self.writing = Some(netting.finish()?);
        }
        if let Some(mut netting) = self.writing.take() {
            let mut written = 0;
            while let Some(net) = netting.next_batch()? {
                let rows = if self.cx.one_row { fold_one_row(net)? } else { fold(net, &self.cx.key)? };
                written += rows.batch.num_rows();
                self.write(&tick, &rows)?;
                if written >= EMIT_ROWS_MAX {
                    self.writing = Some(netting);
                    return Ok(Step::More);
                }
            }
            self.netted_since = None;
        }
        if let Target::Direct(writer) = &mut self.cx.target {
            writer.end_tick(&tick)?;
        }
        Ok(Step::Done)
    }

    fn flush(&mut self) -> Result<()> {
        self.stage()
    }
}

/// The share of each of so many sinks of upserts on a worker.
pub fn waiting_bytes_max(sinks: usize) -> usize {
    (WAITING_BYTES_MAX / sinks.max(1)).max(WAITING_BYTES_MIN)
}

/// Rows in no order: weights as +I and -D, a weight of n as n rows.
fn as_row_changes(changes: Changes) -> Result<RowChanges> {
    let Some(weights) = &changes.weights else { return Ok(RowChanges { batch: changes.batch, kinds: None }) };
    let kind = |w: i64| if w > 0 { RowKind::Insert } else { RowKind::Delete };
    if weights.values().iter().all(|w| w.unsigned_abs() == 1) {
        let kinds = weights.values().iter().map(|&w| kind(w)).collect();
        return Ok(RowChanges { batch: changes.batch, kinds: Some(kinds) });
    }
    let mut rows = vec![];
    let mut kinds = vec![];
    for (row, &w) in weights.values().iter().enumerate() {
        for _ in 0..w.unsigned_abs() {
            rows.push(row as u32);
            kinds.push(kind(w));
        }
    }
    let batch = take_record_batch(&changes.batch, &UInt32Array::from(rows))?;
    Ok(RowChanges { batch, kinds: Some(kinds) })
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use thalweg_core::TickKind;
    use thalweg_core::operator::Waker;
    use thalweg_core::testing::{changes, columns, print_rows};
    use thalweg_core::tick::Watermark;

    use super::*;

    struct InTick(Tick);

    impl TickCx for InTick {
        fn tick(&self) -> &Tick {
            &self.0
        }

        fn watermark(&self, _: usize) -> Watermark {
            Watermark::NONE
        }

        fn hold_watermark(&mut self, _: Watermark) {}

        fn emit(&mut self, _: Changes) {}

        fn row_error(&mut self, error: Error) -> Result<()> {
            Err(error)
        }

        fn waker(&self) -> Waker {
            Arc::new(|| {})
        }
    }

    /// Notes what it gets, as text.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    impl Encoder for Notes {
        fn encode(&mut self, tick: &Tick, rows: &RowChanges, _: &mut Vec<u8>) -> Result<()> {
            self.0.lock().push(format!("tick {}: {}", tick.id, print_rows(rows).replace('\n', ", ")));
            Ok(())
        }
    }

    /// What the encoder got, and the ticks that the staged parts are of.
    fn written(waiting_bytes_max: Option<usize>, ticks: &[(TickKind, &str)]) -> (Vec<String>, Vec<(u64, u64)>) {
        let notes = Notes::default();
        let (stage, mut received) = mpsc::channel(100);
        let place = std::env::temp_dir();
        let mut sink = SinkOperator::new(SinkCx {
            name: "s".to_owned(),
            node: 0,
            worker: 0,
            target: Target::Staged { encoder: Box::new(notes.clone()), stage },
            key: vec![0],
            one_row: false,
            as_they_come: false,
            waiting_bytes_max,
            spill_dir: place,
            metrics: Arc::default(),
        });
        for (id, (kind, text)) in (1..).zip(ticks) {
            let mut cx = InTick(Tick { id, kind: *kind, wall_clock_us: 0 });
            sink.push(0, changes(text, &columns("I T")), &mut cx).unwrap();
            while sink.end_tick(&mut cx).unwrap() == Step::More {}
            if kind.checkpoint().is_some() {
                sink.flush().unwrap();
            }
        }
        let parts = std::iter::from_fn(|| received.try_recv().ok()).map(|stage| match stage {
            Stage::Chunks(chunks) => (chunks.part.first_tick, chunks.part.last_tick),
            Stage::Barrier(_) => unreachable!("a sink stages chunks"),
        });
        let notes = notes.0.lock();
        (notes.clone(), parts.collect())
    }

    #[test]
    fn of_upserts_only_the_last_before_a_checkpoint_are_written() {
        let ticks = [
            (TickKind::Plain, "I T\n+ 1 a\n+ 2 b\n+ 3 c"),
            (TickKind::Plain, "I T\n- 1 a\n+ 1 aa\n- 3 c"),
            (TickKind::Checkpoint(1), "I T\n- 1 aa\n+ 1 aaa"),
            (TickKind::Plain, "I T\n- 2 b\n+ 2 bb"),
            (TickKind::Stop(2), "I T\n- 2 bb"),
        ];
        let (rows, parts) = written(Some(waiting_bytes_max(1)), &ticks);
        assert_eq!(rows, ["tick 3: I T, +I 1 aaa, +I 2 b, ", "tick 5: I T, -D 2 b, "]);
        // Of all ticks since the checkpoint before: no border between segments may be within them.
        assert_eq!(parts, [(1, 3), (4, 5)]);
        let (rows, parts) = written(None, &ticks);
        assert_eq!(rows.len(), 5);
        assert_eq!(parts, [(1, 3), (4, 5)]);
        // What takes too much does not wait.
        let (rows, _) = written(Some(1), &ticks);
        assert_eq!(rows.len(), 5);
    }
}
