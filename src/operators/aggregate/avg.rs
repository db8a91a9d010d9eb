//! From a total and a count to what SUM and AVG give: rounding, range, text of a failure. And both over floats.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array,
};
use arrow::datatypes::{DataType, Float32Type, Float64Type, i256};
use thalweg_core::state::KeyBatch;
use thalweg_core::{Error, Result, SqlType};

use super::column::{Kind, Rows, put_varint, take_varint};
use super::damaged;
use super::exact_float::{DOUBLE, ExactFloat, FLOAT};
use super::sum::{SumState, Total};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Sum,
    Avg,
}

/// Total and count → value. AVG of integers truncates towards zero, as Flink's; decimals round half away from zero to
/// the scale of the output.
#[derive(Debug, Clone)]
pub(super) struct Finish {
    function: Function,
    ty: SqlType,
    arrow: DataType,
    /// Output scale less argument scale.
    scale_up: i32,
    half_up: bool,
    /// Values at most, in magnitude: for integers, -max - 1 fits too.
    max: i256,
    max_narrow: i128,
}

impl Finish {
    /// # Errors
    /// If the function gives no value of type `ty` for arguments of type `arg`.
    pub fn new(function: Function, arg: &SqlType, ty: &SqlType) -> Result<Self> {
        let refused = || Error::internal(format!("{function:?} of {arg} gives no {ty}"));
        let scale = |ty: &SqlType| match ty {
            SqlType::Decimal { scale, .. } => Some(i32::from(*scale)),
            ty if ty.is_integer() => Some(0),
            _ => None,
        };
        let scale_up = scale(ty).ok_or_else(refused)? - scale(arg).ok_or_else(refused)?;
        let max = match ty {
            SqlType::TinyInt => i256::from_i128(i128::from(i8::MAX)),
            SqlType::SmallInt => i256::from_i128(i128::from(i16::MAX)),
            SqlType::Int => i256::from_i128(i128::from(i32::MAX)),
            SqlType::BigInt => i256::from_i128(i128::from(i64::MAX)),
            SqlType::Decimal { precision, .. } => {
                i256::from_i128(10).wrapping_pow(u32::from(*precision)).wrapping_sub(i256::ONE)
            }
            _ => return Err(refused()),
        };
        Ok(Finish {
            function,
            ty: ty.clone(),
            arrow: ty.to_arrow(),
            scale_up,
            half_up: !ty.is_integer(),
            max,
            max_narrow: max.to_i128().unwrap_or(i128::MAX),
        })
    }

    /// NULL without values; `Err`: the value, which does not fit the type.
    pub fn value<T: Total>(&self, state: &SumState<T>) -> Result<Option<i256>, i256> {
        if state.count == 0 {
            return Ok(None);
        }
        if let Some(v) = state.total.narrow().and_then(|t| self.narrow(t, state.count)) {
            return Ok(Some(i256::from_i128(v)));
        }
        let divisor = if self.function == Function::Avg { i256::from(state.count) } else { i256::ONE };
        let v = self.scaled_quotient(state.total.wide(), divisor);
        let fits = v <= self.max && (v >= self.max.wrapping_neg() || self.ty.is_integer() && v == !self.max);
        if fits { Ok(Some(v)) } else { Err(v) }
    }

    #[inline]
    pub fn fits<T: Total>(&self, state: &SumState<T>) -> bool {
        // An average is no greater than its total.
        let total = state.total.narrow().filter(|_| self.scale_up == 0);
        total.is_some_and(|t| t.unsigned_abs() <= self.max_narrow.unsigned_abs()) || self.value(state).is_ok()
    }

