//! Recompute-from-scratch model of the aggregate: all functions, DISTINCT and FILTER, over every kind of key and value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, SchemaRef, i256};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_core::operator::{Step, TickCx, Waker};
use thalweg_core::{Changes, Error, ErrorCode, Result, SqlType, Tick, Watermark};
use thalweg_graph::ops::aggregate::{AggregateCall, AggregateFunction, AggregateSpec};
use thalweg_graph::{GraphBuilder, OperatorSpec};

use super::harness::{Rig, TestCx, TestSource, columns, source};

/// A cell. NULL comes first; floats are words that order as SQL does, one NaN, no -0.0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Decimal(i256),
    Float(u64),
    Text(String),
}

type Row = Vec<Cell>;
type ZSet = BTreeMap<Row, i64>;

fn float(v: f64) -> Cell {
    let bits = if v.is_nan() { f64::NAN.abs() } else { v + 0.0 }.to_bits();
    Cell::Float(if bits >> 63 == 0 { bits | 1 << 63 } else { !bits })
}

fn float_of(word: u64) -> f64 {
    f64::from_bits(if word >> 63 == 1 { word & !(1 << 63) } else { !word })
}

fn array_of(ty: &DataType, cells: &[&Cell]) -> ArrayRef {
    macro_rules! array {
        ($array:ty, $cell:pat => $value:expr) => {
            cells.iter().map(|c| if let $cell = c { Some($value) } else { None }).collect::<$array>()
        };
    }
    match ty {
        DataType::Boolean => Arc::new(array!(BooleanArray, Cell::Bool(v) => *v)),
        DataType::Int32 => Arc::new(array!(Int32Array, Cell::Int(v) => *v as i32)),
        DataType::Int64 => Arc::new(array!(Int64Array, Cell::Int(v) => *v)),
        DataType::Decimal128(..) => {
            Arc::new(array!(Decimal128Array, Cell::Decimal(v) => v.as_i128()).with_data_type(ty.clone()))
        }
        DataType::Decimal256(..) => {
            Arc::new(array!(Decimal256Array, Cell::Decimal(v) => *v).with_data_type(ty.clone()))
        }
        // Zeros of both signs are one value.
        DataType::Float64 => {
            let negative_zero = |v: f64| if v == 0.0 && cells.len().is_multiple_of(2) { -0.0 } else { v };
            Arc::new(array!(Float64Array, Cell::Float(v) => negative_zero(float_of(*v))))
        }
        DataType::Utf8 => Arc::new(array!(StringArray, Cell::Text(v) => v.as_str())),
        other => panic!("no model has {other}"),
    }
}

fn cells_of(array: &ArrayRef) -> Vec<Cell> {
    let cell = |i: usize| match array.data_type() {
        _ if array.is_null(i) => Cell::Null,
        DataType::Boolean => Cell::Bool(array.as_boolean().value(i)),
        DataType::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(i).into()),
        DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(i)),
        DataType::Decimal128(..) => Cell::Decimal(i256::from_i128(array.as_primitive::<Decimal128Type>().value(i))),
        DataType::Decimal256(..) => Cell::Decimal(array.as_primitive::<Decimal256Type>().value(i)),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(i)),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(i).to_owned()),
        other => panic!("no model has {other}"),
    };
    (0..array.len()).map(cell).collect()
}

fn changes_of(schema: &SchemaRef, rows: &[(Row, i64)]) -> Changes {
    let arrays = schema.fields().iter().enumerate().map(|(c, f)| {
        let cells: Vec<&Cell> = rows.iter().map(|(r, _)| &r[c]).collect();
        array_of(f.data_type(), &cells)
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), arrays.collect(), &options).unwrap();
    let weights = rows.iter().any(|(_, w)| *w != 1).then(|| rows.iter().map(|(_, w)| *w).collect());
    Changes::new(batch, weights)
}

/// The net of what was emitted.
///
/// # Panics
/// If it was not net.
fn net_of(emitted: &[Changes]) -> ZSet {
    let rows: usize = emitted.iter().map(Changes::num_rows).sum();
    let net = sum_of(emitted);
    assert!(net.len() == rows && net.values().all(|w| w.abs() == 1), "not net: {emitted:?}");
    net
}

/// The net of what was emitted in any form.
fn sum_of(emitted: &[Changes]) -> ZSet {
    let mut net = ZSet::new();
    for changes in emitted {
        let columns: Vec<Vec<Cell>> = changes.batch.columns().iter().map(cells_of).collect();
        for i in 0..changes.num_rows() {
            let row: Row = columns.iter().map(|c| c[i].clone()).collect();
            add(&mut net, &row, changes.weight(i));
        }
    }
    net
}

