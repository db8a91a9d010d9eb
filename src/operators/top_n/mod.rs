//! Top-N: the rows of ranks `from ..= to` of each partition, with or without the rank as a column.
//!
//! In memory each partition has a list of its best rows, in order. At the end of a tick the lists that were touched are
//! compared with what they were, once, so that a tick's output is net whatever came in it.
//!
//! ```text
//! append-only   a list has ranks 1 ..= to; what falls out is forgotten. Most rows are dropped by comparing the first
//!               order column with the partition's last row, a column at a time, before anything else is done with them.
//! changing      a list is the head of its partition, somewhat longer than `to`; all rows are in the state table, and
//!               dirty ones in an ordered overlay over it. When deletes leave less than `to` rows in a head, it is
//!               filled up from both.
//! ```
//!
//! Without `to` and without rank the answer is everything but the rows of ranks below `from`: the input's changes pass,
//! and those of Top-(from - 1) are subtracted.

mod append;
mod changing;
mod compare;
mod partitions;

use arrow::array::{Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use thalweg_core::consolidate::consolidate;
use thalweg_core::key::{KeyCodec, KeyOrder};
use thalweg_core::operator::{BATCH_ROWS, EMIT_ROWS_MAX, Operator, Step, TickCx};
use thalweg_core::state::{KeyBatch, KeyColumn, StateTable};
use thalweg_core::{Changes, Error, Result};
use thalweg_graph::ops::SortKey;
use thalweg_graph::ops::top_n::TopNSpec;

use self::changing::Overlay;
use self::compare::{Limits, OldEntry, Pending, compare_ranks, compare_rows};
use self::partitions::{Entry, Partitions, STORED, compare, prefix_of};
use crate::BuildCx;
use crate::layout::{LayoutParts, TableLayout, batch_of, describe, pick, rest};
use crate::parts::{Outbox, concat};
use crate::row_store::{PagedBytes, RowStore};

/// Rows that no list has any more, before the store is made anew without them.
const GONE_ROWS_MIN: usize = 32 * 1024;
/// Rows that are read from or written to the table at a time.
const TABLE_ROWS_MAX: usize = 256 * 1024;

/// What of a `TopNSpec` (or of another operator that is one) says how it runs.
pub(crate) struct TopNParts {
    /// Partition, then order, then ties.
    pub key: Vec<SortKey>,
    pub partition_columns: usize,
    pub order_columns: usize,
    pub from: u64,
    pub to: Option<u64>,
    pub with_rank: bool,
}

pub(crate) fn build(cx: BuildCx<'_>, spec: &TopNSpec) -> Result<Box<dyn Operator>> {
    let parts = TopNParts {
        key: spec.key(),
        partition_columns: spec.partition.len(),
        order_columns: spec.order.len(),
        from: spec.from,
        to: spec.to,
        with_rank: spec.rank.is_some(),
    };
    Ok(Box::new(TopN::new(cx, parts)?))
}

pub(crate) struct TopN {
    title: String,
    /// Ranks that the lists keep at least.
    keep: u64,
    /// Ranks that are given out.
    from: u64,
    with_rank: bool,
    /// Give out all other rows instead.
    complement: bool,
    append_only: bool,
    /// The input promises that no two rows have the same key.
    unique: bool,
    layout: TableLayout,
    /// The same without the weight.
    contents: TableLayout,
    /// Order columns and ties.
    suffix: KeyCodec,
    suffix_columns: Vec<usize>,
    /// How many of them make the first comparison.
    bound_columns: usize,
    output: SchemaRef,

    table: Box<dyn StateTable>,
    /// A partition that is not in memory is not in the table.
    complete: bool,
    partitions: Partitions,
    /// Per partition: a row whose prefix is above does not come into the list.
    thresholds: Vec<u128>,
    /// Rows of the lists, and of others that are gone.
    store: RowStore,
    /// Per row of the store its order columns and ties as key bytes.
    suffixes: PagedBytes,
    /// Rows in lists.
    live: usize,
    overlay: Overlay,

    collected: Vec<Changes>,
    tick: u32,
    touched: Vec<u32>,
    /// Rows for long lists, which are merged into them at the end: partition, entry.
    incoming: Vec<(u32, Entry)>,
    old: Vec<OldEntry>,
    dirty: Vec<u32>,
    /// Rows that fell out of lists and are in the table still.
    stale: Vec<u32>,
    stale_keys: KeyBatch,

    /// Of `touched`, how many have been compared.
    compared: usize,
    pending: Pending,
    passed: Outbox,
    /// The tick is being emitted.
    emitting: bool,
}

impl TopN {
    pub fn new(mut cx: BuildCx<'_>, parts: TopNParts) -> Result<Self> {
        let TopNParts { key, partition_columns, order_columns, from, to, with_rank } = parts;
        let input = cx.input(0);
        let ordinals: Vec<usize> = key.iter().map(|k| k.column).collect();
        let others = rest(input, &ordinals);
        let spec = &cx.node().state[0];
        let layout_parts = |table, weighted| LayoutParts {
            input,
            table,
            key: ordinals.clone(),
            value: others.clone(),
            weighted,
            max_parallelism: cx.max_parallelism,
        };
        let layout = TableLayout::new(layout_parts(spec, true))?;
        let mut without_weight = spec.clone();
        without_weight.value.pop();
        let contents = TableLayout::new(layout_parts(&without_weight, false))?;
        let order = |(k, c): (&SortKey, &KeyColumn)| KeyOrder {
            ty: input.columns[k.column].column.ty.clone(),
            descending: k.descending,
            nulls_first: k.nulls_first,
            exact: c.exact,
        };
        let suffix_columns = ordinals[partition_columns..].to_vec();
        let complement = to.is_none() && !with_rank;
        let table = cx.take_table()?;
        Ok(TopN {
            title: cx.title(),
            keep: if complement { from - 1 } else { to.unwrap_or(u64::MAX) },
            from: if complement { 1 } else { from },
            with_rank,
            complement,
            append_only: input.append_only,
            unique: !input.unique_keys.is_empty(),
            suffix: KeyCodec::new(key.iter().zip(&spec.key).skip(partition_columns).map(order).collect()),
            bound_columns: order_columns.max(1).min(suffix_columns.len()),
            suffix_columns,
            output: cx.output().schema(),
            complete: table.is_empty(),
            table,
            partitions: Partitions::new(&layout),
            thresholds: vec![],
            store: RowStore::new(input.schema())?,
            suffixes: PagedBytes::default(),
            live: 0,
            overlay: Overlay::default(),
            layout,
            contents,
            collected: vec![],
            tick: 0,
            touched: vec![],
            incoming: vec![],
            old: vec![],
            dirty: vec![],
            stale: vec![],
            stale_keys: KeyBatch::new(),
            compared: 0,
            pending: Pending::default(),
            passed: Outbox::default(),
            emitting: false,
        })
    }

    // ---- a tick comes in ----

    fn apply_all(&mut self) -> Result<()> {
        self.tick = self.tick.wrapping_add(1);
        let mut collected = std::mem::take(&mut self.collected);
        let has_deletes =
            collected.iter().any(|c| c.weights.as_ref().is_some_and(|w| w.values().iter().any(|&w| w < 0)));
        if has_deletes {
            if self.append_only {
                return Err(Error::changelog(format!("{}: a delete on append-only input", self.title)));
            }
            collected = vec![consolidate(&collected)?];
        }
        if self.complement {
            collected.iter().for_each(|c| self.passed.push(c.clone()));
        }
        if self.keep == 0 {
            return Ok(());
        }
        if self.append_only {
            for changes in collected {
                let rows = changes.num_rows();
                for from in (0..rows).step_by(BATCH_ROWS) {
                    self.append(&changes.slice(from, BATCH_ROWS.min(rows - from)))?;
                }
            }
            self.merge_incoming()?;
        } else if !collected.is_empty() {
            let all = concat(self.layout.schema(), collected)?;
            self.change(&all)?;
        }
        Ok(())
    }

    /// The partition numbers of a batch's rows; partitions that are not in memory are read.
    fn find_partitions(&mut self, batch: &RecordBatch) -> Result<Vec<u32>> {
        let mut numbers = vec![];
        let mut new = vec![];
        self.partitions.find_or_add(&self.layout, batch, &mut numbers, &mut new)?;
        self.thresholds.resize(self.partitions.all.len(), u128::MAX);
        for &(_, number) in &new {
            self.partitions.all[number as usize].complete = true;
            self.thresholds[number as usize] = u128::MAX;
        }
        if !self.complete && !new.is_empty() {
            self.load(batch, &new)?;
        }
        Ok(numbers)
    }

    /// Keeps the list as it is before the tick changes it.
    fn touch(&mut self, number: u32) {
        let p = &mut self.partitions.all[number as usize];
        if p.stamp == self.tick {
            return;
        }
        p.stamp = self.tick;
        let from = self.old.len();
        self.old.extend(p.list.iter().map(|e| (e.row, e.weight)));
        p.old = (from, self.old.len());
        self.touched.push(number);
        if !p.dirty {
            p.dirty = true;
            self.dirty.push(number);
        }
    }

    /// Merges the rows that came for long lists.
    fn merge_incoming(&mut self) -> Result<()> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let suffixes = &self.suffixes;
        incoming.sort_unstable_by(|(n, a), (m, b)| {
            n.cmp(m).then_with(|| compare(a, b.prefix, suffixes.get(b.row), suffixes)).then(a.row.cmp(&b.row))
        });
        for rows in incoming.chunk_by(|(a, _), (b, _)| a == b) {
            let number = rows[0].0;
            let old = std::mem::take(&mut self.partitions.all[number as usize].list);
            let before = old.len();
            let mut list: Vec<Entry> = Vec::with_capacity(before + rows.len());
            let mut old = old.into_iter().peekable();
            for (_, row) in rows {
                let suffix = self.suffixes.get(row.row);
                while let Some(next) = old.next_if(|e| compare(e, row.prefix, suffix, &self.suffixes).is_le()) {
                    list.push(next);
                }
                // Rows of one key stand at the list's end now.
                let mut same = None;
                for (at, entry) in list.iter().enumerate().rev() {
                    if compare(entry, row.prefix, suffix, &self.suffixes).is_ne() {
                        break;
                    }
                    if self.same_content(entry.row, row.row)? {
                        same = Some(at);
                        break;
                    }
                }
                match same {
                    Some(at) => {
                        let sum = list[at].weight.checked_add(row.weight);
                        list[at].weight =
                            sum.ok_or_else(|| Error::row(format!("{}: a weight beyond 64 bits", self.title)))?;
                        list[at].flags |= row.flags;
                    }
                    None => list.push(*row),
                }
            }
            list.extend(old);
            self.live = self.live + list.len() - before;
            self.partitions.all[number as usize].list = list;
            if self.append_only {
                let added: i64 = rows.iter().map(|(_, e)| e.weight).sum();
                self.partitions.all[number as usize].total += added as u64;
                self.trim(number);
            }
        }
        Ok(())
    }

    /// Whether two rows of the store with one key have equal value columns too.
    fn same_content(&self, a: u32, b: u32) -> Result<bool> {
        if self.layout.value.is_empty() {
            return Ok(true);
        }
        Ok(self.store.equals_in(a, &self.store.gather(&[b])?, 0, &self.layout.value))
    }

    // ---- and goes out ----

    /// Compares the next touched list with what it was.
    fn compare_next(&mut self) {
        let number = self.touched[self.compared];
        self.compared += 1;
        let p = &self.partitions.all[number as usize];
        let old = &self.old[p.old.0..p.old.1];
        let new = p.list.iter().map(|e| (e.row, e.weight));
        let limits = Limits { from: self.from, to: self.keep, sign: if self.complement { -1 } else { 1 } };
        if self.with_rank {
            compare_ranks(old.iter().copied(), new, &limits, &mut self.pending);
        } else {
            compare_rows(old.iter().copied(), new, &limits, &self.suffixes, &mut self.pending);
        }
    }

    fn emit(&mut self, cx: &mut dyn TickCx) -> Result<Step> {
        if self.passed.emit(cx) == Step::More {
            return Ok(Step::More);
        }
        let mut emitted = 0;
        loop {
            while self.pending.len() < BATCH_ROWS && self.compared < self.touched.len() {
                self.compare_next();
            }
            let rows = self.pending.len().min(BATCH_ROWS);
            if rows == 0 {
                break;
            }
            if emitted >= EMIT_ROWS_MAX {
                return Ok(Step::More);
            }
            let range = self.pending.emitted..self.pending.emitted + rows;
            let picked = &self.pending.rows[range.clone()];
            let mut columns = self.store.gather(picked)?.columns().to_vec();
            if self.with_rank {
                columns.push(std::sync::Arc::new(Int64Array::from(self.pending.ranks[range.clone()].to_vec())));
            }
            let weights = &self.pending.weights[range];
            let weights = weights.iter().any(|&w| w != 1).then(|| Int64Array::from(weights.to_vec()));
            cx.emit(Changes::new(batch_of(self.output.clone(), columns, rows)?, weights));
            emitted += rows;
            self.pending.emitted += rows;
            if self.pending.len() == 0 {
                self.pending = Pending::default();
            } else if self.pending.emitted >= EMIT_ROWS_MAX {
                let p = &mut self.pending;
                p.rows.drain(..p.emitted);
                p.ranks.drain(..p.emitted);
                p.weights.drain(..p.emitted);
                p.emitted = 0;
            }
        }
        self.touched.clear();
        self.old.clear();
        self.compared = 0;
        self.emitting = false;
        self.compact()?;
        Ok(Step::Done)
    }

    // ---- state ----

    /// Appends rows of the table to lists that they go on: per row its partition; weights; rows in key order of each.
    fn take_in(&mut self, numbers: &[u32], keys: &KeyBatch, values: &KeyBatch) -> Result<()> {
        let all: Vec<&[u8]> = keys.iter().collect();
        let (batch, weights) = self.layout.decode(all.into_iter(), values.iter())?;
        self.take_in_rows(numbers, &batch, &weights, STORED)
    }

    fn take_in_rows(&mut self, numbers: &[u32], batch: &RecordBatch, weights: &[i64], flags: u8) -> Result<()> {
        let mut suffixes = KeyBatch::new();
        self.suffix.encode(None, &pick(batch, &self.suffix_columns), batch.num_rows(), &mut suffixes)?;
        let first = self.store.append(batch)?;
        for (i, &number) in numbers.iter().enumerate() {
            let suffix = suffixes.get(i);
            self.suffixes.push(suffix)?;
            let p = &mut self.partitions.all[number as usize];
            p.list.push(Entry { prefix: prefix_of(suffix), weight: weights[i], row: first + i as u32, flags });
            p.total += weights[i] as u64;
        }
        self.live += numbers.len();
        Ok(())
    }

    /// Reads new partitions: per partition a row that has its columns, and its number.
    fn load(&mut self, batch: &RecordBatch, new: &[(u32, u32)]) -> Result<()> {
        let rows: UInt32Array = new.iter().map(|(row, _)| *row).collect();
        let mut prefixes = KeyBatch::new();
        self.layout.encode_routing(&take_record_batch(batch, &rows)?, &mut prefixes)?;
        if !self.append_only {
            return self.load_heads(new, &prefixes);
        }
        let mut numbers = vec![];
        let (mut keys, mut values) = (KeyBatch::new(), KeyBatch::new());
        self.table.scan_many(&prefixes, &mut |i, key, value| {
            numbers.push(new[i].1);
            keys.push(key);
            values.push(value);
            std::ops::ControlFlow::Continue(())
        })?;
        self.take_in(&numbers, &keys, &values)?;
        for &(_, number) in new {
            let p = &self.partitions.all[number as usize];
            if p.total >= self.keep {
                self.thresholds[number as usize] = p.list.last().map_or(u128::MAX, |e| e.prefix);
            }
        }
        Ok(())
    }

    fn table_keys(&self, rows: &[u32]) -> Result<(RecordBatch, KeyBatch)> {
        let batch = self.store.gather(rows)?;
        let mut keys = KeyBatch::new();
        self.layout.encode_keys(&batch, &mut keys)?;
        Ok((batch, keys))
    }

    /// Makes the store anew with the rows of the lists only, in their order, if it is mostly others.
    fn compact(&mut self) -> Result<()> {
        let gone = self.store.rows() - self.live;
        if gone < GONE_ROWS_MIN || gone < self.live {
            return Ok(());
        }
        self.rebuild_store()
    }

    fn rebuild_store(&mut self) -> Result<()> {
        let stale = std::mem::take(&mut self.stale);
        let (_, keys) = self.table_keys(&stale)?;
        keys.iter().for_each(|key| self.stale_keys.push(key));
        let mut store = RowStore::new(self.layout.schema().clone())?;
        let mut suffixes = PagedBytes::default();
        let mut moved: Vec<u32> = vec![];
        for p in &mut self.partitions.all {
            for entry in &mut p.list {
                suffixes.push(self.suffixes.get(entry.row))?;
                moved.push(entry.row);
                entry.row = store.end() + (moved.len() - 1) as u32;
                if moved.len() == BATCH_ROWS {
                    store.append(&self.store.gather(&moved)?)?;
                    moved.clear();
                }
            }
        }
        store.append(&self.store.gather(&moved)?)?;
        self.store = store;
        self.suffixes = suffixes;
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.partitions.bytes()
            + self.thresholds.capacity() * 16
            + self.store.bytes()
            + self.suffixes.bytes()
            + self.overlay.bytes()
            + self.stale_keys.bytes.capacity()
    }

    fn changelog_error(&self, row: u32, what: &str, note: &str) -> Error {
        match self.store.gather(&[row]) {
            Ok(batch) => {
                let key = describe(&batch, 0, &self.layout.key);
                Error::changelog(format!("{}: {what}, {key}", self.title)).note(note)
            }
            Err(e) => e,
        }
    }
}

