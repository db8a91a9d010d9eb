//! Formats: bytes ↔ columns. A format knows nothing of where the bytes come from.

use thalweg_core::fold::RowChanges;
use thalweg_core::options::OptionSpec;
use thalweg_core::table::{ChangelogMode, SinkMode, TableDef};
use thalweg_core::{Changes, Result};

/// A format by name: `json`, `csv`, `debezium-json`.
pub trait Format: Send + Sync {
    fn name(&self) -> &'static str;

    /// Options without the format's own prefix: `ignore-parse-errors`, written `'json.ignore-parse-errors'`.
    fn options(&self) -> &'static [OptionSpec];

    /// What the rows of a table in this format are.
    fn changelog(&self) -> ChangelogMode;

    /// What changes can be written in this format.
    fn accepts(&self) -> SinkMode;

    /// Decodes the physical columns of `table` at the ordinals `columns` (within `table.columns`, ascending).
    fn decoder(&self, table: &TableDef, columns: &[usize]) -> Result<Box<dyn Decoder>>;

    /// As `decoder`, for a reader that keeps the current row of every key itself (a normalize operator): an update gives
    /// +1 of what the row is now, with -1 of what it was before it, if the record says it; a delete needs the columns of
    /// the table's primary key alone, the others of its row mean nothing. `None`: the format has no updates and deletes.
    fn upsert_decoder(&self, table: &TableDef, columns: &[usize]) -> Result<Option<Box<dyn Decoder>>> {
        let _ = (table, columns);
        Ok(None)
    }

    /// Encodes the physical columns of `table`.
    fn encoder(&self, table: &TableDef) -> Result<Box<dyn RowEncoder>>;
}

/// Bytes → columns. Keeps open builders between calls; not bound to a source.
pub trait Decoder: Send {
    /// Decodes records from the start of `bytes`, at most `rows_max` rows; returns how many bytes were used up.
    /// Without `last`, a record that `bytes` does not hold whole is left for the next call. A bad record is skipped
    /// and counted under `ignore-parse-errors`, else an error of code `Row` with the record's text, shortened;
    /// `BadRecord` tells where it began.
    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<usize, BadRecord>;

    /// Decodes one record whose ends the caller knows (a message's value): it may hold line ends, and must not hold
    /// another record. As `decode` in all else.
    fn decode_record(&mut self, record: &[u8]) -> Result<(), BadRecord>;

    /// A record that has no value at all: no row, but of format `raw` one with NULL. Counted among `records`.
    fn decode_null(&mut self) -> Result<(), BadRecord>;

    /// A record that becomes one row of no meaning (NULL, or zero where the column is NOT NULL): the place of a
    /// deletion's value. Counted among `records`.
    fn push_filler(&mut self);

    /// Rows in the builders now.
    fn rows(&self) -> usize;

    /// Whether files in this format begin with a header that must be read before the first record.
    fn has_header(&self) -> bool {
        false
    }

    /// Takes a file's header from its first bytes, also when the file is read on in its middle; returns how many
    /// bytes it has, `None` if `bytes` does not hold it whole (never so with `last`).
    fn read_header(&mut self, bytes: &[u8], last: bool) -> Result<Option<usize>> {
        let _ = (bytes, last);
        Ok(Some(0))
    }

    /// Records begun since the last `finish` (lines, where the format has lines: for messages), bad and empty ones
    /// included.
    fn records(&self) -> u64;

    /// Rows skipped under `ignore-parse-errors` since the start.
    fn skipped(&self) -> u64;

    /// The decoded rows; the builders are empty after. Per row: the index of the record that it came from, counted
    /// from the last `finish` (an update of a changelog format gives two rows of one record).
    fn finish(&mut self) -> Result<(Changes, Vec<u32>)>;
}

/// A record that cannot be decoded.
#[derive(Debug)]
pub struct BadRecord {
    /// Offset within the bytes given to `decode` at which the record begins.
    pub offset: usize,
    /// Records decoded or skipped in this call before it.
    pub records_before: u64,
    pub error: thalweg_core::Error,
}

/// Of the only record of a call.
impl From<thalweg_core::Error> for BadRecord {
    fn from(error: thalweg_core::Error) -> Self {
        BadRecord { offset: 0, records_before: 0, error }
    }
}

/// Columns → bytes.
pub trait RowEncoder: Send {
    /// Appends every row, as records with their line ends, where the format has lines.
    fn encode(&mut self, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()>;

    /// Appends every row, as records without line ends, and to `records` where each of them ends.
    fn encode_records(&mut self, rows: &RowChanges, out: &mut Vec<u8>, records: &mut Vec<RecordEnd>) -> Result<()>;

    /// What a file begins with (a CSV header), if anything.
    fn header(&self) -> Option<Vec<u8>> {
        None
    }
}

/// A record in a buffer: it begins where the one before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordEnd {
    /// Length of the buffer behind the record.
    pub end: usize,
    /// The row that it was made of; of an update, which is two rows, the last.
    pub row: u32,
    /// Not even empty: the record has no value.
    pub is_null: bool,
}
