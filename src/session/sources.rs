//! From a graph's source and sink nodes to opened sources and sinks.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use thalweg_connector_api::{Registry, Sink, Source, SourceTable};
use thalweg_core::mark::JobId;
use thalweg_core::table::TableDef;
use thalweg_core::types::to_schema;
use thalweg_core::{Changes, Error, Result};
use thalweg_graph::ops::sink::COLLECT;
use thalweg_graph::ops::source::{OWN, SourceSpec, SourceTableSpec, VALUES};
use thalweg_graph::{Expr, Graph, NodeIx, Output};
use thalweg_operators::expr::ExprSet;
use thalweg_runtime::Disturb;

use crate::collect::{CollectSink, Collector};
use crate::own_table::{LogSource, OwnTable};

/// What graphs are opened with.
pub struct Opener<'a> {
    pub registry: &'a Registry,
    pub own_tables: &'a HashMap<String, OwnTable>,
    /// The definition with its secrets, which a graph does not hold.
    pub definition: &'a dyn Fn(&TableDef) -> TableDef,
    pub disturb: Option<&'a Disturb>,
}

impl Opener<'_> {
    pub fn sources(&self, graph: &Graph, job: &JobId) -> Result<HashMap<NodeIx, Arc<dyn Source>>> {
        graph.sources().map(|(ix, spec)| Ok((ix, self.source(spec, job)?))).collect()
    }

    fn source(&self, spec: &SourceSpec, job: &JobId) -> Result<Arc<dyn Source>> {
        let tables: Vec<SourceTable> = spec
            .tables
            .iter()
            .map(|t| SourceTable {
                def: (self.definition)(&t.def),
                columns: t.columns.clone(),
                with_order: t.with_order,
            })
            .collect();
        match (spec.connector.as_str(), spec.tables.as_slice(), tables.as_slice()) {
            (VALUES, [spec], [_]) => values(spec, self.disturb),
            (OWN, [_], [table]) => {
                let own = self.own_tables.get(&table.def.name);
                let own = own.ok_or_else(|| Error::name(format!("there is no table {}", table.def.name)))?;
                Ok(own.source(table, self.disturb))
            }
            _ => self.registry.get(&spec.connector)?.open_source(&tables, job),
        }
    }

    pub fn sinks(
        &self,
        graph: &Graph,
        job: &JobId,
        collector: &Arc<Collector>,
    ) -> Result<HashMap<NodeIx, Arc<dyn Sink>>> {
        let open = |(ix, spec): (NodeIx, &thalweg_graph::ops::sink::SinkSpec)| {
            let sink: Arc<dyn Sink> = match spec.connector.as_str() {
                COLLECT | OWN => Arc::new(CollectSink(collector.clone())),
                connector => self.registry.get(connector)?.open_sink(&(self.definition)(&spec.def), job)?,
            };
            Ok((ix, sink))
        };
        graph.sinks().map(open).collect()
    }
}

/// The rows of a `VALUES`, as one transaction; in disturbed runs as several.
fn values(spec: &SourceTableSpec, disturb: Option<&Disturb>) -> Result<Arc<dyn Source>> {
    let schema = to_schema(spec.def.columns.iter().map(|c| &c.column));
    let no_input = Output { columns: vec![], append_only: true, unique_keys: vec![], bounded: true, order: None };
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    let one_row = RecordBatch::try_new_with_options(to_schema([]), vec![], &options)?;
    let mut rows = vec![];
    for row in &spec.rows {
        let exprs: Vec<Expr> = row.iter().map(|l| Expr::Literal(l.clone())).collect();
        let columns = ExprSet::compile(&exprs, &no_input)?.evaluate_with(&one_row, &mut Err)?.columns;
        rows.push(RecordBatch::try_new_with_options(
            schema.clone(),
            columns,
            &arrow::array::RecordBatchOptions::new().with_row_count(Some(1)),
        )?);
    }
    let batch = concat_batches(&schema, &rows)?;
    let all = Changes::inserts(batch);
    let mut log = vec![];
    let mut row = 0;
    while row < all.num_rows() {
        let left = all.num_rows() - row;
        let rows = disturb.map_or(left, |d| d.piece_rows(!(row as u64), d.slice_rows_max).min(left));
        log.push(all.slice(row, rows));
        row += rows;
    }
    Ok(Arc::new(LogSource {
        log: Arc::new(log),
        columns: spec.columns.clone(),
        with_order: spec.with_order,
        disturb: disturb.cloned(),
    }))
}
