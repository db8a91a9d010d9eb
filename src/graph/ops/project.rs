//! Project: computes each output column from one input row. Stateless.

use serde::{Deserialize, Serialize};
use thalweg_core::Column;

use super::Meaning;
use crate::expr::Expr;
use crate::id::{Canonical, OperatorId};
use crate::node::{OutColumn, Output};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectSpec {
    pub columns: Vec<ProjectColumn>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectColumn {
    pub expr: Expr,
    pub name: String,
    pub nullable: bool,
}

impl Meaning for ProjectSpec {
    fn kind(&self) -> &'static str {
        "project/1"
    }

    /// Nothing: what its columns are is said by their provenance where they are used.
    fn canonical(&self, _: &mut Canonical, _: &[&Output]) {}

    fn outputs(&self, inputs: &[&Output], _: OperatorId) -> Vec<Output> {
        let input = inputs[0];
        let columns = self
            .columns
            .iter()
            .map(|c| OutColumn {
                column: Column::new(&c.name, c.expr.ty().clone(), c.nullable),
                provenance: c.expr.provenance(&|o| input.provenance(o)),
                stable: input.append_only
                    || (!c.expr.is_volatile() && c.expr.columns().iter().all(|&o| input.columns[o].stable)),
            })
            .collect();
        let position = |of: usize| {
            self.columns.iter().position(|c| matches!(c.expr, Expr::Column { ordinal, .. } if ordinal == of))
        };
        let mut output = Output {
            columns,
            append_only: input.append_only,
            unique_keys: vec![],
            bounded: input.bounded,
            order: input.order.and_then(position),
        };
        let unique = |of: &usize| self.columns.iter().position(|c| c.expr.keeps_unique() == Some(*of));
        for key in &input.unique_keys {
            if let Some(key) = key.iter().map(unique).collect::<Option<Vec<_>>>() {
                output.add_key(key);
            }
        }
        vec![output]
    }

    fn title(&self, inputs: &[&Output]) -> String {
        let columns = self.columns.iter().map(|c| {
            let text = crate::explain::expr(&c.expr, inputs);
            if text == c.name { text } else { format!("{text} AS {}", c.name) }
        });
        format!("Project {}", columns.collect::<Vec<_>>().join(", "))
    }
}
