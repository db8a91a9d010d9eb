//! Inner equi-join. Per tick, with L and R the rows before the tick and dL, dR the tick's net changes:
//!
//! ```text
//! d(L ⋈ R) = dL ⋈ R  +  (L + dL) ⋈ dR
//! ```
//!
//! so dL meets R, is added to L, and then dR meets that. Output is made of columns: `take` from the changes, a gather
//! from the stored rows, at most `BATCH_ROWS` at a time; after `EMIT_ROWS_MAX` rows the tick goes on in a later step, so
//! that a hot key's fan-out never sits in memory.

mod rows;
mod side;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{and, is_not_null, take};
use arrow::datatypes::SchemaRef;
use thalweg_core::consolidate::consolidate;
use thalweg_core::operator::{BATCH_ROWS, EMIT_ROWS_MAX, Operator, Step, TickCx};
use thalweg_core::{Changes, Error, Result};
use thalweg_graph::Output;
use thalweg_graph::ops::join::JoinSpec;

use self::side::{Side, SideParts};
use crate::BuildCx;
use crate::compact::compact;
use crate::expr::ExprSet;
use crate::failed_rows::FailedRows;
use crate::key_index::{BigIntIndex, BytesIndex, KeyIndex, NONE, is_big_int};
use crate::layout::{LayoutParts, TableLayout, batch_of, rest};

pub(crate) fn build(cx: BuildCx<'_>, spec: &JoinSpec) -> Result<Box<dyn Operator>> {
    let left = cx.input(0).schema();
    match spec.left_keys.as_slice() {
        [key] if is_big_int(left.field(*key).data_type()) => Ok(Box::new(Join::<BigIntIndex>::new(cx, spec)?)),
        _ => Ok(Box::new(Join::<BytesIndex>::new(cx, spec)?)),
    }
}

/// Parts (of up to `BATCH_ROWS` rows) that are added to the state at a time.
const APPLY_PARTS: usize = 16;

/// `K`: the form of the join key.
struct Join<K: KeyIndex> {
    sides: [Side<K>; 2],
    /// Join columns of each input.
    keys: [Vec<usize>; 2],
    residual: Option<ExprSet>,
    /// Pairs for which the residual failed, unless both inputs are append-only.
    failed: Option<FailedRows>,
    output: SchemaRef,
    collected: [Vec<Changes>; 2],
    /// The running end of a tick.
    work: Option<Work<K>>,
}

/// The changes of one side that are on their way through the other.
struct Work<K: KeyIndex> {
    side: usize,
    parts: Vec<Part<K>>,
    /// Parts whose keys have been loaded on the other side.
    loaded: usize,
    /// Where it goes on.
    part: usize,
    row: usize,
    /// The next partner of `row`; `None`: the part's partners are not looked up yet.
    at: Option<u32>,
    heads: Vec<u32>,
}

/// A batch of changes and its join keys, none NULL.
struct Part<K: KeyIndex> {
    changes: Changes,
    keys: K::Keys,
}

impl<K: KeyIndex> Join<K> {
    fn new(mut cx: BuildCx<'_>, spec: &JoinSpec) -> Result<Self> {
        let inputs = cx.inputs();
        let residual =
            spec.residual.as_ref().map(|e| ExprSet::compile_over(std::slice::from_ref(e), &inputs)).transpose()?;
        let right = cx.tables.pop();
        let (Some(left), Some(right)) = (cx.tables.pop(), right) else {
            return Err(Error::internal("a join has two state tables"));
        };
        let side = |n: usize, input: &Output, keys: &[usize], table| {
            let mut key = keys.to_vec();
            key.extend(JoinSpec::row_key(input, keys));
            let value = rest(input, &key);
            let layout = TableLayout::new(LayoutParts {
                input,
                table: &cx.node().state[n],
                key,
                value,
                weighted: true,
                max_parallelism: cx.max_parallelism,
            })?;
            Side::new(SideParts {
                table,
                layout,
                title: format!("{}, {} input", cx.title(), ["left", "right"][n]),
                append_only: input.append_only,
                unique: !input.unique_keys.is_empty(),
            })
        };
        Ok(Join {
            sides: [side(0, inputs[0], &spec.left_keys, left)?, side(1, inputs[1], &spec.right_keys, right)?],
            keys: [spec.left_keys.clone(), spec.right_keys.clone()],
            failed: (residual.is_some() && !inputs.iter().all(|i| i.append_only)).then(FailedRows::default),
            residual,
            output: cx.output().schema(),
            collected: [vec![], vec![]],
            work: None,
        })
    }

