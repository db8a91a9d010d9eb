//! Scalar functions under Flink's names and with Flink's meaning, next to DataFusion's own; casts; the clock of the
//! running tick. The planner finds functions by name in the `registry`, the operators evaluate them.

pub mod calendar;
pub mod cast;
pub mod clock;
pub mod date_time;
pub mod decimal;
pub mod function;
pub mod java_format;
pub mod registry;
pub mod types;

mod checks;
mod collection;
mod conditional;
mod encoding;
mod json;
mod math;
mod regex;
mod sha1;
mod string;
#[cfg(test)]
mod testing;

pub use date_time::zone_arguments;
pub use registry::registry;
