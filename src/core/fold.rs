//! Net changes of a tick, folded by key into Flink's four row kinds: the form that sinks and the shell see.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use crate::changes::Changes;
use crate::error::{Error, Result};
use crate::row_key::{RowKeys, sorted};
use crate::state::KeyBatch;

/// Rows that one call of `fold` gives at most: Arrow's `take` and text offsets end here.
pub const FOLD_ROWS_MAX: usize = i32::MAX as usize;

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

    /// The row is there afterwards: +I, +U.
    pub fn adds(self) -> bool {
        matches!(self, RowKind::Insert | RowKind::UpdateAfter)
    }
}

/// Rows with their kind, in the order in which they apply.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChanges {
    pub batch: RecordBatch,
    /// One per row. `None`: all +I.
    pub kinds: Option<Vec<RowKind>>,
}

impl RowChanges {
    /// All rows +I.
    pub fn inserts(batch: RecordBatch) -> Self {
        RowChanges { batch, kinds: None }
    }

    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.batch.num_rows() == 0
    }

    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds.as_ref().map_or(RowKind::Insert, |k| k[row])
    }

    /// Rows `offset .. offset + length`; the columns without a copy.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        RowChanges {
            batch: self.batch.slice(offset, length),
            kinds: self.kinds.as_ref().map(|k| k[offset..offset + length].to_vec()),
        }
    }

    /// The same kinds over other columns of the same rows.
    #[must_use]
    pub fn with_batch(&self, batch: RecordBatch) -> Self {
        assert_eq!(batch.num_rows(), self.batch.num_rows(), "one kind per row");
        RowChanges { batch, kinds: self.kinds.clone() }
    }
}

/// Folds net changes (see `consolidate` and `netting`) by `key` (ordinals; empty: the whole row): a key with one -1
/// and one +1 row becomes -U +U, adjacent; other rows -D and +I, per key deletes before inserts. A weight of n is n
/// rows. Order between keys: the key's order, NULL first; within a key's deletes, and its inserts, that of `net`.
///
/// What has no deletes keeps its order and costs nothing (append-only changes need not be net). A batch of `netting`
/// with the same sort key can be folded by itself, since a key is never split between two of them. Other orders are
/// brought into the key's.
///
/// # Errors
/// More than `FOLD_ROWS_MAX` rows.
pub fn fold(net: Changes, key: &[usize]) -> Result<RowChanges> {
    fold_by(net, if key.is_empty() { By::Row } else { By::Key(key) })
}

/// As `fold`, of a relation that never has more than one row, such as `SELECT COUNT(*)`: its key has no columns, and an
/// update of its row is -U +U. All changes of a tick are given at once.
///
/// # Errors
/// More than `FOLD_ROWS_MAX` rows.
pub fn fold_one_row(net: Changes) -> Result<RowChanges> {
    fold_by(net, By::Nothing)
}

/// Which rows have one key.
enum By<'a> {
    /// Equal ones.
    Row,
    /// Those that are equal in these columns.
    Key(&'a [usize]),
    /// All.
    Nothing,
}

fn fold_by(net: Changes, by: By) -> Result<RowChanges> {
    let Some(weights) = net.weights else { return Ok(RowChanges::inserts(net.batch)) };
    let weights = weights.values();
    let size = weights.iter().fold(0u64, |sum, w| sum.saturating_add(w.unsigned_abs()));
    if size > FOLD_ROWS_MAX as u64 {
        return Err(Error::row(format!("{size} rows of one tick are more than can be folded at once")));
    }
    let mut folded = Folded { rows: Vec::with_capacity(size as usize), kinds: Vec::with_capacity(size as usize) };
    if weights.iter().all(|w| *w > 0) {
        (0..).zip(weights).for_each(|(row, weight)| folded.push(row, *weight, RowKind::Insert));
        return folded.finish(net.batch);
    }
    match by {
        By::Row => {
            for (row, weight) in (0..).zip(weights) {
                folded.push(row, *weight, if *weight < 0 { RowKind::Delete } else { RowKind::Insert });
            }
        }
        By::Nothing => {
            let group: Vec<u32> = (0..weights.len() as u32).collect();
            folded.push_group(&group, weights);
        }
        By::Key(key) => {
            let mut keys = KeyBatch::new();
            RowKeys::of_columns(net.batch.schema(), key.to_vec(), key.len())?.encode(&net.batch, &mut keys)?;
            let in_order = (1..keys.len()).all(|i| keys.get(i - 1) <= keys.get(i));
            let mut order: Vec<u32> = (0..keys.len() as u32).collect();
            if !in_order {
                order = sorted(&keys).into_iter().map(|e| e.row).collect();
            }
            for group in order.chunk_by_mut(|a, b| keys.get(*a as usize) == keys.get(*b as usize)) {
                // The sort is not stable.
                group.sort_unstable();
                folded.push_group(group, weights);
            }
        }
    }
    folded.finish(net.batch)
}

struct Folded {
    rows: Vec<u32>,
    kinds: Vec<RowKind>,
}

impl Folded {
    fn push(&mut self, row: u32, weight: i64, kind: RowKind) {
        for _ in 0..weight.unsigned_abs() {
            self.rows.push(row);
            self.kinds.push(kind);
        }
    }

