//! CSV records → changes.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use memchr::{memchr, memchr_iter, memmem};
use thalweg_connector_api::Decoder;
use thalweg_connector_api::format::BadRecord;
use thalweg_core::nearest::did_you_mean;
use thalweg_core::table::TableDef;
use thalweg_core::types::to_schema;
use thalweg_core::{Changes, Error, Result};

use super::Rules;
use crate::bad_row::{bad_row, shorten};
use crate::cells::{Cells, Reject, Values};
use crate::physical;
use crate::scan::{find2, find3};
use crate::time::Standard;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub struct CsvDecoder {
    rules: Rules,
    schema: SchemaRef,
    cells: Vec<Cells>,
    /// Names of the table's physical columns, and which of `cells` each is.
    columns: Vec<(String, Option<usize>)>,
    /// Per field of a record which of `cells` it is.
    fields: Vec<Option<usize>>,
    rows: usize,
    record_of: Vec<u32>,
    /// Lines begun: what a person looks for.
    lines: u32,
    skipped: u64,
    scratch: Vec<u8>,
}

/// How a record ended.
struct Record {
    /// Behind its line end.
    end: usize,
    lines: u32,
    bad: Option<Reject>,
}

impl CsvDecoder {
    pub fn new(table: &TableDef, columns: &[usize], rules: Rules) -> Result<Self> {
        let of = |i: usize| &table.columns[i].column;
        let cell = |i: &usize| Cells::new(&of(*i).name, &of(*i).ty, of(*i).nullable, Standard::Sql);
        let column = |i: usize| (of(i).name.clone(), columns.iter().position(|c| *c == i));
        let all: Vec<_> = physical(table).into_iter().map(column).collect();
        Ok(CsvDecoder {
            rules,
            schema: to_schema(columns.iter().map(|c| of(*c))),
            cells: columns.iter().map(cell).collect::<Result<_>>()?,
            fields: all.iter().map(|(_, cell)| *cell).collect(),
            columns: all,
            rows: 0,
            record_of: vec![],
            lines: 0,
            skipped: 0,
            scratch: vec![],
        })
    }

    fn truncate(&mut self) {
        let rows = self.rows;
        self.cells.iter_mut().for_each(|c| c.truncate(rows));
    }

