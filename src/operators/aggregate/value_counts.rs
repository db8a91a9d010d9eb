//! How often each value occurs in each group: what MIN and MAX of changing input, and DISTINCT, keep in a `values-…` table
//! of their own.
//!
//! In memory is what was touched lately: (slot, value) → count. Of a (group, value) that is not in memory the count is
//! read at the end of the tick, all of a tick at once, unless it is certain that nothing is stored (`Known`).

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use thalweg_core::state::{KeyBatch, StateTable, WriteBatch};
use thalweg_core::value::ValueCodec;
use thalweg_core::{Error, Result, SqlType};

use super::column::{Rows, Touched, clear_scratch, grow_vec};
use super::groups::{Groups, SlotMap};
use super::index::{Found, HashIndex, hash_pair};
use super::values::{Domain, Value};
use super::{READ_ROWS, WRITE_ROWS, damaged};

/// In memory, but not (like this) in the table.
const DIRTY: u8 = 1;
/// The table has the pair.
const STORED: u8 = 2;
/// The owner refers to the pair, which must stay though its count may be 0.
const HELD: u8 = 4;
const USED: u8 = 8;
/// The dirty list has the pair.
const LISTED: u8 = 16;

/// Which stored values of a group are certainly in memory.
#[derive(Debug, Clone)]
pub(super) enum Known<V> {
    Nothing,
    /// From the first one in order to this one.
    UpTo(V),
    All,
}

/// A value that came to be in a group, or ceased to be, in this tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub pair: u32,
    pub slot: u32,
    pub appeared: bool,
}

pub(super) struct ValueCounts<V: Value> {
    pub domain: Domain,
    /// For messages: the call.
    call: String,
    table: Box<dyn StateTable>,
    codec: ValueCodec,
    /// The order of interest: MAX looks from the greatest value down.
    descending: bool,
    buffer: V::Buffer,
    index: HashIndex,
    // By pair.
    slots: Vec<u32>,
    values: Vec<V>,
    counts: Vec<i64>,
    flags: Vec<u8>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    /// By slot.
    known: Vec<Known<V>>,
    /// All that the table holds is in memory too.
    complete: bool,
    /// Of the running tick.
    stamp: u32,
    /// Pairs of this tick with their count before it.
    touched: Vec<(u32, i64)>,
    /// Positions in `touched` of pairs that were not in memory.
    fresh: Vec<u32>,
    heap_bytes: usize,
}

impl<V: Value> ValueCounts<V> {
    pub fn new(domain: Domain, call: String, table: Box<dyn StateTable>, descending: bool) -> Self {
        ValueCounts {
            domain,
            call,
            complete: table.is_empty(),
            table,
            codec: ValueCodec::new(vec![SqlType::BigInt]),
            descending,
            buffer: V::Buffer::default(),
            index: HashIndex::default(),
            slots: vec![],
            values: vec![],
            counts: vec![],
            flags: vec![],
            free: vec![],
            dirty: vec![],
            known: vec![],
            stamp: 1,
            touched: vec![],
            fresh: vec![],
            heap_bytes: 0,
        }
    }

    pub fn value(&self, pair: u32) -> &V {
        &self.values[pair as usize]
    }

    pub fn count(&self, pair: u32) -> i64 {
        self.counts[pair as usize]
    }

    /// `a` comes before `b` in the order of interest.
    #[inline]
    pub fn is_before(&self, a: &V, b: &V) -> bool {
        if self.descending { a > b } else { a < b }
    }

    pub fn grow(&mut self, slots: usize) {
        grow_vec(&mut self.known, slots, Known::Nothing);
    }

