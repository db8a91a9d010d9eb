//! One input of a join as state: its rows in memory by join key, over the state table.
//!
//! Rows lie in a `RowStore` and have ascending numbers; those of one join key are linked from the newest to the oldest.
//! Memory is given back page by page from the oldest row on, so a chain never needs to be cut: a link to a number below
//! the store's start means "the rest is in the table", and the key is read again as a whole when it is needed.
//!
//! On *append-only* input rows are only added: equal rows stand beside each other in memory, and their weights are summed
//! when they are written. On *changing* input a row is found by its identity (the row key of the state table) and its
//! weight changed; rows in memory override the table's.

use std::collections::HashSet;
use std::ops::ControlFlow;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use hashbrown::HashTable;
use thalweg_core::Result;
use thalweg_core::state::{KeyBatch, StateTable};

use super::Part;
use super::rows::{DIRTY, PREFETCH_ROWS, READ_ROWS_MAX, Read, Rows, WRITE_ROWS_MAX};
use crate::key_index::{EMPTY, KeyIndex, NONE, UNKNOWN};
use crate::layout::TableLayout;
use crate::row_store::{Paged, RowStore};

pub(super) struct Side<K> {
    table: Box<dyn StateTable>,
    rows: Rows<K>,
    /// Rows whose weight changed in this tick.
    touched: Vec<u32>,
    /// What it was last asked to shrink to.
    bytes_max: usize,
    /// Batches whose keys are read at a time.
    load_parts: usize,
}

/// Batches (of up to `BATCH_ROWS` rows) whose keys are read from the table at a time, at most.
const LOAD_PARTS_MAX: usize = 64;

/// Bytes of rows that are read from the table at a time.
const LOAD_BYTES_MAX: usize = 32 << 20;
/// Less than this is not given back within a tick.
const ROOM_BYTES_MIN: usize = 4 << 20;

/// What a side is made of.
pub(super) struct SideParts {
    pub table: Box<dyn StateTable>,
    pub layout: TableLayout,
    /// For messages: operator and input.
    pub title: String,
    pub append_only: bool,
    /// The input promises at most one row per identity.
    pub unique: bool,
}

impl<K: KeyIndex> Side<K> {
    pub fn new(parts: SideParts) -> Result<Self> {
        let SideParts { table, layout, title, append_only, unique } = parts;
        let mut rows = Rows {
            store: RowStore::new(layout.schema().clone())?,
            layout,
            title,
            append_only,
            unique,
            index: K::default(),
            next: Paged::default(),
            flags: Paged::default(),
            weights: None,
            identities: HashTable::new(),
            identity_hashes: Paged::default(),
            complete: table.is_empty(),
            gone: 0,
            dirty: 0,
        };
        if !append_only {
            rows.weights = Some(Paged::default());
        }
        Ok(Side { table, rows, touched: vec![], bytes_max: usize::MAX, load_parts: LOAD_PARTS_MAX })
    }

    pub fn layout(&self) -> &TableLayout {
        &self.rows.layout
    }

    pub fn append_only(&self) -> bool {
        self.rows.append_only
    }

    /// Per row of a batch of the other side, whose keys were loaded: its newest partner here, or `NONE`.
    pub fn partners(&self, rows: usize, keys: &K::Keys, heads: &mut Vec<u32>) {
        heads.clear();
        let index = &self.rows.index;
        for row in 0..rows {
            if row + PREFETCH_ROWS < rows {
                index.prefetch(keys, row + PREFETCH_ROWS);
            }
            let head = index.find(keys, row).map_or(NONE, |p| index.entry(p).head);
            self.rows.next.prefetch(head);
            heads.push(head);
        }
    }

    /// Follows a chain from `at` on: pushes its rows, at most until `found` has `max`; gives where to go on, or `NONE`.
    #[inline]
    pub fn follow(&self, mut at: u32, found: &mut Vec<u32>, max: usize) -> u32 {
        let start = self.rows.store.start();
        while at != NONE && at >= start {
            if found.len() == max {
                return at;
            }
            if self.rows.weights.as_ref().is_none_or(|w| w.get(at) != 0) {
                found.push(at);
            }
            at = self.rows.next.get(at);
        }
        NONE
    }

