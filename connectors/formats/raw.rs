//! `raw`: the bytes of a record are the value of the table's only column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Float32Builder, Float64Builder, Int8Builder, Int16Builder, Int32Builder,
    Int64Builder, RecordBatch, StringBuilder,
};
use arrow::datatypes::SchemaRef;
use memchr::memchr;
use thalweg_connector_api::format::BadRecord;
use thalweg_connector_api::{Decoder, Format, RecordEnd, RowEncoder};
use thalweg_core::fold::RowChanges;
use thalweg_core::options::{OptionKind, OptionSpec, Options};
use thalweg_core::table::{ChangelogMode, SinkMode, TableDef};
use thalweg_core::types::to_schema;
use thalweg_core::{Changes, Error, Result, SqlType};

use crate::bad_row::shorten;
use crate::view::{CellsOf, View};
use crate::{checked, no_such_columns, only_inserts, physical};

pub struct Raw;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::with_default(
        "charset",
        OptionKind::OneOf(&["UTF-8", "US-ASCII", "ISO-8859-1"]),
        "UTF-8",
        "how text is encoded",
    ),
    OptionSpec::with_default(
        "endianness",
        OptionKind::OneOf(&["big-endian", "little-endian"]),
        "big-endian",
        "in which order the bytes of numbers stand",
    ),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Ascii,
    Latin1,
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    charset: Charset,
    little_endian: bool,
}

impl Rules {
    fn of(options: &Options<'_>) -> Self {
        let charset = match options.text_must("charset") {
            "ISO-8859-1" => Charset::Latin1,
            "US-ASCII" => Charset::Ascii,
            _ => Charset::Utf8,
        };
        Rules { charset, little_endian: options.text_must("endianness") == "little-endian" }
    }
}

impl Format for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn changelog(&self) -> ChangelogMode {
        ChangelogMode::Append
    }

    fn accepts(&self) -> SinkMode {
        SinkMode::Append
    }

    fn decoder(&self, table: &TableDef, columns: &[usize]) -> Result<Box<dyn Decoder>> {
        no_such_columns(table, columns)?;
        let column = only_column(table)?;
        checked(self, table, |options| {
            let c = &table.columns[column].column;
            Ok(Box::new(RawDecoder {
                name: c.name.clone(),
                ty: c.ty.clone(),
                nullable: c.nullable,
                schema: to_schema(columns.iter().map(|i| &table.columns[*i].column)),
                rules: Rules::of(options),
                values: Values::of(&c.ty)?,
                wanted: !columns.is_empty(),
                rows: 0,
                record_of: vec![],
                records: 0,
            }) as Box<dyn Decoder>)
        })
    }

    fn encoder(&self, table: &TableDef) -> Result<Box<dyn RowEncoder>> {
        let column = only_column(table)?;
        checked(self, table, |options| {
            let c = &table.columns[column].column;
            Values::of(&c.ty)?;
            Ok(Box::new(RawEncoder {
                column,
                table_columns: table.columns.len(),
                name: c.name.clone(),
                ty: c.ty.clone(),
                rules: Rules::of(options),
            }) as Box<dyn RowEncoder>)
        })
    }
}

/// The ordinal of the one physical column.
fn only_column(table: &TableDef) -> Result<usize> {
    match physical(table).as_slice() {
        [one] => Ok(*one),
        all => Err(Error::option(format!(
            "table {}: format 'raw' is for one column, and there are {}",
            table.name,
            all.len()
        ))
        .note("formats json and csv hold several")),
    }
}

enum Values {
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Boolean(BooleanBuilder),
    I8(Int8Builder),
    I16(Int16Builder),
    I32(Int32Builder),
    I64(Int64Builder),
    F32(Float32Builder),
    F64(Float64Builder),
}

macro_rules! each {
    ($values:expr, $b:ident => $do:expr) => {
        match $values {
            Values::Text($b) => $do,
            Values::Bytes($b) => $do,
            Values::Boolean($b) => $do,
            Values::I8($b) => $do,
            Values::I16($b) => $do,
            Values::I32($b) => $do,
            Values::I64($b) => $do,
            Values::F32($b) => $do,
            Values::F64($b) => $do,
        }
    };
}

