//! Memoize: the stable columns are the input's, the memoized values those of the tick of the insertion.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use thalweg_core::SqlType;
use thalweg_graph::ops::memoize::{MemoizeSpec, MemoizedExpr};
use thalweg_graph::{Expr, GraphBuilder, OperatorSpec};

use super::harness::{Bag, Cell, Model, Rig, Row, TestSource, ZSet, int, run, sequences, source, text};

/// Input: a BIGINT, b STRING, u BIGINT; u is unstable and replaced, an expression is computed.
fn rig(key: &[usize]) -> Rig {
    let mut builder = GraphBuilder::new();
    let parts = TestSource { name: "t", letters: "I T I", append_only: false, key, with_order: false };
    let input = source(&mut builder, &parts);
    let ty = SqlType::BigInt;
    let sum = Expr::call("+", vec![Expr::column(2, ty.clone()), Expr::column(2, ty.clone())], ty);
    let computed = vec![MemoizedExpr { expr: sum, name: "twice".into(), nullable: true }];
    let key = if key.is_empty() { vec![0, 1] } else { key.to_vec() };
    let node =
        builder.add(OperatorSpec::Memoize(MemoizeSpec { key, columns: vec![2], computed }), vec![input]).unwrap();
    Rig::new(builder.finish(), node)
}

struct MemoizeModel {
    /// Of (a, b).
    bag: Bag,
    key: Vec<usize>,
    /// The value that a row inserted next has.
    next: i64,
    /// Per stable row its copies: u and weight, oldest first.
    copies: BTreeMap<Row, Vec<(Cell, i64)>>,
}

impl Model for MemoizeModel {
    fn draw(&mut self, rng: &mut SmallRng, rows: usize) -> Vec<(usize, Row, i64)> {
        // One value per tick, so that it does not matter which of a tick's equal rows is the one that is kept.
        self.next += 1;
        let mut row = |rng: &mut SmallRng| vec![int(rng, 5), text(rng, 2)];
        let drawn = self.bag.draw(rng, rows, &mut row);
        let next = self.next;
        drawn
            .into_iter()
            .map(|(mut row, weight)| {
                // What a deletion says of an unstable column is not to be believed.
                row.push(if weight > 0 { Cell::Int(next) } else { Cell::Null });
                (0, row, weight)
            })
            .collect()
    }

    fn answer(&mut self, changes: &[(usize, Row, i64)]) -> ZSet {
        let mut net = ZSet::new();
        for (_, row, weight) in changes {
            super::harness::add(&mut net, row[..2].to_vec(), *weight);
        }
        // A key's copies are one queue, whatever the other stable columns of a row.
        let key_of = |row: &Row| -> Row {
            if self.key.is_empty() { row.clone() } else { self.key.iter().map(|&k| row[k].clone()).collect() }
        };
        let mut live = self.bag.rows.clone();
        for (row, weight) in net.iter().filter(|(_, w)| **w < 0) {
            let mut missing = -weight;
            let copies = self.copies.get_mut(&key_of(row)).expect("was inserted");
            for (_, w) in copies.iter_mut() {
                let taken = missing.min(*w);
                *w -= taken;
                missing -= taken;
            }
            copies.retain(|(_, w)| *w > 0);
        }
        for (row, weight) in net.iter().filter(|(_, w)| **w > 0) {
            self.copies.entry(key_of(row)).or_default().push((Cell::Int(self.next), *weight));
        }
        let mut answer = ZSet::new();
        for (row, weight) in std::mem::take(&mut live) {
            let copies = &self.copies[&key_of(&row)];
            assert_eq!(copies.iter().map(|(_, w)| w).sum::<i64>(), weight);
            for (u, w) in copies {
                let Cell::Int(v) = u else { panic!() };
                let row = [row.clone(), vec![u.clone(), Cell::Int(2 * v)]].concat();
                *answer.entry(row).or_insert(0) += w;
            }
        }
        answer
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn memoized_values_are_those_of_the_insertion(has_key in any::<bool>(), sequence in sequences()) {
        let key = if has_key { vec![0] } else { vec![] };
        let bag = Bag::new(true, &key);
        run(rig(&key), &mut MemoizeModel { bag, key, next: 0, copies: BTreeMap::new() }, sequence);
    }
}
