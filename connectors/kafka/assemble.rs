//! Messages → the columns of a table. Values and keys go straight into the builders of their formats; what Kafka itself
//! knows of a message is added per row.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int32Array, Int64Array, MapBuilder, MapFieldNames, RecordBatch,
    RecordBatchOptions, StringArray, StringBuilder, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use thalweg_connector_api::{Decoder, SourceTable};
use thalweg_core::table::{ChangelogMode, ColumnKind};
use thalweg_core::{Changes, Error, Result};

use crate::columns::Layout;
use crate::message::Message;
use crate::options::Flavor;

/// The hidden order column, from its highest bits: offset, index of the row within its message, and the lowest bits of
/// the partition, between which there is no order.
const OFFSET_BITS: u32 = 44;
const INDEX_BITS: u32 = 13;
const PARTITION_BITS: u32 = 6;
const _: () = assert!(OFFSET_BITS + INDEX_BITS + PARTITION_BITS == 63);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meta {
    Topic,
    Partition,
    Headers,
    LeaderEpoch,
    Offset,
    Timestamp,
    TimestampType,
}

/// Where an output column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// Index within the value decoder's columns.
    Value(usize),
    /// Index within the key decoder's columns.
    Key(usize),
    Meta(Meta),
}

/// What is kept of the messages of a piece, as far as it is asked for.
#[derive(Default)]
struct Facts {
    topics: Vec<u32>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    timestamp_types: Vec<&'static str>,
    epochs: Vec<Option<i32>>,
    headers: Vec<Vec<(String, Option<Vec<u8>>)>>,
}

pub struct Assembly {
    schema: SchemaRef,
    outputs: Vec<Output>,
    with_order: bool,
    upsert: bool,
    is_json: bool,
    value: Box<dyn Decoder>,
    /// Only if columns of it are wanted, or it says which row is meant.
    key: Option<Box<dyn Decoder>>,
    /// A NOT NULL column of the key, if there is one.
    key_needed: Option<String>,
    facts: Facts,
    wants: Wants,
    messages: usize,
    /// Of what is kept of them: values, and keys and headers where they are asked for.
    bytes: usize,
    /// Messages that delete the row of their key.
    deletes: Vec<u32>,
    /// Messages whose key could not be read, under `ignore-parse-errors`.
    dropped: Vec<u32>,
    /// Estimated bytes of a row beside its text.
    pub row_bytes: usize,
    /// Rows that a message may become, usually.
    pub rows_per_message: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Wants {
    topic: bool,
    position: bool,
    timestamp: bool,
    epoch: bool,
    headers: bool,
}

impl Assembly {
    /// `upserts`: the table comes as upserts (a normalize operator stands behind it).
    pub fn new(flavor: Flavor, table: &SourceTable, layout: &Layout, upserts: bool) -> Result<Self> {
        let def = &table.def;
        let is_upsert = flavor == Flavor::Upsert;
        // Of upserts the key says which row is meant, also where its columns stand in the value too.
        let of_key = |i: &usize| (layout.key_apart || is_upsert) && layout.key_ordinals().contains(i);
        let physical = |i: &&usize| def.columns[**i].kind == ColumnKind::Physical;
        let in_key: Vec<usize> = table.columns.iter().filter(physical).copied().filter(of_key).collect();
        let in_value: Vec<usize> = table.columns.iter().filter(physical).copied().filter(|i| !of_key(i)).collect();
        let place = |list: &[usize], i: usize| list.iter().position(|c| *c == i);
        let mut wants = Wants { position: table.with_order, ..Wants::default() };
        let mut outputs = vec![];
        for i in &table.columns {
            outputs.push(match &def.columns[*i].kind {
                ColumnKind::Physical => match (place(&in_key, *i), place(&in_value, *i)) {
                    (Some(k), _) => Output::Key(k),
                    (None, Some(v)) => Output::Value(v),
                    (None, None) => {
                        return Err(Error::internal("a column that is neither in the key nor in the value"));
                    }
                },
                ColumnKind::Metadata { key, .. } => Output::Meta(match key.as_str() {
                    "topic" => {
                        wants.topic = true;
                        Meta::Topic
                    }
                    "partition" => {
                        wants.position = true;
                        Meta::Partition
                    }
                    "offset" => {
                        wants.position = true;
                        Meta::Offset
                    }
                    "headers" => {
                        wants.headers = true;
                        Meta::Headers
                    }
                    "leader-epoch" => {
                        wants.epoch = true;
                        Meta::LeaderEpoch
                    }
                    "timestamp" => {
                        wants.timestamp = true;
                        Meta::Timestamp
                    }
                    "timestamp-type" => {
                        wants.timestamp = true;
                        Meta::TimestampType
                    }
                    other => return Err(Error::internal(format!("metadata '{other}' was not refused"))),
                }),
            });
        }
        let mut fields: Vec<Field> = table.columns.iter().map(|i| def.columns[*i].column.to_field()).collect();
        if table.with_order {
            fields.push(Field::new("$order", DataType::Int64, false));
        }
        // The formats take columns in the order of their own table.
        let sorted = |list: &[usize], part: &crate::columns::Part| {
            let mut own: Vec<usize> = part.ordinals.iter().copied().filter(|o| list.contains(o)).collect();
            own.sort_by_key(|o| part.ordinals.iter().position(|p| p == o));
            own
        };
        let value_order = sorted(&in_value, &layout.value);
        let (mut key, mut key_needed) = (None, None);
        if let Some(part) = &layout.key
            && (is_upsert || !in_key.is_empty())
        {
            // All of the key, so that a broken one is noticed, if it says which row is meant.
            let wanted = if is_upsert { part.ordinals.clone() } else { sorted(&in_key, part) };
            key = Some(part.decoder(&wanted, false)?);
            key_needed = wanted.iter().map(|i| &def.columns[*i].column).find(|c| !c.nullable).map(|c| c.name.clone());
            for output in &mut outputs {
                if let Output::Key(k) = output {
                    *k = place(&wanted, in_key[*k]).expect("all that is wanted is read");
                }
            }
        }
        for output in &mut outputs {
            if let Output::Value(v) = output {
                *v = place(&value_order, in_value[*v]).expect("all that is wanted is read");
            }
        }
        let changes = layout.value.format.changelog() != ChangelogMode::Append;
        Ok(Assembly {
            row_bytes: fields.iter().map(|f| width(f.data_type())).sum(),
            rows_per_message: if changes { 2 } else { 1 },
            schema: Arc::new(Schema::new(fields)),
            outputs,
            with_order: table.with_order,
            upsert: is_upsert,
            is_json: layout.value.format.name() == "json",
            value: layout.value.decoder(&value_order, upserts && changes)?,
            key,
            key_needed,
            facts: Facts::default(),
            wants,
            messages: 0,
            bytes: 0,
            deletes: vec![],
            dropped: vec![],
        })
    }

