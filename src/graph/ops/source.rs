//! Source: one reader of a physical system, with one output per table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thalweg_core::table::{ChangelogMode, ColumnKind, TableDef};
use thalweg_core::{Column, SqlType};

use super::Meaning;
use crate::expr::Literal;
use crate::id::{Canonical, OperatorId};
use crate::node::{OutColumn, Output};

/// Name of the connector whose rows are in the plan itself (`VALUES`, a SELECT without FROM).
pub const VALUES: &str = "values";
/// Name of the connector of Thalweg's own tables.
pub const OWN: &str = "own";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceSpec {
    pub connector: String,
    /// What several tables of one server share; `None`: a source of one table.
    pub group: Option<String>,
    pub tables: Vec<SourceTableSpec>,
}

/// One table that is read from the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceTableSpec {
    /// With secrets masked: the session opens the source with the catalog's definition, found by `def.name`.
    pub def: TableDef,
    /// Ordinals within `def.columns` that are produced, ascending.
    pub columns: Vec<usize>,
    /// A hidden BIGINT order column stands last.
    pub with_order: bool,
    /// Which physical thing is read; enters the id.
    pub identity: BTreeMap<String, String>,
    /// Options that change which rows come out; enters the variant.
    pub variant: BTreeMap<String, String>,
    pub changelog: ChangelogMode,
    pub bounded: bool,
    /// Metadata keys whose value of a -1 row may differ from that of its +1 row.
    pub unstable_metadata: Vec<String>,
    /// The declared primary key holds (a changelog source, an own table), not only claimed (an append-only source).
    pub key_guaranteed: bool,
    /// The rows, for connector `values`.
    pub rows: Vec<Vec<Literal>>,
    /// What EXPLAIN says of it; enters no id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Name of the hidden order column.
pub const ORDER_COLUMN: &str = "$order";

impl SourceTableSpec {
    pub fn canonical_identity(&self, c: &mut Canonical) {
        c.list(self.identity.iter(), |c, (k, v)| {
            c.text(k).text(v);
        });
        c.list(self.rows.iter(), |c, row| {
            let row = serde_json::to_string(row).expect("literals are plain data");
            c.text(&row);
        });
    }

    /// Format, start and key: what makes two readings of one thing different, whatever columns are read.
    pub fn canonical_variant(&self, c: &mut Canonical) {
        self.canonical_identity(c);
        c.list(self.variant.iter(), |c, (k, v)| {
            c.text(k).text(v);
        });
        // Two declarations of one thing with other keys are two nodes.
        c.list(self.def.primary_key.iter(), |c, &k| {
            c.text(&self.def.columns[k].column.name);
        });
    }

    fn output(&self) -> Output {
        // Before the normalize operator an upsert stream is no Z-set: neither append-only nor keyed.
        let append_only = self.changelog == ChangelogMode::Append;
        let mut columns: Vec<OutColumn> = self
            .columns
            .iter()
            .map(|&o| {
                let c = &self.def.columns[o];
                let (from, stable) = match &c.kind {
                    ColumnKind::Physical => (format!("column {}", c.column.name), true),
                    ColumnKind::Metadata { key, .. } => {
                        (format!("metadata {key}"), append_only || !self.unstable_metadata.contains(key))
                    }
                };
                let provenance = Canonical::new("source column/1").text(&from).to_provenance();
                OutColumn { column: c.column.clone(), provenance, stable }
            })
            .collect();
        let order = self.with_order.then(|| {
            columns.push(OutColumn {
                column: Column::new(ORDER_COLUMN, SqlType::BigInt, false),
                provenance: Canonical::new("source order/1").to_provenance(),
                stable: append_only,
            });
            columns.len() - 1
        });
        let mut output = Output { columns, append_only, unique_keys: vec![], bounded: self.bounded, order };
        if self.key_guaranteed && self.changelog != ChangelogMode::Upsert && !self.def.primary_key.is_empty() {
            let key = self.def.primary_key.iter().map(|k| self.columns.iter().position(|o| o == k));
            if let Some(key) = key.collect::<Option<Vec<_>>>() {
                output.add_key(key);
            }
        }
        output
    }
}

impl Meaning for SourceSpec {
    fn kind(&self) -> &'static str {
        "source/1"
    }

    fn canonical(&self, c: &mut Canonical, _: &[&Output]) {
        c.text(&self.connector);
        match &self.group {
            // Which tables are read from the server is each table's own identity, see `GraphBuilder::add`.
            Some(group) => {
                c.text("group").text(group);
            }
            None => {
                c.list(self.tables.iter(), |c, t| t.canonical_identity(c));
            }
        }
    }

    fn variant(&self, c: &mut Canonical, _: &[&Output]) {
        c.list(self.tables.iter(), |c, t| {
            t.canonical_variant(c);
            c.flag(t.with_order);
        });
    }

    fn outputs(&self, _: &[&Output], _: OperatorId) -> Vec<Output> {
        self.tables.iter().map(SourceTableSpec::output).collect()
    }

    fn title(&self, _: &[&Output]) -> String {
        let tables: Vec<String> = (0..self.tables.len()).map(|i| self.table_title(i)).collect();
        tables.join("; ")
    }
}

impl SourceSpec {
    /// The line of EXPLAIN for one of the tables.
    pub fn table_title(&self, table: usize) -> String {
        let t = &self.tables[table];
        if self.connector == VALUES {
            let rows = t.rows.len();
            return format!("Values {rows} {}", if rows == 1 { "row" } else { "rows" });
        }
        let names = t.columns.iter().map(|&o| t.def.columns[o].column.name.as_str());
        format!("Source {} ({}) {}", t.def.name, self.connector, names.collect::<Vec<_>>().join(", "))
            .trim_end()
            .to_owned()
    }
}
