//! Memoize: computes what is not retraction-stable once, when a row is inserted, and gives the same values when it is
//! deleted. Stands on changing edges only.

use serde::{Deserialize, Serialize};
use thalweg_core::state::{StateTableSpec, ValueColumn};
use thalweg_core::{Column, SqlType};

use super::{Meaning, exact, key_columns, own_value};
use crate::expr::Expr;
use crate::id::{Canonical, OperatorId};
use crate::node::{OutColumn, Output};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoizeSpec {
    /// Which input row a deletion means: a unique key, else all stable columns.
    pub key: Vec<usize>,
    /// Unstable input columns, replaced in place by the value at insertion.
    pub columns: Vec<usize>,
    /// Unstable expressions over the input (or volatile ones), appended to the output.
    pub computed: Vec<MemoizedExpr>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoizedExpr {
    pub expr: Expr,
    pub name: String,
    pub nullable: bool,
}

/// State table of memoized values.
pub const VALUES: &str = "values";

impl Meaning for MemoizeSpec {
    fn kind(&self) -> &'static str {
        "memoize/1"
    }

    /// What is memoized does not enter: columns that can be carried or not.
    fn canonical(&self, c: &mut Canonical, inputs: &[&Output]) {
        c.list(self.key.iter(), |c, &k| {
            c.provenance(inputs[0].provenance(k));
        });
    }

    fn outputs(&self, inputs: &[&Output], _: OperatorId) -> Vec<Output> {
        let input = inputs[0];
        let mut output = input.clone();
        for &c in &self.columns {
            output.columns[c].stable = true;
        }
        output.columns.extend(self.computed.iter().map(|m| OutColumn {
            column: Column::new(&m.name, m.expr.ty().clone(), m.nullable),
            provenance: m.expr.provenance(&|o| input.provenance(o)),
            stable: true,
        }));
        vec![output]
    }

    /// `values`: key → per copy of the row (weight of them) the memoized values; copies with equal values share one
    /// entry (values, weight): the value bytes are a list of those, in order of insertion.
    fn state(&self, inputs: &[&Output]) -> Vec<StateTableSpec> {
        let input = inputs[0];
        let mut value = vec![own_value("weight", SqlType::BigInt)];
        value.extend(super::value_columns(input, &self.columns));
        value.extend(self.computed.iter().map(|m| ValueColumn {
            name: m.name.clone(),
            ty: m.expr.ty().clone(),
            provenance: m.expr.provenance(&|o| input.provenance(o)).to_string(),
        }));
        vec![StateTableSpec {
            name: VALUES.to_owned(),
            key: exact(key_columns(input, &self.key)).collect(),
            value,
            routing_columns: self.key.len(),
            version: 1,
        }]
    }

    fn title(&self, inputs: &[&Output]) -> String {
        let columns = self.columns.iter().map(|&c| inputs[0].columns[c].column.name.clone());
        let computed = self.computed.iter().map(|m| crate::explain::expr(&m.expr, inputs));
        format!("Memoize {}", columns.chain(computed).collect::<Vec<_>>().join(", "))
    }
}
