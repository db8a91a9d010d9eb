//! Ticks and watermarks.

use serde::{Deserialize, Serialize};

/// One consistent slice of all inputs of an instance. Numbered from 1, without gaps, also over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    pub id: u64,
    pub kind: TickKind,
    /// What `PROCTIME()` and `NOW()` return in this tick: µs since 1970-01-01 UTC, never less than in the tick before.
    pub wall_clock_us: i64,
}

/// What happens when the tick is done. The number is the checkpoint's id within the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TickKind {
    Plain,
    Checkpoint(u64),
    Savepoint(u64),
    /// The last tick before the instance stops.
    Stop(u64),
}

impl TickKind {
    /// The id of the checkpoint that this tick takes, if it takes one.
    pub fn checkpoint(self) -> Option<u64> {
        match self {
            TickKind::Plain => None,
            TickKind::Checkpoint(c) | TickKind::Savepoint(c) | TickKind::Stop(c) => Some(c),
        }
    }
}

/// No row with an earlier event time (µs) is to come. `NONE`: nothing is known yet; `END`: the input has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Watermark(pub i64);

impl Watermark {
    pub const NONE: Watermark = Watermark(i64::MIN);
    pub const END: Watermark = Watermark(i64::MAX);

    pub fn is_end(self) -> bool {
        self == Self::END
    }
}
