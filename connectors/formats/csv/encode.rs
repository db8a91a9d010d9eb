//! Changes → CSV records.

use thalweg_connector_api::{RecordEnd, RowEncoder};
use thalweg_core::fold::RowChanges;
use thalweg_core::table::TableDef;
use thalweg_core::{Error, Result, SqlType};

use super::Rules;
use crate::bad_row::shorten;
use crate::number::{DecimalForm, write_decimal128, write_decimal256, write_float};
use crate::time::{Standard, write_date, write_time, write_timestamp};
use crate::view::{CellsOf, View};
use crate::{base64, only_inserts, physical};

pub struct CsvEncoder {
    rules: Rules,
    ordinals: Vec<usize>,
    table_columns: usize,
    names: Vec<String>,
    types: Vec<SqlType>,
    /// Bytes that cannot stand in an unquoted field.
    special: [bool; 256],
    text: Vec<u8>,
}

impl CsvEncoder {
    pub fn new(table: &TableDef, rules: Rules) -> Self {
        let ordinals = physical(table);
        let mut special = [false; 256];
        for c in [rules.delimiter, b'\n', b'\r', b'#'].into_iter().chain(rules.quote).chain(rules.escape) {
            special[c as usize] = true;
        }
        // A # matters only if comments are read.
        special[b'#' as usize] &= rules.comments || rules.delimiter == b'#' || rules.quote == Some(b'#');
        CsvEncoder {
            names: ordinals.iter().map(|i| table.columns[*i].column.name.clone()).collect(),
            types: ordinals.iter().map(|i| table.columns[*i].column.ty.clone()).collect(),
            table_columns: table.columns.len(),
            ordinals,
            rules,
            special,
            text: vec![],
        }
    }

    fn cell(&self, name: &str, view: &View<'_>, row: usize, text: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
        if view.is_null(row) {
            out.extend_from_slice(self.rules.null_literal.as_deref().unwrap_or(b""));
            return Ok(());
        }
        match &view.cells {
            CellsOf::Text(v) => self.field(name, v.value(row).as_bytes(), out),
            CellsOf::Array { offsets, items } => {
                text.clear();
                for i in offsets[row]..offsets[row + 1] {
                    if i > offsets[row] {
                        text.extend_from_slice(&self.rules.element_delimiter);
                    }
                    self.part(name, items, i as usize, text)?;
                }
                if text.is_empty() && offsets[row + 1] > offsets[row] {
                    return Err(cannot(name, "an ARRAY of one empty element cannot be told from an empty one"));
                }
                self.field(name, text, out)
            }
            CellsOf::Row { columns, .. } => {
                text.clear();
                for (i, column) in columns.iter().enumerate() {
                    if i > 0 {
                        text.extend_from_slice(&self.rules.element_delimiter);
                    }
                    self.part(name, column, row, text)?;
                }
                self.field(name, text, out)
            }
            cells => {
                // Numbers and times hold nothing special, unless someone chose such a delimiter.
                let begin = out.len();
                write_scalar(cells, row, out);
                let written = &out[begin..];
                if written.iter().any(|c| self.special[*c as usize])
                    || written.is_empty()
                    || self.rules.null_literal.as_deref() == Some(written)
                {
                    let written = out.split_off(begin);
                    return self.field(name, &written, out);
                }
                Ok(())
            }
        }
    }

    /// An element of an ARRAY or ROW.
    fn part(&self, name: &str, view: &View<'_>, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let null = self.rules.null_literal.as_deref();
        if view.is_null(row) {
            if null.is_none() && matches!(view.cells, CellsOf::Text(_)) {
                return Err(cannot(name, "a NULL string among its elements needs 'csv.null-literal'"));
            }
            out.extend_from_slice(null.unwrap_or(b""));
            return Ok(());
        }
        let begin = out.len();
        match &view.cells {
            CellsOf::Text(v) => out.extend_from_slice(v.value(row).as_bytes()),
            cells => write_scalar(cells, row, out),
        }
        let written = &out[begin..];
        if memchr::memmem::find(written, &self.rules.element_delimiter).is_some() || null == Some(written) {
            return Err(cannot(name, "an element holds 'csv.array-element-delimiter' or is 'csv.null-literal'"));
        }
        Ok(())
    }

