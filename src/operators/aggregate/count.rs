//! COUNT(x), COUNT(*) with FILTER, COUNT(DISTINCT x): the weight of the rows that count.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use thalweg_core::Result;
use thalweg_core::state::KeyBatch;

use super::column::{Kind, Rows, fill_signed, trim_signed};
use super::damaged;

pub(super) struct Count;

impl Kind for Count {
    type State = i64;

    fn update(&mut self, states: &mut [i64], rows: Rows) -> Result<()> {
        rows.for_each(|_, slot, w| states[slot] = states[slot].wrapping_add(w));
        Ok(())
    }

    fn merge(&self, into: &mut i64, other: &i64) {
        *into = into.wrapping_add(*other);
    }

    fn contradiction(&self, state: &i64, rows: i64) -> Option<&'static str> {
        (*state < 0 || *state > rows).then_some("more rows are deleted than were inserted")
    }

    fn same_output(&self, a: &i64, b: &i64) -> bool {
        a == b
    }

    fn output<'a>(&self, states: impl ExactSizeIterator<Item = &'a i64> + Clone) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(states.copied())))
    }

    /// Little-endian, as short as possible.
    fn encode<'a>(&self, states: impl Iterator<Item = &'a i64> + Clone, out: &mut KeyBatch) -> Result<()> {
        states.for_each(|v| out.push(trim_signed(&v.to_le_bytes())));
        Ok(())
    }

    fn decode(&self, stored: &[&[u8]]) -> Result<Vec<i64>> {
        let count = |bytes: &&[u8]| fill_signed(bytes).map(i64::from_le_bytes).ok_or_else(|| damaged("COUNT"));
        stored.iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_count_by_weight_and_mask() {
        let mut states = [0; 2];
        let mask = vec![true, false, true].into();
        let rows = Rows { slots: &[0, 1, 1], values: None, weights: Some(&[2, 5, -1]), mask: Some(&mask) };
        Count.update(&mut states, rows).unwrap();
        assert_eq!(states, [2, -1]);
        assert!(Count.contradiction(&-1, 0).is_some());
        assert!(Count.contradiction(&2, 1).is_some());
        assert!(Count.contradiction(&1, 1).is_none());
    }

    #[test]
    fn the_bytes_are_frozen() {
        for (v, bytes) in [(0, &[][..]), (1, &[1]), (-1, &[0xff]), (255, &[0xff, 0]), (65536, &[0, 0, 1])] {
            let mut out = KeyBatch::new();
            Count.encode([v].iter(), &mut out).unwrap();
            assert_eq!(out.get(0), bytes);
            assert_eq!(Count.decode(&[bytes]).unwrap(), [v]);
        }
    }
}
