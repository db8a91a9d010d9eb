//! MIN and MAX. Of append-only input the best value so far is all there is to keep. Of changing input every value is kept
//! with its count (`value_counts`), and when the best one ceases to be, the next one is looked for: among the values in
//! memory, in a heap per group, and in the ordered table, of which a few values at a time are read, so that a group
//! with millions of values need not sit in memory.

use std::cmp::Ordering;

use arrow::array::ArrayRef;
use thalweg_core::Result;
use thalweg_core::state::KeyBatch;

use super::column::{Accumulator, Column, Kind, Pick, Rows, Touched, grow_vec};
use super::damaged;
use super::groups::{Groups, SlotMap};
use super::value_counts::{Event, Known, ValueCounts};
use super::values::{Domain, Value};

/// The best value of a group; none if there is no value.
pub(super) struct Best<V: Value> {
    domain: Domain,
    /// MAX.
    descending: bool,
    buffer: V::Buffer,
}

impl<V: Value> Best<V> {
    pub fn new(domain: Domain, descending: bool) -> Self {
        Best { domain, descending, buffer: V::Buffer::default() }
    }

    fn is_better(&self, a: &V, b: &V) -> bool {
        if self.descending { a > b } else { a < b }
    }
}

#[inline(always)]
fn improve<V: Value>(best: &mut Option<V>, value: V::Ref<'_>, is_better: impl Fn(Ordering) -> bool) {
    if best.as_ref().is_none_or(|best| is_better(V::order(value, best.borrow()))) {
        *best = Some(V::own(value));
    }
}

impl<V: Value> Kind for Best<V> {
    type State = Option<V>;

    /// Append-only input: weights are above 0.
    fn update(&mut self, states: &mut [Option<V>], rows: Rows) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let column = V::read(&self.domain, rows.argument(), &mut buffer)?;
        if self.descending {
            rows.for_each(|row, slot, _| improve(&mut states[slot], V::get(&column, row), Ordering::is_gt));
        } else {
            rows.for_each(|row, slot, _| improve(&mut states[slot], V::get(&column, row), Ordering::is_lt));
        }
        drop(column);
        self.buffer = buffer;
        Ok(())
    }

    fn merge(&self, into: &mut Option<V>, other: &Option<V>) {
        if let Some(other) = other
            && into.as_ref().is_none_or(|best| self.is_better(other, best))
        {
            *into = Some(other.clone());
        }
    }

    fn contradiction(&self, state: &Option<V>, rows: i64) -> Option<&'static str> {
        (rows == 0 && state.is_some()).then_some("the deleted values are not those that were inserted")
    }

    fn same_output(&self, a: &Option<V>, b: &Option<V>) -> bool {
        a == b
    }

    fn output<'a>(&self, states: impl ExactSizeIterator<Item = &'a Option<V>> + Clone) -> Result<ArrayRef> {
        V::array(&self.domain, states.map(|s| s.as_ref().map(V::borrow)))
    }

    /// Nothing, or the value's key bytes (`core::key`, ascending).
    fn encode<'a>(&self, states: impl Iterator<Item = &'a Option<V>> + Clone, out: &mut KeyBatch) -> Result<()> {
        let mut keys = KeyBatch::new();
        self.domain.encode(states.clone().flatten(), &mut keys)?;
        let mut keys = keys.iter();
        states.for_each(|s| out.push(s.as_ref().and_then(|_| keys.next()).unwrap_or_default()));
        Ok(())
    }

    fn decode(&self, stored: &[&[u8]]) -> Result<Vec<Option<V>>> {
        let name = if self.descending { "MAX" } else { "MIN" };
        let keys: Vec<&[u8]> = stored.iter().copied().filter(|bytes| !bytes.is_empty()).collect();
        let mut values = self.domain.decode(keys.into_iter()).map_err(|_| damaged(name))?.into_iter();
        Ok(stored.iter().map(|bytes| if bytes.is_empty() { None } else { values.next() }).collect())
    }

    fn heap_bytes(&self, state: &Option<V>) -> usize {
        state.as_ref().map_or(0, V::heap_bytes)
    }

    const ON_HEAP: bool = true;
}

