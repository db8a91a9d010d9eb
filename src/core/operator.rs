//! The trait that every operator implements, and what it sees of the running tick.

use std::sync::Arc;

use crate::changes::Changes;
use crate::error::{Error, Result};
use crate::tick::{Tick, Watermark};

/// One operator on one worker: synchronous, single-threaded, vectorised. Built by `operators::build`, driven by the
/// runtime's adaptor, which calls `push` any number of times, then `end_tick` until it says `Done`, for every tick
/// in order, also for ticks without rows.
pub trait Operator {
    /// Changes of one input for the running tick, in any number of calls; parts may cancel one another. A stateless
    /// operator may emit at once; a stateful one judges weights in `end_tick` only.
    fn push(&mut self, input: usize, changes: Changes, cx: &mut dyn TickCx) -> Result<()>;

    /// All inputs have passed the tick: emit its net changes. Called again after `More` and after a wake-up.
    fn end_tick(&mut self, cx: &mut dyn TickCx) -> Result<Step>;

    /// Checkpoint ticks, after `Done`: write what is dirty to the state tables.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Wall clock (µs since 1970) at which this operator wants a tick though no input came.
    fn wants_tick_at(&self) -> Option<i64> {
        None
    }

    /// Between ticks: evict until at most `bytes_max` of typed state is in memory (dirty entries are written first);
    /// returns what is held, in bytes. `usize::MAX` only asks.
    fn shrink(&mut self, bytes_max: usize) -> Result<usize> {
        let _ = bytes_max;
        Ok(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This tick is finished here.
    Done,
    /// Emitted a bounded part, has more: call again, consumers first.
    More,
    /// Waits for something outside (I/O): call again when woken.
    Waiting,
}

/// Wakes the operator that said `Waiting`. Callable from any thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The running tick, as an operator sees it.
pub trait TickCx {
    fn tick(&self) -> &Tick;

    /// Minimum over all senders, as of this tick; the same on all workers.
    fn watermark(&self, input: usize) -> Watermark;

    /// Lowers the watermark of the output; without a call it is the minimum over the inputs.
    fn hold_watermark(&mut self, at_most: Watermark);

    /// Any part of the tick's changes; parts may cancel one another.
    fn emit(&mut self, changes: Changes);

    /// What a row error does is decided in one place: `Err` to fail the tick with it, `Ok` to go on without the row.
    fn row_error(&mut self, error: Error) -> Result<()>;

    fn waker(&self) -> Waker;

    /// Bytes that the operator should not hold more of, not even within a tick, if it can help it: a tick may be larger
    /// than all memory for state. Between ticks it is told by `shrink`, to less than this.
    fn memory_max(&self) -> usize {
        usize::MAX
    }
}

/// Rows in one emitted batch, unless there is a reason for another size: fits the caches with a few columns.
pub const BATCH_ROWS: usize = 8192;
/// Rows that an operator emits before it answers `More`.
pub const EMIT_ROWS_MAX: usize = 64 * 1024;
