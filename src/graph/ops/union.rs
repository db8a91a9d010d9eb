//! Union: all rows of all inputs (UNION ALL). Stateless. Inputs have the same column types.

use serde::{Deserialize, Serialize};

use super::Meaning;
use crate::id::{Canonical, OperatorId};
use crate::node::{OutColumn, Output};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnionSpec {}

impl Meaning for UnionSpec {
    fn kind(&self) -> &'static str {
        "union/1"
    }

    fn canonical(&self, _: &mut Canonical, _: &[&Output]) {}

    fn outputs(&self, inputs: &[&Output], _: OperatorId) -> Vec<Output> {
        let columns = (0..inputs[0].columns.len())
            .map(|o| {
                let mut c = Canonical::new("union column/1");
                c.list(inputs.iter(), |c, i| {
                    c.provenance(i.provenance(o));
                });
                let mut column = inputs[0].columns[o].column.clone();
                column.nullable = inputs.iter().any(|i| i.columns[o].column.nullable);
                OutColumn { column, provenance: c.to_provenance(), stable: inputs.iter().all(|i| i.columns[o].stable) }
            })
            .collect();
        vec![Output {
            columns,
            append_only: inputs.iter().all(|i| i.append_only),
            unique_keys: vec![],
            bounded: inputs.iter().all(|i| i.bounded),
            // Arrival order between the inputs is not defined by one column.
            order: None,
        }]
    }

    fn title(&self, _: &[&Output]) -> String {
        "Union".to_owned()
    }
}
