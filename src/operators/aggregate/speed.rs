//! Rows per second of one operator on one core, printed: `cargo test --release -p thalweg-operators aggregate::speed --
//! --ignored --nocapture --test-threads 1`.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_core::operator::{BATCH_ROWS, Step};
use thalweg_core::state::{KeyBatch, StateTable, StateTableSpec, WriteBatch};
use thalweg_core::{Changes, Result, SqlType};
use thalweg_graph::ops::aggregate::{AggregateCall, AggregateFunction, AggregateSpec};
use thalweg_graph::{Graph, GraphBuilder, NodeIx, OperatorSpec};

use crate::model::harness::{Rig, TestCx, TestSource, source};

/// What this thread has computed, whatever else runs on the machine.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().expect("three numbers").parse().expect("a number"))
}

struct Job<'a> {
    name: &'a str,
    letters: &'a str,
    group: &'a [usize],
    calls: &'a [(AggregateFunction, Option<usize>, bool)],
    keys: i64,
    append_only: bool,
    tick_rows: usize,
    rows: usize,
    /// `shrink` after each tick.
    bytes_max: usize,
}

fn column(letter: &str, keys: i64, rng: &mut SmallRng) -> ArrayRef {
    let mut values = || (0..BATCH_ROWS).map(|_| rng.random_range(0..keys)).collect::<Vec<_>>();
    match letter {
        "T" => Arc::new(values().iter().map(|v| Some(format!("customer {v}"))).collect::<StringArray>()),
        "F" => Arc::new(values().iter().map(|v| *v as f64 * 0.1).collect::<Float64Array>()),
        "D" => {
            let ty = SqlType::Decimal { precision: 10, scale: 2 }.to_arrow();
            Arc::new(Decimal128Array::from_iter_values(values().iter().map(|v| i128::from(*v))).with_data_type(ty))
        }
        "B" => Arc::new(values().iter().map(|v| Some(v % 2 == 0)).collect::<BooleanArray>()),
        _ => Arc::new(Int64Array::from(values())),
    }
}

impl Job<'_> {
    fn graph(&self) -> (NodeIx, Graph) {
        let job = self;
        let mut builder = GraphBuilder::new();
        let from =
            TestSource { name: "t", letters: job.letters, append_only: job.append_only, key: &[], with_order: false };
        let from = source(&mut builder, &from);
        let calls = job.calls.iter().enumerate().map(|(i, &(function, arg, distinct))| {
            let ty = match (function, arg.and_then(|a| job.letters.split(' ').nth(a))) {
                (AggregateFunction::Count, _) | (_, Some("I")) => SqlType::BigInt,
                (_, Some("F")) => SqlType::Double,
                _ => SqlType::Decimal { precision: 38, scale: 2 },
            };
            AggregateCall { function, arg, distinct, filter: None, name: format!("c{i}"), ty, nullable: true }
        });
        let spec = AggregateSpec { group: job.group.to_vec(), calls: calls.collect() };
        let node = builder.add(OperatorSpec::Aggregate(spec), vec![from]).unwrap();
        (node, builder.finish())
    }
}

fn run(job: &Job) {
    let (node, graph) = job.graph();
    let mut rig = Rig::new(graph, node);
    let schema = rig.schema(0);
    let mut rng = SmallRng::seed_from_u64(7);
    let batches: Vec<RecordBatch> = (0..256)
        .map(|_| {
            let columns = job.letters.split(' ').enumerate();
            let columns = columns.map(|(i, l)| column(l, if i == 0 { job.keys } else { 1 << 20 }, &mut rng)).collect();
            RecordBatch::try_new(schema.clone(), columns).unwrap()
        })
        .collect();
    let weights = Int64Array::from(vec![1; BATCH_ROWS]);
    let (mut rows, mut next, mut emitted, mut emit_time) = (0, 0, 0usize, Duration::ZERO);
    let mut held = 0;
    let start = cpu_time();
    while rows < job.rows {
        let mut cx = TestCx::new(1);
        for _ in 0..job.tick_rows / BATCH_ROWS {
            let weights = (!job.append_only).then(|| weights.clone());
            let batch = Changes::new(batches[next % batches.len()].clone(), weights);
            rig.operator.push(0, batch, &mut cx).unwrap();
            next += 1;
        }
        let end = cpu_time();
        while rig.operator.end_tick(&mut cx).unwrap() != Step::Done {}
        emit_time += cpu_time() - end;
        rows += job.tick_rows;
        emitted += cx.emitted.iter().map(|c| c.num_rows()).sum::<usize>();
        black_box(cx);
        held = rig.operator.shrink(job.bytes_max).unwrap();
    }
    let time = cpu_time() - start;
    println!(
        "{:44} tick {:>8} rows: {:6.1} M rows/s, of the time {:2.0} % in end_tick, {:.2} rows out per row, {:.1} MB held",
        job.name,
        job.tick_rows,
        rows as f64 / time.as_secs_f64() / 1e6,
        100.0 * emit_time.as_secs_f64() / time.as_secs_f64(),
        emitted as f64 / rows as f64,
        held as f64 / 1e6,
    );
}