    /// One record from `begin` on; `None` if `bytes` does not hold it whole. After a bad one, or none, the caller
    /// must `truncate`.
    fn record(&mut self, bytes: &[u8], begin: usize, last: bool) -> Option<Record> {
        let delimiter = self.rules.delimiter;
        let (mut at, mut field, mut lines) = (begin, 0, 1);
        let mut bad: Option<Reject> = None;
        loop {
            let text: &[u8];
            // What the null literal is compared with: it is never quoted, and stands before escapes are resolved.
            let mut raw: Option<&[u8]> = None;
            let mut ascii = false;
            match self.rules.quote {
                Some(quote) if bytes.get(at) == Some(&quote) => {
                    let Some((content, end, newlines)) = self.quoted(bytes, at, quote) else {
                        if !last {
                            return None;
                        }
                        // Only this line is given up: what follows may be sound.
                        let end = memchr(b'\n', &bytes[begin..]).map_or(bytes.len(), |n| begin + n + 1);
                        return Some(Record { end, lines: 1, bad: Some(Reject("a quoted field does not end".into())) });
                    };
                    lines += newlines;
                    at = end;
                    while bytes.get(at) == Some(&b' ') && delimiter != b' ' {
                        at += 1;
                    }
                    text = match content {
                        Some((from, to)) => &bytes[from..to],
                        None => &self.scratch,
                    };
                    let rest = match bytes.get(at) {
                        None | Some(b'\n' | b'\r') => true,
                        Some(c) => *c == delimiter,
                    };
                    if !rest {
                        bad.get_or_insert(Reject("text behind a quoted field".into()));
                        at = find2(bytes, at, delimiter, b'\n').0;
                    }
                }
                _ => {
                    let (end, all_ascii) = match self.rules.escape {
                        None => find2(bytes, at, delimiter, b'\n'),
                        Some(escape) => {
                            let found = find3(bytes, at, delimiter, b'\n', escape);
                            if bytes.get(found.0) == Some(&escape) {
                                (self.escaped(bytes, at, escape), false)
                            } else {
                                found
                            }
                        }
                    };
                    ascii = all_ascii;
                    let has_escapes = self.rules.escape.is_some_and(|e| memchr(e, &bytes[at..end]).is_some());
                    let begin = at;
                    at = end;
                    let cut = end > begin && bytes[end - 1] == b'\r' && bytes.get(end) != Some(&delimiter);
                    let plain = &bytes[begin..end - usize::from(cut)];
                    raw = Some(plain);
                    text = if has_escapes {
                        let length = self.scratch.len() - usize::from(cut);
                        &self.scratch[..length]
                    } else {
                        plain
                    };
                }
            }
            if at >= bytes.len() && !last {
                return None;
            }
            if bad.is_none() {
                match self.fields.get(field) {
                    Some(Some(cell)) => {
                        let cells = &mut self.cells[*cell];
                        if let Err(reject) = push_field(cells, text, raw, ascii, &self.rules) {
                            cells.truncate(self.rows);
                            if !self.rules.ignore_parse_errors || cells.push_null().is_err() {
                                bad = Some(reject);
                            }
                        }
                    }
                    Some(None) => {}
                    None => {
                        let columns = self.fields.len();
                        bad = Some(Reject(format!("more fields than the {columns} columns of the table").into()));
                    }
                }
            }
            field += 1;
            if bytes.get(at) == Some(&delimiter) {
                at += 1;
                continue;
            }
            // \r\n behind a quoted field; a lone \r there ends a line too.
            if bytes.get(at) == Some(&b'\r') {
                at += 1;
            }
            if bytes.get(at) == Some(&b'\n') {
                at += 1;
            } else if at >= bytes.len() && !last {
                return None;
            }
            break;
        }
        if bad.is_none() && field < self.fields.len() {
            if self.rules.ignore_parse_errors {
                for cell in self.fields[field..].iter().flatten() {
                    if let Err(reject) = self.cells[*cell].push_null() {
                        bad = Some(reject);
                        break;
                    }
                }
            } else {
                let columns = self.fields.len();
                let noun = if field == 1 { "field" } else { "fields" };
                bad = Some(Reject(format!("{field} {noun} for {columns} columns").into()));
            }
        }
        Some(Record { end: at, lines, bad })
    }

    /// A quoted field, at its opening quote: where its content lies (`None`: in `scratch`, as it holds escapes), the
    /// place behind the closing quote, line ends within. `None` if it does not end.
    #[inline]
    fn quoted(&mut self, bytes: &[u8], at: usize, quote: u8) -> Option<(Option<(usize, usize)>, usize, u32)> {
        let begin = at + 1;
        let escape = self.rules.escape.unwrap_or(quote);
        let (end, _) = find2(bytes, begin, quote, escape);
        let newlines = |from: usize, to: usize| memchr_iter(b'\n', &bytes[from..to]).count() as u32;
        if bytes.get(end) == Some(&quote) && bytes.get(end + 1) != Some(&quote) {
            return Some((Some((begin, end)), end + 1, newlines(begin, end)));
        }
        self.scratch.clear();
        let (mut from, mut at) = (begin, end);
        loop {
            let c = *bytes.get(at)?;
            self.scratch.extend_from_slice(&bytes[from..at]);
            if c == quote && bytes.get(at + 1) != Some(&quote) {
                return Some((None, at + 1, newlines(begin, at)));
            }
            let next = *bytes.get(at + 1)?;
            self.scratch.push(if c == quote { quote } else { unescaped(next) });
            from = at + 2;
            at = find2(bytes, from, quote, escape).0;
        }
    }

