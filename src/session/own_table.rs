//! Thalweg's own tables: a table without a connector is kept in memory as the log of its changes, one entry per
//! statement, and read as a bounded changelog in which every statement is one tick's whole transaction, in pieces.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use serde_json::json;
use thalweg_connector_api::{Piece, Position, Reader, ReaderCx, Source, SourceTable, Split, SplitId};
use thalweg_core::row_key::RowKeys;
use thalweg_core::state::KeyBatch;
use thalweg_core::table::TableDef;
use thalweg_core::{Changes, Error, Result, SqlType};
use thalweg_runtime::{Disturb, DisturbCounts};

/// One table. Cheap to snapshot: a reader gets the log as it is now.
pub struct OwnTable {
    def: TableDef,
    schema: SchemaRef,
    log: Arc<Vec<Changes>>,
    rows: Index,
    keys: Option<Index>,
}

/// How many rows there are of each key.
struct Index {
    codec: RowKeys,
    columns: Vec<usize>,
    weights: HashMap<Box<[u8]>, i64>,
}

impl Index {
    /// Of a primary key, in which -0.0 is 0.0, or of whole rows, in which it is not.
    fn new(schema: &SchemaRef, columns: Vec<usize>, is_key: bool) -> Result<Self> {
        let projected = Arc::new(schema.project(&columns)?);
        let sort: Vec<usize> = if is_key { (0..columns.len()).collect() } else { vec![] };
        Ok(Index { codec: RowKeys::new(projected, &sort)?, columns, weights: HashMap::new() })
    }

    /// The weights that the keys of these changes would have.
    fn with(&self, changes: &Changes) -> Result<HashMap<Box<[u8]>, (i64, usize)>> {
        let mut keys = KeyBatch::new();
        self.codec.encode(&changes.batch.project(&self.columns)?, &mut keys)?;
        let mut after: HashMap<Box<[u8]>, (i64, usize)> = HashMap::new();
        for (row, key) in keys.iter().enumerate() {
            let now = after.entry(key.into()).or_insert_with(|| (self.weights.get(key).copied().unwrap_or(0), row));
            now.0 += changes.weight(row);
        }
        Ok(after)
    }

    fn apply(&mut self, after: HashMap<Box<[u8]>, (i64, usize)>) {
        for (key, (weight, _)) in after {
            if weight == 0 {
                self.weights.remove(&key);
            } else {
                self.weights.insert(key, weight);
            }
        }
    }
}

impl OwnTable {
    pub fn new(def: TableDef) -> Result<Self> {
        let schema = def.schema();
        let rows = Index::new(&schema, (0..schema.fields().len()).collect(), false)?;
        let keys = match def.primary_key.as_slice() {
            [] => None,
            key => Some(Index::new(&schema, key.to_vec(), true)?),
        };
        Ok(OwnTable { def, schema, log: Arc::new(vec![]), rows, keys })
    }

    /// Changes in the log.
    pub fn rows(&self) -> usize {
        self.log.iter().map(Changes::num_rows).sum()
    }

    /// No row was ever deleted.
    pub fn is_append_only(&self) -> bool {
        self.log.iter().all(|c| c.weights.is_none())
    }

    /// The changes of one statement, net. All or nothing.
    ///
    /// # Errors
    /// A second row of a primary key; a delete of what is not there.
    pub fn apply(&mut self, changes: Changes) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let batch = RecordBatch::try_new(self.schema.clone(), changes.batch.columns().to_vec())?;
        let mut changes = Changes::new(batch, changes.weights);
        if changes.weights.as_ref().is_some_and(|w| w.values().iter().all(|&w| w == 1)) {
            changes.weights = None;
        }
        let rows = self.rows.with(&changes)?;
        if let Some((_, row)) = rows.values().find(|(weight, _)| *weight < 0) {
            let row = self.describe(&changes.batch, *row, &(0..self.schema.fields().len()).collect::<Vec<_>>());
            return Err(Error::changelog(format!("table {} has no row {row} to delete", self.def.name)));
        }
        if let Some(keys) = &mut self.keys {
            let after = keys.with(&changes)?;
            if let Some((_, row)) = after.values().find(|(weight, _)| *weight > 1) {
                let key = self.describe(&changes.batch, *row, &self.def.primary_key);
                return Err(Error::changelog(format!(
                    "table {} would have two rows with the key {key}",
                    self.def.name
                ))
                .note("nothing was changed; UPDATE changes a row that is there"));
            }
            if let Some(keys) = &mut self.keys {
                keys.apply(after);
            }
        }
        self.rows.apply(rows);
        Arc::make_mut(&mut self.log).push(changes);
        Ok(())
    }

    fn describe(&self, batch: &RecordBatch, row: usize, columns: &[usize]) -> String {
        let cells = columns.iter().map(|&c| {
            let value = arrow::util::display::array_value_to_string(batch.column(c), row).unwrap_or_default();
            format!("{} = {value}", self.schema.field(c).name())
        });
        format!("({})", cells.collect::<Vec<_>>().join(", "))
    }

    pub fn def(&self) -> &TableDef {
        &self.def
    }

    /// The rows that there are now, with their weights; in the order of the columns.
    pub fn current(&self) -> Result<Changes> {
        if self.log.is_empty() {
            return Ok(Changes::inserts(RecordBatch::new_empty(self.schema.clone())));
        }
        thalweg_core::consolidate::consolidate(&self.log)
    }

    /// Reads the log as it is now.
    pub fn source(&self, table: &SourceTable, disturb: Option<&Disturb>) -> Arc<dyn Source> {
        Arc::new(LogSource {
            log: self.log.clone(),
            columns: table.columns.clone(),
            with_order: table.with_order,
            disturb: disturb.cloned(),
        })
    }

    /// Statements that have changed it.
    pub fn statements(&self) -> usize {
        self.log.len()
    }
}

