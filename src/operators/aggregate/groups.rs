//! The groups in memory: group columns → slot, and per slot the number of rows, whether it is dirty and whether
//! something of it is stored.
//!
//! A single group column of up to 8 bytes is looked up as a 64-bit word, a single string as its bytes, anything else as its
//! key bytes (`core::key`); bytes lie behind one another in an arena. The NULL of a single column, and the one group of a
//! global aggregate, have a place of their own.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use thalweg_core::key::{KeyCodec, KeyOrder};
use thalweg_core::key_group::{hash_rows, key_group};
use thalweg_core::state::KeyBatch;
use thalweg_core::{Column, Error, Result};

use super::column::grow_vec;
use super::index::{Found, HashIndex, WARM_KEYS, hash_bytes};
use super::values::{Domain, Form, Value, read_words, words_array};

pub(super) const NONE: u32 = u32::MAX;

/// In memory, but not (like this) in storage.
const DIRTY: u8 = 1;
/// Something of the group may be in storage.
const STORED: u8 = 2;
/// The dirty list has the slot.
const LISTED: u8 = 4;

/// Groups on one worker at most, all of them in memory: what a slot can count, less the sign of `Pick`.
const GROUPS_MAX: usize = (u32::MAX >> 1) as usize - 1;

/// Old slot → new slot.
#[derive(Debug)]
pub(super) struct SlotMap {
    /// `NONE`: the group leaves memory.
    pub new: Vec<u32>,
    kept: usize,
}

impl SlotMap {
    /// New slots in the order of the old ones.
    pub fn of(kept: &[bool]) -> Self {
        let mut next = 0;
        let new = kept
            .iter()
            .map(|&k| {
                if !k {
                    return NONE;
                }
                next += 1;
                next - 1
            })
            .collect();
        SlotMap { new, kept: next as usize }
    }

    pub fn kept(&self) -> usize {
        self.kept
    }

    pub fn get(&self, slot: u32) -> Option<u32> {
        let new = self.new[slot as usize];
        (new != NONE).then_some(new)
    }

    /// Old slots, in the order of their new ones.
    pub fn kept_slots(&self) -> impl Iterator<Item = u32> {
        self.new.iter().enumerate().filter(|(_, new)| **new != NONE).map(|(old, _)| old as u32)
    }
}

#[derive(Debug)]
enum Keys {
    Global,
    /// By slot, as `values` orders them.
    Word {
        ty: DataType,
        words: Vec<u64>,
    },
    /// One string: its bytes.
    Text {
        domain: Domain,
        texts: Arena,
    },
    /// Key bytes.
    Bytes(Arena),
}

/// Keys of any length by slot. What removed keys leave is reclaimed when it is half of all.
#[derive(Debug, Default)]
struct Arena {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    garbage: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Span {
    from: usize,
    len: usize,
}

/// Garbage below this is not worth the copying.
const GARBAGE_BYTES_MIN: usize = 1 << 20;

impl Arena {
    #[inline]
    fn get(&self, slot: u32) -> &[u8] {
        let Span { from, len } = self.spans[slot as usize];
        &self.bytes[from..from + len]
    }

    fn put(&mut self, slot: u32, key: &[u8]) {
        grow_vec(&mut self.spans, slot as usize + 1, Span::default());
        self.spans[slot as usize] = Span { from: self.bytes.len(), len: key.len() };
        if self.bytes.len() + key.len() > self.bytes.capacity() {
            self.bytes.reserve_exact(key.len().max(self.bytes.capacity() / 4));
        }
        self.bytes.extend_from_slice(key);
    }

    fn remove(&mut self, slot: u32) {
        self.garbage += std::mem::take(&mut self.spans[slot as usize].len);
        if self.garbage > GARBAGE_BYTES_MIN && self.garbage > self.bytes.len() / 2 {
            *self = self.copy(0..self.spans.len() as u32);
        }
    }

