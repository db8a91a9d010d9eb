//! The system's wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in µs since 1970-01-01 UTC; 0 if the clock is set before.
pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}
