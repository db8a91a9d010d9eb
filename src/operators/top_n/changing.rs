//! Top-N over changing input: all rows are state; the lists are heads of their partitions.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, ControlFlow};

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use thalweg_core::state::{KeyBatch, WriteBatch};
use thalweg_core::{Changes, Error, Result};

use super::partitions::{CHANGED, Entry, LONG_LIST_ROWS, STORED, compare, prefix_of};
use super::{TABLE_ROWS_MAX, TopN};
use crate::layout::describe;

/// Bytes of an overlay's entry beside key and content.
const OVERLAY_ENTRY_BYTES: usize = 96;

/// The value columns without weight, and the weight.
type Content = (Box<[u8]>, i64);

/// Dirty rows in key order, over the table: content (value columns without weight) and weight; `None`: deleted.
#[derive(Default)]
pub(super) struct Overlay {
    rows: BTreeMap<Box<[u8]>, Option<Content>>,
    bytes: usize,
}

impl Overlay {
    fn put(&mut self, key: &[u8], content: &[u8], weight: i64) {
        self.insert(key, Some((content.into(), weight)));
    }

    /// `forget`: nothing is stored, so nothing need be deleted.
    fn delete(&mut self, key: &[u8], forget: bool) {
        if !forget {
            self.insert(key, None);
        } else if let Some(old) = self.rows.remove(key) {
            self.bytes -= Self::size(key, &old);
        }
    }

    fn insert(&mut self, key: &[u8], row: Option<Content>) {
        self.bytes += Self::size(key, &row);
        if let Some(old) = self.rows.insert(key.into(), row) {
            self.bytes -= Self::size(key, &old);
        }
    }

