//! What coordinator and workers say to one another. One totally ordered stream of commands goes to every worker.

use std::collections::BTreeMap;
use std::time::Instant;

use thalweg_checkpoint::segments::Part;
use thalweg_connector_api::{Position, SplitId};
use thalweg_core::Tick;
use thalweg_graph::NodeIx;
use thalweg_state::SnapshotTask;
use tokio::sync::oneshot;

/// Coordinator → all workers.
#[derive(Debug, Clone)]
pub enum Command {
    /// Take a slice of every source, at most so many rows each, and run it.
    Tick { tick: Tick, slice_rows_max: usize },
    /// The files of this checkpoint are stored, or given up: remove the local links.
    ReleaseSnapshot(u64),
    /// End without another word.
    Cancel,
}

/// Worker → coordinator.
pub enum Answer {
    /// The dataflow is built.
    Ready,
    /// All operators of the worker have ended the tick; `moved`: a source gave it rows, or a position without any.
    TickDone { tick: u64, rows_in: u64, moved: bool, wants_tick_at: Option<i64> },
    /// Everything of a checkpoint tick is flushed and hard-linked.
    CheckpointPart(CheckpointPart),
}

/// One worker's part of a checkpoint.
pub struct CheckpointPart {
    pub worker: usize,
    pub checkpoint: u64,
    /// Writes what was flushed and links the files, beside the stream; other writes wait until it has run.
    pub snapshot: SnapshotTask,
    /// Per source node: where the splits of this worker stand after the tick; those that moved in this attempt.
    pub positions: Vec<(NodeIx, BTreeMap<SplitId, Position>)>,
    /// Per source node: rows that this worker took in this attempt.
    pub rows: Vec<(NodeIx, u64)>,
    /// When all operators of the worker had ended the tick: since then the stream waits.
    pub tick_ended: Instant,
}

/// To the stager of an attempt.
#[derive(Debug)]
pub enum Stage {
    Chunks(StagedChunks),
    /// Answered when everything sent before is in the storage.
    Barrier(oneshot::Sender<()>),
}

/// Encoded output of one sink on one worker, on its way to the checkpoint storage.
#[derive(Debug)]
pub struct StagedChunks {
    pub sink: NodeIx,
    pub worker: usize,
    pub part: Part,
    /// Of its chunks.
    pub bytes: u64,
}