/// Values in memory of one group: the pairs that may hold the best value, each once.
#[derive(Debug, Clone, Default)]
struct Heap {
    pairs: Vec<u32>,
    /// So many of `pairs` form a binary heap, the best first; the others came later.
    ordered: usize,
}

impl Heap {
    fn top<V: Value>(&mut self, counts: &ValueCounts<V>) -> Option<u32> {
        for at in self.ordered..self.pairs.len() {
            self.sift_up(at, counts);
        }
        self.ordered = self.pairs.len();
        self.pairs.first().copied()
    }

    /// After `top`, which found one.
    fn pop<V: Value>(&mut self, counts: &ValueCounts<V>) {
        self.pairs.swap_remove(0);
        self.ordered = self.pairs.len();
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            let Some(&child) = self.pairs.get(left) else { break };
            let is_before = |a: u32, b: u32| counts.is_before(counts.value(a), counts.value(b));
            let best = match self.pairs.get(left + 1) {
                Some(&right) if is_before(right, child) => left + 1,
                _ => left,
            };
            if !is_before(self.pairs[best], self.pairs[at]) {
                break;
            }
            self.pairs.swap(at, best);
            at = best;
        }
    }

    fn sift_up<V: Value>(&mut self, mut at: usize, counts: &ValueCounts<V>) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !counts.is_before(counts.value(self.pairs[at]), counts.value(self.pairs[parent])) {
                break;
            }
            self.pairs.swap(at, parent);
            at = parent;
        }
    }
}

/// MIN or MAX of changing input.
pub(super) struct Changing<V: Value> {
    best: Column<Best<V>>,
    counts: ValueCounts<V>,
    /// By slot.
    heaps: Vec<Heap>,
    heap_bytes: usize,
}

/// Values that are read from the table at once when the best one is gone.
const READ_VALUES: usize = 64;

impl<V: Value> Changing<V> {
    pub fn new(best: Best<V>, counts: ValueCounts<V>) -> Self {
        Changing { best: Column::new(best), counts, heaps: vec![], heap_bytes: 0 }
    }

    fn add_to_heap(&mut self, slot: u32, pair: u32) {
        if !self.counts.hold(pair) {
            return;
        }
        let heap = &mut self.heaps[slot as usize];
        let capacity = heap.pairs.capacity();
        if heap.pairs.len() == capacity && capacity > 8 {
            // Before it grows, what ceased to be leaves.
            let counts = &mut self.counts;
            heap.pairs.retain(|&p| {
                let stays = counts.count(p) > 0;
                if !stays {
                    counts.let_go(p);
                }
                stays
            });
            heap.ordered = 0;
        }
        heap.pairs.push(pair);
        self.heap_bytes += (heap.pairs.capacity() - capacity) * 4;
    }

    /// The best value of a group that has lost its best one, `lost`.
    fn find_best(&mut self, groups: &Groups, slot: u32, lost: &V) -> Result<Option<V>> {
        loop {
            let heap = &mut self.heaps[slot as usize];
            let mut top = heap.top(&self.counts);
            while let Some(pair) = top.filter(|p| self.counts.count(*p) == 0) {
                heap.pop(&self.counts);
                self.counts.let_go(pair);
                top = heap.top(&self.counts);
            }
            let top = top.map(|p| self.counts.value(p));
            match (self.counts.known(slot), top) {
                (Known::All, top) => return Ok(top.cloned()),
                (Known::UpTo(known), Some(top)) if !self.counts.is_before(known, top) => return Ok(Some(top.clone())),
                _ => {}
            }
            // All stored values were behind the lost one.
            let mut pairs = vec![];
            self.counts.read_next(groups, slot, Some(lost), READ_VALUES, &mut pairs)?;
            pairs.into_iter().for_each(|p| self.add_to_heap(slot, p));
        }
    }