    /// Weights of rows; `None`: all 1.
    pub fn weights(&self, rows: &[u32]) -> Option<Vec<i64>> {
        let weights = self.rows.weights.as_ref()?;
        let mut found = Vec::with_capacity(rows.len());
        weights.gather(rows, &mut found);
        Some(found)
    }

    pub fn store(&self) -> &RowStore {
        &self.rows.store
    }

    /// Reads the keys of batches of the other side that are not known, of as many batches as memory allows, but at least
    /// one; gives their number. The more at a time, the nearer to one another they lie in the table.
    pub fn load(&mut self, other: &TableLayout, parts: &[Part<K>]) -> Result<usize> {
        let mut count = parts.len().min(self.load_parts);
        while !self.load_all(other, &parts[..count], if count == 1 { usize::MAX } else { LOAD_BYTES_MAX })? {
            count /= 2;
            self.load_parts = count;
        }
        // What was too much once may be so again, but not for ever.
        self.load_parts = (2 * self.load_parts).min(LOAD_PARTS_MAX);
        Ok(count)
    }

    /// False if that would be more bytes than these.
    fn load_all(&mut self, other: &TableLayout, parts: &[Part<K>], bytes_max: usize) -> Result<bool> {
        let Side { table, rows, .. } = self;
        if rows.complete {
            return Ok(true);
        }
        let start = rows.store.start();
        let mut unknown = KeyBatch::new();
        let mut of: Vec<(u32, u32)> = vec![];
        for (n, part) in parts.iter().enumerate() {
            let batch = &part.changes.batch;
            let from = of.len();
            for row in 0..batch.num_rows() {
                if row + PREFETCH_ROWS < batch.num_rows() {
                    rows.index.prefetch(&part.keys, row + PREFETCH_ROWS);
                }
                if !rows.index.find(&part.keys, row).is_some_and(|p| rows.index.entry(p).is_known(start)) {
                    of.push((n as u32, row as u32));
                }
            }
            if from < of.len() {
                let picked: UInt32Array = of[from..].iter().map(|(_, row)| *row).collect();
                other.encode_routing(&take_record_batch(batch, &picked)?, &mut unknown)?;
            }
        }
        // Of most keys the table knows that it has none; they take no place in the index.
        let stored = table.may_hold(&unknown);
        rows.reserve(stored.len());
        let mut positions = vec![];
        let mut prefixes = KeyBatch::new();
        for i in stored {
            let (part, row) = of[i as usize];
            let position = rows.index.insert(&parts[part as usize].keys, row as usize);
            let entry = rows.index.entry_mut(position);
            if !entry.is_known(start) {
                entry.oldest = EMPTY;
                positions.push(position);
                prefixes.push(unknown.get(i as usize));
            }
        }
        drop((unknown, of));
        for &position in &positions {
            rows.keep_dirty(position);
        }
        let mut read = Read::default();
        let mut bytes = 0;
        let mut failed = Ok(());
        table.scan_many(&prefixes, &mut |i, key, value| {
            bytes += key.len() + value.len();
            if bytes > bytes_max {
                return ControlFlow::Break(());
            }
            read.push(positions[i], key, value);
            if read.positions.len() >= READ_ROWS_MAX {
                failed = rows.absorb(&mut read);
            }
            if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failed?;
        rows.absorb(&mut read)?;
        if bytes > bytes_max {
            // Some of the keys are not in memory as a whole; which ones is not worth keeping.
            positions.iter().for_each(|&p| rows.index.entry_mut(p).oldest = UNKNOWN);
            return Ok(false);
        }
        Ok(true)
    }

    /// In a tick, while no part is on its way: gives back memory if keys that were loaded took far more than there is.
    pub fn make_room(&mut self) -> Result<()> {
        match self.bytes() / 2 > self.bytes_max {
            true => self.shrink(self.bytes_max).map(|_| ()),
            false => Ok(()),
        }
    }

    /// Adds this side's own changes.
    pub fn apply(&mut self, parts: &[Part<K>]) -> Result<()> {
        if !self.rows.append_only && !self.rows.complete {
            self.load_rows(parts)?;
        }
        for part in parts {
            let (batch, keys) = (&part.changes.batch, &part.keys);
            let weights = part.changes.weights.as_ref().map(|w| &w.values()[..]);
            match self.rows.append_only {
                true => self.rows.append(batch, weights, keys)?,
                false => self.rows.change(batch, weights, keys, &mut self.touched)?,
            }
        }
        Ok(())
    }

    /// Reads those rows of the changes (by their identity) whose key is not in memory as a whole.
    fn load_rows(&mut self, parts: &[Part<K>]) -> Result<()> {
        let Side { table, rows, .. } = self;
        if table.is_empty() {
            return Ok(());
        }
        let start = rows.store.start();
        let mut wanted = KeyBatch::new();
        // Per wanted key a row that has it: part, row.
        let mut of = vec![];
        for (n, part) in parts.iter().enumerate() {
            let (batch, keys) = (&part.changes.batch, &part.keys);
            let hashes = rows.identity_hashes_of(batch)?;
            let is_known = |row: &u32| {
                let row = *row as usize;
                let key = rows.index.find(keys, row).is_some_and(|p| rows.index.entry(p).is_known(start));
                key || rows.find_identity(hashes[row], batch, row).is_some()
            };
            let missing: Vec<u32> = (0..batch.num_rows() as u32).filter(|r| !is_known(r)).collect();
            if !missing.is_empty() {
                of.extend(missing.iter().map(|row| (n, *row)));
                rows.layout.encode_keys(&take_record_batch(batch, &UInt32Array::from(missing))?, &mut wanted)?;
            }
        }
        let mut seen = HashSet::with_capacity(of.len());
        let mut distinct = KeyBatch::new();
        let mut distinct_of = vec![];
        for (key, of) in wanted.iter().zip(of) {
            if seen.insert(key) {
                distinct.push(key);
                distinct_of.push(of);
            }
        }
        if distinct.is_empty() {
            return Ok(());
        }
        let mut found = vec![];
        let mut values = KeyBatch::new();
        table.get_many(&distinct, &mut |i, value| {
            found.push(i);
            values.push(value);
        })?;
        rows.reserve(found.len());
        let mut read = Read::default();
        for (i, value) in found.into_iter().zip(values.iter()) {
            let (part, row) = distinct_of[i];
            let position = rows.index.insert(&parts[part].keys, row as usize);
            read.push(position, distinct.get(i), value);
        }
        rows.absorb(&mut read)
    }

    /// After all changes of a tick: judges weights and keys.
    pub fn finish_tick(&mut self) -> Result<()> {
        let touched = std::mem::take(&mut self.touched);
        for &row in &touched {
            self.rows.judge(row)?;
        }
        self.rows.maintain()
    }

    pub fn flush(&mut self) -> Result<()> {
        let Side { table, rows, .. } = self;
        if rows.dirty == 0 {
            return Ok(());
        }
        let is_dirty = |(first, flags): (u32, &[u8])| -> Vec<u32> {
            (first..).zip(flags).filter(|(_, f)| **f & DIRTY != 0).map(|(row, _)| row).collect()
        };
        let dirty: Vec<u32> = rows.flags.pages().flat_map(is_dirty).collect();
        for part in dirty.chunks(WRITE_ROWS_MAX) {
            let writes = match rows.append_only {
                true => rows.writes_of_appended(part, table.as_ref())?,
                false => rows.writes_of_changed(part)?,
            };
            if !writes.is_empty() {
                table.write(writes)?;
            }
        }
        rows.dirty = 0;
        rows.maintain()
    }

    /// Evicts until at most `bytes_max` are held; returns what is held.
    pub fn shrink(&mut self, bytes_max: usize) -> Result<usize> {
        if self.bytes() <= bytes_max {
            return Ok(self.bytes());
        }
        self.bytes_max = bytes_max.max(ROOM_BYTES_MIN);
        self.flush()?;
        let target = bytes_max - bytes_max / 8;
        let rows = &mut self.rows;
        while rows.bytes() > target && rows.store.rows() > 0 {
            rows.evict_page();
            if rows.index.len() > 2 * rows.store.rows() + 1024 || rows.store.rows() == 0 {
                rows.forget_keys();
            }
        }
        if rows.store.rows() == 0 {
            rows.identities = HashTable::new();
        }
        Ok(self.bytes())
    }

    pub fn bytes(&self) -> usize {
        self.rows.bytes()
    }
}