    /// The collected changes of a side, net where that can be less.
    fn start(&mut self, side: usize) -> Result<Work<K>> {
        let mut collected = std::mem::take(&mut self.collected[side]);
        let has_deletes =
            collected.iter().any(|c| c.weights.as_ref().is_some_and(|w| w.values().iter().any(|&w| w < 0)));
        if has_deletes && !self.sides[side].append_only() {
            collected = vec![consolidate(&collected)?];
        }
        let layout = self.sides[side].layout();
        let mut parts = vec![];
        for changes in collected {
            let rows = changes.num_rows();
            for from in (0..rows).step_by(BATCH_ROWS) {
                let changes = changes.slice(from, BATCH_ROWS.min(rows - from));
                parts.push(Part { keys: K::keys(layout, &changes.batch)?, changes });
            }
        }
        Ok(Work { side, parts, loaded: 0, part: 0, row: 0, at: None, heads: vec![] })
    }

    /// Emits a bounded part of what the changes give with the other side's rows; `true` when all is emitted.
    fn probe(&mut self, work: &mut Work<K>, cx: &mut dyn TickCx) -> Result<bool> {
        let mut emitted = 0;
        let mut rows: Vec<u32> = Vec::with_capacity(BATCH_ROWS);
        let mut partners: Vec<u32> = Vec::with_capacity(BATCH_ROWS);
        while let Some(part) = work.parts.get(work.part) {
            if emitted >= EMIT_ROWS_MAX {
                return Ok(false);
            }
            let mut at = match work.at {
                Some(at) => at,
                None => {
                    let [left, right] = &mut self.sides;
                    let (own, other) = if work.side == 0 { (left, right) } else { (right, left) };
                    if work.part == work.loaded {
                        other.make_room()?;
                        work.loaded += other.load(own.layout(), &work.parts[work.part..])?;
                    }
                    other.partners(part.changes.num_rows(), &part.keys, &mut work.heads);
                    work.row = 0;
                    work.heads.first().copied().unwrap_or(NONE)
                }
            };
            let other = &self.sides[1 - work.side];
            rows.clear();
            partners.clear();
            while work.row < work.heads.len() {
                if at != NONE {
                    at = other.follow(at, &mut partners, BATCH_ROWS);
                    rows.resize(partners.len(), work.row as u32);
                    if at != NONE {
                        break;
                    }
                }
                work.row += 1;
                at = work.heads.get(work.row).copied().unwrap_or(NONE);
            }
            emitted += partners.len();
            if !rows.is_empty() {
                let joined = pairs(work.side, &part.changes, &rows, &partners, other, &self.output)?;
                emit(joined, &self.output, self.residual.as_ref(), &mut self.failed, cx)?;
            }
            if work.row == work.heads.len() {
                work.part += 1;
                work.at = None;
            } else {
                work.at = Some(at);
            }
        }
        Ok(true)
    }

    /// Adds the changes to their side's state.
    fn apply(&mut self, work: Work<K>) -> Result<()> {
        let side = &mut self.sides[work.side];
        for parts in work.parts.chunks(APPLY_PARTS) {
            side.apply(parts)?;
        }
        side.finish_tick()
    }
}

