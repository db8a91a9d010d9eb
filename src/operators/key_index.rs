//! From a key to a small entry (a join key to the chain of its rows, a partition to its number). Two forms: one BIGINT
//! key, and everything else as key bytes.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use hashbrown::HashTable;
use thalweg_core::Result;
use thalweg_core::state::KeyBatch;

use crate::keyed_cache::hash_bytes;
use crate::layout::TableLayout;

/// No row.
pub(crate) const NONE: u32 = u32::MAX;
/// As `Entry::oldest`: rows of the key may be in the table only.
pub(crate) const UNKNOWN: u32 = u32::MAX;
/// As `Entry::oldest`: the key is known to have no rows but those that came since.
pub(crate) const EMPTY: u32 = u32::MAX - 1;

/// What is known of a join key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Its newest row; from it on the links lead to older ones.
    pub head: u32,
    /// If all its rows are in memory: the oldest of them (or an older row), or `EMPTY`. If rows up to this one have left
    /// memory, they are not. Else `UNKNOWN`.
    pub oldest: u32,
}

impl Entry {
    const NEW: Entry = Entry { head: NONE, oldest: UNKNOWN };

    /// All rows of the key are in memory, where rows from `start` on are.
    #[inline]
    pub fn is_known(&self, start: u32) -> bool {
        match self.oldest {
            UNKNOWN => false,
            EMPTY => true,
            oldest => oldest >= start,
        }
    }
}

/// An index over the keys of one side. Positions stay valid until `reserve`.
pub(crate) trait KeyIndex: Default {
    /// The keys of a batch, none NULL.
    type Keys;

    fn keys(layout: &TableLayout, batch: &RecordBatch) -> Result<Self::Keys>;

    /// Room for so many more keys.
    fn reserve(&mut self, additional: usize);
    /// Starts to bring what `find` and `insert` of this row need into the caches.
    fn prefetch(&self, keys: &Self::Keys, row: usize);
    fn find(&self, keys: &Self::Keys, row: usize) -> Option<u32>;
    /// The key's position; a new key gets an entry without rows.
    fn insert(&mut self, keys: &Self::Keys, row: usize) -> u32;
    fn entry(&self, position: u32) -> Entry;
    fn entry_mut(&mut self, position: u32) -> &mut Entry;
    fn len(&self) -> usize;
    /// Keeps the entries for which `keep`, in as little memory as they need.
    fn retain(&mut self, keep: &mut dyn FnMut(&Entry) -> bool);
    fn bytes(&self) -> usize;
}

/// Starts to bring an element into the caches.
#[inline]
pub(crate) fn prefetch_at<T>(slice: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address has no effect but on the caches.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, at);
}

// ---- one BIGINT ----

/// Types whose keys `BigIntIndex` holds.
pub(crate) fn is_big_int(ty: &DataType) -> bool {
    use DataType::{Date32, Int8, Int16, Int32, Int64, Time64, Timestamp};
    matches!(ty, Int8 | Int16 | Int32 | Int64 | Date32 | Timestamp(..) | Time64(_))
}

#[derive(Debug, Clone, Copy)]
struct BigIntSlot {
    key: i64,
    entry: Entry,
}

/// `head` of a slot that holds no key.
const VACANT: u32 = u32::MAX - 1;

/// Open addressing, linear probing, capacity a power of two.
#[derive(Debug, Default)]
pub(crate) struct BigIntIndex {
    slots: Vec<BigIntSlot>,
    len: usize,
}