    /// The value, if it fits and 128 bits were enough to compute it.
    #[inline]
    fn narrow(&self, total: i128, count: i64) -> Option<i128> {
        if self.scale_up < 0 {
            return None;
        }
        let v = if self.function == Function::Sum {
            if self.scale_up == 0 { total } else { total.checked_mul(10i128.checked_pow(self.scale_up as u32)?)? }
        } else {
            let count = i128::from(count);
            let (quotient, rest) = (total / count, total % count);
            let (mut v, mut rest) = (quotient, rest);
            if self.scale_up > 0 {
                let up = 10i128.checked_pow(self.scale_up as u32)?;
                let scaled = rest.checked_mul(up)?;
                v = quotient.checked_mul(up)?.checked_add(scaled / count)?;
                rest = scaled % count;
            }
            if self.half_up && rest.unsigned_abs() * 2 >= count.unsigned_abs() {
                // A total and its remainder have one sign; counts are above zero wherever a value is shown.
                v += if (rest < 0) != (count < 0) { -1 } else { 1 };
            }
            v
        };
        (v.unsigned_abs() <= self.max_narrow.unsigned_abs()).then_some(v)
    }

    /// total × 10^scale_up / divisor, truncated or rounded half away from zero; at most off at values that do not fit
    /// 256 bits anyway.
    fn scaled_quotient(&self, total: i256, divisor: i256) -> i256 {
        let ten = |n: i32| i256::from_i128(10).wrapping_pow(n.unsigned_abs());
        let divisor = if self.scale_up < 0 { divisor.wrapping_mul(ten(self.scale_up)) } else { divisor };
        let quotient = total.wrapping_div(divisor);
        let rest = total.wrapping_rem(divisor);
        let (mut v, mut rest) = (quotient, rest);
        if self.scale_up > 0 {
            let scaled = rest.wrapping_mul(ten(self.scale_up));
            // Beyond the range a saturated value says as much as the exact one.
            let shifted = quotient.checked_mul(ten(self.scale_up));
            let end = if quotient.is_negative() { i256::MIN } else { i256::MAX };
            v = shifted.and_then(|s| s.checked_add(scaled.wrapping_div(divisor))).unwrap_or(end);
            rest = scaled.wrapping_rem(divisor);
        }
        if self.half_up && rest.wrapping_abs().wrapping_mul(i256::from_i128(2)) >= divisor.wrapping_abs() {
            let one = if rest.is_negative() != divisor.is_negative() { i256::MINUS_ONE } else { i256::ONE };
            v = v.checked_add(one).unwrap_or(v);
        }
        v
    }

    pub fn failure<T: Total>(&self, state: &SumState<T>) -> Option<String> {
        let v = self.value(state).err()?;
        let digits = v.to_string();
        let text = match &self.ty {
            SqlType::Decimal { scale, .. } if *scale > 0 => {
                let scale = *scale as usize;
                let (sign, digits) = digits.strip_prefix('-').map_or(("", &digits[..]), |d| ("-", d));
                let digits = format!("{digits:0>width$}", width = scale + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                format!("{sign}{whole}.{fraction}")
            }
            _ => digits,
        };
        Some(format!("{text}, which does not fit {}", self.ty))
    }

    /// NULL also where the value does not fit.
    pub fn array<'a, T: Total>(&self, states: impl Iterator<Item = &'a SumState<T>>) -> Result<ArrayRef> {
        let wide = |s: &SumState<T>| self.value(s).ok().flatten();
        let narrow = |s: &SumState<T>| match s.total.narrow().and_then(|t| self.narrow(t, s.count.max(1))) {
            Some(v) if s.count != 0 => Some(v),
            _ => wide(s).map(i256::as_i128),
        };
        Ok(match &self.ty {
            SqlType::TinyInt => Arc::new(states.map(|s| narrow(s).map(|v| v as i8)).collect::<Int8Array>()),
            SqlType::SmallInt => Arc::new(states.map(|s| narrow(s).map(|v| v as i16)).collect::<Int16Array>()),
            SqlType::Int => Arc::new(states.map(|s| narrow(s).map(|v| v as i32)).collect::<Int32Array>()),
            SqlType::BigInt => Arc::new(states.map(|s| narrow(s).map(|v| v as i64)).collect::<Int64Array>()),
            SqlType::Decimal { precision, .. } if *precision <= 38 => {
                Arc::new(states.map(narrow).collect::<Decimal128Array>().with_data_type(self.arrow.clone()))
            }
            _ => Arc::new(states.map(wide).collect::<Decimal256Array>().with_data_type(self.arrow.clone())),
        })
    }
}