    /// Text as a field: as it is, quoted, or escaped.
    fn field(&self, name: &str, text: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let like_null = self.rules.null_literal.as_deref() == Some(text);
        let special = text.iter().any(|c| self.special[*c as usize]);
        if !special && !like_null && !text.is_empty() {
            out.extend_from_slice(text);
            return Ok(());
        }
        match (self.rules.quote, self.rules.escape) {
            (Some(quote), escape) => {
                out.push(quote);
                for &c in text {
                    if c == quote || escape == Some(c) {
                        out.push(escape.unwrap_or(quote));
                    }
                    out.push(c);
                }
                out.push(quote);
                Ok(())
            }
            (None, _) if like_null => Err(cannot(name, "a text equal to 'csv.null-literal' needs quotes")),
            (None, Some(escape)) => {
                for &c in text {
                    match c {
                        b'\n' => out.extend_from_slice(&[escape, b'n']),
                        b'\r' => out.extend_from_slice(&[escape, b'r']),
                        c if self.special[c as usize] => out.extend_from_slice(&[escape, c]),
                        c => out.push(c),
                    }
                }
                Ok(())
            }
            (None, None) if special => {
                let text = shorten(text);
                Err(cannot(name, &format!("'{text}' needs quotes or 'csv.escape-character'")))
            }
            (None, None) => Ok(()),
        }
    }
}

fn cannot(name: &str, why: &str) -> Error {
    Error::row(format!("column {name} cannot be written as csv: {why}"))
}

fn write_scalar(cells: &CellsOf<'_>, row: usize, out: &mut Vec<u8>) {
    macro_rules! integer {
        ($values:expr) => {
            out.extend_from_slice(itoa::Buffer::new().format($values[row]).as_bytes())
        };
    }
    macro_rules! float {
        ($values:expr) => {{
            let value = $values[row];
            if value.is_finite() {
                write_float(value, out);
            } else if value.is_nan() {
                out.extend_from_slice(b"NaN");
            } else {
                out.extend_from_slice(if value > 0.0 { b"Infinity".as_slice() } else { b"-Infinity" });
            }
        }};
    }
    match cells {
        CellsOf::Boolean(v) => out.extend_from_slice(if v.value(row) { b"true" } else { b"false" }),
        CellsOf::I8(v) => integer!(v),
        CellsOf::I16(v) => integer!(v),
        CellsOf::I32(v) => integer!(v),
        CellsOf::I64(v) => integer!(v),
        CellsOf::F32(v) => float!(v),
        CellsOf::F64(v) => float!(v),
        CellsOf::Decimal128 { values, scale } => write_decimal128(values[row], *scale, DecimalForm::Plain, out),
        CellsOf::Decimal256 { values, scale } => write_decimal256(values[row], *scale, DecimalForm::Plain, out),
        CellsOf::Bytes(v) => base64::encode(v.value(row), out),
        CellsOf::Date(v) => write_date(i64::from(v[row]), out),
        CellsOf::Time { values, nanos_per_unit } => write_time(values[row] * nanos_per_unit, out),
        CellsOf::Timestamp { values, nanos_per_unit, zoned } => {
            write_timestamp(values[row], *nanos_per_unit, Standard::Sql, *zoned, out);
        }
        CellsOf::Text(_) | CellsOf::Array { .. } | CellsOf::Map { .. } | CellsOf::Row { .. } => {
            unreachable!("handled by the callers; MAP is refused when the encoder is made")
        }
    }
}

impl CsvEncoder {
    /// `end` is called behind each record with the row.
    fn each(&mut self, rows: &RowChanges, out: &mut Vec<u8>, mut end: impl FnMut(usize, &mut Vec<u8>)) -> Result<()> {
        let batch = &rows.batch;
        let all = batch.num_columns() == self.table_columns;
        if !all && batch.num_columns() != self.ordinals.len() {
            return Err(Error::internal(format!(
                "{} columns for a table of {}",
                batch.num_columns(),
                self.table_columns
            )));
        }
        let mut text = std::mem::take(&mut self.text);
        let of =
            |(i, ordinal): (usize, &usize)| View::new(batch.column(if all { *ordinal } else { i }), &self.types[i]);
        let views = self.ordinals.iter().enumerate().map(of).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            for (i, view) in views.iter().enumerate() {
                if i > 0 {
                    out.push(self.rules.delimiter);
                }
                self.cell(&self.names[i], view, row, &mut text, out)?;
            }
            end(row, out);
        }
        self.text = text;
        Ok(())
    }
}

impl RowEncoder for CsvEncoder {
    fn encode(&mut self, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        only_inserts(rows, "csv")?;
        self.each(rows, out, |_, out| out.push(b'\n'))
    }

    fn encode_records(&mut self, rows: &RowChanges, out: &mut Vec<u8>, records: &mut Vec<RecordEnd>) -> Result<()> {
        only_inserts(rows, "csv")?;
        self.each(rows, out, |row, out| records.push(RecordEnd { end: out.len(), row: row as u32, is_null: false }))
    }

    fn header(&self) -> Option<Vec<u8>> {
        if !self.rules.header {
            return None;
        }
        let mut out = vec![];
        for (i, name) in self.names.iter().enumerate() {
            if i > 0 {
                out.push(self.rules.delimiter);
            }
            if self.field(name, name.as_bytes(), &mut out).is_err() {
                out.extend_from_slice(name.as_bytes());
            }
        }
        out.push(b'\n');
        Some(out)
    }
}
