//! Runs one operator over random ticks beside a model that computes the whole answer anew after every tick, with
//! flushes, restores and evictions in between.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use thalweg_core::operator::{BATCH_ROWS, EMIT_ROWS_MAX, Operator, Step, TickCx, Waker};
use thalweg_core::state::{KeyBatch, MemoryTable, StateTable, StateTableSpec, WriteBatch};
use thalweg_core::table::{ChangelogMode, ColumnKind, TableColumn, TableDef};
use thalweg_core::{Changes, Column, Error, Result, Tick, TickKind, Watermark};
use thalweg_graph::ops::source::{SourceSpec, SourceTableSpec};
use thalweg_graph::{Edge, Graph, GraphBuilder, NodeIx, OperatorSpec, Partitioning};

use crate::{BuildCx, build};

// ---- rows ----

/// A cell of a model: BIGINT or STRING. NULL comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
}

pub type Row = Vec<Cell>;
/// Rows with weights that are not 0.
pub type ZSet = BTreeMap<Row, i64>;

pub fn add(set: &mut ZSet, row: Row, weight: i64) {
    use std::collections::btree_map::Entry;
    match set.entry(row) {
        Entry::Vacant(e) if weight != 0 => {
            e.insert(weight);
        }
        Entry::Vacant(_) => {}
        Entry::Occupied(mut e) => {
            *e.get_mut() += weight;
            if *e.get() == 0 {
                e.remove();
            }
        }
    }
}

pub fn cells(array: &dyn Array) -> Vec<Cell> {
    let int = |i| Cell::Int(array.as_primitive::<Int64Type>().value(i));
    let text = |i| Cell::Text(array.as_string::<i32>().value(i).to_owned());
    (0..array.len())
        .map(|i| match array.data_type() {
            _ if array.is_null(i) => Cell::Null,
            DataType::Int64 => int(i),
            DataType::Utf8 => text(i),
            other => panic!("no model has {other}"),
        })
        .collect()
}

pub fn rows_of(changes: &Changes) -> Vec<(Row, i64)> {
    let columns: Vec<Vec<Cell>> = changes.batch.columns().iter().map(|c| cells(c.as_ref())).collect();
    (0..changes.num_rows()).map(|i| (columns.iter().map(|c| c[i].clone()).collect(), changes.weight(i))).collect()
}

pub fn changes_of(schema: &SchemaRef, rows: &[(Row, i64)]) -> Changes {
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(c, f)| -> ArrayRef {
            match f.data_type() {
                DataType::Int64 => Arc::new(Int64Array::from_iter(rows.iter().map(|(r, _)| match &r[c] {
                    Cell::Int(v) => Some(*v),
                    _ => None,
                }))),
                _ => Arc::new(StringArray::from_iter(rows.iter().map(|(r, _)| match &r[c] {
                    Cell::Text(v) => Some(v.clone()),
                    _ => None,
                }))),
            }
        })
        .collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let weights = rows.iter().any(|(_, w)| *w != 1).then(|| rows.iter().map(|(_, w)| *w).collect());
    Changes::new(batch, weights)
}

// ---- graphs ----

/// Columns `a`, `b`, … by letters: `I` BIGINT, `T` STRING; nullable.
pub fn columns(letters: &str) -> Vec<Column> {
    thalweg_core::testing::columns(letters)
}

/// What a test's source promises.
pub struct TestSource<'a> {
    /// For different ids.
    pub name: &'a str,
    pub letters: &'a str,
    pub append_only: bool,
    /// A guaranteed primary key; empty: none.
    pub key: &'a [usize],
    /// A hidden BIGINT order column behind the columns.
    pub with_order: bool,
}

pub fn source(builder: &mut GraphBuilder, source: &TestSource<'_>) -> Edge {
    let columns = columns(source.letters);
    let table = SourceTableSpec {
        def: TableDef {
            name: source.name.to_owned(),
            columns: columns.iter().cloned().map(|column| TableColumn { column, kind: ColumnKind::Physical }).collect(),
            primary_key: source.key.to_vec(),
            partitioned_by: vec![],
            options: BTreeMap::new(),
        },
        columns: (0..columns.len()).collect(),
        with_order: source.with_order,
        identity: BTreeMap::from([("test".to_owned(), source.name.to_owned())]),
        variant: BTreeMap::new(),
        changelog: if source.append_only { ChangelogMode::Append } else { ChangelogMode::Retract },
        bounded: true,
        unstable_metadata: vec![],
        key_guaranteed: !source.key.is_empty(),
        rows: vec![],
        note: None,
    };
    let spec = OperatorSpec::Source(SourceSpec { connector: "test".to_owned(), tables: vec![table], group: None });
    let from = builder.add(spec, vec![]).unwrap();
    Edge { from, output: 0, route: Partitioning::Same }
}

