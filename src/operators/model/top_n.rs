//! Top-N, and upsert materialize, against sorting everything.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use thalweg_core::Changes;
use thalweg_graph::ops::SortKey;
use thalweg_graph::ops::top_n::TopNSpec;
use thalweg_graph::ops::upsert_materialize::UpsertMaterializeSpec;
use thalweg_graph::{GraphBuilder, OperatorSpec};

use super::harness::{
    Bag, Cell, Model, Rig, Row, Sequence, TestSource, ZSet, changes_of, int, rows_of, run, sequences, source, text,
};

/// Over columns a, b BIGINT, c STRING.
#[derive(Debug, Clone)]
struct Case {
    partition: Vec<usize>,
    order: Vec<SortKey>,
    from: u64,
    to: Option<u64>,
    rank: bool,
    append_only: bool,
    /// A unique key of the input; empty: none.
    key: Vec<usize>,
    upsert_materialize: bool,
}

impl Case {
    /// What is compared within a partition: column, descending, nulls first.
    fn total_order(&self) -> Vec<SortKey> {
        let ties: Vec<usize> = if self.key.is_empty() { vec![0, 1, 2] } else { self.key.clone() };
        let taken = |c: &usize| self.partition.contains(c) || self.order.iter().any(|k| k.column == *c);
        let ties = ties.into_iter().filter(|c| !taken(c));
        let last_first = self.upsert_materialize;
        let tie = |column| SortKey { column, descending: last_first, nulls_first: !last_first };
        self.order.iter().cloned().chain(ties.map(tie)).collect()
    }

    fn rig(&self) -> Rig {
        let mut builder = GraphBuilder::new();
        let parts = TestSource {
            name: "t",
            letters: "I I T",
            append_only: self.append_only,
            key: &self.key,
            with_order: false,
        };
        let input = source(&mut builder, &parts);
        let total = self.total_order();
        let spec = match self.upsert_materialize {
            true => OperatorSpec::UpsertMaterialize(UpsertMaterializeSpec {
                key: self.partition.clone(),
                order: total.iter().map(|k| k.column).collect(),
            }),
            false => OperatorSpec::TopN(TopNSpec {
                partition: self.partition.clone(),
                order: self.order.clone(),
                ties: total[self.order.len()..].iter().map(|k| k.column).collect(),
                from: self.from,
                to: self.to,
                rank: self.rank.then(|| "rn".to_owned()),
            }),
        };
        let node = builder.add(spec, vec![input]).unwrap();
        Rig::new(builder.finish(), node)
    }

    fn answer(&self, rows: &ZSet) -> ZSet {
        let total = self.total_order();
        let mut partitions: BTreeMap<Row, Vec<Row>> = BTreeMap::new();
        for (row, &weight) in rows {
            let partition = self.partition.iter().map(|&c| row[c].clone()).collect();
            partitions.entry(partition).or_default().extend(std::iter::repeat_n(row.clone(), weight as usize));
        }
        let mut answer = ZSet::new();
        for mut rows in partitions.into_values() {
            rows.sort_by(|a, b| {
                let by = |k: &SortKey| {
                    let (a, b) = (&a[k.column], &b[k.column]);
                    match (a == &Cell::Null, b == &Cell::Null) {
                        (true, true) => std::cmp::Ordering::Equal,
                        (a, b) if a || b => {
                            if k.nulls_first {
                                b.cmp(&a)
                            } else {
                                a.cmp(&b)
                            }
                        }
                        _ if k.descending => b.cmp(a),
                        _ => a.cmp(b),
                    }
                };
                total.iter().map(by).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
            });
            for (i, mut row) in rows.into_iter().enumerate() {
                let rank = i as u64 + 1;
                if rank >= self.from && self.to.is_none_or(|to| rank <= to) {
                    if self.rank {
                        row.push(Cell::Int(rank as i64));
                    }
                    *answer.entry(row).or_insert(0) += 1;
                }
            }
        }
        answer
    }
}

struct TopNModel {
    case: Case,
    bag: Bag,
}

impl Model for TopNModel {
    fn draw(&mut self, rng: &mut SmallRng, rows: usize) -> Vec<(usize, Row, i64)> {
        let mut row = |rng: &mut SmallRng| vec![int(rng, 3), int(rng, 12), text(rng, 4)];
        self.bag.draw(rng, rows * 2, &mut row).into_iter().map(|(r, w)| (0, r, w)).collect()
    }

    fn answer(&mut self, _: &[(usize, Row, i64)]) -> ZSet {
        self.case.answer(&self.bag.rows)
    }
}

fn check(case: Case, sequence: Sequence) {
    let bag = Bag::new(!case.append_only, &case.key);
    run(case.rig(), &mut TopNModel { case, bag }, sequence);
}