impl Operator for TopN {
    fn push(&mut self, _: usize, changes: Changes, _: &mut dyn TickCx) -> Result<()> {
        if !changes.is_empty() {
            self.collected.push(self.layout.with_canonical_keys(changes)?);
        }
        Ok(())
    }

    fn end_tick(&mut self, cx: &mut dyn TickCx) -> Result<Step> {
        if !self.emitting {
            self.emitting = true;
            self.apply_all()?;
        }
        self.emit(cx)
    }

    fn flush(&mut self) -> Result<()> {
        if self.append_only { self.flush_lists() } else { self.flush_overlay() }
    }

    /// Partitions that were not touched for longest leave memory first.
    fn shrink(&mut self, bytes_max: usize) -> Result<usize> {
        let held = self.bytes();
        if held <= bytes_max {
            return Ok(held);
        }
        self.flush()?;
        let target = bytes_max - bytes_max / 8;
        let held = self.bytes();
        if held > target {
            self.complete = false;
            let tick = self.tick;
            let mut ages: Vec<u32> =
                self.partitions.all.iter().filter(|p| !p.free).map(|p| tick.wrapping_sub(p.stamp)).collect();
            let kept = (ages.len() as f64 * target as f64 / held as f64) as usize;
            let mut left = kept;
            let oldest = if kept < ages.len() { *ages.select_nth_unstable(kept).1 } else { u32::MAX };
            let evict = |p: &partitions::Partition| {
                let age = tick.wrapping_sub(p.stamp);
                // Of those that are as old as the oldest that may stay, as many stay as there is room for.
                if age < oldest && left > 0 {
                    left -= 1;
                    return false;
                }
                true
            };
            self.partitions.evict(evict);
            self.thresholds.truncate(self.partitions.all.len());
            self.live = self.partitions.all.iter().map(|p| p.list.len()).sum();
            self.rebuild_store()?;
        }
        Ok(self.bytes())
    }
}
