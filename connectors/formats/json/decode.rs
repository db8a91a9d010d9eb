//! Lines of JSON → changes.

use memchr::memchr;
use thalweg_connector_api::Decoder;
use thalweg_connector_api::format::BadRecord;
use thalweg_core::{Changes, Error, Result};

use super::parse::Json;
use super::rows::{Fail, RowReader};
use crate::bad_row::bad_row;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One record a line: an object, an array of objects, or `null` (no row).
pub struct JsonDecoder {
    rows: RowReader,
    ignore_parse_errors: bool,
    /// Per row its record.
    record_of: Vec<u32>,
    records: u32,
    skipped: u64,
}

impl JsonDecoder {
    pub fn new(rows: RowReader, ignore_parse_errors: bool) -> Self {
        JsonDecoder { rows, ignore_parse_errors, record_of: vec![], records: 0, skipped: 0 }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fail> {
        let mut json = Json::new(line);
        json.skip_space();
        if json.bytes[json.at..].starts_with(BYTE_ORDER_MARK) {
            json.at += BYTE_ORDER_MARK.len();
            json.skip_space();
        }
        match json.peek() {
            b'{' => self.rows.read_object(&mut json)?,
            b'[' => {
                json.at += 1;
                json.skip_space();
                if json.peek() == b']' {
                    json.at += 1;
                } else {
                    loop {
                        json.skip_space();
                        self.rows.read_object(&mut json)?;
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
            }
            b'n' => json.literal("null")?,
            0 if json.at >= line.len() => return Ok(()),
            _ => return Ok(json.syntax("an object must stand here")?),
        }
        json.skip_space();
        if json.at < line.len() {
            return Ok(json.syntax("text behind the record")?);
        }
        Ok(())
    }

    /// One record and its rows, or what is wrong with it.
    fn one(&mut self, line: &[u8]) -> Result<(), Error> {
        let rows = self.rows.rows();
        if let Err(fail) = self.line(line) {
            self.rows.truncate(rows);
            if !self.ignore_parse_errors {
                return Err(bad_row("json", &fail.message(), line));
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

impl Decoder for JsonDecoder {
    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<usize, BadRecord> {
        let mut at = 0;
        let records_at_start = self.records;
        while self.rows.rows() < rows_max && at < bytes.len() {
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
        if record.trim_ascii().is_empty() {
            // Between lines it is nothing; a message that is empty was meant to say something.
            if !self.ignore_parse_errors {
                return Err(bad_row("json", "the record is empty", record).into());
            }
            self.skipped += 1;
            self.end_record();
            return Ok(());
        }
        Ok(self.one(record)?)
    }

    fn decode_null(&mut self) -> Result<(), BadRecord> {
        self.end_record();
        Ok(())
    }

    fn push_filler(&mut self) {
        self.rows.push_filler();
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
        self.record_of.reserve(record_of.len());
        Ok((Changes::inserts(self.rows.finish()?), record_of))
    }
}