fn add(set: &mut ZSet, row: &Row, weight: i64) {
    let entry = set.entry(row.clone()).or_insert(0);
    *entry += weight;
    if *entry == 0 {
        set.remove(row);
    }
}

// ---- the model ----

fn decimal_of(v: i256, up: u32, count: i64) -> i256 {
    // Half away from zero, in integers: (2 · |v| + n) / 2n.
    let two = i256::from_i128(2);
    let n = i256::from(count);
    let scaled = v.wrapping_mul(i256::from_i128(10).wrapping_pow(up));
    let magnitude = scaled.wrapping_abs().wrapping_mul(two).wrapping_add(n).wrapping_div(n.wrapping_mul(two));
    if v.is_negative() { magnitude.wrapping_neg() } else { magnitude }
}

fn compute(call: &AggregateCall, input: &[SqlType], rows: &[(&Row, i64)]) -> Cell {
    let counted = rows.iter().filter(|(row, _)| call.filter.is_none_or(|f| row[f] == Cell::Bool(true)));
    let Some(arg) = call.arg else {
        return Cell::Int(counted.map(|(_, w)| w).sum());
    };
    let mut values: Vec<(&Cell, i64)> =
        counted.map(|(row, w)| (&row[arg], *w)).filter(|(v, _)| **v != Cell::Null).collect();
    if call.distinct {
        values = values.iter().map(|(v, _)| *v).collect::<BTreeSet<_>>().into_iter().map(|v| (v, 1)).collect();
    }
    let count: i64 = values.iter().map(|(_, w)| w).sum();
    if call.function == AggregateFunction::Count {
        return Cell::Int(count);
    }
    let mut each = values.iter().map(|(v, _)| *v);
    let extreme = match call.function {
        AggregateFunction::Min => each.min(),
        AggregateFunction::Max => each.max(),
        _ => each.next(),
    };
    let Some(extreme) = extreme else { return Cell::Null };
    let is_avg = call.function == AggregateFunction::Avg;
    match (call.function, &input[arg]) {
        (AggregateFunction::Min | AggregateFunction::Max, _) => extreme.clone(),
        (_, SqlType::Double) => {
            let of = |class: &dyn Fn(f64) -> bool| {
                values.iter().any(|(v, _)| matches!(v, Cell::Float(w) if class(float_of(*w))))
            };
            let (up, down) = (of(&|v| v == f64::INFINITY), of(&|v| v == f64::NEG_INFINITY));
            if of(&f64::is_nan) || up && down {
                return float(f64::NAN);
            }
            if up || down {
                return float(if up { f64::INFINITY } else { f64::NEG_INFINITY });
            }
            // Finite values of these tests are quarters of integers.
            let quarters = |v: &Cell| if let Cell::Float(w) = v { (float_of(*w) * 4.0) as i128 } else { 0 };
            let sum: i128 = values.iter().map(|(v, w)| quarters(v) * i128::from(*w)).sum();
            float(sum as f64 / 4.0 / if is_avg { count as f64 } else { 1.0 })
        }
        (_, SqlType::Decimal { scale, .. }) => {
            let of = |v: &Cell| if let Cell::Decimal(d) = v { *d } else { i256::ZERO };
            let sum = values.iter().fold(i256::ZERO, |s, (v, w)| s.wrapping_add(of(v).wrapping_mul(i256::from(*w))));
            let SqlType::Decimal { scale: to, .. } = call.ty else { panic!("{}", call.ty) };
            Cell::Decimal(decimal_of(sum, (to - scale) as u32, if is_avg { count } else { 1 }))
        }
        _ => {
            let of = |v: &Cell| if let Cell::Int(v) = v { i128::from(*v) } else { 0 };
            let sum: i128 = values.iter().map(|(v, w)| of(v) * i128::from(*w)).sum();
            Cell::Int((if is_avg { sum / i128::from(count) } else { sum }) as i64)
        }
    }
}

fn answer(spec: &AggregateSpec, input: &[SqlType], rows: &ZSet) -> ZSet {
    let mut groups: BTreeMap<Row, Vec<(&Row, i64)>> = BTreeMap::new();
    if spec.group.is_empty() {
        groups.insert(vec![], vec![]);
    }
    for (row, weight) in rows {
        let key = spec.group.iter().map(|&g| row[g].clone()).collect();
        groups.entry(key).or_default().push((row, *weight));
    }
    let mut out = ZSet::new();
    for (mut row, members) in groups {
        row.extend(spec.calls.iter().map(|call| compute(call, input, &members)));
        out.insert(row, 1);
    }
    out
}

