//! A tick's net changes → staged records, checked for what the topic takes, on a worker.

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMillisecondType;
use thalweg_connector_api::{Encoder, RecordEnd, RowEncoder};
use thalweg_core::clock::now_us;
use thalweg_core::fold::{RowChanges, RowKind};
use thalweg_core::table::{ColumnKind, TableDef};
use thalweg_core::{Error, ErrorCode, Result, Tick};

use crate::columns::{Layout, Part};
use crate::facts::TopicFacts;
use crate::murmur2::partition_of;
use crate::options::Flavor;
use crate::record::{ChunkWriter, NewRecord};

/// What a batch of one message has beside key, value and headers, at most.
const OVERHEAD_BYTES: u64 = 128;
const SHOWN_KEY_BYTES: usize = 120;
/// Where rows go whose key is NULL and that may change.
const NO_KEY_PARTITION: u32 = 0;

struct Writing {
    encoder: Box<dyn RowEncoder>,
    ordinals: Vec<usize>,
    records: Vec<RecordEnd>,
}

impl Writing {
    fn new(part: &Part) -> Result<Self> {
        Ok(Writing { encoder: part.encoder()?, ordinals: part.ordinals.clone(), records: vec![] })
    }

    fn encode(&mut self, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        self.records.clear();
        let batch = rows.batch.project(&self.ordinals)?;
        self.encoder.encode_records(&rows.with_batch(batch), out, &mut self.records)
    }
}

/// What is written, and how.
pub struct Target<'a> {
    pub flavor: Flavor,
    pub table: &'a TableDef,
    pub topic: &'a str,
    pub layout: &'a Layout,
}

pub struct KafkaEncoder {
    /// For messages: `table orders: topic orders`.
    of: String,
    upsert: bool,
    key: Option<Writing>,
    value: Writing,
    timestamp: Option<usize>,
    headers: Option<usize>,
    /// Per column its name, if it is NOT NULL.
    not_null: Vec<Option<String>>,
    facts: TopicFacts,
    /// Rows change: those without key stay together, as they must stay in order.
    changes: bool,
    /// Of rows without key that only come: the next partition.
    next: u32,
    key_bytes: Vec<u8>,
    writer: ChunkWriter,
}

impl KafkaEncoder {
    /// `changes`: rows may be changed or taken back after they came.
    ///
    /// # Errors
    /// They do, and nothing would keep their changes in order.
    pub fn new(target: &Target<'_>, facts: TopicFacts, worker: usize, changes: bool) -> Result<Self> {
        let Target { flavor, table, topic, layout } = *target;
        let meta = |wanted: &str| {
            table
                .columns
                .iter()
                .position(|c| matches!(&c.kind, ColumnKind::Metadata { key, is_virtual: false } if key == wanted))
        };
        let is_written = |kind: &ColumnKind| !matches!(kind, ColumnKind::Metadata { is_virtual: true, .. });
        let not_null =
            table.columns.iter().map(|c| (!c.column.nullable && is_written(&c.kind)).then(|| c.column.name.clone()));
        let encoder = KafkaEncoder {
            of: format!("table {}: topic {topic}", table.name),
            upsert: flavor == Flavor::Upsert,
            key: layout.key.as_ref().map(Writing::new).transpose()?,
            value: Writing::new(&layout.value)?,
            timestamp: meta("timestamp"),
            headers: meta("headers"),
            not_null: not_null.collect(),
            // So that short ticks do not all begin with the same partition.
            next: worker as u32 % facts.partitions,
            facts,
            changes,
            key_bytes: vec![],
            writer: ChunkWriter::default(),
        };
        if changes && encoder.key.is_none() {
            encoder.check_changing()?;
        }
        Ok(encoder)
    }

    fn check_not_null(&self, batch: &RecordBatch) -> Result<()> {
        for (column, name) in batch.columns().iter().zip(&self.not_null) {
            if let (Some(name), true) = (name, column.null_count() > 0) {
                return Err(Error::row(format!("{}: NULL for column {name}, which is NOT NULL", self.of)));
            }
        }
        Ok(())
    }

