//! Deduplicate and normalize against the whole log of what arrived.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::Rng;
use rand::rngs::SmallRng;
use thalweg_graph::ops::deduplicate::{DeduplicateSpec, Keep};
use thalweg_graph::ops::normalize::NormalizeSpec;
use thalweg_graph::{GraphBuilder, OperatorSpec};

use super::harness::{Cell, Model, Rig, Row, TestSource, ZSet, int, run, sequences, source, text};

enum Kind {
    Deduplicate(Keep),
    Normalize,
}

fn rig(kind: &Kind) -> Rig {
    let mut builder = GraphBuilder::new();
    let parts = TestSource { name: "t", letters: "I T I", append_only: true, key: &[], with_order: true };
    let input = source(&mut builder, &parts);
    let spec = match kind {
        Kind::Deduplicate(keep) => {
            OperatorSpec::Deduplicate(DeduplicateSpec { key: vec![0, 1], order: 3, keep: *keep })
        }
        Kind::Normalize => OperatorSpec::Normalize(NormalizeSpec { key: vec![1, 0], order: 3 }),
    };
    let node = builder.add(spec, vec![input]).unwrap();
    Rig::new(builder.finish(), node)
}

/// Per key (a, b) what arrived: (tick, order, row, weight).
struct LogModel {
    kind: Kind,
    tick: i64,
    position: i64,
    log: BTreeMap<Row, Vec<(i64, Cell, Row, i64)>>,
}

impl Model for LogModel {
    fn draw(&mut self, rng: &mut SmallRng, rows: usize) -> Vec<(usize, Row, i64)> {
        (0..rows)
            .map(|_| {
                // Positions of different splits may be equal.
                if matches!(self.kind, Kind::Normalize) || rng.random_range(0..3) > 0 {
                    self.position += 1;
                }
                let row = vec![int(rng, 4), text(rng, 2), int(rng, 5), Cell::Int(self.position % 1000)];
                let deletes = matches!(self.kind, Kind::Normalize) && rng.random_range(0..3) == 0;
                (0, row, if deletes { -1 } else { 1 })
            })
            .collect()
    }

    fn answer(&mut self, changes: &[(usize, Row, i64)]) -> ZSet {
        self.tick += 1;
        for (_, row, weight) in changes {
            let log = self.log.entry(row[..2].to_vec()).or_default();
            log.push((self.tick, row[3].clone(), row.clone(), *weight));
        }
        let mut answer = ZSet::new();
        for log in self.log.values() {
            let kept = match self.kind {
                Kind::Deduplicate(Keep::First) => log.iter().min(),
                _ => log.iter().max(),
            };
            let (_, _, row, weight) = kept.expect("a key has arrived");
            match self.kind {
                Kind::Deduplicate(_) => {
                    answer.insert(row.clone(), 1);
                }
                Kind::Normalize if *weight > 0 => {
                    answer.insert(row[..3].to_vec(), 1);
                }
                Kind::Normalize => {}
            }
        }
        answer
    }
}

fn check(kind: Kind, sequence: super::harness::Sequence) {
    run(rig(&kind), &mut LogModel { kind, tick: 0, position: 0, log: BTreeMap::new() }, sequence);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn keep_first_agrees_with_the_log(sequence in sequences()) {
        check(Kind::Deduplicate(Keep::First), sequence);
    }

    #[test]
    fn keep_last_agrees_with_the_log(sequence in sequences()) {
        check(Kind::Deduplicate(Keep::Last), sequence);
    }

    #[test]
    fn normalize_agrees_with_the_log(sequence in sequences()) {
        check(Kind::Normalize, sequence);
    }
}
