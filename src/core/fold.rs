//! Net changes of a tick, folded by key into Flink's four row kinds: the form that sinks and the shell see.

use arrow::array::RecordBatch;

use crate::changes::Changes;
use crate::error::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    Insert,
    UpdateBefore,
    UpdateAfter,
    Delete,
}

impl RowKind {
    /// `+I`, `-U`, `+U`, `-D`.
    pub fn symbol(self) -> &'static str {
        match self {
            RowKind::Insert => "+I",
            RowKind::UpdateBefore => "-U",
            RowKind::UpdateAfter => "+U",
            RowKind::Delete => "-D",
        }
    }
}

/// Rows with their kind, in the order in which they apply.
#[derive(Debug, Clone)]
pub struct RowChanges {
    pub batch: RecordBatch,
    /// `None`: all +I.
    pub kinds: Option<Vec<RowKind>>,
}

/// Folds net changes (see `consolidate`) by `key` (ordinals; empty: the whole row): a key with one -1 and one +1
/// row becomes -U +U, adjacent; other rows -D and +I, per key deletes before inserts. A weight of n is n rows.
/// Order between keys: the key's order, NULL first.
pub fn fold(net: Changes, key: &[usize]) -> Result<RowChanges> {
    let _ = (net, key);
    todo!()
}
