//! JSON objects → rows of typed cells.
//!
//! Records of one source mostly have the same fields in the same order. So after every field the reader remembers
//! which one came next the last time, compares that name's bytes in place, and falls back to a hash map when it was
//! another one.

use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use thalweg_core::table::TableDef;
use thalweg_core::types::to_schema;
use thalweg_core::{Result, SqlType};

use super::parse::{Json, Syntax, compact_into};
use crate::cells::{Cells, Reject, Values};
use crate::time::Standard;

/// Names of fields that are remembered, columns or not.
const KNOWN_MAX: usize = 4096;
/// A field that no column is made of.
const SKIPPED: u32 = u32::MAX;

/// Why a record is bad.
#[derive(Debug, PartialEq, Eq)]
pub enum Fail {
    /// It is no JSON: nothing in it can be trusted.
    Syntax(Syntax),
    /// A field does not fit its column.
    Field(Reject),
}

impl From<Syntax> for Fail {
    fn from(e: Syntax) -> Self {
        Fail::Syntax(e)
    }
}

impl From<Reject> for Fail {
    fn from(e: Reject) -> Self {
        Fail::Field(e)
    }
}

impl Fail {
    pub fn message(&self) -> String {
        match self {
            Fail::Syntax(e) => format!("not valid JSON: {} (character {})", e.why, e.at + 1),
            Fail::Field(Reject(message)) => message.to_string(),
        }
    }
}

/// How fields are read.
#[derive(Debug, Clone, Copy)]
pub struct FieldRules {
    /// A field that does not fit becomes NULL.
    pub ignore_parse_errors: bool,
    /// A field that is not there is an error, not NULL.
    pub fail_on_missing_field: bool,
    pub standard: Standard,
}

struct Known {
    /// With its quotes, as it stands in the text.
    quoted: Box<[u8]>,
    column: u32,
    /// Which field came after it the last time; 0: none yet.
    next: u32,
}

/// Reads objects into the columns of a table.
pub struct RowReader {
    schema: SchemaRef,
    columns: Vec<Cells>,
    rules: FieldRules,
    rows: usize,
    /// The first one stands for the beginning of an object.
    known: Vec<Known>,
    by_name: HashMap<Box<[u8]>, u32>,
    column_of: HashMap<Box<[u8]>, u32>,
    scratch: Vec<u8>,
}

