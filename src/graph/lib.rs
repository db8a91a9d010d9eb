//! The operator graph: what a job means, as plain data. It is what is hashed into ids, what EXPLAIN prints, what every
//! worker builds its dataflow from, and what the manifest stores. No DataFusion type, nothing that runs.

pub mod explain;
pub mod expr;
pub mod id;
pub mod node;
pub mod ops;

pub use expr::{Expr, Literal, LiteralValue};
pub use id::{Canonical, OperatorId, Provenance};
pub use node::{Edge, Graph, GraphBuilder, Node, NodeIx, OperatorSpec, OutColumn, Output, Partitioning};