// ---- tables ----

/// A state table that outlives the operators built over it.
#[derive(Clone)]
pub struct SharedTable {
    spec: StateTableSpec,
    table: Rc<RefCell<MemoryTable>>,
    /// Keys that were looked up, operations that were written.
    costs: Rc<std::cell::Cell<(usize, usize)>>,
}

impl SharedTable {
    pub fn new(spec: StateTableSpec) -> Self {
        let table = Rc::new(RefCell::new(MemoryTable::new(spec.clone())));
        SharedTable { spec, table, costs: Rc::default() }
    }

    pub fn empty() -> Self {
        Self::new(StateTableSpec { name: "test".into(), key: vec![], value: vec![], routing_columns: 0, version: 1 })
    }

    pub fn boxed(&self) -> Box<dyn StateTable> {
        Box::new(self.clone())
    }

    /// Keys that were looked up and operations that were written since it was asked last.
    pub fn take_costs(&self) -> (usize, usize) {
        self.costs.take()
    }

    /// All keys and values.
    pub fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut contents = BTreeMap::new();
        let mut row = |k: &[u8], v: &[u8]| {
            contents.insert(k.to_vec(), v.to_vec());
            ControlFlow::Continue(())
        };
        self.table.borrow().scan(&[], None, false, &mut row).unwrap();
        contents
    }
}

impl StateTable for SharedTable {
    fn spec(&self) -> &StateTableSpec {
        &self.spec
    }

    fn is_empty(&self) -> bool {
        self.table.borrow().is_empty()
    }

    /// Knows it of some, and of others claims that they may be there.
    fn may_hold(&self, prefixes: &KeyBatch) -> Vec<u32> {
        let table = self.table.borrow();
        let holds = |prefix: &[u8]| {
            let mut any = false;
            let mut row = |_: &[u8], _: &[u8]| {
                any = true;
                ControlFlow::Break(())
            };
            table.scan(prefix, None, false, &mut row).unwrap();
            any
        };
        let may = |prefix: &[u8]| prefix.iter().fold(0, |sum, b| sum ^ b) % 2 == 1 || holds(prefix);
        (0..prefixes.len() as u32).filter(|i| may(prefixes.get(*i as usize))).collect()
    }

    fn get_many(&self, keys: &KeyBatch, found: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let (read, written) = self.costs.get();
        self.costs.set((read + keys.len(), written));
        self.table.borrow().get_many(keys, found)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        reverse: bool,
        row: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.table.borrow().scan(prefix, after, reverse, row)
    }

    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        let (read, written) = self.costs.get();
        self.costs.set((read, written + batch.len()));
        self.table.borrow_mut().write(batch)
    }
}

// ---- the running operator ----

/// The tick of a test: collects what is emitted.
pub struct TestCx {
    pub tick: Tick,
    pub emitted: Vec<Changes>,
    pub memory_max: usize,
}

impl TestCx {
    pub fn new(id: u64) -> Self {
        let tick = Tick { id, kind: TickKind::Plain, wall_clock_us: id as i64 * 1_000_000 };
        TestCx { tick, emitted: vec![], memory_max: usize::MAX }
    }
}

impl TickCx for TestCx {
    fn tick(&self) -> &Tick {
        &self.tick
    }

    fn watermark(&self, _: usize) -> Watermark {
        Watermark::NONE
    }

    fn hold_watermark(&mut self, _: Watermark) {}

    fn emit(&mut self, changes: Changes) {
        assert!(changes.num_rows() <= BATCH_ROWS, "a batch of {} rows", changes.num_rows());
        self.emitted.push(changes);
    }

    fn row_error(&mut self, error: Error) -> Result<()> {
        Err(error)
    }

    fn waker(&self) -> Waker {
        Arc::new(|| {})
    }

