//! How an instance runs: the options by Flink's names, read by the session.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thalweg_state::{Backend, Budget};

use crate::restart::RestartStrategy;
use crate::source::{SliceLimits, random_slice_rows};

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
    /// `sink.staged-bytes-max`: staged output of all sinks over which a checkpoint starts early.
    pub staged_bytes_max: u64,
    /// `sink.pending-bytes-max`: committed and undelivered output over which reading stops until the target is back.
    pub pending_bytes_max: u64,
    /// `sink.mark-interval`: a sink with nothing to deliver writes its mark anew this often.
    pub mark_interval: Duration,
    pub backend: Backend,
    pub restart: RestartStrategy,
    pub budget: Arc<Budget>,
    /// What is read ahead.
    pub slices: SliceLimits,
    /// `execution.tick.rows-max`: rows that a tick takes of a source on a worker.
    pub tick_rows_max: usize,
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
    /// Every piece that a reader hands over has at most so many.
    pub piece_rows_max: usize,
    /// One tick in so many takes a checkpoint; 0: none.
    pub checkpoint_one_in: u64,
    /// One tick in so many ends the attempt, before it begins or in its middle; 0: none. The next attempt goes on from
    /// the last checkpoint.
    pub kill_one_in: u64,
    pub kills_max: u64,
    /// Workers of the attempts, in turn; empty: as configured.
    pub workers: Vec<usize>,
    /// What came of it, shared by all clones.
    pub counts: Arc<DisturbCounts>,
}

impl Disturb {
    /// Rows of the piece that begins at a place: 1 to `rows_max`, by the seed.
    pub fn piece_rows(&self, place: u64, rows_max: usize) -> usize {
        random_slice_rows(self.seed ^ 0x7069_6563, place, rows_max)
    }
}

/// What happened in disturbed runs: whoever relies on them can see that there was something to survive.
#[derive(Debug, Default)]
pub struct DisturbCounts {
    /// Attempts that were ended.
    pub kills: AtomicU64,
    /// Attempts that went on from a checkpoint of a tick.
    pub restores: AtomicU64,
    /// Of these, those that had another number of workers than the attempt before.
    pub rescales: AtomicU64,
    /// Parts of a transaction that were handed over before its last one.
    pub cuts: AtomicU64,
}

impl DisturbCounts {
    pub fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// With less memory for state than this, ticks are smaller in proportion: what a tick brings is held beside the state.
const WHOLE_TICK_BUDGET_BYTES: usize = 64 << 20;
/// But not smaller than this, as far as the input has as much.
const TICK_ROWS_MIN: usize = 16 * 1024;

impl RuntimeOptions {
    /// Rows that a tick takes of a source on a worker, whole transactions apart.
    pub fn slice_rows_max(&self) -> usize {
        let share = self.budget.total_bytes().min(WHOLE_TICK_BUDGET_BYTES);
        let rows = SliceLimits::DEFAULT.rows_max * (share >> 10) / (WHOLE_TICK_BUDGET_BYTES >> 10);
        self.tick_rows_max.min(rows.max(TICK_ROWS_MIN))
    }

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
            mark_interval: Duration::from_secs(24 * 3600),
            backend: Backend::RocksDb,
            restart: RestartStrategy::default(),
            budget: Budget::default_for_machine(),
            slices: SliceLimits::DEFAULT,
            tick_rows_max: SliceLimits::DEFAULT.rows_max,
            piece_rows_max: thalweg_core::operator::BATCH_ROWS,
            piece_bytes_max: 4 << 20,
            working_dir,
            disturb: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_smaller_where_there_is_little_memory() {
        let mut options = RuntimeOptions::new(PathBuf::new());
        let mut rows = |budget: usize| {
            options.budget = Budget::new(budget);
            options.slice_rows_max()
        };
        assert_eq!(rows(1 << 40), SliceLimits::DEFAULT.rows_max);
        assert_eq!(rows(64 << 20), SliceLimits::DEFAULT.rows_max);
        assert_eq!(rows(8 << 20), SliceLimits::DEFAULT.rows_max / 8);
        assert_eq!(rows(1 << 20), TICK_ROWS_MIN);
        options.tick_rows_max = 8;
        assert_eq!(options.slice_rows_max(), 8, "who asks for smaller ticks gets them");
    }
}
