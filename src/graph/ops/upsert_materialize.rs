//! Upsert materialize: stands before a sink whose primary key does not contain the query's unique key, so that a delete
//! of one row does not delete another one's. Per sink key the winner is the last row by the total order.

use serde::{Deserialize, Serialize};
use thalweg_core::SqlType;
use thalweg_core::state::StateTableSpec;

use super::{Meaning, exact, key_column, key_columns, names, own_value, rest, value_columns};
use crate::id::{Canonical, OperatorId};
use crate::node::Output;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpsertMaterializeSpec {
    /// The sink's primary key.
    pub key: Vec<usize>,
    /// What tells rows of one key apart and orders them (ascending, the last wins): `Output::ties` without `key`.
    pub order: Vec<usize>,
}

/// State table of all rows per sink key.
pub const ROWS: &str = "rows";

impl Meaning for UpsertMaterializeSpec {
    fn kind(&self) -> &'static str {
        "upsert materialize/1"
    }

    fn canonical(&self, c: &mut Canonical, inputs: &[&Output]) {
        c.list(self.key.iter(), |c, &k| {
            c.provenance(inputs[0].provenance(k));
        });
    }

    fn outputs(&self, inputs: &[&Output], _: OperatorId) -> Vec<Output> {
        let mut output = Output { append_only: false, unique_keys: vec![], order: None, ..inputs[0].clone() };
        output.add_key(self.key.clone());
        vec![output]
    }

    /// `rows`: (sink key, order) → the other columns, weight. The order columns descend (NULL last), so that the winner,
    /// the last by the total order, stands first.
    fn state(&self, inputs: &[&Output]) -> Vec<StateTableSpec> {
        let input = inputs[0];
        let mut key = self.key.clone();
        key.extend(&self.order);
        let mut value = value_columns(input, &rest(input, &key));
        value.push(own_value("weight", SqlType::BigInt));
        vec![StateTableSpec {
            name: ROWS.to_owned(),
            key: key_columns(input, &self.key)
                .into_iter()
                .chain(exact(self.order.iter().map(|&o| key_column(input, o, true, false)).collect()))
                .collect(),
            value,
            routing_columns: self.key.len(),
            version: 1,
        }]
    }

    fn title(&self, inputs: &[&Output]) -> String {
        format!("UpsertMaterialize by {}", names(inputs[0], &self.key))
    }
}
