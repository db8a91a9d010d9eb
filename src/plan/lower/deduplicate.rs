//! The first or last row of each key by arrival.

use thalweg_core::Result;
use thalweg_graph::OperatorSpec;
use thalweg_graph::ops::deduplicate::{DeduplicateSpec, Keep};

use super::Lowering;
use crate::edges::{Flow, Spread};

impl Lowering {
    /// Over append-only input.
    pub(super) fn deduplicate(&mut self, from: Flow, key: &[usize], order: usize, keep: Keep) -> Result<Flow> {
        let edge = from.by(key);
        let spec = DeduplicateSpec { key: key.to_vec(), order, keep };
        let node = self.builder.add(OperatorSpec::Deduplicate(spec), vec![edge])?;
        let spread = Spread::by(key);
        Ok(Flow { node, output: 0, spread })
    }
}
