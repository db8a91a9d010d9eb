//! How the rows of an operator's input lie in one of its state tables: which columns are the key, which the value, and
//! the bytes of both.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::util::display::array_value_to_string;
use thalweg_core::cells::{has_floats, with_canonical_floats};
use thalweg_core::key::{KeyCodec, KeyOrder};
use thalweg_core::key_group::{PREFIX_BYTES, hash_rows, key_group};
use thalweg_core::state::{KeyBatch, StateTableSpec};
use thalweg_core::value::ValueCodec;
use thalweg_core::{Changes, Error, Result};
use thalweg_graph::Output;

/// The columns of one input as key and value of one table. The key group is that of the first `routing` key columns.
pub(crate) struct TableLayout {
    /// Of what is stored and given back: the columns of the input that are keys or values.
    schema: SchemaRef,
    key_codec: KeyCodec,
    value_codec: ValueCodec,
    /// Key column → ordinal in the input. One of them can be there twice: where it is compared, and where it is exact.
    pub key: Vec<usize>,
    /// Value column → ordinal in the input.
    pub value: Vec<usize>,
    routing: usize,
    /// The last value column is a weight of the operator's own.
    weighted: bool,
    max_parallelism: u16,
    /// Key columns in which -0.0 is 0.0, as ordinals in the input.
    floats: Vec<usize>,
}

/// What a layout is made of.
pub(crate) struct LayoutParts<'a> {
    pub input: &'a Output,
    pub table: &'a StateTableSpec,
    pub key: Vec<usize>,
    pub value: Vec<usize>,
    pub weighted: bool,
    pub max_parallelism: u16,
}

/// Ordinals of `input` that are not among `taken`, ascending.
pub(crate) fn rest(input: &Output, taken: &[usize]) -> Vec<usize> {
    (0..input.columns.len()).filter(|o| !taken.contains(o)).collect()
}

/// The columns `ordinals` of a batch.
pub(crate) fn pick(batch: &RecordBatch, ordinals: &[usize]) -> Vec<ArrayRef> {
    ordinals.iter().map(|&o| batch.column(o).clone()).collect()
}

