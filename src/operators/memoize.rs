//! Memoize: computes what is not retraction-stable once, when a row is inserted, and gives the same values when it is
//! deleted.
//!
//! Which copy a deletion takes does not matter to the stable columns; it is the oldest. A tick's changes are net by the
//! stable columns first, deletions come before insertions, so an update of a keyed row finds the old values and makes new
//! ones, and what comes and goes in one tick is never computed.
//!
//! # State
//!
//! Key → a list of copies in order of insertion, each: length of the rest in 4 bytes (little-endian), then weight and
//! memoized values as `core::value` bytes.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use std::sync::Arc;
use thalweg_core::key::{KeyCodec, KeyOrder};
use thalweg_core::operator::{Operator, Step, TickCx};
use thalweg_core::state::KeyBatch;
use thalweg_core::value::ValueCodec;
use thalweg_core::{Changes, Error, Result};
use thalweg_graph::Expr;
use thalweg_graph::ops::memoize::MemoizeSpec;

use crate::BuildCx;
use crate::expr::ExprSet;
use crate::keyed_cache::KeyedCache;
use crate::layout::{LayoutParts, TableLayout, batch_of, describe, pick, rest};
use crate::parts::{Outbox, concat};

/// Bytes of the length in front of each copy.
const LENGTH_BYTES: usize = 4;

struct Memoize {
    title: String,
    /// Of the key only.
    layout: TableLayout,
    /// Weight, then the memoized values.
    codec: ValueCodec,
    /// Input columns that are replaced.
    columns: Vec<usize>,
    /// The others, by which rows are told apart.
    stable: Vec<usize>,
    stable_codec: KeyCodec,
    unstable_codec: ValueCodec,
    computed: ExprSet,
    input: SchemaRef,
    output: SchemaRef,
    values: KeyedCache,
    collected: Vec<Changes>,
    outbox: Outbox,
}

pub(crate) fn build(mut cx: BuildCx<'_>, spec: &MemoizeSpec) -> Result<Box<dyn Operator>> {
    let input = cx.input(0);
    let table = &cx.node().state[0];
    let mut key_only = table.clone();
    key_only.value.clear();
    let layout = TableLayout::new(LayoutParts {
        input,
        table: &key_only,
        key: spec.key.clone(),
        value: vec![],
        weighted: false,
        max_parallelism: cx.max_parallelism,
    })?;
    let ty = |&c: &usize| input.columns[c].column.ty.clone();
    let stable = rest(input, &spec.columns);
    let exprs: Vec<Expr> = spec.computed.iter().map(|m| m.expr.clone()).collect();
    Ok(Box::new(Memoize {
        title: cx.title(),
        layout,
        codec: ValueCodec::new(table.value.iter().map(|c| c.ty.clone()).collect()),
        columns: spec.columns.clone(),
        stable_codec: KeyCodec::new(stable.iter().map(|c| KeyOrder::ascending(ty(c)).exact()).collect()),
        stable,
        unstable_codec: ValueCodec::new(spec.columns.iter().map(ty).collect()),
        computed: ExprSet::compile(&exprs, input)?,
        input: input.schema(),
        output: cx.output().schema(),
        values: KeyedCache::new(cx.take_table()?),
        collected: vec![],
        outbox: Outbox::default(),
    }))
}

/// One copy (of a weight) in a value.
struct Inserted<'a> {
    weight: i64,
    /// Weight and memoized values.
    bytes: &'a [u8],
}

impl Operator for Memoize {
    fn push(&mut self, _: usize, changes: Changes, _: &mut dyn TickCx) -> Result<()> {
        if !changes.is_empty() {
            self.collected.push(changes);
        }
        Ok(())
    }

    fn end_tick(&mut self, cx: &mut dyn TickCx) -> Result<Step> {
        if !self.collected.is_empty() {
            self.apply(cx)?;
        }
        Ok(self.outbox.emit(cx))
    }

    fn flush(&mut self) -> Result<()> {
        self.values.flush()
    }

    fn shrink(&mut self, bytes_max: usize) -> Result<usize> {
        self.values.shrink(bytes_max)
    }
}