impl Values {
    fn of(ty: &SqlType) -> Result<Self> {
        Ok(match ty {
            SqlType::Char(_) | SqlType::VarChar(_) => Values::Text(StringBuilder::new()),
            SqlType::Binary(_) | SqlType::VarBinary(_) => Values::Bytes(BinaryBuilder::new()),
            SqlType::Boolean => Values::Boolean(BooleanBuilder::new()),
            SqlType::TinyInt => Values::I8(Int8Builder::new()),
            SqlType::SmallInt => Values::I16(Int16Builder::new()),
            SqlType::Int => Values::I32(Int32Builder::new()),
            SqlType::BigInt => Values::I64(Int64Builder::new()),
            SqlType::Float => Values::F32(Float32Builder::new()),
            SqlType::Double => Values::F64(Float64Builder::new()),
            ty => {
                return Err(Error::unsupported(format!("format 'raw' cannot hold {ty}"))
                    .note("it knows text, bytes, BOOLEAN, whole numbers, FLOAT and DOUBLE"));
            }
        })
    }
}

struct RawDecoder {
    name: String,
    ty: SqlType,
    nullable: bool,
    schema: SchemaRef,
    rules: Rules,
    values: Values,
    wanted: bool,
    rows: usize,
    record_of: Vec<u32>,
    records: u32,
}

impl RawDecoder {
    fn bad(&self, why: &str, record: &[u8]) -> Error {
        Error::row(format!("column {}: {why}", self.name)).note(format!("record: {}", shorten(record)))
    }

    fn end_row(&mut self) {
        self.rows += 1;
        self.record_of.push(self.records);
        self.records += 1;
    }

    fn push(&mut self, record: &[u8]) -> Result<()> {
        macro_rules! number {
            ($builder:expr, $t:ty) => {
                match <[u8; size_of::<$t>()]>::try_from(record) {
                    Ok(bytes) if self.rules.little_endian => $builder.append_value(<$t>::from_le_bytes(bytes)),
                    Ok(bytes) => $builder.append_value(<$t>::from_be_bytes(bytes)),
                    Err(_) => {
                        let expected = size_of::<$t>();
                        let why = format!("{} bytes are no {}, which has {expected}", record.len(), self.ty);
                        return Err(self.bad(&why, record));
                    }
                }
            };
        }
        match &mut self.values {
            Values::Text(b) => {
                let decoded;
                let text = match self.rules.charset {
                    Charset::Latin1 => {
                        decoded = record.iter().map(|c| char::from(*c)).collect::<String>();
                        decoded.as_str()
                    }
                    Charset::Ascii if !record.is_ascii() => return Err(self.bad("not US-ASCII", record)),
                    _ => match std::str::from_utf8(record) {
                        Ok(text) => text,
                        Err(_) => return Err(self.bad("not UTF-8", record)),
                    },
                };
                if let SqlType::Char(n) | SqlType::VarChar(n) = self.ty
                    && text.len() > n as usize
                    && text.chars().count() > n as usize
                {
                    return Err(self.bad(&format!("longer than {}", self.ty), record));
                }
                b.append_value(text);
            }
            Values::Bytes(b) => {
                if let SqlType::Binary(n) | SqlType::VarBinary(n) = self.ty
                    && record.len() > n as usize
                {
                    return Err(self.bad(&format!("{} bytes are more than {}", record.len(), self.ty), record));
                }
                b.append_value(record);
            }
            Values::Boolean(b) => match record {
                [byte] => b.append_value(*byte != 0),
                _ => return Err(self.bad(&format!("{} bytes are no BOOLEAN, which has 1", record.len()), record)),
            },
            Values::I8(b) => number!(b, i8),
            Values::I16(b) => number!(b, i16),
            Values::I32(b) => number!(b, i32),
            Values::I64(b) => number!(b, i64),
            Values::F32(b) => number!(b, f32),
            Values::F64(b) => number!(b, f64),
        }
        self.end_row();
        Ok(())
    }
}

impl Decoder for RawDecoder {
    /// In files a record is a line.
    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<usize, BadRecord> {
        let mut at = 0;
        let records_at_start = self.records;
        while self.rows < rows_max && at < bytes.len() {
            let rest = &bytes[at..];
            let (line, used) = match memchr(b'\n', rest) {
                Some(n) => (&rest[..n], n + 1),
                None if last => (rest, rest.len()),
                None => break,
            };
            if let Err(error) = self.push(line) {
                let records_before = u64::from(self.records - records_at_start);
                return Err(BadRecord { offset: at, records_before, error });
            }
            at += used;
        }
        Ok(at)
    }

    fn decode_record(&mut self, record: &[u8]) -> Result<(), BadRecord> {
        Ok(self.push(record)?)
    }

    fn decode_null(&mut self) -> Result<(), BadRecord> {
        if !self.nullable {
            let e = Error::row(format!("column {}: a record without a value in a NOT NULL column", self.name));
            return Err(e.into());
        }
        each!(&mut self.values, b => b.append_null());
        self.end_row();
        Ok(())
    }