/// A batch that may have no columns.
pub(crate) fn batch_of(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// The values of some columns of a row, for messages: `id = 1, name = 'a'`.
pub(crate) fn describe(batch: &RecordBatch, row: usize, ordinals: &[usize]) -> String {
    let mut text = String::new();
    for &o in ordinals {
        let separator = if text.is_empty() { "" } else { ", " };
        let schema = batch.schema_ref();
        let column = batch.column(o);
        let value = match column.is_null(row) {
            true => "NULL".to_owned(),
            false => array_value_to_string(column, row).unwrap_or_else(|e| e.to_string()),
        };
        let _ = write!(text, "{separator}{} = {value}", schema.field(o).name());
    }
    if text.is_empty() { "(the only one)".to_owned() } else { text }
}

impl TableLayout {
    pub fn new(parts: LayoutParts<'_>) -> Result<Self> {
        let LayoutParts { input, table, key, value, weighted, max_parallelism } = parts;
        let stored: Vec<_> = table.value.iter().map(|c| c.ty.clone()).collect();
        let expected = key.len() == table.key.len() && value.len() + usize::from(weighted) == stored.len();
        if !expected {
            return Err(Error::internal(format!("state table {} has other columns than its operator", table.name)));
        }
        let order = |c: &thalweg_core::state::KeyColumn| KeyOrder {
            ty: c.ty.clone(),
            descending: c.descending,
            nulls_first: c.nulls_first,
            exact: c.exact,
        };
        let is_exact = |o: &usize| table.key.iter().zip(&key).any(|(c, k)| c.exact && k == o);
        let is_key_with_floats = |(c, o): (&thalweg_core::state::KeyColumn, &usize)| {
            (!c.exact && has_floats(&c.ty.to_arrow())).then_some(*o)
        };
        Ok(TableLayout {
            schema: input.schema(),
            key_codec: KeyCodec::new(table.key.iter().map(order).collect()),
            value_codec: ValueCodec::new(stored),
            floats: table.key.iter().zip(&key).filter_map(is_key_with_floats).filter(|o| !is_exact(o)).collect(),
            key,
            value,
            routing: table.routing_columns,
            weighted,
            max_parallelism,
        })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The routing columns' ordinals in the input.
    pub fn routing(&self) -> &[usize] {
        &self.key[..self.routing]
    }

    /// The changes with 0.0 for -0.0 in the columns that are compared as keys, so that what is shown of a key does not
    /// depend on which row came first, nor on what was read back from the table.
    pub fn with_canonical_keys(&self, changes: Changes) -> Result<Changes> {
        if self.floats.is_empty() {
            return Ok(changes);
        }
        let mut columns = changes.batch.columns().to_vec();
        for &o in &self.floats {
            columns[o] = with_canonical_floats(&columns[o])?;
        }
        let batch = batch_of(changes.batch.schema(), columns, changes.num_rows())?;
        Ok(changes.with_batch(batch))
    }

    fn groups(&self, batch: &RecordBatch) -> Result<Vec<u16>> {
        let mut hashes = vec![];
        hash_rows(&pick(batch, self.routing()), batch.num_rows(), &mut hashes)?;
        Ok(hashes.into_iter().map(|h| key_group(h, self.max_parallelism)).collect())
    }

    /// Appends the table key of every row, with its key group.
    pub fn encode_keys(&self, batch: &RecordBatch, out: &mut KeyBatch) -> Result<()> {
        let columns = pick(batch, &self.key);
        self.key_codec.encode(Some(&self.groups(batch)?), &columns, batch.num_rows(), out)
    }

    /// Appends the beginning of every row's table key: the key group and the routing columns.
    pub fn encode_routing(&self, batch: &RecordBatch, out: &mut KeyBatch) -> Result<()> {
        let columns = pick(batch, self.routing());
        self.key_codec.encode(Some(&self.groups(batch)?), &columns, batch.num_rows(), out)
    }

    /// The first `columns` key columns of every row, without key group.
    pub fn encode_first(&self, batch: &RecordBatch, columns: usize, out: &mut KeyBatch) -> Result<()> {
        self.key_codec.encode(None, &pick(batch, &self.key[..columns]), batch.num_rows(), out)
    }

    /// Appends the table value of every row; `weights` exactly if the layout has one.
    pub fn encode_values(&self, batch: &RecordBatch, weights: Option<&[i64]>, out: &mut KeyBatch) -> Result<()> {
        let mut columns = pick(batch, &self.value);
        if let Some(weights) = weights {
            columns.push(std::sync::Arc::new(Int64Array::from(weights.to_vec())));
        }
        self.value_codec.encode(&columns, batch.num_rows(), out)
    }

    /// The rows of table keys (with key groups) and values, and their weights (empty if the layout has none). Columns
    /// that are neither key nor value are missing: `schema` then has only those before them.
    pub fn decode<'a>(
        &self,
        keys: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
        values: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    ) -> Result<(RecordBatch, Vec<i64>)> {
        let rows = keys.len();
        let key_columns = self.key_codec.decode(keys.map(|k| k.get(PREFIX_BYTES..).unwrap_or(&[])))?;
        let mut value_columns = self.value_codec.decode(values)?;
        let weights = match self.weighted {
            true => {
                let weights = value_columns.pop().expect("a weighted layout has a value column");
                weights.as_primitive::<Int64Type>().values().to_vec()
            }
            false => vec![],
        };
        let width = self.key.iter().chain(&self.value).max().map_or(0, |o| o + 1);
        let mut columns: Vec<Option<ArrayRef>> = vec![None; width];
        let ordinals = self.key.iter().chain(&self.value);
        for (&o, column) in ordinals.zip(key_columns.into_iter().chain(value_columns)) {
            // Of a column that stands twice the later one is exact.
            columns[o] = Some(column);
        }
        let columns = columns.into_iter().collect::<Option<Vec<_>>>();
        let columns = columns.ok_or_else(|| Error::internal("stored columns with a gap"))?;
        let schema = match width == self.schema.fields().len() {
            true => self.schema.clone(),
            false => std::sync::Arc::new(self.schema.project(&(0..width).collect::<Vec<_>>())?),
        };
        Ok((batch_of(schema, columns, rows)?, weights))
    }
}