    /// The records of all rows, of which `None` is a deletion's.
    fn encode_all(&mut self, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        self.key_bytes.clear();
        if let Some(key) = &mut self.key {
            let keys_only = RowChanges::inserts(rows.batch.clone());
            key.encode(&keys_only, &mut self.key_bytes).map_err(|e| e.context(&self.of))?;
        }
        let rows = &self.split_moved(rows);
        self.value.encode(rows, out).map_err(|e| e.context(&self.of))?;
        let facts = RowFacts::of(&rows.batch, self.timestamp, self.headers)?;
        let mut value_begin = 0;
        for i in 0..self.value.records.len() {
            let RecordEnd { end, row, is_null } = self.value.records[i];
            if self.key.is_none() && rows.kind(row as usize) != RowKind::Insert {
                self.check_changing()?;
            }
            self.push(row, (!is_null).then_some(end), value_begin, &facts)?;
            value_begin = end;
        }
        Ok(())
    }

    /// Of the rows of an upsert sink only what is there afterwards counts, or that nothing is.
    fn encode_upserts(&mut self, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        let rows = &without_old(rows)?;
        self.key_bytes.clear();
        if let Some(key) = &mut self.key {
            let keys_only = RowChanges::inserts(rows.batch.clone());
            key.encode(&keys_only, &mut self.key_bytes).map_err(|e| e.context(&self.of))?;
        }
        let is_delete = |row: usize| rows.kind(row) == RowKind::Delete;
        let there: Vec<u32> = (0..rows.num_rows() as u32).filter(|r| !is_delete(*r as usize)).collect();
        let values = if there.len() == rows.num_rows() {
            RowChanges::inserts(rows.batch.clone())
        } else {
            RowChanges::inserts(take_record_batch(&rows.batch, &UInt32Array::from(there))?)
        };
        self.value.encode(&values, out).map_err(|e| e.context(&self.of))?;
        let facts = RowFacts::of(&rows.batch, self.timestamp, self.headers)?;
        let (mut value_begin, mut next) = (0, 0);
        for row in 0..rows.num_rows() {
            let end = if is_delete(row) {
                None
            } else {
                let RecordEnd { end, is_null, .. } = self.value.records[next];
                next += 1;
                if is_null {
                    return Err(self.bad(
                        row as u32,
                        "a value of NULL would delete the row",
                        "give the table a value format that can hold NULL: json",
                    ));
                }
                Some(end)
            };
            self.push(row as u32, end, value_begin, &facts)?;
            value_begin = end.unwrap_or(value_begin);
        }
        Ok(())
    }

    /// The place of a row's key; `None`: it has none.
    fn key_range(&self, row: u32) -> Option<std::ops::Range<usize>> {
        let records = &self.key.as_ref()?.records;
        let record = records[row as usize];
        let begin = if row == 0 { 0 } else { records[row as usize - 1].end };
        (!record.is_null).then_some(begin..record.end)
    }

    /// An update whose key changes goes to two places: a delete there, an insert here.
    fn split_moved(&self, rows: &RowChanges) -> RowChanges {
        let Some(kinds) = &rows.kinds else { return rows.clone() };
        let mut split = None;
        for row in 1..rows.num_rows() {
            let is_pair = kinds[row - 1] == RowKind::UpdateBefore && kinds[row] == RowKind::UpdateAfter;
            let key = |row: usize| self.key_range(row as u32).map(|r| &self.key_bytes[r]);
            if is_pair && key(row - 1) != key(row) {
                let kinds = split.get_or_insert_with(|| kinds.clone());
                kinds[row - 1] = RowKind::Delete;
                kinds[row] = RowKind::Insert;
            }
        }
        RowChanges { batch: rows.batch.clone(), kinds: split.or_else(|| rows.kinds.clone()) }
    }

    fn check_changing(&self) -> Result<()> {
        if self.facts.partitions.get() == 1 {
            return Ok(());
        }
        Err(Error::option(format!(
            "{}: the query changes rows that it gave before, the messages have no keys, and the topic has {} partitions: changes of one row would overtake each other",
            self.of, self.facts.partitions
        ))
        .note("declare PRIMARY KEY (…) NOT ENFORCED, or set 'key.format' and 'key.fields'; or write to a topic with one partition"))
    }

