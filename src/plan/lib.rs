//! From SQL text to the operator graph.
//!
//! `sql` turns a text into statements with places, `catalog` knows tables and views, `planner` is the entry. A query goes
//! through `bind` (names and types; `resolve`, `refuse`) to the logical plan (`logical`), through `optimize`, and through
//! `lower` (with `edges`) to the graph. Sees sqlparser and the signatures of DataFusion's functions; neither the runtime
//! nor a connector.

mod bind;
pub mod catalog;
mod edges;
mod literal;
mod logical;
mod lower;
pub mod names;
mod optimize;
#[cfg(test)]
mod plan_tests;
pub mod planner;
mod refuse;
mod resolve;
pub mod sql;
mod types;

pub use catalog::{Catalog, Created, Relation};
pub use planner::{Connectors, DeletePlan, OwnTableInfo, PlanSettings, Planner, SelectPlan, UpdatePlan};
pub use sql::{Parsed, Statement, is_complete, mask_secrets, parse_script, parse_statement, split_script};
