//! State of one table in memory, key bytes → value bytes: what is loaded, what is known to be absent, what is dirty.
//! For the operators whose state is one small value per key.
//!
//! Keys and values lie in a log of chunks, a record each; a slot per key says where its record is, so that operators
//! hold slots (plain numbers) during a tick while records move. Eviction takes the oldest chunk: records used since they
//! were written go to the log's end (second chance), the others leave memory, dirty ones through the table. So memory
//! comes back in whole chunks and nothing is fragmented.

use std::collections::VecDeque;

use thalweg_core::Result;
pub(crate) use thalweg_core::hash::hash_bytes;
use thalweg_core::state::{KeyBatch, StateTable, WriteBatch};

use crate::key_index::prefetch_at;

/// Bytes of a chunk; a larger record has one of its own.
const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of overwritten records that are tolerated before chunks are rewritten.
const GARBAGE_BYTES_MIN: usize = 4 * CHUNK_BYTES;
/// Writes to the table in one batch: the fewer and larger, the less is merged later.
const WRITE_OPS_MAX: usize = 512 * 1024;
/// Slot, length of the key, room for the value: in front of each record.
const HEADER_BYTES: usize = 12;

const ABSENT: u32 = u32::MAX;

/// Differs from what the table holds.
const DIRTY: u8 = 1;
/// The table may hold the key.
const STORED: u8 = 2;
/// Used since the record was written.
const USED: u8 = 4;

/// No slot.
const NONE: u32 = u32::MAX;
/// How many rows ahead of its use a thing is fetched.
const PREFETCH_ROWS: usize = 10;

/// The part of a key's hash that is kept: it says the key's place in an index of any size.
fn tag_of(key: &[u8]) -> u32 {
    (hash_bytes(key) >> 32) as u32
}

#[derive(Clone, Copy)]
struct Place {
    tag: u32,
    /// `NONE`: free.
    slot: u32,
}

/// Tags to slots: open addressing, linear probing, removal without tombstones, growth without a look at the slots.
#[derive(Default)]
struct TagIndex {
    places: Vec<Place>,
    len: usize,
}

impl TagIndex {
    #[inline]
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.places.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.places.len() { 0 } else { at + 1 }
    }

    /// Room for so many more.
    fn reserve(&mut self, additional: usize) {
        let wanted = (self.len + additional) * 3 / 2 + 16;
        if wanted <= self.places.len() {
            return;
        }
        let places = wanted.max(self.places.len() * 2);
        let old = std::mem::replace(&mut self.places, vec![Place { tag: 0, slot: NONE }; places]);
        self.len = 0;
        old.into_iter().filter(|p| p.slot != NONE).for_each(|p| self.insert(p.tag, p.slot));
    }

    fn insert(&mut self, tag: u32, slot: u32) {
        let mut at = self.home(tag);
        while self.places[at].slot != NONE {
            at = self.after(at);
        }
        self.places[at] = Place { tag, slot };
        self.len += 1;
    }

    #[inline]
    fn find(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(tag);
        loop {
            let place = *self.places.get(at)?;
            if place.slot == NONE {
                return None;
            }
            if place.tag == tag && is_it(place.slot) {
                return Some(place.slot);
            }
            at = self.after(at);
        }
    }

    fn remove(&mut self, tag: u32, slot: u32) {
        let n = self.places.len();
        let mut hole = self.home(tag);
        while self.places[hole].slot != slot {
            hole = self.after(hole);
        }
        // Those behind the hole move up, unless that would put them before their home.
        let mut at = hole;
        loop {
            at = self.after(at);
            let place = self.places[at];
            if place.slot == NONE {
                break;
            }
            let from_home = (at + n - self.home(place.tag)) % n;
            let from_hole = (at + n - hole) % n;
            if from_home >= from_hole {
                self.places[hole] = place;
                hole = at;
            }
        }
        self.places[hole].slot = NONE;
        self.len -= 1;
    }
}

#[derive(Clone, Copy)]
struct Slot {
    /// Of the key, see `tag_of`.
    tag: u32,
    chunk: u32,
    offset: u32,
    /// `ABSENT`: no such key.
    value_len: u32,
    flags: u8,
    live: bool,
}

#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    live: usize,
}

