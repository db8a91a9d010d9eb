//! Aggregate: keeps the accumulators of every group, and says in which rows a tick has changed the answer.
//!
//! ```text
//! push      group columns → slots (groups) → every call's accumulator adds the rows (column, count, sum, avg, min_max,
//!           distinct); a group's state is copied when the tick touches it for the first time
//! end_tick  the stored state of groups that were not in memory is read, all at once; contradictions are judged; then
//!           per touched group: -1 of the old row, +1 of the new one, if they differ
//!           (append-only input of more than memory may hold: the same in between, several times a tick)
//! flush     dirty groups and values are written
//! shrink    what was touched longest ago leaves memory
//! ```

mod avg;
mod column;
mod count;
mod distinct;
mod exact_float;
mod groups;
mod index;
mod min_max;
#[cfg(test)]
mod speed;
mod sum;
mod value_counts;
mod values;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, i256};
use thalweg_core::operator::{BATCH_ROWS, EMIT_ROWS_MAX, Operator, Step, TickCx};
use thalweg_core::state::{KeyBatch, StateTable, WriteBatch};
use thalweg_core::value::ValueCodec;
use thalweg_core::{Changes, Column as SqlColumn, Error, Result, SqlType};
use thalweg_graph::Output;
use thalweg_graph::ops::Meaning;
use thalweg_graph::ops::aggregate::{AggregateCall, AggregateFunction, AggregateSpec, values_table};

use self::avg::{Finish, FloatSum, Function};
use self::column::{Accumulator, Column, Pick, Rows, Touched, clear_scratch, trim_signed};
use self::count::Count;
use self::distinct::Distinct;
use self::groups::Groups;
use self::min_max::{Best, Changing};
use self::sum::{Sum, Total128, needs_wide};
use self::value_counts::ValueCounts;
use self::values::{Domain, Form, Value};
use crate::BuildCx;

/// Groups or values that are looked up at once: the more, the nearer to one another they lie in the table.
const READ_ROWS: usize = 256 * 1024;
/// Groups or values that are written at once: the fewer and larger the writes, the less is merged later.
const WRITE_ROWS: usize = 512 * 1024;
/// Of the memory that the operator may hold after an eviction, this part is used, so that the next ticks have room.
const EVICTION_TARGET: f64 = 0.75;

pub(crate) fn build(cx: BuildCx<'_>, spec: &AggregateSpec) -> Result<Box<dyn Operator>> {
    Ok(Box::new(AggregateOperator::new(AggregateCx {
        spec,
        input: cx.input(0),
        output: cx.output(),
        max_parallelism: cx.max_parallelism,
        owns_global: cx.owns_unkeyed(),
        tables: cx.tables,
    })?))
}

/// What the operator is made from.
pub(crate) struct AggregateCx<'a> {
    pub spec: &'a AggregateSpec,
    pub input: &'a Output,
    pub output: &'a Output,
    /// As in `AggregateSpec::state`.
    pub tables: Vec<Box<dyn StateTable>>,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// The row of a global aggregate is given here, also for empty input.
    pub owns_global: bool,
}

/// Where an output column comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// COUNT(*) and its like: the number of rows that every group keeps anyway.
    Rows,
    /// Index in `calls`.
    Call(usize),
}

/// One different call.
struct Call {
    arg: Option<usize>,
    filter: Option<usize>,
    /// For messages: `SUM(amount)`.
    text: String,
    accumulator: Box<dyn Accumulator>,
}

/// How a column of the groups table is filled.
#[derive(Debug, Clone, Copy)]
enum StoredColumn {
    RowCount,
    Of(Source),
    /// Of a call that this plan has not.
    Foreign,
}

/// Where the end of a tick has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Rows are coming.
    Open,
    /// Emitting, from this ordinal on.
    Emit(usize),
}