    /// The rows of one key.
    fn push_group(&mut self, group: &[u32], weights: &[i64]) {
        let weight = |row: u32| weights[row as usize];
        if let [a, b] = *group
            && weight(a).abs() == 1
            && weight(a) == -weight(b)
        {
            let (before, after) = if weight(a) < 0 { (a, b) } else { (b, a) };
            self.push(before, 1, RowKind::UpdateBefore);
            self.push(after, 1, RowKind::UpdateAfter);
            return;
        }
        for &row in group.iter().filter(|row| weight(**row) < 0) {
            self.push(row, weight(row), RowKind::Delete);
        }
        for &row in group.iter().filter(|row| weight(**row) > 0) {
            self.push(row, weight(row), RowKind::Insert);
        }
    }

    fn finish(self, batch: RecordBatch) -> Result<RowChanges> {
        let as_they_are = self.rows.len() == batch.num_rows() && (0..).zip(&self.rows).all(|(i, row)| i == *row);
        let batch = if as_they_are { batch } else { take_record_batch(&batch, &UInt32Array::from(self.rows))? };
        let inserts_only = self.kinds.iter().all(|k| *k == RowKind::Insert);
        Ok(RowChanges { batch, kinds: if inserts_only { None } else { Some(self.kinds) } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{changes, columns, print_rows};

    fn folded(text: &str, key: &[usize]) -> String {
        let rows = fold(changes(text, &columns("I T")), key).unwrap();
        let text = print_rows(&rows);
        text.split_once('\n').unwrap().1.trim_end().replace('\n', " | ")
    }

    #[test]
    fn one_delete_and_one_insert_of_a_key_are_an_update_before_first() {
        assert_eq!(folded("+ 1 a\n- 1 b\n+ 2 a", &[0]), "-U 1 b | +U 1 a | +I 2 a");
        assert_eq!(folded("- 1 a\n+ 1 b\n- 2 a", &[0]), "-U 1 a | +U 1 b | -D 2 a");
        assert_eq!(folded("- . a\n+ . b", &[0]), "-U . a | +U . b");
    }

    #[test]
    fn other_rows_of_a_key_are_deletes_and_then_inserts() {
        assert_eq!(folded("+ 1 a\n- 1 b\n+ 1 c\n- 2 a", &[0]), "-D 1 b | +I 1 a | +I 1 c | -D 2 a");
        assert_eq!(folded("-2 1 a\n+ 1 b", &[0]), "-D 1 a | -D 1 a | +I 1 b");
        assert_eq!(folded("- 1 a\n- 1 b", &[0]), "-D 1 a | -D 1 b");
        assert_eq!(folded("- 1 a\n+ 1 b\n+ 1 c", &[0]), "-D 1 a | +I 1 b | +I 1 c");
    }

    #[test]
    fn without_a_key_there_are_no_updates() {
        assert_eq!(folded("- 1 a\n+ 1 b\n+2 1 c", &[]), "-D 1 a | +I 1 b | +I 1 c | +I 1 c");
    }

    #[test]
    fn the_only_row_of_a_relation_is_updated_before_first() {
        let folded = |text: &str| {
            let rows = fold_one_row(changes(text, &columns("I"))).unwrap();
            print_rows(&rows).split_once('\n').unwrap().1.trim_end().replace('\n', " | ")
        };
        assert_eq!(folded("- 812\n+ 813"), "-U 812 | +U 813");
        // Netted changes come in the order of their values.
        assert_eq!(folded("+ 811\n- 812"), "-U 812 | +U 811");
        assert_eq!(folded("- 812"), "-D 812");
        assert_eq!(fold_one_row(changes("+ 1", &columns("I"))).unwrap().kinds, None);
    }

    #[test]
    fn another_order_is_brought_into_the_keys() {
        assert_eq!(folded("- 1 b\n+ 2 a\n+ 3 b\n+ 4 .", &[1]), "+I 4 . | +I 2 a | -U 1 b | +U 3 b");
    }

    #[test]
    fn inserts_alone_have_no_kinds_and_keep_their_order() {
        let c = columns("I T");
        let rows = fold(changes("+ 2 a\n+ 1 b\n+ 1 b", &c), &[0]).unwrap();
        assert_eq!(rows, RowChanges::inserts(changes("+ 2 a\n+ 1 b\n+ 1 b", &c).batch));
        let rows = fold(changes("+ 1 a\n+3 2 b", &c), &[0]).unwrap();
        assert_eq!((rows.num_rows(), rows.kind(3)), (4, RowKind::Insert));
        assert!(rows.kinds.is_none());
    }

    #[test]
    fn a_slice_has_its_rows_kinds() {
        let rows = fold(changes("- 1 a\n+ 1 b\n- 2 a", &columns("I T")), &[0]).unwrap();
        let last = rows.slice(1, 2);
        assert_eq!((last.num_rows(), last.kind(0), last.kind(1)), (2, RowKind::UpdateAfter, RowKind::Delete));
    }

    #[test]
    fn more_rows_than_fit_are_an_error() {
        assert!(fold(changes("+3000000000 1 a", &columns("I T")), &[]).is_err());
    }
}
