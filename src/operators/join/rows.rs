//! The rows of one side of a join that are in memory, see `Side`.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use hashbrown::HashTable;
use thalweg_core::key_group::hash_rows;
use thalweg_core::state::{KeyBatch, StateTable, WriteBatch};
use thalweg_core::{Error, Result};

use crate::key_index::{EMPTY, KeyIndex, NONE, UNKNOWN};
use crate::layout::{TableLayout, describe, pick};
use crate::row_store::{Paged, RowStore};

/// Differs from what the table holds.
pub(super) const DIRTY: u8 = 1;
/// The table has a row of this identity.
const STORED: u8 = 2;
/// Not part of the state any more; its weight, if there are weights, is 0.
const GONE: u8 = 4;
/// Rows that are read from the table before they are decoded.
pub(super) const READ_ROWS_MAX: usize = 32 * 1024;
/// Rows that are written to the table at a time, after what it has of them was read.
pub(super) const WRITE_ROWS_MAX: usize = 512 * 1024;
/// Rows of which the state may be rid only by making it anew.
const GONE_ROWS_MIN: usize = 32 * 1024;
/// Row numbers are given anew before they come to this.
const ROW_NUMBER_MAX: u32 = 3_500_000_000;
/// How many rows ahead of its use an index slot is fetched.
pub(super) const PREFETCH_ROWS: usize = 24;

/// All that is in memory.
pub(super) struct Rows<K> {
    pub(super) layout: TableLayout,
    pub(super) title: String,
    pub(super) append_only: bool,
    pub(super) unique: bool,
    pub(super) index: K,
    pub(super) store: RowStore,
    pub(super) next: Paged<u32>,
    pub(super) flags: Paged<u8>,
    /// Made when the first weight comes that is not 1.
    pub(super) weights: Option<Paged<i64>>,
    /// On changing input: rows by the hash of their identity.
    pub(super) identities: HashTable<u32>,
    pub(super) identity_hashes: Paged<u64>,
    /// What is not in memory is not in the table.
    pub(super) complete: bool,
    pub(super) gone: usize,
    pub(super) dirty: usize,
}

/// Rows read from the table, each with the position of its join key.
#[derive(Default)]
pub(super) struct Read {
    pub(super) positions: Vec<u32>,
    keys: KeyBatch,
    values: KeyBatch,
}

impl Read {
    pub(super) fn push(&mut self, position: u32, key: &[u8], value: &[u8]) {
        self.positions.push(position);
        self.keys.push(key);
        self.values.push(value);
    }
}

impl<K: KeyIndex> Rows<K> {
    /// Room in the index. With state in the table, keys that hold nothing make room first.
    pub(super) fn reserve(&mut self, additional: usize) {
        if !self.complete && self.index.len() > 4 * self.store.rows() + 64 * 1024 {
            self.forget_keys();
        }
        self.index.reserve(additional);
    }

    /// Drops keys without a row in memory.
    pub(super) fn forget_keys(&mut self) {
        let start = self.store.start();
        self.index.retain(&mut |e| e.head != NONE && e.head >= start);
    }

    fn is_gone(&self, row: u32) -> bool {
        self.flags.get(row) & GONE != 0
    }

    fn weight(&self, row: u32) -> i64 {
        self.weights.as_ref().map_or(1, |w| w.get(row))
    }

    /// Puts a row at the front of its key's chain; rows are linked in the order of their numbers.
    #[inline]
    fn link(&mut self, position: u32, row: u32) {
        let start = self.store.start();
        let entry = self.index.entry_mut(position);
        let mut head = entry.head;
        if self.gone > 0 {
            while head != NONE && head >= start && self.flags.get(head) & GONE != 0 {
                head = self.next.get(head);
            }
        }
        if entry.oldest == EMPTY || (entry.oldest == UNKNOWN && self.complete) {
            entry.oldest = row;
        }
        entry.head = row;
        self.next.push(head);
    }

