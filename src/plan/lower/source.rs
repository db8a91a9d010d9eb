//! Sources: every physical system is read once, with all columns that any consumer needs; each consumer has a view of its
//! own columns.

use thalweg_core::table::{ChangelogMode, ColumnKind, TableColumn, TableDef};
use thalweg_core::{Column, Result};
use thalweg_graph::ops::normalize::NormalizeSpec;
use thalweg_graph::ops::project::{ProjectColumn, ProjectSpec};
use thalweg_graph::ops::source::{SourceSpec, SourceTableSpec, VALUES};
use thalweg_graph::{Expr, GraphBuilder, Literal, NodeIx, OperatorSpec};

use super::Lowering;
use crate::edges::{Flow, Spread};
use crate::logical::{Op, Rel, Scan};

/// The sources of an instance.
pub(crate) struct Sources {
    all: Vec<SharedSource>,
}

struct SharedSource {
    spec: SourceSpec,
    node: NodeIx,
}

impl Sources {
    pub fn collect<'r>(rels: impl IntoIterator<Item = &'r Rel>, builder: &mut GraphBuilder) -> Result<Self> {
        let mut scans = vec![];
        for rel in rels {
            scans_of(rel, &mut scans);
        }
        let mut all: Vec<SharedSource> = vec![];
        for scan in scans {
            let of_group = |s: &&mut SharedSource| {
                s.spec.connector == scan.connector
                    && match &scan.group {
                        Some(group) => s.spec.group.as_ref() == Some(group),
                        None => s.spec.group.is_none() && is_same_table(&s.spec.tables[0], &scan.table),
                    }
            };
            let table = needed(&scan.table);
            match all.iter_mut().find(of_group) {
                None => {
                    let spec = SourceSpec {
                        connector: scan.connector.clone(),
                        group: scan.group.clone(),
                        tables: vec![table],
                    };
                    all.push(SharedSource { spec, node: 0 });
                }
                Some(s) => match s.spec.tables.iter_mut().find(|t| is_same_table(t, &table)) {
                    None => s.spec.tables.push(table),
                    Some(shared) => {
                        shared.columns.extend(&table.columns);
                        shared.columns.sort_unstable();
                        shared.columns.dedup();
                        shared.with_order |= table.with_order;
                    }
                },
            }
        }
        for s in &mut all {
            // Not in the order in which statements name them.
            s.spec
                .tables
                .sort_by(|a, b| (&a.identity, &a.variant, &a.def.name).cmp(&(&b.identity, &b.variant, &b.def.name)));
            s.node = builder.add(OperatorSpec::Source(s.spec.clone()), vec![])?;
        }
        Ok(Sources { all })
    }

    /// The node that reads a table, which of its outputs that is, and what it reads.
    fn of(&self, scan: &Scan) -> Option<(NodeIx, usize, &SourceTableSpec)> {
        self.all.iter().find_map(|s| {
            let i = s.spec.tables.iter().position(|t| is_same_table(t, &scan.table))?;
            (s.spec.connector == scan.connector && s.spec.group == scan.group).then(|| (s.node, i, &s.spec.tables[i]))
        })
    }
}

fn scans_of<'r>(rel: &'r Rel, scans: &mut Vec<&'r Scan>) {
    if let Op::Scan(scan) = &rel.op {
        scans.push(scan);
    }
    for input in rel.inputs() {
        scans_of(input, scans);
    }
}

/// What a source must read for a scan: upserts come with their order, which normalizing needs.
fn needed(table: &SourceTableSpec) -> SourceTableSpec {
    let with_order = table.with_order || table.changelog == ChangelogMode::Upsert;
    SourceTableSpec { with_order, ..table.clone() }
}

/// The same thing read in the same way, whatever columns of it.
fn is_same_table(a: &SourceTableSpec, b: &SourceTableSpec) -> bool {
    a.identity == b.identity && a.variant == b.variant && a.changelog == b.changelog && a.def == b.def
}

impl Lowering {
    pub(super) fn scan(&mut self, scan: &Scan) -> Result<Flow> {
        let (node, output, reads) =
            self.sources.of(scan).ok_or_else(|| thalweg_core::Error::internal("a scan of no source"))?;
        let reads = reads.clone();
        self.note_source(node);
        let wants = needed(&scan.table);
        let mut view: Vec<usize> = wants
            .columns
            .iter()
            .map(|o| reads.columns.iter().position(|r| r == o).expect("the source reads all that its scans need"))
            .collect();
        if wants.with_order {
            view.push(reads.columns.len());
        }
        let is_all = view.len() == reads.columns.len() + usize::from(reads.with_order);
        let mut flow = Flow { node, output, spread: Spread::Any };
        if !is_all {
            let out = flow.out(&self.builder);
            let columns = view.iter().map(|&o| {
                let c = &out.columns[o].column;
                ProjectColumn { expr: Expr::column(o, c.ty.clone()), name: c.name.clone(), nullable: c.nullable }
            });
            let spec = ProjectSpec { columns: columns.collect() };
            let edge = flow.same();
            flow = Flow { node: self.builder.add(OperatorSpec::Project(spec), vec![edge])?, output: 0, ..flow };
        }
        if scan.table.changelog != ChangelogMode::Upsert {
            return Ok(flow);
        }
        let position = |k: &usize| wants.columns.iter().position(|c| c == k).expect("pruning keeps the key");
        let key: Vec<usize> = wants.def.primary_key.iter().map(position).collect();
        let edge = flow.by(&key);
        let spec = NormalizeSpec { key: key.clone(), order: wants.columns.len() };
        let node = self.builder.add(OperatorSpec::Normalize(spec), vec![edge])?;
        Ok(Flow { node, output: 0, spread: Spread::by(&key) })
    }

    pub(super) fn values(&mut self, rows: &[Vec<Literal>], columns: &[Column]) -> Result<Flow> {
        let column = |c: &Column| TableColumn { column: c.clone(), kind: ColumnKind::Physical };
        let def = TableDef {
            name: VALUES.to_owned(),
            columns: columns.iter().map(column).collect(),
            primary_key: vec![],
            partitioned_by: vec![],
            options: Default::default(),
        };
        let table = SourceTableSpec {
            columns: (0..columns.len()).collect(),
            with_order: false,
            identity: Default::default(),
            variant: Default::default(),
            changelog: ChangelogMode::Append,
            bounded: true,
            unstable_metadata: vec![],
            key_guaranteed: false,
            rows: rows.to_vec(),
            note: None,
            def,
        };
        let spec = SourceSpec { connector: VALUES.to_owned(), group: None, tables: vec![table] };
        let node = self.builder.add(OperatorSpec::Source(spec), vec![])?;
        Ok(Flow { node, output: 0, spread: Spread::Any })
    }
}
