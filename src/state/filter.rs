//! Which keys a table certainly does not hold, in memory: most look-ups of a growing state are for keys that were never
//! there, and these shall not touch RocksDB at all.
//!
//! A chain of blocked Bloom filters, each a few times as large as the one before, so that a table of any size is covered
//! without knowing it in advance: a key goes into the newest one, a look-up asks all of them. A key is one cache line of
//! each. What the filters take counts in the budget, of which they get a part; when it is used up the newest one takes
//! more than it was made for, and when it tells too little, the table goes on without.

use std::sync::Arc;

use crate::budget::Budget;

/// Keys that the first filter is made for.
const KEYS_MIN: usize = 16 * 1024;
/// While filters are made for fewer keys than this the next one is four times as large, then twice: each adds its own
/// false answers, but room that is not used is lost.
const KEYS_TIMES_FOUR_MAX: usize = 256 * 1024;
/// Bits a key: about one false answer in 80, in a filter that is just full.
const BITS_PER_KEY: usize = 10;
/// A filter that got so many tenths of the keys that it was made for lies too often: about one time in three.
const OVERFULL_TENTHS: usize = 25;

/// One bit in each of eight words, a block as in Parquet's filters.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Block([u32; 8]);

const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

#[inline]
fn mask(hash: u64) -> [u32; 8] {
    let x = hash as u32;
    SALTS.map(|salt| 1 << (x.wrapping_mul(salt) >> 27))
}

#[derive(Debug)]
struct Bloom {
    blocks: Vec<Block>,
    keys: usize,
    keys_max: usize,
}

impl Bloom {
    fn new(bytes: usize) -> Self {
        let blocks = vec![Block([0; 8]); bytes / size_of::<Block>()];
        Bloom { blocks, keys: 0, keys_max: bytes * 8 / BITS_PER_KEY }
    }

    #[inline]
    fn block(&self, hash: u64) -> usize {
        (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize
    }

    #[inline]
    fn add(&mut self, hash: u64) {
        let at = self.block(hash);
        for (word, bit) in self.blocks[at].0.iter_mut().zip(mask(hash)) {
            *word |= bit;
        }
        self.keys += 1;
    }

    #[inline]
    fn may_hold(&self, hash: u64) -> bool {
        let block = &self.blocks[self.block(hash)].0;
        block.iter().zip(mask(hash)).fold(0, |missing, (word, bit)| missing | (bit & !word)) == 0
    }
}

/// The keys of one table, as hashes.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    blooms: Vec<Bloom>,
    budget: Arc<Budget>,
    bytes: usize,
    given_up: bool,
}

impl KeyFilter {
    /// Of a table that is empty. Nothing is held before the first key.
    pub fn new(budget: Arc<Budget>) -> Self {
        KeyFilter { blooms: vec![], budget, bytes: 0, given_up: false }
    }

    /// Takes in keys that are written, by their hashes.
    pub fn add_all(&mut self, hashes: &[u64]) {
        if self.given_up {
            return;
        }
        for &hash in hashes {
            // A key that is written again is not to be counted again.
            if self.blooms.iter().any(|b| b.may_hold(hash)) {
                continue;
            }
            if self.blooms.last().is_none_or(|b| b.keys >= b.keys_max) && !self.grow(hashes.len()) {
                return;
            }
            self.blooms.last_mut().expect("grown if there was none").add(hash);
        }
    }

    /// Makes room for more keys, of which so many come at a time; false if the filter was given up.
    fn grow(&mut self, batch: usize) -> bool {
        let last = self.blooms.last().map_or(0, |b| b.keys_max);
        let keys_max = (if last < KEYS_TIMES_FOUR_MAX { 4 } else { 2 } * last.max(batch)).max(KEYS_MIN);
        let bytes = self.budget.take_filter_bytes(keys_max * BITS_PER_KEY / 8);
        self.bytes += bytes;
        let bloom = Bloom::new(bytes);
        if bloom.keys_max >= KEYS_MIN.max(last / 8) {
            self.blooms.push(bloom);
            return true;
        }
        self.bytes -= bytes;
        self.budget.give_filter_bytes(bytes);
        let tells = self.blooms.last().is_some_and(|b| b.keys < b.keys_max / 10 * OVERFULL_TENTHS);
        if !tells {
            self.give_up();
        }
        tells
    }

    fn give_up(&mut self) {
        self.blooms = vec![];
        self.given_up = true;
        self.budget.give_filter_bytes(std::mem::take(&mut self.bytes));
    }

    /// False: the table has no such key.
    #[inline]
    pub fn may_hold(&self, hash: u64) -> bool {
        self.given_up || self.blooms.iter().any(|b| b.may_hold(hash))
    }

    /// It still says something.
    pub fn tells(&self) -> bool {
        !self.given_up
    }
}

impl Drop for KeyFilter {
    fn drop(&mut self) {
        self.budget.give_filter_bytes(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use thalweg_core::hash::hash_bytes;

    use super::*;

    fn hashes(keys: std::ops::Range<u64>) -> Vec<u64> {
        keys.map(|k| hash_bytes(&k.to_be_bytes())).collect()
    }

    #[test]
    fn no_key_is_denied_and_few_are_claimed() {
        let budget = Budget::new(64 << 20);
        let mut filter = KeyFilter::new(budget.clone());
        assert!(!filter.may_hold(hash_bytes(b"any")), "an empty table holds nothing");
        for part in hashes(0..1_000_000).chunks(10_000) {
            filter.add_all(part);
            filter.add_all(part);
        }
        assert!(hashes(0..1_000_000).iter().all(|&h| filter.may_hold(h)));
        let lies = hashes(2_000_000..2_100_000).iter().filter(|&&h| filter.may_hold(h)).count();
        assert!((1..5_000).contains(&lies), "{lies} of 100000");
        let bytes = budget.filter_bytes();
        assert!((1_500_000..4_000_000).contains(&bytes), "{bytes}");
        drop(filter);
        assert_eq!(budget.filter_bytes(), 0);
    }

    #[test]
    fn a_filter_that_outgrows_its_part_of_the_budget_lies_more_and_then_ends() {
        let budget = Budget::new(4 << 20);
        let mut filter = KeyFilter::new(budget.clone());
        let mut told = 0;
        for part in 0..400u64 {
            let part = part * 10_000..(part + 1) * 10_000;
            filter.add_all(&hashes(part.clone()));
            assert!(hashes(part.clone()).iter().all(|&h| filter.may_hold(h)));
            assert!(budget.filter_bytes() <= 3 << 19 && filter.tells() == (budget.filter_bytes() > 0));
            if filter.tells() {
                told = part.end;
            }
        }
        assert!((900_000..3_000_000).contains(&told), "{told}");
        assert!(filter.may_hold(1) && !filter.tells());
        assert_eq!(budget.filter_bytes(), 0);
    }
}