/// Rows of the changes beside rows of the other side's store.
fn pairs<K: KeyIndex>(
    side: usize,
    changes: &Changes,
    rows: &[u32],
    partners: &[u32],
    other: &Side<K>,
    output: &SchemaRef,
) -> Result<Changes> {
    let is_all = rows.len() == changes.num_rows() && rows.iter().enumerate().all(|(i, &r)| i as u32 == r);
    let picked = UInt32Array::from(rows.to_vec());
    let own: Vec<ArrayRef> = match is_all {
        true => changes.batch.columns().to_vec(),
        false => changes.batch.columns().iter().map(|c| take(c, &picked, None)).collect::<Result<_, _>>()?,
    };
    let theirs = other.store().gather_columns(partners, 0..other.layout().schema().fields().len())?;
    let columns = if side == 0 { [own, theirs] } else { [theirs, own] }.concat();
    let weights = match (&changes.weights, other.weights(partners)) {
        (None, None) => None,
        (None, Some(w)) => Some(w),
        (Some(w), None) => Some(rows.iter().map(|&r| w.value(r as usize)).collect()),
        (Some(own), Some(theirs)) => Some(
            rows.iter()
                .zip(theirs)
                .map(|(&r, w)| own.value(r as usize).checked_mul(w))
                .collect::<Option<Vec<i64>>>()
                .ok_or_else(|| Error::row("a join of rows whose weights multiply beyond 64 bits"))?,
        ),
    };
    let weights = weights.filter(|w| w.iter().any(|&w| w != 1)).map(Int64Array::from);
    Ok(Changes::new(batch_of(output.clone(), columns, rows.len())?, weights))
}

/// Emits the pairs for which the residual is true.
fn emit(
    pairs: Changes,
    output: &SchemaRef,
    residual: Option<&ExprSet>,
    failed: &mut Option<FailedRows>,
    cx: &mut dyn TickCx,
) -> Result<()> {
    let joined = match (residual, failed) {
        (None, _) => pairs,
        (Some(residual), None) => {
            let mask = residual.mask(&pairs.batch, cx)?;
            compact(pairs, &mask, output)?
        }
        (Some(residual), Some(failed)) => {
            let (mask, succeeded) = residual.mask_of_what_succeeds(&pairs.batch, cx)?;
            if let Some(succeeded) = succeeded
                && let Some(now) = failed.add(&pairs, &succeeded)?
            {
                emit(now, output, Some(residual), &mut None, cx)?;
            }
            compact(pairs, &mask, output)?
        }
    };
    if !joined.is_empty() {
        cx.emit(joined);
    }
    Ok(())
}

impl<K: KeyIndex> Operator for Join<K> {
    /// Rows whose key holds a NULL have no partner ever: they are not kept.
    fn push(&mut self, input: usize, changes: Changes, _: &mut dyn TickCx) -> Result<()> {
        let mut present: Option<BooleanArray> = None;
        for &key in &self.keys[input] {
            let column: &RecordBatch = &changes.batch;
            let column = column.column(key);
            if column.logical_null_count() > 0 {
                let valid = is_not_null(column)?;
                present = Some(match present {
                    None => valid,
                    Some(p) => and(&p, &valid)?,
                });
            }
        }
        let changes = match present {
            None => changes,
            Some(mask) => {
                let schema = changes.batch.schema();
                compact(changes, &mask, &schema)?
            }
        };
        if !changes.is_empty() {
            self.collected[input].push(self.sides[input].layout().with_canonical_keys(changes)?);
        }
        Ok(())
    }

    fn end_tick(&mut self, cx: &mut dyn TickCx) -> Result<Step> {
        let mut work = match self.work.take() {
            Some(work) => work,
            None => self.start(0)?,
        };
        loop {
            if !self.probe(&mut work, cx)? {
                self.work = Some(work);
                return Ok(Step::More);
            }
            let side = work.side;
            self.apply(work)?;
            if side == 1 {
                if let Some(net) = self.failed.as_mut().map_or(Ok(None), FailedRows::take_net)? {
                    emit(net, &self.output, self.residual.as_ref(), &mut None, cx)?;
                }
                return Ok(Step::Done);
            }
            work = self.start(1)?;
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.sides.iter_mut().try_for_each(Side::flush)
    }

    fn shrink(&mut self, bytes_max: usize) -> Result<usize> {
        let held: Vec<usize> = self.sides.iter().map(Side::bytes).collect();
        let total: usize = held.iter().sum();
        if total <= bytes_max {
            return Ok(total);
        }
        // Each side keeps a part as large as its own of the whole.
        let mut left = 0;
        for (side, held) in self.sides.iter_mut().zip(held) {
            left += side.shrink((bytes_max as f64 * held as f64 / total as f64) as usize)?;
        }
        Ok(left)
    }
}
