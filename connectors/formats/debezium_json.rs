//! `debezium-json`: change events, `{"before": {…}, "after": {…}, "op": "u"}`, one a line.

use memchr::memchr;
use thalweg_connector_api::format::BadRecord;
use thalweg_connector_api::{Decoder, Format, RowEncoder};
use thalweg_core::options::{OptionKind, OptionSpec};
use thalweg_core::table::{ChangelogMode, SinkMode, TableDef};
use thalweg_core::{Changes, Error, Result};

use crate::bad_row::{bad_row, shorten};
use crate::cells::Reject;
use crate::json::encode::{DebeziumEncoder, ObjectWriter};
use crate::json::parse::{Json, Syntax};
use crate::json::rows::{Fail, FieldRules, RowReader};
use crate::json::{
    IGNORE_NULL_FIELDS, IGNORE_PARSE_ERRORS, MAP_NULL_KEY_LITERAL, MAP_NULL_KEY_MODE, PLAIN_DECIMALS, TIMESTAMP_FORMAT,
    standard, write_rules,
};
use crate::{checked, no_such_columns};

pub struct DebeziumJson;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::with_default(
        "schema-include",
        OptionKind::Bool,
        "false",
        "the events were written with their schema: {\"schema\": …, \"payload\": …}",
    ),
    IGNORE_PARSE_ERRORS,
    TIMESTAMP_FORMAT,
    MAP_NULL_KEY_MODE,
    MAP_NULL_KEY_LITERAL,
    PLAIN_DECIMALS,
    IGNORE_NULL_FIELDS,
];

impl Format for DebeziumJson {
    fn name(&self) -> &'static str {
        "debezium-json"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn changelog(&self) -> ChangelogMode {
        ChangelogMode::Retract
    }

    fn accepts(&self) -> SinkMode {
        SinkMode::Retract
    }

    fn decoder(&self, table: &TableDef, columns: &[usize]) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(self.any_decoder(table, columns, None)?))
    }

    fn upsert_decoder(&self, table: &TableDef, columns: &[usize]) -> Result<Option<Box<dyn Decoder>>> {
        let place = |k: &usize| {
            columns.iter().position(|c| c == k).ok_or_else(|| Error::internal("upserts are read with their key"))
        };
        let key = table.primary_key.iter().map(place).collect::<Result<Vec<_>>>()?;
        Ok(Some(Box::new(self.any_decoder(table, columns, Some(key))?)))
    }

    fn encoder(&self, table: &TableDef) -> Result<Box<dyn RowEncoder>> {
        checked(self, table, |options| {
            if options.bool("schema-include") {
                return Err(Error::option(format!(
                    "table {}: 'debezium-json.schema-include' = 'true' is for reading; events are written without schema",
                    table.name
                )));
            }
            Ok(Box::new(DebeziumEncoder(ObjectWriter::new(table, write_rules(options)))) as Box<dyn RowEncoder>)
        })
    }
}