    fn copy(&self, slots: impl Iterator<Item = u32> + Clone) -> Arena {
        let bytes = slots.clone().map(|s| self.spans[s as usize].len).sum();
        let spans = Vec::with_capacity(slots.clone().count());
        let mut copy = Arena { bytes: Vec::with_capacity(bytes), spans, garbage: 0 };
        for s in slots {
            let key = self.get(s);
            copy.spans.push(Span { from: copy.bytes.len(), len: key.len() });
            copy.bytes.extend_from_slice(key);
        }
        copy
    }
}

/// What is kept by slot, and which slots there are.
#[derive(Debug)]
struct Slots {
    rows: Vec<i64>,
    flags: Vec<u8>,
    free: Vec<u32>,
    /// Slot and stamp of the NULL group or the global group.
    single: Option<(u32, u32)>,
    /// Of the running tick.
    stamp: u32,
}

/// The groups of a tick, as they are found.
struct Touches<'a> {
    /// In the order of the first touch.
    touched: &'a mut Vec<u32>,
    /// Ordinals of those that were not in memory.
    fresh: &'a mut Vec<u32>,
}

impl Slots {
    fn add(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let slot = self.rows.len();
            grow_vec(&mut self.rows, slot + 1, 0);
            grow_vec(&mut self.flags, slot + 1, 0);
            slot as u32
        })
    }

    /// Looks up the single group.
    fn find_single(&mut self) -> (u32, Found) {
        let stamp = self.stamp;
        match &mut self.single {
            None => {
                let slot = self.add();
                self.single = Some((slot, stamp));
                (slot, Found::New)
            }
            Some((slot, at)) => {
                let found = if *at == stamp { Found::Again } else { Found::First };
                *at = stamp;
                (*slot, found)
            }
        }
    }

    fn is_single(&self, slot: u32) -> bool {
        self.single.is_some_and(|(s, _)| s == slot)
    }
}

