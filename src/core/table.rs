//! What a `CREATE TABLE` says, and what a connector says of such a table: the words between planner and connectors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::{Column, SqlType};

/// A table as declared, with everything that a connector needs to read or write it. Computed columns are not here:
/// they are expressions of the planner's over these columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDef {
    /// As the user calls it; for messages.
    pub name: String,
    /// The columns that connector and format read or write, in declaration order.
    pub columns: Vec<TableColumn>,
    /// Ordinals within `columns` of the declared `PRIMARY KEY … NOT ENFORCED`; empty: none.
    pub primary_key: Vec<usize>,
    /// `PARTITIONED BY`: ordinals within `columns`.
    pub partitioned_by: Vec<usize>,
    /// `WITH (…)`, hints applied, keys in lower case; `connector` included.
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableColumn {
    pub column: Column,
    pub kind: ColumnKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnKind {
    /// Read and written by the format.
    Physical,
    /// `METADATA FROM 'key' [VIRTUAL]`: given by the connector; a virtual one is not written.
    Metadata { key: String, is_virtual: bool },
}

/// How the changes of a source are to be understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangelogMode {
    /// Inserts only.
    Append,
    /// Inserts and deletes; updates come with their full before-image. If `keys_guaranteed`, the declared primary
    /// key holds at every tick; a violation is an error with table and key.
    Retract,
    /// +1 is an upsert, -1 a delete by key, in the order of positions: needs a normalize operator.
    Upsert,
}

/// What a connector says of a table as a source, before anything is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Which physical thing is read, per table: (what, value), for example `path = /data/orders.json`. Enters the
    /// operator id. Neither secrets nor options that change only how it is read.
    pub identity: BTreeMap<String, String>,
    /// Options that change which rows come out (format and its settings, start position): enters the variant.
    pub variant: BTreeMap<String, String>,
    pub changelog: ChangelogMode,
    /// The input ends by itself.
    pub bounded: bool,
    /// Metadata keys that `METADATA FROM` may name, with their types.
    pub metadata: Vec<Column>,
    /// Metadata keys whose value of a -1 row may differ from that of its +1 row.
    pub unstable_metadata: Vec<String>,
    /// What EXPLAIN says of the table, for whoever relies on its answers.
    pub note: Option<String>,
}

/// What a connector says of a table as a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkInfo {
    /// Which physical thing is written; enters the operator id and the job's identity.
    pub identity: BTreeMap<String, String>,
    pub accepts: SinkMode,
    pub delivery: Delivery,
    /// Whether the sink needs a tick's changes net and ordered by key (all that write what they get).
    pub needs_net: bool,
    /// Ordinals within the table's columns by which rows go to the workers (and are folded, if no primary key is
    /// declared), so that all changes of one such key reach the target in order. `None`: the primary key's.
    pub key: Option<Vec<usize>>,
    pub metadata: Vec<Column>,
}

/// Which changes a sink can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkMode {
    /// Inserts only: a changing query is refused at planning.
    Append,
    /// +I, -U, +U, -D.
    Retract,
    /// +I, +U and -D by the declared primary key.
    Upsert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Rows and the mark become visible together.
    ExactlyOnce,
    /// Fed from committed segments, may repeat after a crash.
    AtLeastOnce,
    /// Gets ticks directly, promises nothing (`print`, `blackhole`, the shell).
    None,
}

impl TableDef {
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub fn schema(&self) -> arrow::datatypes::SchemaRef {
        crate::types::to_schema(self.columns.iter().map(|c| &c.column))
    }

    pub fn types(&self) -> impl Iterator<Item = &SqlType> {
        self.columns.iter().map(|c| &c.column.ty)
    }
}