/// Everything but the table.
#[derive(Default)]
struct Entries {
    index: TagIndex,
    slots: Vec<Slot>,
    free: Vec<u32>,
    chunks: Vec<Chunk>,
    free_chunks: Vec<u32>,
    /// Oldest first; the last is written to.
    log: VecDeque<u32>,
    log_bytes: usize,
    garbage: usize,
    /// Slots that became dirty; may name one twice, or one that is clean again.
    dirty: Vec<u32>,
}

pub(crate) struct KeyedCache {
    table: Box<dyn StateTable>,
    entries: Entries,
    /// What is not in memory is not in the table.
    complete: bool,
}

impl KeyedCache {
    pub fn new(table: Box<dyn StateTable>) -> Self {
        let complete = table.is_empty();
        KeyedCache { table, entries: Entries::default(), complete }
    }

    /// The slots of the keys, valid until `flush` or `shrink`; equal keys have the same slot. What is not known is read
    /// from the table.
    pub fn load(&mut self, keys: &KeyBatch, slots: &mut Vec<u32>) -> Result<()> {
        self.entries.compact();
        slots.clear();
        slots.reserve(keys.len());
        let mut missing = vec![];
        self.entries.index.reserve(keys.len());
        let tags: Vec<u32> = keys.iter().map(tag_of).collect();
        for (i, key) in keys.iter().enumerate() {
            self.entries.prefetch(&tags, i);
            let tag = tags[i];
            let slot = match self.entries.find(tag, key) {
                Some(slot) => {
                    self.entries.slots[slot as usize].flags |= USED;
                    slot
                }
                None => {
                    let slot = self.entries.insert(tag, key);
                    if !self.complete {
                        missing.push(slot);
                    }
                    slot
                }
            };
            slots.push(slot);
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut wanted = KeyBatch::new();
        missing.iter().for_each(|&s| wanted.push(self.entries.key(s)));
        let entries = &mut self.entries;
        self.table.get_many(&wanted, &mut |i, value| {
            entries.put_value(missing[i], Some(value));
            entries.slots[missing[i] as usize].flags |= STORED;
        })
    }

    /// One more than the largest slot.
    pub fn slots(&self) -> usize {
        self.entries.slots.len()
    }

    pub fn key(&self, slot: u32) -> &[u8] {
        self.entries.key(slot)
    }

    pub fn value(&self, slot: u32) -> Option<&[u8]> {
        self.entries.value(slot)
    }

    /// `None` deletes.
    pub fn set(&mut self, slot: u32, value: Option<&[u8]>) {
        self.entries.put_value(slot, value);
        let s = &mut self.entries.slots[slot as usize];
        if s.flags & DIRTY == 0 {
            s.flags |= DIRTY;
            self.entries.dirty.push(slot);
        }
    }

    /// Writes what is dirty to the table.
    pub fn flush(&mut self) -> Result<()> {
        let mut dirty = std::mem::take(&mut self.entries.dirty);
        dirty.retain(|&s| self.entries.is_dirty(s));
        // In key order the table takes them faster.
        dirty.sort_unstable_by(|&a, &b| self.entries.key(a).cmp(self.entries.key(b)));
        dirty.dedup();
        let mut writes = WriteBatch::default();
        for slot in dirty {
            self.entries.write(slot, &mut writes);
            if self.entries.slots[slot as usize].value_len == ABSENT {
                self.entries.remove(slot);
            }
            if writes.len() >= WRITE_OPS_MAX {
                self.table.write(std::mem::take(&mut writes))?;
            }
        }
        if !writes.is_empty() {
            self.table.write(writes)?;
        }
        Ok(())
    }

    /// Evicts until at most `bytes_max` are held, a little less so that it lasts; returns what is held.
    pub fn shrink(&mut self, bytes_max: usize) -> Result<usize> {
        if self.entries.bytes() <= bytes_max {
            return Ok(self.entries.bytes());
        }
        self.flush()?;
        let target = bytes_max - bytes_max / 8;
        while self.entries.bytes() > target && !self.entries.log.is_empty() {
            self.complete = false;
            self.entries.evict_oldest(target < CHUNK_BYTES);
            if self.entries.has_spare_slots() {
                self.entries.renumber();
            }
        }
        if self.entries.log.is_empty() {
            self.entries = Entries::default();
        }
        Ok(self.entries.bytes())
    }
}

impl Entries {
    /// Fetches what the look-ups of the rows ahead of `row` will need: first index entries, later slots, then records.
    #[inline]
    fn prefetch(&self, tags: &[u32], row: usize) {
        if let Some(&tag) = tags.get(row + 3 * PREFETCH_ROWS) {
            prefetch_at(&self.index.places, self.index.home(tag));
        }
        if let Some(&tag) = tags.get(row + 2 * PREFETCH_ROWS) {
            let place = self.index.places[self.index.home(tag)];
            if place.slot != NONE {
                prefetch_at(&self.slots, place.slot as usize);
            }
        }
        if let Some(&tag) = tags.get(row + PREFETCH_ROWS) {
            let place = self.index.places[self.index.home(tag)];
            if place.slot != NONE && place.tag == tag {
                let slot = &self.slots[place.slot as usize];
                prefetch_at(&self.chunks[slot.chunk as usize].bytes, slot.offset as usize);
            }
        }
    }

