//! Join: inner equi-join with an optional residual condition. Without keys every row meets every row.

use serde::{Deserialize, Serialize};
use thalweg_core::state::StateTableSpec;
use thalweg_core::{Column, SqlType};

use super::{Meaning, exact, key_columns, own_value, rest, value_columns};
use crate::expr::Expr;
use crate::id::{Canonical, OperatorId, Provenance};
use crate::node::{OutColumn, Output};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinSpec {
    /// Ordinals of the left input, pairwise equal to `right_keys` of the right; equal types. NULL matches nothing.
    pub left_keys: Vec<usize>,
    pub right_keys: Vec<usize>,
    /// Over the columns of left, then right.
    pub residual: Option<Expr>,
}

/// State tables.
pub const LEFT: &str = "left";
pub const RIGHT: &str = "right";

impl JoinSpec {
    /// How the rows of one side are identified within a join key: a unique key's columns that are not join columns,
    /// else all columns that are not; ascending.
    pub fn row_key(input: &Output, keys: &[usize]) -> Vec<usize> {
        let identity = input.ties();
        identity.into_iter().filter(|o| !keys.contains(o)).collect()
    }

    fn keys(&self, side: usize) -> &[usize] {
        if side == 0 { &self.left_keys } else { &self.right_keys }
    }
}

fn side_provenance(side: usize, p: Provenance) -> Provenance {
    Canonical::new("join column/1").number(side as u64).provenance(p).to_provenance()
}

/// Provenance of ordinal `o` of left then right.
fn provenance(inputs: &[&Output], o: usize) -> Provenance {
    let left = inputs[0].columns.len();
    if o < left {
        side_provenance(0, inputs[0].provenance(o))
    } else {
        side_provenance(1, inputs[1].provenance(o - left))
    }
}

impl Meaning for JoinSpec {
    fn kind(&self) -> &'static str {
        "join inner/1"
    }

    fn canonical(&self, c: &mut Canonical, inputs: &[&Output]) {
        // The order in which the equalities were written does not enter.
        let mut pairs: Vec<(Provenance, Provenance)> = self
            .left_keys
            .iter()
            .zip(&self.right_keys)
            .map(|(&l, &r)| (inputs[0].provenance(l), inputs[1].provenance(r)))
            .collect();
        pairs.sort();
        c.list(pairs.iter(), |c, (l, r)| {
            c.provenance(*l).provenance(*r);
        });
        c.list(self.residual.iter(), |c, e| e.canonical(c, &|o| provenance(inputs, o)));
    }

    fn outputs(&self, inputs: &[&Output], _: OperatorId) -> Vec<Output> {
        let left = inputs[0].columns.len();
        let names = crate::explain::column_names(inputs);
        let columns = inputs.iter().flat_map(|i| &i.columns).zip(names).enumerate().map(|(o, (c, name))| OutColumn {
            column: Column { name, ..c.column.clone() },
            provenance: provenance(inputs, o),
            stable: c.stable,
        });
        let columns = columns.collect();
        let mut output = Output {
            columns,
            append_only: inputs.iter().all(|i| i.append_only),
            unique_keys: vec![],
            bounded: inputs.iter().all(|i| i.bounded),
            order: None,
        };
        // A side whose join columns hold a unique key gives at most one partner: the other side's keys stay unique.
        let one_partner =
            |side: usize| inputs[side].unique_keys.iter().any(|k| k.iter().all(|c| self.keys(side).contains(c)));
        let (one_left, one_right) = (one_partner(0), one_partner(1));
        for l in &inputs[0].unique_keys {
            if one_right {
                output.add_key(l.clone());
            }
            for r in &inputs[1].unique_keys {
                output.add_key(l.iter().copied().chain(r.iter().map(|r| r + left)).collect());
            }
        }
        if one_left {
            for r in &inputs[1].unique_keys {
                output.add_key(r.iter().map(|r| r + left).collect());
            }
        }
        vec![output]
    }

    /// `left`, `right`: (join columns, row key) → the other columns, weight.
    fn state(&self, inputs: &[&Output]) -> Vec<StateTableSpec> {
        [LEFT, RIGHT]
            .into_iter()
            .enumerate()
            .map(|(side, name)| {
                let input = inputs[side];
                let mut key = self.keys(side).to_vec();
                let row_key = JoinSpec::row_key(input, &key);
                let mut columns = key_columns(input, &key);
                columns.extend(exact(key_columns(input, &row_key)));
                key.extend(row_key);
                let mut value = value_columns(input, &rest(input, &key));
                value.push(own_value("weight", SqlType::BigInt));
                StateTableSpec {
                    name: name.to_owned(),
                    key: columns,
                    value,
                    routing_columns: self.keys(side).len(),
                    version: 1,
                }
            })
            .collect()
    }

    fn title(&self, inputs: &[&Output]) -> String {
        let names = crate::explain::column_names(inputs);
        let left = inputs[0].columns.len();
        let keys = self.left_keys.iter().zip(&self.right_keys);
        let pairs = keys.map(|(&l, &r)| format!("{} = {}", names[l], names[left + r]));
        let residual = self.residual.iter().map(|e| crate::explain::expr(e, inputs));
        let conditions: Vec<String> = pairs.chain(residual).collect();
        if conditions.is_empty() { "Join CROSS".to_owned() } else { format!("Join INNER {}", conditions.join(" AND ")) }
    }
}
