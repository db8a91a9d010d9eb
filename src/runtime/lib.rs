//! The runtime: takes an operator graph, the function that builds operators, opened sources and sinks, and runs them in
//! ticks with checkpoints. The only crate that sees timely.

mod adaptor;
mod attempt;
mod command;
mod container;
mod coordinator;
mod delivery;
mod durable;
mod exchange;
mod instance;
mod metrics;
mod options;
mod pace;
mod restart;
mod sink;
mod source;
mod stager;
mod worker;

pub use durable::{DurableConfig, RestoreFlags, RestoreReport};
pub use instance::{InstanceConfig, InstanceHandle, Outcome, Phase, start};
pub use metrics::Metrics;
pub use options::{Disturb, DisturbCounts, RuntimeOptions};
pub use restart::RestartStrategy;
pub use source::SliceLimits;
pub use worker::{BuildOperator, OperatorCx};