const JOB: Job = Job {
    name: "count(*), max(BIGINT) per BIGINT, 100k keys",
    letters: "I I",
    group: &[0],
    calls: &[(AggregateFunction::Count, None, false), (AggregateFunction::Max, Some(1), false)],
    keys: 100_000,
    append_only: true,
    tick_rows: 1 << 20,
    rows: 32 << 20,
    bytes_max: usize::MAX,
};

#[test]
#[ignore = "measures"]
fn append_only() {
    for tick_rows in [1 << 13, 1 << 16, 1 << 18, 1 << 20] {
        run(&Job { tick_rows, rows: (tick_rows * 1000).min(32 << 20), ..JOB });
    }
    run(&Job { name: "… 1k keys", keys: 1000, ..JOB });
    run(&Job { name: "… 10M keys", keys: 10_000_000, ..JOB });
    run(&Job { name: "… global", group: &[], ..JOB });
    run(&Job { name: "… of changing input, count only", append_only: false, calls: &JOB.calls[..1], ..JOB });
    let sum = |arg| [(AggregateFunction::Sum, Some(arg), false)];
    run(&Job { name: "sum(BIGINT)", calls: &sum(1), ..JOB });
    run(&Job { name: "sum(DECIMAL(10, 2))", letters: "I D", calls: &sum(1), ..JOB });
    run(&Job { name: "sum(DOUBLE)", letters: "I F", calls: &sum(1), ..JOB });
    run(&Job { name: "avg(DOUBLE)", letters: "I F", calls: &[(AggregateFunction::Avg, Some(1), false)], ..JOB });
}

#[test]
#[ignore = "measures"]
fn keys() {
    run(&Job { name: "count(*) per STRING", letters: "T I", calls: &JOB.calls[..1], ..JOB });
    run(&Job { name: "count(*), max per BIGINT, BOOLEAN", letters: "I I B", group: &[0, 2], ..JOB });
}

#[test]
#[ignore = "measures"]
fn values() {
    let job = Job { rows: 8 << 20, append_only: false, ..JOB };
    run(&Job { name: "count(distinct BIGINT)", calls: &[(AggregateFunction::Count, Some(1), true)], ..job });
    run(&Job { name: "sum(distinct BIGINT)", calls: &[(AggregateFunction::Sum, Some(1), true)], ..job });
    run(&Job { name: "max of changing input", calls: &JOB.calls[1..], ..job });
}

#[test]
#[ignore = "measures"]
fn evicting() {
    let job = Job { rows: 4 << 20, keys: 2_000_000, tick_rows: 1 << 17, bytes_max: 32 << 20, ..JOB };
    run(&Job { name: "count, max, 2M keys in 32 MB", ..job });
    run(&Job { name: "count, max, 2M keys in memory", bytes_max: usize::MAX, ..job });
    run(&Job { name: "count, max, 2M STRING keys in 32 MB", letters: "T I", ..job });
}

/// Takes writes and forgets them: what remains is the operator's own share.
struct Forgetful(StateTableSpec);

impl StateTable for Forgetful {
    fn spec(&self) -> &StateTableSpec {
        &self.0
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn get_many(&self, _: &KeyBatch, _: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        Ok(())
    }

    fn scan(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        _: bool,
        _: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        black_box(batch);
        Ok(())
    }
}

#[test]
#[ignore = "measures"]
fn flushing() {
    let (node, graph) = JOB.graph();
    let tables: Vec<Box<dyn StateTable>> =
        graph.nodes[node].state.iter().map(|s| Box::new(Forgetful(s.clone())) as Box<dyn StateTable>).collect();
    let cx = crate::BuildCx { graph: &graph, node, tables, max_parallelism: 256, worker: 0, workers: 1 };
    let mut operator = crate::build(cx).unwrap();
    let schema = graph.output(&graph.nodes[node].inputs[0]).schema();
    let mut tick = |keys: std::ops::Range<i64>, what: &str| {
        let mut cx = TestCx::new(1);
        let all: Vec<i64> = keys.collect();
        for keys in all.chunks(BATCH_ROWS) {
            let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
            let columns = vec![column.clone(), column];
            let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
            operator.push(0, Changes::inserts(batch), &mut cx).unwrap();
        }
        while operator.end_tick(&mut cx).unwrap() != Step::Done {}
        drop(cx);
        let start = cpu_time();
        operator.flush().unwrap();
        println!("flush of {what}: {:.1} ms", (cpu_time() - start).as_secs_f64() * 1e3);
    };
    tick(0..5_000_000, "5M groups, all new");
    tick(0..50_000, "5M groups, 50k dirty");
    let start = cpu_time();
    operator.shrink(100 << 20).unwrap();
    println!("eviction from 5M groups to 100 MB: {:.1} ms", (cpu_time() - start).as_secs_f64() * 1e3);
}
