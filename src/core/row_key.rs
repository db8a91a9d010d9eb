//! Whole rows ↔ bytes whose comparison orders the rows by chosen columns first and then by all: what nets compare.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{Error, Result};
use crate::key::{KeyCodec, KeyOrder};
use crate::state::KeyBatch;
use crate::types::SqlType;

/// Rows of one schema as keys (`core::key`): first the sort columns, ascending with NULL first, then the other columns
/// in declaration order. Equal rows, and only those, have equal keys; the rows can be had back from them, with one NaN.
/// A sort column means a key, so -0.0 is 0.0 there, and comes back as that; in the other columns they are two values.
#[derive(Debug, Clone)]
pub struct RowKeys {
    schema: SchemaRef,
    codec: KeyCodec,
    /// Key column → column.
    columns: Vec<usize>,
    /// Per key column: what `codec` decodes into.
    types: Vec<DataType>,
    sort_columns: usize,
}

impl RowKeys {
    /// `sort`: ordinals within the schema, each at most once.
    ///
    /// # Errors
    /// A schema with a type that no SQL type lies in memory as.
    pub fn new(schema: SchemaRef, sort: &[usize]) -> Result<Self> {
        let others = (0..schema.fields().len()).filter(|i| !sort.contains(i));
        Self::of_columns(schema.clone(), sort.iter().copied().chain(others).collect(), sort.len())
    }

    /// Keys of some columns only: to compare and to group by, not to decode.
    pub(crate) fn of_columns(schema: SchemaRef, columns: Vec<usize>, sort_columns: usize) -> Result<Self> {
        let mut orders = Vec::with_capacity(columns.len());
        let mut types = Vec::with_capacity(columns.len());
        for (at, &i) in columns.iter().enumerate() {
            let field = schema.fields().get(i).ok_or_else(|| Error::internal(format!("there is no column {i}")))?;
            let ty = SqlType::from_arrow(field.data_type()).ok_or_else(|| {
                let ty = field.data_type();
                Error::internal(format!("column \"{}\" lies in memory as {ty}, which is no SQL type", field.name()))
            })?;
            let is_sorted_by = at < sort_columns && ty.is_orderable();
            let order = KeyOrder::ascending(ty);
            orders.push(if is_sorted_by { order } else { order.exact() });
            types.push(field.data_type().clone());
        }
        Ok(RowKeys { schema, codec: KeyCodec::new(orders), columns, types, sort_columns })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Appends one key per row to `out`.
    pub fn encode(&self, batch: &RecordBatch, out: &mut KeyBatch) -> Result<()> {
        let column = |&i: &usize| {
            batch.columns().get(i).cloned().ok_or_else(|| Error::internal(format!("there is no column {i}")))
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        self.codec.encode(None, &columns, batch.num_rows(), out)
    }

    /// The rows of the given keys.
    pub fn decode(&self, keys: Vec<&[u8]>) -> Result<RecordBatch> {
        let rows = keys.len();
        let keys = self.codec.decode_as(&self.types, keys)?;
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.columns.len()];
        for (array, &i) in keys.into_iter().zip(&self.columns) {
            columns[i] = Some(array);
        }
        let columns = columns.into_iter().map(|c| c.expect("every column is a key column once")).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    pub fn has_sort_columns(&self) -> bool {
        self.sort_columns > 0
    }

    /// The bytes of the sort columns at the begin of a key; the whole key if there are none.
    pub fn sort_prefix<'a>(&self, key: &'a [u8]) -> Result<&'a [u8]> {
        match self.sort_columns {
            0 => Ok(key),
            n => Ok(&key[..self.codec.encoded_prefix_len(key, n)?]),
        }
    }
}

/// An index into a `KeyBatch` with the first bytes of its key, which decide most comparisons without a look at the
/// key itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SortEntry {
    /// Different for different keys only.
    pub prefix: u64,
    pub row: u32,
}

/// The rows of `keys` (at most `u32::MAX`) in key order.
pub(crate) fn sorted(keys: &KeyBatch) -> Vec<SortEntry> {
    debug_assert!(u32::try_from(keys.len()).is_ok());
    let mut entries: Vec<SortEntry> =
        keys.iter().zip(0..).map(|(k, row)| SortEntry { prefix: prefix(k), row }).collect();
    entries.sort_unstable_by(|a, b| {
        a.prefix.cmp(&b.prefix).then_with(|| keys.get(a.row as usize).cmp(keys.get(b.row as usize)))
    });
    entries
}

/// An integer that orders as the key's first bytes do. The first byte is a marker below 4, so 2 bits hold it.
fn prefix(key: &[u8]) -> u64 {
    let Some((marker, rest)) = key.split_first() else { return 0 };
    let rest = match rest.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    };
    debug_assert!(*marker < 4);
    u64::from(*marker) << 62 | rest >> 2
}