// ---- floats ----

#[derive(Debug, Clone, Default)]
pub(super) struct FloatState {
    sum: ExactFloat,
    count: i64,
}

/// SUM or AVG of FLOAT and DOUBLE: exact, rounded once.
pub(super) struct FloatSum {
    function: Function,
    ty: SqlType,
}

impl FloatSum {
    /// # Errors
    /// If the output type is not FLOAT or DOUBLE.
    pub fn new(function: Function, ty: &SqlType) -> Result<Self> {
        match ty {
            SqlType::Float | SqlType::Double => Ok(FloatSum { function, ty: ty.clone() }),
            _ => Err(Error::internal(format!("{function:?} of floats gives no {ty}"))),
        }
    }

    fn value(&self, state: &FloatState) -> Option<f64> {
        if state.count == 0 {
            return None;
        }
        let divisor = if self.function == Function::Avg { state.count.unsigned_abs() } else { 1 };
        Some(state.sum.quotient(divisor, if self.ty == SqlType::Float { FLOAT } else { DOUBLE }))
    }
}

impl Kind for FloatSum {
    type State = FloatState;

    fn update(&mut self, states: &mut [FloatState], rows: Rows) -> Result<()> {
        let values = rows.argument();
        let mut add = |slot: usize, v: f64, w: i64| {
            let s: &mut FloatState = &mut states[slot];
            s.sum.add(v, w);
            s.count = s.count.wrapping_add(w);
        };
        match values.data_type() {
            DataType::Float32 => {
                let v = values.as_primitive::<Float32Type>().values();
                rows.for_each(|row, slot, w| add(slot, f64::from(v[row]), w));
            }
            DataType::Float64 => {
                let v = values.as_primitive::<Float64Type>().values();
                rows.for_each(|row, slot, w| add(slot, v[row], w));
            }
            other => return Err(Error::internal(format!("SUM of floats over {other}"))),
        }
        Ok(())
    }

    fn merge(&self, into: &mut FloatState, other: &FloatState) {
        into.sum.merge(&other.sum);
        into.count = into.count.wrapping_add(other.count);
    }