impl Memoize {
    fn apply(&mut self, cx: &mut dyn TickCx) -> Result<()> {
        let all = concat(&self.input, std::mem::take(&mut self.collected))?;
        let (deleted, inserted) = self.net(&all)?;
        self.delete(&deleted)?;
        self.insert(&inserted, cx)
    }

    /// Net by the stable columns: rows to delete, rows to insert, weights above 0. Of insertions that differ in unstable
    /// columns those with the least values are cancelled by deletions, so that parts and their order do not matter.
    fn net(&self, all: &Changes) -> Result<(Changes, Changes)> {
        let rows = all.num_rows();
        if all.weights.is_none() {
            return Ok((all.slice(0, 0), all.clone()));
        }
        let mut keys = KeyBatch::new();
        self.stable_codec.encode(None, &pick(&all.batch, &self.stable), rows, &mut keys)?;
        let mut unstable = KeyBatch::new();
        self.unstable_codec.encode(&pick(&all.batch, &self.columns), rows, &mut unstable)?;
        let identity = |row: u32| keys.get(row as usize);
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_unstable_by_key(|&row| (identity(row), unstable.get(row as usize), row));
        let (mut deleted, mut inserted) = (vec![], vec![]);
        for equal in order.chunk_by(|&a, &b| identity(a) == identity(b)) {
            let weight = |row: &u32| all.weight(*row as usize);
            let mut deletes: i64 = -equal.iter().map(weight).filter(|w| *w < 0).sum::<i64>();
            for row in equal {
                let left = weight(row).max(0) - deletes.min(weight(row).max(0));
                deletes -= weight(row).max(0) - left;
                if left > 0 {
                    inserted.push((*row, left));
                }
            }
            if deletes > 0 {
                deleted.push((equal[0], deletes));
            }
        }
        let part = |mut net: Vec<(u32, i64)>| -> Result<Changes> {
            net.sort_unstable();
            let rows: UInt32Array = net.iter().map(|(row, _)| *row).collect();
            let weights: Int64Array = net.iter().map(|(_, w)| *w).collect::<Vec<_>>().into();
            Ok(Changes::new(take_record_batch(&all.batch, &rows)?, Some(weights)))
        };
        Ok((part(deleted)?, part(inserted)?))
    }

    fn slots(&mut self, batch: &RecordBatch) -> Result<Vec<u32>> {
        let mut keys = KeyBatch::new();
        self.layout.encode_keys(batch, &mut keys)?;
        let mut slots = vec![];
        self.values.load(&keys, &mut slots)?;
        Ok(slots)
    }