impl Touches<'_> {
    #[inline]
    fn add(&mut self, (slot, found): (u32, Found)) -> u32 {
        if found != Found::Again {
            if found == Found::New {
                self.fresh.push(self.touched.len() as u32);
            }
            self.touched.push(slot);
        }
        slot
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Groups {
    columns: Vec<Column>,
    codec: KeyCodec,
    max_parallelism: u16,
    keys: Keys,
    index: HashIndex,
    slots: Slots,
    dirty: Vec<u32>,
    words: Vec<u64>,
    key_batch: KeyBatch,
}

impl Groups {
    pub fn new(columns: Vec<Column>, max_parallelism: u16) -> Result<Self> {
        let keys = match &columns[..] {
            [] => Keys::Global,
            [c] if Domain::new(&c.ty)?.form() == Form::Word => Keys::Word { ty: c.ty.to_arrow(), words: vec![] },
            [c] if matches!(c.ty.to_arrow(), DataType::Utf8 | DataType::Binary) => {
                Keys::Text { domain: Domain::new(&c.ty)?, texts: Arena::default() }
            }
            _ => Keys::Bytes(Arena::default()),
        };
        Ok(Groups {
            codec: KeyCodec::new(columns.iter().map(|c| KeyOrder::ascending(c.ty.clone())).collect()),
            columns,
            max_parallelism,
            keys,
            index: HashIndex::default(),
            slots: Slots { rows: vec![], flags: vec![], free: vec![], single: None, stamp: 1 },
            dirty: vec![],
            words: vec![],
            key_batch: KeyBatch::new(),
        })
    }

    /// Slots there are, free ones included.
    pub fn slots(&self) -> usize {
        self.slots.rows.len()
    }

    /// Groups in memory.
    pub fn len(&self) -> usize {
        self.slots.rows.len() - self.slots.free.len()
    }

    /// Looks up the group of every row: `slots` gets one slot per row. Groups that the tick touches for the first time
    /// are appended to `touched`, the ordinals of those that were not in memory to `fresh`.
    pub fn intern(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        slots: &mut Vec<u32>,
        touched: &mut Vec<u32>,
        fresh: &mut Vec<u32>,
    ) -> Result<()> {
        slots.clear();
        if self.len() + rows > GROUPS_MAX {
            return Err(Error::unsupported(format!("more than {GROUPS_MAX} groups in memory on one worker")));
        }
        let Groups { keys, index, slots: all, .. } = self;
        let mut touches = Touches { touched, fresh };
        let stamp = all.stamp;
        match keys {
            Keys::Global => slots.resize(rows, touches.add(all.find_single())),
            Keys::Word { words, .. } => {
                self.words.clear();
                if !read_words(&columns[0], &mut self.words) {
                    let ty = columns[0].data_type();
                    return Err(Error::internal(format!("a group column lies in memory as {ty}")));
                }
                index.reserve(rows);
                let mut put = |slot: u32, word: u64| {
                    grow_vec(words, slot as usize + 1, 0);
                    words[slot as usize] = word;
                    slot
                };
                match columns[0].logical_nulls().filter(|n| n.null_count() > 0) {
                    None => {
                        for part in self.words.chunks(WARM_KEYS) {
                            index.warm(part);
                            slots.extend(part.iter().map(|&word| {
                                touches.add(index.find_or_insert(word, stamp, |_| true, || put(all.add(), word)))
                            }));
                        }
                    }
                    Some(nulls) => {
                        for (&word, valid) in self.words.iter().zip(&nulls) {
                            let found = if valid {
                                index.find_or_insert(word, stamp, |_| true, || put(all.add(), word))
                            } else {
                                let found = all.find_single();
                                put(found.0, 0);
                                found
                            };
                            slots.push(touches.add(found));
                        }
                    }
                }
            }
            Keys::Text { domain, texts } => {
                let column = <Box<[u8]>>::read(domain, &columns[0], &mut self.key_batch)?;
                let nulls = columns[0].logical_nulls().filter(|n| n.null_count() > 0);
                let key = |row: usize| match &nulls {
                    Some(nulls) if nulls.is_null(row) => None,
                    _ => Some(<Box<[u8]>>::get(&column, row)),
                };
                hash_keys(rows, key, &mut self.words);
                intern_bytes(index, texts, all, &self.words, key, &mut touches, slots);
            }
            Keys::Bytes(arena) => {
                self.key_batch.clear();
                self.codec.encode(None, columns, rows, &mut self.key_batch)?;
                let key = |row: usize| Some(self.key_batch.get(row));
                hash_keys(rows, key, &mut self.words);
                intern_bytes(index, arena, all, &self.words, key, &mut touches, slots);
            }
        }
        Ok(())
    }

    /// Touches the one group of a global aggregate.
    pub fn touch_global(&mut self, touched: &mut Vec<u32>, fresh: &mut Vec<u32>) -> Result<()> {
        let mut slots = vec![];
        self.intern(&[], 0, &mut slots, touched, fresh)
    }

    /// Adds the rows of a batch to their groups.
    pub fn add_rows(&mut self, slots: &[u32], weights: Option<&[i64]>) {
        match weights {
            None => slots.iter().for_each(|&s| self.slots.rows[s as usize] += 1),
            Some(w) => slots.iter().zip(w).for_each(|(&s, w)| self.slots.rows[s as usize] += w),
        }
    }

    /// Weight of all rows of a group.
    pub fn rows(&self, slot: u32) -> i64 {
        self.slots.rows[slot as usize]
    }

    /// By slot.
    pub fn all_rows(&self) -> &[i64] {
        &self.slots.rows
    }

    pub fn add(&mut self, slot: u32, rows: i64) {
        self.slots.rows[slot as usize] += rows;
    }

    pub fn set_dirty(&mut self, slot: u32) {
        let flags = &mut self.slots.flags[slot as usize];
        if *flags & LISTED == 0 {
            self.dirty.push(slot);
        }
        *flags |= DIRTY | LISTED;
    }

    pub fn is_dirty(&self, slot: u32) -> bool {
        self.slots.flags[slot as usize] & DIRTY != 0
    }

    pub fn set_stored(&mut self, slot: u32) {
        self.slots.flags[slot as usize] |= STORED;
    }

    pub fn is_stored(&self, slot: u32) -> bool {
        self.slots.flags[slot as usize] & STORED != 0
    }

    /// The dirty groups; the list is empty afterwards, the groups are dirty until `set_clean`.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|&s| {
            self.slots.flags[s as usize] &= !LISTED;
            self.slots.flags[s as usize] & DIRTY != 0
        });
        dirty
    }

    pub fn set_clean(&mut self, slot: u32) {
        self.slots.flags[slot as usize] &= !DIRTY;
    }

    /// The tick is over.
    pub fn finish_tick(&mut self) {
        if self.slots.stamp == u32::MAX {
            self.index.reset_stamps();
            self.slots.single = self.slots.single.map(|(slot, _)| (slot, 0));
            self.slots.stamp = 0;
        }
        self.slots.stamp += 1;
    }

    /// Frees the slot of a group of which nothing is stored.
    pub fn release(&mut self, slot: u32) {
        if self.slots.is_single(slot) {
            self.slots.single = None;
        } else {
            match &mut self.keys {
                Keys::Global => {}
                Keys::Word { words, .. } => self.index.remove(words[slot as usize], slot),
                Keys::Text { texts: arena, .. } | Keys::Bytes(arena) => {
                    self.index.remove(hash_bytes(arena.get(slot)), slot);
                    arena.remove(slot);
                }
            }
        }
        self.slots.rows[slot as usize] = 0;
        // A list entry may remain; it is skipped, since the slot is not dirty.
        self.slots.flags[slot as usize] &= LISTED;
        self.slots.free.push(slot);
    }

    /// The `keep` groups that were touched last stay; those without rows go first.
    pub fn plan_eviction(&self, keep: usize) -> SlotMap {
        let mut all: Vec<(u32, u32)> = self.index.iter().chain(self.slots.single).map(|(s, at)| (at, s)).collect();
        for (at, slot) in &mut all {
            if self.slots.rows[*slot as usize] == 0 {
                *at = 0;
            }
        }
        if keep < all.len() {
            all.select_nth_unstable_by(keep, |a, b| b.cmp(a));
            all.truncate(keep);
        }
        let mut kept = vec![false; self.slots()];
        all.iter().for_each(|(_, slot)| kept[*slot as usize] = true);
        SlotMap::of(&kept)
    }

    /// Keeps the groups that have a new slot, in as little memory as they need.
    pub fn renumber(&mut self, map: &SlotMap) {
        self.index.renumber(&map.new, |key, _| key);
        self.slots.single = self.slots.single.and_then(|(slot, stamp)| Some((map.get(slot)?, stamp)));
        self.slots.rows = map.kept_slots().map(|s| self.slots.rows[s as usize]).collect();
        self.slots.flags = map.kept_slots().map(|s| self.slots.flags[s as usize] & !LISTED).collect();
        match &mut self.keys {
            Keys::Global => {}
            Keys::Word { words, .. } => *words = map.kept_slots().map(|s| words[s as usize]).collect(),
            Keys::Text { texts: arena, .. } | Keys::Bytes(arena) => {
                let slots: Vec<u32> = map.kept_slots().collect();
                *arena = arena.copy(slots.iter().copied());
            }
        }
        self.slots.free = vec![];
        self.words = vec![];
        self.key_batch = KeyBatch::new();
        self.dirty = vec![];
        for slot in 0..self.slots.rows.len() as u32 {
            if self.is_dirty(slot) {
                self.set_dirty(slot);
            }
        }
    }

    /// The group columns of the given slots, in order.
    pub fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Global => Ok(vec![]),
            Keys::Word { ty, words } => {
                let null = self.slots.single.map_or(NONE, |(slot, _)| slot);
                let nulls = (null != NONE && slots.contains(&null))
                    .then(|| NullBuffer::from(slots.iter().map(|&s| s != null).collect::<Vec<_>>()));
                Ok(vec![words_array(ty, slots.iter().map(|&s| words[s as usize]).collect(), nulls)?])
            }
            Keys::Text { domain, texts } => {
                let null = self.slots.single.map_or(NONE, |(slot, _)| slot);
                let values = slots.iter().map(|&s| (s != null).then(|| texts.get(s)));
                Ok(vec![<Box<[u8]>>::array(domain, values)?])
            }
            Keys::Bytes(arena) => self.codec.decode(slots.iter().map(|&s| arena.get(s))),
        }
    }

    /// Appends the stored keys of groups, each with its key group.
    pub fn keys(&self, slots: &[u32], out: &mut KeyBatch) -> Result<()> {
        let columns = self.columns(slots)?;
        let mut hashes = vec![];
        hash_rows(&columns, slots.len(), &mut hashes)?;
        let groups: Vec<u16> = hashes.iter().map(|&h| key_group(h, self.max_parallelism)).collect();
        match &self.keys {
            Keys::Bytes(arena) => {
                for (group, &slot) in groups.iter().zip(slots) {
                    out.bytes.extend_from_slice(&group.to_be_bytes());
                    out.push(arena.get(slot));
                }
                Ok(())
            }
            _ => self.codec.encode(Some(&groups), &columns, slots.len(), out),
        }
    }

    /// For messages: `group k = 5, s = abc`.
    pub fn describe(&self, slot: u32) -> String {
        let Ok(columns) = self.columns(&[slot]) else { return "group (unreadable)".to_owned() };
        if columns.is_empty() {
            return "all rows".to_owned();
        }
        let options = FormatOptions::new().with_null("NULL");
        let cells: Vec<String> = self
            .columns
            .iter()
            .zip(&columns)
            .map(|(c, array)| {
                let value = ArrayFormatter::try_new(array.as_ref(), &options)
                    .and_then(|f| f.value(0).try_to_string())
                    .unwrap_or_else(|_| "?".to_owned());
                format!("{} = {value}", c.name)
            })
            .collect();
        format!("group {}", cells.join(", "))
    }

    pub fn held(&self) -> usize {
        let keys = match &self.keys {
            Keys::Global => 0,
            Keys::Word { words, .. } => words.capacity() * 8,
            Keys::Text { texts: a, .. } | Keys::Bytes(a) => a.bytes.capacity() + a.spans.capacity() * size_of::<Span>(),
        };
        let per_slot = self.slots.rows.capacity() * 8 + self.slots.flags.capacity();
        let lists = (self.slots.free.capacity() + self.dirty.capacity()) * 4;
        let scratch = self.words.capacity() * 8 + self.key_batch.bytes.capacity() + self.key_batch.ends.capacity() * 8;
        self.index.held() + keys + per_slot + lists + scratch
    }
}

