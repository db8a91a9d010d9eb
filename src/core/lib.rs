//! The words that every other crate speaks: changes, ticks, types, errors, the traits of operators and of state.
//!
//! Sees Arrow and nothing else of weight: no planner, no timely, no tokio, no RocksDB.

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod calendar;
pub mod cells;
pub mod changes;
pub mod clock;
pub mod consolidate;
pub mod error;
pub mod fail_points;
pub mod fold;
pub mod hash;
pub mod key;
pub mod key_group;
pub mod mark;
pub mod nearest;
pub mod netting;
pub mod operator;
pub mod options;
pub mod place;
pub mod row_key;
pub mod secret;
pub mod state;
pub mod stored;
pub mod table;
pub mod testing;
pub mod tick;
pub mod types;
pub mod value;

pub use changes::Changes;
pub use error::{Error, ErrorCode, Result};
pub use place::Place;
pub use tick::{Tick, TickKind, Watermark};
pub use types::{Column, SqlType};