impl BigIntIndex {
    #[inline]
    fn home(&self, key: i64) -> usize {
        let h = (key as u64 ^ (key as u64 >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (h >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    fn rebuild(&mut self, capacity: usize, keep: &mut dyn FnMut(&Entry) -> bool) {
        let vacant = BigIntSlot { key: 0, entry: Entry { head: VACANT, oldest: UNKNOWN } };
        let old = std::mem::replace(&mut self.slots, vec![vacant; capacity]);
        self.len = 0;
        for slot in old {
            if slot.entry.head == VACANT || !keep(&slot.entry) {
                continue;
            }
            let mut at = self.home(slot.key);
            while self.slots[at].entry.head != VACANT {
                at = (at + 1) & (capacity - 1);
            }
            self.slots[at] = slot;
            self.len += 1;
        }
    }

    fn capacity_for(len: usize) -> usize {
        (len * 8 / 5 + 2).next_power_of_two().max(64)
    }
}

impl KeyIndex for BigIntIndex {
    type Keys = ScalarBuffer<i64>;

    fn keys(layout: &TableLayout, batch: &RecordBatch) -> Result<Self::Keys> {
        let column = batch.column(layout.routing()[0]);
        debug_assert_eq!(column.null_count(), 0);
        match column.as_primitive_opt::<Int64Type>() {
            Some(column) => Ok(column.values().clone()),
            None => Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone()),
        }
    }

    fn reserve(&mut self, additional: usize) {
        let wanted = Self::capacity_for(self.len + additional);
        if wanted > self.slots.len() {
            self.rebuild(wanted, &mut |_| true);
        }
    }

    #[inline]
    fn prefetch(&self, keys: &Self::Keys, row: usize) {
        if !self.slots.is_empty() {
            prefetch_at(&self.slots, self.home(keys[row]));
        }
    }

    #[inline]
    fn find(&self, keys: &Self::Keys, row: usize) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let key = keys[row];
        let mut at = self.home(key);
        loop {
            let slot = &self.slots[at];
            if slot.entry.head == VACANT {
                return None;
            }
            if slot.key == key {
                return Some(at as u32);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    #[inline]
    fn insert(&mut self, keys: &Self::Keys, row: usize) -> u32 {
        let key = keys[row];
        let mut at = self.home(key);
        let mask = self.slots.len() - 1;
        loop {
            let slot = &mut self.slots[at];
            if slot.entry.head == VACANT {
                *slot = BigIntSlot { key, entry: Entry::NEW };
                self.len += 1;
                return at as u32;
            }
            if slot.key == key {
                return at as u32;
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    fn entry(&self, position: u32) -> Entry {
        self.slots[position as usize].entry
    }

    #[inline]
    fn entry_mut(&mut self, position: u32) -> &mut Entry {
        &mut self.slots[position as usize].entry
    }

    fn len(&self) -> usize {
        self.len
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&Entry) -> bool) {
        let kept = self.slots.iter().filter(|s| s.entry.head != VACANT && keep(&s.entry)).count();
        let capacity = if kept == 0 { 0 } else { Self::capacity_for(kept) };
        if capacity == 0 {
            *self = Self::default();
        } else {
            self.rebuild(capacity, keep);
        }
    }

    fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<BigIntSlot>()
    }
}

// ---- key bytes ----

#[derive(Debug, Clone, Copy)]
struct BytesSlot {
    hash: u64,
    /// Where the key's bytes begin and end.
    from: usize,
    to: usize,
    entry: Entry,
}

#[derive(Debug, Default)]
pub(crate) struct BytesIndex {
    index: HashTable<u32>,
    slots: Vec<BytesSlot>,
    keys: Vec<u8>,
}

pub(crate) struct BytesKeys {
    keys: KeyBatch,
    hashes: Vec<u64>,
}

impl KeyIndex for BytesIndex {
    type Keys = BytesKeys;

    fn keys(layout: &TableLayout, batch: &RecordBatch) -> Result<Self::Keys> {
        let mut keys = KeyBatch::new();
        layout.encode_first(batch, layout.routing().len(), &mut keys)?;
        let hashes = keys.iter().map(hash_bytes).collect();
        Ok(BytesKeys { keys, hashes })
    }

    fn reserve(&mut self, additional: usize) {
        let slots = &self.slots;
        self.index.reserve(additional, |&s| slots[s as usize].hash);
    }

    fn prefetch(&self, _: &Self::Keys, _: usize) {}

    #[inline]
    fn find(&self, keys: &Self::Keys, row: usize) -> Option<u32> {
        let (hash, key) = (keys.hashes[row], keys.keys.get(row));
        let same = |&s: &u32| {
            let slot = &self.slots[s as usize];
            slot.hash == hash && &self.keys[slot.from..slot.to] == key
        };
        self.index.find(hash, same).copied()
    }

    fn insert(&mut self, keys: &Self::Keys, row: usize) -> u32 {
        if let Some(position) = self.find(keys, row) {
            return position;
        }
        let from = self.keys.len();
        self.keys.extend_from_slice(keys.keys.get(row));
        let (hash, position) = (keys.hashes[row], self.slots.len() as u32);
        self.slots.push(BytesSlot { hash, from, to: self.keys.len(), entry: Entry::NEW });
        let slots = &self.slots;
        self.index.insert_unique(hash, position, |&s| slots[s as usize].hash);
        position
    }

    fn entry(&self, position: u32) -> Entry {
        self.slots[position as usize].entry
    }

    fn entry_mut(&mut self, position: u32) -> &mut Entry {
        &mut self.slots[position as usize].entry
    }

    fn len(&self) -> usize {
        self.slots.len()
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&Entry) -> bool) {
        let old = std::mem::take(self);
        for slot in old.slots.iter().filter(|s| keep(&s.entry)) {
            let from = self.keys.len();
            self.keys.extend_from_slice(&old.keys[slot.from..slot.to]);
            let position = self.slots.len() as u32;
            self.slots.push(BytesSlot { from, to: self.keys.len(), ..*slot });
            let slots = &self.slots;
            self.index.insert_unique(slot.hash, position, |&s| slots[s as usize].hash);
        }
    }

    fn bytes(&self) -> usize {
        self.index.capacity() * 5 + self.slots.capacity() * size_of::<BytesSlot>() + self.keys.capacity()
    }
}