    fn contradiction(&self, state: &FloatState, rows: i64) -> Option<&'static str> {
        if state.count < 0 || state.count > rows {
            return Some("more rows are deleted than were inserted");
        }
        (state.count == 0 && !state.sum.is_zero()).then_some("the deleted values are not those that were inserted")
    }

    fn same_output(&self, a: &FloatState, b: &FloatState) -> bool {
        match (self.value(a), self.value(b)) {
            (Some(a), Some(b)) => a == b || a.is_nan() && b.is_nan(),
            (a, b) => a.is_none() == b.is_none(),
        }
    }

    fn output<'a>(&self, states: impl ExactSizeIterator<Item = &'a FloatState> + Clone) -> Result<ArrayRef> {
        Ok(match self.ty {
            SqlType::Float => Arc::new(states.map(|s| self.value(s).map(|v| v as f32)).collect::<Float32Array>()),
            _ => Arc::new(states.map(|s| self.value(s)).collect::<Float64Array>()),
        })
    }

    /// The count as a varint, then `ExactFloat::encode`.
    fn encode<'a>(&self, states: impl Iterator<Item = &'a FloatState> + Clone, out: &mut KeyBatch) -> Result<()> {
        for state in states {
            put_varint(state.count, &mut out.bytes);
            state.sum.encode(&mut out.bytes);
            out.finish_key();
        }
        Ok(())
    }

    fn decode(&self, stored: &[&[u8]]) -> Result<Vec<FloatState>> {
        let state = |mut bytes: &[u8]| {
            let count = take_varint(&mut bytes)?;
            Some(FloatState { count, sum: ExactFloat::decode(bytes)? })
        };
        stored.iter().map(|bytes| state(bytes).ok_or_else(|| damaged("SUM"))).collect()
    }

    fn heap_bytes(&self, state: &FloatState) -> usize {
        state.sum.heap_bytes()
    }

    const ON_HEAP: bool = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn avg(arg: SqlType, ty: SqlType, total: i128, count: i64) -> Result<Option<i256>, i256> {
        Finish::new(Function::Avg, &arg, &ty).unwrap().value(&SumState { total: i256::from_i128(total), count })
    }

    fn fits(v: i128) -> Result<Option<i256>, i256> {
        Ok(Some(i256::from_i128(v)))
    }

    #[test]
    fn the_average_of_integers_truncates_towards_zero() {
        assert_eq!(avg(SqlType::Int, SqlType::Int, 7, 2), fits(3));
        assert_eq!(avg(SqlType::Int, SqlType::Int, -7, 2), fits(-3));
        assert_eq!(avg(SqlType::BigInt, SqlType::BigInt, i128::from(i64::MAX) * 3, 3), fits(i64::MAX.into()));
        assert_eq!(avg(SqlType::BigInt, SqlType::BigInt, i128::from(i64::MIN) * 3, 3), fits(i64::MIN.into()));
        assert_eq!(avg(SqlType::Int, SqlType::Int, 0, 0), Ok(None));
    }

    #[test]
    fn the_average_of_decimals_rounds_half_up() {
        let (arg, ty) = (SqlType::Decimal { precision: 10, scale: 2 }, SqlType::Decimal { precision: 38, scale: 6 });
        assert_eq!(avg(arg.clone(), ty.clone(), 100, 3), fits(333_333));
        assert_eq!(avg(arg.clone(), ty.clone(), 200, 3), fits(666_667));
        assert_eq!(avg(arg.clone(), ty.clone(), -200, 3), fits(-666_667));
        assert_eq!(avg(arg.clone(), arg.clone(), 1, 2), fits(1));
        assert_eq!(avg(arg.clone(), arg.clone(), -1, 2), fits(-1));
        assert_eq!(avg(arg.clone(), arg, 1, 3), fits(0));
        // Wider than 128 bits on the way.
        let ty = SqlType::Decimal { precision: 76, scale: 30 };
        let finish = Finish::new(Function::Avg, &SqlType::Decimal { precision: 40, scale: 0 }, &ty).unwrap();
        let total = i256::from_i128(10i128.pow(38)).wrapping_add(i256::ONE);
        let v = finish.value(&SumState { total, count: 3 }).unwrap().unwrap();
        assert_eq!(v.to_string(), format!("{}{}7", "3".repeat(38), "6".repeat(29)));
    }

    #[test]
    fn a_lesser_scale_rounds() {
        let (arg, ty) = (SqlType::Decimal { precision: 10, scale: 3 }, SqlType::Decimal { precision: 38, scale: 1 });
        assert_eq!(avg(arg.clone(), ty.clone(), 150, 1), fits(2));
        assert_eq!(avg(arg.clone(), ty.clone(), 149, 1), fits(1));
        assert_eq!(avg(arg, ty, -450, 3), fits(-2));
    }

    #[test]
    fn integer_limits_are_exact() {
        let finish = Finish::new(Function::Sum, &SqlType::BigInt, &SqlType::BigInt).unwrap();
        let value = |v: i128| finish.value(&SumState { total: i256::from_i128(v), count: 1 });
        assert_eq!(value(i64::MIN.into()), fits(i64::MIN.into()));
        assert!(value(i128::from(i64::MIN) - 1).is_err());
        assert!(value(i128::from(i64::MAX) + 1).is_err());
    }

    #[test]
    fn what_gives_no_value_of_the_type_is_refused() {
        assert!(Finish::new(Function::Avg, &SqlType::Int, &SqlType::Double).is_err());
        assert!(Finish::new(Function::Sum, &SqlType::STRING, &SqlType::BigInt).is_err());
        assert!(FloatSum::new(Function::Sum, &SqlType::Int).is_err());
    }
}
