//! Join against every row with every row.

use proptest::prelude::*;
use rand::rngs::SmallRng;
use thalweg_core::operator::EMIT_ROWS_MAX;
use thalweg_core::{Changes, SqlType};
use thalweg_graph::ops::join::JoinSpec;
use thalweg_graph::{Edge, Expr, GraphBuilder, OperatorSpec};

use super::harness::{
    Bag, Cell, Model, Rig, Row, Sequence, TestSource, ZSet, changes_of, int, rows_of, run, sequences, source, text,
};

/// What is joined: both sides have columns a, b BIGINT, c STRING.
#[derive(Debug, Clone)]
struct Case {
    /// Join columns of both sides.
    keys: Vec<usize>,
    /// Unique keys of the sides; empty: none.
    unique: [Vec<usize>; 2],
    append_only: [bool; 2],
    /// l.b < r.b
    residual: bool,
}

fn rig(case: &Case) -> Rig {
    let mut builder = GraphBuilder::new();
    let inputs: Vec<Edge> = (0..2)
        .map(|n| {
            let append_only = case.append_only[n];
            let name = ["l", "r"][n];
            source(
                &mut builder,
                &TestSource { name, letters: "I I T", append_only, key: &case.unique[n], with_order: false },
            )
        })
        .collect();
    let column = |o| Expr::column(o, SqlType::BigInt);
    let residual = case.residual.then(|| Expr::call("<", vec![column(1), column(4)], SqlType::Boolean));
    let spec = JoinSpec { left_keys: case.keys.clone(), right_keys: case.keys.clone(), residual };
    let node = builder.add(OperatorSpec::Join(spec), inputs).unwrap();
    Rig::new(builder.finish(), node)
}

struct JoinModel {
    case: Case,
    bags: [Bag; 2],
}

fn joined(case: &Case, bags: &[Bag; 2]) -> ZSet {
    let mut answer = ZSet::new();
    for (l, lw) in &bags[0].rows {
        for (r, rw) in &bags[1].rows {
            let equal = case.keys.iter().all(|&k| l[k] == r[k] && l[k] != Cell::Null);
            let holds = !case.residual || (l[1] != Cell::Null && r[1] != Cell::Null && l[1] < r[1]);
            if equal && holds {
                *answer.entry([l.clone(), r.clone()].concat()).or_insert(0) += lw * rw;
            }
        }
    }
    answer
}

impl Model for JoinModel {
    fn draw(&mut self, rng: &mut SmallRng, rows: usize) -> Vec<(usize, Row, i64)> {
        let mut changes = vec![];
        for side in 0..2 {
            let mut row = |rng: &mut SmallRng| vec![int(rng, 5), int(rng, 4), text(rng, 3)];
            let drawn = self.bags[side].draw(rng, rows / 2 + 1, &mut row);
            changes.extend(drawn.into_iter().map(|(r, w)| (side, r, w)));
        }
        changes
    }

    fn answer(&mut self, _: &[(usize, Row, i64)]) -> ZSet {
        joined(&self.case, &self.bags)
    }
}

fn check(case: Case, sequence: Sequence) {
    let bag = |n: usize| Bag::new(!case.append_only[n], &case.unique[n]);
    let bags = [bag(0), bag(1)];
    run(rig(&case), &mut JoinModel { case, bags }, sequence);
}

fn cases() -> impl Strategy<Value = Case> {
    let keys = prop_oneof![Just(vec![0]), Just(vec![0]), Just(vec![0, 2]), Just(vec![2]), Just(vec![])];
    let unique = || prop_oneof![Just(vec![]), Just(vec![0]), Just(vec![0, 1]), Just(vec![1])];
    (keys, [unique(), unique()], any::<[bool; 2]>(), any::<bool>())
        .prop_map(|(keys, unique, append_only, residual)| Case { keys, unique, append_only, residual })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_join_agrees_with_every_row_meeting_every_row(case in cases(), sequence in sequences()) {
        check(case, sequence);
    }
}

