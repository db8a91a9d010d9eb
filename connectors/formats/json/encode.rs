//! Changes → lines of JSON.

use arrow::array::RecordBatch;
use thalweg_connector_api::{RecordEnd, RowEncoder};
use thalweg_core::fold::{RowChanges, RowKind};
use thalweg_core::table::TableDef;
use thalweg_core::{Error, Result, SqlType};

use crate::base64;
use crate::number::{DecimalForm, write_decimal128, write_decimal256, write_float};
use crate::physical;
use crate::time::{Standard, write_date, write_time, write_timestamp};
use crate::view::{CellsOf, View};

/// How values are written.
#[derive(Debug, Clone, Copy)]
pub struct WriteRules {
    pub standard: Standard,
    pub decimals: DecimalForm,
    /// Fields that are NULL are left out.
    pub ignore_null_fields: bool,
}

/// Writes rows as objects.
pub struct ObjectWriter {
    /// Ordinals within the table.
    ordinals: Vec<usize>,
    table_columns: usize,
    types: Vec<SqlType>,
    /// Per column its name in quotes, with the colon.
    names: Vec<Vec<u8>>,
    rules: WriteRules,
}

impl ObjectWriter {
    pub fn new(table: &TableDef, rules: WriteRules) -> Self {
        let ordinals = physical(table);
        let column = |i: &usize| &table.columns[*i].column;
        let name = |i: &usize| {
            let mut name = vec![];
            write_string(&column(i).name, &mut name);
            name.push(b':');
            name
        };
        ObjectWriter {
            types: ordinals.iter().map(|i| column(i).ty.clone()).collect(),
            names: ordinals.iter().map(name).collect(),
            ordinals,
            table_columns: table.columns.len(),
            rules,
        }
    }

    /// The physical columns of a batch of the table, typed. A batch may leave out the columns that are not written.
    pub fn views<'a>(&'a self, batch: &'a RecordBatch) -> Result<Vec<View<'a>>> {
        let all = batch.num_columns() == self.table_columns;
        if !all && batch.num_columns() != self.ordinals.len() {
            return Err(Error::internal(format!(
                "{} columns for a table of {}",
                batch.num_columns(),
                self.table_columns
            )));
        }
        let of =
            |(i, ordinal): (usize, &usize)| View::new(batch.column(if all { *ordinal } else { i }), &self.types[i]);
        self.ordinals.iter().enumerate().map(of).collect()
    }

    pub fn write(&self, views: &[View<'_>], row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        let begin = out.len();
        for (view, name) in views.iter().zip(&self.names) {
            if view.is_null(row) {
                if self.rules.ignore_null_fields {
                    continue;
                }
                separate(begin, out);
                out.extend_from_slice(name);
                out.extend_from_slice(b"null");
            } else {
                separate(begin, out);
                out.extend_from_slice(name);
                write_value(&view.cells, row, &self.rules, out);
            }
        }
        out.push(b'}');
    }
}

#[inline(always)]
fn separate(begin: usize, out: &mut Vec<u8>) {
    if out.len() > begin {
        out.push(b',');
    }
}

fn write_cell(view: &View<'_>, row: usize, rules: &WriteRules, out: &mut Vec<u8>) {
    if view.is_null(row) { out.extend_from_slice(b"null") } else { write_value(&view.cells, row, rules, out) }
}

fn write_value(cells: &CellsOf<'_>, row: usize, rules: &WriteRules, out: &mut Vec<u8>) {
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
                out.extend_from_slice(b"\"NaN\"");
            } else {
                out.extend_from_slice(if value > 0.0 { b"\"Infinity\"".as_slice() } else { b"\"-Infinity\"" });
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
        CellsOf::Decimal128 { values, scale } => write_decimal128(values[row], *scale, rules.decimals, out),
        CellsOf::Decimal256 { values, scale } => write_decimal256(values[row], *scale, rules.decimals, out),
        CellsOf::Text(v) => write_string(v.value(row), out),
        CellsOf::Bytes(v) => quoted(out, |out| base64::encode(v.value(row), out)),
        CellsOf::Date(v) => quoted(out, |out| write_date(i64::from(v[row]), out)),
        CellsOf::Time { values, nanos_per_unit } => quoted(out, |out| write_time(values[row] * nanos_per_unit, out)),
        CellsOf::Timestamp { values, nanos_per_unit, zoned } => {
            quoted(out, |out| write_timestamp(values[row], *nanos_per_unit, rules.standard, *zoned, out));
        }
        CellsOf::Array { offsets, items } => {
            out.push(b'[');
            for i in offsets[row]..offsets[row + 1] {
                if i > offsets[row] {
                    out.push(b',');
                }
                write_cell(items, i as usize, rules, out);
            }
            out.push(b']');
        }
        CellsOf::Map { offsets, keys, values } => {
            out.push(b'{');
            for i in offsets[row]..offsets[row + 1] {
                if i > offsets[row] {
                    out.push(b',');
                }
                write_key(&keys.cells, i as usize, rules, out);
                out.push(b':');
                write_cell(values, i as usize, rules, out);
            }
            out.push(b'}');
        }
        CellsOf::Row { names, columns } => {
            out.push(b'{');
            let begin = out.len();
            for (name, column) in names.iter().zip(columns) {
                if rules.ignore_null_fields && column.is_null(row) {
                    continue;
                }
                separate(begin, out);
                write_string(name, out);
                out.push(b':');
                write_cell(column, row, rules, out);
            }
            out.push(b'}');
        }
    }
}