    fn push_filler(&mut self) {
        match &mut self.values {
            values if self.nullable => each!(values, b => b.append_null()),
            Values::Text(b) => b.append_value(""),
            Values::Bytes(b) => b.append_value(b""),
            Values::Boolean(b) => b.append_value(false),
            Values::I8(b) => b.append_value(0),
            Values::I16(b) => b.append_value(0),
            Values::I32(b) => b.append_value(0),
            Values::I64(b) => b.append_value(0),
            Values::F32(b) => b.append_value(0.0),
            Values::F64(b) => b.append_value(0.0),
        }
        self.end_row();
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn records(&self) -> u64 {
        u64::from(self.records)
    }

    fn skipped(&self) -> u64 {
        0
    }

    fn finish(&mut self) -> Result<(Changes, Vec<u32>)> {
        self.records = 0;
        let rows = std::mem::take(&mut self.rows);
        let column: ArrayRef = each!(&mut self.values, b => Arc::new(b.finish()));
        let columns = if self.wanted { vec![column] } else { vec![] };
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok((Changes::inserts(batch), std::mem::take(&mut self.record_of)))
    }
}

struct RawEncoder {
    column: usize,
    table_columns: usize,
    name: String,
    ty: SqlType,
    rules: Rules,
}

impl RawEncoder {
    /// Appends the value of a row; false: it is NULL.
    fn write(&self, view: &View<'_>, row: usize, out: &mut Vec<u8>) -> Result<bool> {
        if view.is_null(row) {
            return Ok(false);
        }
        macro_rules! number {
            ($values:expr) => {
                if self.rules.little_endian {
                    out.extend_from_slice(&$values[row].to_le_bytes());
                } else {
                    out.extend_from_slice(&$values[row].to_be_bytes());
                }
            };
        }
        match &view.cells {
            CellsOf::Text(v) => {
                let text = v.value(row);
                let fits = |c: char| match self.rules.charset {
                    Charset::Utf8 => true,
                    Charset::Ascii => c.is_ascii(),
                    Charset::Latin1 => u32::from(c) <= 0xff,
                };
                if let Some(c) = text.chars().find(|c| !fits(*c)) {
                    return Err(Error::row(format!(
                        "column {}: '{c}' of '{}' cannot be written in 'raw.charset'",
                        self.name,
                        shorten(text.as_bytes())
                    )));
                }
                match self.rules.charset {
                    Charset::Latin1 => out.extend(text.chars().map(|c| u32::from(c) as u8)),
                    _ => out.extend_from_slice(text.as_bytes()),
                }
            }
            CellsOf::Bytes(v) => out.extend_from_slice(v.value(row)),
            CellsOf::Boolean(v) => out.push(u8::from(v.value(row))),
            CellsOf::I8(v) => number!(v),
            CellsOf::I16(v) => number!(v),
            CellsOf::I32(v) => number!(v),
            CellsOf::I64(v) => number!(v),
            CellsOf::F32(v) => number!(v),
            CellsOf::F64(v) => number!(v),
            _ => return Err(Error::internal("a type that was refused when the encoder was made")),
        }
        Ok(true)
    }

    fn each(
        &self,
        rows: &RowChanges,
        out: &mut Vec<u8>,
        mut end: impl FnMut(usize, bool, usize, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        only_inserts(rows, "raw")?;
        // A batch may leave out the columns that are not written.
        let all = rows.batch.num_columns() == self.table_columns;
        let view = View::new(rows.batch.column(if all { self.column } else { 0 }), &self.ty)?;
        for row in 0..rows.batch.num_rows() {
            let begin = out.len();
            let is_value = self.write(&view, row, out)?;
            end(row, is_value, begin, out)?;
        }
        Ok(())
    }
}

impl RowEncoder for RawEncoder {
    fn encode(&mut self, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        self.each(rows, out, |_, is_value, begin, out| {
            if !is_value || memchr(b'\n', &out[begin..]).is_some() {
                let what = if is_value { "a value that holds a line end" } else { "NULL" };
                return Err(Error::row(format!("column {}: {what} cannot be a line of format 'raw'", self.name)));
            }
            out.push(b'\n');
            Ok(())
        })
    }

    fn encode_records(&mut self, rows: &RowChanges, out: &mut Vec<u8>, records: &mut Vec<RecordEnd>) -> Result<()> {
        self.each(rows, out, |row, is_value, _, out| {
            records.push(RecordEnd { end: out.len(), row: row as u32, is_null: !is_value });
            Ok(())
        })
    }
}