/// See the module.
pub(crate) struct AggregateOperator {
    /// For messages.
    title: String,
    group: Vec<usize>,
    schema: SchemaRef,
    groups: Groups,
    calls: Vec<Call>,
    outputs: Vec<Source>,
    table: Box<dyn StateTable>,
    stored_columns: Vec<StoredColumn>,
    codec: ValueCodec,
    /// All that the table holds is in memory too.
    complete: bool,
    owns_global: bool,
    /// The global row is looked up or given.
    global_started: bool,
    phase: Phase,
    /// Groups of the running tick.
    touched: Vec<u32>,
    /// Ordinals of those that were not in memory.
    fresh: Vec<u32>,
    /// By ordinal: weight of all rows before the tick.
    old_rows: Vec<i64>,
    /// The global aggregate's row was given before this tick.
    global_was_given: bool,
    /// The tick brought weights: something may be deleted.
    has_weights: bool,
    /// Group columns of what failed when a part of the tick was done with: whether it is an error the end of the tick
    /// says.
    failed: Vec<Vec<ArrayRef>>,
    slots: Vec<u32>,
}

impl AggregateOperator {
    /// # Errors
    /// Calls that give no value of their declared type, types without an order; tables that do not fit the spec.
    pub fn new(cx: AggregateCx<'_>) -> Result<Self> {
        let AggregateCx { spec, input, output, tables, max_parallelism, owns_global } = cx;
        let title = spec.title(&[input]);
        let mut tables = tables.into_iter();
        let missing = || Error::internal(format!("{title}: a state table was not opened"));
        let table = tables.next().ok_or_else(missing)?;
        let mut value_tables: Vec<Box<dyn StateTable>> = tables.collect();

        let mut calls: Vec<Call> = vec![];
        let mut outputs = vec![];
        let mut seen: Vec<(String, Source)> = vec![];
        for call in &spec.calls {
            let provenance = call.provenance(input).to_string();
            let source = match seen.iter().find(|(p, _)| *p == provenance) {
                Some((_, source)) => *source,
                None if is_row_count(call, input) => Source::Rows,
                None => {
                    let mut take = || {
                        let name = values_table(call, input);
                        let at = value_tables.iter().position(|t| t.spec().name == name).ok_or_else(missing)?;
                        Ok(value_tables.remove(at))
                    };
                    let text = call.text(input);
                    let accumulator = accumulator(call, input, &text, &mut take)?;
                    calls.push(Call { arg: call.arg, filter: call.filter, text, accumulator });
                    Source::Call(calls.len() - 1)
                }
            };
            seen.push((provenance, source));
            outputs.push(source);
        }

        let stored_columns: Vec<StoredColumn> = table
            .spec()
            .value
            .iter()
            .map(|column| match seen.iter().find(|(p, _)| *p == column.provenance) {
                Some((_, source)) => StoredColumn::Of(*source),
                None if column.provenance == "rows" => StoredColumn::RowCount,
                None => StoredColumn::Foreign,
            })
            .collect();
        let is_stored = |source: &Source| match source {
            Source::Rows => true,
            Source::Call(i) => stored_columns.iter().any(|c| matches!(c, StoredColumn::Of(Source::Call(j)) if i == j)),
        };
        if !stored_columns.iter().any(|c| matches!(c, StoredColumn::RowCount)) || !outputs.iter().all(is_stored) {
            return Err(Error::internal(format!("{title}: the state table {} lacks columns", table.spec().name)));
        }

        let columns: Vec<SqlColumn> = spec.group.iter().map(|&g| input.columns[g].column.clone()).collect();
        Ok(AggregateOperator {
            title,
            group: spec.group.clone(),
            schema: output.schema(),
            groups: Groups::new(columns, max_parallelism)?,
            calls,
            outputs,
            stored_columns,
            codec: ValueCodec::new(table.spec().value.iter().map(|c| c.ty.clone()).collect()),
            complete: table.is_empty(),
            table,
            owns_global,
            global_started: false,
            phase: Phase::Open,
            touched: vec![],
            fresh: vec![],
            old_rows: vec![],
            global_was_given: false,
            has_weights: false,
            failed: vec![],
            slots: vec![],
        })
    }

    fn is_global(&self) -> bool {
        self.group.is_empty()
    }