    fn size(key: &[u8], row: &Option<Content>) -> usize {
        key.len() + row.as_ref().map_or(0, |(content, _)| content.len()) + OVERLAY_ENTRY_BYTES
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Where a head is to be filled up: the partition, its table prefix, the last key that it covers.
struct Refill {
    number: u32,
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
}

/// A row beyond the heads that this tick changes: row in the batch, weight.
type TailChange = (usize, i64);

impl TopN {
    /// Rows of a head when it is filled, and twice that when it is cut.
    fn head_rows(&self) -> usize {
        let keep = usize::try_from(self.keep).unwrap_or(usize::MAX);
        keep.saturating_add((keep / 2).max(16))
    }

    /// Applies the whole tick's changes.
    pub(super) fn change(&mut self, changes: &Changes) -> Result<()> {
        let batch = &changes.batch;
        let numbers = self.find_partitions(batch)?;
        let mut keys = KeyBatch::new();
        self.layout.encode_keys(batch, &mut keys)?;
        let mut suffixes = KeyBatch::new();
        let columns = crate::layout::pick(batch, &self.suffix_columns);
        self.suffix.encode(None, &columns, batch.num_rows(), &mut suffixes)?;

        let first = self.store.end();
        let mut new: Vec<u32> = vec![];
        let mut tail: Vec<TailChange> = vec![];
        for (row, &number) in numbers.iter().enumerate() {
            let weight = changes.weight(row);
            let suffix = suffixes.get(row);
            let prefix = prefix_of(suffix);
            let p = &self.partitions.all[number as usize];
            let is_beyond = match p.list.last() {
                Some(last) => compare(last, prefix, suffix, &self.suffixes).is_lt(),
                None => true,
            };
            if is_beyond && !p.complete {
                tail.push((row, weight));
                continue;
            }
            self.touch(number);
            let p = &mut self.partitions.all[number as usize];
            if p.list.len() >= LONG_LIST_ROWS {
                let id = first + new.len() as u32;
                new.push(row as u32);
                self.suffixes.push(suffix)?;
                self.incoming.push((number, Entry { prefix, weight, row: id, flags: CHANGED }));
                continue;
            }
            let mut at = p.position(prefix, suffix, &self.suffixes);
            // Rows of one key and different content stand beside each other until the end of the tick.
            let mut found = false;
            while let Some(entry) = p.list.get_mut(at) {
                if compare(entry, prefix, suffix, &self.suffixes).is_ne() {
                    break;
                }
                let same = match entry.row.checked_sub(first) {
                    _ if self.layout.value.is_empty() => true,
                    None => self.store.equals(entry.row, batch, row),
                    Some(n) => equal_contents(&self.contents, batch, new[n as usize] as usize, row)?,
                };
                if same {
                    let sum = entry.weight.checked_add(weight);
                    entry.weight = sum.ok_or_else(|| Error::row(format!("{}: a weight beyond 64 bits", self.title)))?;
                    entry.flags |= CHANGED;
                    found = true;
                    break;
                }
                at += 1;
            }
            if !found {
                let id = first + new.len() as u32;
                new.push(row as u32);
                self.suffixes.push(suffix)?;
                p.list.insert(at, Entry { prefix, weight, row: id, flags: CHANGED });
                self.live += 1;
            }
        }
        self.store.append(&take_record_batch(batch, &UInt32Array::from(new))?)?;
        self.merge_incoming()?;
        self.change_tail(changes, &keys, &tail)?;
        self.finish_heads()
    }

    /// Changes rows that no head holds: in the overlay, on top of what overlay and table have.
    fn change_tail(&mut self, changes: &Changes, keys: &KeyBatch, tail: &[TailChange]) -> Result<()> {
        if tail.is_empty() {
            return Ok(());
        }
        let mut by_key: HashMap<&[u8], Vec<TailChange>> = HashMap::with_capacity(tail.len());
        for &(row, weight) in tail {
            by_key.entry(keys.get(row)).or_default().push((row, weight));
        }
        // Current rows: from the overlay, else from the table.
        let mut current: HashMap<&[u8], Content> = HashMap::new();
        let mut read = KeyBatch::new();
        let mut read_keys: Vec<&[u8]> = vec![];
        for &key in by_key.keys() {
            match self.overlay.rows.get(key) {
                Some(Some((content, weight))) => {
                    current.insert(key, (content.clone(), *weight));
                }
                Some(None) => {}
                None if self.table.is_empty() => {}
                None => {
                    read.push(key);
                    read_keys.push(key);
                }
            }
        }
        if !read.is_empty() {
            let mut found = vec![];
            let mut values = KeyBatch::new();
            self.table.get_many(&read, &mut |i, value| {
                found.push(i);
                values.push(value);
            })?;
            let stored: Vec<&[u8]> = found.iter().map(|&i| read_keys[i]).collect();
            let (batch, weights) = self.layout.decode(stored.iter().copied(), values.iter())?;
            let mut contents = KeyBatch::new();
            self.contents.encode_values(&batch, None, &mut contents)?;
            for (i, key) in stored.into_iter().enumerate() {
                current.insert(key, (contents.get(i).into(), weights[i]));
            }
        }
        let rows: UInt32Array = tail.iter().map(|(row, _)| *row as u32).collect();
        let mut contents = KeyBatch::new();
        self.contents.encode_values(&take_record_batch(&changes.batch, &rows)?, None, &mut contents)?;
        let content_of: HashMap<usize, usize> = tail.iter().enumerate().map(|(i, (row, _))| (*row, i)).collect();
        let forget = self.table.is_empty();
        for (key, deltas) in &by_key {
            let mut weights: Vec<(&[u8], i64)> = vec![];
            if let Some((content, weight)) = current.get(key) {
                weights.push((content, *weight));
            }
            for (row, weight) in deltas {
                let content = contents.get(content_of[row]);
                match weights.iter_mut().find(|(c, _)| *c == content) {
                    Some((_, w)) => *w += weight,
                    None => weights.push((content, *weight)),
                }
            }
            weights.retain(|(_, w)| *w != 0);
            let named = || describe(&changes.batch, deltas[0].0, &self.layout.key);
            match weights.as_slice() {
                [] => self.overlay.delete(key, forget),
                w if w.iter().any(|(_, w)| *w < 0) => {
                    let what = "a row is deleted that is not there";
                    return Err(Error::changelog(format!("{}: {what}, {}", self.title, named()))
                        .note("the changelog of the input contradicts itself"));
                }
                [(content, weight)] if !self.unique || *weight == 1 => self.overlay.put(key, content, *weight),
                _ => {
                    return Err(Error::changelog(format!("{}: two rows with the key {}", self.title, named()))
                        .note("the input promises that its key is unique"));
                }
            }
        }
        Ok(())
    }

    /// Judges what changed in the heads, writes it to the overlay, and fills or cuts them.
    fn finish_heads(&mut self) -> Result<()> {
        let mut gone = vec![];
        let (mut kept, mut weights) = (vec![], vec![]);
        let mut refills: Vec<(u32, u32)> = vec![];
        for &number in &self.touched {
            let p = &self.partitions.all[number as usize];
            let mut live_before: Option<&Entry> = None;
            for entry in &p.list {
                let is_changed = entry.flags & CHANGED != 0;
                if is_changed && entry.weight < 0 {
                    let note = "the changelog of the input contradicts itself";
                    return Err(self.changelog_error(entry.row, "a row is deleted that is not there", note));
                }
                if entry.weight > 0 {
                    let suffix = || self.suffixes.get(entry.row);
                    let doubled =
                        live_before.is_some_and(|b| compare(b, entry.prefix, suffix(), &self.suffixes).is_eq());
                    if self.unique && is_changed && (doubled || entry.weight > 1) {
                        let note = "the input promises that its key is unique";
                        return Err(self.changelog_error(entry.row, "two rows with the same key", note));
                    }
                    live_before = Some(entry);
                }
                match entry.weight {
                    _ if !is_changed => {}
                    0 => gone.push(entry.row),
                    weight => {
                        kept.push(entry.row);
                        weights.push(weight);
                    }
                }
            }
            let last = p.list.last().map(|e| e.row);
            let p = &mut self.partitions.all[number as usize];
            let before = p.list.len();
            p.list.retain_mut(|e| {
                e.flags &= !CHANGED;
                e.weight > 0
            });
            self.live -= before - p.list.len();
            p.total = p.list.iter().map(|e| e.weight as u64).sum();
            if let Some(last) = last.filter(|_| !p.complete && p.total < self.keep) {
                refills.push((number, last));
            }
        }
        let forget = self.table.is_empty();
        for rows in gone.chunks(TABLE_ROWS_MAX) {
            let (_, keys) = self.table_keys(rows)?;
            keys.iter().for_each(|key| self.overlay.delete(key, forget));
        }
        for (rows, weights) in kept.chunks(TABLE_ROWS_MAX).zip(weights.chunks(TABLE_ROWS_MAX)) {
            let (batch, keys) = self.table_keys(rows)?;
            let mut contents = KeyBatch::new();
            self.contents.encode_values(&batch, None, &mut contents)?;
            for (i, key) in keys.iter().enumerate() {
                self.overlay.put(key, contents.get(i), weights[i]);
            }
        }
        if !refills.is_empty() {
            let lasts: Vec<u32> = refills.iter().map(|(_, row)| *row).collect();
            let (batch, keys) = self.table_keys(&lasts)?;
            let mut prefixes = KeyBatch::new();
            self.layout.encode_routing(&batch, &mut prefixes)?;
            let refills = refills.iter().enumerate().map(|(i, (number, _))| Refill {
                number: *number,
                prefix: prefixes.get(i).to_vec(),
                after: Some(keys.get(i).to_vec()),
            });
            self.refill(refills.collect())?;
        }
        let rows_max = self.head_rows();
        for &number in &self.touched {
            let p = &mut self.partitions.all[number as usize];
            if p.list.len() > rows_max.saturating_mul(2) {
                self.live -= p.list.len() - rows_max;
                p.list.truncate(rows_max);
                p.complete = false;
                p.total = p.list.iter().map(|e| e.weight as u64).sum();
            }
        }
        Ok(())
    }

    pub(super) fn load_heads(&mut self, new: &[(u32, u32)], prefixes: &KeyBatch) -> Result<()> {
        let refills = new.iter().zip(prefixes.iter());
        self.refill(
            refills.map(|((_, number), p)| Refill { number: *number, prefix: p.to_vec(), after: None }).collect(),
        )
    }

    /// Fills heads up with the next rows of overlay and table.
    fn refill(&mut self, refills: Vec<Refill>) -> Result<()> {
        for part in refills.chunks(1024) {
            self.refill_some(part)?;
        }
        Ok(())
    }

    fn refill_some(&mut self, refills: &[Refill]) -> Result<()> {
        let wanted = self.head_rows();
        // Per head what the table has that the overlay does not override, and whether that is all.
        let mut stored: Vec<Vec<(Vec<u8>, Vec<u8>)>> = vec![vec![]; refills.len()];
        let mut is_all = vec![true; refills.len()];
        if !self.table.is_empty() {
            let overlay = &self.overlay.rows;
            let mut take = |i: usize, key: &[u8], value: &[u8]| {
                if overlay.contains_key(key) {
                    return ControlFlow::Continue(());
                }
                if stored[i].len() == wanted {
                    is_all[i] = false;
                    return ControlFlow::Break(());
                }
                stored[i].push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            };
            let whole: Vec<usize> = (0..refills.len()).filter(|&i| refills[i].after.is_none()).collect();
            let mut prefixes = KeyBatch::new();
            whole.iter().for_each(|&i| prefixes.push(&refills[i].prefix));
            self.table.scan_many(&prefixes, &mut |n, key, value| take(whole[n], key, value))?;
            for (i, r) in refills.iter().enumerate() {
                if let Some(after) = &r.after {
                    self.table.scan(&r.prefix, Some(after), false, &mut |key, value| take(i, key, value))?;
                }
            }
        }
        // Rows of both in key order, as many as wanted; contents of the overlay and values of the table are decoded apart.
        let (mut keys, mut values) = (KeyBatch::new(), KeyBatch::new());
        let (mut overlay_keys, mut overlay_contents, mut overlay_weights) = (KeyBatch::new(), KeyBatch::new(), vec![]);
        // Per row of the result: its partition, whether it comes from the overlay.
        let mut order: Vec<(u32, bool)> = vec![];
        for (i, refill) in refills.iter().enumerate() {
            let from = match &refill.after {
                Some(after) => Bound::Excluded(after.as_slice()),
                None => Bound::Included(refill.prefix.as_slice()),
            };
            let range = self.overlay.rows.range::<[u8], _>((from, Bound::Unbounded));
            let mut dirty = range
                .take_while(|(key, _)| key.starts_with(&refill.prefix))
                .filter_map(|(key, row)| row.as_ref().map(|row| (key, row)))
                .peekable();
            let mut clean = stored[i].iter().peekable();
            let mut n = 0;
            while n < wanted {
                let is_dirty = match (dirty.peek(), clean.peek()) {
                    (None, None) => break,
                    (Some((d, _)), Some((c, _))) => d[..] < c[..],
                    (d, _) => d.is_some(),
                };
                if is_dirty {
                    let (key, (content, weight)) = dirty.next().expect("peeked");
                    overlay_keys.push(key);
                    overlay_contents.push(content);
                    overlay_weights.push(*weight);
                } else {
                    let (key, value) = clean.next().expect("peeked");
                    keys.push(key);
                    values.push(value);
                }
                order.push((refill.number, is_dirty));
                n += 1;
            }
            let is_complete = is_all[i] && dirty.peek().is_none() && clean.peek().is_none();
            self.partitions.all[refill.number as usize].complete = is_complete;
        }
        let all: Vec<&[u8]> = keys.iter().collect();
        let (clean, clean_weights) = self.layout.decode(all.into_iter(), values.iter())?;
        let all: Vec<&[u8]> = overlay_keys.iter().collect();
        let (dirty, _) = self.contents.decode(all.into_iter(), overlay_contents.iter())?;
        let mut next = [0u32, clean.num_rows() as u32];
        let picked: UInt32Array = order
            .iter()
            .map(|(_, is_dirty)| {
                let n = &mut next[usize::from(*is_dirty)];
                *n += 1;
                *n - 1
            })
            .collect();
        let both = arrow::compute::concat_batches(self.layout.schema(), [&clean, &dirty])?;
        let weights: Vec<i64> = clean_weights.into_iter().chain(overlay_weights).collect();
        let weights: Vec<i64> = picked.values().iter().map(|&i| weights[i as usize]).collect();
        let numbers: Vec<u32> = order.iter().map(|(number, _)| *number).collect();
        self.take_in_rows(&numbers, &take_record_batch(&both, &picked)?, &weights, STORED)
    }

    pub(super) fn flush_overlay(&mut self) -> Result<()> {
        let overlay = std::mem::take(&mut self.overlay);
        let rows: Vec<_> = overlay.rows.into_iter().collect();
        for part in rows.chunks(TABLE_ROWS_MAX) {
            let live: Vec<_> = part.iter().filter_map(|(key, row)| row.as_ref().map(|r| (key, r))).collect();
            let keys: Vec<&[u8]> = live.iter().map(|(key, _)| &key[..]).collect();
            let contents: Vec<&[u8]> = live.iter().map(|(_, (content, _))| &content[..]).collect();
            let (batch, _) = self.contents.decode(keys.into_iter(), contents.into_iter())?;
            let weights: Vec<i64> = live.iter().map(|(_, (_, weight))| *weight).collect();
            let mut values = KeyBatch::new();
            self.layout.encode_values(&batch, Some(&weights), &mut values)?;
            let mut values = values.iter();
            let mut writes = WriteBatch::default();
            for (key, row) in part {
                match row {
                    Some(_) => writes.put(key, values.next().expect("one per live row")),
                    None => writes.delete(key),
                }
            }
            self.table.write(writes)?;
        }
        for number in std::mem::take(&mut self.dirty) {
            self.partitions.all[number as usize].dirty = false;
        }
        Ok(())
    }
}

/// Whether two rows of a batch have the same value columns.
fn equal_contents(
    contents: &crate::layout::TableLayout,
    batch: &arrow::array::RecordBatch,
    a: usize,
    b: usize,
) -> Result<bool> {
    let mut values = KeyBatch::new();
    for row in [a, b] {
        contents.encode_values(&batch.slice(row, 1), None, &mut values)?;
    }
    Ok(values.get(0) == values.get(1))
}
