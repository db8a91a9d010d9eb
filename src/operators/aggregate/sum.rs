//! SUM and AVG of integers and decimals: the exact total in 128 or 256 bits and how many values are in it. Overflow is
//! judged when a tick's output is computed, never on the way.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Int8Type, Int16Type, Int32Type, Int64Type, i256};
use thalweg_core::state::KeyBatch;
use thalweg_core::{Error, Result, SqlType};

use super::avg::Finish;
use super::column::{Kind, Rows, fill_signed, put_varint, take_varint, trim_signed};
use super::damaged;

/// A total that wraps around: totals form a group whatever the width, only the value at a tick's end must fit.
pub(super) trait Total: Clone + Copy + Default + PartialEq + 'static {
    fn add(&mut self, other: Self);
    /// Adds `v` `weight` times.
    fn add_narrow(&mut self, v: i128, weight: i64);
    /// Like `add_narrow`, for values that only 256 bits hold.
    fn add_wide(&mut self, v: i256, weight: i64);
    fn narrow(self) -> Option<i128>;
    fn wide(self) -> i256;
    fn of(v: i256) -> Option<Self>;
}

/// 128 bits, without the alignment to 16 bytes. Enough for integers and DECIMAL to 18 digits: 2^60 times 2^63 rows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Total128 {
    low: u64,
    high: u64,
}

impl Total128 {
    #[inline]
    fn get(self) -> i128 {
        (u128::from(self.high) << 64 | u128::from(self.low)) as i128
    }

    #[inline]
    fn set(v: i128) -> Self {
        Total128 { low: v as u64, high: (v >> 64) as u64 }
    }
}

impl Total for Total128 {
    #[inline]
    fn add(&mut self, other: Self) {
        *self = Self::set(self.get().wrapping_add(other.get()));
    }

    #[inline]
    fn add_narrow(&mut self, v: i128, weight: i64) {
        *self = Self::set(self.get().wrapping_add(v.wrapping_mul(i128::from(weight))));
    }

    fn add_wide(&mut self, v: i256, weight: i64) {
        self.add_narrow(v.as_i128(), weight);
    }

    #[inline]
    fn narrow(self) -> Option<i128> {
        Some(self.get())
    }

    fn wide(self) -> i256 {
        i256::from_i128(self.get())
    }

    fn of(v: i256) -> Option<Self> {
        v.to_i128().map(Self::set)
    }
}

impl Total for i256 {
    fn add(&mut self, other: Self) {
        *self = self.wrapping_add(other);
    }

    #[inline]
    fn add_narrow(&mut self, v: i128, weight: i64) {
        // Nearly all products fit 128 bits.
        match v.checked_mul(i128::from(weight)) {
            Some(product) => *self = self.wrapping_add(i256::from_i128(product)),
            None => self.add_wide(i256::from_i128(v), weight),
        }
    }

    #[inline]
    fn add_wide(&mut self, v: i256, weight: i64) {
        *self = match weight {
            1 => self.wrapping_add(v),
            -1 => self.wrapping_sub(v),
            w => self.wrapping_add(v.wrapping_mul(i256::from(w))),
        };
    }

    fn narrow(self) -> Option<i128> {
        self.to_i128()
    }

    fn wide(self) -> i256 {
        self
    }

    fn of(v: i256) -> Option<Self> {
        Some(v)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct SumState<T> {
    pub total: T,
    /// Weight of the values in it.
    pub count: i64,
}

/// SUM or AVG, as its `Finish` says.
pub(super) struct Sum<T> {
    finish: Finish,
    total: std::marker::PhantomData<T>,
}

impl<T: Total> Sum<T> {
    pub fn new(finish: Finish) -> Self {
        Sum { finish, total: std::marker::PhantomData }
    }
}

/// Whether totals of a type need 256 bits.
pub(super) fn needs_wide(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Decimal { precision, .. } if *precision > 18)
}

impl<T: Total> Kind for Sum<T> {
    type State = SumState<T>;

    fn update(&mut self, states: &mut [SumState<T>], rows: Rows) -> Result<()> {
        let values = rows.argument();
        macro_rules! narrow {
            ($ty:ty) => {{
                let v = values.as_primitive::<$ty>().values();
                rows.for_each(|row, slot, w| {
                    let s = &mut states[slot];
                    s.total.add_narrow(i128::from(v[row]), w);
                    s.count = s.count.wrapping_add(w);
                });
            }};
        }
        match values.data_type() {
            DataType::Int8 => narrow!(Int8Type),
            DataType::Int16 => narrow!(Int16Type),
            DataType::Int32 => narrow!(Int32Type),
            DataType::Int64 => narrow!(Int64Type),
            DataType::Decimal128(..) => narrow!(Decimal128Type),
            DataType::Decimal256(..) => {
                let v = values.as_primitive::<Decimal256Type>().values();
                rows.for_each(|row, slot, w| {
                    let s = &mut states[slot];
                    s.total.add_wide(v[row], w);
                    s.count = s.count.wrapping_add(w);
                });
            }
            other => return Err(Error::internal(format!("SUM over {other}"))),
        }
        Ok(())
    }

    fn merge(&self, into: &mut SumState<T>, other: &SumState<T>) {
        into.total.add(other.total);
        into.count = into.count.wrapping_add(other.count);
    }

    fn contradiction(&self, state: &SumState<T>, rows: i64) -> Option<&'static str> {
        if state.count < 0 || state.count > rows {
            return Some("more rows are deleted than were inserted");
        }
        (state.count == 0 && state.total != T::default())
            .then_some("the deleted values are not those that were inserted")
    }