    fn set_weights(&mut self, weights: Option<&[i64]>, rows: usize) {
        if self.weights.is_none() && weights.is_some_and(|w| w.iter().any(|&w| w != 1)) {
            let mut all = Paged::default();
            // As many pages have left as of the others.
            while all.start() < self.next.start() {
                all.drop_first_page();
            }
            all.extend_with(1, (self.next.end() - self.next.start()) as usize);
            self.weights = Some(all);
        }
        if let Some(all) = &mut self.weights {
            match weights {
                Some(weights) => all.extend(weights),
                None => all.extend_with(1, rows),
            }
        }
    }

    // ---- append-only input ----

    pub(super) fn append(&mut self, batch: &RecordBatch, weights: Option<&[i64]>, keys: &K::Keys) -> Result<()> {
        let rows = batch.num_rows();
        if let Some(row) = weights.and_then(|w| w.iter().position(|&w| w < 0)) {
            let row = describe(batch, row, &(0..batch.num_columns()).collect::<Vec<_>>());
            return Err(Error::changelog(format!("{}: a delete on append-only input, of the row {row}", self.title)));
        }
        self.reserve(rows);
        self.set_weights(weights, rows);
        let first = self.store.append(batch)?;
        self.flags.extend_with(DIRTY, rows);
        self.dirty += rows;
        for row in 0..rows {
            if row + PREFETCH_ROWS < rows {
                self.index.prefetch(keys, row + PREFETCH_ROWS);
            }
            let position = self.index.insert(keys, row);
            self.link(position, first + row as u32);
        }
        Ok(())
    }

    /// What the table must get for these dirty rows, on top of what it has. They are clean afterwards.
    pub(super) fn writes_of_appended(&mut self, dirty: &[u32], table: &dyn StateTable) -> Result<WriteBatch> {
        let (batch, keys) = self.encoded(dirty)?;
        let order = keys.sorted();
        // One row per distinct key, with the sum of the weights.
        let mut distinct = vec![];
        let mut weights: Vec<i64> = vec![];
        let mut read = KeyBatch::new();
        let mut read_of = vec![];
        let must_read = !self.unique && !table.is_empty();
        for equal in order.chunk_by(|&a, &b| keys.get(a as usize) == keys.get(b as usize)) {
            let sum = equal.iter().try_fold(0i64, |sum, &i| sum.checked_add(self.weight(dirty[i as usize])));
            weights.push(sum.ok_or_else(|| Error::row(format!("{}: a weight beyond 64 bits", self.title)))?);
            // The first row of its key, all of whose rows are in memory, has no equal row in the table.
            let is_first = |&i: &u32| self.complete && self.next.get(dirty[i as usize]) == NONE;
            if must_read && !equal.iter().any(is_first) {
                read.push(keys.get(equal[0] as usize));
                read_of.push(distinct.len());
            }
            distinct.push(equal[0]);
        }
        let mut stored = vec![];
        let mut values = KeyBatch::new();
        if !read.is_empty() {
            table.get_many(&read, &mut |i, value| {
                stored.push(i);
                values.push(value);
            })?;
        }
        if !stored.is_empty() {
            let (_, found) = self
                .layout
                .decode(stored.iter().map(|&i| read.get(i)).collect::<Vec<_>>().into_iter(), values.iter())?;
            for (&i, weight) in stored.iter().zip(found) {
                let sum = weights[read_of[i]].checked_add(weight);
                weights[read_of[i]] =
                    sum.ok_or_else(|| Error::row(format!("{}: a weight beyond 64 bits", self.title)))?;
            }
        }
        let batch = take_record_batch(&batch, &UInt32Array::from(distinct.clone()))?;
        let mut values = KeyBatch::new();
        self.layout.encode_values(&batch, Some(&weights), &mut values)?;
        let mut writes = WriteBatch::default();
        for (value, &i) in values.iter().zip(&distinct) {
            writes.put(keys.get(i as usize), value);
        }
        for &row in dirty {
            *self.flags.get_mut(row) = STORED;
        }
        Ok(writes)
    }

    fn encoded(&self, rows: &[u32]) -> Result<(RecordBatch, KeyBatch)> {
        let batch = self.store.gather(rows)?;
        let mut keys = KeyBatch::new();
        self.layout.encode_keys(&batch, &mut keys)?;
        Ok((batch, keys))
    }

