//! A hash index from 64-bit keys to dense `u32` indices, for keys that live elsewhere in columns: open addressing,
//! linear probing, any capacity (so that it can be sized to a memory budget), removal without tombstones.
//!
//! Every entry also carries the *stamp* of the tick that touched it last: whether an index is touched for the first time
//! in a tick costs no memory access beyond the look-up's own, and eviction knows what was not used for long.

use std::hint::black_box;

/// What a look-up met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Seen already in this tick.
    Again,
    /// There, and touched for the first time in this tick.
    First,
    /// Was not there.
    New,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    /// `NONE`: the entry is free.
    index: u32,
    stamp: u32,
}

const NONE: u32 = u32::MAX;
const FREE: Entry = Entry { key: 0, index: NONE, stamp: 0 };
/// Of 16 entries at most this many are taken.
const LOAD_MAX_SIXTEENTHS: usize = 11;
const ENTRIES_MIN: usize = 16;
/// Beyond this the index grows by half instead of doubling: memory counts more than the copying.
const DOUBLING_ENTRIES_MAX: usize = 1 << 20;

/// Look-ups of this many keys are warmed at once.
pub(super) const WARM_KEYS: usize = 64;
/// A smaller index stays in the processor's cache by itself.
const COLD_ENTRIES_MIN: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct HashIndex {
    entries: Vec<Entry>,
    len: usize,
}

/// Folded multiplication: every bit of the key reaches the upper bits, which choose the entry.
#[inline]
fn mix(key: u64) -> u64 {
    let product = u128::from(key ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    product as u64 ^ (product >> 64) as u64
}

/// A 64-bit hash of two words, to be used as a key.
#[inline]
pub(super) fn hash_pair(a: u64, b: u64) -> u64 {
    mix(mix(a) ^ b)
}

/// A 64-bit hash of bytes, to be used as a key. For memory only: it may change from release to release.
#[inline]
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut h = bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        h = mix(h ^ u64::from_le_bytes(word.try_into().expect("8 bytes")));
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        h = mix(h ^ u64::from_le_bytes(word));
    }
    h
}

impl HashIndex {
    pub fn held(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Makes room, so that `additional` look-ups may insert.
    pub fn reserve(&mut self, additional: usize) {
        let wanted = Self::entries_for(self.len + additional);
        if wanted > self.entries.len() {
            let now = self.entries.len();
            let grown = if now < DOUBLING_ENTRIES_MAX { now * 2 } else { now + now / 2 };
            self.resize(wanted.max(grown));
        }
    }

    fn entries_for(len: usize) -> usize {
        (len * 16 / LOAD_MAX_SIXTEENTHS + 1).max(ENTRIES_MIN)
    }

    fn resize(&mut self, entries: usize) {
        let old = std::mem::replace(&mut self.entries, vec![FREE; entries]);
        for e in old.into_iter().filter(|e| e.index != NONE) {
            self.place(e);
        }
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        ((u128::from(mix(key)) * self.entries.len() as u128) >> 64) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() { 0 } else { at + 1 }
    }

    fn place(&mut self, entry: Entry) {
        let mut at = self.home(entry.key);
        while self.entries[at].index != NONE {
            at = self.after(at);
        }
        self.entries[at] = entry;
    }

    /// Reads the entries that the keys' look-ups begin at: loads that do not wait for one another, as those of look-ups
    /// with their branches do.
    #[inline]
    pub fn warm(&self, keys: &[u64]) {
        if self.entries.len() > COLD_ENTRIES_MIN {
            black_box(keys.iter().fold(0, |all, &key| all ^ self.entries[self.home(key)].index));
        }
    }

    /// The index of a key; `same` tells whether an index with an equal 64-bit key is the one looked for (the keys may be
    /// hashes); `new` gives the index if there is none. `reserve` must have made room.
    #[inline]
    pub fn find_or_insert(
        &mut self,
        key: u64,
        stamp: u32,
        same: impl Fn(u32) -> bool,
        new: impl FnOnce() -> u32,
    ) -> (u32, Found) {
        let mut at = self.home(key);
        loop {
            let e = &mut self.entries[at];
            if e.index == NONE {
                let index = new();
                *e = Entry { key, index, stamp };
                self.len += 1;
                return (index, Found::New);
            }
            if e.key == key && same(e.index) {
                let first = e.stamp != stamp;
                e.stamp = stamp;
                return (e.index, if first { Found::First } else { Found::Again });
            }
            at = self.after(at);
        }
    }

    /// The index of a key, if it is there. Does not touch.
    #[cfg(test)]
    fn find(&self, key: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.home(key);
        loop {
            let e = &self.entries[at];
            if e.index == NONE {
                return None;
            }
            if e.key == key && same(e.index) {
                return Some(e.index);
            }
            at = self.after(at);
        }
    }

    /// Removes the entry of `index`, which has this key.
    pub fn remove(&mut self, key: u64, index: u32) {
        let n = self.entries.len();
        let mut hole = self.home(key);
        while self.entries[hole].index != index {
            debug_assert_ne!(self.entries[hole].index, NONE, "an index is removed that is there");
            hole = self.after(hole);
        }
        // Entries behind the hole move up unless that would put them before their home.
        let mut at = hole;
        loop {
            at = self.after(at);
            let e = self.entries[at];
            if e.index == NONE {
                break;
            }
            let from_home = (at + n - self.home(e.key)) % n;
            let from_hole = (at + n - hole) % n;
            if from_home >= from_hole {
                self.entries[hole] = e;
                hole = at;
            }
        }
        self.entries[hole] = FREE;
        self.len -= 1;
    }

    /// All (index, stamp), in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.entries.iter().filter(|e| e.index != NONE).map(|e| (e.index, e.stamp))
    }

