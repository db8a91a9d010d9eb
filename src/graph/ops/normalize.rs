//! Normalize: an upsert stream (+1 is an upsert, -1 a delete by key, in order) becomes a Z-set.

use serde::{Deserialize, Serialize};
use thalweg_core::state::StateTableSpec;

use super::{Meaning, key_columns, names, rest, value_columns};
use crate::id::{Canonical, OperatorId};
use crate::node::Output;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NormalizeSpec {
    pub key: Vec<usize>,
    /// The arrival-order column of the source; not in the output if it stands last, which it does.
    pub order: usize,
}

/// State table of the current row per key.
pub const CURRENT: &str = "current";

impl Meaning for NormalizeSpec {
    fn kind(&self) -> &'static str {
        "normalize/1"
    }

    fn canonical(&self, c: &mut Canonical, inputs: &[&Output]) {
        c.list(self.key.iter(), |c, &k| {
            c.provenance(inputs[0].provenance(k));
        });
    }

    fn outputs(&self, inputs: &[&Output], _: OperatorId) -> Vec<Output> {
        let mut output = inputs[0].clone();
        output.columns.truncate(self.order);
        output.columns.iter_mut().for_each(|c| c.stable = true);
        output.append_only = false;
        output.unique_keys.clear();
        output.order = None;
        output.add_key(self.key.clone());
        vec![output]
    }

    /// `current`: key → the other columns.
    fn state(&self, inputs: &[&Output]) -> Vec<StateTableSpec> {
        let input = inputs[0];
        let mut others = rest(input, &self.key);
        others.retain(|&o| o != self.order);
        vec![StateTableSpec {
            name: CURRENT.to_owned(),
            key: key_columns(input, &self.key),
            value: value_columns(input, &others),
            routing_columns: self.key.len(),
            version: 1,
        }]
    }

    fn title(&self, inputs: &[&Output]) -> String {
        format!("Normalize by {}", names(inputs[0], &self.key))
    }
}
