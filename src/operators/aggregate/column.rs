//! Accumulators as columns: one state per group (a *slot*), all work over batches of slots.
//!
//! A tick goes as follows. When a group is touched for the first time, its state is copied (`snapshot`); rows are added to
//! the current state as they come (`update`). A group that is not in memory starts from nothing, so that its current state
//! is the tick's delta; at the end of the tick the stored state of all such groups is read at once, becomes the old
//! state, and is added to the delta (`load`). That works because every state is a sum of its rows, in any order. Then old
//! and new output are compared and written.
//!
//! `Kind` says what one function's state is and does; `Column` makes of it what the operator drives, `Accumulator`.

use arrow::array::ArrayRef;
use arrow::buffer::BooleanBuffer;
use thalweg_core::Result;
use thalweg_core::state::KeyBatch;

use super::groups::{Groups, SlotMap};

/// Rows of one batch for one call.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// The group of each row.
    pub slots: &'a [u32],
    /// The argument; `None` for COUNT(*).
    pub values: Option<&'a ArrayRef>,
    /// `None`: all +1.
    pub weights: Option<&'a [i64]>,
    /// Rows that count: the argument is not NULL and the filter is true. `None`: all.
    pub mask: Option<&'a BooleanBuffer>,
}

impl<'a> Rows<'a> {
    /// Calls `f(row, slot, weight)` for every row that counts.
    #[inline(always)]
    pub fn for_each(&self, mut f: impl FnMut(usize, usize, i64)) {
        match (self.mask, self.weights) {
            (None, None) => self.slots.iter().enumerate().for_each(|(row, &slot)| f(row, slot as usize, 1)),
            (None, Some(w)) => {
                self.slots.iter().zip(w).enumerate().for_each(|(row, (&slot, &w))| f(row, slot as usize, w));
            }
            (Some(mask), None) => mask.set_indices().for_each(|row| f(row, self.slots[row] as usize, 1)),
            (Some(mask), Some(w)) => mask.set_indices().for_each(|row| f(row, self.slots[row] as usize, w[row])),
        }
    }

    /// The argument.
    pub fn argument(&self) -> &'a ArrayRef {
        self.values.expect("only COUNT(*) has no argument")
    }
}

/// The groups that a tick touched: `slots[ordinal]`.
#[derive(Clone, Copy)]
pub(super) struct Touched<'a> {
    pub slots: &'a [u32],
    /// Ordinals of the groups that were not in memory before the tick.
    pub fresh: &'a [u32],
    /// Per `fresh`: nothing is stored for this group.
    pub absent: &'a [bool],
}

/// One output row of a touched group: its old or its new one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick(u32);

impl Pick {
    pub fn old(ordinal: usize) -> Self {
        Pick((ordinal as u32) << 1)
    }

    pub fn new(ordinal: usize) -> Self {
        Pick((ordinal as u32) << 1 | 1)
    }

    pub fn ordinal(self) -> usize {
        (self.0 >> 1) as usize
    }

    pub fn is_new(self) -> bool {
        self.0 & 1 == 1
    }
}

/// One aggregate call over all groups in memory.
pub(super) trait Accumulator {
    /// There are this many slots now; new ones have seen no rows.
    fn grow(&mut self, slots: usize);

    /// Keeps the states of groups that the tick touches for the first time, behind those kept before.
    fn snapshot(&mut self, slots: &[u32]);

    fn update(&mut self, rows: Rows) -> Result<()>;

    /// Stored states of touched groups: they are the old ones, and what the tick brought is added. `stored` is what
    /// `encode` wrote, per item of `at`, which holds (ordinal, slot).
    fn load(&mut self, at: &[(u32, u32)], stored: &[&[u8]]) -> Result<()>;

    /// All rows and all stored states have come; for accumulators that keep values in a table of their own.
    fn settle(&mut self, groups: &Groups, touched: Touched) -> Result<()> {
        let _ = (groups, touched);
        Ok(())
    }

    /// A touched group whose new state cannot be, and why: the changes contradict themselves. `rows` has by slot how many
    /// rows a group has.
    fn contradiction(&self, touched: &[u32], rows: &[i64]) -> Option<(u32, &'static str)>;

    /// Sets `changed[i]` where the group with ordinal `from + i` has another output value than before the tick.
    fn compare(&self, touched: &[u32], from: usize, changed: &mut [bool]);

    /// Counts in `old` and `new` where the value before and after the tick, of the groups from ordinal `from` on, has no
    /// place in its type.
    fn count_failures(&self, touched: &[u32], from: usize, old: &mut [u32], new: &mut [u32]) {
        let _ = (touched, from, old, new);
    }

    /// Why the new value of a group has no place in its type.
    fn failure(&self, slot: u32) -> Option<String> {
        let _ = slot;
        None
    }

    /// Output values; NULL for those that fail.
    fn output(&self, touched: &[u32], picks: &[Pick]) -> Result<ArrayRef>;

    /// The tick is over: drops what `snapshot` kept.
    fn finish_tick(&mut self, touched: &[u32]);

    /// Appends the frozen bytes of groups' states, one item each.
    fn encode(&self, slots: &[u32], out: &mut KeyBatch) -> Result<()>;

    /// The slot is free: nothing of its group is stored or to be stored.
    fn release(&mut self, slot: u32);

    /// Writes what is dirty of its own table. Appends the slots of which something is stored now to `stored`.
    fn flush(&mut self, groups: &Groups, stored: &mut Vec<u32>) -> Result<()> {
        let _ = (groups, stored);
        Ok(())
    }

    /// Slots are renumbered; those without a new number leave memory, and of the accumulator's own values about
    /// `fraction` (0 to 1) may stay, the last used ones. What leaves and is dirty is written.
    fn evict(&mut self, groups: &Groups, map: &SlotMap, fraction: f64, stored: &mut Vec<u32>) -> Result<()>;

    /// Bytes in memory.
    fn held(&self) -> usize;
}

/// What a function's state is and does.
pub(super) trait Kind {
    type State: Clone + Default + 'static;