    /// After a look-up: makes room for new groups and keeps the state of those touched for the first time.
    fn keep_old(&mut self, from: usize) {
        let new = &self.touched[from..];
        self.old_rows.extend(new.iter().map(|&s| self.groups.rows(s)));
        for call in &mut self.calls {
            call.accumulator.grow(self.groups.slots());
            call.accumulator.snapshot(new);
        }
    }

    /// All rows are in: completes the groups of the tick and judges them.
    fn settle(&mut self) -> Result<()> {
        if self.is_global() && self.owns_global && !self.global_started {
            self.groups.touch_global(&mut self.touched, &mut self.fresh)?;
            self.keep_old(self.old_rows.len());
        }
        let absent = self.read_fresh()?;
        if self.is_global() && !self.touched.is_empty() {
            self.global_was_given = self.global_started || !absent.first().copied().unwrap_or(false);
            self.global_started = true;
        }
        let touched = Touched { slots: &self.touched, fresh: &self.fresh, absent: &absent };
        for call in &mut self.calls {
            call.accumulator.settle(&self.groups, touched)?;
        }
        if self.has_weights { self.judge() } else { Ok(()) }
    }

    /// Nothing can be deleted that was not inserted.
    fn judge(&self) -> Result<()> {
        if let Some(&slot) = self.touched.iter().find(|s| self.groups.rows(**s) < 0) {
            let rows = self.groups.rows(slot);
            return Err(self.contradiction(slot, &format!("more rows are deleted than were inserted ({rows})")));
        }
        for call in &self.calls {
            if let Some((slot, why)) = call.accumulator.contradiction(&self.touched, self.groups.all_rows()) {
                return Err(self.contradiction(slot, &format!("{}: {why}", call.text)));
            }
        }
        Ok(())
    }

    fn contradiction(&self, slot: u32, why: &str) -> Error {
        Error::changelog(format!("{}, {}: {why}", self.title, self.groups.describe(slot))).note(
            "the changes of the input contradict themselves: a row that is deleted must equal one that was inserted",
        )
    }

    /// Reads the stored state of groups that were not in memory; says per fresh group whether there is none.
    fn read_fresh(&mut self) -> Result<Vec<bool>> {
        let mut absent = vec![true; self.fresh.len()];
        if self.complete {
            return Ok(absent);
        }
        for (part, fresh) in self.fresh.chunks(READ_ROWS).enumerate() {
            let slots: Vec<u32> = fresh.iter().map(|&o| self.touched[o as usize]).collect();
            let mut keys = KeyBatch::new();
            self.groups.keys(&slots, &mut keys)?;
            let (mut at, mut values) = (vec![], KeyBatch::new());
            self.table.get_many(&keys, &mut |i, value| {
                absent[part * READ_ROWS + i] = false;
                at.push((fresh[i], slots[i]));
                values.push(value);
            })?;
            if at.is_empty() {
                continue;
            }
            let rows: Vec<&[u8]> = values.iter().collect();
            let columns = self.codec.decode(rows.iter().copied())?;
            let mut loaded = vec![false; self.calls.len()];
            for (stored, column) in self.stored_columns.iter().zip(&columns) {
                match stored {
                    StoredColumn::RowCount => {
                        let counts = column.as_primitive::<Int64Type>();
                        for (&(ordinal, slot), &rows) in at.iter().zip(counts.values()) {
                            self.old_rows[ordinal as usize] = rows;
                            self.groups.add(slot, rows);
                            self.groups.set_stored(slot);
                        }
                    }
                    StoredColumn::Of(Source::Call(i)) if !loaded[*i] => {
                        loaded[*i] = true;
                        let call = &mut self.calls[*i];
                        if column.null_count() > 0 {
                            return Err(Error::checkpoint(format!(
                                "{}: the stored state lacks {}",
                                self.title, call.text
                            )));
                        }
                        let bytes: Vec<&[u8]> = column.as_binary::<i32>().iter().flatten().collect();
                        call.accumulator.load(&at, &bytes)?;
                    }
                    StoredColumn::Of(_) | StoredColumn::Foreign => {}
                }
            }
        }
        Ok(absent)
    }