impl DebeziumJson {
    /// `key`: whoever reads keeps the rows; of what was before these columns are enough.
    fn any_decoder(&self, table: &TableDef, columns: &[usize], key: Option<Vec<usize>>) -> Result<DebeziumDecoder> {
        no_such_columns(table, columns)?;
        checked(self, table, |options| {
            let ignore_parse_errors = options.bool("ignore-parse-errors");
            let rules = FieldRules { ignore_parse_errors, fail_on_missing_field: false, standard: standard(options) };
            Ok(DebeziumDecoder {
                rows: RowReader::new(table, columns, rules)?,
                schema_include: options.bool("schema-include"),
                ignore_parse_errors,
                key,
                weights: vec![],
                record_of: vec![],
                records: 0,
                skipped: 0,
            })
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Image {
    Before,
    After,
}

/// What an envelope holds: where its images begin (`None`: null or not there) and its operation.
#[derive(Default)]
struct Envelope {
    before: Option<usize>,
    after: Option<usize>,
    /// Where the value of `op` begins.
    op: Option<usize>,
    has_payload: bool,
}

struct DebeziumDecoder {
    rows: RowReader,
    schema_include: bool,
    ignore_parse_errors: bool,
    /// Of what was before only these columns count; it may be left out of an update.
    key: Option<Vec<usize>>,
    weights: Vec<i64>,
    record_of: Vec<u32>,
    records: u32,
    skipped: u64,
}

impl DebeziumDecoder {
    fn line(&mut self, line: &[u8]) -> Result<(), Fail> {
        let mut json = Json::new(line);
        json.skip_space();
        match json.peek() {
            b'{' => {}
            0 if json.at >= line.len() => return Ok(()),
            // A tombstone: for compaction of a log, says nothing.
            b'n' => {
                json.literal("null")?;
                return at_end(&mut json);
            }
            _ => return Ok(json.syntax("an object must stand here")?),
        }
        let rows = self.rows.rows();
        if self.in_one_go(&mut json).is_ok_and(|done| done) && at_end(&mut json).is_ok() {
            return Ok(());
        }
        // Fields in an unusual order, images that the operation does not need, or something is wrong: look at the
        // envelope first, then at what it needs.
        self.rows.truncate(rows);
        self.weights.truncate(rows);
        self.in_two_steps(line)
    }

    /// Reads images as they come; false if they are not those of the operation, in order.
    fn in_one_go(&mut self, json: &mut Json<'_>) -> Result<bool, Fail> {
        if self.schema_include {
            let mut found: Option<usize> = None;
            let done = walk(json, |json, name| {
                if name == b"\"payload\"" && found.is_none() {
                    found = Some(json.at);
                    if json.peek() == b'{' {
                        return self.images(json);
                    }
                }
                Ok(json.skip_value().map(|()| true)?)
            })?;
            Ok(done && found.is_some())
        } else {
            self.images(json)
        }
    }

    fn read_image(&mut self, json: &mut Json<'_>, image: Image) -> Result<(), Fail> {
        if self.key.is_none() {
            return self.rows.read_object(json);
        }
        self.rows.only_key_counts(self.key.as_deref().filter(|_| image == Image::Before));
        self.rows.read_object(json)
    }

    fn images(&mut self, json: &mut Json<'_>) -> Result<bool, Fail> {
        let mut images = [None, None];
        let mut read = 0;
        let mut op = 0;
        walk(json, |json, name| {
            let image = match name {
                b"\"before\"" => Image::Before,
                b"\"after\"" => Image::After,
                b"\"op\"" => {
                    let begin = json.at;
                    json.skip_value()?;
                    op = if json.at - begin == 3 { json.bytes[begin + 1] } else { 0 };
                    return Ok(true);
                }
                _ => {
                    json.skip_value()?;
                    return Ok(true);
                }
            };
            if json.peek() == b'n' {
                json.literal("null")?;
                return Ok(true);
            }
            if read == 2 {
                return Ok(false);
            }
            self.read_image(json, image)?;
            images[read] = Some(image);
            read += 1;
            Ok(true)
        })?;
        let weights: &[i64] = match (op, images) {
            (b'c' | b'r', [Some(Image::After), None]) => &[1],
            (b'u', [Some(Image::Before), Some(Image::After)]) => &[-1, 1],
            (b'u', [Some(Image::After), None]) if self.key.is_some() => &[1],
            (b'd', [Some(Image::Before), None]) => &[-1],
            _ => return Ok(false),
        };
        self.weights.extend_from_slice(weights);
        Ok(true)
    }

    #[cold]
    fn in_two_steps(&mut self, line: &[u8]) -> Result<(), Fail> {
        let mut json = Json::new(line);
        json.skip_space();
        let mut begin = json.at;
        if self.schema_include {
            let mut payload = None;
            walk(&mut json, |json, name| {
                if name == b"\"payload\"" {
                    payload = Some(json.at);
                }
                Ok(json.skip_value().map(|()| true)?)
            })?;
            at_end(&mut json)?;
            begin = payload.ok_or_else(|| {
                reject("no field payload: was the event written without schema? ('debezium-json.schema-include' = 'false')")
            })?;
            json.at = begin;
            if json.peek() == b'n' {
                return Ok(());
            }
        }
        json.at = begin;
        let mut found = Envelope::default();
        walk(&mut json, |json, name| {
            let value = (json.peek() != b'n').then_some(json.at);
            match name {
                b"\"before\"" => found.before = value,
                b"\"after\"" => found.after = value,
                b"\"op\"" => found.op = value,
                b"\"payload\"" => found.has_payload = true,
                _ => {}
            }
            Ok(json.skip_value().map(|()| true)?)
        })?;
        if !self.schema_include {
            at_end(&mut json)?;
        }
        let Some(op_at) = found.op else {
            return Err(reject(if found.has_payload {
                "no field op, but a payload: was the event written with its schema? ('debezium-json.schema-include' = 'true')"
            } else {
                "no field op: this is not a Debezium event"
            }));
        };
        json.at = op_at;
        json.skip_value()?;
        let op = &line[op_at..json.at];
        let needs: &[(Image, i64)] = match op {
            b"\"c\"" | b"\"r\"" => &[(Image::After, 1)],
            b"\"u\"" if self.key.is_some() && found.before.is_none() => &[(Image::After, 1)],
            b"\"u\"" => &[(Image::Before, -1), (Image::After, 1)],
            b"\"d\"" => &[(Image::Before, -1)],
            _ => return Err(reject(format!("operation {} is none of c, r, u, d", shorten(op)))),
        };
        for (image, weight) in needs {
            let at = match image {
                Image::Before => found.before.ok_or_else(|| {
                    reject(format!(
                        "the event of operation {} has no before-image, so the row that it ends is not known; \
                         have the database log whole rows (PostgreSQL: ALTER TABLE … REPLICA IDENTITY FULL; \
                         MySQL: binlog_row_image = FULL)",
                        shorten(op)
                    ))
                })?,
                Image::After => found
                    .after
                    .ok_or_else(|| reject(format!("the event of operation {} has no field after", shorten(op))))?,
            };
            json.at = at;
            self.read_image(&mut json, *image)?;
            self.weights.push(*weight);
        }
        Ok(())
    }
}

impl DebeziumDecoder {
    /// One record and its rows, or what is wrong with it.
    fn one(&mut self, line: &[u8]) -> Result<(), Error> {
        let rows = self.rows.rows();
        if let Err(fail) = self.line(line) {
            self.rows.truncate(rows);
            self.weights.truncate(rows);
            if !self.ignore_parse_errors {
                return Err(bad_row("debezium-json", &fail.message(), line));
            }
            self.skipped += 1;
        }
        self.end_record();
        Ok(())
    }

    fn end_record(&mut self) {
        self.record_of.resize(self.rows.rows(), self.records);
        self.records += 1;
    }
}

fn reject(message: impl Into<Box<str>>) -> Fail {
    Fail::Field(Reject(message.into()))
}

fn at_end(json: &mut Json<'_>) -> Result<(), Fail> {
    json.skip_space();
    if json.at < json.bytes.len() { Ok(json.syntax("text behind the record")?) } else { Ok(()) }
}

/// Walks over the fields of an object, at its opening brace. `field` gets the name in its quotes, stands at the
/// value, and must pass over it; if it says false the walk ends there and says so too.
fn walk<'a>(
    json: &mut Json<'a>,
    mut field: impl FnMut(&mut Json<'a>, &[u8]) -> Result<bool, Fail>,
) -> Result<bool, Fail> {
    json.expect(b'{', "an object must stand here")?;
    json.skip_space();
    if json.peek() == b'}' {
        json.at += 1;
        return Ok(true);
    }
    loop {
        if json.peek() != b'"' {
            return Ok(json.syntax("a field name in quotes must stand here")?);
        }
        let begin = json.at;
        json.skip_string()?;
        let name = &json.bytes[begin..json.at];
        json.skip_space();
        json.expect(b':', "':' must stand here")?;
        json.skip_space();
        if !field(json, name)? {
            return Ok(false);
        }
        json.skip_space();
        match json.peek() {
            b',' => json.at += 1,
            b'}' => {
                json.at += 1;
                return Ok(true);
            }
            _ => return Err(Fail::Syntax(Syntax { at: json.at, why: "',' or '}' must stand here" })),
        }
        json.skip_space();
    }
}

impl Decoder for DebeziumDecoder {
    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<usize, BadRecord> {
        let mut at = 0;
        let records_at_start = self.records;
        // An update is two rows, and they stay together.
        while (self.rows.rows() == 0 || self.rows.rows() + 1 < rows_max) && at < bytes.len() {
            let rest = &bytes[at..];
            let (line, used) = match memchr(b'\n', rest) {
                Some(n) => (&rest[..n], n + 1),
                None if last => (rest, rest.len()),
                None => break,
            };
            if let Err(error) = self.one(line) {
                let records_before = u64::from(self.records - records_at_start);
                return Err(BadRecord { offset: at, records_before, error });
            }
            at += used;
        }
        Ok(at)
    }

    fn decode_record(&mut self, record: &[u8]) -> Result<(), BadRecord> {
        Ok(self.one(record)?)
    }

    fn decode_null(&mut self) -> Result<(), BadRecord> {
        self.end_record();
        Ok(())
    }

    fn push_filler(&mut self) {
        self.rows.push_filler();
        self.weights.push(1);
        self.end_record();
    }

    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn records(&self) -> u64 {
        u64::from(self.records)
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }

    fn finish(&mut self) -> Result<(Changes, Vec<u32>)> {
        self.records = 0;
        let record_of = std::mem::take(&mut self.record_of);
        let weights = std::mem::take(&mut self.weights);
        let weights = weights.iter().any(|w| *w != 1).then(|| weights.into());
        Ok((Changes::new(self.rows.finish()?, weights), record_of))
    }
}