    /// An unquoted field that holds escapes, unescaped into `scratch`; the place of what ends it.
    #[cold]
    fn escaped(&mut self, bytes: &[u8], mut at: usize, escape: u8) -> usize {
        self.scratch.clear();
        loop {
            let (end, _) = find3(bytes, at, self.rules.delimiter, b'\n', escape);
            self.scratch.extend_from_slice(&bytes[at..end]);
            match (bytes.get(end), bytes.get(end + 1)) {
                (Some(c), Some(next)) if *c == escape => {
                    self.scratch.push(unescaped(*next));
                    at = end + 2;
                }
                (Some(c), None) if *c == escape => return bytes.len(),
                _ => return end,
            }
        }
    }
}

/// What stands behind an escape character, as Jackson reads it.
fn unescaped(c: u8) -> u8 {
    match c {
        b'0' => 0,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        c => c,
    }
}

#[inline]
fn push_field(cells: &mut Cells, text: &[u8], raw: Option<&[u8]>, ascii: bool, rules: &Rules) -> Result<(), Reject> {
    if raw.is_some_and(|raw| is_null(cells, raw, rules)) {
        return cells.push_null();
    }
    match &mut cells.values {
        Values::Text { data, .. } => {
            data.extend_from_slice(text);
            cells.end_text(ascii)
        }
        Values::Array { items, .. } => {
            if !text.is_empty() {
                for part in split(text, &rules.element_delimiter) {
                    push_part(items, part, rules)?;
                }
            }
            cells.end_collection()
        }
        Values::Row(columns) => {
            let mut parts = split(text, &rules.element_delimiter);
            for column in columns.iter_mut() {
                let Some(part) = parts.next() else { return Err(cells.not_a(text)) };
                push_part(column, part, rules)?;
            }
            if parts.next().is_some() {
                return Err(cells.not_a(text));
            }
            cells.pushed();
            Ok(())
        }
        _ => cells.push_text(text),
    }
}

fn push_part(cells: &mut Cells, text: &[u8], rules: &Rules) -> Result<(), Reject> {
    if is_null(cells, text, rules) { cells.push_null() } else { cells.push_text(text) }
}

#[inline(always)]
fn is_null(cells: &Cells, text: &[u8], rules: &Rules) -> bool {
    match &rules.null_literal {
        Some(literal) if text == literal.as_slice() => true,
        _ => text.is_empty() && !matches!(cells.values, Values::Text { .. }),
    }
}

