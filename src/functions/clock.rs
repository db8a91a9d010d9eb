//! The wall clock of the running tick: what `NOW()`, `PROCTIME()` and their like return, on every row of the tick and
//! on every worker the same. The operators set it on their thread before they evaluate.

use std::cell::Cell;

use thalweg_core::clock::now_us;

thread_local! {
    static WALL_CLOCK_US: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Sets the clock of this thread: µs since 1970-01-01 UTC.
pub fn set_wall_clock_us(us: i64) {
    WALL_CLOCK_US.set(Some(us));
}

/// µs since 1970-01-01 UTC, as last set on this thread; where no tick runs, the system's clock.
pub fn wall_clock_us() -> i64 {
    WALL_CLOCK_US.get().unwrap_or_else(now_us)
}
