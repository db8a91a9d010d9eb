//! Sinks: a tick's net changes become encoded rows on the workers; committed segments of them are delivered to the
//! target in order, together with the mark.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use thalweg_core::fold::RowChanges;
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::table::Delivery;
use thalweg_core::{Result, Tick};

/// An opened sink of one job.
#[async_trait]
pub trait Sink: Send + Sync {
    fn delivery(&self) -> Delivery;

    /// Looks at the target at the start of every attempt, before any row is encoded: whether it is there and may be
    /// written. Answers what encoders need to know of it and what must stay as it was at the first start (a number of
    /// partitions): `stored` is what the last attempt's call answered, kept with the checkpoints.
    ///
    /// # Errors
    /// A permanent one ends the job; so does any at the job's very first start. After a transient one the job goes on with
    /// what is stored, and asks again before it delivers, so that the job's other sinks are not held up; if nothing is
    /// stored, the restart strategy decides.
    async fn prepare(&self, stored: Option<&serde_json::Value>) -> Result<serde_json::Value> {
        let _ = stored;
        Ok(serde_json::Value::Null)
    }

    /// For sinks that are fed from committed segments: an encoder for one worker. Columns of the rows it gets are
    /// those of the sink's `TableDef`, in order.
    fn encoder(&self, cx: EncodeCx) -> Result<Box<dyn Encoder>>;

    /// For `Delivery::None` only: a writer for one worker that gets every tick at once.
    fn direct(&self, cx: EncodeCx) -> Result<Box<dyn DirectWriter>> {
        let _ = cx;
        Err(thalweg_core::Error::internal("this sink is fed from committed segments"))
    }

    /// Shuts out any older process of this job, then reads the mark.
    async fn fence(&self, job: &JobId) -> Result<Mark>;

    /// Whole segments and the mark (job, number of the last segment) in one transaction of the target; called in
    /// order. Without segments: writes the mark anew. A transient error is tried again, after a new `fence`.
    async fn deliver(&self, segments: &[Segment], mark: &Mark) -> Result<()>;
}

/// Where an encoder or writer runs.
#[derive(Debug, Clone)]
pub struct EncodeCx {
    pub worker: usize,
    pub workers: usize,
    /// `pipeline.name`, else the name that messages use.
    pub job_name: String,
    /// Rows may be changed or taken back after they came: the input is not append-only.
    pub changes: bool,
    /// What `Sink::prepare` answered; null for sinks that get ticks directly.
    pub facts: serde_json::Value,
}

/// Encodes rows on a worker: synchronous, columnar, checked for the target's limits, so that what is staged can be
/// delivered.
pub trait Encoder {
    /// Appends a tick's rows, encoded, to `out`. What one call appends is kept together as one chunk.
    /// A row that the target cannot take is an error of code `Row` that names its key.
    fn encode(&mut self, tick: &Tick, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()>;
}

/// Gets every tick directly: `print`, `blackhole`, the shell.
pub trait DirectWriter {
    /// The rows of one tick of this worker; called several times a tick if there are many. If the sink said
    /// `needs_net = false` they come as they are, in no order, and deletes as -D.
    fn write(&mut self, tick: &Tick, rows: &RowChanges) -> Result<()>;

    /// The tick is over on this worker; called for every tick.
    fn end_tick(&mut self, tick: &Tick) -> Result<()> {
        let _ = tick;
        Ok(())
    }
}

/// Committed, undelivered output of a sink: all workers' encoded rows of one range of whole ticks.
pub struct Segment {
    /// Numbered per sink from 1, without gaps.
    pub number: u64,
    pub ticks: RangeInclusive<u64>,
    pub rows: u64,
    pub bytes: u64,
    pub chunks: Box<dyn SegmentChunks>,
}

/// Reads a segment: parts of different workers behind one another (keys are disjoint between workers), each in the
/// order of ticks; every chunk is what one call of `Encoder::encode` appended.
pub trait SegmentChunks: Send + Sync {
    fn read(&self) -> BoxStream<'_, Result<Bytes>>;
}