    fn memory_max(&self) -> usize {
        self.memory_max
    }
}

/// One node of a graph, running on the only worker.
pub struct Rig {
    pub graph: Graph,
    pub node: NodeIx,
    pub tables: Vec<SharedTable>,
    pub operator: Box<dyn Operator>,
    /// Within ticks.
    pub memory_max: usize,
    tick: u64,
}

impl Rig {
    pub fn new(graph: Graph, node: NodeIx) -> Self {
        let tables: Vec<_> = graph.nodes[node].state.iter().cloned().map(SharedTable::new).collect();
        let operator = Self::build(&graph, node, &tables);
        Rig { graph, node, tables, operator, memory_max: usize::MAX, tick: 0 }
    }

    fn build(graph: &Graph, node: NodeIx, tables: &[SharedTable]) -> Box<dyn Operator> {
        let tables = tables.iter().map(SharedTable::boxed).collect();
        build(BuildCx { graph, node, tables, max_parallelism: 16, worker: 0, workers: 1 }).unwrap()
    }

    /// The operator that a restore from the state as flushed gives.
    pub fn restore(&mut self) {
        self.operator = Self::build(&self.graph, self.node, &self.tables);
    }

    pub fn schema(&self, input: usize) -> SchemaRef {
        self.graph.output(&self.graph.nodes[self.node].inputs[input]).schema()
    }

    /// One whole tick; what was emitted in it.
    pub fn tick(&mut self, parts: Vec<(usize, Changes)>) -> Result<Vec<Changes>> {
        self.tick += 1;
        let mut cx = TestCx::new(self.tick);
        cx.memory_max = self.memory_max;
        for (input, changes) in parts {
            self.operator.push(input, changes, &mut cx)?;
        }
        loop {
            let before: usize = cx.emitted.iter().map(Changes::num_rows).sum();
            let step = self.operator.end_tick(&mut cx)?;
            let after: usize = cx.emitted.iter().map(Changes::num_rows).sum();
            assert!(after - before <= EMIT_ROWS_MAX + 2 * BATCH_ROWS, "{} rows in one step", after - before);
            match step {
                Step::Done => break,
                Step::More => assert!(after > before, "more, but nothing came"),
                Step::Waiting => panic!("waits for nothing"),
            }
        }
        let schema = self.graph.nodes[self.node].outputs[0].schema();
        for c in &cx.emitted {
            assert_eq!(c.batch.schema(), schema, "the output's schema");
        }
        Ok(cx.emitted)
    }
}

/// Recomputes an operator's answer.
pub trait Model {
    /// The next tick's changes: (input, row, weight).
    fn draw(&mut self, rng: &mut SmallRng, rows: usize) -> Vec<(usize, Row, i64)>;

    /// The whole answer after these changes.
    fn answer(&mut self, changes: &[(usize, Row, i64)]) -> ZSet;
}

/// How a random sequence goes on; all of it can be made smaller when a failing one is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Sequence {
    pub seed: u64,
    pub ticks: usize,
    pub rows_max: usize,
}

/// `proptest`'s strategy of sequences.
pub fn sequences() -> impl proptest::strategy::Strategy<Value = Sequence> {
    use proptest::prelude::*;
    (any::<u64>(), 1..14usize, 1..24usize).prop_map(|(seed, ticks, rows_max)| Sequence { seed, ticks, rows_max })
}

/// Runs operator and model side by side.
///
/// # Panics
/// If they differ after any tick.
pub fn run(mut rig: Rig, model: &mut dyn Model, sequence: Sequence) {
    let mut rng = SmallRng::seed_from_u64(sequence.seed);
    let mut found = ZSet::new();
    // Nothing stays in memory from one tick to the next.
    let is_starved = rng.random_range(0..4) == 0;
    for tick in 0..sequence.ticks {
        let rows = if rng.random_range(0..8) == 0 { 0 } else { rng.random_range(1..=sequence.rows_max) };
        let changes = model.draw(&mut rng, rows);
        let mut parts = cut(&mut rng, &rig, &changes);
        parts.shuffle(&mut rng);
        rig.memory_max = if rng.random_range(0..3) == 0 { 0 } else { usize::MAX };
        let emitted = rig.tick(parts).unwrap_or_else(|e| panic!("tick {tick} of {sequence:?}: {e}\n{changes:?}"));
        for (row, weight) in emitted.iter().flat_map(rows_of) {
            *found.entry(row).or_insert(0) += weight;
        }
        found.retain(|_, w| *w != 0);
        let expected = model.answer(&changes);
        assert_eq!(found, expected, "tick {tick} of {sequence:?}, after {changes:?}");
        if is_starved {
            rig.operator.shrink(0).unwrap();
        }
        match rng.random_range(0..6) {
            0 => rig.operator.flush().unwrap(),
            1 => {
                rig.operator.flush().unwrap();
                rig.restore();
            }
            2 => {
                rig.operator.shrink(0).unwrap();
            }
            3 => {
                let held = rig.operator.shrink(usize::MAX).unwrap();
                rig.operator.shrink(held / 2).unwrap();
            }
            _ => {}
        }
    }
}

