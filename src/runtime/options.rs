//! How an instance runs: the options by Flink's names, read by the session.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thalweg_state::{Backend, Budget};

use crate::restart::RestartStrategy;
use crate::source::SliceLimits;

#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// `parallelism.default`: worker threads.
    pub workers: usize,
    /// `pipeline.max-parallelism`: key groups; fixed from the first checkpoint on.
    pub max_parallelism: u16,
    /// `execution.checkpointing.interval`; `None`: no periodic checkpoints.
    pub checkpoint_interval: Option<Duration>,
    /// `execution.checkpointing.min-pause`: between the end of one checkpoint and the start of the next.
    pub checkpoint_min_pause: Duration,
    /// `execution.checkpointing.timeout`.
    pub checkpoint_timeout: Duration,
    /// `execution.checkpointing.num-retained`.
    pub checkpoints_retained: usize,
    /// Staged output of all sinks over which a checkpoint starts early.
    pub staged_bytes_max: u64,
    /// Committed and undelivered output over which reading stops until the target is back.
    pub pending_bytes_max: u64,
    pub backend: Backend,
    pub restart: RestartStrategy,
    pub budget: Arc<Budget>,
    pub slices: SliceLimits,
    /// Rows of a piece that readers hand over.
    pub piece_rows_max: usize,
    pub piece_bytes_max: usize,
    /// Local folder for state and spilled runs; each attempt makes its own below and removes it.
    pub working_dir: PathBuf,
    /// For tests: cuts the input and disturbs the run at random.
    pub disturb: Option<Disturb>,
}

/// A run that is cut, checkpointed and killed at random places, all decided by the seed: for `thalweg test`.
#[derive(Debug, Clone)]
pub struct Disturb {
    pub seed: u64,
    /// Every slice has 1 to so many rows.
    pub slice_rows_max: usize,
    /// One tick in so many takes a checkpoint; 0: none.
    pub checkpoint_one_in: u64,
    /// One tick in so many ends the attempt; 0: none. The next attempt goes on from the last checkpoint.
    pub kill_one_in: u64,
    pub kills_max: u64,
    /// Workers of the attempts, in turn; empty: as configured.
    pub workers: Vec<usize>,
}

impl RuntimeOptions {
    pub fn new(working_dir: PathBuf) -> Self {
        RuntimeOptions {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            max_parallelism: thalweg_core::key_group::MAX_PARALLELISM_DEFAULT,
            checkpoint_interval: Some(Duration::from_secs(1)),
            checkpoint_min_pause: Duration::ZERO,
            checkpoint_timeout: Duration::from_secs(600),
            checkpoints_retained: 1,
            staged_bytes_max: 256 << 20,
            pending_bytes_max: 1 << 30,
            backend: Backend::RocksDb,
            restart: RestartStrategy::default(),
            budget: Budget::default_for_machine(),
            slices: SliceLimits::DEFAULT,
            piece_rows_max: thalweg_core::operator::BATCH_ROWS,
            piece_bytes_max: 4 << 20,
            working_dir,
            disturb: None,
        }
    }
}