    pub fn rows(&self) -> usize {
        self.value.rows()
    }

    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Of the messages since the last `finish`, as far as something of them is kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a message; `topic` is its index in the list that `finish` gets.
    ///
    /// # Errors
    /// It cannot be read; nothing can be done with the assembly after.
    pub fn push(&mut self, message: &Message<'_>, topic: u32) -> Result<()> {
        let index = self.messages as u32;
        self.messages += 1;
        self.bytes += message.value().map_or(0, <[u8]>::len);
        if let Some(mut decoder) = self.key.take() {
            self.bytes += message.key().map_or(0, <[u8]>::len);
            let result = self.push_key(&mut *decoder, message.key(), index);
            self.key = Some(decoder);
            result?;
        }
        let rows = self.value.rows();
        match message.value() {
            // JSON's null says the same as no value.
            Some(value) if !(self.upsert && self.is_json && value.trim_ascii() == b"null") => {
                self.value.decode_record(value).map_err(|b| b.error)?;
                if self.upsert && self.value.rows() > rows + 1 {
                    return Err(Error::row("the value holds several rows, and one key can have only one"));
                }
            }
            _ if self.upsert => {
                self.value.push_filler();
                self.deletes.push(index);
            }
            _ => self.value.decode_null().map_err(|b| b.error)?,
        }
        self.note(message, topic)
    }

    fn push_key(&mut self, decoder: &mut dyn Decoder, key: Option<&[u8]>, index: u32) -> Result<()> {
        let rows = decoder.rows();
        match key {
            Some(key) => {
                decoder.decode_record(key).map_err(|b| b.error.context("key"))?;
                match decoder.rows() - rows {
                    1 => {}
                    0 => {
                        decoder.push_filler();
                        self.dropped.push(index);
                    }
                    _ => return Err(Error::row("the key holds several rows")),
                }
            }
            None if self.upsert => {
                return Err(Error::row("the message has no key, which says the row that it is about"));
            }
            None => match &self.key_needed {
                Some(column) => {
                    return Err(Error::row(format!("the message has no key, and column {column} of it is NOT NULL")));
                }
                None => decoder.push_filler(),
            },
        }
        Ok(())
    }

