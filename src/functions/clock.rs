//! The wall clock of the running tick: what `NOW()`, `PROCTIME()` and their like return, on every row of the tick and
//! on every worker the same. The runtime sets it on each worker's thread before the tick's operators run.

use std::cell::Cell;

thread_local! {
    static WALL_CLOCK_US: Cell<i64> = const { Cell::new(0) };
}

/// Sets the clock of this thread: µs since 1970-01-01 UTC.
pub fn set_wall_clock_us(us: i64) {
    WALL_CLOCK_US.set(us);
}

/// µs since 1970-01-01 UTC, as last set on this thread; before that 0.
pub fn wall_clock_us() -> i64 {
    WALL_CLOCK_US.get()
}