    fn update(&mut self, states: &mut [Self::State], rows: Rows) -> Result<()>;
    fn merge(&self, into: &mut Self::State, other: &Self::State);
    fn contradiction(&self, state: &Self::State, rows: i64) -> Option<&'static str>;
    fn same_output(&self, a: &Self::State, b: &Self::State) -> bool;
    fn output<'a>(&self, states: impl ExactSizeIterator<Item = &'a Self::State> + Clone) -> Result<ArrayRef>;

    /// A value may have no place in its type.
    const FALLIBLE: bool = false;

    fn fits(&self, state: &Self::State) -> bool {
        let _ = state;
        true
    }

    fn failure(&self, state: &Self::State) -> Option<String> {
        let _ = state;
        None
    }

    /// Appends the frozen bytes of states, one item each.
    fn encode<'a>(&self, states: impl Iterator<Item = &'a Self::State> + Clone, out: &mut KeyBatch) -> Result<()>;
    /// The states of such bytes.
    fn decode(&self, stored: &[&[u8]]) -> Result<Vec<Self::State>>;

    /// Bytes that a state holds outside of itself.
    fn heap_bytes(&self, state: &Self::State) -> usize {
        let _ = state;
        0
    }
    /// Whether `heap_bytes` can be other than 0.
    const ON_HEAP: bool = false;
}

/// The states of one function, by slot.
pub(super) struct Column<K: Kind> {
    pub kind: K,
    pub states: Vec<K::State>,
    /// By ordinal.
    old: Vec<K::State>,
    /// Outside of the vector; without the touched groups during a tick.
    heap_bytes: usize,
}

/// Grows by a quarter, so that a column that was sized to a budget stays near it.
pub(super) fn grow_vec<T: Clone>(v: &mut Vec<T>, len: usize, value: T) {
    if len > v.capacity() {
        v.reserve_exact((len - v.len()).max(v.capacity() / 4));
    }
    if len > v.len() {
        v.resize(len, value);
    }
}

/// Room in a vector that is filled anew each tick and worth giving back.
const SCRATCH_BYTES_KEPT: usize = 1 << 20;

/// Empties a vector, and gives back its memory if that is large.
pub(super) fn clear_scratch<T>(v: &mut Vec<T>) {
    v.clear();
    if v.capacity() * size_of::<T>() > SCRATCH_BYTES_KEPT {
        v.shrink_to(SCRATCH_BYTES_KEPT / size_of::<T>().max(1));
    }
}

impl<K: Kind> Column<K> {
    pub fn new(kind: K) -> Self {
        Column { kind, states: vec![], old: vec![], heap_bytes: 0 }
    }

    pub fn picked(&self, touched: &[u32], pick: Pick) -> &K::State {
        if pick.is_new() { &self.states[touched[pick.ordinal()] as usize] } else { &self.old[pick.ordinal()] }
    }

    fn heap_bytes_of(&self, slots: &[u32]) -> usize {
        if K::ON_HEAP { slots.iter().map(|&s| self.kind.heap_bytes(&self.states[s as usize])).sum() } else { 0 }
    }

    /// Keeps the states that have a new slot.
    pub fn renumber(&mut self, map: &SlotMap) {
        let mut states = Vec::with_capacity(map.kept());
        map.kept_slots().for_each(|slot| states.push(std::mem::take(&mut self.states[slot as usize])));
        self.states = states;
        if K::ON_HEAP {
            self.heap_bytes = self.states.iter().map(|s| self.kind.heap_bytes(s)).sum();
        }
        self.old = vec![];
    }
}

impl<K: Kind> Accumulator for Column<K> {
    fn grow(&mut self, slots: usize) {
        grow_vec(&mut self.states, slots, K::State::default());
    }

    fn snapshot(&mut self, slots: &[u32]) {
        self.heap_bytes -= self.heap_bytes_of(slots);
        let states = &self.states;
        self.old.extend(slots.iter().map(|&s| states[s as usize].clone()));
    }

