//! Net changes: equal rows become one with the sum of their weights; what sums to 0 goes.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::Schema;

use crate::changes::Changes;
use crate::error::{Error, Result};
use crate::row_key::{RowKeys, sorted};
use crate::state::KeyBatch;

/// The net of all parts (all of one schema), in memory; ordered by the columns in declaration order, NULL first.
/// Rows are equal if all their values are: all NaNs are one value, -0.0 and 0.0 are two. Weights that are all +1 are
/// `None`.
///
/// No parts at all have no schema: the net is then a batch without columns.
///
/// # Errors
/// A sum of weights beyond 64 bits, more than `u32::MAX` rows, parts of different schemas.
pub fn consolidate(parts: &[Changes]) -> Result<Changes> {
    let Some(first) = parts.first() else {
        return Ok(Changes::inserts(RecordBatch::new_empty(Arc::new(Schema::empty()))));
    };
    consolidate_by(parts, &RowKeys::new(first.batch.schema(), &[])?)
}

/// As `consolidate`, in the order of the given keys.
pub(crate) fn consolidate_by(parts: &[Changes], codec: &RowKeys) -> Result<Changes> {
    let rows: usize = parts.iter().map(Changes::num_rows).sum();
    if u32::try_from(rows).is_err() {
        return Err(Error::internal(format!("{rows} rows are too many to net in memory")));
    }
    let mut keys = KeyBatch::new();
    let mut weights = Vec::with_capacity(rows);
    for part in parts {
        codec.encode(&part.batch, &mut keys)?;
        append_weights(part, &mut weights);
    }
    let net = net(&keys, &weights)?;
    let batch = codec.decode(net.iter().map(|(row, _)| keys.get(*row as usize)).collect())?;
    Ok(Changes::new(batch, weights_array(net.into_iter().map(|(_, weight)| weight).collect())))
}

pub(crate) fn append_weights(part: &Changes, weights: &mut Vec<i64>) {
    match &part.weights {
        Some(w) => weights.extend_from_slice(w.values()),
        None => weights.resize(weights.len() + part.num_rows(), 1),
    }
}

/// `None` if all are +1.
pub(crate) fn weights_array(weights: Vec<i64>) -> Option<Int64Array> {
    weights.iter().any(|w| *w != 1).then(|| Int64Array::from(weights))
}

/// Per distinct key whose weights do not sum to 0: a row that has it, and the sum; in key order.
pub(crate) fn net(keys: &KeyBatch, weights: &[i64]) -> Result<Vec<(u32, i64)>> {
    let mut net: Vec<(u32, i64)> = Vec::with_capacity(keys.len());
    let mut prefix = None;
    for entry in sorted(keys) {
        let weight = weights[entry.row as usize];
        // The sort entry's prefix tells most different keys apart without a look at them.
        let may_equal = prefix.replace(entry.prefix) == Some(entry.prefix);
        match net.last_mut() {
            Some((row, sum)) if may_equal && keys.get(*row as usize) == keys.get(entry.row as usize) => {
                *sum = add_weights(*sum, weight)?;
            }
            Some(cancelled @ (_, 0)) => *cancelled = (entry.row, weight),
            _ => net.push((entry.row, weight)),
        }
    }
    if matches!(net.last(), Some((_, 0))) {
        net.pop();
    }
    Ok(net)
}