impl RowReader {
    /// Reads the columns of `table` at the ordinals `columns`.
    pub fn new(table: &TableDef, columns: &[usize], rules: FieldRules) -> Result<Self> {
        let of = |c: &usize| &table.columns[*c].column;
        let one = |c: &usize| Cells::new(&of(c).name, &of(c).ty, of(c).nullable, rules.standard);
        let begin = Known { quoted: Box::new([]), column: SKIPPED, next: 0 };
        Ok(RowReader {
            schema: to_schema(columns.iter().map(of)),
            columns: columns.iter().map(one).collect::<Result<_>>()?,
            rules,
            rows: 0,
            known: vec![begin],
            by_name: HashMap::new(),
            column_of: columns.iter().zip(0..).map(|(c, i)| (of(c).name.as_bytes().into(), i)).collect(),
            scratch: vec![],
        })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Takes back all rows from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|c| c.truncate(rows));
        self.rows = rows;
    }

    /// A row that nobody looks at.
    pub fn push_filler(&mut self) {
        self.columns.iter_mut().for_each(Cells::push_meaningless);
        self.rows += 1;
    }

    /// From now on a missing or NULL field of a column that is not in `key` (indices of the reader's columns) may be
    /// anything: only the key of the row counts.
    pub fn only_key_counts(&mut self, key: Option<&[usize]>) {
        for (i, cells) in self.columns.iter_mut().enumerate() {
            cells.may_be_meaningless = key.is_some_and(|key| !key.contains(&i));
        }
    }

    /// The rows; none are left.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.columns.iter_mut().map(Cells::finish).collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// One object, at its opening brace, becomes one row. After an error the caller must `truncate`.
    pub fn read_object(&mut self, json: &mut Json<'_>) -> Result<(), Fail> {
        json.expect(b'{', "an object must stand here")?;
        json.skip_space();
        let rows = self.rows;
        let mut set = 0;
        if json.peek() == b'}' {
            json.at += 1;
        } else {
            let mut before = 0u32;
            loop {
                let guess = self.known[before as usize].next;
                let known = &self.known[guess as usize];
                let column = if guess != 0 && json.bytes[json.at..].starts_with(&known.quoted) {
                    json.at += known.quoted.len();
                    before = guess;
                    known.column
                } else {
                    self.look_up(json, &mut before)?
                };
                json.skip_space();
                json.expect(b':', "':' must stand here")?;
                json.skip_space();
                if column == SKIPPED {
                    json.skip_value()?;
                } else {
                    let cells = &mut self.columns[column as usize];
                    // Of a field that comes twice the last one counts.
                    if cells.len() > rows {
                        cells.truncate(rows)
                    } else {
                        set += 1
                    }
                    read_cell(json, cells, &self.rules, &mut self.scratch)?;
                }
                json.skip_space();
                match json.peek() {
                    b',' => json.at += 1,
                    b'}' => {
                        json.at += 1;
                        break;
                    }
                    _ => return Ok(json.syntax("',' or '}' must stand here")?),
                }
                json.skip_space();
            }
        }
        if set < self.columns.len() {
            for cells in &mut self.columns {
                if cells.len() == rows {
                    missing(cells, &self.rules)?;
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Reads a field's name that was not the expected one, and remembers it.
    #[inline(never)]
    fn look_up(&mut self, json: &mut Json<'_>, before: &mut u32) -> Result<u32, Fail> {
        if json.peek() != b'"' {
            return Ok(json.syntax("a field name in quotes must stand here")?);
        }
        let begin = json.at;
        self.scratch.clear();
        json.string_into(&mut self.scratch)?;
        let quoted = &json.bytes[begin..json.at];
        let place = match self.by_name.get(quoted) {
            Some(place) => *place,
            None => {
                let column = self.column_of.get(self.scratch.as_slice()).copied().unwrap_or(SKIPPED);
                if self.known.len() >= KNOWN_MAX {
                    return Ok(column);
                }
                let place = self.known.len() as u32;
                self.known.push(Known { quoted: quoted.into(), column, next: 0 });
                self.by_name.insert(quoted.into(), place);
                place
            }
        };
        self.known[*before as usize].next = place;
        *before = place;
        Ok(self.known[place as usize].column)
    }
}

#[cold]
fn missing(cells: &mut Cells, rules: &FieldRules) -> Result<(), Reject> {
    if rules.fail_on_missing_field {
        return Err(Reject(format!("column {}: the field is missing", cells.path).into()));
    }
    cells.push_null()
}

/// One value into one cell; if it does not fit and that is to be ignored, NULL.
#[inline]
fn read_cell(json: &mut Json<'_>, cells: &mut Cells, rules: &FieldRules, scratch: &mut Vec<u8>) -> Result<(), Fail> {
    let (at, len) = (json.at, cells.len());
    match read_value(json, cells, rules, scratch) {
        Err(Fail::Field(_)) if rules.ignore_parse_errors => {
            json.at = at;
            json.skip_value()?;
            cells.truncate(len);
            Ok(cells.push_null()?)
        }
        done => done,
    }
}

#[inline]
fn read_value(json: &mut Json<'_>, cells: &mut Cells, rules: &FieldRules, scratch: &mut Vec<u8>) -> Result<(), Fail> {
    match json.peek() {
        b'"' => {
            if let Values::Text { data, .. } = &mut cells.values {
                let ascii = json.string_into(data)?;
                return Ok(cells.end_text(ascii)?);
            }
            scratch.clear();
            json.string_into(scratch)?;
            Ok(cells.push_text(scratch)?)
        }
        b'-' | b'0'..=b'9' => read_number(json, cells),
        b'n' => {
            json.literal("null")?;
            Ok(cells.push_null()?)
        }
        b't' => {
            json.literal("true")?;
            push_boolean(cells, true)
        }
        b'f' => {
            json.literal("false")?;
            push_boolean(cells, false)
        }
        b'{' | b'[' => read_nested(json, cells, rules, scratch),
        0 if json.at >= json.bytes.len() => Ok(json.syntax("the record ends too early")?),
        _ => Ok(json.syntax("unexpected character")?),
    }
}

fn push_boolean(cells: &mut Cells, value: bool) -> Result<(), Fail> {
    if let Values::Boolean(v) = &mut cells.values {
        v.push(value);
        cells.pushed();
        return Ok(());
    }
    Ok(cells.push_text(if value { b"true" } else { b"false" })?)
}

#[inline]
fn read_number(json: &mut Json<'_>, cells: &mut Cells) -> Result<(), Fail> {
    if let Values::BigInt(_) | Values::Int(_) | Values::SmallInt(_) | Values::TinyInt(_) = &cells.values {
        // Up to 18 digits and nothing else: no need to look twice.
        let begin = json.at;
        let negative = json.peek() == b'-';
        json.at += usize::from(negative);
        let digits = json.at;
        let mut n = 0i64;
        while json.peek().wrapping_sub(b'0') <= 9 && json.at - digits < 18 {
            n = n * 10 + i64::from(json.peek() - b'0');
            json.at += 1;
        }
        if json.at > digits && !matches!(json.peek(), b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') {
            let n = if negative { -n } else { n };
            let text = &json.bytes[begin..json.at];
            return Ok(cells.push_integer(n, text)?);
        }
        json.at = begin;
    }
    let text = json.number();
    Ok(cells.push_text(text)?)
}

fn read_nested(json: &mut Json<'_>, cells: &mut Cells, rules: &FieldRules, scratch: &mut Vec<u8>) -> Result<(), Fail> {
    let begin = json.at;
    let opening = json.peek();
    match (&mut cells.values, opening) {
        (Values::Text { data, .. }, _) => {
            json.skip_value()?;
            compact_into(&json.bytes[begin..json.at], data);
            Ok(cells.end_text(false)?)
        }
        (Values::Array { items, .. }, b'[') => {
            json.at += 1;
            json.skip_space();
            if json.peek() == b']' {
                json.at += 1;
            } else {
                loop {
                    json.skip_space();
                    read_cell(json, items, rules, scratch)?;
                    json.skip_space();
                    match json.peek() {
                        b',' => json.at += 1,
                        b']' => {
                            json.at += 1;
                            break;
                        }
                        _ => return Ok(json.syntax("',' or ']' must stand here")?),
                    }
                }
            }
            Ok(cells.end_collection()?)
        }
        (Values::Map { keys, values, .. }, b'{') => {
            let end = read_map(json, keys, values, rules, scratch)?;
            json.at = end;
            Ok(cells.end_collection()?)
        }
        (Values::Row(_), b'{') => read_row(json, cells, rules, scratch),
        _ => {
            json.skip_value()?;
            Err(cells.not_a(&json.bytes[begin..json.at]).into())
        }
    }
}

/// The entries of an object as those of a map; of a key that comes twice the last one counts. Returns the end.
fn read_map(
    json: &mut Json<'_>,
    keys: &mut Cells,
    values: &mut Cells,
    rules: &FieldRules,
    scratch: &mut Vec<u8>,
) -> Result<usize, Fail> {
    let mut entries: Vec<(Vec<u8>, usize)> = vec![];
    let mut place_of: HashMap<Vec<u8>, usize> = HashMap::new();
    json.at += 1;
    json.skip_space();
    if json.peek() == b'}' {
        json.at += 1;
    } else {
        loop {
            json.skip_space();
            if json.peek() != b'"' {
                return Ok(json.syntax("a key in quotes must stand here")?);
            }
            let mut key = vec![];
            json.string_into(&mut key)?;
            json.skip_space();
            json.expect(b':', "':' must stand here")?;
            json.skip_space();
            match place_of.get(&key) {
                Some(place) => entries[*place].1 = json.at,
                None => {
                    place_of.insert(key.clone(), entries.len());
                    entries.push((key, json.at));
                }
            }
            json.skip_value()?;
            json.skip_space();
            match json.peek() {
                b',' => json.at += 1,
                b'}' => {
                    json.at += 1;
                    break;
                }
                _ => return Ok(json.syntax("',' or '}' must stand here")?),
            }
        }
    }
    let end = json.at;
    for (key, at) in entries {
        keys.push_text(&key)?;
        json.at = at;
        read_cell(json, values, rules, scratch)?;
    }
    Ok(end)
}

fn read_row(json: &mut Json<'_>, cells: &mut Cells, rules: &FieldRules, scratch: &mut Vec<u8>) -> Result<(), Fail> {
    let rows = cells.len();
    let (SqlType::Row(fields), Values::Row(columns)) = (&cells.ty, &mut cells.values) else {
        unreachable!("called for rows only");
    };
    json.at += 1;
    json.skip_space();
    if json.peek() == b'}' {
        json.at += 1;
    } else {
        let mut expected = 0;
        loop {
            json.skip_space();
            if json.peek() != b'"' {
                return Ok(json.syntax("a field name in quotes must stand here")?);
            }
            scratch.clear();
            json.string_into(scratch)?;
            let found = (0..fields.len())
                .map(|i| (expected + i) % fields.len())
                .find(|&i| fields[i].name.as_bytes() == scratch.as_slice());
            json.skip_space();
            json.expect(b':', "':' must stand here")?;
            json.skip_space();
            match found {
                Some(i) => {
                    columns[i].truncate(rows);
                    read_cell(json, &mut columns[i], rules, scratch)?;
                    expected = i + 1;
                }
                None => json.skip_value()?,
            }
            json.skip_space();
            match json.peek() {
                b',' => json.at += 1,
                b'}' => {
                    json.at += 1;
                    break;
                }
                _ => return Ok(json.syntax("',' or '}' must stand here")?),
            }
        }
    }
    for column in columns.iter_mut().filter(|c| c.len() == rows) {
        missing(column, rules)?;
    }
    cells.pushed();
    Ok(())
}