/// A key of an object is a string, whatever the type.
fn write_key(cells: &CellsOf<'_>, row: usize, rules: &WriteRules, out: &mut Vec<u8>) {
    let begin = out.len();
    write_value(cells, row, rules, out);
    if out.get(begin) != Some(&b'"') {
        let text = out.split_off(begin);
        let text = String::from_utf8_lossy(&text);
        write_string(&text, out);
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// 0: stands as it is; `u`: as \u00XX; `p`: the first byte of a character that is a pair of them; else the letter behind
/// the backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = b'u';
        i += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    let mut i = 0xf0;
    while i < 0xf5 {
        table[i] = b'p';
        i += 1;
    }
    table
};

/// A text in quotes, byte for byte as Flink's formats write it: hash and key of a message are made of these bytes. Jackson,
/// which they use, writes characters beyond U+FFFF as a pair of escapes, and hexadecimal digits in upper case.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut from = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[*byte as usize];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[from..i]);
        from = i + 1;
        match escape {
            b'u' => write_unit(u16::from(*byte), out),
            b'p' => {
                if let Some(c) = text[i..].chars().next() {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write_unit(*unit, out));
                    from = i + c.len_utf8();
                }
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// `\uXXXX`
fn write_unit(unit: u16, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| DIGITS[usize::from(unit >> shift & 0xf)]));
}

/// Every row as a record; inserts only.
pub struct JsonEncoder(pub ObjectWriter);

impl JsonEncoder {
    /// `end` is called behind each record with the row.
    fn each(&self, rows: &RowChanges, out: &mut Vec<u8>, mut end: impl FnMut(usize, &mut Vec<u8>)) -> Result<()> {
        crate::only_inserts(rows, "json")?;
        let views = self.0.views(&rows.batch)?;
        for row in 0..rows.batch.num_rows() {
            self.0.write(&views, row, out);
            end(row, out);
        }
        Ok(())
    }
}

impl RowEncoder for JsonEncoder {
    fn encode(&mut self, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        self.each(rows, out, |_, out| out.push(b'\n'))
    }

    fn encode_records(&mut self, rows: &RowChanges, out: &mut Vec<u8>, records: &mut Vec<RecordEnd>) -> Result<()> {
        self.each(rows, out, |row, out| records.push(RecordEnd { end: out.len(), row: row as u32, is_null: false }))
    }
}

/// Every change as an envelope: +I as `c`, -U and +U behind one another as one `u`, -D as `d`. A -U or +U that stands
/// alone is a `d` or a `c`.
pub struct DebeziumEncoder(pub ObjectWriter);

impl DebeziumEncoder {
    /// `end` is called behind each record with its last row.
    fn each(&self, rows: &RowChanges, out: &mut Vec<u8>, mut end: impl FnMut(usize, &mut Vec<u8>)) -> Result<()> {
        let views = self.0.views(&rows.batch)?;
        let count = rows.batch.num_rows();
        let mut row = 0;
        while row < count {
            match rows.kind(row) {
                RowKind::UpdateBefore if row + 1 < count && rows.kind(row + 1) == RowKind::UpdateAfter => {
                    out.extend_from_slice(b"{\"before\":");
                    self.0.write(&views, row, out);
                    row += 1;
                    out.extend_from_slice(b",\"after\":");
                    self.0.write(&views, row, out);
                    out.extend_from_slice(b",\"op\":\"u\"}");
                }
                RowKind::Insert | RowKind::UpdateAfter => {
                    out.extend_from_slice(b"{\"before\":null,\"after\":");
                    self.0.write(&views, row, out);
                    out.extend_from_slice(b",\"op\":\"c\"}");
                }
                RowKind::UpdateBefore | RowKind::Delete => {
                    out.extend_from_slice(b"{\"before\":");
                    self.0.write(&views, row, out);
                    out.extend_from_slice(b",\"after\":null,\"op\":\"d\"}");
                }
            }
            end(row, out);
            row += 1;
        }
        Ok(())
    }
}

impl RowEncoder for DebeziumEncoder {
    fn encode(&mut self, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        self.each(rows, out, |_, out| out.push(b'\n'))
    }

    fn encode_records(&mut self, rows: &RowChanges, out: &mut Vec<u8>, records: &mut Vec<RecordEnd>) -> Result<()> {
        self.each(rows, out, |row, out| records.push(RecordEnd { end: out.len(), row: row as u32, is_null: false }))
    }
}
