//! Normalize: an upsert stream (+1 is an upsert, -1 a delete by key, in the order of positions) becomes a Z-set.
//!
//! Within a tick only the last change of a key counts. A delete of what is not there, or an upsert of what is there
//! already, changes nothing: such streams may repeat.

use thalweg_core::operator::{Operator, Step, TickCx};
use thalweg_core::state::KeyBatch;
use thalweg_core::{Changes, Result};
use thalweg_graph::ops::normalize::NormalizeSpec;

use crate::BuildCx;
use crate::keyed_cache::KeyedCache;
use crate::layout::{LayoutParts, TableLayout, batch_of, rest};
use crate::parts::{Outbox, concat};
use crate::winners::Winners;

struct Normalize {
    order: usize,
    /// Of the output: without the order column.
    layout: TableLayout,
    input_schema: arrow::datatypes::SchemaRef,
    current: KeyedCache,
    winners: Winners,
    collected: Vec<Changes>,
    outbox: Outbox,
}

pub(crate) fn build(mut cx: BuildCx<'_>, spec: &NormalizeSpec) -> Result<Box<dyn Operator>> {
    let input = cx.input(0);
    let output = cx.output();
    let layout = TableLayout::new(LayoutParts {
        input: output,
        table: &cx.node().state[0],
        key: spec.key.clone(),
        value: rest(output, &spec.key),
        weighted: false,
        max_parallelism: cx.max_parallelism,
    })?;
    Ok(Box::new(Normalize {
        order: spec.order,
        layout,
        input_schema: input.schema(),
        current: KeyedCache::new(cx.take_table()?),
        winners: Winners::new(spec.order, false, input.columns.len()),
        collected: vec![],
        outbox: Outbox::default(),
    }))
}

impl Operator for Normalize {
    fn push(&mut self, _: usize, changes: Changes, _: &mut dyn TickCx) -> Result<()> {
        if !changes.is_empty() {
            self.collected.push(changes);
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
        self.current.flush()
    }

    fn shrink(&mut self, bytes_max: usize) -> Result<usize> {
        self.current.shrink(bytes_max)
    }
}

impl Normalize {
    fn apply(&mut self) -> Result<()> {
        let all = concat(&self.input_schema, std::mem::take(&mut self.collected))?;
        let columns = all.batch.columns()[..self.order].to_vec();
        let rows = batch_of(self.layout.schema().clone(), columns, all.num_rows())?;
        let rows = self.layout.with_canonical_keys(Changes::inserts(rows))?.batch;
        let mut keys = KeyBatch::new();
        self.layout.encode_keys(&rows, &mut keys)?;
        let mut slots = vec![];
        self.current.load(&keys, &mut slots)?;
        let last = self.winners.pick(&all.batch, &slots, self.current.slots(), |_| true)?;
        let winners = all.with_batch(rows).take(&last)?;
        let mut values = KeyBatch::new();
        self.layout.encode_values(&winners.batch, None, &mut values)?;

        let mut old = vec![];
        let mut inserted = vec![];
        let mut changed = vec![];
        for (i, &row) in last.values().iter().enumerate() {
            let slot = slots[row as usize];
            let upsert = winners.weight(i) > 0;
            match (self.current.value(slot), upsert) {
                (None, false) => continue,
                (Some(value), true) if value == values.get(i) => continue,
                (Some(_), _) => old.push(slot),
                (None, true) => {}
            }
            if upsert {
                inserted.push(i as u32);
            }
            changed.push((i, slot, upsert));
        }
        let current = &self.current;
        let old_values = old.iter().map(|&s| current.value(s).expect("only what has a value"));
        let (deleted, _) = self.layout.decode(old.iter().map(|&s| current.key(s)), old_values)?;
        self.outbox.push_all(deleted, -1);
        for (i, slot, upsert) in changed {
            self.current.set(slot, upsert.then(|| values.get(i)));
        }
        self.outbox.push(Changes::inserts(winners.batch).take(&inserted.into())?);
        Ok(())
    }
}
