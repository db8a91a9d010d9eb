//! Deduplicate: one row per key, the first or the last to arrive. On append-only input with an arrival-order column.

use serde::{Deserialize, Serialize};
use thalweg_core::state::StateTableSpec;

use super::{Meaning, key_columns, names, rest, value_columns};
use crate::id::{Canonical, OperatorId};
use crate::node::Output;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeduplicateSpec {
    pub key: Vec<usize>,
    /// The arrival-order column: within a tick the smallest (largest) wins; between ticks the earlier (later) tick
    /// does. Equal values (of two splits) are told apart by all columns.
    pub order: usize,
    pub keep: Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Keep {
    First,
    Last,
}

/// State table of the row that is kept per key.
pub const KEPT: &str = "kept";

impl Meaning for DeduplicateSpec {
    fn kind(&self) -> &'static str {
        match self.keep {
            Keep::First => "deduplicate first/1",
            Keep::Last => "deduplicate last/1",
        }
    }

    fn canonical(&self, c: &mut Canonical, inputs: &[&Output]) {
        c.list(self.key.iter(), |c, &k| {
            c.provenance(inputs[0].provenance(k));
        });
    }

    fn outputs(&self, inputs: &[&Output], _: OperatorId) -> Vec<Output> {
        let mut output = Output {
            append_only: self.keep == Keep::First,
            order: if self.keep == Keep::First { inputs[0].order } else { None },
            ..inputs[0].clone()
        };
        output.add_key(self.key.clone());
        vec![output]
    }

    /// `kept`: key → for keep last the row's other columns, for keep first nothing.
    fn state(&self, inputs: &[&Output]) -> Vec<StateTableSpec> {
        let input = inputs[0];
        let value = match self.keep {
            Keep::First => vec![],
            Keep::Last => value_columns(input, &rest(input, &self.key)),
        };
        vec![StateTableSpec {
            name: KEPT.to_owned(),
            key: key_columns(input, &self.key),
            value,
            routing_columns: self.key.len(),
            version: 1,
        }]
    }

    fn title(&self, inputs: &[&Output]) -> String {
        let keep = match self.keep {
            Keep::First => "first",
            Keep::Last => "last",
        };
        format!("Deduplicate keep {keep} PER {}", names(inputs[0], &self.key))
    }
}
