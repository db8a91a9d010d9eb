//! Deduplicate: one row per key, the first or the last to arrive, on append-only input.
//!
//! Between ticks the earlier (later) tick decides; within a tick the arrival-order column does, and after it all
//! columns, so that the answer does not depend on how the tick came in parts.

use thalweg_core::operator::{Operator, Step, TickCx};
use thalweg_core::state::KeyBatch;
use thalweg_core::{Changes, Error, Result};
use thalweg_graph::ops::deduplicate::{DeduplicateSpec, Keep};

use crate::BuildCx;
use crate::keyed_cache::KeyedCache;
use crate::layout::{LayoutParts, TableLayout, describe, rest};
use crate::parts::{Outbox, concat};
use crate::winners::Winners;

struct Deduplicate {
    keep: Keep,
    layout: TableLayout,
    kept: KeyedCache,
    title: String,
    winners: Winners,
    collected: Vec<Changes>,
    outbox: Outbox,
}

pub(crate) fn build(mut cx: BuildCx<'_>, spec: &DeduplicateSpec) -> Result<Box<dyn Operator>> {
    let input = cx.input(0);
    let value = if spec.keep == Keep::Last { rest(input, &spec.key) } else { vec![] };
    let layout = TableLayout::new(LayoutParts {
        input,
        table: &cx.node().state[0],
        key: spec.key.clone(),
        value,
        weighted: false,
        max_parallelism: cx.max_parallelism,
    })?;
    Ok(Box::new(Deduplicate {
        keep: spec.keep,
        layout,
        title: cx.title(),
        kept: KeyedCache::new(cx.take_table()?),
        winners: Winners::new(spec.order, spec.keep == Keep::First, input.columns.len()),
        collected: vec![],
        outbox: Outbox::default(),
    }))
}

impl Operator for Deduplicate {
    fn push(&mut self, _: usize, changes: Changes, _: &mut dyn TickCx) -> Result<()> {
        if let Some(row) = changes.weights.as_ref().and_then(|w| w.values().iter().position(|&w| w < 0)) {
            let key = describe(&changes.batch, row, &self.layout.key);
            return Err(Error::changelog(format!("{}: a delete on append-only input, of key {key}", self.title)));
        }
        if !changes.is_empty() {
            self.collected.push(self.layout.with_canonical_keys(changes)?);
        }
        Ok(())
    }

    fn end_tick(&mut self, cx: &mut dyn TickCx) -> Result<Step> {
        if !self.collected.is_empty() {
            self.apply()?;
        }
        Ok(self.outbox.emit(cx))
    }

    fn flush(&mut self) -> Result<()> {
        self.kept.flush()
    }

    fn shrink(&mut self, bytes_max: usize) -> Result<usize> {
        self.kept.shrink(bytes_max)
    }
}

impl Deduplicate {
    fn apply(&mut self) -> Result<()> {
        let all = concat(self.layout.schema(), std::mem::take(&mut self.collected))?;
        let mut keys = KeyBatch::new();
        self.layout.encode_keys(&all.batch, &mut keys)?;
        let mut slots = vec![];
        self.kept.load(&keys, &mut slots)?;
        match self.keep {
            Keep::First => {
                // Only rows of keys that are not there yet compete.
                let kept = &self.kept;
                let new = self.winners.pick(&all.batch, &slots, kept.slots(), |slot| kept.value(slot).is_none())?;
                for &row in new.values() {
                    self.kept.set(slots[row as usize], Some(&[]));
                }
                self.outbox.push(Changes::inserts(all.with_batch(all.batch.clone()).take(&new)?.batch));
            }
            Keep::Last => {
                let new = self.winners.pick(&all.batch, &slots, self.kept.slots(), |_| true)?;
                let winners = all.take(&new)?.batch;
                let mut values = KeyBatch::new();
                self.layout.encode_values(&winners, None, &mut values)?;
                let mut old = Vec::new();
                let mut changed = Vec::new();
                for (i, &row) in new.values().iter().enumerate() {
                    match self.kept.value(slots[row as usize]) {
                        Some(value) if value == values.get(i) => continue,
                        Some(_) => old.push(slots[row as usize]),
                        None => {}
                    }
                    changed.push(i as u32);
                }
                let kept = &self.kept;
                let old_values = old.iter().map(|&s| kept.value(s).expect("only what has a value"));
                let (deleted, _) = self.layout.decode(old.iter().map(|&s| kept.key(s)), old_values)?;
                self.outbox.push_all(deleted, -1);
                for &i in &changed {
                    self.kept.set(slots[new.value(i as usize) as usize], Some(values.get(i as usize)));
                }
                self.outbox.push(Changes::inserts(winners).take(&changed.into())?);
            }
        }
        Ok(())
    }
}