    fn apply(&mut self, groups: &Groups, events: &[Event]) -> Result<()> {
        let mut lost: Vec<(u32, V)> = vec![];
        for e in events.iter().filter(|e| !e.appeared) {
            let best = &mut self.best.states[e.slot as usize];
            if best.as_ref() == Some(self.counts.value(e.pair)) {
                lost.push((e.slot, best.take().expect("compared")));
            }
        }
        for e in events.iter().filter(|e| e.appeared) {
            self.add_to_heap(e.slot, e.pair);
            let best = &mut self.best.states[e.slot as usize];
            let value = self.counts.value(e.pair);
            if best.as_ref().is_none_or(|b| self.counts.is_before(value, b)) {
                *best = Some(value.clone());
            }
        }
        for (slot, lost) in lost {
            // A new value that is better than the lost one is the best of all.
            let at = slot as usize;
            if !self.best.states[at].as_ref().is_some_and(|b| self.counts.is_before(b, &lost)) {
                self.best.states[at] = self.find_best(groups, slot, &lost)?;
            }
        }
        Ok(())
    }
}

impl<V: Value> Accumulator for Changing<V> {
    fn grow(&mut self, slots: usize) {
        self.best.grow(slots);
        self.counts.grow(slots);
        grow_vec(&mut self.heaps, slots, Heap::default());
    }

    fn snapshot(&mut self, slots: &[u32]) {
        self.best.snapshot(slots);
    }

    fn update(&mut self, rows: Rows) -> Result<()> {
        self.counts.update(rows)
    }

    fn load(&mut self, at: &[(u32, u32)], stored: &[&[u8]]) -> Result<()> {
        self.best.load(at, stored)
    }

    fn settle(&mut self, groups: &Groups, touched: Touched) -> Result<()> {
        let events = self.counts.settle(groups, touched)?;
        self.apply(groups, &events)
    }

    fn contradiction(&self, touched: &[u32], rows: &[i64]) -> Option<(u32, &'static str)> {
        self.best.contradiction(touched, rows)
    }

    fn compare(&self, touched: &[u32], from: usize, changed: &mut [bool]) {
        self.best.compare(touched, from, changed);
    }

    fn output(&self, touched: &[u32], picks: &[Pick]) -> Result<ArrayRef> {
        self.best.output(touched, picks)
    }

    fn finish_tick(&mut self, touched: &[u32]) {
        self.best.finish_tick(touched);
        self.counts.finish();
    }

    fn encode(&self, slots: &[u32], out: &mut KeyBatch) -> Result<()> {
        self.best.encode(slots, out)
    }

    fn release(&mut self, slot: u32) {
        self.best.release(slot);
        let heap = std::mem::take(&mut self.heaps[slot as usize]);
        self.heap_bytes -= heap.pairs.capacity() * 4;
        heap.pairs.into_iter().for_each(|p| self.counts.let_go(p));
        self.counts.release(slot);
    }

    fn flush(&mut self, groups: &Groups, stored: &mut Vec<u32>) -> Result<()> {
        self.counts.flush(groups, stored)
    }

    fn evict(&mut self, groups: &Groups, map: &SlotMap, fraction: f64, stored: &mut Vec<u32>) -> Result<()> {
        self.counts.evict(groups, map, fraction, stored)?;
        self.best.evict(groups, map, fraction, stored)?;
        self.heaps = vec![Heap::default(); map.kept()];
        self.heap_bytes = 0;
        let pairs: Vec<(u32, u32)> = self.counts.pairs().collect();
        pairs.into_iter().for_each(|(pair, slot)| self.add_to_heap(slot, pair));
        Ok(())
    }

    fn held(&self) -> usize {
        self.best.held() + self.counts.held() + self.heaps.capacity() * size_of::<Heap>() + self.heap_bytes
    }
}