    fn push(&mut self, row: u32, value_end: Option<usize>, value_begin: usize, facts: &RowFacts<'_>) -> Result<()> {
        let key = self.key_range(row);
        let headers_before = self.writer.header_bytes();
        facts.write_headers(row as usize, &mut self.writer);
        let partition = match &key {
            Some(range) => partition_of(&self.key_bytes[range.clone()], self.facts.partitions),
            None if self.upsert => {
                return Err(self.bad(row, "the key is NULL", "the primary key's column must not be NULL"));
            }
            None if self.facts.compacted => {
                return Err(self.bad(
                    row,
                    "the message has no key, and the topic is compacted (cleanup.policy)",
                    "set 'key.format' and 'key.fields', or declare a primary key",
                ));
            }
            // Spread in turn, a change would overtake the one before it.
            None if self.changes => NO_KEY_PARTITION,
            None => {
                let partition = self.next;
                self.next = (self.next + 1) % self.facts.partitions;
                partition
            }
        };
        let bytes = value_end.map_or(0, |end| end - value_begin)
            + key.as_ref().map_or(0, ExactSizeIterator::len)
            + (self.writer.header_bytes() - headers_before);
        if bytes as u64 + OVERHEAD_BYTES > self.facts.message_bytes_max {
            let limit = self.facts.message_bytes_max;
            return Err(self.bad(
                row,
                &format!("the message has {bytes} bytes, and the topic takes {limit} at most, its frame of {OVERHEAD_BYTES} included"),
                "raise the topic's max.message.bytes (and what consumers fetch), or write less",
            ));
        }
        let timestamp = facts.timestamp(row as usize);
        if let Some(ms) = timestamp {
            self.check_timestamp(row, ms, facts.now_ms)?;
        }
        let has_key = key.is_some();
        if let Some(range) = key {
            self.writer.keys.extend_from_slice(&self.key_bytes[range]);
        }
        self.writer.push(NewRecord { value_end, value_begin, has_key, partition, timestamp });
        Ok(())
    }

    fn check_timestamp(&self, row: u32, ms: i64, now_ms: i64) -> Result<()> {
        if self.facts.log_append_time {
            return Ok(());
        }
        let too_far = |ahead: i64, max: Option<i64>| max.is_some_and(|max| ahead > max);
        let why = if ms < 0 {
            format!("the timestamp is {ms} ms, before 1970")
        } else if too_far(ms - now_ms, self.facts.timestamp_after_max_ms) {
            format!(
                "the timestamp is {} ms ahead of the clock, which is more than message.timestamp.after.max.ms",
                ms - now_ms
            )
        } else if too_far(now_ms - ms, self.facts.timestamp_before_max_ms) {
            format!("the timestamp is {} ms old, which is more than message.timestamp.before.max.ms", now_ms - ms)
        } else {
            return Ok(());
        };
        Err(self.bad(row, &why, "change the topic's settings, or leave the timestamp to Kafka"))
    }

    fn bad(&self, row: u32, why: &str, cure: &str) -> Error {
        let key = self.key_range(row).map(|r| &self.key_bytes[r]);
        Error::new(ErrorCode::Row, format!("{}, {}: {why}", self.of, shown_key(key))).note(cure)
    }
}

/// A key as it can stand in a message.
pub fn shown_key(key: Option<&[u8]>) -> String {
    let Some(key) = key else { return "no key".to_owned() };
    let cut = &key[..key.len().min(SHOWN_KEY_BYTES)];
    let text = String::from_utf8_lossy(cut);
    let more = if cut.len() < key.len() { "…" } else { "" };
    format!("key {}{more}", text.escape_debug().to_string().replace("\\\"", "\""))
}

impl Encoder for KafkaEncoder {
    fn encode(&mut self, _tick: &Tick, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        self.check_not_null(&rows.batch)?;
        self.writer.clear();
        if self.upsert {
            self.encode_upserts(rows, out)?;
        } else {
            self.encode_all(rows, out)?;
        }
        self.writer.finish(out)
    }
}

/// Without the rows that an update replaces.
fn without_old(rows: &RowChanges) -> Result<RowChanges> {
    let Some(kinds) = &rows.kinds else { return Ok(rows.clone()) };
    let keep: Vec<u32> =
        (0u32..).zip(kinds).filter(|(_, k)| **k != RowKind::UpdateBefore).map(|(row, _)| row).collect();
    if keep.len() == kinds.len() {
        return Ok(rows.clone());
    }
    let kept = keep.iter().map(|r| kinds[*r as usize]).collect();
    Ok(RowChanges { batch: take_record_batch(&rows.batch, &UInt32Array::from(keep))?, kinds: Some(kept) })
}

/// The metadata that rows bring.
struct RowFacts<'a> {
    timestamps: Option<&'a arrow::array::PrimitiveArray<TimestampMillisecondType>>,
    headers: Option<&'a arrow::array::MapArray>,
    now_ms: i64,
}