    fn update(&mut self, rows: Rows) -> Result<()> {
        self.kind.update(&mut self.states, rows)
    }

    fn load(&mut self, at: &[(u32, u32)], stored: &[&[u8]]) -> Result<()> {
        for (&(ordinal, slot), state) in at.iter().zip(self.kind.decode(stored)?) {
            self.kind.merge(&mut self.states[slot as usize], &state);
            self.old[ordinal as usize] = state;
        }
        Ok(())
    }

    fn contradiction(&self, touched: &[u32], rows: &[i64]) -> Option<(u32, &'static str)> {
        touched.iter().find_map(|&slot| {
            let why = self.kind.contradiction(&self.states[slot as usize], rows[slot as usize]);
            why.map(|why| (slot, why))
        })
    }

    fn compare(&self, touched: &[u32], from: usize, changed: &mut [bool]) {
        let len = changed.len();
        for ((changed, &slot), old) in changed.iter_mut().zip(&touched[from..]).zip(&self.old[from..from + len]) {
            *changed |= !self.kind.same_output(old, &self.states[slot as usize]);
        }
    }

    fn count_failures(&self, touched: &[u32], from: usize, old: &mut [u32], new: &mut [u32]) {
        if K::FALLIBLE {
            old.iter_mut().zip(&self.old[from..]).for_each(|(n, s)| *n += u32::from(!self.kind.fits(s)));
            new.iter_mut()
                .zip(&touched[from..])
                .for_each(|(n, &slot)| *n += u32::from(!self.kind.fits(&self.states[slot as usize])));
        }
    }

    fn failure(&self, slot: u32) -> Option<String> {
        self.kind.failure(&self.states[slot as usize])
    }

    fn output(&self, touched: &[u32], picks: &[Pick]) -> Result<ArrayRef> {
        self.kind.output(picks.iter().map(|&p| self.picked(touched, p)))
    }

    fn finish_tick(&mut self, touched: &[u32]) {
        self.heap_bytes += self.heap_bytes_of(touched);
        clear_scratch(&mut self.old);
    }

    fn encode(&self, slots: &[u32], out: &mut KeyBatch) -> Result<()> {
        self.kind.encode(slots.iter().map(|&s| &self.states[s as usize]), out)
    }

    fn release(&mut self, slot: u32) {
        self.heap_bytes -= self.heap_bytes_of(&[slot]);
        self.states[slot as usize] = K::State::default();
    }

    fn evict(&mut self, _: &Groups, map: &SlotMap, _: f64, _: &mut Vec<u32>) -> Result<()> {
        self.renumber(map);
        Ok(())
    }

    fn held(&self) -> usize {
        (self.states.capacity() + self.old.capacity()) * size_of::<K::State>() + self.heap_bytes
    }
}

// ---- pieces of the frozen state bytes ----

/// Appends a number as LEB128, the sign in the lowest bit.
pub(super) fn put_varint(v: i64, out: &mut Vec<u8>) {
    let mut rest = (v << 1 ^ v >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut v = 0u64;
    for shift in (0..64).step_by(7) {
        let (&b, rest) = bytes.split_first()?;
        *bytes = rest;
        v |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Some((v >> 1) as i64 ^ -((v & 1) as i64));
        }
    }
    None
}

/// The shortest prefix of little-endian two's complement bytes that keeps the value; nothing for 0.
pub(super) fn trim_signed(bytes: &[u8]) -> &[u8] {
    let mut n = bytes.len();
    let fill = if bytes.last().is_some_and(|b| *b >= 0x80) { 0xff } else { 0 };
    // The byte below must keep the sign.
    while n > 1 && bytes[n - 1] == fill && (bytes[n - 2] ^ fill) < 0x80 {
        n -= 1;
    }
    if n == 1 && bytes[0] == 0 { &[] } else { &bytes[..n] }
}

/// Fills up what `trim_signed` left to `N` bytes; `None` if it is longer.
pub(super) fn fill_signed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let fill = if bytes.last().is_some_and(|b| *b >= 0x80) { 0xff } else { 0 };
    let mut out = [fill; N];
    out.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_their_bytes() {
        for v in [0, 1, -1, 63, 64, -64, -65, 127, 128, -128, -129, 1 << 40, i64::MAX, i64::MIN] {
            let mut bytes = vec![];
            put_varint(v, &mut bytes);
            let mut rest = &bytes[..];
            assert_eq!(take_varint(&mut rest), Some(v));
            assert!(rest.is_empty());
            let whole = v.to_le_bytes();
            let trimmed = trim_signed(&whole);
            assert_eq!(fill_signed::<8>(trimmed).map(i64::from_le_bytes), Some(v), "{trimmed:?}");
            assert_eq!(trim_signed(&i128::from(v).to_le_bytes()), trimmed, "the width does not show");
        }
        assert_eq!(take_varint(&mut &[0x80; 11][..]), None);
        assert_eq!(take_varint(&mut &[0x80][..]), None);
        assert_eq!(fill_signed::<2>(&[1, 2, 3]), None);
    }
}