    fn same_output(&self, a: &SumState<T>, b: &SumState<T>) -> bool {
        a == b || self.finish.value(a) == self.finish.value(b)
    }

    fn output<'a>(&self, states: impl ExactSizeIterator<Item = &'a SumState<T>> + Clone) -> Result<ArrayRef> {
        self.finish.array(states)
    }

    const FALLIBLE: bool = true;

    #[inline]
    fn fits(&self, state: &SumState<T>) -> bool {
        self.finish.fits(state)
    }

    fn failure(&self, state: &SumState<T>) -> Option<String> {
        self.finish.failure(state)
    }

    /// The count as a varint, then the total: little-endian, as short as possible.
    fn encode<'a>(&self, states: impl Iterator<Item = &'a SumState<T>> + Clone, out: &mut KeyBatch) -> Result<()> {
        for state in states {
            put_varint(state.count, &mut out.bytes);
            match state.total.narrow() {
                Some(v) => out.push(trim_signed(&v.to_le_bytes())),
                None => out.push(trim_signed(&state.total.wide().to_le_bytes())),
            }
        }
        Ok(())
    }

    fn decode(&self, stored: &[&[u8]]) -> Result<Vec<SumState<T>>> {
        let state = |mut bytes: &[u8]| {
            let count = take_varint(&mut bytes)?;
            let total = T::of(i256::from_le_bytes(fill_signed(bytes)?))?;
            Some(SumState { total, count })
        };
        stored.iter().map(|bytes| state(bytes).ok_or_else(|| damaged("SUM"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Int64Array};

    use super::*;
    use crate::aggregate::avg::Function;

    fn finish(function: Function, arg: SqlType, ty: SqlType) -> Finish {
        Finish::new(function, &arg, &ty).unwrap()
    }

    fn update<T: Total>(sum: &mut Sum<T>, values: ArrayRef, weights: &[i64]) -> SumState<T> {
        let mut states = [SumState::default()];
        let slots = vec![0; weights.len()];
        let rows = Rows { slots: &slots, values: Some(&values), weights: Some(weights), mask: None };
        sum.update(&mut states, rows).unwrap();
        states[0]
    }

    #[test]
    fn only_the_result_must_fit() {
        let mut sum = Sum::<Total128>::new(finish(Function::Sum, SqlType::BigInt, SqlType::BigInt));
        let values: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX, 5]));
        let state = update(&mut sum, values.clone(), &[1, 1, 1]);
        assert_eq!(sum.failure(&state).unwrap(), "18446744073709551619, which does not fit BIGINT");
        assert!(sum.output([&state].into_iter()).unwrap().is_null(0));
        let state = update(&mut sum, values, &[1, 0, 1]);
        assert!(sum.failure(&state).is_some());
        let values: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX, 5]));
        let state = update(&mut sum, values, &[i64::MAX, -i64::MAX, -2]);
        assert_eq!(sum.failure(&state), None);
        assert_eq!(sum.output([&state].into_iter()).unwrap().as_primitive::<Int64Type>().value(0), -10);
    }

    #[test]
    fn sums_of_decimals_are_judged_by_their_digits() {
        let ty = SqlType::Decimal { precision: 38, scale: 2 };
        let mut sum = Sum::<i256>::new(finish(Function::Sum, ty.clone(), ty.clone()));
        let nines = 10i128.pow(38) - 1;
        let values: ArrayRef = Arc::new(Decimal128Array::from(vec![nines, 1]).with_data_type(ty.to_arrow()));
        let state = update(&mut sum, values.clone(), &[1, 1]);
        let text = "1000000000000000000000000000000000000.00, which does not fit DECIMAL(38, 2)";
        assert_eq!(sum.failure(&state).unwrap(), text);
        let state = update(&mut sum, values, &[1_000_000_000, -5]);
        let mut bytes = KeyBatch::new();
        sum.encode([state].iter(), &mut bytes).unwrap();
        assert_eq!(sum.decode(&[bytes.get(0)]).unwrap(), [state]);
    }

    #[test]
    fn the_bytes_are_frozen() {
        let sum = Sum::<Total128>::new(finish(Function::Sum, SqlType::Int, SqlType::BigInt));
        let wide = Sum::<i256>::new(finish(Function::Sum, SqlType::Int, SqlType::BigInt));
        for (count, total, bytes) in [(0, 0, &[0][..]), (1, 1, &[2, 1]), (64, -300, &[0x80, 1, 0xd4, 0xfe])] {
            let (mut a, mut b) = (KeyBatch::new(), KeyBatch::new());
            let state = SumState { total: Total128::set(total), count };
            sum.encode([state].iter(), &mut a).unwrap();
            wide.encode([SumState { total: i256::from_i128(total), count }].iter(), &mut b).unwrap();
            assert_eq!(a.get(0), bytes);
            assert_eq!(b.get(0), bytes, "the width does not show");
            assert_eq!(sum.decode(&[bytes]).unwrap(), [state]);
        }
        assert!(sum.decode(&[&[]]).is_err());
    }

    #[test]
    fn deleting_other_values_than_were_inserted_is_seen() {
        let mut sum = Sum::<Total128>::new(finish(Function::Sum, SqlType::BigInt, SqlType::BigInt));
        let state = update(&mut sum, Arc::new(Int64Array::from(vec![1, 2])), &[1, -1]);
        assert!(sum.contradiction(&state, 0).is_some());
        let state = update(&mut sum, Arc::new(Int64Array::from(vec![1, 1])), &[1, -1]);
        assert!(sum.contradiction(&state, 0).is_none());
    }
}
