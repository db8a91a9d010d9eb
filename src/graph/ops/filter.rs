//! Filter: keeps the rows for which a predicate is true. Stateless.

use serde::{Deserialize, Serialize};

use super::Meaning;
use crate::expr::Expr;
use crate::id::{Canonical, OperatorId};
use crate::node::Output;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilterSpec {
    pub predicate: Expr,
}

impl Meaning for FilterSpec {
    fn kind(&self) -> &'static str {
        "filter/1"
    }

    fn canonical(&self, c: &mut Canonical, inputs: &[&Output]) {
        self.predicate.canonical(c, &|o| inputs[0].provenance(o));
    }

    fn outputs(&self, inputs: &[&Output], _: OperatorId) -> Vec<Output> {
        vec![inputs[0].clone()]
    }

    fn title(&self, inputs: &[&Output]) -> String {
        format!("Filter {}", crate::explain::expr(&self.predicate, inputs))
    }
}
