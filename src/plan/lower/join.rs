//! Inner joins.

use thalweg_core::Result;
use thalweg_graph::ops::join::JoinSpec;
use thalweg_graph::{Expr, OperatorSpec};

use super::Lowering;
use crate::edges::{Flow, Spread, settle};
use crate::logical::conjunction;

impl Lowering {
    pub(super) fn join(
        &mut self,
        left: Flow,
        right: Flow,
        left_keys: &[usize],
        right_keys: &[usize],
        residual: &[Expr],
    ) -> Result<Flow> {
        let (left, right) = (settle(&mut self.builder, left)?, settle(&mut self.builder, right)?);
        let width = left.out(&self.builder).columns.len();
        let edges = vec![left.by(left_keys), right.by(right_keys)];
        let spec = JoinSpec {
            left_keys: left_keys.to_vec(),
            right_keys: right_keys.to_vec(),
            residual: conjunction(residual.to_vec()),
        };
        let node = self.builder.add(OperatorSpec::Join(spec), edges)?;
        let spread = if left_keys.is_empty() {
            Spread::One
        } else {
            let exact = vec![left_keys.to_vec(), right_keys.iter().map(|r| r + width).collect()];
            Spread::Hash { exact, together: vec![] }
        };
        Ok(Flow { node, output: 0, spread })
    }
}
