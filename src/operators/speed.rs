//! Measures, not run by default: `cargo test --release -p thalweg-operators speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_core::Changes;
use thalweg_core::operator::BATCH_ROWS;
use thalweg_graph::ops::SortKey;
use thalweg_graph::ops::deduplicate::{DeduplicateSpec, Keep};
use thalweg_graph::ops::join::JoinSpec;
use thalweg_graph::ops::top_n::TopNSpec;
use thalweg_graph::{GraphBuilder, OperatorSpec};

use crate::model::harness::{Rig, TestSource, source};

/// Rows of one tick in one worker's share.
const TICK_ROWS: usize = 64 * 1024;

fn batches(schema: &SchemaRef, rows: usize, keys: i64, seed: u64) -> Vec<Changes> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut column = |max: i64| -> ArrayRef {
        Arc::new(Int64Array::from((0..BATCH_ROWS).map(|_| rng.random_range(0..max)).collect::<Vec<_>>()))
    };
    (0..rows / BATCH_ROWS)
        .map(|_| {
            let columns = vec![column(keys), column(i64::MAX), column(i64::MAX)];
            Changes::inserts(RecordBatch::try_new(schema.clone(), columns).unwrap())
        })
        .collect()
}

fn run(name: &str, rig: &mut Rig, inputs: Vec<Vec<Changes>>, budget: Option<usize>) {
    let rows: usize = inputs.iter().flatten().map(Changes::num_rows).sum();
    let begun = Instant::now();
    let mut out = 0;
    let (mut shrunk, mut ticks) = (0, 0);
    let batches = TICK_ROWS / BATCH_ROWS / inputs.len();
    for at in (0..inputs[0].len()).step_by(batches) {
        let parts = inputs
            .iter()
            .enumerate()
            .flat_map(|(i, input)| input[at..(at + batches).min(input.len())].iter().map(move |c| (i, c.clone())));
        out += rig.tick(parts.collect()).unwrap().iter().map(Changes::num_rows).sum::<usize>();
        ticks += 1;
        if let Some(budget) = budget {
            let before = Instant::now();
            rig.operator.shrink(budget).unwrap();
            shrunk += before.elapsed().as_millis();
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let held = rig.operator.shrink(usize::MAX).unwrap();
    println!(
        "{name}: {:.2} M rows/s, {rows} rows in, {out} out, {ticks} ticks, {took:.2} s, {shrunk} ms of it shrinking, {} MB held",
        rows as f64 / took / 1e6,
        held >> 20
    );
}

fn input<'a>(name: &'a str, with_order: bool) -> TestSource<'a> {
    let letters = if with_order { "I I" } else { "I I I" };
    TestSource { name, letters, append_only: true, key: &[], with_order }
}

fn join_rig() -> Rig {
    let mut builder = GraphBuilder::new();
    let inputs = vec![source(&mut builder, &input("l", false)), source(&mut builder, &input("r", false))];
    let spec = JoinSpec { left_keys: vec![0], right_keys: vec![0], residual: None };
    let node = builder.add(OperatorSpec::Join(spec), inputs).unwrap();
    Rig::new(builder.finish(), node)
}

/// One worker's half of 5 M rows JOIN 5 M rows on 5 M keys.
#[test]
#[ignore = "measures"]
fn join() {
    let mut rig = join_rig();
    let inputs = (0..2).map(|i| batches(&rig.schema(i), 2_500_000, 2_500_000, i as u64)).collect();
    run("join", &mut rig, inputs, None);
}

#[test]
#[ignore = "measures"]
fn join_evicting() {
    let mut rig = join_rig();
    let inputs = (0..2).map(|i| batches(&rig.schema(i), 1_000_000, 1_000_000, i as u64)).collect();
    run("join, 8 MB, 2 x 1 M rows", &mut rig, inputs, Some(8 << 20));
}

/// One worker's half of Top-10 of each of 10k keys with rank.
#[test]
#[ignore = "measures"]
fn top_n() {
    for (rows, rank) in [(5_000_000, true), (20_000_000, true), (5_000_000, false)] {
        let mut builder = GraphBuilder::new();
        let edge = source(&mut builder, &input("t", false));
        let spec = TopNSpec {
            partition: vec![0],
            order: vec![SortKey { column: 1, descending: true, nulls_first: false }],
            ties: vec![2],
            from: 1,
            to: Some(10),
            rank: rank.then(|| "rn".to_owned()),
        };
        let node = builder.add(OperatorSpec::TopN(spec), vec![edge]).unwrap();
        let mut rig = Rig::new(builder.finish(), node);
        let input = batches(&rig.schema(0), rows, 5_000, 1);
        run(&format!("top-10, rank {rank}"), &mut rig, vec![input], None);
    }
}

#[test]
#[ignore = "measures"]
fn deduplicate() {
    for (keep, keys) in [(Keep::First, 5_000_000), (Keep::First, 10_000), (Keep::Last, 5_000_000), (Keep::Last, 10_000)]
    {
        let mut builder = GraphBuilder::new();
        let edge = source(&mut builder, &input("t", true));
        let spec = DeduplicateSpec { key: vec![0], order: 2, keep };
        let node = builder.add(OperatorSpec::Deduplicate(spec), vec![edge]).unwrap();
        let mut rig = Rig::new(builder.finish(), node);
        let input = batches(&rig.schema(0), 5_000_000, keys, 1);
        run(&format!("keep {keep:?} of {keys}"), &mut rig, vec![input], None);
    }
}