    fn note(&mut self, message: &Message<'_>, topic: u32) -> Result<()> {
        let Wants { topic: wants_topic, position, timestamp, epoch, headers } = self.wants;
        let f = &mut self.facts;
        if wants_topic {
            f.topics.push(topic);
        }
        if position {
            f.partitions.push(message.partition());
            f.offsets.push(message.offset());
        }
        if timestamp {
            let (ms, kind) = message.timestamp();
            f.timestamps.push(ms.unwrap_or(0));
            f.timestamp_types.push(kind);
        }
        if epoch {
            f.epochs.push(message.leader_epoch());
        }
        if headers {
            let all = message.headers()?;
            self.bytes +=
                all.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>();
            f.headers.push(all);
        }
        Ok(())
    }
}

impl Assembly {
    /// The rows of all messages since the last call; `topics` are the names that messages were pushed with.
    pub fn finish(&mut self, topics: &[String]) -> Result<Changes> {
        let messages = std::mem::take(&mut self.messages);
        self.bytes = 0;
        let (changes, record_of) = self.value.finish()?;
        let rows = changes.num_rows();
        let key = self.key.as_mut().map(|k| k.finish()).transpose()?.map(|(changes, _)| changes.batch);
        let facts = std::mem::take(&mut self.facts);
        let one_to_one = rows == messages && (0..).zip(&record_of).all(|(i, r)| i == *r);
        let rows_of = UInt32Array::from(record_of);
        let record_of: &[u32] = rows_of.values();

        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for output in &self.outputs {
            columns.push(match output {
                Output::Value(i) => changes.batch.column(*i).clone(),
                Output::Key(i) => {
                    let key = key.as_ref().ok_or_else(|| Error::internal("the key was not read"))?;
                    if one_to_one { key.column(*i).clone() } else { take(key.column(*i), &rows_of, None)? }
                }
                Output::Meta(meta) => facts.column(*meta, record_of, topics)?,
            });
        }
        if self.with_order {
            columns.push(facts.order(record_of)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let mut changes = changes.with_batch(batch);
        let deletes = std::mem::take(&mut self.deletes);
        if !deletes.is_empty() {
            let weight = |r: &u32| if deletes.binary_search(r).is_ok() { -1 } else { 1 };
            changes.weights = Some(record_of.iter().map(weight).collect::<Vec<i64>>().into());
        }
        let dropped = std::mem::take(&mut self.dropped);
        if !dropped.is_empty() {
            let keep: BooleanArray = record_of.iter().map(|r| Some(dropped.binary_search(r).is_err())).collect();
            let weights = changes.weights.as_ref().map(|w| arrow::compute::filter(w, &keep)).transpose()?;
            let weights = weights.map(|w| w.as_primitive::<Int64Type>().clone());
            changes = Changes::new(filter_record_batch(&changes.batch, &keep)?, weights);
        }
        Ok(changes)
    }
}

impl Facts {
    fn column(&self, meta: Meta, record_of: &[u32], topics: &[String]) -> Result<ArrayRef> {
        let at = |r: &u32| *r as usize;
        Ok(match meta {
            Meta::Topic => {
                let name = |r: &u32| topics.get(self.topics[at(r)] as usize).map_or("", String::as_str);
                Arc::new(StringArray::from_iter_values(record_of.iter().map(name)))
            }
            Meta::Partition => Arc::new(Int32Array::from_iter_values(record_of.iter().map(|r| self.partitions[at(r)]))),
            Meta::Offset => Arc::new(Int64Array::from_iter_values(record_of.iter().map(|r| self.offsets[at(r)]))),
            Meta::LeaderEpoch => Arc::new(Int32Array::from_iter(record_of.iter().map(|r| self.epochs[at(r)]))),
            Meta::Timestamp => {
                let values = record_of.iter().map(|r| self.timestamps[at(r)]);
                Arc::new(TimestampMillisecondArray::from_iter_values(values).with_timezone("UTC"))
            }
            Meta::TimestampType => {
                Arc::new(StringArray::from_iter_values(record_of.iter().map(|r| self.timestamp_types[at(r)])))
            }
            Meta::Headers => {
                let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
                let mut map = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
                for r in record_of {
                    let headers = &self.headers[at(r)];
                    for (i, (name, value)) in headers.iter().enumerate() {
                        // Of a name that comes twice the last one counts.
                        if headers[i + 1..].iter().all(|(later, _)| later != name) {
                            map.keys().append_value(name);
                            map.values().append_option(value.as_deref());
                        }
                    }
                    map.append(true)?;
                }
                Arc::new(map.finish())
            }
        })
    }

    fn order(&self, record_of: &[u32]) -> Result<ArrayRef> {
        let (mut before, mut index) = (None, 0i64);
        let mut order = Vec::with_capacity(record_of.len());
        for r in record_of {
            index = if before == Some(*r) { index + 1 } else { 0 };
            before = Some(*r);
            let (offset, partition) = (self.offsets[*r as usize], self.partitions[*r as usize]);
            if offset >> OFFSET_BITS != 0 || index >> INDEX_BITS != 0 {
                return Err(Error::row(format!(
                    "partition {partition}, offset {offset}: rows have an order up to offset {} and with up to {} rows a message",
                    1i64 << OFFSET_BITS,
                    1i64 << INDEX_BITS
                )));
            }
            let low = i64::from(partition) & ((1 << PARTITION_BITS) - 1);
            order.push((offset << INDEX_BITS | index) << PARTITION_BITS | low);
        }
        Ok(Arc::new(Int64Array::from(order)))
    }
}

fn width(ty: &DataType) -> usize {
    match ty {
        DataType::Struct(fields) => fields.iter().map(|f| width(f.data_type())).sum(),
        ty => ty.primitive_width().unwrap_or(5),
    }
}
