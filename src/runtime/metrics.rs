//! Counters of an instance that the progress line, logs and `SHOW JOBS` read.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Written by workers and coordinator, read by anyone at any time; each figure alone is exact.
#[derive(Debug, Default)]
pub struct Metrics {
    pub rows_in: AtomicU64,
    pub rows_out: AtomicU64,
    /// The last complete tick.
    pub tick: AtomicU64,
    pub lag_ms: AtomicI64,
    /// The last committed checkpoint, 0: none.
    pub checkpoint: AtomicU64,
    /// Milliseconds since 1970 at which it was committed.
    pub checkpoint_at_ms: AtomicI64,
    /// From its tick to its commit.
    pub checkpoint_ms: AtomicU64,
    /// How long it held up the stream, µs.
    pub checkpoint_pause_us: AtomicU64,
    pub checkpoint_bytes: AtomicU64,
    pub state_bytes: AtomicU64,
    pub restarts: AtomicU64,
    /// Output that is committed and not delivered.
    pub pending_bytes: AtomicU64,
    pub ended: AtomicBool,
}

impl Metrics {
    pub fn load(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