    pub fn update(&mut self, rows: Rows) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let column = V::read(&self.domain, rows.argument(), &mut buffer)?;
        self.index.reserve(rows.slots.len());
        rows.for_each(|row, slot, w| {
            let value = V::get(&column, row);
            let (pair, found) = self.find_or_insert(slot as u32, value);
            if found != Found::Again {
                if found == Found::New {
                    self.fresh.push(self.touched.len() as u32);
                }
                self.touched.push((pair, self.counts[pair as usize]));
            }
            let count = &mut self.counts[pair as usize];
            *count = count.wrapping_add(w);
        });
        drop(column);
        self.buffer = buffer;
        Ok(())
    }

    /// The index must have room.
    #[inline]
    fn find_or_insert(&mut self, slot: u32, value: V::Ref<'_>) -> (u32, Found) {
        let key = hash_pair(u64::from(slot), V::hash(value));
        let ValueCounts { index, slots, values, counts, flags, free, heap_bytes, stamp, .. } = self;
        let same = |p: u32| slots[p as usize] == slot && V::same(values[p as usize].borrow(), value);
        let new = || free.pop().unwrap_or(counts.len() as u32);
        let (pair, found) = index.find_or_insert(key, *stamp, same, new);
        if found == Found::New {
            let (at, value) = (pair as usize, V::own(value));
            *heap_bytes += value.heap_bytes();
            if at == counts.len() {
                grow_vec(slots, at + 1, slot);
                grow_vec(counts, at + 1, 0);
                grow_vec(flags, at + 1, 0);
                grow_vec(values, at + 1, value);
            } else {
                values[at] = value;
            }
            slots[at] = slot;
            counts[at] = 0;
            flags[at] = USED | flags[at] & LISTED;
        }
        (pair, found)
    }

    fn key_of(&self, pair: u32) -> u64 {
        let at = pair as usize;
        hash_pair(u64::from(self.slots[at]), V::hash(self.values[at].borrow()))
    }

    /// Frees a pair with count 0 that neither the table has nor the owner holds.
    fn free_if_gone(&mut self, pair: u32) {
        let at = pair as usize;
        if self.counts[at] == 0 && self.flags[at] & (USED | STORED | HELD) == USED {
            self.index.remove(self.key_of(pair), pair);
            self.heap_bytes -= self.values[at].heap_bytes();
            // A dirty-list entry may remain; it is skipped, since the pair is not dirty.
            self.flags[at] &= LISTED;
            self.free.push(pair);
        }
    }

    /// The owner refers to the pair; false if it did already.
    pub fn hold(&mut self, pair: u32) -> bool {
        let first = self.flags[pair as usize] & HELD == 0;
        self.flags[pair as usize] |= HELD;
        first
    }

    /// The owner does not refer to the pair any more.
    pub fn let_go(&mut self, pair: u32) {
        self.flags[pair as usize] &= !HELD;
        self.free_if_gone(pair);
    }

    /// The table's keys of pairs, which are in the order of their groups.
    fn keys(&self, groups: &Groups, pairs: &[u32], out: &mut KeyBatch) -> Result<()> {
        let mut slots: Vec<u32> = pairs.iter().map(|&p| self.slots[p as usize]).collect();
        slots.dedup();
        let (mut group_keys, mut value_keys) = (KeyBatch::new(), KeyBatch::new());
        groups.keys(&slots, &mut group_keys)?;
        self.domain.encode(pairs.iter().map(|&p| self.value(p)), &mut value_keys)?;
        let mut group = 0;
        for (i, &pair) in pairs.iter().enumerate() {
            if slots[group] != self.slots[pair as usize] {
                group += 1;
            }
            out.bytes.extend_from_slice(group_keys.get(group));
            out.push(value_keys.get(i));
        }
        Ok(())
    }

    /// The rows of the tick have come: reads the counts of what was not in memory, and says which values came to be in
    /// their groups and which ceased to be. Pairs without a count are freed by `finish`.
    pub fn settle(&mut self, groups: &Groups, touched: Touched) -> Result<Vec<Event>> {
        for (&ordinal, &absent) in touched.fresh.iter().zip(touched.absent) {
            self.known[touched.slots[ordinal as usize] as usize] = if absent { Known::All } else { Known::Nothing };
        }
        if !self.complete {
            self.read_fresh(groups)?;
        }
        let mut events = vec![];
        for i in 0..self.touched.len() {
            let (pair, old) = self.touched[i];
            let (at, new) = (pair as usize, self.count(pair));
            if new < 0 {
                return Err(self.negative(groups, pair));
            }
            if new != old {
                if self.flags[at] & LISTED == 0 {
                    self.dirty.push(pair);
                }
                self.flags[at] |= DIRTY | LISTED;
            }
            if (new > 0) != (old > 0) {
                events.push(Event { pair, slot: self.slots[at], appeared: new > 0 });
            }
        }
        Ok(events)
    }

    fn read_fresh(&mut self, groups: &Groups) -> Result<()> {
        let mut unknown: Vec<(u32, u32)> = vec![];
        for &position in &self.fresh {
            let pair = self.touched[position as usize].0;
            let is_known = match &self.known[self.slots[pair as usize] as usize] {
                Known::Nothing => false,
                Known::UpTo(v) => !self.is_before(v, self.value(pair)),
                Known::All => true,
            };
            if !is_known {
                unknown.push((pair, position));
            }
        }
        for part in unknown.chunks_mut(READ_ROWS) {
            part.sort_unstable_by_key(|(pair, _)| self.slots[*pair as usize]);
            let pairs: Vec<u32> = part.iter().map(|(pair, _)| *pair).collect();
            let mut keys = KeyBatch::new();
            self.keys(groups, &pairs, &mut keys)?;
            let (mut found, mut values) = (vec![], KeyBatch::new());
            self.table.get_many(&keys, &mut |i, value| {
                found.push(part[i]);
                values.push(value);
            })?;
            let counts = self.decode_counts(&values)?;
            for (&(pair, position), &count) in found.iter().zip(counts.values()) {
                let at = pair as usize;
                self.counts[at] = self.counts[at].wrapping_add(count);
                self.flags[at] |= STORED;
                self.touched[position as usize].1 = count;
            }
        }
        Ok(())
    }

    fn decode_counts(&self, values: &KeyBatch) -> Result<Int64Array> {
        let rows: Vec<&[u8]> = values.iter().collect();
        let array = self.codec.decode(rows.iter().copied())?.pop().expect("the codec has one column");
        let counts = array.as_primitive::<Int64Type>().clone();
        if counts.values().iter().any(|c| *c <= 0) {
            return Err(damaged(&self.call));
        }
        Ok(counts)
    }

    fn negative(&self, groups: &Groups, pair: u32) -> Error {
        let slot = self.slots[pair as usize];
        let value = V::array(&self.domain, [Some(self.value(pair).borrow())].into_iter())
            .and_then(|a| Ok(arrow::util::display::array_value_to_string(&a, 0)?))
            .unwrap_or_else(|_| "?".to_owned());
        let (call, group, net) = (&self.call, groups.describe(slot), self.count(pair));
        Error::changelog(format!(
            "{call}, {group}: the value {value} is deleted more often than it was inserted ({net})"
        ))
    }

    /// The tick is over.
    pub fn finish(&mut self) {
        for i in 0..self.touched.len() {
            self.free_if_gone(self.touched[i].0);
        }
        clear_scratch(&mut self.touched);
        clear_scratch(&mut self.fresh);
        if self.stamp == u32::MAX {
            self.index.reset_stamps();
            self.stamp = 0;
        }
        self.stamp += 1;
    }

    pub fn known(&self, slot: u32) -> &Known<V> {
        if self.complete { &Known::All } else { &self.known[slot as usize] }
    }

    /// Brings the next stored values of a group into memory, in the order of interest, behind those that are known and
    /// behind `after`: at most `limit`. Those that are still in the group are appended to `pairs`.
    pub fn read_next(
        &mut self,
        groups: &Groups,
        slot: u32,
        after: Option<&V>,
        limit: usize,
        pairs: &mut Vec<u32>,
    ) -> Result<()> {
        let mut prefix = KeyBatch::new();
        groups.keys(&[slot], &mut prefix)?;
        let prefix = prefix.get(0);
        let from = match (&self.known[slot as usize], after) {
            (Known::UpTo(known), Some(after)) if self.is_before(known, after) => Some(after),
            (Known::UpTo(known), _) => Some(known),
            (_, after) => after,
        };
        let from = match from {
            None => None,
            Some(value) => {
                let mut key = KeyBatch::new();
                self.domain.encode(std::iter::once(value), &mut key)?;
                Some([prefix, key.get(0)].concat())
            }
        };
        let (mut keys, mut counts) = (KeyBatch::new(), KeyBatch::new());
        self.table.scan(prefix, from.as_deref(), self.descending, &mut |key, count| {
            keys.push(&key[prefix.len()..]);
            counts.push(count);
            if keys.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let keys_read: Vec<&[u8]> = keys.iter().collect();
        let values: Vec<V> = self.domain.decode(keys_read.into_iter())?;
        let counts = self.decode_counts(&counts)?;
        self.index.reserve(values.len());
        for (value, &count) in values.iter().zip(counts.values()) {
            let (pair, found) = self.find_or_insert(slot, value.borrow());
            if found == Found::New {
                self.counts[pair as usize] = count;
                self.flags[pair as usize] |= STORED;
            }
            if self.counts[pair as usize] > 0 {
                pairs.push(pair);
            }
        }
        self.known[slot as usize] = match values.into_iter().next_back() {
            Some(last) if keys.len() == limit => Known::UpTo(last),
            _ => Known::All,
        };
        Ok(())
    }

    /// Writes the dirty pairs. Appends to `stored` the slots of which something is stored now.
    pub fn flush(&mut self, groups: &Groups, stored: &mut Vec<u32>) -> Result<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|&p| {
            self.flags[p as usize] &= !LISTED;
            self.flags[p as usize] & DIRTY != 0
        });
        self.write(groups, &mut dirty, stored)?;
        dirty.into_iter().for_each(|p| self.free_if_gone(p));
        Ok(())
    }

    fn write(&mut self, groups: &Groups, pairs: &mut [u32], stored: &mut Vec<u32>) -> Result<()> {
        pairs.sort_unstable_by_key(|&p| self.slots[p as usize]);
        for part in pairs.chunks(WRITE_ROWS) {
            let mut keys = KeyBatch::new();
            self.keys(groups, part, &mut keys)?;
            let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(part.iter().map(|&p| self.count(p))));
            let mut values = KeyBatch::new();
            self.codec.encode(&[counts], part.len(), &mut values)?;
            let mut batch = WriteBatch::default();
            for (i, &pair) in part.iter().enumerate() {
                let at = pair as usize;
                if self.counts[at] > 0 {
                    batch.put(keys.get(i), values.get(i));
                    self.flags[at] |= STORED;
                    stored.push(self.slots[at]);
                } else if self.flags[at] & STORED != 0 {
                    batch.delete(keys.get(i));
                    self.flags[at] &= !STORED;
                }
                self.flags[at] &= !DIRTY;
            }
            self.table.write(batch)?;
        }
        Ok(())
    }

    /// Nothing of the group is stored or counted any more; the owner holds none of its pairs.
    pub fn release(&mut self, slot: u32) {
        self.known[slot as usize] = Known::Nothing;
    }

    /// Slots are renumbered. The pairs of groups that leave memory go, and of the others so many that about `fraction`
    /// of all stays, the last touched ones; what goes and is dirty is written. Nothing is held afterwards.
    pub fn evict(&mut self, groups: &Groups, map: &SlotMap, fraction: f64, stored: &mut Vec<u32>) -> Result<()> {
        let keep = (self.counts.len() - self.free.len()) as f64 * fraction;
        let mut staying: Vec<(u32, u32)> = self
            .index
            .iter()
            .filter(|(p, _)| self.counts[*p as usize] > 0 && map.get(self.slots[*p as usize]).is_some())
            .map(|(p, stamp)| (stamp, p))
            .collect();
        let keep = keep as usize;
        if keep < staying.len() {
            staying.select_nth_unstable_by(keep, |a, b| b.cmp(a));
            staying.truncate(keep);
        }
        let mut kept = vec![false; self.counts.len()];
        staying.iter().for_each(|(_, p)| kept[*p as usize] = true);
        let (mut dirty, mut going) = (vec![], vec![]);
        for (at, _) in kept.iter().enumerate().filter(|(_, kept)| !**kept) {
            if self.flags[at] & DIRTY != 0 {
                dirty.push(at as u32);
            }
            if self.flags[at] & USED != 0 {
                going.push(at as u32);
            }
        }
        self.write(groups, &mut dirty, stored)?;
        for pair in going {
            if self.counts[pair as usize] > 0 {
                self.known[self.slots[pair as usize] as usize] = Known::Nothing;
                self.complete = false;
            }
        }
        let pair_map = SlotMap::of(&kept);
        self.slots = pair_map
            .kept_slots()
            .map(|p| map.get(self.slots[p as usize]).expect("pairs of groups that leave do not stay"))
            .collect();
        self.values = pair_map.kept_slots().map(|p| self.values[p as usize].clone()).collect();
        self.counts = pair_map.kept_slots().map(|p| self.counts[p as usize]).collect();
        self.flags = pair_map.kept_slots().map(|p| self.flags[p as usize] & !(LISTED | HELD)).collect();
        self.index.renumber(&pair_map.new, |_, pair| {
            let at = pair as usize;
            hash_pair(u64::from(self.slots[at]), V::hash(self.values[at].borrow()))
        });
        self.known = map.kept_slots().map(|s| std::mem::replace(&mut self.known[s as usize], Known::Nothing)).collect();
        self.free = vec![];
        self.buffer = V::Buffer::default();
        self.heap_bytes = self.values.iter().map(V::heap_bytes).sum();
        self.dirty = (0..self.flags.len() as u32).filter(|p| self.flags[*p as usize] & DIRTY != 0).collect();
        self.dirty.iter().for_each(|p| self.flags[*p as usize] |= LISTED);
        Ok(())
    }

    /// All pairs in memory with the slots of their groups.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..self.counts.len() as u32)
            .filter(|p| self.flags[*p as usize] & USED != 0)
            .map(|p| (p, self.slots[p as usize]))
    }

    pub fn held(&self) -> usize {
        let per_pair = 4 + size_of::<V>() + 8 + 1;
        self.index.held()
            + self.counts.capacity() * per_pair
            + (self.free.capacity() + self.dirty.capacity()) * 4
            + self.known.capacity() * size_of::<Known<V>>()
            + self.touched.capacity() * 16
            + self.fresh.capacity() * 4
            + self.heap_bytes
    }
}