fn hash_keys<'a>(rows: usize, key: impl Fn(usize) -> Option<&'a [u8]>, hashes: &mut Vec<u64>) {
    hashes.clear();
    hashes.extend((0..rows).map(|row| key(row).map_or(0, hash_bytes)));
}

/// Looks up keys of any length, `None` being the single one; their hashes are given. Two passes, so that look-ups do not
/// wait for the memory of one another: the first takes equal hashes for equal keys, the second compares the keys and
/// corrects.
fn intern_bytes<'a>(
    index: &mut HashIndex,
    arena: &mut Arena,
    all: &mut Slots,
    hashes: &[u64],
    key: impl Fn(usize) -> Option<&'a [u8]>,
    touches: &mut Touches<'_>,
    slots: &mut Vec<u32>,
) {
    let stamp = all.stamp;
    index.reserve(hashes.len());
    for (part, hashes) in hashes.chunks(WARM_KEYS).enumerate() {
        let from = part * WARM_KEYS;
        index.warm(hashes);
        for (row, &hash) in (from..).zip(hashes) {
            let key = key(row);
            let (slot, found) = match key {
                Some(_) => index.find_or_insert(hash, stamp, |_| true, || all.add()),
                None => all.find_single(),
            };
            if found == Found::New {
                arena.put(slot, key.unwrap_or_default());
            }
            slots.push(touches.add((slot, found)));
        }
        for (row, &hash) in (from..).zip(hashes) {
            let Some(key) = key(row) else { continue };
            if arena.get(slots[row]) != key {
                let (slot, found) = index.find_or_insert(hash, stamp, |s| arena.get(s) == key, || all.add());
                if found == Found::New {
                    arena.put(slot, key);
                }
                slots[row] = touches.add((slot, found));
            }
        }
    }
}