    // ---- changing input ----

    pub(super) fn identity_hashes_of(&self, batch: &RecordBatch) -> Result<Vec<u64>> {
        let mut hashes = vec![];
        hash_rows(&pick(batch, &self.layout.key), batch.num_rows(), &mut hashes)?;
        Ok(hashes)
    }

    pub(super) fn find_identity(&self, hash: u64, batch: &RecordBatch, i: usize) -> Option<u32> {
        let same =
            |&row: &u32| self.identity_hashes.get(row) == hash && self.store.equals_in(row, batch, i, &self.layout.key);
        self.identities.find(hash, same).copied()
    }

    fn add_identity(&mut self, row: u32, hash: u64) {
        let hashes = &self.identity_hashes;
        self.identities.insert_unique(hash, row, |&r| hashes.get(r));
    }

    /// The row leaves the state; its place is freed with its page.
    fn let_go(&mut self, row: u32) {
        *self.flags.get_mut(row) = GONE;
        if let Some(weights) = &mut self.weights {
            *weights.get_mut(row) = 0;
        }
        self.gone += 1;
        if !self.append_only {
            let hash = self.identity_hashes.get(row);
            if let Ok(entry) = self.identities.find_entry(hash, |&r| r == row) {
                entry.remove();
            }
        }
    }

    /// Applies changes of weights; rows that are not there come with their weight, whatever it is, to be judged later.
    pub(super) fn change(
        &mut self,
        batch: &RecordBatch,
        weights: Option<&[i64]>,
        keys: &K::Keys,
        touched: &mut Vec<u32>,
    ) -> Result<()> {
        let rows = batch.num_rows();
        self.reserve(rows);
        let hashes = self.identity_hashes_of(batch)?;
        let first = self.store.end();
        let mut new: Vec<u32> = vec![];
        for row in 0..rows {
            if row + PREFETCH_ROWS < rows {
                self.index.prefetch(keys, row + PREFETCH_ROWS);
            }
            let weight = weights.map_or(1, |w| w[row]);
            let hash = hashes[row];
            let same = |&r: &u32| {
                self.identity_hashes.get(r) == hash
                    && match r.checked_sub(first) {
                        None => self.store.equals(r, batch, row),
                        // Not in the store yet: rows of one batch.
                        Some(n) => equal_rows(batch, new[n as usize] as usize, row),
                    }
            };
            let found = self.identities.find(hash, same).copied();
            let id = match found {
                Some(id) => {
                    let all = self.weights.as_mut().expect("changing input has weights");
                    let w = all.get_mut(id);
                    *w = w
                        .checked_add(weight)
                        .ok_or_else(|| Error::row(format!("{}: a weight beyond 64 bits", self.title)))?;
                    let flags = self.flags.get_mut(id);
                    if *flags & DIRTY == 0 {
                        *flags |= DIRTY;
                        self.dirty += 1;
                    }
                    id
                }
                None => {
                    let id = first + new.len() as u32;
                    new.push(row as u32);
                    self.weights.as_mut().expect("changing input has weights").push(weight);
                    self.flags.push(DIRTY);
                    self.dirty += 1;
                    self.identity_hashes.push(hash);
                    self.add_identity(id, hash);
                    let position = self.index.insert(keys, row);
                    self.link(position, id);
                    id
                }
            };
            touched.push(id);
        }
        let appended = match new.len() == rows {
            true => self.store.append(batch)?,
            false => self.store.append(&take_record_batch(batch, &UInt32Array::from(new))?)?,
        };
        debug_assert_eq!(appended, first);
        Ok(())
    }