    #[inline]
    fn find(&self, tag: u32, key: &[u8]) -> Option<u32> {
        self.index.find(tag, |slot| self.key(slot) == key)
    }

    fn is_dirty(&self, slot: u32) -> bool {
        let s = &self.slots[slot as usize];
        s.live && s.flags & DIRTY != 0
    }

    /// The index has room.
    fn insert(&mut self, tag: u32, key: &[u8]) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { tag, chunk: 0, offset: 0, value_len: ABSENT, flags: 0, live: false });
            (self.slots.len() - 1) as u32
        });
        let (chunk, offset) = self.append(slot, key, 0);
        self.slots[slot as usize] = Slot { tag, chunk, offset, value_len: ABSENT, flags: 0, live: true };
        self.index.insert(tag, slot);
        slot
    }

    /// A new record at the end of the log, with room for a value of `room` bytes.
    fn append(&mut self, slot: u32, key: &[u8], room: usize) -> (u32, u32) {
        let length = HEADER_BYTES + key.len() + room;
        let fits = |c: &Chunk| c.bytes.len() + length <= CHUNK_BYTES.max(c.bytes.capacity());
        let chunk = match self.log.back() {
            Some(&last) if fits(&self.chunks[last as usize]) => last,
            _ => {
                let chunk = self.free_chunks.pop().unwrap_or_else(|| {
                    self.chunks.push(Chunk::default());
                    (self.chunks.len() - 1) as u32
                });
                self.log.push_back(chunk);
                chunk
            }
        };
        let c = &mut self.chunks[chunk as usize];
        let before = c.bytes.capacity();
        let offset = c.bytes.len();
        if offset + length > before {
            // The first chunk grows with what there is, later ones are whole.
            let wanted = if self.log.len() == 1 { (2 * (offset + length)).min(CHUNK_BYTES) } else { CHUNK_BYTES };
            c.bytes.reserve_exact(wanted.max(offset + length) - offset);
        }
        c.bytes.extend_from_slice(&slot.to_le_bytes());
        c.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        c.bytes.extend_from_slice(&(room as u32).to_le_bytes());
        c.bytes.extend_from_slice(key);
        c.bytes.resize(offset + length, 0);
        c.live += length;
        self.log_bytes += c.bytes.capacity() - before;
        (chunk, offset as u32)
    }

    fn header(&self, chunk: u32, offset: u32) -> (u32, usize, usize) {
        let bytes = &self.chunks[chunk as usize].bytes[offset as usize..offset as usize + HEADER_BYTES];
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        (word(0), word(4) as usize, word(8) as usize)
    }

    fn key(&self, slot: u32) -> &[u8] {
        let s = &self.slots[slot as usize];
        let (_, key_len, _) = self.header(s.chunk, s.offset);
        let from = s.offset as usize + HEADER_BYTES;
        &self.chunks[s.chunk as usize].bytes[from..from + key_len]
    }

    fn value(&self, slot: u32) -> Option<&[u8]> {
        let s = &self.slots[slot as usize];
        if s.value_len == ABSENT {
            return None;
        }
        let (_, key_len, _) = self.header(s.chunk, s.offset);
        let from = s.offset as usize + HEADER_BYTES + key_len;
        Some(&self.chunks[s.chunk as usize].bytes[from..from + s.value_len as usize])
    }

    fn put_value(&mut self, slot: u32, value: Option<&[u8]>) {
        let Some(value) = value else {
            self.slots[slot as usize].value_len = ABSENT;
            return;
        };
        let s = self.slots[slot as usize];
        let (_, key_len, room) = self.header(s.chunk, s.offset);
        if value.len() > room {
            let key = self.key(slot).to_vec();
            // A value that was there before will change again.
            let spare = if room > 0 { value.len() / 4 } else { 0 };
            self.discard(slot);
            let (chunk, offset) = self.append(slot, &key, value.len() + spare);
            let s = &mut self.slots[slot as usize];
            (s.chunk, s.offset) = (chunk, offset);
        }
        let s = &mut self.slots[slot as usize];
        s.value_len = value.len() as u32;
        let from = s.offset as usize + HEADER_BYTES + key_len;
        self.chunks[s.chunk as usize].bytes[from..from + value.len()].copy_from_slice(value);
    }

    /// The slot's record becomes garbage.
    fn discard(&mut self, slot: u32) {
        let s = self.slots[slot as usize];
        let (_, key_len, room) = self.header(s.chunk, s.offset);
        self.chunks[s.chunk as usize].live -= HEADER_BYTES + key_len + room;
        self.garbage += HEADER_BYTES + key_len + room;
    }

    fn remove(&mut self, slot: u32) {
        self.index.remove(self.slots[slot as usize].tag, slot);
        self.discard(slot);
        self.slots[slot as usize].live = false;
        self.slots[slot as usize].flags = 0;
        self.free.push(slot);
    }

    /// The write that makes a dirty slot clean.
    fn write(&mut self, slot: u32, writes: &mut WriteBatch) {
        let flags = self.slots[slot as usize].flags;
        match self.value(slot) {
            Some(value) => writes.put(self.key(slot), value),
            None if flags & STORED != 0 => writes.delete(self.key(slot)),
            None => {}
        }
        let stored = if self.slots[slot as usize].value_len == ABSENT { 0 } else { STORED };
        self.slots[slot as usize].flags = (flags & !(DIRTY | STORED)) | stored;
    }

    /// Frees the oldest chunk: its records (all clean) leave, unless they were used.
    fn evict_oldest(&mut self, even_used: bool) {
        if let Some(oldest) = self.log.pop_front() {
            self.rewrite(oldest, |s| !even_used && s.flags & USED != 0);
        }
    }

    /// Moves the live records of a chunk (no longer in the log) that are to be kept to the end of the log, and frees it.
    fn rewrite(&mut self, chunk: u32, keep: impl Fn(&Slot) -> bool) {
        let taken = std::mem::take(&mut self.chunks[chunk as usize]);
        let word = |at: usize| u32::from_le_bytes(taken.bytes[at..at + 4].try_into().expect("4 bytes"));
        let mut at = 0;
        while at < taken.bytes.len() {
            let (slot, key_len, room) = (word(at), word(at + 4) as usize, word(at + 8) as usize);
            let length = HEADER_BYTES + key_len + room;
            let here = self.slots.get(slot as usize).copied();
            let here = here.filter(|s| s.live && (s.chunk, s.offset) == (chunk, at as u32));
            match here {
                None => self.garbage -= length,
                Some(s) if keep(&s) => {
                    let from = at + HEADER_BYTES;
                    let (c, offset) = self.append(slot, &taken.bytes[from..from + key_len], room);
                    let to = offset as usize + HEADER_BYTES + key_len;
                    self.chunks[c as usize].bytes[to..to + room]
                        .copy_from_slice(&taken.bytes[from + key_len..from + key_len + room]);
                    let s = &mut self.slots[slot as usize];
                    (s.chunk, s.offset) = (c, offset);
                    s.flags &= !USED;
                }
                Some(s) => {
                    self.index.remove(s.tag, slot);
                    self.slots[slot as usize].live = false;
                    self.slots[slot as usize].flags = 0;
                    self.free.push(slot);
                }
            }
            at += length;
        }
        self.log_bytes -= taken.bytes.capacity();
        self.free_chunks.push(chunk);
    }

    /// Rewrites chunks that are mostly garbage once there is much of it.
    fn compact(&mut self) {
        if self.garbage < GARBAGE_BYTES_MIN || self.garbage < self.log_bytes / 2 {
            return;
        }
        for _ in 0..self.log.len() {
            let chunk = self.log.pop_front().expect("as many as the log is long");
            let c = &self.chunks[chunk as usize];
            if c.live < c.bytes.len() / 2 {
                self.rewrite(chunk, |_| true);
            } else {
                self.log.push_back(chunk);
            }
        }
    }

    fn has_spare_slots(&self) -> bool {
        self.slots.len() > 1024 && self.index.len < self.slots.len() / 2
    }

    /// Slots and index without gaps; nobody may hold a slot.
    fn renumber(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.free = vec![];
        self.dirty = vec![];
        let live = self.index.len;
        self.index = TagIndex::default();
        self.index.reserve(live);
        for slot in old.into_iter().filter(|s| s.live) {
            let number = self.slots.len() as u32;
            let at = slot.offset as usize;
            self.chunks[slot.chunk as usize].bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            self.slots.push(slot);
            if slot.flags & DIRTY != 0 {
                self.dirty.push(number);
            }
            self.index.insert(slot.tag, number);
        }
    }

    fn bytes(&self) -> usize {
        self.log_bytes
            + self.slots.capacity() * size_of::<Slot>()
            + self.index.places.capacity() * size_of::<Place>()
            + (self.free.capacity() + self.dirty.capacity()) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::harness::SharedTable;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeMap;

    fn check(cache: &mut KeyedCache, model: &BTreeMap<Vec<u8>, Vec<u8>>, keys: &[Vec<u8>]) {
        let mut batch = KeyBatch::new();
        keys.iter().for_each(|k| batch.push(k));
        let mut slots = vec![];
        cache.load(&batch, &mut slots).unwrap();
        for (key, &slot) in keys.iter().zip(&slots) {
            assert_eq!(cache.value(slot), model.get(key).map(Vec::as_slice), "{key:?}");
        }
    }

    #[test]
    fn a_cache_over_a_table_is_a_map_whatever_is_evicted_flushed_and_reopened() {
        for seed in 0..40 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let table = SharedTable::empty();
            let mut cache = KeyedCache::new(table.boxed());
            let mut model = BTreeMap::new();
            let keys_max = if seed % 2 == 0 { 300 } else { 20_000 };
            for _ in 0..60 {
                let n = rng.random_range(1..500);
                let keys: Vec<Vec<u8>> =
                    (0..n).map(|_| format!("\0\0key {}", rng.random_range(0..keys_max)).into_bytes()).collect();
                check(&mut cache, &model, &keys);
                let mut batch = KeyBatch::new();
                keys.iter().for_each(|k| batch.push(k));
                let mut slots = vec![];
                cache.load(&batch, &mut slots).unwrap();
                for (key, &slot) in keys.iter().zip(&slots) {
                    if rng.random_range(0..4) == 0 {
                        cache.set(slot, None);
                        model.remove(key);
                    } else {
                        let value = vec![rng.random(); rng.random_range(0..200)];
                        cache.set(slot, Some(&value));
                        model.insert(key.clone(), value);
                    }
                }
                match rng.random_range(0..6) {
                    0 => cache.flush().unwrap(),
                    1 => assert!(cache.shrink(0).unwrap() < 10_000),
                    2 => {
                        let held = cache.shrink(usize::MAX).unwrap();
                        let max = held / 2 + 2 * CHUNK_BYTES;
                        assert!(cache.shrink(max).unwrap() <= max);
                    }
                    3 => {
                        cache.flush().unwrap();
                        cache = KeyedCache::new(table.boxed());
                    }
                    _ => {}
                }
            }
            cache.flush().unwrap();
            assert_eq!(table.contents(), model);
        }
    }

    #[test]
    fn a_flush_writes_what_was_set_since_the_last_one() {
        let table = SharedTable::empty();
        let mut cache = KeyedCache::new(table.boxed());
        let mut set = |keys: std::ops::Range<u32>| {
            let mut batch = KeyBatch::new();
            keys.for_each(|k| batch.push(&[&[0, 0], &k.to_be_bytes()[..]].concat()));
            let mut slots = vec![];
            cache.load(&batch, &mut slots).unwrap();
            // The second half is looked at only.
            slots[..slots.len() / 2].iter().for_each(|&s| cache.set(s, Some(b"value")));
            cache.flush().unwrap();
            table.take_costs()
        };
        assert_eq!(set(0..2000), (0, 1000));
        assert_eq!(set(500..520), (0, 10));
        assert_eq!(set(0..0), (0, 0));
    }
}