impl<'a> RowFacts<'a> {
    fn of(batch: &'a RecordBatch, timestamp: Option<usize>, headers: Option<usize>) -> Result<Self> {
        let typed = |what: &str| Error::internal(format!("the metadata column for {what} has another type"));
        let timestamps = match timestamp {
            Some(i) => Some(batch.column(i).as_primitive_opt().ok_or_else(|| typed("timestamp"))?),
            None => None,
        };
        let headers = match headers {
            Some(i) => Some(batch.column(i).as_map_opt().ok_or_else(|| typed("headers"))?),
            None => None,
        };
        Ok(RowFacts { timestamps, headers, now_ms: now_us() / 1000 })
    }

    fn timestamp(&self, row: usize) -> Option<i64> {
        self.timestamps.filter(|t| t.is_valid(row)).map(|t| t.value(row))
    }

    fn write_headers(&self, row: usize, writer: &mut ChunkWriter) {
        let Some(map) = self.headers.filter(|h| h.is_valid(row)) else { return };
        let entries = map.value(row);
        let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_binary::<i32>());
        for i in 0..entries.len() {
            writer.header(names.value(i), values.is_valid(i).then(|| values.value(i)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use arrow::array::{Int32Array, StringArray};
    use thalweg_core::{SqlType, TickKind};

    use super::*;
    use crate::options::tests::table;
    use crate::record::Chunk;

    fn facts() -> TopicFacts {
        TopicFacts {
            topic_id: None,
            partitions: NonZeroU32::new(5).unwrap(),
            message_bytes_max: 1_000,
            compacted: false,
            log_append_time: false,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: None,
        }
    }

    fn encode(
        flavor: Flavor,
        key: &[usize],
        given: &[(&str, &str)],
        facts: TopicFacts,
        rows: &[(RowKind, i32, &str)],
    ) -> Result<Vec<(u32, Option<String>, Option<String>)>> {
        let changes = rows.iter().any(|r| r.0 != RowKind::Insert);
        encode_nullable(
            flavor,
            key,
            given,
            facts,
            changes,
            &rows.iter().map(|r| (r.0, r.1, Some(r.2))).collect::<Vec<_>>(),
        )
    }

    fn encode_nullable(
        flavor: Flavor,
        key: &[usize],
        given: &[(&str, &str)],
        facts: TopicFacts,
        changes: bool,
        rows: &[(RowKind, i32, Option<&str>)],
    ) -> Result<Vec<(u32, Option<String>, Option<String>)>> {
        let t = table(&[("id", SqlType::Int), ("v", SqlType::STRING)], key, given);
        let layout = Layout::of(flavor, &t)?;
        let target = Target { flavor, table: &t, topic: "topic", layout: &layout };
        let mut encoder = KafkaEncoder::new(&target, facts, 0, changes)?;
        let ids = Int32Array::from_iter_values(rows.iter().map(|r| r.1));
        let values = StringArray::from_iter(rows.iter().map(|r| r.2));
        let batch = RecordBatch::try_new(t.schema(), vec![Arc::new(ids), Arc::new(values)])?;
        let kinds = Some(rows.iter().map(|r| r.0).collect());
        let mut out = vec![];
        let tick = Tick { id: 1, kind: TickKind::Plain, wall_clock_us: 0 };
        encoder.encode(&tick, &RowChanges { batch, kinds }, &mut out)?;
        let chunk = Chunk::read(&out)?;
        let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8_lossy(b).into_owned());
        Ok((0..chunk.len()).map(|i| chunk.get(i)).map(|r| (r.partition, text(r.key), text(r.value))).collect())
    }

    const CHANGES: &[(&str, &str)] = &[("format", "debezium-json"), ("key.format", "raw"), ("key.fields", "v")];

    #[test]
    fn an_update_is_one_event_unless_its_key_changes() {
        use RowKind::*;
        let rows = [(UpdateBefore, 1, "a"), (UpdateAfter, 2, "a"), (UpdateBefore, 3, "a"), (UpdateAfter, 3, "b")];
        let found = encode(Flavor::Kafka, &[], CHANGES, facts(), &rows).unwrap();
        let n = facts().partitions;
        let at = |key: &str| partition_of(key.as_bytes(), n);
        let record = |key: &str, value: &str| (at(key), Some(key.to_owned()), Some(value.to_owned()));
        assert_eq!(
            found,
            [
                record("a", r#"{"before":{"id":1,"v":"a"},"after":{"id":2,"v":"a"},"op":"u"}"#),
                record("a", r#"{"before":{"id":3,"v":"a"},"after":null,"op":"d"}"#),
                record("b", r#"{"before":null,"after":{"id":3,"v":"b"},"op":"c"}"#),
            ]
        );
    }

    #[test]
    fn of_upserts_only_what_is_there_afterwards_is_written() {
        use RowKind::*;
        let given = &[("value.format", "json"), ("key.format", "json")];
        let rows = [(UpdateBefore, 1, "a"), (UpdateAfter, 1, "b"), (Delete, 2, "c"), (Insert, 3, "d")];
        let found = encode(Flavor::Upsert, &[0], given, facts(), &rows).unwrap();
        let values: Vec<_> = found.into_iter().map(|(_, key, value)| (key.unwrap(), value)).collect();
        let row = |id: i32, v: &str| Some(format!(r#"{{"id":{id},"v":"{v}"}}"#));
        let key = |id: i32| format!(r#"{{"id":{id}}}"#);
        assert_eq!(values, [(key(1), row(1, "b")), (key(2), None), (key(3), row(3, "d"))]);
    }

    #[test]
    fn rows_that_the_topic_cannot_take_are_named_by_their_key() {
        use RowKind::*;
        let e = encode(Flavor::Kafka, &[], CHANGES, facts(), &[(Insert, 1, &"x".repeat(900))]).unwrap_err();
        assert!(e.to_string().contains("takes 1000 at most") && e.to_string().contains("key xxx"), "{e}");
        let keyless = &[("format", "debezium-json")];
        let e = encode(Flavor::Kafka, &[], keyless, facts(), &[(Delete, 1, "a")]).unwrap_err();
        assert!(e.to_string().contains("5 partitions"), "{e}");
        // Before the first of them, if it is known that they come; also a sink that was told otherwise takes none.
        let e = encode_nullable(Flavor::Kafka, &[], keyless, facts(), true, &[]).unwrap_err();
        assert!(e.to_string().contains("5 partitions"), "{e}");
        let changed = [(Delete, 1, Some("a"))];
        let e = encode_nullable(Flavor::Kafka, &[], keyless, facts(), false, &changed).unwrap_err();
        assert!(e.to_string().contains("5 partitions"), "{e}");
        let one = TopicFacts { partitions: NonZeroU32::MIN, ..facts() };
        assert_eq!(encode_nullable(Flavor::Kafka, &[], keyless, one, true, &changed).unwrap().len(), 1);
        let compacted = TopicFacts { compacted: true, ..facts() };
        let e = encode(Flavor::Kafka, &[], keyless, compacted, &[(Insert, 1, "a")]).unwrap_err();
        assert!(e.to_string().contains("compacted"), "{e}");
    }

    #[test]
    fn rows_whose_key_is_null_stay_in_one_partition_where_rows_change() {
        use RowKind::*;
        let rows =
            [(Insert, 1, None), (UpdateBefore, 1, None), (UpdateAfter, 2, None), (Delete, 2, None), (Insert, 3, None)];
        let found = encode_nullable(Flavor::Kafka, &[], CHANGES, facts(), true, &rows).unwrap();
        assert!(found.iter().all(|r| r.1.is_none()), "{found:?}");
        assert_eq!(found.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 0, 0, 0]);
        // An update from no key to one is two messages.
        let found = encode_nullable(
            Flavor::Kafka,
            &[],
            CHANGES,
            facts(),
            true,
            &[(UpdateBefore, 1, None), (UpdateAfter, 1, Some("a"))],
        );
        let found: Vec<_> = found.unwrap().into_iter().map(|r| (r.0, r.1)).collect();
        assert_eq!(found, [(0, None), (partition_of(b"a", facts().partitions), Some("a".to_owned()))]);
        // Rows that only come are spread, as Java's producer spreads them.
        let rows: Vec<_> = (0..3).map(|i| (Insert, i, None)).collect();
        let found = encode_nullable(Flavor::Kafka, &[], CHANGES, facts(), false, &rows).unwrap();
        assert_eq!(found.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn rows_without_key_go_to_the_partitions_in_turn() {
        let rows: Vec<_> = (0..7).map(|i| (RowKind::Insert, i, "a")).collect();
        let found = encode(Flavor::Kafka, &[], &[("format", "json")], facts(), &rows).unwrap();
        assert_eq!(found.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 0, 1]);
    }
}