/// A list of changes, each one transaction, as a bounded source: own tables and the rows of `VALUES`.
pub struct LogSource {
    pub log: Arc<Vec<Changes>>,
    /// Ordinals of the columns to produce.
    pub columns: Vec<usize>,
    pub with_order: bool,
    /// For tests: transactions are handed over in parts of random sizes.
    pub disturb: Option<Disturb>,
}

const SPLIT: &str = "log";

/// Where a reader stands: after so many transactions and, within the next one, after so many rows. Written as `3`, or as
/// `[3, 17]` within one.
fn position_of(next: usize, row: usize) -> Position {
    Position(if row == 0 { json!(next) } else { json!([next, row]) })
}

/// Reads `position_of`.
fn parse_position(position: &Position) -> Option<(usize, usize)> {
    let number = |v: &serde_json::Value| v.as_u64().map(|n| n as usize);
    match position.0.as_array().map(Vec::as_slice) {
        None => Some((number(&position.0)?, 0)),
        Some([next, row]) => Some((number(next)?, number(row)?)),
        Some(_) => None,
    }
}

#[async_trait]
impl Source for LogSource {
    async fn splits(&self) -> Result<Vec<Split>> {
        Ok(vec![Split { id: SplitId(SPLIT.to_owned()), detail: serde_json::Value::Null }])
    }

    fn reader(&self, splits: Vec<(Split, Option<Position>)>, cx: ReaderCx) -> Result<Box<dyn Reader>> {
        let (next, row) = match splits.into_iter().next() {
            None => (self.log.len(), 0),
            Some((_, None)) => (0, 0),
            Some((_, Some(position))) => parse_position(&position)
                .ok_or_else(|| Error::checkpoint(format!("{} is no position of a table", position.0)))?,
        };
        Ok(Box::new(LogReader {
            log: self.log.clone(),
            columns: self.columns.clone(),
            with_order: self.with_order,
            next,
            row,
            piece_rows_max: cx.piece_rows_max.max(1),
            disturb: self.disturb.clone(),
        }))
    }
}

struct LogReader {
    log: Arc<Vec<Changes>>,
    columns: Vec<usize>,
    with_order: bool,
    /// The transaction that comes next, and its first row that was not handed over.
    next: usize,
    row: usize,
    piece_rows_max: usize,
    disturb: Option<Disturb>,
}

impl LogReader {
    /// Rows of the next piece, of as many as are left of its transaction.
    fn piece_rows(&self, left: usize) -> usize {
        let max = match &self.disturb {
            None => self.piece_rows_max,
            Some(d) => d.piece_rows(((self.next as u64) << ORDER_ROW_BITS) + self.row as u64, self.piece_rows_max),
        };
        max.min(left)
    }
}

/// Rows of one statement that the order column can tell apart.
const ORDER_ROW_BITS: u32 = 32;

#[async_trait]
impl Reader for LogReader {
    async fn assign(&mut self, _: Vec<(Split, Option<Position>)>) -> Result<()> {
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Piece>> {
        let Some(changes) = self.log.get(self.next) else { return Ok(None) };
        let rows = self.piece_rows(changes.num_rows() - self.row);
        let part = changes.slice(self.row, rows);
        let mut batch = part.batch.project(&self.columns)?;
        if self.with_order {
            let first = ((self.next as i64) << ORDER_ROW_BITS) + self.row as i64;
            let order: Int64Array = (0..batch.num_rows() as i64).map(|row| first + row).collect();
            let mut fields = batch.schema().fields().to_vec();
            let name = thalweg_graph::ops::source::ORDER_COLUMN;
            fields.push(arrow::datatypes::Field::new(name, SqlType::BigInt.to_arrow(), false).into());
            let mut columns = batch.columns().to_vec();
            columns.push(Arc::new(order));
            let schema = Arc::new(arrow::datatypes::Schema::new(fields));
            batch = RecordBatch::try_new(schema, columns)?;
        }
        let continues = self.row + rows < changes.num_rows();
        (self.next, self.row) = if continues { (self.next, self.row + rows) } else { (self.next + 1, 0) };
        if let Some(disturb) = self.disturb.as_ref().filter(|_| continues) {
            DisturbCounts::add(&disturb.counts.cuts);
        }
        Ok(Some(Piece {
            changes: vec![(0, Changes::new(batch, part.weights))],
            continues,
            positions: vec![(SplitId(SPLIT.to_owned()), position_of(self.next, self.row))],
            ..Piece::default()
        }))
    }
}