    /// Other rows in memory with the identity of this one that have a weight.
    fn live_sibling(&self, row: u32) -> Result<Option<u32>> {
        if self.layout.value.is_empty() {
            // The identity is the whole row.
            return Ok(None);
        }
        let hash = self.identity_hashes.get(row);
        let mut batch = None;
        for &other in self.identities.iter_hash(hash) {
            if other == row || self.identity_hashes.get(other) != hash || self.weight(other) == 0 {
                continue;
            }
            let batch = match &mut batch {
                Some(b) => b,
                none => none.insert(self.store.gather(&[row])?),
            };
            if self.store.equals_in(other, batch, 0, &self.layout.key) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    pub(super) fn judge(&mut self, row: u32) -> Result<()> {
        if self.is_gone(row) {
            return Ok(());
        }
        let weight = self.weight(row);
        if weight == 0 {
            if self.flags.get(row) & STORED == 0 {
                self.dirty -= 1;
                self.let_go(row);
            }
            return Ok(());
        }
        let key = |rows: &Self| -> Result<String> { Ok(describe(&rows.store.gather(&[row])?, 0, &rows.layout.key)) };
        if weight < 0 {
            let key = key(self)?;
            return Err(Error::changelog(format!("{}: a row is deleted that is not there, {key}", self.title))
                .note("the changelog of the input contradicts itself"));
        }
        if self.unique && (weight > 1 || self.live_sibling(row)?.is_some()) {
            let key = key(self)?;
            return Err(Error::changelog(format!("{}: two rows with the key {key}", self.title))
                .note("the input promises that its key is unique"));
        }
        Ok(())
    }

    /// What the table must get for these dirty rows. They are clean afterwards.
    pub(super) fn writes_of_changed(&mut self, dirty: &[u32]) -> Result<WriteBatch> {
        let (batch, keys) = self.encoded(dirty)?;
        let weights: Vec<i64> = dirty.iter().map(|&r| self.weight(r)).collect();
        let mut values = KeyBatch::new();
        self.layout.encode_values(&batch, Some(&weights), &mut values)?;
        let mut writes = WriteBatch::default();
        for (i, &row) in dirty.iter().enumerate() {
            if weights[i] > 0 {
                writes.put(keys.get(i), values.get(i));
                *self.flags.get_mut(row) = STORED;
            } else {
                // A live row of the same identity is, or was, written over it.
                if self.flags.get(row) & STORED != 0 && self.live_sibling(row)?.is_none() {
                    writes.delete(keys.get(i));
                }
                self.let_go(row);
            }
        }
        Ok(writes)
    }

    // ---- rows from the table ----

    /// Of the rows of a key that is about to be read, only dirty ones stay: the others come again.
    pub(super) fn keep_dirty(&mut self, position: u32) {
        let start = self.store.start();
        let mut at = self.index.entry(position).head;
        let mut kept = vec![];
        while at != NONE && at >= start {
            if self.flags.get(at) & DIRTY != 0 {
                kept.push(at);
            } else if !self.is_gone(at) {
                self.let_go(at);
            }
            at = self.next.get(at);
        }
        for (i, &row) in kept.iter().enumerate() {
            *self.next.get_mut(row) = kept.get(i + 1).copied().unwrap_or(NONE);
        }
        let entry = self.index.entry_mut(position);
        entry.head = kept.first().copied().unwrap_or(NONE);
        entry.oldest = kept.last().copied().unwrap_or(EMPTY);
    }

    /// Takes rows of the table into memory, but for those that memory overrides.
    pub(super) fn absorb(&mut self, read: &mut Read) -> Result<()> {
        let Read { positions, keys, values } = std::mem::take(read);
        if positions.is_empty() {
            return Ok(());
        }
        let keys: Vec<&[u8]> = keys.iter().collect();
        let (mut batch, mut weights) = self.layout.decode(keys.iter().copied(), values.iter())?;
        let mut positions = positions;
        if self.append_only {
            self.set_weights(Some(&weights), weights.len());
        } else {
            let hashes = self.identity_hashes_of(&batch)?;
            let new: Vec<u32> = (0..batch.num_rows())
                .filter(|&i| self.find_identity(hashes[i], &batch, i).is_none())
                .map(|i| i as u32)
                .collect();
            if new.len() < batch.num_rows() {
                weights = new.iter().map(|&i| weights[i as usize]).collect();
                positions = new.iter().map(|&i| positions[i as usize]).collect();
                batch = take_record_batch(&batch, &UInt32Array::from(new.clone()))?;
            }
            self.set_weights(Some(&weights), weights.len());
            let first = self.store.end();
            for (n, &i) in new.iter().enumerate() {
                self.identity_hashes.push(hashes[i as usize]);
                self.add_identity(first + n as u32, hashes[i as usize]);
            }
        }
        let first = self.store.append(&batch)?;
        self.flags.extend_with(STORED, positions.len());
        for (n, position) in positions.into_iter().enumerate() {
            self.link(position, first + n as u32);
        }
        Ok(())
    }

    // ---- memory ----

    pub(super) fn bytes(&self) -> usize {
        self.index.bytes()
            + self.store.bytes()
            + self.next.bytes()
            + self.flags.bytes()
            + self.weights.as_ref().map_or(0, Paged::bytes)
            + self.identity_hashes.bytes()
            + self.identities.capacity() * 5
    }

    /// The oldest page, of clean rows only, leaves memory.
    pub(super) fn evict_page(&mut self) {
        self.complete = false;
        let first = self.store.start();
        let page = self.flags.pages().next().map_or(vec![], |(_, flags)| flags.to_vec());
        for (row, flags) in (first..).zip(page) {
            debug_assert_eq!(flags & DIRTY, 0);
            if flags & GONE != 0 {
                self.gone -= 1;
            } else if !self.append_only {
                let hash = self.identity_hashes.get(row);
                if let Ok(entry) = self.identities.find_entry(hash, |&r| r == row) {
                    entry.remove();
                }
            }
        }
        self.store.drop_first_page();
        self.next.drop_first_page();
        self.flags.drop_first_page();
        if let Some(weights) = &mut self.weights {
            weights.drop_first_page();
        }
        if !self.append_only {
            self.identity_hashes.drop_first_page();
        }
    }

    /// Makes the rows anew, without those that are gone, if these are most of them or numbers run out.
    pub(super) fn maintain(&mut self) -> Result<()> {
        let too_many_gone = self.gone > GONE_ROWS_MIN && self.gone > self.store.rows() / 2;
        if !too_many_gone && self.store.end() < ROW_NUMBER_MAX {
            return Ok(());
        }
        let mut old_store = std::mem::replace(&mut self.store, RowStore::new(self.layout.schema().clone())?);
        let mut old_flags = std::mem::take(&mut self.flags);
        let mut old_weights = self.weights.take();
        self.next = Paged::default();
        self.index = K::default();
        self.identities = HashTable::new();
        self.identity_hashes = Paged::default();
        self.gone = 0;
        if !self.append_only {
            self.weights = Some(Paged::default());
        }
        while old_store.rows() > 0 {
            let (first, flags) = old_flags.pages().next().expect("as many pages as of rows");
            let kept: Vec<u32> = (first..).zip(flags).filter(|(_, f)| **f & GONE == 0).map(|(r, _)| r).collect();
            let batch = old_store.gather(&kept)?;
            let flags: Vec<u8> = kept.iter().map(|&r| old_flags.get(r)).collect();
            let weights: Option<Vec<i64>> = old_weights.as_ref().map(|w| kept.iter().map(|&r| w.get(r)).collect());
            let keys = K::keys(&self.layout, &batch)?;
            self.index.reserve(kept.len());
            self.set_weights(weights.as_deref(), kept.len());
            let hashes = if self.append_only { vec![] } else { self.identity_hashes_of(&batch)? };
            let first = self.store.append(&batch)?;
            self.flags.extend(&flags);
            self.identity_hashes.extend(&hashes);
            for (&hash, row) in hashes.iter().zip(first..) {
                self.add_identity(row, hash);
            }
            for n in 0..kept.len() {
                let position = self.index.insert(&keys, n);
                self.link(position, first + n as u32);
            }
            old_store.drop_first_page();
            old_flags.drop_first_page();
            if let Some(w) = &mut old_weights {
                w.drop_first_page();
            }
        }
        Ok(())
    }
}

/// Whether two rows of a batch are equal.
fn equal_rows(batch: &RecordBatch, a: usize, b: usize) -> bool {
    let row = batch.slice(a, 1);
    RowStore::new(batch.schema())
        .and_then(|mut store| store.append(&row).map(|_| store.equals(0, batch, b)))
        .unwrap_or(false)
}
