//! COUNT, SUM and AVG of DISTINCT values: a value counts once while it is in the group at all. The function itself sees
//! values come to be and cease to be.

use arrow::array::ArrayRef;
use thalweg_core::Result;
use thalweg_core::state::KeyBatch;

use super::column::{Accumulator, Pick, Rows, Touched};
use super::groups::{Groups, SlotMap};
use super::value_counts::{Event, ValueCounts};
use super::values::Value;

pub(super) struct Distinct<V: Value> {
    inner: Box<dyn Accumulator>,
    /// COUNT needs no values.
    needs_values: bool,
    counts: ValueCounts<V>,
}

/// Values that are handed to the function at once.
const EVENTS_AT_ONCE: usize = 16 * 1024;

impl<V: Value> Distinct<V> {
    pub fn new(inner: Box<dyn Accumulator>, needs_values: bool, counts: ValueCounts<V>) -> Self {
        Distinct { inner, needs_values, counts }
    }

    fn apply(&mut self, events: &[Event]) -> Result<()> {
        let slots: Vec<u32> = events.iter().map(|e| e.slot).collect();
        let weights: Vec<i64> = events.iter().map(|e| if e.appeared { 1 } else { -1 }).collect();
        let values = match self.needs_values {
            true => {
                let values = events.iter().map(|e| Some(self.counts.value(e.pair).borrow()));
                Some(V::array(&self.counts.domain, values)?)
            }
            false => None,
        };
        self.inner.update(Rows { slots: &slots, values: values.as_ref(), weights: Some(&weights), mask: None })
    }
}

impl<V: Value> Accumulator for Distinct<V> {
    fn grow(&mut self, slots: usize) {
        self.inner.grow(slots);
        self.counts.grow(slots);
    }

    fn snapshot(&mut self, slots: &[u32]) {
        self.inner.snapshot(slots);
    }

    fn update(&mut self, rows: Rows) -> Result<()> {
        self.counts.update(rows)
    }

    fn load(&mut self, at: &[(u32, u32)], stored: &[&[u8]]) -> Result<()> {
        self.inner.load(at, stored)
    }

    fn settle(&mut self, groups: &Groups, touched: Touched) -> Result<()> {
        let events = self.counts.settle(groups, touched)?;
        events.chunks(EVENTS_AT_ONCE).try_for_each(|part| self.apply(part))
    }

    fn contradiction(&self, touched: &[u32], rows: &[i64]) -> Option<(u32, &'static str)> {
        self.inner.contradiction(touched, rows)
    }

    fn compare(&self, touched: &[u32], from: usize, changed: &mut [bool]) {
        self.inner.compare(touched, from, changed);
    }

    fn count_failures(&self, touched: &[u32], from: usize, old: &mut [u32], new: &mut [u32]) {
        self.inner.count_failures(touched, from, old, new);
    }

    fn failure(&self, slot: u32) -> Option<String> {
        self.inner.failure(slot)
    }

    fn output(&self, touched: &[u32], picks: &[Pick]) -> Result<ArrayRef> {
        self.inner.output(touched, picks)
    }

    fn finish_tick(&mut self, touched: &[u32]) {
        self.inner.finish_tick(touched);
        self.counts.finish();
    }

    fn encode(&self, slots: &[u32], out: &mut KeyBatch) -> Result<()> {
        self.inner.encode(slots, out)
    }

    fn release(&mut self, slot: u32) {
        self.inner.release(slot);
        self.counts.release(slot);
    }

    fn flush(&mut self, groups: &Groups, stored: &mut Vec<u32>) -> Result<()> {
        self.counts.flush(groups, stored)
    }

    fn evict(&mut self, groups: &Groups, map: &SlotMap, fraction: f64, stored: &mut Vec<u32>) -> Result<()> {
        self.inner.evict(groups, map, fraction, stored)?;
        self.counts.evict(groups, map, fraction, stored)
    }

    fn held(&self) -> usize {
        self.inner.held() + self.counts.held()
    }
}
