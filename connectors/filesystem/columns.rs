//! From a file's decoded columns to the columns of the table: metadata and the hidden order column are added here.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use thalweg_connector_api::SourceTable;
use thalweg_core::nearest::did_you_mean;
use thalweg_core::table::{ColumnKind, TableDef};
use thalweg_core::{Changes, Column, Error, Result, SqlType};

/// Bits of the order column for the index of a row within its record; the rest is the record's index in the file.
const ROW_IN_RECORD_BITS: u32 = 23;

/// What can be asked for with `METADATA FROM`, as in Flink.
pub fn metadata() -> Vec<Column> {
    vec![
        Column::new("file.path", SqlType::STRING, false),
        Column::new("file.name", SqlType::STRING, false),
        Column::new("file.size", SqlType::BigInt, false),
        Column::new("file.modification-time", SqlType::TimestampLtz(3), false),
    ]
}

/// Ordinals of the columns that the format reads.
pub fn physical(table: &TableDef) -> Vec<usize> {
    (0..table.columns.len()).filter(|i| table.columns[*i].kind == ColumnKind::Physical).collect()
}

/// Metadata columns name a known key and have its type.
pub fn check_metadata(table: &TableDef) -> Result<()> {
    for c in &table.columns {
        let ColumnKind::Metadata { key, .. } = &c.kind else { continue };
        let known = metadata();
        let Some(found) = known.iter().find(|m| m.name == *key) else {
            let names: Vec<_> = known.iter().map(|m| m.name.as_str()).collect();
            return Err(Error::name(format!("table {}: the filesystem connector has no metadata '{key}'", table.name))
                .propose(did_you_mean(key, names.iter().copied()))
                .note(format!("metadata: {}", names.join(", "))));
        };
        if found.ty.to_arrow() != c.column.ty.to_arrow() {
            return Err(Error::type_(format!(
                "table {}: column {} is {}, but metadata '{key}' is {}",
                table.name, c.column.name, c.column.ty, found.ty
            ))
            .note(format!("declare it as {} METADATA FROM '{key}' VIRTUAL", found.ty)));
        }
    }
    Ok(())
}

/// What the metadata of rows of one file are.
#[derive(Debug, Clone)]
pub struct FileFacts {
    pub path: String,
    pub name: String,
    pub size: i64,
    pub modified_ms: i64,
}

/// Puts pieces of a table together.
pub struct Assembly {
    schema: SchemaRef,
    /// Per column asked for: the metadata key, or `None` for the next decoded column.
    columns: Vec<Option<String>>,
    with_order: bool,
    /// Ordinals for the decoder.
    pub decoded: Vec<usize>,
    /// Estimated bytes of a row beside its text.
    pub row_bytes: usize,
}

impl Assembly {
    pub fn new(table: &SourceTable) -> Self {
        let columns = &table.def.columns;
        let kind = |i: &usize| match &columns[*i].kind {
            ColumnKind::Physical => None,
            ColumnKind::Metadata { key, .. } => Some(key.clone()),
        };
        let mut fields: Vec<Field> = table.columns.iter().map(|i| columns[*i].column.to_field()).collect();
        if table.with_order {
            fields.push(Field::new("$order", DataType::Int64, false));
        }
        Assembly {
            row_bytes: fields.iter().map(|f| width(f.data_type())).sum(),
            schema: Arc::new(Schema::new(fields)),
            columns: table.columns.iter().map(kind).collect(),
            with_order: table.with_order,
            decoded: table.columns.iter().copied().filter(|i| columns[*i].kind == ColumnKind::Physical).collect(),
        }
    }

    /// `record_of`: per row the index of its record after `first_record`, the file's record that the batch began with.
    pub fn assemble(
        &self,
        decoded: Changes,
        record_of: &[u32],
        first_record: u64,
        file: &FileFacts,
    ) -> Result<Changes> {
        let rows = decoded.num_rows();
        if self.columns.iter().all(Option::is_none) && !self.with_order {
            return Ok(decoded);
        }
        let mut next = decoded.batch.columns().iter();
        let mut columns: Vec<ArrayRef> = vec![];
        for column in &self.columns {
            columns.push(match column.as_deref() {
                None => next.next().cloned().ok_or_else(|| Error::internal("the decoder left out a column"))?,
                Some("file.path") => Arc::new(StringArray::from_iter_values((0..rows).map(|_| &file.path))),
                Some("file.name") => Arc::new(StringArray::from_iter_values((0..rows).map(|_| &file.name))),
                Some("file.size") => Arc::new(Int64Array::from_value(file.size, rows)),
                Some(_) => Arc::new(TimestampMillisecondArray::from_value(file.modified_ms, rows).with_timezone("UTC")),
            });
        }
        if self.with_order {
            let (mut before, mut within) = (None, 0i64);
            let order = record_of.iter().map(|&record| {
                within = if before == Some(record) { within + 1 } else { 0 };
                before = Some(record);
                ((first_record + u64::from(record)) as i64) << ROW_IN_RECORD_BITS | within
            });
            columns.push(Arc::new(Int64Array::from_iter_values(order)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(decoded.with_batch(batch))
    }
}

fn width(ty: &DataType) -> usize {
    match ty {
        DataType::Struct(fields) => fields.iter().map(|f| width(f.data_type())).sum(),
        ty => ty.primitive_width().unwrap_or(5),
    }
}