// ---- what is run ----

/// Input columns: every type twice, as key and as value, and a filter. The letters of `core::testing`.
const LETTERS: &str = "I T F D L i I T F D L B";
const FILTER: usize = 11;

fn call(function: AggregateFunction, arg: Option<usize>, distinct: bool, filter: Option<usize>) -> AggregateCall {
    let types: Vec<SqlType> = columns(LETTERS).into_iter().map(|c| c.ty).collect();
    let ty = match (function, arg.map(|a| &types[a])) {
        (AggregateFunction::Count, _) => SqlType::BigInt,
        (AggregateFunction::Sum, Some(ty)) if ty.is_integer() => SqlType::BigInt,
        (AggregateFunction::Sum, Some(SqlType::Decimal { precision, scale })) => {
            SqlType::Decimal { precision: if *precision > 38 { 76 } else { 38 }, scale: *scale }
        }
        (AggregateFunction::Avg, Some(SqlType::Decimal { precision, scale })) => {
            SqlType::Decimal { precision: if *precision > 38 { 76 } else { 38 }, scale: *scale.max(&6) }
        }
        (_, Some(ty)) => ty.clone(),
        (_, None) => panic!("an argument is missing"),
    };
    let name = format!("{}_{arg:?}_{distinct}_{filter:?}", function.name());
    AggregateCall { function, arg, distinct, filter, name, ty, nullable: function != AggregateFunction::Count }
}

fn rig(spec: &AggregateSpec, append_only: bool) -> Rig {
    rig_over(LETTERS, spec, append_only)
}

fn rig_over(letters: &str, spec: &AggregateSpec, append_only: bool) -> Rig {
    let mut builder = GraphBuilder::new();
    let from = source(&mut builder, &TestSource { name: "t", letters, append_only, key: &[], with_order: false });
    let node = builder.add(OperatorSpec::Aggregate(spec.clone()), vec![from]).unwrap();
    Rig::new(builder.finish(), node)
}

fn random_cell(rng: &mut SmallRng, letter: char) -> Cell {
    if rng.random_range(0..6) == 0 {
        return Cell::Null;
    }
    let small = rng.random_range(-2..4i64);
    match letter {
        'B' => Cell::Bool(rng.random()),
        'T' => {
            Cell::Text(["", "a", "b\0c", "é", "ab", "a much longer text than the others"][(small + 2) as usize].into())
        }
        'F' => match rng.random_range(0..12) {
            0 => float(f64::NAN),
            1 => float(f64::INFINITY),
            2 => float(f64::NEG_INFINITY),
            3 => float(1e9),
            _ => float(small as f64 / 4.0),
        },
        'D' => Cell::Decimal(i256::from_i128(i128::from(small) * 55)),
        'L' => Cell::Decimal(i256::from_i128(i128::from(small)).wrapping_mul(i256::from_i128(10i128.pow(20)))),
        'I' if rng.random_range(0..20) == 0 => Cell::Int(i64::from(i32::MIN) * 1000),
        _ => Cell::Int(small),
    }
}

fn random_row(rng: &mut SmallRng) -> Row {
    LETTERS.chars().filter(|c| *c != ' ').map(|c| random_cell(rng, c)).collect()
}

/// Group columns and calls, any.
fn random_spec(rng: &mut SmallRng) -> AggregateSpec {
    let group: &[usize] = match rng.random_range(0..9) {
        0 => &[],
        1 | 2 => &[0],
        3 => &[1],
        4 => &[2],
        5 => &[3],
        6 => &[4],
        7 => &[0, 1],
        _ => &[5, 2, 11],
    };
    use AggregateFunction::*;
    let calls = rng.random_range(if group.is_empty() { 1 } else { 0 }..5);
    let mut random_call = || {
        let filter = (rng.random_range(0..3) == 0).then_some(FILTER);
        let function = [Count, Sum, Avg, Min, Max][rng.random_range(0..5)];
        if function == Count && rng.random_range(0..2) == 0 {
            return call(Count, None, false, filter);
        }
        let numbers = [5, 6, 8, 9, 10];
        let arg = match function {
            Sum | Avg => numbers[rng.random_range(0..numbers.len())],
            _ => rng.random_range(5..=FILTER),
        };
        call(function, Some(arg), rng.random_range(0..3) == 0, filter)
    };
    AggregateSpec { group: group.to_vec(), calls: (0..calls).map(|_| random_call()).collect() }
}