/// The changes in random order, in a few batches for each input.
fn cut(rng: &mut SmallRng, rig: &Rig, changes: &[(usize, Row, i64)]) -> Vec<(usize, Changes)> {
    let mut parts = vec![];
    for input in 0..rig.graph.nodes[rig.node].inputs.len() {
        let mut rows: Vec<(Row, i64)> =
            changes.iter().filter(|(i, ..)| *i == input).map(|(_, r, w)| (r.clone(), *w)).collect();
        rows.shuffle(rng);
        while !rows.is_empty() {
            let rest = rows.split_off(rng.random_range(1..=rows.len()));
            parts.push((input, changes_of(&rig.schema(input), &rows)));
            rows = rest;
        }
    }
    parts
}

/// A model's input without order: rows that are inserted and, if they may be, deleted again.
pub struct Bag {
    pub rows: ZSet,
    pub deletes: bool,
    /// At most one row per value of these columns at the end of every tick; empty: no such promise.
    pub key: Vec<usize>,
}

impl Bag {
    pub fn new(deletes: bool, key: &[usize]) -> Self {
        Bag { rows: ZSet::new(), deletes, key: key.to_vec() }
    }

    /// Changes of one tick, applied here: inserts of what `make` gives, deletes and updates of what is there, and pairs
    /// that cancel.
    pub fn draw(
        &mut self,
        rng: &mut SmallRng,
        rows: usize,
        make: &mut dyn FnMut(&mut SmallRng) -> Row,
    ) -> Vec<(Row, i64)> {
        let mut changes = vec![];
        for _ in 0..rows {
            let pick = |rng: &mut SmallRng, rows: &ZSet| -> Option<Row> {
                let n = rows.len();
                (n > 0).then(|| rows.keys().nth(rng.random_range(0..n)).expect("within the length").clone())
            };
            match rng.random_range(0..10) {
                0..=2 if self.deletes => {
                    if let Some(row) = pick(rng, &self.rows) {
                        add(&mut self.rows, row.clone(), -1);
                        changes.push((row, -1));
                    }
                }
                3 if self.deletes => {
                    let row = make(rng);
                    changes.push((row.clone(), 1));
                    changes.push((row, -1));
                }
                _ => {
                    let row = make(rng);
                    let same = |r: &Row| !self.key.is_empty() && self.key.iter().all(|&k| r[k] == row[k]);
                    let taken: Vec<Row> = self.rows.keys().filter(|r| same(r)).cloned().collect();
                    if !taken.is_empty() && !self.deletes {
                        continue;
                    }
                    for old in taken {
                        add(&mut self.rows, old.clone(), -1);
                        changes.push((old, -1));
                    }
                    let weight = if self.key.is_empty() && rng.random_range(0..6) == 0 { 2 } else { 1 };
                    add(&mut self.rows, row.clone(), weight);
                    changes.push((row, weight));
                }
            }
        }
        changes
    }
}

/// A BIGINT of `0..max`, or NULL now and then.
pub fn int(rng: &mut SmallRng, max: i64) -> Cell {
    if rng.random_range(0..8) == 0 { Cell::Null } else { Cell::Int(rng.random_range(0..max)) }
}

/// A short STRING of a few, or NULL now and then.
pub fn text(rng: &mut SmallRng, max: i64) -> Cell {
    match rng.random_range(0..max + 1) {
        0 => Cell::Null,
        1 => Cell::Text(String::new()),
        n => Cell::Text("x".repeat(n as usize % 4) + &n.to_string()),
    }
}