    fn copies<'a>(&self, mut bytes: &'a [u8]) -> Result<Vec<Inserted<'a>>> {
        let damaged = || Error::checkpoint(format!("{}: a damaged state value", self.title));
        let mut parts = vec![];
        while let Some((length, after)) = bytes.split_first_chunk::<LENGTH_BYTES>() {
            let length = u32::from_le_bytes(*length) as usize;
            parts.push(after.get(..length).ok_or_else(damaged)?);
            bytes = &after[length..];
        }
        let columns = self.codec.decode(parts.iter().copied())?;
        let weights = columns[0].as_primitive_opt::<Int64Type>().ok_or_else(damaged)?;
        Ok(parts.into_iter().zip(weights.values()).map(|(bytes, &weight)| Inserted { weight, bytes }).collect())
    }

    /// The same values with another weight.
    fn with_weight(&self, copy: &[u8], weight: i64) -> Result<Vec<u8>> {
        let mut columns = self.codec.decode([copy].into_iter())?;
        columns[0] = Arc::new(Int64Array::from(vec![weight]));
        let mut bytes = KeyBatch::new();
        self.codec.encode(&columns, 1, &mut bytes)?;
        Ok(bytes.bytes)
    }

    fn delete(&mut self, changes: &Changes) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let slots = self.slots(&changes.batch)?;
        // Per output row: the deleted row, the copy that it was, its weight.
        let mut rows: Vec<u32> = vec![];
        let mut memoized = KeyBatch::new();
        let mut weights: Vec<i64> = vec![];
        for (row, &slot) in slots.iter().enumerate() {
            let mut missing = changes.weight(row);
            let value = self.values.value(slot).unwrap_or(&[]).to_vec();
            let mut left: Vec<u8> = vec![];
            for copy in self.copies(&value)? {
                let taken = missing.min(copy.weight);
                if taken > 0 {
                    rows.push(row as u32);
                    memoized.push(copy.bytes);
                    weights.push(-taken);
                    missing -= taken;
                }
                if taken == copy.weight {
                    continue;
                }
                let kept =
                    if taken == 0 { copy.bytes.to_vec() } else { self.with_weight(copy.bytes, copy.weight - taken)? };
                append_copy(&mut left, &kept);
            }
            if missing > 0 {
                let key = describe(&changes.batch, row, &self.layout.key);
                return Err(Error::changelog(format!("{}: a row is deleted that is not there, {key}", self.title))
                    .note("the changelog of the input contradicts itself"));
            }
            self.values.set(slot, (!left.is_empty()).then_some(&left));
        }
        let values = self.codec.decode(memoized.iter())?;
        let batch = take_record_batch(&changes.batch, &UInt32Array::from(rows))?;
        let output = self.output_of(&batch, &values[1..])?;
        self.outbox.push(Changes::new(output, Some(weights.into())));
        Ok(())
    }

    fn insert(&mut self, changes: &Changes, cx: &mut dyn TickCx) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let evaluated = self.computed.evaluate(&changes.batch, cx)?;
        let (batch, weights) = match &evaluated.kept {
            None => (changes.batch.clone(), (0..changes.num_rows()).map(|r| changes.weight(r)).collect::<Vec<_>>()),
            Some(kept) => {
                let weights = (0..changes.num_rows()).filter(|&r| kept.value(r)).map(|r| changes.weight(r));
                (filter_record_batch(&changes.batch, kept)?, weights.collect())
            }
        };
        let mut values = pick(&batch, &self.columns);
        values.extend(evaluated.columns);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(weights.clone()))];
        columns.extend(values.iter().cloned());
        let mut copies = KeyBatch::new();
        self.codec.encode(&columns, batch.num_rows(), &mut copies)?;
        let slots = self.slots(&batch)?;
        for (row, &slot) in slots.iter().enumerate() {
            let mut value = self.values.value(slot).unwrap_or(&[]).to_vec();
            if value.is_empty() {
                append_copy(&mut value, copies.get(row));
            } else {
                value = self.add_copy(&value, copies.get(row), weights[row])?;
            }
            self.values.set(slot, Some(&value));
        }
        let output = self.output_of(&batch, &values)?;
        let weights = weights.iter().any(|&w| w != 1).then(|| Int64Array::from(weights));
        self.outbox.push(Changes::new(output, weights));
        Ok(())
    }

    /// Adds a copy behind the others, or its weight to the last one if that has equal values.
    fn add_copy(&self, value: &[u8], copy: &[u8], weight: i64) -> Result<Vec<u8>> {
        let copies = self.copies(value)?;
        let mut all = vec![];
        let (last, others) = copies.split_last().expect("a value has a copy");
        others.iter().for_each(|c| append_copy(&mut all, c.bytes));
        if self.with_weight(last.bytes, weight)? == copy {
            append_copy(&mut all, &self.with_weight(copy, last.weight + weight)?);
        } else {
            append_copy(&mut all, last.bytes);
            append_copy(&mut all, copy);
        }
        Ok(all)
    }

    /// Input rows with the memoized values in place and behind.
    fn output_of(&self, batch: &RecordBatch, memoized: &[ArrayRef]) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        let (replaced, computed) = memoized.split_at(self.columns.len());
        for (&c, value) in self.columns.iter().zip(replaced) {
            columns[c] = value.clone();
        }
        columns.extend(computed.iter().cloned());
        batch_of(self.output.clone(), columns, batch.num_rows())
    }
}

fn append_copy(value: &mut Vec<u8>, copy: &[u8]) {
    value.extend_from_slice(&(copy.len() as u32).to_le_bytes());
    value.extend_from_slice(copy);
}