fn run(seed: u64, ticks: usize, rows_max: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let spec = random_spec(&mut rng);
    let append_only = rng.random_range(0..4) == 0;
    let mut rig = rig(&spec, append_only);
    let types: Vec<SqlType> = columns(LETTERS).into_iter().map(|c| c.ty).collect();
    let schema = rig.schema(0);
    let (mut input, mut found) = (ZSet::new(), ZSet::new());
    for tick in 0..ticks {
        let mut rows: Vec<(Row, i64)> = vec![];
        for _ in 0..rng.random_range(0..=rows_max) {
            let there: Option<Row> = match input.len() {
                0 => None,
                n => input.keys().nth(rng.random_range(0..n)).cloned(),
            };
            match (rng.random_range(0..10), there) {
                (0..4, Some(row)) if !append_only => {
                    add(&mut input, &row, -1);
                    rows.push((row, -1));
                }
                (4, _) if !append_only => {
                    let row = random_row(&mut rng);
                    rows.extend([(row.clone(), 1), (row, -1)]);
                }
                // A neighbour of what is there: the same group, or the same value.
                (5..8, Some(mut row)) => {
                    let at = rng.random_range(0..row.len());
                    row[at] = random_row(&mut rng)[at].clone();
                    add(&mut input, &row, 1);
                    rows.push((row, 1));
                }
                _ => {
                    let (row, weight) = (random_row(&mut rng), rng.random_range(1..3));
                    add(&mut input, &row, weight);
                    rows.push((row, weight));
                }
            }
        }
        // In any order: a deletion may come before its insertion.
        rows.sort_by_cached_key(|_| rng.random::<u32>());
        let mut parts = vec![];
        while !rows.is_empty() {
            let rest = rows.split_off(rng.random_range(1..=rows.len()));
            parts.push((0, changes_of(&schema, &rows)));
            rows = rest;
        }
        // Without memory it does ticks in parts, which need not be net.
        let in_parts = rng.random_range(0..3) == 0;
        rig.memory_max = if in_parts { 0 } else { usize::MAX };
        let emitted = rig.tick(parts).unwrap_or_else(|e| panic!("tick {tick}: {e:?}\n{spec:#?}"));
        if append_only && spec.calls.is_empty() {
            assert!(emitted.iter().all(|c| c.weights.is_none()), "append-only");
        }
        let net = if in_parts { sum_of(&emitted) } else { net_of(&emitted) };
        net.iter().for_each(|(row, w)| add(&mut found, row, *w));
        let expected = answer(&spec, &types, &input);
        assert_eq!(found, expected, "tick {tick} of seed {seed}, append-only {append_only}, {spec:#?}");
        match rng.random_range(0..8) {
            0 => rig.operator.flush().unwrap(),
            1 => {
                rig.operator.flush().unwrap();
                rig.restore();
            }
            2 => _ = rig.operator.shrink(0).unwrap(),
            3 => {
                let held = rig.operator.shrink(usize::MAX).unwrap();
                rig.operator.shrink(held / 2).unwrap();
            }
            _ => {}
        }
    }
    // What is stored is what the groups of the answer need, no more.
    rig.operator.flush().unwrap();
    assert_eq!(rig.tables[0].contents().len(), found.len(), "{spec:#?}");
    let all_deleted: Vec<(Row, i64)> = input.iter().map(|(row, w)| (row.clone(), -w)).collect();
    if !append_only && !all_deleted.is_empty() {
        rig.tick(vec![(0, changes_of(&schema, &all_deleted))]).unwrap();
        rig.operator.flush().unwrap();
        let left = usize::from(spec.group.is_empty());
        let contents: Vec<usize> = rig.tables.iter().map(|t| t.contents().len()).collect();
        assert_eq!(contents[0], left, "{spec:#?}");
        assert!(contents[1..].iter().all(|n| *n == 0), "{contents:?} {spec:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn every_tick_gives_what_a_recomputation_gives(seed in any::<u64>(), ticks in 1..16usize, rows in 1..16usize) {
        run(seed, ticks, rows);
    }
}

// ---- single properties ----

fn ints(schema: &SchemaRef, rows: &[(&[i64], i64)]) -> Vec<(usize, Changes)> {
    let rows: Vec<(Row, i64)> = rows.iter().map(|(r, w)| (r.iter().map(|v| Cell::Int(*v)).collect(), *w)).collect();
    vec![(0, changes_of(schema, &rows))]
}

fn int_call(function: AggregateFunction, arg: usize, distinct: bool) -> AggregateCall {
    let name = format!("c{}{arg}", function.name());
    AggregateCall { function, arg: Some(arg), distinct, filter: None, name, ty: SqlType::BigInt, nullable: true }
}

fn int_rows(emitted: &[Changes]) -> Vec<(Vec<Option<i64>>, i64)> {
    let cell = |c: Cell| if let Cell::Int(v) = c { Some(v) } else { None };
    net_of(emitted).into_iter().map(|(row, w)| (row.into_iter().map(cell).collect(), w)).collect()
}

#[test]
fn a_sum_that_does_not_fit_is_an_error_that_names_the_group() {
    let spec = AggregateSpec { group: vec![0], calls: vec![int_call(AggregateFunction::Sum, 1, false)] };
    let mut rig = rig_over("I I", &spec, false);
    let schema = rig.schema(0);
    // Not on the way.
    rig.tick(ints(&schema, &[(&[7, i64::MAX], 2), (&[7, i64::MAX], -1)])).unwrap();
    let e = rig.tick(ints(&schema, &[(&[7, 1], 1)])).unwrap_err();
    assert_eq!(e.code(), ErrorCode::Row);
    assert_eq!(e.message(), "SUM(b) of group a = 7 is 9223372036854775808, which does not fit BIGINT");
}

#[test]
fn a_delete_of_what_is_not_there_is_an_error_that_names_the_group() {
    use AggregateFunction::*;
    for (function, distinct) in [(Count, false), (Sum, false), (Min, false), (Max, false), (Count, true), (Avg, true)] {
        let spec = AggregateSpec { group: vec![0], calls: vec![int_call(function, 1, distinct)] };
        let mut rig = rig_over("I I", &spec, false);
        let schema = rig.schema(0);
        rig.tick(ints(&schema, &[(&[1, 1], 1)])).unwrap();
        rig.operator.shrink(0).unwrap();
        let e = rig.tick(ints(&schema, &[(&[1, 1], -2)])).unwrap_err();
        assert_eq!(e.code(), ErrorCode::Changelog);
        assert!(e.message().contains("group a = 1"), "{e}");
    }
    // The same number of rows, but another value.
    for (function, distinct) in [(Sum, false), (Min, false), (Max, false), (Count, true), (Avg, true)] {
        let spec = AggregateSpec { group: vec![0], calls: vec![int_call(function, 1, distinct)] };
        let mut rig = rig_over("I I", &spec, false);
        let schema = rig.schema(0);
        rig.tick(ints(&schema, &[(&[1, 1], 1)])).unwrap();
        let e = rig.tick(ints(&schema, &[(&[1, 2], -1)])).unwrap_err();
        assert_eq!(e.code(), ErrorCode::Changelog, "{e}");
    }
}

#[test]
fn a_global_aggregate_gives_its_row_once_also_for_empty_input_and_after_a_restore() {
    let calls = vec![call(AggregateFunction::Count, None, false, None), int_call(AggregateFunction::Max, 0, false)];
    let spec = AggregateSpec { group: vec![], calls };
    let mut rig = rig_over("I", &spec, false);
    let schema = rig.schema(0);
    assert_eq!(int_rows(&rig.tick(vec![]).unwrap()), [(vec![Some(0), None], 1)]);
    assert!(rig.tick(vec![]).unwrap().is_empty());
    rig.operator.flush().unwrap();
    rig.restore();
    assert!(rig.tick(vec![]).unwrap().is_empty());
    let rows = int_rows(&rig.tick(ints(&schema, &[(&[5], 1)])).unwrap());
    assert_eq!(rows, [(vec![Some(0), None], -1), (vec![Some(1), Some(5)], 1)]);
    rig.operator.shrink(0).unwrap();
    let rows = int_rows(&rig.tick(ints(&schema, &[(&[5], -1)])).unwrap());
    assert_eq!(rows, [(vec![Some(0), None], 1), (vec![Some(1), Some(5)], -1)]);
}

#[test]
fn a_worker_that_does_not_own_the_global_row_says_nothing() {
    let spec = AggregateSpec { group: vec![], calls: vec![call(AggregateFunction::Count, None, false, None)] };
    let mut rig = rig_over("I", &spec, false);
    let tables = rig.graph.nodes[rig.node].state.iter().cloned().map(super::harness::SharedTable::new);
    let tables = tables.map(|t| t.boxed()).collect();
    let cx = crate::BuildCx { graph: &rig.graph, node: rig.node, tables, max_parallelism: 16, worker: 1, workers: 2 };
    rig.operator = crate::build(cx).unwrap();
    assert!(rig.tick(vec![]).unwrap().is_empty());
}

#[test]
fn an_unchanged_answer_is_not_emitted() {
    let calls = vec![int_call(AggregateFunction::Max, 1, false), int_call(AggregateFunction::Count, 1, true)];
    let spec = AggregateSpec { group: vec![0], calls };
    let mut rig = rig_over("I I", &spec, false);
    let schema = rig.schema(0);
    rig.tick(ints(&schema, &[(&[1, 9], 1)])).unwrap();
    assert!(rig.tick(ints(&schema, &[(&[1, 9], 1)])).unwrap().is_empty());
    assert!(rig.tick(ints(&schema, &[(&[1, 9], -1), (&[2, 2], 1), (&[2, 2], -1)])).unwrap().is_empty());
}

#[test]
fn many_groups_come_in_bounded_steps() {
    let spec = AggregateSpec { group: vec![0], calls: vec![int_call(AggregateFunction::Sum, 1, false)] };
    let mut rig = rig_over("I I", &spec, true);
    let schema = rig.schema(0);
    let rows: Vec<[i64; 2]> = (0..100_000).map(|i| [i, i]).collect();
    let rows: Vec<(&[i64], i64)> = rows.iter().map(|r| (&r[..], 1)).collect();
    // `Rig` asserts the size of batches and steps.
    assert_eq!(int_rows(&rig.tick(ints(&schema, &rows)).unwrap()).len(), 100_000);
    assert_eq!(int_rows(&rig.tick(ints(&schema, &rows[..70_000])).unwrap()).len(), 139_998, "0 + 0 is 0 still");
}

#[test]
fn memory_is_bounded_by_eviction() {
    const BYTES_MAX: usize = 1 << 20;
    for letters in ["I I", "T I"] {
        let calls = vec![int_call(AggregateFunction::Sum, 1, false), int_call(AggregateFunction::Min, 1, false)];
        let spec = AggregateSpec { group: vec![0], calls };
        let mut rig = rig_over(letters, &spec, false);
        let schema = rig.schema(0);
        let mut rng = SmallRng::seed_from_u64(1);
        let mut expected = BTreeMap::<i64, (i64, i64)>::new();
        let mut found = ZSet::new();
        let key = |k: i64| if letters.starts_with('T') { Cell::Text(format!("key {k}")) } else { Cell::Int(k) };
        for _ in 0..40 {
            let rows: Vec<(Row, i64)> = (0..5000)
                .map(|_| {
                    let (k, v) = (rng.random_range(0..50_000), rng.random_range(0..100));
                    let e = expected.entry(k).or_insert((0, v));
                    *e = (e.0 + v, e.1.min(v));
                    (vec![key(k), Cell::Int(v)], 1)
                })
                .collect();
            let emitted = rig.tick(vec![(0, changes_of(&schema, &rows))]).unwrap();
            net_of(&emitted).iter().for_each(|(row, w)| add(&mut found, row, *w));
            assert!(rig.operator.shrink(BYTES_MAX).unwrap() <= BYTES_MAX);
        }
        assert!(expected.len() > 45_000, "more than fits");
        let expected: ZSet =
            expected.into_iter().map(|(k, (s, m))| (vec![key(k), Cell::Int(s), Cell::Int(m)], 1)).collect();
        assert!(found == expected);
    }
}

#[test]
fn memory_is_bounded_also_within_one_group() {
    const BYTES_MAX: usize = 1 << 20;
    use AggregateFunction::*;
    let calls = vec![int_call(Count, 0, true), int_call(Sum, 0, true), int_call(Max, 0, false)];
    let spec = AggregateSpec { group: vec![], calls };
    let mut rig = rig_over("I", &spec, false);
    let schema = rig.schema(0);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut values = BTreeMap::<i64, i64>::new();
    let (mut found, mut most) = (ZSet::new(), 0);
    for tick in 0..40 {
        let mut rows: Vec<([i64; 1], i64)> = (0..4000).map(|_| ([rng.random_range(0..100_000)], 1)).collect();
        if tick > 20 {
            // The greatest go, and many others.
            rows.extend(values.iter().rev().take(500).map(|(v, n)| ([*v], -n)));
            rows.extend(values.iter().step_by(7).map(|(v, n)| ([*v], -n)).filter(|(v, _)| v[0] < 90_000));
        }
        rows.iter().for_each(|([v], w)| *values.entry(*v).or_insert(0) += w);
        values.retain(|_, n| *n > 0);
        let rows: Vec<(&[i64], i64)> = rows.iter().map(|(v, w)| (&v[..], *w)).collect();
        let emitted = rig.tick(ints(&schema, &rows)).unwrap();
        net_of(&emitted).iter().for_each(|(row, w)| add(&mut found, row, *w));
        let expected = [values.len() as i64, values.keys().sum(), *values.keys().max().unwrap()].map(Cell::Int);
        assert!(found.keys().eq([&expected.to_vec()]), "{found:?} {expected:?}");
        assert!(rig.operator.shrink(BYTES_MAX).unwrap() <= BYTES_MAX);
        most = most.max(values.len());
    }
    assert!(most > 50_000, "more than fits");
}

/// Goes on without rows that are in error.
struct Lenient(TestCx, Vec<String>);

impl TickCx for Lenient {
    fn tick(&self) -> &Tick {
        self.0.tick()
    }

    fn watermark(&self, input: usize) -> Watermark {
        self.0.watermark(input)
    }

    fn hold_watermark(&mut self, at_most: Watermark) {
        self.0.hold_watermark(at_most);
    }

    fn emit(&mut self, changes: Changes) {
        self.0.emit(changes);
    }

    fn row_error(&mut self, error: Error) -> Result<()> {
        self.1.push(error.message().to_owned());
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.0.waker()
    }

    fn memory_max(&self) -> usize {
        self.0.memory_max()
    }
}

#[test]
fn a_row_in_error_is_absent_until_it_fits_again() {
    let spec = AggregateSpec { group: vec![0], calls: vec![int_call(AggregateFunction::Sum, 1, false)] };
    let mut rig = rig_over("I I", &spec, false);
    let schema = rig.schema(0);
    let mut tick = |rows: &[(&[i64], i64)]| {
        let mut cx = Lenient(TestCx::new(1), vec![]);
        for (input, changes) in ints(&schema, rows) {
            rig.operator.push(input, changes, &mut cx).unwrap();
        }
        assert_eq!(rig.operator.end_tick(&mut cx).unwrap(), Step::Done);
        rig.operator.shrink(0).unwrap();
        (int_rows(&cx.0.emitted), cx.1.len())
    };
    let row = |sum| vec![Some(1), Some(sum)];
    assert_eq!(tick(&[(&[1, i64::MAX], 1)]), (vec![(row(i64::MAX), 1)], 0));
    assert_eq!(tick(&[(&[1, 5], 1)]), (vec![(row(i64::MAX), -1)], 1));
    assert_eq!(tick(&[(&[1, 6], 1)]), (vec![], 1));
    assert_eq!(tick(&[(&[1, 6], -1), (&[1, i64::MAX], -1)]), (vec![(row(5), 1)], 0));
}

#[test]
fn a_tick_of_more_groups_than_memory_holds_is_done_in_parts() {
    const BYTES_MAX: usize = 1 << 20;
    const GROUPS: i64 = 100_000;
    let calls = vec![int_call(AggregateFunction::Sum, 1, false), int_call(AggregateFunction::Max, 1, false)];
    let spec = AggregateSpec { group: vec![0], calls };
    let mut rig = rig_over("I I", &spec, true);
    let schema = rig.schema(0);
    let mut found = ZSet::new();
    for tick in 1..3 {
        let mut cx = TestCx::new(tick);
        cx.memory_max = BYTES_MAX;
        // Every group comes three times, far apart.
        let rows: Vec<[i64; 2]> = (0..3 * GROUPS).map(|i| [i % GROUPS, tick as i64 * 10 + i / GROUPS]).collect();
        for rows in rows.chunks(1000) {
            let rows: Vec<(&[i64], i64)> = rows.iter().map(|r| (&r[..], 1)).collect();
            for (input, changes) in ints(&schema, &rows) {
                rig.operator.push(input, changes, &mut cx).unwrap();
            }
            assert!(rig.operator.shrink(usize::MAX).unwrap() < 2 * BYTES_MAX);
        }
        while rig.operator.end_tick(&mut cx).unwrap() != Step::Done {}
        sum_of(&cx.emitted).iter().for_each(|(row, w)| add(&mut found, row, *w));
        let (sum, max) = if tick == 1 { (33, 12) } else { (33 + 63, 22) };
        let expected: ZSet = (0..GROUPS).map(|k| (vec![Cell::Int(k), Cell::Int(sum), Cell::Int(max)], 1)).collect();
        assert!(found == expected, "tick {tick}");
    }
}

#[test]
fn what_fails_in_a_part_of_a_tick_is_an_error_only_if_it_fails_at_its_end() {
    let spec = AggregateSpec { group: vec![0], calls: vec![int_call(AggregateFunction::Sum, 1, false)] };
    let mut rig = rig_over("I I", &spec, true);
    let schema = rig.schema(0);
    let mut tick = |rows: &[[i64; 2]]| {
        let mut cx = Lenient(TestCx::new(1), vec![]);
        cx.0.memory_max = 0;
        for row in rows {
            for (input, changes) in ints(&schema, &[(&row[..], 1)]) {
                rig.operator.push(input, changes, &mut cx).unwrap();
            }
        }
        assert_eq!(rig.operator.end_tick(&mut cx).unwrap(), Step::Done);
        let net = sum_of(&cx.0.emitted);
        (net.get(&vec![Cell::Int(1), Cell::Int(i64::MAX)]).copied(), net.len(), cx.1.len())
    };
    assert_eq!(tick(&[[1, i64::MAX], [1, 5], [2, 0], [1, -5]]), (Some(1), 2, 0), "it fits again");
    assert_eq!(tick(&[[1, 5], [2, 1], [3, 1]]), (Some(-1), 4, 1), "it stays beyond BIGINT");
    assert_eq!(tick(&[[3, 1]]), (None, 2, 0), "an error is told once");
    assert_eq!(tick(&[[1, -5]]), (Some(1), 1, 0));
}

#[test]
fn the_best_of_many_values_is_found_when_they_go_one_by_one() {
    for (function, step) in [(AggregateFunction::Min, 1), (AggregateFunction::Max, -1)] {
        let spec = AggregateSpec { group: vec![0], calls: vec![int_call(function, 1, false)] };
        let mut rig = rig_over("I I", &spec, false);
        let schema = rig.schema(0);
        let rows: Vec<[i64; 2]> = (0..1000).map(|i| [1, i]).collect();
        let rows: Vec<(&[i64], i64)> = rows.iter().map(|r| (&r[..], 1)).collect();
        rig.tick(ints(&schema, &rows)).unwrap();
        let mut best = if step > 0 { 0 } else { 999 };
        for i in 0..999 {
            match i % 250 {
                100 => _ = rig.operator.shrink(0).unwrap(),
                150 => rig.operator.flush().unwrap(),
                200 => {
                    rig.operator.flush().unwrap();
                    rig.restore();
                }
                _ => {}
            }
            let out = int_rows(&rig.tick(ints(&schema, &[(&[1, best], -1)])).unwrap());
            let next = vec![Some(1), Some(best + step)];
            assert!(out.contains(&(next, 1)) && out.len() == 2, "{out:?}");
            best += step;
        }
    }
}

#[test]
fn a_checkpoint_writes_the_groups_that_changed_since_the_last_one_and_reads_nothing() {
    let calls = vec![call(AggregateFunction::Count, None, false, None), int_call(AggregateFunction::Max, 1, false)];
    let spec = AggregateSpec { group: vec![0], calls };
    let mut rig = rig_over("I I", &spec, true);
    let schema = rig.schema(0);
    let mut flushed_after = |keys: std::ops::Range<i64>| {
        let rows: Vec<[i64; 2]> = keys.map(|k| [k, 1]).collect();
        let rows: Vec<(&[i64], i64)> = rows.iter().map(|r| (&r[..], 1)).collect();
        rig.tick(ints(&schema, &rows)).unwrap();
        rig.operator.flush().unwrap();
        rig.tables[0].take_costs()
    };
    assert_eq!(flushed_after(0..5000), (0, 5000));
    assert_eq!(flushed_after(100..150), (0, 50));
    assert_eq!(flushed_after(0..0), (0, 0));
}

#[test]
fn the_stored_bytes_are_frozen() {
    let calls = vec![
        call(AggregateFunction::Count, None, false, None),
        int_call(AggregateFunction::Sum, 1, false),
        int_call(AggregateFunction::Max, 1, false),
        int_call(AggregateFunction::Count, 1, true),
    ];
    let spec = AggregateSpec { group: vec![0], calls };
    let mut rig = rig_over("I I", &spec, false);
    let schema = rig.schema(0);
    rig.tick(ints(&schema, &[(&[1, 5], 1), (&[1, 6], 2), (&[2, 7], 1), (&[2, 7], -1)])).unwrap();
    rig.operator.flush().unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let contents: Vec<Vec<(String, String)>> =
        rig.tables.iter().map(|t| t.contents().iter().map(|(k, v)| (hex(k), hex(v))).collect()).collect();
    let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    let (group, five, six) = ("0003018000000000000001", "018000000000000005", "018000000000000006");
    // Rows 3; COUNT 3; SUM of 3 values 17; MAX 6; 2 values. Each call's bytes behind their length.
    let row = "00060103020611090180000000000000060102";
    let values = vec![pair(&format!("{group}{five}"), "0002"), pair(&format!("{group}{six}"), "0004")];
    assert_eq!(contents, [vec![pair(group, row)], values.clone(), values]);
}