    /// Keeps the entries whose index has a new one (other than `u32::MAX`), in as little memory as they need.
    /// `rekey` gives the key of an entry that had `key` and has the new index.
    pub fn renumber(&mut self, new_indices: &[u32], rekey: impl Fn(u64, u32) -> u64) {
        let old = std::mem::take(&mut self.entries);
        let kept = |e: &Entry| e.index != NONE && new_indices[e.index as usize] != NONE;
        self.len = old.iter().filter(|e| kept(e)).count();
        if self.len == 0 {
            return;
        }
        self.entries = vec![FREE; Self::entries_for(self.len)];
        for e in old.into_iter().filter(kept) {
            let index = new_indices[e.index as usize];
            self.place(Entry { key: rekey(e.key, index), index, stamp: e.stamp });
        }
    }

    /// Forgets when entries were touched; stamps begin anew.
    pub fn reset_stamps(&mut self) {
        self.entries.iter_mut().for_each(|e| e.stamp = 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn put(index: &mut HashIndex, key: u64, stamp: u32, new: u32) -> (u32, Found) {
        index.reserve(1);
        index.find_or_insert(key, stamp, |_| true, || new)
    }

    #[test]
    fn a_touch_is_first_once_a_tick() {
        let mut index = HashIndex::default();
        assert_eq!(put(&mut index, 7, 1, 0), (0, Found::New));
        assert_eq!(put(&mut index, 7, 1, 9), (0, Found::Again));
        assert_eq!(put(&mut index, 7, 2, 9), (0, Found::First));
        assert_eq!(put(&mut index, 7, 2, 9), (0, Found::Again));
        assert_eq!(index.iter().collect::<Vec<_>>(), [(0, 2)]);
    }

    #[test]
    fn equal_hashes_of_different_keys_stay_apart() {
        let mut index = HashIndex::default();
        index.reserve(3);
        let a = index.find_or_insert(5, 1, |_| false, || 0);
        let b = index.find_or_insert(5, 1, |i| i != 0, || 1);
        assert_eq!((a, b), ((0, Found::New), (1, Found::New)));
        index.remove(5, 0);
        assert_eq!(index.find(5, |_| true), Some(1));
    }

    #[test]
    fn renumbering_keeps_what_has_a_new_index() {
        let mut index = HashIndex::default();
        (0..1000).for_each(|i| _ = put(&mut index, i, 3, i as u32));
        let new: Vec<u32> = (0..1000).map(|i| if i % 10 == 0 { i / 10 } else { u32::MAX }).collect();
        index.renumber(&new, |key, _| key);
        assert!(index.held() < 200 * size_of::<Entry>());
        for i in 0..1000 {
            assert_eq!(index.find(i, |_| true), (i % 10 == 0).then_some(i as u32 / 10));
        }
        index.renumber(&[u32::MAX; 100], |key, _| key);
        assert_eq!((index.held(), index.find(0, |_| true)), (0, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]
        #[test]
        fn it_behaves_as_a_map(ops in prop::collection::vec((0u64..60, any::<bool>()), 1..400)) {
            let mut index = HashIndex::default();
            let mut model = HashMap::new();
            for (i, (key, insert)) in ops.into_iter().enumerate() {
                // Multiples of a power of two are what a weak mix would put in one place.
                let wide = key << 40;
                if insert {
                    let (found, _) = put(&mut index, wide, 1, i as u32);
                    prop_assert_eq!(found, *model.entry(key).or_insert(i as u32));
                } else if let Some(at) = model.remove(&key) {
                    index.remove(wide, at);
                }
                for key in 0..60u64 {
                    prop_assert_eq!(index.find(key << 40, |_| true), model.get(&key).copied());
                }
            }
        }
    }
}
