//! Partitions by their columns, and the best rows of each in order.

use std::cmp::Ordering;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use thalweg_core::Result;

use crate::key_index::{BigIntIndex, BytesIndex, KeyIndex, NONE, is_big_int};
use crate::layout::TableLayout;
use crate::row_store::PagedBytes;

/// The table holds the row, with another weight perhaps.
pub(super) const STORED: u8 = 1;
/// Differs from what the table holds.
pub(super) const DIRTY: u8 = 2;
/// Its weight was touched in this tick.
pub(super) const CHANGED: u8 = 4;

/// Lists of at least so many rows are changed once a tick, shorter ones at every row.
pub(super) const LONG_LIST_ROWS: usize = 256;

/// A row of a partition's list. Order: `prefix`, then the row's suffix (order columns and ties as key bytes).
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The suffix's first 16 bytes.
    pub prefix: u128,
    pub weight: i64,
    pub row: u32,
    pub flags: u8,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The best rows, best first.
    pub list: Vec<Entry>,
    /// Sum of the weights in `list`, as of the end of a tick.
    pub total: u64,
    /// No row of the partition is missing in `list`.
    pub complete: bool,
    /// The tick (its low bits) that touched it last.
    pub stamp: u32,
    /// Where the list as it was before that tick begins and ends among the kept old lists.
    pub old: (usize, usize),
    pub dirty: bool,
    /// Not in use: its number can be given again.
    pub free: bool,
}

impl Partition {
    /// Where a row with this suffix stands or would stand: the first entry that is not less.
    pub fn position(&self, prefix: u128, suffix: &[u8], suffixes: &PagedBytes) -> usize {
        self.list.partition_point(|e| compare(e, prefix, suffix, suffixes) == Ordering::Less)
    }
}

#[inline]
pub(super) fn compare(entry: &Entry, prefix: u128, suffix: &[u8], suffixes: &PagedBytes) -> Ordering {
    entry.prefix.cmp(&prefix).then_with(|| suffixes.get(entry.row).cmp(suffix))
}

/// The first 16 bytes, as a number that compares alike.
#[inline]
pub(super) fn prefix_of(bytes: &[u8]) -> u128 {
    match bytes.first_chunk::<16>() {
        Some(first) => u128::from_be_bytes(*first),
        None => {
            let mut padded = [0; 16];
            padded[..bytes.len()].copy_from_slice(bytes);
            u128::from_be_bytes(padded)
        }
    }
}

enum Index {
    BigInt {
        index: BigIntIndex,
        /// The partition of NULL.
        null: Option<u32>,
    },
    Bytes(BytesIndex),
}

/// All partitions in memory, by number.
pub(super) struct Partitions {
    index: Index,
    pub all: Vec<Partition>,
    free: Vec<u32>,
}

impl Partitions {
    pub fn new(layout: &TableLayout) -> Self {
        let index = match layout.routing() {
            [column] if is_big_int(layout.schema().field(*column).data_type()) => {
                Index::BigInt { index: BigIntIndex::default(), null: None }
            }
            _ => Index::Bytes(BytesIndex::default()),
        };
        Partitions { index, all: vec![], free: vec![] }
    }

    /// Partition number of every row; the rows that brought a new partition, and its number, go to `new`.
    pub fn find_or_add(
        &mut self,
        layout: &TableLayout,
        batch: &RecordBatch,
        numbers: &mut Vec<u32>,
        new: &mut Vec<(u32, u32)>,
    ) -> Result<()> {
        numbers.clear();
        numbers.reserve(batch.num_rows());
        let Partitions { index, all, free } = self;
        let mut add = |row: usize| {
            let number = free.pop().unwrap_or_else(|| {
                all.push(Partition::default());
                (all.len() - 1) as u32
            });
            all[number as usize] = Partition::default();
            new.push((row as u32, number));
            number
        };
        match index {
            Index::BigInt { index, null } => {
                let column = batch.column(layout.routing()[0]);
                let nulls = column.nulls().filter(|n| n.null_count() > 0);
                let keys = big_int_keys(layout, batch)?;
                for row in 0..batch.num_rows() {
                    if nulls.is_some_and(|n| n.is_null(row)) {
                        numbers.push(*null.get_or_insert_with(|| add(row)));
                        continue;
                    }
                    let number = match index.find(&keys, row) {
                        Some(p) => index.entry(p).head,
                        None => {
                            index.reserve(1);
                            let position = index.insert(&keys, row);
                            let number = add(row);
                            index.entry_mut(position).head = number;
                            number
                        }
                    };
                    numbers.push(number);
                }
            }
            Index::Bytes(index) => {
                let keys = BytesIndex::keys(layout, batch)?;
                for row in 0..batch.num_rows() {
                    let position = index.insert(&keys, row);
                    let entry = index.entry_mut(position);
                    if entry.head == NONE {
                        entry.head = add(row);
                    }
                    numbers.push(entry.head);
                }
            }
        }
        Ok(())
    }

    /// Forgets the partitions for which `evict`.
    pub fn evict(&mut self, mut evict: impl FnMut(&Partition) -> bool) {
        for (number, partition) in self.all.iter_mut().enumerate() {
            if !partition.free && evict(partition) {
                *partition = Partition { free: true, ..Partition::default() };
                self.free.push(number as u32);
            }
        }
        let all = &self.all;
        let mut keep = |e: &crate::key_index::Entry| !all[e.head as usize].free;
        match &mut self.index {
            Index::BigInt { index, null } => {
                index.retain(&mut keep);
                *null = null.filter(|&n| !all[n as usize].free);
            }
            Index::Bytes(index) => index.retain(&mut keep),
        }
        if self.free.len() == self.all.len() {
            self.all = vec![];
            self.free = vec![];
        }
    }

    pub fn bytes(&self) -> usize {
        let index = match &self.index {
            Index::BigInt { index, .. } => index.bytes(),
            Index::Bytes(index) => index.bytes(),
        };
        let lists: usize = self.all.iter().map(|p| p.list.capacity() * size_of::<Entry>()).sum();
        index + lists + self.all.capacity() * size_of::<Partition>() + self.free.capacity() * 4
    }
}

/// The keys with whatever stands in place of NULL.
fn big_int_keys(layout: &TableLayout, batch: &RecordBatch) -> Result<<BigIntIndex as KeyIndex>::Keys> {
    let column = batch.column(layout.routing()[0]);
    if column.null_count() == 0 || column.data_type() == &DataType::Int64 {
        return BigIntIndex::keys(layout, batch);
    }
    let schema = arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new("key", DataType::Int64, true)]);
    let cast = arrow::compute::cast(column, &DataType::Int64)?;
    let columns = vec![cast; batch.num_columns()];
    let fields: Vec<_> = (0..columns.len()).map(|_| schema.field(0).clone()).collect();
    BigIntIndex::keys(
        layout,
        &RecordBatch::try_new(std::sync::Arc::new(arrow::datatypes::Schema::new(fields)), columns)?,
    )
}