    /// A touched group had, or has, a row in the output.
    fn is_there(&self, pick: Pick) -> bool {
        if self.is_global() {
            return pick.is_new() || self.global_was_given;
        }
        let ordinal = pick.ordinal();
        let rows = if pick.is_new() { self.groups.rows(self.touched[ordinal]) } else { self.old_rows[ordinal] };
        rows > 0
    }

    /// Which rows of the touched groups `from .. to` go out, old before new; and the groups whose new row fails.
    fn pick(&self, from: usize, to: usize, picks: &mut Vec<Pick>, failing: &mut Vec<u32>) {
        let mut changed = vec![false; to - from];
        for source in &self.outputs {
            match source {
                Source::Rows => {
                    for (i, changed) in changed.iter_mut().enumerate() {
                        *changed |= self.old_rows[from + i] != self.groups.rows(self.touched[from + i]);
                    }
                }
                Source::Call(i) => self.calls[*i].accumulator.compare(&self.touched, from, &mut changed),
            }
        }
        let (mut old_failures, mut new_failures) = (vec![0; to - from], vec![0; to - from]);
        for call in &self.calls {
            call.accumulator.count_failures(&self.touched, from, &mut old_failures, &mut new_failures);
        }
        for (i, changed) in changed.into_iter().enumerate() {
            let ordinal = from + i;
            let (old, new) = (Pick::old(ordinal), Pick::new(ordinal));
            let had = self.is_there(old) && old_failures[i] == 0;
            let mut has = self.is_there(new);
            if has && new_failures[i] > 0 {
                has = false;
                failing.push(self.touched[ordinal]);
            }
            if had && (!has || changed) {
                picks.push(old);
            }
            if has && (!had || changed) {
                picks.push(new);
            }
        }
    }

    /// The group has a value that does not fit: its row is an error.
    fn fail(&self, slot: u32, cx: &mut dyn TickCx) -> Result<()> {
        for call in &self.calls {
            if let Some(why) = call.accumulator.failure(slot) {
                let error = Error::row(format!("{} of {} is {why}", call.text, self.groups.describe(slot)));
                cx.row_error(error.note("CAST the argument to DECIMAL(38, s) or a wider type"))?;
            }
        }
        Ok(())
    }