pub(crate) fn add_weights(a: i64, b: i64) -> Result<i64> {
    a.checked_add(b).ok_or_else(|| Error::changelog("the weight of a row is beyond 64 bits"))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Float64Type;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_changes_eq, changes, columns};

    #[test]
    fn equal_rows_add_up_and_what_sums_to_0_goes() {
        let c = columns("I T");
        let parts =
            [changes("+ 2 b\n+ 1 a\n- 3 c\n+ . .\n+ 4 d", &c), changes("- 1 a\n+ 2 b\n+ 3 c\n+ . .\n- 4 e", &c)];
        let net = consolidate(&parts).unwrap();
        let expected = changes("+2 . .\n+2 2 b\n+ 4 d\n- 4 e", &c);
        assert_eq!(net, expected);
        assert_changes_eq(&net, &expected);
    }

    #[test]
    fn zeros_of_two_signs_are_two_values_and_nans_are_one() {
        let c = columns("F");
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
        let nans = Arc::new(arrow::array::Float64Array::from(vec![other_nan, f64::NAN]));
        let nans = RecordBatch::try_new(crate::types::to_schema(&c), vec![nans]).unwrap();
        let parts = [changes("+ 0.0\n- -0.0\n+ -0.0\n+ -0.0", &c), Changes::new(nans, Some(vec![1, -1].into()))];
        let net = consolidate(&parts).unwrap();
        assert!(net.weights.is_none());
        let bits: Vec<u64> =
            net.batch.column(0).as_primitive::<Float64Type>().values().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [(-0.0f64).to_bits(), 0.0f64.to_bits()]);
    }

    #[test]
    fn maps_net_by_their_bytes() {
        use crate::arbitrary::{Cell, array_of};
        use crate::types::{Column, ElementType, SqlType, to_schema};
        let ty = SqlType::Map(Box::new(SqlType::Int), Box::new(ElementType { ty: SqlType::Double, nullable: true }));
        let map = |v| Cell::Map(vec![(Cell::Int(1), v)]);
        let column =
            array_of(&ty, &[map(Cell::Float(0.0)), map(Cell::Float(-0.0)), Cell::Null, map(Cell::Null), Cell::Null]);
        let batch = RecordBatch::try_new(to_schema(&[Column::new("m", ty.clone(), true)]), vec![column]).unwrap();
        let net = consolidate(&[Changes::new(batch, Some(vec![1, -1, 1, 1, 1].into()))]).unwrap();
        let rows = net.num_rows();
        let mut weights: Vec<i64> = (0..rows).map(|row| net.weight(row)).collect();
        weights.sort_unstable();
        // A map of 0.0, one of -0.0 less, one of NULL, and NULL twice.
        assert_eq!(weights, [-1, 1, 1, 2]);
        let cells = crate::arbitrary::cells_of(&ty, net.batch.column(0));
        let weight_of = |cell| cells.iter().zip(0..).find(|(c, _)| **c == cell).map(|(_, row)| net.weight(row));
        assert_eq!((weight_of(map(Cell::Null)), weight_of(Cell::Null)), (Some(1), Some(2)));
    }

    #[test]
    fn nothing_nets_to_nothing() {
        assert_eq!(consolidate(&[]).unwrap().num_rows(), 0);
        let c = columns("I");
        let none = consolidate(&[changes("", &c)]).unwrap();
        assert_eq!((none.num_rows(), none.batch.num_columns()), (0, 1));
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(3));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let net = consolidate(&[Changes::inserts(batch)]).unwrap();
        assert_eq!((net.num_rows(), net.weight(0)), (1, 3));
    }

    #[test]
    fn a_weight_beyond_64_bits_is_an_error() {
        let c = columns("I");
        let text = format!("+{} 1\n+ 1", i64::MAX);
        assert!(consolidate(&[changes(&text, &c)]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn the_net_is_that_of_a_plain_map(rows in prop::collection::vec((prop::option::of(0i64..5), "[ab]{0,2}", -2i64..3), 0..60), cut in 0usize..60) {
            let rows: Vec<_> = rows.into_iter().filter(|r| r.2 != 0).collect();
            let mut model = std::collections::BTreeMap::new();
            for (i, s, w) in &rows {
                *model.entry((*i, s.clone())).or_insert(0) += w;
            }
            model.retain(|_, w| *w != 0);
            let line = |i: &Option<i64>, s: &str, w: i64| {
                format!("{}{} {} '{s}'\n", if w < 0 { "-" } else { "+" }, w.abs(), i.map_or(".".into(), |i| i.to_string()))
            };
            let c = columns("I T");
            let cut = cut.min(rows.len());
            let parts = [&rows[..cut], &rows[cut..]].map(|part| {
                changes(&part.iter().map(|(i, s, w)| line(i, s, *w)).collect::<String>(), &c)
            });
            let expected: String = model.iter().map(|((i, s), w)| line(i, s, *w)).collect();
            prop_assert_eq!(consolidate(&parts).unwrap(), changes(&expected, &c));
        }
    }
}