fn cases() -> impl Strategy<Value = Case> {
    let sort = |column: usize| {
        any::<(bool, bool)>().prop_map(move |(descending, nulls_first)| SortKey { column, descending, nulls_first })
    };
    let order = prop_oneof![
        4 => sort(1).prop_map(|k| vec![k]),
        1 => sort(2).prop_map(|k| vec![k]),
        1 => (sort(2), sort(1)).prop_map(|(a, b)| vec![a, b]),
        1 => Just(vec![]),
    ];
    let ranks = prop_oneof![
        3 => (1..5u64).prop_map(|to| (1, Some(to))),
        1 => (1..4u64).prop_map(|at| (at, Some(at))),
        1 => (1..4u64, 0..3u64).prop_map(|(from, more)| (from, Some(from + more))),
        1 => (1..4u64).prop_map(|from| (from, None)),
    ];
    let partition = prop_oneof![3 => Just(vec![0]), 1 => Just(vec![]), 1 => Just(vec![0, 2]), 1 => Just(vec![2])];
    let key = prop_oneof![2 => Just(vec![]), 1 => Just(vec![1]), 1 => Just(vec![0, 1])];
    (partition, order, ranks, any::<bool>(), any::<bool>(), key, 0..6).prop_map(
        |(partition, order, (from, to), rank, append_only, key, kind)| {
            let upsert_materialize = kind == 0;
            let order: Vec<SortKey> = order.into_iter().filter(|k| !partition.contains(&k.column)).collect();
            match upsert_materialize {
                true => Case {
                    partition,
                    order: vec![],
                    from: 1,
                    to: Some(1),
                    rank: false,
                    append_only,
                    key,
                    upsert_materialize,
                },
                false => Case { partition, order, from, to, rank, append_only, key, upsert_materialize },
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn top_n_agrees_with_sorting_everything(case in cases(), sequence in sequences()) {
        check(case, sequence);
    }
}

fn simple(append_only: bool, rank: bool) -> Case {
    let order = vec![SortKey { column: 1, descending: true, nulls_first: false }];
    let (partition, key) = (vec![0], vec![]);
    Case { partition, order, from: 1, to: Some(3), rank, append_only, key, upsert_materialize: false }
}

fn row(a: i64, b: i64) -> Row {
    vec![Cell::Int(a), Cell::Int(b), Cell::Null]
}

#[test]
fn heads_are_filled_up_from_rows_beyond_them_after_many_deletes() {
    for flush in [false, true] {
        let case = simple(false, true);
        let mut rig = case.rig();
        let mut rows: ZSet = (0..1000).map(|b| (row(1, b), 1)).collect();
        let mut found = ZSet::new();
        let mut changes: Vec<(Row, i64)> = rows.clone().into_iter().collect();
        for _ in 0..9 {
            let batch = changes_of(&rig.schema(0), &changes);
            for (row, weight) in rig.tick(vec![(0, batch)]).unwrap().iter().flat_map(rows_of) {
                super::harness::add(&mut found, row, weight);
            }
            assert_eq!(found, case.answer(&rows));
            if flush {
                rig.operator.flush().unwrap();
            }
            // The best 120 go, and 20 better ones than the next come.
            changes = rows.keys().rev().take(120).map(|r| (r.clone(), -1)).collect();
            rows = rows.into_iter().rev().skip(120).collect();
            let best = rows.keys().next_back().unwrap().clone();
            let Cell::Int(best) = best[1] else { panic!() };
            for b in 0..20 {
                rows.insert(row(1, best + 1 + b), 1);
                changes.push((row(1, best + 1 + b), 1));
            }
        }
    }
}

#[test]
fn long_lists_agree_with_sorting_everything() {
    use rand::{Rng, SeedableRng};
    for (seed, append_only, rank, keyed) in (0..24u64).map(|n| (n, n % 2 == 0, n % 4 < 2, n % 3 == 0)) {
        let key = if keyed { vec![0, 2] } else { vec![] };
        let order = vec![SortKey { column: 1, descending: seed % 5 == 0, nulls_first: true }];
        let (from, to) = [(1, Some(900)), (300, Some(700)), (500, None)][seed as usize % 3];
        let case =
            Case { partition: vec![], order, from, to, rank, append_only, key: key.clone(), upsert_materialize: false };
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut rig = case.rig();
        let mut bag = Bag::new(!append_only, &key);
        let mut found = ZSet::new();
        for _ in 0..6 {
            let mut make = |rng: &mut SmallRng| {
                let id = Cell::Text(rng.random_range(0..3000).to_string());
                vec![int(rng, 3), int(rng, 1000), id]
            };
            let rows = rng.random_range(1..800);
            let changes = bag.draw(&mut rng, rows, &mut make);
            let batch = changes_of(&rig.schema(0), &changes);
            for (row, weight) in rig.tick(vec![(0, batch)]).unwrap().iter().flat_map(rows_of) {
                super::harness::add(&mut found, row, weight);
            }
            assert!(found == case.answer(&bag.rows), "{seed} {case:?}");
            match rng.random_range(0..4) {
                0 => rig.operator.flush().unwrap(),
                1 => drop(rig.operator.shrink(0).unwrap()),
                _ => {}
            }
        }
    }
}

#[test]
fn a_delete_of_an_absent_row_is_an_error_in_a_head_and_beyond_it() {
    for beyond in [false, true] {
        let mut rig = simple(false, false).rig();
        let rows: Vec<(Row, i64)> = (0..200).map(|b| (row(1, b), 1)).collect();
        let batch = changes_of(&rig.schema(0), &rows);
        rig.tick(vec![(0, batch)]).unwrap();
        let absent = if beyond { row(1, -5) } else { row(1, 500) };
        let batch = changes_of(&rig.schema(0), &[(absent, -1)]);
        let error = rig.tick(vec![(0, batch)]).unwrap_err();
        assert!(error.message().contains("deleted that is not there"), "{error}");
        assert!(error.message().contains("a = 1"), "{error}");
    }
}

#[test]
fn a_limit_of_a_hundred_thousand_rows_comes_in_bounded_steps() {
    let case = Case { partition: vec![], to: Some(150_000), ..simple(true, true) };
    let mut rig = case.rig();
    let rows: Vec<(Row, i64)> = (0..200_000).map(|b| (row(1, b), 1)).collect();
    let batch = changes_of(&rig.schema(0), &rows);
    let emitted = rig.tick(vec![(0, batch)]).unwrap();
    assert_eq!(emitted.iter().map(Changes::num_rows).sum::<usize>(), 150_000);
}
