//! The session: where planner, operators, runtime and connectors are put together. What the shell, `run` and `test`
//! call, and the embedding API.

mod collect;
mod directory;
mod jobs;
mod own_table;
mod select;
mod session;
mod settings;
mod sources;
mod statement;
#[cfg(test)]
mod tests;

pub use collect::TickChanges;
pub use jobs::{Job, RestoreFlags};
pub use select::Changelog;
pub use session::{Session, SessionOptions};
pub use settings::{SETTINGS, Settings};
pub use statement::{Answer, AnswerRows};
/// What callers of a session need of the crates below it.
pub use thalweg_checkpoint as checkpoint;
pub use thalweg_connector_api::Registry;
pub use thalweg_core as core;
pub use thalweg_functions::calendar;
pub use thalweg_plan as plan;
pub use thalweg_runtime::{Disturb, DisturbCounts, Metrics, Outcome, Phase, RestoreReport};