fn split<'a>(text: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match memmem::find(text, delimiter) {
            Some(at) => {
                rest = Some(&text[at + delimiter.len()..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

impl Decoder for CsvDecoder {
    fn has_header(&self) -> bool {
        self.rules.header
    }

    fn read_header(&mut self, bytes: &[u8], last: bool) -> Result<Option<usize>> {
        if !self.rules.header {
            return Ok(Some(0));
        }
        let line_end = match memchr(b'\n', bytes) {
            Some(n) => n + 1,
            None if last => bytes.len(),
            None => return Ok(None),
        };
        let line = &bytes[..line_end];
        let mut at = if line.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let mut names: Vec<String> = vec![];
        while !line[at..].trim_ascii().is_empty() || !names.is_empty() {
            let quoted = self.rules.quote.filter(|q| line.get(at) == Some(q));
            let field = quoted.and_then(|quote| self.quoted(line, at, quote));
            let name = match field {
                Some((content, end, _)) => {
                    at = end;
                    String::from_utf8_lossy(content.map_or(&self.scratch, |(from, to)| &line[from..to])).into_owned()
                }
                None => {
                    let end = find2(line, at, self.rules.delimiter, b'\n').0;
                    let name = String::from_utf8_lossy(line[at..end].trim_ascii()).into_owned();
                    at = end;
                    name
                }
            };
            names.push(name);
            if line.get(at) != Some(&self.rules.delimiter) {
                break;
            }
            at += 1;
        }
        if names.is_empty() {
            // An empty file has no rows, and no header that could be wrong.
            return if last && line.trim_ascii().is_empty() {
                Ok(Some(line_end))
            } else {
                Err(Error::row("the header line is empty ('csv.header' = 'true')"))
            };
        }
        self.fields = names
            .iter()
            .map(|n| {
                self.columns
                    .iter()
                    .find(|(c, _)| c == n)
                    .or_else(|| self.columns.iter().find(|(c, _)| c.eq_ignore_ascii_case(n)))
            })
            .map(|found| found.and_then(|(_, cell)| *cell))
            .collect();
        for (name, cell) in &self.columns {
            if cell.is_some_and(|c| self.fields.iter().filter(|f| **f == Some(c)).count() != 1) {
                return Err(Error::row(format!("the header line does not name column {name} exactly once"))
                    .propose(did_you_mean(name, names.iter().map(String::as_str)))
                    .note(format!("header: {}", shorten(line.trim_ascii()))));
            }
        }
        Ok(Some(line_end))
    }

    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<usize, BadRecord> {
        let mut at = 0;
        let lines_at_start = self.lines;
        while self.rows < rows_max && at < bytes.len() {
            let rest = &bytes[at..];
            let comment = self.rules.comments && rest[0] == b'#';
            // A blank line is no record, but of a table with one column it is an empty field.
            let blank = rest[0] == b'\n' || rest.starts_with(b"\r\n");
            if comment || (blank && self.fields.len() != 1) {
                match memchr(b'\n', rest) {
                    Some(n) => at += n + 1,
                    None if last => at = bytes.len(),
                    None => break,
                }
                self.lines += 1;
                continue;
            }
            let Some(record) = self.record(bytes, at, last) else {
                self.truncate();
                break;
            };
            match record.bad {
                None => {
                    self.rows += 1;
                    self.record_of.push(self.lines);
                }
                Some(Reject(why)) => {
                    self.truncate();
                    if !self.rules.ignore_parse_errors {
                        let records_before = u64::from(self.lines - lines_at_start);
                        let error = bad_row("csv", &why, &bytes[at..record.end]);
                        return Err(BadRecord { offset: at, records_before, error });
                    }
                    self.skipped += 1;
                }
            }
            self.lines += record.lines;
            at = record.end;
        }
        Ok(at)
    }

    fn decode_record(&mut self, record: &[u8]) -> Result<(), BadRecord> {
        if self.rules.comments && record.first() == Some(&b'#') {
            self.lines += 1;
            return Ok(());
        }
        let (end, mut bad) = match self.record(record, 0, true) {
            Some(found) => (found.end, found.bad),
            None => (0, Some(Reject("the record does not end".into()))),
        };
        if bad.is_none() && end < record.len() {
            bad = Some(Reject("text behind the record: a message holds one record".into()));
        }
        match bad {
            None => {
                self.rows += 1;
                self.record_of.push(self.lines);
            }
            Some(Reject(why)) => {
                self.truncate();
                if !self.rules.ignore_parse_errors {
                    return Err(bad_row("csv", &why, record).into());
                }
                self.skipped += 1;
            }
        }
        self.lines += 1;
        Ok(())
    }

    fn decode_null(&mut self) -> Result<(), BadRecord> {
        self.lines += 1;
        Ok(())
    }

    fn push_filler(&mut self) {
        self.cells.iter_mut().for_each(Cells::push_meaningless);
        self.rows += 1;
        self.record_of.push(self.lines);
        self.lines += 1;
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn records(&self) -> u64 {
        u64::from(self.lines)
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn finish(&mut self) -> Result<(Changes, Vec<u32>)> {
        self.lines = 0;
        let rows = std::mem::take(&mut self.rows);
        let columns = self.cells.iter_mut().map(Cells::finish).collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok((Changes::inserts(batch), std::mem::take(&mut self.record_of)))
    }
}
