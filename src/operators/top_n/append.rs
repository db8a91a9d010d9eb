//! Top-N over append-only input: a list has the best rows only, and the state table what the lists have.

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Int64Type};
use thalweg_core::state::{KeyBatch, WriteBatch};
use thalweg_core::{Changes, Result};

use super::partitions::{DIRTY, Entry, LONG_LIST_ROWS, STORED, compare, prefix_of};
use super::{TABLE_ROWS_MAX, TopN};
use crate::layout::pick;

impl TopN {
    /// A lower bound of every row's prefix, from the first order columns.
    fn bounds(&self, batch: &RecordBatch) -> Result<Vec<u128>> {
        let first = self.suffix_columns.first().map(|&c| batch.column(c));
        if let Some(column) = first.filter(|c| c.data_type() == &DataType::Int64 && c.null_count() == 0) {
            let mask = if self.suffix.columns()[0].descending { u64::MAX } else { 0 };
            let values = column.as_primitive::<Int64Type>().values();
            // As the key codec writes it: a marker byte 1, the value big-endian with its sign bit flipped.
            let bound = |v: &i64| (1 << 120) | (u128::from((*v ^ i64::MIN) as u64 ^ mask) << 56);
            return Ok(values.iter().map(bound).collect());
        }
        let mut keys = KeyBatch::new();
        let columns = pick(batch, &self.suffix_columns[..self.bound_columns]);
        self.suffix.encode(None, &columns, batch.num_rows(), &mut keys)?;
        Ok(keys.iter().map(prefix_of).collect())
    }

    pub(super) fn append(&mut self, changes: &Changes) -> Result<()> {
        let batch = &changes.batch;
        let numbers = self.find_partitions(batch)?;
        let bounds = self.bounds(batch)?;
        let mut rows: Vec<u32> = Vec::with_capacity(batch.num_rows());
        let mut n = 0;
        rows.resize(batch.num_rows(), 0);
        // Without a branch: most rows stay out, or most come in.
        for (row, (bound, number)) in bounds.iter().zip(&numbers).enumerate() {
            rows[n] = row as u32;
            n += usize::from(*bound <= self.thresholds[*number as usize]);
        }
        rows.truncate(n);
        if rows.is_empty() {
            return Ok(());
        }
        let rows = UInt32Array::from(rows);
        let batch = take_record_batch(batch, &rows)?;
        let mut suffixes = KeyBatch::new();
        self.suffix.encode(None, &pick(&batch, &self.suffix_columns), batch.num_rows(), &mut suffixes)?;
        let first = self.store.end();
        let mut new: Vec<u32> = vec![];
        for (i, &row) in rows.values().iter().enumerate() {
            let weight = changes.weight(row as usize);
            let number = numbers[row as usize];
            let suffix = suffixes.get(i);
            let prefix = prefix_of(suffix);
            let p = &self.partitions.all[number as usize];
            if p.total >= self.keep
                && p.list.last().is_some_and(|last| compare(last, prefix, suffix, &self.suffixes).is_lt())
            {
                continue;
            }
            self.touch(number);
            let p = &mut self.partitions.all[number as usize];
            if p.list.len() >= LONG_LIST_ROWS {
                let row = first + new.len() as u32;
                new.push(i as u32);
                self.suffixes.push(suffix)?;
                self.incoming.push((number, Entry { prefix, weight, row, flags: DIRTY }));
                continue;
            }
            let at = p.position(prefix, suffix, &self.suffixes);
            match p.list.get_mut(at).filter(|e| compare(e, prefix, suffix, &self.suffixes).is_eq()) {
                Some(entry) => {
                    entry.weight += weight;
                    entry.flags |= DIRTY;
                }
                None => {
                    let row = first + new.len() as u32;
                    new.push(i as u32);
                    self.suffixes.push(suffix)?;
                    if p.list.len() == p.list.capacity() {
                        // A list that will be full soon gets its room at once.
                        let room = (self.keep.min(64) as usize + 1).max(p.list.len());
                        p.list.reserve_exact(if p.list.is_empty() { 4.min(room) } else { room });
                    }
                    p.list.insert(at, Entry { prefix, weight, row, flags: DIRTY });
                    self.live += 1;
                }
            }
            p.total += weight as u64;
            self.trim(number);
        }
        self.store.append(&take_record_batch(&batch, &UInt32Array::from(new))?)?;
        Ok(())
    }

    /// Forgets what has fallen out of a list.
    pub(super) fn trim(&mut self, number: u32) {
        let p = &mut self.partitions.all[number as usize];
        while let Some(last) = p.list.last().filter(|e| p.total - e.weight as u64 >= self.keep) {
            p.total -= last.weight as u64;
            if last.flags & STORED != 0 {
                self.stale.push(last.row);
            }
            p.list.pop();
            self.live -= 1;
        }
        if p.total >= self.keep {
            self.thresholds[number as usize] = p.list.last().map_or(u128::MAX, |e| e.prefix);
        }
    }

    /// Writes what the lists have to the table, and deletes what they have no more.
    pub(super) fn flush_lists(&mut self) -> Result<()> {
        let mut writes = WriteBatch::default();
        let stale = std::mem::take(&mut self.stale);
        let (_, keys) = self.table_keys(&stale)?;
        keys.iter().for_each(|key| writes.delete(key));
        std::mem::replace(&mut self.stale_keys, KeyBatch::new()).iter().for_each(|key| writes.delete(key));
        let mut rows = vec![];
        let mut weights = vec![];
        for number in std::mem::take(&mut self.dirty) {
            let p = &mut self.partitions.all[number as usize];
            p.dirty = false;
            for entry in p.list.iter_mut().filter(|e| e.flags & DIRTY != 0) {
                entry.flags = STORED;
                rows.push(entry.row);
                weights.push(entry.weight);
            }
        }
        for (rows, weights) in rows.chunks(TABLE_ROWS_MAX).zip(weights.chunks(TABLE_ROWS_MAX)) {
            let (batch, keys) = self.table_keys(rows)?;
            let mut values = KeyBatch::new();
            self.layout.encode_values(&batch, Some(weights), &mut values)?;
            keys.iter().zip(values.iter()).for_each(|(key, value)| writes.put(key, value));
            self.table.write(std::mem::take(&mut writes))?;
        }
        if !writes.is_empty() {
            self.table.write(writes)?;
        }
        Ok(())
    }
}