    fn emit(&self, picks: &[Pick], cx: &mut dyn TickCx) -> Result<()> {
        if picks.is_empty() {
            return Ok(());
        }
        let slots: Vec<u32> = picks.iter().map(|p| self.touched[p.ordinal()]).collect();
        let mut columns = self.groups.columns(&slots)?;
        for source in &self.outputs {
            columns.push(match source {
                Source::Rows => Arc::new(Int64Array::from_iter_values(picks.iter().map(|p| {
                    if p.is_new() { self.groups.rows(self.touched[p.ordinal()]) } else { self.old_rows[p.ordinal()] }
                }))),
                Source::Call(i) => self.calls[*i].accumulator.output(&self.touched, picks)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(picks.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| Error::internal(format!("{}: {e}", self.title)))?;
        let weights = picks
            .iter()
            .any(|p| !p.is_new())
            .then(|| Int64Array::from_iter_values(picks.iter().map(|p| if p.is_new() { 1 } else { -1 })));
        cx.emit(Changes::new(batch, weights));
        Ok(())
    }

    /// A part of the tick is done with like a tick, so that its groups can leave memory: they take more than they may, and
    /// a tick may bring any number. What comes later in the tick takes back what this part gives. Only where rows are
    /// never deleted: else this part may contradict itself.
    fn end_part(&mut self, cx: &mut dyn TickCx, bytes_max: usize) -> Result<()> {
        self.settle()?;
        let mut picks = Vec::with_capacity(BATCH_ROWS);
        let mut failing = vec![];
        for from in (0..self.touched.len()).step_by(BATCH_ROWS / 2) {
            picks.clear();
            self.pick(from, self.touched.len().min(from + BATCH_ROWS / 2), &mut picks, &mut failing);
            self.emit(&picks, cx)?;
        }
        if !failing.is_empty() {
            self.failed.push(self.groups.columns(&failing)?);
        }
        self.finish_tick();
        self.shrink(bytes_max / 2)?;
        Ok(())
    }

    /// Touches the groups that failed in a part of the tick, so that they are judged with the others.
    fn touch_failed(&mut self) -> Result<()> {
        for columns in std::mem::take(&mut self.failed) {
            let from = self.touched.len();
            let rows = columns[0].len();
            self.groups.intern(&columns, rows, &mut self.slots, &mut self.touched, &mut self.fresh)?;
            self.keep_old(from);
        }
        Ok(())
    }

    /// The tick's output is out: groups without rows go, the others are dirty.
    fn finish_tick(&mut self) {
        for call in &mut self.calls {
            call.accumulator.finish_tick(&self.touched);
        }
        for i in 0..self.touched.len() {
            let slot = self.touched[i];
            if self.groups.rows(slot) == 0 && !self.is_global() && !self.groups.is_stored(slot) {
                self.release(slot);
            } else {
                self.groups.set_dirty(slot);
            }
        }
        self.groups.finish_tick();
        clear_scratch(&mut self.touched);
        clear_scratch(&mut self.fresh);
        clear_scratch(&mut self.old_rows);
        self.has_weights = false;
        self.phase = Phase::Open;
    }

    fn release(&mut self, slot: u32) {
        self.calls.iter_mut().for_each(|c| c.accumulator.release(slot));
        self.groups.release(slot);
    }

    /// Writes groups as they are; those without rows are deleted.
    fn write(&mut self, slots: &[u32]) -> Result<()> {
        let is_global = self.is_global();
        for part in slots.chunks(WRITE_ROWS) {
            let mut keys = KeyBatch::new();
            self.groups.keys(part, &mut keys)?;
            let columns: Vec<ArrayRef> =
                self.stored_columns.iter().map(|c| self.stored_column(*c, part)).collect::<Result<_>>()?;
            let mut values = KeyBatch::new();
            self.codec.encode(&columns, part.len(), &mut values)?;
            let stays = |groups: &Groups, slot| groups.rows(slot) > 0 || is_global;
            let batch = if part.iter().all(|&slot| stays(&self.groups, slot)) {
                WriteBatch::puts(keys, values)
            } else {
                let mut batch = WriteBatch::default();
                for (i, &slot) in part.iter().enumerate() {
                    if stays(&self.groups, slot) {
                        batch.put(keys.get(i), values.get(i));
                    } else if self.groups.is_stored(slot) {
                        batch.delete(keys.get(i));
                    }
                }
                batch
            };
            for &slot in part {
                if stays(&self.groups, slot) {
                    self.groups.set_stored(slot);
                }
                self.groups.set_clean(slot);
            }
            self.table.write(batch)?;
        }
        Ok(())
    }

    /// Row counts as BIGINT, accumulators as BYTES.
    fn stored_column(&self, column: StoredColumn, slots: &[u32]) -> Result<ArrayRef> {
        let rows = slots.iter().map(|&s| self.groups.rows(s));
        let mut states = KeyBatch::new();
        match column {
            StoredColumn::RowCount => return Ok(Arc::new(Int64Array::from_iter_values(rows))),
            StoredColumn::Foreign => return Ok(new_null_array(&DataType::Binary, slots.len())),
            StoredColumn::Of(Source::Rows) => rows.for_each(|rows| states.push(trim_signed(&rows.to_le_bytes()))),
            StoredColumn::Of(Source::Call(i)) => self.calls[i].accumulator.encode(slots, &mut states)?,
        }
        if i32::try_from(states.bytes.len()).is_err() {
            return Err(Error::internal(format!("{}: states of over 2 GiB", self.title)));
        }
        let ends: Vec<i32> = states.ends.iter().map(|&end| end as i32).collect();
        Ok(Arc::new(BinaryArray::try_new(OffsetBuffer::new(ends.into()), Buffer::from_vec(states.bytes), None)?))
    }

    fn held(&self) -> usize {
        let scratch = (self.touched.capacity() + self.fresh.capacity() + self.slots.capacity()) * 4;
        self.groups.held()
            + self.calls.iter().map(|c| c.accumulator.held()).sum::<usize>()
            + self.old_rows.capacity() * 8
            + scratch
    }
}

impl Operator for AggregateOperator {
    fn push(&mut self, _: usize, changes: Changes, cx: &mut dyn TickCx) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let batch = &changes.batch;
        let columns: Vec<ArrayRef> = self.group.iter().map(|&g| batch.column(g).clone()).collect();
        let from = self.touched.len();
        let rows = batch.num_rows();
        self.groups.intern(&columns, rows, &mut self.slots, &mut self.touched, &mut self.fresh)?;
        self.keep_old(from);
        let weights = changes.weights.as_ref().map(|w| &w.values()[..]);
        self.has_weights |= weights.is_some();
        self.groups.add_rows(&self.slots, weights);
        for call in &mut self.calls {
            let mask = mask(call, batch)?;
            if mask.as_ref().is_none_or(|m| m.has_true()) {
                let values = call.arg.map(|a| batch.column(a));
                call.accumulator.update(Rows { slots: &self.slots, values, weights, mask: mask.as_ref() })?;
            }
        }
        if !self.has_weights && !self.is_global() {
            let bytes_max = cx.memory_max();
            if self.held() > bytes_max {
                self.end_part(cx, bytes_max)?;
            }
        }
        Ok(())
    }

    fn end_tick(&mut self, cx: &mut dyn TickCx) -> Result<Step> {
        if self.phase == Phase::Open {
            self.touch_failed()?;
            self.settle()?;
            self.phase = Phase::Emit(0);
        }
        let mut emitted = 0;
        let mut picks = Vec::with_capacity(BATCH_ROWS);
        while let Phase::Emit(from) = self.phase {
            // Two rows at most of each.
            let to = self.touched.len().min(from + (BATCH_ROWS - picks.len()) / 2);
            let mut failing = vec![];
            self.pick(from, to, &mut picks, &mut failing);
            failing.into_iter().try_for_each(|slot| self.fail(slot, cx))?;
            self.phase = Phase::Emit(to);
            if to < self.touched.len() && picks.len() + 2 <= BATCH_ROWS {
                continue;
            }
            self.emit(&picks, cx)?;
            emitted += picks.len();
            picks.clear();
            if to == self.touched.len() {
                self.finish_tick();
            } else if emitted >= EMIT_ROWS_MAX {
                return Ok(Step::More);
            }
        }
        Ok(Step::Done)
    }

    fn flush(&mut self) -> Result<()> {
        let mut stored = vec![];
        for call in &mut self.calls {
            call.accumulator.flush(&self.groups, &mut stored)?;
        }
        stored.into_iter().for_each(|s| self.groups.set_stored(s));
        let dirty = self.groups.take_dirty();
        self.write(&dirty)?;
        for slot in dirty {
            if self.groups.rows(slot) == 0 && !self.is_global() {
                self.release(slot);
            }
        }
        Ok(())
    }

    fn shrink(&mut self, bytes_max: usize) -> Result<usize> {
        let held = self.held();
        if held <= bytes_max {
            return Ok(held);
        }
        self.slots = vec![];
        let fraction = bytes_max as f64 * EVICTION_TARGET / held as f64;
        let map = self.groups.plan_eviction((self.groups.len() as f64 * fraction) as usize);
        let going: Vec<u32> = (0..self.groups.slots() as u32).filter(|&s| map.get(s).is_none()).collect();
        let dirty: Vec<u32> = going.iter().copied().filter(|&s| self.groups.is_dirty(s)).collect();
        self.write(&dirty)?;
        self.complete &= going.is_empty();
        let mut stored = vec![];
        for call in &mut self.calls {
            call.accumulator.evict(&self.groups, &map, fraction, &mut stored)?;
        }
        stored.into_iter().for_each(|s| self.groups.set_stored(s));
        self.groups.renumber(&map);
        Ok(self.held())
    }
}

/// Rows that count for a call: its argument is not NULL, its filter true. `None`: all.
fn mask(call: &Call, batch: &RecordBatch) -> Result<Option<BooleanBuffer>> {
    let nulls = call.arg.and_then(|a| batch.column(a).logical_nulls()).filter(|n| n.null_count() > 0);
    let valid = nulls.map(|n| n.into_inner());
    let Some(filter) = call.filter else { return Ok(valid) };
    let column = batch.column(filter);
    let Some(filter) = column.as_boolean_opt() else {
        return Err(Error::internal(format!("a FILTER column lies in memory as {}", column.data_type())));
    };
    let is_true = match filter.nulls() {
        None => filter.values().clone(),
        Some(nulls) => filter.values() & nulls.inner(),
    };
    Ok(Some(match valid {
        None => is_true,
        Some(valid) => &valid & &is_true,
    }))
}

/// COUNT of all rows.
fn is_row_count(call: &AggregateCall, input: &Output) -> bool {
    let never_null = call.arg.is_none_or(|a| !input.columns[a].column.nullable);
    call.function == AggregateFunction::Count && !call.distinct && call.filter.is_none() && never_null
}

type TakeTable<'a> = &'a mut dyn FnMut() -> Result<Box<dyn StateTable>>;

fn accumulator(call: &AggregateCall, input: &Output, text: &str, table: TakeTable) -> Result<Box<dyn Accumulator>> {
    let ty = |arg: usize| &input.columns[arg].column.ty;
    let is_distinct = call.distinct && !matches!(call.function, AggregateFunction::Min | AggregateFunction::Max);
    let Some(arg) = call.arg.map(ty) else {
        return match call.function {
            AggregateFunction::Count if !is_distinct => Ok(Box::new(Column::new(Count))),
            _ => Err(Error::internal(format!("{text} has no argument"))),
        };
    };
    let plain: Box<dyn Accumulator> = match call.function {
        AggregateFunction::Count => Box::new(Column::new(Count)),
        AggregateFunction::Sum => sum(Function::Sum, arg, &call.ty)?,
        AggregateFunction::Avg => sum(Function::Avg, arg, &call.ty)?,
        AggregateFunction::Min | AggregateFunction::Max => {
            return match Domain::new(arg)?.form() {
                Form::Word => min_max::<u64>(call, input, arg, text, table),
                Form::Wide => min_max::<u128>(call, input, arg, text, table),
                Form::Bytes => min_max::<Box<[u8]>>(call, input, arg, text, table),
            };
        }
    };
    if !is_distinct {
        return Ok(plain);
    }
    let needs_values = call.function != AggregateFunction::Count;
    let domain = Domain::new(arg)?;
    let (text, table) = (text.to_owned(), table()?);
    Ok(match domain.form() {
        Form::Word => Box::new(Distinct::<u64>::new(plain, needs_values, ValueCounts::new(domain, text, table, false))),
        Form::Wide => {
            Box::new(Distinct::<u128>::new(plain, needs_values, ValueCounts::new(domain, text, table, false)))
        }
        Form::Bytes => {
            Box::new(Distinct::<Box<[u8]>>::new(plain, needs_values, ValueCounts::new(domain, text, table, false)))
        }
    })
}

fn sum(function: Function, arg: &SqlType, ty: &SqlType) -> Result<Box<dyn Accumulator>> {
    Ok(match arg {
        SqlType::Float | SqlType::Double => Box::new(Column::new(FloatSum::new(function, ty)?)),
        arg if needs_wide(arg) => Box::new(Column::new(Sum::<i256>::new(Finish::new(function, arg, ty)?))),
        arg => Box::new(Column::new(Sum::<Total128>::new(Finish::new(function, arg, ty)?))),
    })
}

fn min_max<V: Value>(
    call: &AggregateCall,
    input: &Output,
    arg: &SqlType,
    text: &str,
    table: TakeTable,
) -> Result<Box<dyn Accumulator>> {
    let descending = call.function == AggregateFunction::Max;
    let best = Best::<V>::new(Domain::new(arg)?, descending);
    if !call.needs_values(input.append_only) {
        return Ok(Box::new(Column::new(best)));
    }
    let counts = ValueCounts::new(Domain::new(arg)?, text.to_owned(), table()?, descending);
    Ok(Box::new(Changing::new(best, counts)))
}

fn damaged(what: &str) -> Error {
    Error::checkpoint(format!("damaged state of {what}"))
}