fn simple(append_only: bool, unique: &[usize]) -> Case {
    Case { keys: vec![0], unique: [unique.to_vec(), vec![]], append_only: [append_only; 2], residual: false }
}

fn row(a: i64, b: i64) -> Row {
    vec![Cell::Int(a), Cell::Int(b), Cell::Text("x".into())]
}

#[test]
fn a_hot_key_comes_in_bounded_steps_and_in_full() {
    let mut rig = rig(&simple(true, &[]));
    let left: Vec<(Row, i64)> = (0..700).map(|i| (row(1, i), 1)).collect();
    let right: Vec<(Row, i64)> = (0..700).map(|i| (row(1, i), 1)).collect();
    let (l, r) = (changes_of(&rig.schema(0), &left), changes_of(&rig.schema(1), &right));
    // The rig checks that no step emits much more than this.
    const { assert!(700 * 700 > 4 * EMIT_ROWS_MAX) };
    let emitted = rig.tick(vec![(0, l), (1, r)]).unwrap();
    assert_eq!(emitted.iter().map(Changes::num_rows).sum::<usize>(), 700 * 700);
    let distinct: std::collections::BTreeSet<Row> = emitted.iter().flat_map(rows_of).map(|(r, _)| r).collect();
    assert_eq!(distinct.len(), 700 * 700);
}

#[test]
fn a_delete_of_an_absent_row_is_an_error_that_names_the_side_and_the_row() {
    let mut rig = rig(&simple(false, &[]));
    let delete = changes_of(&rig.schema(1), &[(row(7, 8), -1)]);
    let error = rig.tick(vec![(1, delete)]).unwrap_err();
    assert_eq!(error.code(), thalweg_core::ErrorCode::Changelog);
    assert!(error.message().contains("right input") && error.message().contains("a = 7, b = 8"), "{error}");
}

#[test]
fn two_rows_of_a_promised_unique_key_are_an_error() {
    let mut rig = rig(&simple(false, &[0]));
    let rows = changes_of(&rig.schema(0), &[(row(7, 8), 1), (row(7, 9), 1)]);
    let error = rig.tick(vec![(0, rows)]).unwrap_err();
    assert!(error.message().contains("two rows with the key a = 7"), "{error}");
}

#[test]
fn a_key_that_changes_many_times_does_not_pile_up() {
    let mut rig = rig(&simple(false, &[0]));
    let mut before = vec![];
    for i in 0..3000 {
        let mut rows: Vec<(Row, i64)> = (0..50).map(|k| (row(k, i), 1)).collect();
        let insert = rows.clone();
        rows.extend(std::mem::replace(&mut before, insert).into_iter().map(|(r, _)| (r, -1)));
        let changes = changes_of(&rig.schema(0), &rows);
        rig.tick(vec![(0, changes)]).unwrap();
        if i % 100 == 0 {
            rig.operator.flush().unwrap();
        }
    }
    assert!(rig.operator.shrink(usize::MAX).unwrap() < 8_000_000);
    assert_eq!(rig.tables[0].contents().len(), 50);
}

#[test]
fn a_checkpoint_writes_the_rows_that_came_since_the_last_one_and_reads_nothing() {
    let mut rig = rig(&simple(true, &[]));
    let mut flushed_after = |input, keys: std::ops::Range<i64>| {
        let rows: Vec<(Row, i64)> = keys.map(|k| (row(k, k), 1)).collect();
        let changes = changes_of(&rig.schema(input), &rows);
        rig.tick(vec![(input, changes)]).unwrap();
        rig.operator.flush().unwrap();
        (rig.tables[0].take_costs(), rig.tables[1].take_costs())
    };
    assert_eq!(flushed_after(0, 0..3000), ((0, 3000), (0, 0)));
    assert_eq!(flushed_after(1, 0..3000), ((0, 0), (0, 3000)));
    assert_eq!(flushed_after(0, 3000..3010), ((0, 10), (0, 0)));
    assert_eq!(flushed_after(0, 0..0), ((0, 0), (0, 0)));
}
