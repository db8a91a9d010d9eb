//! Net changes: equal rows become one with the sum of their weights; what sums to 0 goes.

use crate::changes::Changes;
use crate::error::Result;

/// The net of all parts (all of one schema), in memory; ordered by the columns in declaration order.
pub fn consolidate(parts: &[Changes]) -> Result<Changes> {
    let _ = parts;
    todo!()
}
